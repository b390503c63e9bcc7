"""How to make it all again: commands, the hash of every file that was timed, and the data itself as CSV."""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mobench import __version__
from mobench.pareto import Point
from mobench.pick import deploying
from mobench.records import Run
from mobench.report.html.evidence import plain_path
from mobench.report.html.markup import e, items
from mobench.report.html.others import Theirs
from mobench.report.rows import CELL_COLUMNS, cell_rows
from mobench.report.tables import Column, render
from mobench.stats import Summary

EXPORTS = 40  # commands that are printed; each exports many networks
CSV_NAME = "mobench-cells.csv"


def artifacts(runs: Sequence[Run]) -> dict[str, Any]:
    """Return every file that was timed, once, with its hash and where its weights are from."""
    rows: dict[str, tuple[str, str, str, str]] = {}
    for run in runs:
        for cell in run.header.get("cells", ()):
            artifact = cell["artifact"]
            weights = (artifact.get("weights") or {}).get("source") or "unknown"
            path, precision = plain_path(artifact["path"]), artifact["precision"] or "unknown"
            rows.setdefault(artifact["sha256"], (path, precision, plain_path(str(weights)), artifact["sha256"]))
    return {"columns": ("file", "precision", "weights", "sha256"), "rows": sorted(rows.values())}


def exports(points: Sequence[Point]) -> list[str]:
    """Return the commands that make the files of our own networks, as they were timed: random weights stay random."""
    made: dict[tuple[str, str], dict[str, set[str]]] = {}
    kinds = {(point.label, point.precision, point.runtime, point.weights): point for point in points}
    for point in kinds.values():
        first, *rest = deploying(point)
        if not rest:  # a network that is not ours: the only command runs it
            continue
        label, *words = shlex.split(first)[2:]
        options = dict(zip(words[::2], words[1::2], strict=True))
        weights = point.weights if point.random_weights else plain_path(options.pop("--weights", ""))
        for option in ("--precision", "--format"):
            made.setdefault((label, weights), {}).setdefault(option, set()).add(options[option])
    groups: dict[tuple[str, ...], list[str]] = {}
    for (label, weights), own in made.items():
        tail = [part for precision in sorted(own["--precision"]) for part in ("--precision", precision)]
        tail += ["--format", *own["--format"]] if len(own["--format"]) == 1 else []
        tail += ["--weights", weights] if weights else []
        groups.setdefault(tuple(tail), []).append(label)
    return [shlex.join(["mobench", "export", *labels, *tail]) for tail, labels in groups.items()]


def csv_gz(runs: Sequence[Run], theirs: Sequence[Theirs], summarized: Callable[[Run], Iterable[Summary]]) -> str:
    """Return every cell of every campaign, and what the page shows of others, as CSV, gzip in base64.

    The columns are those of `mobench results export`, and before them whose the figure is. Others' latencies have no
    interval of ours, so none stands in its column.
    """
    rows: list[dict[str, Any]] = []
    for run in runs:
        for row in cell_rows(run, {cell["id"] for cell in run.header.get("cells", ())}, summarized):
            rows.append(row | {"evidence": "ours", "file": plain_path(row["file"]), "journal": run.path.name})
    for one in theirs:
        point = one.point
        known = {"evidence": one.kind, "source": point.campaign, "machine": point.machine, "name": point.label}
        rows.append(known | {"precision": point.precision, "batch": point.batch, "p50_ms": point.latency_ms})
    text = render((Column(key="evidence", title="evidence"), *CELL_COLUMNS), rows, "csv")
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), mtime=0)).decode()


def section(points: Sequence[Point], command: str) -> str:
    """Return the section of commands, hashes and versions; each campaign's own command unfolds with it."""
    lines = exports(points)
    left = len(lines) - EXPORTS
    shown = [*lines[:EXPORTS], *([f"# and {left} more of this kind"] if left > 0 else [])]
    own = [command, "mobench claims", "mobench pareto --format md", "mobench results"]
    return (
        f"<p>This page, from the same results with mobench {e(__version__)}, and its tables in the terminal:</p>"
        f"<pre tabindex=0><code>{e(chr(10).join(own))}</code></pre>"
        + (
            "<p>The files that were timed, where they are the zoo's:</p>"
            f"<pre tabindex=0><code>{e(chr(10).join(shown))}</code></pre>"
            if lines
            else ""
        )
        + "<p>Each campaign's own command unfolds with it under Devices, with its settings; the versions that ran stand"
        " with each machine. A file is the same where its hash is:</p>"
        '<div class="scroll" role="region" tabindex="0" aria-label="Files that were timed">'
        '<table id="artifacts"></table></div><div id="artifacts-pager" class="pager"></div>'
    )


def raw(packed: str, notes: Sequence[str]) -> str:
    """Return the section with the data itself: one link, which needs no script to give the packed file."""
    return (
        "<p>Every cell of every campaign, with its interval, in the columns of <code>mobench results export</code>,"
        " and others' figures as this page shows them. The blocks themselves are in the journals.</p>"
        f'<p><a class="button" data-download="csv" download="{CSV_NAME}.gz"'
        f' href="data:application/gzip;base64,{packed}">'
        f"Download the cells as CSV</a></p>{items(map(e, notes))}"
    )
