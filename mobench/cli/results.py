"""`mobench results`: what was measured, here and by other tools: list, show, export, import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from mobench import results as campaigns
from mobench.cli.plotting import plot_options, write_plots
from mobench.cli.run import echo_summaries
from mobench.cli.terminal import echo_table
from mobench.errors import BadInputError, MobenchError
from mobench.files import replacing
from mobench.foreign import journal, outputs
from mobench.records import PRECISIONS, RUNTIME_FORMATS, Run
from mobench.report.rows import (
    BLOCK_COLUMNS,
    CELL_COLUMNS,
    block_rows,
    cell_rows,
    parquet,
    state_table,
)
from mobench.report.tables import Column, TableFormat, render
from mobench.results import Filter, Listed
from mobench.stats import summarize

LIST_COLUMNS = (
    Column(key="campaign", title="campaign"),
    Column(key="started", title="started"),
    Column(key="machine", title="machine"),
    Column(key="device", title="device"),
    Column(key="cells", title="cells", align="right"),
    Column(key="end", title="end"),
    Column(key="source", title="source"),
    Column(key="journal"),
)
# What a person wants of an imported cell. Whose figures they are stands in every row.
IMPORTED_COLUMNS = (
    Column(key="cell", title="model"),
    Column(key="source", title="source"),
    Column(key="runtime", title="runtime"),
    Column(key="provider", title="provider"),
    Column(key="threads", title="threads", align="right"),
    Column(key="p50_ms", title="p50 ms", align="right"),
    Column(key="mean_ms", title="mean ms", align="right"),
    Column(key="min_ms", title="min ms", align="right"),
    Column(key="max_ms", title="max ms", align="right"),
    Column(key="n_inferences", title="n", align="right"),
    Column(key="init_ms", title="init ms", align="right"),
    Column(key="first_ms", title="first ms", align="right"),
    Column(key="peak_rss_mb", title="peak MiB", digits=0, align="right"),
)
# What a person wants of cells of several campaigns: `export --format md` or `latex`.
EXPORT_TITLES = {
    "campaign": "campaign",
    "source": "source",
    "cell": "model",
    "runtime": "runtime",
    "threads": "threads",
    "p50_ms": "p50 ms [95 %]",
    "mean_ms": "mean ms",
    "ratio": "ratio [95 %]",
    "init_ms": "init ms",
    "doubts": "doubts",
}
EXPORT_WORDS = ("campaign", "source", "cell", "runtime", "doubts")
EXPORT_FORMATS = ("csv", "parquet", "json", "md", "latex")
COARSE = 0.01  # of a figure: what it was rounded to is worth a note
DEFAULT = Path("results")

Command = TypeVar("Command", bound=Callable[..., Any])


def _filters(command: Command) -> Command:
    """Add the options that every reading verb has; they arrive as ``picked``'s arguments."""
    for option in reversed((
        click.option("--network", "networks", multiple=True, metavar="NAME", help="May have * and ?. Repeatable."),
        click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), help="Repeatable."),
        click.option("--runtime", "runtimes", multiple=True, type=click.Choice(list(RUNTIME_FORMATS)),
                     help="Repeatable."),
        click.option("--device", "devices", multiple=True, metavar="NAME", help="Repeatable."),
        click.option("--machine", "machines", multiple=True, metavar="TEXT",
                     help="A part of the machine's description. Repeatable."),
        click.option("--since", metavar="DATE", help="Campaigns begun then or later, UTC."),
        click.option("--results", "folder", type=click.Path(path_type=Path), default=DEFAULT, show_default=True),
    )):  # fmt: skip
        command = option(command)
    return command


def _filter(options: Mapping[str, Any]) -> Filter:
    since = campaigns.parse_since(options["since"]) if options["since"] else None
    return Filter(
        since=since, **{key: options[key] for key in ("networks", "precisions", "runtimes", "devices", "machines")}
    )


def _scan(folder: Path) -> list[Listed]:
    found, unreadable = campaigns.scan(folder)
    for line in unreadable:
        click.echo(f"left out: {line}", err=True)
    return found


def _cells(run: Run, chosen: Filter) -> set[str]:
    return {cell["id"] for cell in chosen.cells(run.path, run.header)}


