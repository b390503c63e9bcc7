"""Where a model's time goes: operators, blocks, and the machine's ceilings. Never a model's latency."""
