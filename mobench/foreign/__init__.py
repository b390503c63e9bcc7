"""Other tools' output: read as what it is, and journaled under its source."""
