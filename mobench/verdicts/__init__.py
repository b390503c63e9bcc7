"""What two measurements say of each other: comparable or not, faster or slower, and the gate."""