@click.group(invoke_without_command=True)
@_filters
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a campaign.")
@click.pass_context
def command(context: click.Context, /, folder: Path, json_out: bool, **options: Any) -> None:
    """What was measured: without a verb, the campaigns, newest first.

    A campaign stands in the list when a cell of it is let through, and those cells are counted. An imported one begins
    when it was imported.
    """
    if context.invoked_subcommand:
        given = [name for name in ("folder", "json_out", *options) if _was_given(context, name)]
        if given:  # silently dropping them would show more than was asked for
            raise click.UsageError(f"options go after the verb: mobench results {context.invoked_subcommand} ...")
        return
    chosen = _filter(options)
    rows = []
    for listed in _scan(folder):
        cells = chosen.cells(listed.path, listed.header)
        if cells:
            rows.append({
                "campaign": listed.path.stem,
                "started": listed.header.get("started"),
                "machine": campaigns.machine(listed.header) or None,
                "device": listed.header.get("device"),
                "cells": len(cells),
                "end": listed.end or "cut off",
                "source": campaigns.source(listed.header) or None,
                "journal": str(listed.path),
            })  # fmt: skip
    if json_out:
        click.echo(render(LIST_COLUMNS, rows, "json"), nl=False)
    else:
        echo_table(LIST_COLUMNS, rows, [] if rows else ["nothing that the filters let through"])


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


@command.command()
@click.argument("campaign", required=False)
@_filters
@plot_options("how its blocks spread, and the ratios")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a cell.")
def show(
    campaign: str | None, folder: Path, plots: tuple[Path, ...], width_in: float, json_out: bool, **options: Any
) -> None:
    """One campaign: its figures, its machine, and the machine's state.

    CAMPAIGN is a journal's path, its name or a part of that, or REV:PATH as git knows it; without one, the newest that
    the filters let through.
    """
    chosen = _filter(options)
    run = campaigns.open_run(campaign, folder) if campaign else campaigns.open_run(str(_newest(folder, chosen)))
    cells = _cells(run, chosen)
    if not cells:
        raise BadInputError(
            str(run.path), "no cell of it is let through by the filters", "`mobench results` lists cells"
        )
    if plots:
        _plot(run, cells, plots, width_in)
    if json_out:
        click.echo(render(CELL_COLUMNS, cell_rows(run, cells), "json"), nl=False)
        return
    if run.imported:
        _echo_imported(run, cells)
    else:
        echo_summaries(run, [summary for summary in summarize(run) if summary.cell in cells])
    click.echo(f"machine: {campaigns.machine(run.header) or 'not said'}; started {run.header.get('started')}")
    columns, rows = state_table(run)
    if rows:
        click.echo()
        echo_table(columns, rows)


def _plot(run: Run, cells: set[str], plots: Sequence[Path], width_in: float) -> None:
    from mobench.report.plots.cells import campaign_figure

    if run.imported:
        raise BadInputError(f"--plot of {run.path}", "another tool measured it, and blocks it has none", "leave it out")
    where = f"Measured here: {campaigns.machine(run.header) or 'machine not said'}, campaign {run.path.stem}."
    baseline = f" Baseline: {run.header['baseline']}." if len(cells) > 1 else ""
    figure = campaign_figure(run, cells, caption=where + baseline, width_in=width_in)
    write_plots(figure, plots, width_in)


def _newest(folder: Path, chosen: Filter) -> Path:
    for listed in _scan(folder):
        if chosen.cells(listed.path, listed.header):
            return listed.path
    raise BadInputError(f"no campaign in {folder}", "none is let through by the filters", "`mobench results` lists all")


def _echo_imported(run: Run, cells: set[str]) -> None:
    rows = cell_rows(run, cells)
    told = run.header["source"]
    notes = [
        f"measured by {told['tool']}, not by mobench: one process and no turns, so no interval and no ratio",
        f"imported {told['imported']} from {told['file']} (sha256 {told['sha256'][:12]})",
    ]
    coarse = [row for row in rows if (row["resolution_ms"] or 0) > COARSE * row["mean_ms"]]
    notes += [f"{row['cell']}: the tool rounds to {row['resolution_ms']:g} ms" for row in coarse]
    notes += [f"{row['cell']}: {note}" for row in rows for note in row["notes"]]
    echo_table(IMPORTED_COLUMNS, rows, [*notes, f"journal: {run.path}"])


