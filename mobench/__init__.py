"""mobench: the same mobile vision network in every format, its latency with an interval, and the verdict.

In Python: ``from mobench import export, run, compare`` (`mobench.api`).
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["compare", "export", "run"]


def __getattr__(name: str) -> Any:
    """Import the Python API when it is first asked for: the command line does not pay for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mobench import api

    return getattr(api, name)
