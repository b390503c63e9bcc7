"""Operator times from inside the runtimes, and what the machine's ceilings are measured with."""
