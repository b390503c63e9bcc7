"""The option type of a figure a colour channel."""

from __future__ import annotations

import contextlib

import click


def parse_triple(
    _context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, float, float] | None:
    """Parse ``0.485,0.456,0.406``, or one number for all three channels; as a click callback.

    Raises:
        click.BadParameter: it is neither.
    """
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        values = [float(part) for part in text.split(",")]
        values = values * 3 if len(values) == 1 else values
        if len(values) == 3 and all(abs(value) < 1e6 for value in values):
            return values[0], values[1], values[2]
    raise click.BadParameter(f"{text!r} is not one number or three with commas", param=option)
