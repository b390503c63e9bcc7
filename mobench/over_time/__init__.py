"""What a campaign's hours and minutes show: changes of the machine's speed, and sustained load. Pure readers."""