@command.command()
@click.argument("names", nargs=-1, metavar="[CAMPAIGN]...")
@_filters
@click.option("--format", "fmt", type=click.Choice(EXPORT_FORMATS), help="Default: by FILE's suffix, else csv.")
@click.option("-o", "--output", default="-", show_default=True, metavar="FILE", help="- for stdout.")
@click.option("--blocks", is_flag=True, help="Every block with its raw times, instead of a row a cell.")
@click.option("--json", "json_out", is_flag=True, help="The same as --format json.")
def export(
    names: tuple[str, ...], folder: Path, fmt: str | None, output: str, blocks: bool, json_out: bool, **options: Any
) -> None:
    """Figures as a file: a row a cell, of the campaigns named or of all.

    An interval is two columns, `_low` and `_high`; an imported row says so in `source`. Parquet needs pyarrow.
    """
    path = None if output == "-" else Path(output)
    suffix = path.suffix[1:].lower() if path else ""
    suffix = "latex" if suffix == "tex" else suffix
    fmt = "json" if json_out else fmt or (suffix if suffix in EXPORT_FORMATS else "csv")
    if fmt == "parquet" and path is None and sys.stdout.isatty():
        raise BadInputError("--format parquet", "it is not text", "name a file with -o")
    chosen = _filter(options)
    if names:
        runs = [campaigns.open_run(name, folder) for name in names]
    else:
        runs = [
            campaigns.open_run(str(one.path)) for one in reversed(_scan(folder)) if chosen.cells(one.path, one.header)
        ]
    rows: list[dict[str, Any]] = []
    for run in runs:
        cells = _cells(run, chosen)
        rows += block_rows(run, cells) if blocks else cell_rows(run, cells)
    if not rows:
        raise BadInputError("nothing to export", "no cell is let through by the filters", "`mobench results` lists all")
    _write(BLOCK_COLUMNS if blocks else CELL_COLUMNS, rows, fmt, path)


def _write(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], fmt: str, path: Path | None) -> None:
    if fmt in ("md", "latex"):
        rows = [{**row, "source": row["source"] or "measured here"} for row in rows]
        if columns is not BLOCK_COLUMNS:
            columns = [
                replace(
                    column, title=EXPORT_TITLES[column.key], align="left" if column.key in EXPORT_WORDS else "right"
                )
                for column in columns
                if column.key in EXPORT_TITLES and any(row.get(column.key) is not None for row in rows)
            ]
    data = parquet(columns, rows) if fmt == "parquet" else render(columns, rows, cast(TableFormat, fmt)).encode()
    if path is None:
        click.echo(data, nl=False)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    click.echo(f"{len(rows)} rows in {path}", err=True)


@command.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--tool", type=click.Choice(["auto", *outputs.TOOLS]), default="auto", show_default=True,
              help="auto: by the file's content.")  # fmt: skip
@click.option("--model", type=click.Path(path_type=Path), metavar="FILE", help="The model file that was timed.")
@click.option("--machine", default="", metavar="TEXT", help="Where it ran, in words: 'Pixel 8, Android 15'.")
@click.option("--device", default="unknown", show_default=True, metavar="NAME", help="For example android-cpu.")
@click.option("--results", "folder", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a cell.")
def import_(
    files: tuple[Path, ...], tool: str, model: Path | None, machine: str, device: str, folder: Path, json_out: bool
) -> int:
    """Take over what another tool measured, labelled with its source.

    FILES are logs of benchmark_model (TFLite's of any year, or LiteRT's), output or result files of
    onnxruntime_perf_test, and output or JSON of litert-benchmark. Their figures are listed, shown and exported as they
    are, and enter no front and no ratio. A log that is not whole is refused.
    """
    rows: list[dict[str, Any]] = []
    failed = False
    for file in files:
        try:
            written = journal.import_file(file, folder, tool=tool, model=model, machine=machine, device=device)
        except MobenchError as error:
            click.echo(f"error: {error}", err=True)
            failed = True
            continue
        run = campaigns.open_run(str(written))
        cells = _cells(run, Filter())
        if json_out:
            rows += cell_rows(run, cells)
        else:
            _echo_imported(run, cells)
    if json_out:
        click.echo(render(CELL_COLUMNS, rows, "json"), nl=False)
    return int(failed)
