"""`mobench compare`: is B slower than A, by how much, and how sure is that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mobench.cli.percent import percent_option
from mobench.cli.plotting import plot_options, write_plots
from mobench.cli.run import parse_shape
from mobench.cli.terminal import Progress, echo_table
from mobench.errors import BadInputError
from mobench.records import RUNTIME_FORMATS, Run
from mobench.report.tables import Column
from mobench.results import open_run
from mobench.stats import summarize
from mobench.verdicts.comparability import refuse
from mobench.verdicts.comparison import NO_DIFFERENCE, Comparison, basis, compare, percent, said
from mobench.verdicts.matching import Match, find_cell
from mobench.verdicts.sides import Measuring, Versus, face, open_side

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    Column(key="a", title="A"),
    Column(key="b", title="B"),
    Column(key="ratio", title="B over A [95 %]", ci="ratio_ci", align="right"),
    Column(key="said", title="verdict"),
    Column(key="basis", title="basis"),
    Column(key="doubts", title="doubts"),
)
BASES = {
    "paired": "paired: timed in the same rounds of one campaign",
    "through": "through a cell that both campaigns timed: what changed between them for one model alone is not in the"
    " interval",
    "unpaired": "unpaired: p50 against p50; what changed between the campaigns is in the ratio, not in the interval",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A match and what came of it: a comparison, or why there is none."""

    match: Match
    comparison: Comparison | None

    @property
    def doubts(self) -> tuple[str, ...]:
        """The doubts about either cell."""
        cells = ((self.match.one, self.match.a), (self.match.other, self.match.b))
        summaries = [s for run, cell in cells for s in summarize(run) if s.cell == cell]
        return tuple(sorted({doubt.name for summary in summaries for doubt in summary.doubts}))

    @property
    def failures(self) -> tuple[str, ...]:
        """Why a cell was not timed, or died on the way, a line each."""
        cells = {
            (id(run), cell): run for run, cell in ((self.match.one, self.match.a), (self.match.other, self.match.b))
        }
        return tuple(
            f"{failure.cell}: {': '.join(filter(None, (failure.what, failure.why)))}; {failure.mend}"
            for (_, cell), run in cells.items()
            for failure in run.failures
            if failure.cell == cell
        )


def compare_matches(
    matches: Sequence[Match], *, no_difference: float = NO_DIFFERENCE, cpu: bool = False, anyway: bool = False
) -> list[Row]:
    """Compare every match.

    Raises:
        BadInputError: two cells that are not comparable, unless ``anyway``.
    """
    rows = []
    for match in matches:
        found = compare(match, no_difference=no_difference, cpu=cpu)
        if found and not anyway:
            refuse(found.differences, f"{match.a} and {match.b}")
        rows.append(Row(match=match, comparison=found))
    return rows


def as_json(rows: Sequence[Row], no_difference: float) -> str:
    """Return the comparisons as a JSON list, one object a pair."""
    items: list[dict[str, Any]] = []
    for row in rows:
        fields = dataclasses.asdict(row.comparison) if row.comparison else {"a": row.match.a, "b": row.match.b}
        items.append(
            {
                **fields,
                "no_difference": no_difference,
                "doubts": list(row.doubts),
                "failures": list(row.failures),
                "journals": sorted({str(row.match.one.path), str(row.match.other.path)}),
            }
        )
    return json.dumps(items, indent=1, allow_nan=False) + "\n"


def echo_rows(rows: Sequence[Row], no_difference: float, cpu: bool) -> None:
    """Print the comparisons as a table, with notes on what they rest on and in what the sides differ."""
    table = []
    for row in rows:
        found = row.comparison
        table.append(
            {
                "a": row.match.a,
                "b": row.match.b,
                "ratio": found.ratio if found else None,
                "ratio_ci": found.ratio_ci if found else None,
                "said": said(found, no_difference) if found else "not timed",
                "basis": basis(found) if found else "",
                "doubts": " ".join(row.doubts),
            }
        )
    comparisons = [row.comparison for row in rows if row.comparison]
    clock = "CPU time of the thread" if cpu else "latency"
    notes = [f"ratio: {clock} of B over that of A; below 1, B is faster"]
    notes += [text for key, text in BASES.items() if any(found.basis == key for found in comparisons)]
    notes += labels(comparisons)
    if len(rows) > 1:
        notes.append("each interval is for its own pair: of twenty equal pairs, about one would look different")
    notes += sorted({f"journal: {path}" for row in rows for path in (row.match.one.path, row.match.other.path)})
    echo_table(COLUMNS, table, notes)


def labels(comparisons: Sequence[Comparison]) -> list[str]:
    """Return in what the sides differ, each difference once."""
    found = dict.fromkeys(difference for comparison in comparisons for difference in comparison.differences)
    return [f"{'NOT COMPARABLE, ' if d.severity == 'refuse' else ''}differ in {d}" for d in found]


