"""`mobench pareto`: accuracy against latency as a table and a plot."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import click

from mobench import store
from mobench.cli import terminal
from mobench.cli.plotting import plot_options
from mobench.errors import BadInputError
from mobench.pareto import AccuracyChoice, TimedCell, points_of, timed_cells
from mobench.records import Accuracy, Run
from mobench.report import front
from mobench.report.tables import TABLE_FORMATS, TableFormat
from mobench.verdicts.comparability import differences, machine_name
from mobench.zoo import catalogue

DEFAULT = Path("results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The campaigns and accuracies to judge by, and what a user should know of how they were found."""

    runs: tuple[Run, ...]
    accuracies: tuple[Accuracy, ...]
    warnings: tuple[str, ...]


def load(results: Sequence[Path], *, every: bool = False) -> Evidence:
    """Read the campaigns: each file named, and of each folder the newest that timed something, with all accuracies.

    With ``every`` all that timed something. A journal that cannot be read is left out with a warning. Raises
    BadInputError when nothing timed is left.
    """
    paths = list(results) or [DEFAULT]
    if not results and not DEFAULT.is_dir():
        raise BadInputError("no results", "there is no folder results here", "make some with `mobench run`")
    runs: dict[Path, Run] = {}
    accuracies: list[Accuracy] = []
    warnings: list[str] = []
    read: dict[Path, Run | None] = {}
    for path in paths:
        timed: list[Run] = []
        for journal in store.find([path]):
            place = journal.resolve()
            if place not in read:
                try:
                    run = read[place] = store.read(journal)
                    accuracies += run.accuracies
                except BadInputError as error:
                    read[place] = None
                    warnings.append(f"left out: {error}")
            known = read[place]
            if known is not None and known.blocks:
                timed.append(known)
        timed.sort(key=lambda run: (str(run.header.get("started", "")), run.path.name))
        for run in timed if every else timed[-1:]:
            runs[run.path.resolve()] = run
        if path.is_dir() and len(timed) > 1 and not every:
            warnings.append(
                f"{path} holds {len(timed)} campaigns: this is the newest, {timed[-1].path}; name others to add"
            )
    if not runs:
        mend = "time some models with `mobench run`"
        raise BadInputError(f"nothing timed in {', '.join(map(str, paths))}", "; ".join(warnings), mend)
    if len(runs) > 1:
        warnings.append(
            f"the {len(runs)} campaigns were not interleaved: the machine may have changed between them;"
            " to compare models closely, time them in one `mobench run`"
        )
        warnings += _labels(tuple(runs.values()))
    warnings += [f"{run.path} was cut off: what it measured is used" for run in runs.values() if run.end is None]
    return Evidence(runs=tuple(runs.values()), accuracies=tuple(accuracies), warnings=tuple(warnings))


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return in what campaigns of one machine, whose latencies share a front, differ from the newest there."""
    by_age = sorted(runs, key=lambda run: str(run.header.get("started", "")))
    newest = {machine_name(run): run for run in by_age}
    return [
        f"{run.path} and {newest[machine_name(run)].path} differ in {difference}"
        for run in runs
        for difference in differences(run, newest[machine_name(run)])
    ]


def untimed(cells: Sequence[TimedCell]) -> list[str]:
    """Return a line for each cell that failed."""
    return [
        f"{cell.summary.cell} has no timing: {cell.summary.failure or 'the campaign ended before its first block'}"
        for cell in cells
        if cell.summary.p50_ms is None
    ]


def _parse_reference(_context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, float] | None:
    """Parse milliseconds and a percentage, as in 25,60."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        slowest, least = (float(part) for part in text.split(","))
        if 0 < slowest < math.inf and 0 <= least <= 100:
            return slowest, least
    raise click.BadParameter(f"{text!r} is no latency in ms and top-1 in percent, such as 25,60", param=option)


@click.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path), metavar="[RESULTS]...")
@click.option("--format", "fmt", type=click.Choice(TABLE_FORMATS), default="table", show_default=True)
@click.option("--json", "json_out", is_flag=True, help="The same as --format json.")
@plot_options("it")
@click.option("--accuracy", type=click.Choice(get_args(AccuracyChoice)), default="auto", show_default=True,
              help="auto: measured where there is one, else published.")  # fmt: skip
@click.option("--no-variants", is_flag=True,
              help="Without the papers' ablations, which `mobench models` lists under a network.")  # fmt: skip
@click.option("--reference", callback=_parse_reference, metavar="MS,TOP1",
              help="The hypervolume's; default: the slowest latency and the lowest top-1 of the models.")  # fmt: skip
def command(
    results: tuple[Path, ...],
    fmt: TableFormat,
    json_out: bool,
    plots: tuple[Path, ...],
    width_in: float,
    accuracy: AccuracyChoice,
    no_variants: bool,
    reference: tuple[float, float] | None,
) -> None:
    """Accuracy against p50 latency: the Pareto front, how sure it is, and what dominates each other model.

    RESULTS are journals that `mobench run` and `mobench eval` wrote, or folders of them: of a folder, the newest
    campaign and every accuracy in it. Without any, the folder results. Accuracies belong to the very file that was
    timed, by its hash; published ones stand in where none was measured, and are labelled so.
    """
    evidence = load(results)
    cells = timed_cells(evidence.runs)
    points = points_of(cells, evidence.accuracies, accuracy)
    if no_variants:
        points = [point for point in points if not catalogue.is_variant(point.name)]
    for warning in (*evidence.warnings, *untimed(cells)):
        click.echo(f"note: {warning}", err=True)
    text = front.show(
        points,
        "json" if json_out else fmt,
        width=terminal.width(),
        colour=terminal.colour(),
        reference=reference,
    )
    click.echo(text, nl=False)
    for plot in plots:
        front.write(points, plot, width_in=width_in)
        click.echo(f"plot: {plot}", err=True)
