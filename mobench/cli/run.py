"""`mobench run`: time model files against one another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mobench import artifacts, plan, store
from mobench.cli.terminal import Progress, echo_table
from mobench.errors import BadInputError
from mobench.measure import Campaign, Settings
from mobench.records import RUNTIME_FORMATS, Cell, Run, Target
from mobench.report.tables import Column
from mobench.stats import Summary, summarize
from runners import desktop, device_state

COLUMNS = (
    Column(key="cell", title="model"),
    Column(key="runtime", title="runtime"),
    Column(key="threads", title="threads", align="right"),
    Column(key="p50_ms", title="p50 ms [95 %]", ci="p50_ci_ms", align="right"),
    Column(key="ratio", title="ratio [95 %]", ci="ratio_ci", align="right"),
    Column(key="init_ms", title="init ms", align="right"),
    Column(key="first_ms", title="first ms", align="right"),
    Column(key="peak_rss_mb", title="peak MiB", digits=0, align="right"),
    Column(key="doubt_names", title="doubts"),
)
_SHOWN = 3  # cells named under a doubt


def run_cells(
    cells: Sequence[Cell],
    *,
    baseline: str | None = None,
    settings: Settings | None = None,
    results: Path = Path("results"),
    journal: Path | None = None,
    shape: tuple[int, ...] = (),
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> Run:
    """Time cells on this machine, journal the campaign under ``results``, and return it.

    Args:
        cells: what to time, from ``plan.make_cells``.
        baseline: the cell that ratios are to, as ``plan.choose_baseline`` takes it.
        settings: budget, asked precision and seed.
        results: folder for the journal.
        journal: the journal's own path, instead of a new one under ``results``.
        shape: first input's shape for models that leave it open.
        progress: told the share of the budget that is spent, and what goes on.

    Raises:
        BadInputError: no such baseline.
        KeyboardInterrupt: after the journal is closed; read it with ``store.read``.
    """
    machine = device_state.machine()
    chosen = plan.choose_baseline(cells, baseline)
    path = journal or store.new_path(results, cells[0].target.device, machine)
    measured = {core for cell in cells for core in cell.target.cores}
    with store.Journal(path) as log, desktop.keep_off(measured):
        campaign = Campaign(
            cells,
            chosen,
            settings or Settings(),
            log,
            open_session=lambda cell: desktop.open_session(cell.artifact, cell.target, shape=shape),
            steal_ticks=device_state.steal_ticks,
            progress=progress,
        )
        try:
            campaign.run(machine, device_state.snapshot)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(str(path)) from interrupt
    return store.read(path)


def as_json(run: Run, summaries: Sequence[Summary]) -> str:
    """Return the summaries as a JSON list, one object a cell."""
    cells = []
    for summary in summaries:
        fields = dataclasses.asdict(summary)
        fields["doubts"] = [{"name": d.name, "why": d.why, "mend": d.mend} for d in summary.doubts]
        cells.append({**fields, "campaign": run.header["campaign"], "journal": str(run.path), "end": run.end})
    return json.dumps(cells, indent=1, allow_nan=False) + "\n"


def echo_summaries(run: Run, summaries: Sequence[Summary]) -> None:
    """Print the summaries with notes: the baseline, how the campaign ended, doubts and their mends, the journal."""
    rows: list[dict[str, Any]] = []
    notes = [f"ratio: latency over that of {run.header['baseline']}, paired by round; init, first: medians over starts"]
    for summary in summaries:
        row = dataclasses.asdict(summary) | {"doubt_names": " ".join(d.name for d in summary.doubts)}
        if summary.failure:
            row["doubt_names"] = " ".join(filter(None, [row["doubt_names"], "FAILED"]))
        rows.append(row)
    seconds = run.header["settings"]["budget_s"]
    ends = {
        "precise": "ended: every interval is as narrow as asked",
        "budget": f"ended: the budget of {seconds:g} s is spent (see the intervals)",
        "interrupted": "interrupted: the figures are of what was measured until then",
        "failed": "ended: no model is left that runs",
    }
    notes.append(ends.get(run.end or "", "cut off: the figures are of what was measured until then"))
    by_doubt: dict[str, list[str]] = {}
    for summary in summaries:
        for doubt in summary.doubts:
            by_doubt.setdefault(f"{doubt.name} ({doubt.mend})", []).append(f"{summary.cell}: {doubt.why}")
    for doubt_and_mend, cells in by_doubt.items():
        more = [f"and {len(cells) - _SHOWN} more (--json has all)"] if len(cells) > _SHOWN else []
        notes += [doubt_and_mend, *(f"  {text}" for text in (*cells[:_SHOWN], *more))]
    notes += [f"FAILED {f.cell}: {': '.join(filter(None, (f.what, f.why)))}; {f.mend}" for f in run.failures]
    notes.append(f"journal: {run.path}")
    echo_table(COLUMNS, rows, notes)


def parse_shape(text: str | None) -> tuple[int, ...]:
    """Turn ``1,3,224,224`` into a shape.

    Raises:
        BadInputError: not positive integers.
    """
    if not text:
        return ()
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = (0,)
    if any(d < 1 for d in shape):
        raise BadInputError(f"--shape {text}", "not a list of positive integers", "for example --shape 1,3,224,224")
    return shape


@click.command()
@click.argument("things", nargs=-1, metavar="[FILES or NAMES]...")
@click.option("--device", type=click.Choice(["desktop-cpu"]), default="desktop-cpu", show_default=True)
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(list(RUNTIME_FORMATS)), help="Repeatable.")
@click.option("--threads", "threads", multiple=True, type=click.IntRange(1, 256), help="Repeatable; default 1.")
@click.option("--budget", "budget_s", type=click.FloatRange(0.1), default=60.0, show_default=True, metavar="SECONDS")
@click.option("--precise", type=click.FloatRange(0.01, 50), default=1.0, show_default=True, metavar="PERCENT",
              help="Stop early when ratios are known to this half-width, and p50 to twice it.")  # fmt: skip
@click.option("--baseline", metavar="NAME", help="The cell that ratios are to; default: the first.")
@click.option("--shape", metavar="1,3,H,W", help="First input's shape, for models that leave it open.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--dry-run", is_flag=True, help="Print the cells and stop.")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a cell.")
def command(
    things: tuple[str, ...],
    device: str,
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    budget_s: float,
    precise: float,
    baseline: str | None,
    shape: str | None,
    seed: int,
    results: Path,
    dry_run: bool,
    json_out: bool,
) -> int:
    """Time models against one another: p50 and ratio to a baseline, each with a 95 % interval.

    FILES are .onnx or .tflite, ours or anybody's; NAMES are networks exported under artifacts/. Without any, all of
    artifacts/. The same file may be named twice to see how far apart two equal cells come out.
    """
    targets = [
        Target(device=device, runtime=runtime, threads=count, cores=desktop.choose_cores(count))
        for runtime in runtimes or tuple(RUNTIME_FORMATS)
        for count in threads or (1,)
    ]
    usable, bad = [], 0
    formats = {RUNTIME_FORMATS[target.runtime] for target in targets}
    named = {Path(thing) for thing in things}
    for path in artifacts.resolve(things):
        try:
            artifact = artifacts.read(path)
        except BadInputError as error:
            click.echo(f"error: {error}", err=True)
            bad += 1
            continue
        if artifact.format in formats:
            usable.append(artifact)
        elif path in named:
            runtime = next(r for r, f in RUNTIME_FORMATS.items() if f == artifact.format)
            click.echo(f"error: {path}: no asked runtime reads it; --runtime {runtime}", err=True)
            bad += 1
    if not usable:
        raise BadInputError("nothing to time", "no usable model among those named", "see `mobench doctor`")
    cells = plan.make_cells(usable, targets)
    if dry_run:
        click.echo("\n".join(f"{cell.id}  {cell.target.runtime}  threads {cell.target.threads}" for cell in cells))
        return int(bad > 0)
    settings = Settings(budget_s=budget_s, ratio_half_width=precise / 100, p50_half_width=2 * precise / 100, seed=seed)
    interrupted = False
    try:
        with Progress() as bar:
            run = run_cells(
                cells, baseline=baseline, settings=settings, results=results, shape=parse_shape(shape), progress=bar
            )
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:
            raise
        interrupted, run = True, store.read(Path(interrupt.args[0]))
    summaries = summarize(run)
    if json_out:
        click.echo(as_json(run, summaries), nl=False)
        for failure in run.failures:
            click.echo(f"error: {': '.join(filter(None, (failure.what, failure.why)))}; {failure.mend}", err=True)
    else:
        echo_summaries(run, summaries)
    if interrupted:
        raise KeyboardInterrupt
    return int(bad > 0 or bool(run.failures))
