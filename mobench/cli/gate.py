"""`mobench gate`: fail where a model got slower than is tolerated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from mobench import files
from mobench.cli.compare import labels
from mobench.cli.percent import percent_option
from mobench.cli.run import parse_shape
from mobench.cli.terminal import Progress, echo_table
from mobench.errors import BadInputError
from mobench.records import RUNTIME_FORMATS, Run
from mobench.report.tables import Column, render
from mobench.verdicts.gate import Gate, decide, junit, rows
from mobench.verdicts.sides import PAIR_S, Measuring, Versus, face, open_side

COLUMNS = (
    Column(key="cell", title="cell"),
    Column(key="status", title="status"),
    Column(key="ratio", title="new over old", ci="ratio_ci", align="right"),
    Column(key="confidence"),
    Column(key="basis", title="basis"),
    Column(key="incarnations"),
    Column(key="fell"),
    Column(key="why", title="why"),
)
STOP_AT = 1 / 3  # of the tolerance: the ratios' half-width at which a campaign need not go on


def notes(gate: Gate, versus: Versus) -> list[str]:
    """Return what stands under the table: the verdict, its rate of false alarms, and in what the sides differ."""
    comparisons = [case.comparison for case in gate.cases if case.comparison]
    found = [gate.headline, gate.rate]
    if comparisons:
        found.append(f"intervals are at {100 * comparisons[0].confidence:.4g} %: that rate, shared by the cells")
    runs = {str(run.path): run for match in versus.matches for run in (match.one, match.other)}
    return [*found, *labels(comparisons), *(f"journal: {path}" for path in runs)]


def markdown(gate: Gate, under: Sequence[str]) -> str:
    """Return the gate as Markdown: a heading with the verdict, the table, and the notes."""
    return f"## {gate.headline}\n\n{render(COLUMNS, rows(gate), 'md', notes=under[1:])}"


def _write(path: str | None, text: str) -> None:
    if path == "-":
        click.echo(text, nl=False)
    elif path:
        files.write_text(Path(path), text)


@click.command()
@click.argument("things", nargs=-1, metavar="[FILES or CAMPAIGN]...")
@click.option("--against", required=True, multiple=True, metavar="RESULTS or FILES",
              help="The old side: a campaign, or model files or a folder of them. Repeatable.")  # fmt: skip
@click.option("--tolerance", type=percent_option(0, 1000), default="3%", show_default=True, metavar="PERCENT",
              help="The slowdown that is let pass.")  # fmt: skip
@click.option("--false-alarms", type=percent_option(0.001, 50), default="1%", show_default=True, metavar="PERCENT",
              help="Gates that may fall where nothing is slower than tolerated.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Fall also for cells that are undecided or gone.")
@click.option("--all", "every", is_flag=True, help="Time also files that are the same on both sides.")
@click.option("--unpaired", is_flag=True, help="Accept p50 against p50 where no cell is in both campaigns.")
@click.option("--anyway", is_flag=True, help="Compare what is not comparable, under a label.")
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True,
              help="cpu: the thread's CPU time, for one thread on a busy machine.")  # fmt: skip
@click.option("--junit", "junit_path", metavar="FILE", help="Write JUnit XML; - for stdout.")
@click.option("--markdown", "markdown_path", metavar="FILE", help="Write a Markdown summary; - for stdout.")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a cell.")
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(list(RUNTIME_FORMATS)), help="Repeatable.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Against a campaign, its cells' own.")  # fmt: skip
@click.option("--budget", "budget_s", type=click.FloatRange(0.1), metavar="SECONDS",
              help=f"Default: {PAIR_S:g} for each pair of files.")  # fmt: skip
@click.option("--shape", metavar="1,3,H,W", help="First input's shape, for models that leave it open.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
def command(
    things: tuple[str, ...],
    against: tuple[str, ...],
    tolerance: float,
    false_alarms: float,
    strict: bool,
    every: bool,
    unpaired: bool,
    anyway: bool,
    clock: str,
    junit_path: str | None,
    markdown_path: str | None,
    json_out: bool,
    runtimes: tuple[str, ...],
    threads: int,
    budget_s: float | None,
    shape: str | None,
    seed: int,
    results: Path,
) -> int:
    """Fail (exit 1) where a model got slower than is tolerated, beyond its interval, or no longer runs.

    The new side is model files, folders of them or exported names (default: all of artifacts/), or a campaign. Against
    model files, old and new are timed now in one campaign, paired by round: the way for CI. Against a campaign, the
    files that it timed are timed again if they still lie there unchanged; else old and new are compared through a
    cell that both campaigns share.
    """
    if [junit_path, markdown_path, "-" if json_out else None].count("-") > 1:
        raise BadInputError("--junit -, --markdown - and --json", "one stdout for several", "give the others a file")
    old, new = open_side(against, results), open_side(things, results)
    with Progress() as bar:
        how = Measuring(
            budget_s=budget_s,
            half_width=max(0.001, tolerance * STOP_AT),
            threads=threads,
            runtimes=runtimes,
            shape=parse_shape(shape),
            seed=seed,
            results=results,
            progress=bar,
        )
        versus = face(old, new, how, skip_unchanged=not every)
    if versus.interrupted:
        raise KeyboardInterrupt
    # Who names a single file asks about that file: the others are not gone.
    named_all = isinstance(new, Run) or not things or any(Path(thing).is_dir() for thing in things)
    gate = decide(
        versus.matches,
        gone=versus.gone if named_all else (),
        new=versus.new,
        unchanged=versus.unchanged,
        tolerance=tolerance,
        false_alarms=false_alarms,
        strict=strict,
        cpu=clock == "cpu",
        unpaired=unpaired,
        anyway=anyway,
    )
    under = notes(gate, versus)
    _write(junit_path, junit(gate))
    _write(markdown_path, markdown(gate, under))
    if json_out:
        click.echo(json.dumps(rows(gate), indent=1, allow_nan=False))
    elif "-" not in (junit_path, markdown_path):
        echo_table(COLUMNS, rows(gate), under)
    if gate.fell:
        click.echo(f"error: {gate.headline}", err=True)
    return int(gate.fell)
