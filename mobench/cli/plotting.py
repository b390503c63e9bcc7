"""The options of every verb that draws: `--plot FILE`, and the width in print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mobench.errors import BadInputError
from mobench.report.style import COLUMN_IN, PAGE_IN, PLOT_SUFFIXES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Command = TypeVar("Command", bound=Callable[..., Any])


def plot_options(what: str) -> Callable[[Command], Command]:
    """Add `--plot` and `--width`; they arrive as ``plots`` and ``width_in``. ``what`` is drawn, for the help."""

    def add(command: Command) -> Command:
        width = click.option("--width", "width_in", type=click.FloatRange(2.5, 20), default=PAGE_IN, show_default=True,
                             metavar="INCHES",
                             help=f"The plot's width in print; a paper's column is {COLUMN_IN}.")  # fmt: skip
        plot = click.option("--plot", "plots", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
                            callback=_check, help=f"Also draw {what}: .svg, .png or .pdf. Repeatable.")  # fmt: skip
        return plot(width(command))

    return add


def _check(_context: click.Context, _option: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Refuse a suffix before anything is read or measured."""
    for path in paths:
        if path.suffix.lower() not in PLOT_SUFFIXES:
            raise BadInputError(f"cannot draw {path}", "its suffix names no format", f"use {' '.join(PLOT_SUFFIXES)}")
    return paths


def write_plots(figure: Figure, paths: Sequence[Path], width_in: float, *, title: str = "") -> None:
    """Write one figure to each path, and say so on stderr."""
    from mobench.report.plots import canvas

    for path in paths:
        canvas.write(figure, path, title=title, width_in=width_in)
        click.echo(f"plot: {path}", err=True)