def _drawn(rows: Sequence[Row], no_difference: float, cpu: bool, width_in: float) -> Figure:
    """Return the comparisons as a forest: a row each, hollow where nothing is decided."""
    from mobench.report.plots.cells import Ratio, cell_names, colour_key, ratios_figure

    timed = [(row.match, row.comparison) for row in rows if row.comparison]
    names = cell_names([cell for match, _ in timed for cell in (match.cell_a, match.cell_b)])
    ratios = [
        Ratio(
            label=b if match.a == match.b else f"{b} over {a}",
            network=colour_key(match.cell_b),
            ratio=found.ratio,
            ratio_ci=found.ratio_ci,
            decided=found.verdict != "undecided",
        )
        for (match, found), a, b in zip(timed, names[::2], names[1::2], strict=True)
    ]
    old = sorted({match.one.path.stem for match, _ in timed})
    new = sorted({match.other.path.stem for match, _ in timed})
    sides = "" if old == new else f" A: {', '.join(old)}; B: {', '.join(new)}."
    shaded = f"shaded: up to {percent(no_difference)} either way is no difference"
    caption = f"Bars: 95\u00a0% intervals; hollow: undecided; {shaded}."
    words = "CPU time of the thread" if cpu else "latency"
    axis = f"{words}, B over A"
    return ratios_figure(ratios, axis=axis, no_difference=no_difference, caption=caption + sides, width_in=width_in)


def _cells(campaign: Run, other: Run, a: str, b: str) -> Versus:
    return Versus(matches=(Match(one=campaign, a=find_cell(campaign, a), other=other, b=find_cell(other, b)),))


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--in", "campaign", metavar="CAMPAIGN", help="A and B are cells of this campaign.")
@click.option(
    "--cells", nargs=2, metavar="CELL CELL", help="A and B are campaigns: compare this cell of A with that of B."
)
@click.option("--same", "no_difference", type=percent_option(0.1, 50), default="1%", metavar="PERCENT",
              show_default=True, help="A change up to this counts as no difference.")  # fmt: skip
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True,
              help="cpu: the thread's CPU time, for one thread on a busy machine.")  # fmt: skip
@click.option("--anyway", is_flag=True, help="Compare what is not comparable, under a label.")
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(list(RUNTIME_FORMATS)), help="Repeatable.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--budget", "budget_s", type=click.FloatRange(0.1), default=30.0, show_default=True, metavar="SECONDS")
@click.option("--shape", metavar="1,3,H,W", help="First input's shape, for models that leave it open.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@plot_options("the ratios with their intervals")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a pair.")
def command(
    a: str,
    b: str,
    campaign: str | None,
    cells: tuple[str, str] | None,
    no_difference: float,
    clock: str,
    anyway: bool,
    runtimes: tuple[str, ...],
    threads: int,
    budget_s: float,
    shape: str | None,
    seed: int,
    results: Path,
    plots: tuple[Path, ...],
    width_in: float,
    json_out: bool,
) -> int:
    """Is B slower than A? The ratio of their latencies, its 95 % interval, and a verdict.

    A and B are model files, or networks exported under artifacts/: they are timed now, in one campaign, until the
    ratio is known well enough or the budget is spent. Or they are campaigns (a journal, its name, or REV:PATH from
    git): each cell of A is compared with the same cell of B, through a cell that both timed. With --in they are cells
    of one campaign.
    """
    how = Measuring(
        budget_s=budget_s,
        half_width=no_difference / 2,
        threads=threads,
        runtimes=runtimes,
        shape=parse_shape(shape),
        seed=seed,
        results=results,
    )
    if campaign is not None:
        if cells:
            raise BadInputError("--in and --cells", "each names the cells", "give one of them")
        run = open_run(campaign, results)
        versus = _cells(run, run, a, b)
    else:
        one, other = open_side([a], results), open_side([b], results)
        if cells:
            if not isinstance(one, Run) or not isinstance(other, Run):
                raise BadInputError(f"--cells {' '.join(cells)}", "A and B are not campaigns", "leave it out")
            versus = _cells(one, other, *cells)
        else:
            with Progress() as bar:
                versus = face(one, other, dataclasses.replace(how, progress=bar))
    for name in versus.gone:
        click.echo(f"note: {name} is only on A's side", err=True)
    for name in versus.new:
        click.echo(f"note: {name} is only on B's side", err=True)
    rows = compare_matches(versus.matches, no_difference=no_difference, cpu=clock == "cpu", anyway=anyway)
    for line in dict.fromkeys(line for row in rows for line in row.failures):
        click.echo(f"error: {line}", err=True)
    if json_out:
        click.echo(as_json(rows, no_difference), nl=False)
    else:
        echo_rows(rows, no_difference, clock == "cpu")
    if plots:
        write_plots(_drawn(rows, no_difference, clock == "cpu", width_in), plots, width_in)
    if versus.interrupted:
        raise KeyboardInterrupt
    return int(any(row.comparison is None for row in rows))
