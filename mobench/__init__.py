"""mobench: the same mobile vision network in every format, its latency with an interval, and the verdict."""

__version__ = "0.1.0"
