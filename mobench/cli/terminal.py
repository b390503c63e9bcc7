"""What every verb shows a person: tables on stdout, a bar on stderr, each plain where there is no terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from mobench.report.tables import Column, Row, render


def width() -> int | None:
    """Return the terminal's width, or None where stdout is none: then nothing is wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def colour() -> bool:
    """Return whether stdout takes colours (https://no-color.org)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def echo_table(columns: Sequence[Column], rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Print a table, and notes under it, to stdout."""
    click.echo(render(columns, rows, "table", notes=notes, width=width(), colour=colour()), nl=False)


class Progress:
    """A bar on stderr where that is a terminal; silence elsewhere. No thread of its own runs beside a measurement."""

    def __init__(self, text: str = "") -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._task = self._bar.add_task(text, total=1.0)

    def __call__(self, share: float, text: str | None = None) -> None:
        """Show how far it is, from 0 to 1."""
        if self._bar:
            self._bar.update(self._task, completed=share, description=text)
            self._bar.refresh()

    def counting(self, total: int) -> Callable[[int], None]:
        """Return what takes counts of things done, of ``total``, and shows how far it is."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self(done / total)

        return count

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
