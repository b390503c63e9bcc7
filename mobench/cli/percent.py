"""The option type of a share that is asked for in percent."""

from __future__ import annotations

import math
from collections.abc import Callable

import click


def percent_option(least: float = 0.0, most: float = 100.0) -> Callable[[str], float]:
    """Return what turns ``3%`` or ``3`` into 0.03, from ``least`` to ``most`` percent, both allowed.

    >>> percent_option()("3%")
    0.03

    Raises (what it returns):
        click.BadParameter: not a number, or outside the limits.
    """

    def percent(text: str) -> float:
        try:
            value = float(str(text).strip().removesuffix("%"))
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise click.BadParameter(f"{text!r} is not a percentage from {least:g} to {most:g}, such as 3%")
        return value / 100

    return percent
