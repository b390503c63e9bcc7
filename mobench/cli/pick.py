"""`mobench pick`: the best network, precision and runtime within limits, and the command that deploys it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import click

from mobench.cli import terminal
from mobench.cli.pareto import load, untimed
from mobench.pareto import AccuracyChoice, points_of, timed_cells
from mobench.pick import Choice, Limits, Pick, pick
from mobench.report.front import chance_words
from mobench.report.tables import Column

COLUMNS = (
    Column(key="place", title="choice"),
    Column(key="network", title="network"),
    Column(key="precision", title="prec."),
    Column(key="runtime", title="runtime"),
    Column(key="provider", title="provider"),
    Column(key="threads", title="threads", align="right"),
    Column(key="p50_ms", title="p50 ms [95 %]", ci="p50_ci_ms", align="right"),
    Column(key="top1", title="top-1 %", ci="top1_ci", digits=1, align="right"),
    Column(key="meets", title="P(meets)", align="right"),
)


def record(picked: Pick) -> dict[str, Any]:
    """Return the answer as `--json` prints it."""
    return {
        "machine": picked.machine,
        "max_latency_ms": picked.limits.max_latency_ms,
        "min_top1": picked.limits.min_top1,
        "sure": picked.limits.sure,
        "compared": picked.compared,
        "met": picked.met,
        "best": _row(picked.best),
        "runner_up": _row(picked.runner_up) if picked.runner_up else None,
        "notes": list(picked.notes),
        "commands": list(picked.commands),
    }


def _row(choice: Choice) -> dict[str, Any]:
    point = choice.point
    return {
        "network": point.label,
        "precision": point.precision,
        "runtime": point.runtime,
        "provider": point.provider,
        "threads": point.threads,
        "batch": point.batch,
        "p50_ms": point.latency_ms,
        "p50_ci_ms": point.latency_ci_ms,
        "top1": point.accuracy,
        "top1_ci": point.accuracy_ci,
        "accuracy_kind": point.accuracy_kind,
        "accuracy_source": point.accuracy_source,
        "p_meets": choice.p_meets,
        "margin_ms": choice.margin_ms,
        "margin_top1": choice.margin_top1,
        "doubts": point.doubts,
        "file": point.file,
        "sha256": point.artifact,
        "device": point.device,
        "machine": point.machine,
        "campaign": point.campaign,
    }


@click.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path), metavar="[RESULTS]...")
@click.option("--device", default="", metavar="NAME",
              help="As `mobench run` has it, or a part of the machine's name.")  # fmt: skip
@click.option("--max-latency", type=click.FloatRange(0, min_open=True), metavar="MS", help="p50 at most.")
@click.option("--min-top1", type=click.FloatRange(0, 100), metavar="PERCENT", help="Top-1 at least.")
@click.option("--sure", type=click.FloatRange(0, 1), default=0.0, metavar="P",
              help="Only what meets the limits with this probability; default: whose figures do.")  # fmt: skip
@click.option("--accuracy", type=click.Choice(get_args(AccuracyChoice)), default="auto", show_default=True,
              help="auto: measured where there is one, else published.")  # fmt: skip
@click.option("--json", "json_out", is_flag=True, help="One JSON object.")
def command(
    results: tuple[Path, ...],
    device: str,
    max_latency: float | None,
    min_top1: float | None,
    sure: float,
    accuracy: AccuracyChoice,
    json_out: bool,
) -> None:
    """The most accurate model within a latency, or the fastest with an accuracy, and the command that deploys it.

    RESULTS are journals or folders of them, as `mobench pareto` takes them, but of a folder every campaign counts: of
    each cell the newest timing that has an interval. P(meets) is the probability that a model truly meets both limits.
    Exit 1 where nothing does; the nearest is named.
    """
    evidence = load(results, every=True)
    cells = timed_cells(evidence.runs)
    points = points_of(cells, evidence.accuracies, accuracy)
    for warning in (*evidence.warnings, *untimed(cells)):
        click.echo(f"note: {warning}", err=True)
    limits = Limits(max_latency_ms=max_latency, min_top1=min_top1, sure=sure)
    picked = pick(points, limits, device=device)
    if json_out:
        click.echo(json.dumps(record(picked), indent=1, allow_nan=False))
        return
    choices = [("best", picked.best), ("next", picked.runner_up)]
    rows = [_row(c) | {"place": place, "meets": chance_words(c.p_meets)} for place, c in choices if c]
    said = f"{picked.machine}: {picked.met} of {picked.compared} meet {limits}"
    columns = [column for column in COLUMNS if column.key != "provider" or any(row["provider"] for row in rows)]
    terminal.echo_table(columns, rows, [said, *picked.notes])
    for line in picked.commands:
        click.echo(line)
