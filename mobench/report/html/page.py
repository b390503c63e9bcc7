"""The report: what `gather` finds in the results, and the page that `render` makes of it."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mobench import __version__
from mobench.claims.check import Judged
from mobench.claims.journals import journal_places
from mobench.claims.places import Place, table_places
from mobench.pareto import TimedCell, timed_cells
from mobench.records import Run
from mobench.report.html import claims, cpu_gpu, devices, doubts, fronts, reproduce
from mobench.report.html.evidence import Evidence
from mobench.report.html.markup import badge, e, items, json_script, some, verdict
from mobench.stats import Summary, summarize

TITLES = {
    "summary": "Summary",
    "fronts": "Pareto fronts",
    "claims": "Claims of the papers",
    "cpu-gpu": "CPU against GPU",
    "devices": "Devices and their state",
    "doubts": "Doubts and mends",
    "reproduce": "How to reproduce",
    "raw": "Raw data",
}
FRONTS_TOLD, NAMED, FAULTS_TOLD = 4, 3, 10  # fronts, networks of each, and faults in the summary's words
THREADS = 1  # of a CPU in the claims, as the papers have it


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a page shows; nothing of it is computed while it is rendered."""

    evidence: Evidence
    summaries: Mapping[int, tuple[Summary, ...]]  # by the id of the run
    cells: tuple[TimedCell, ...]
    fronts: fronts.Fronts
    claims: claims.Claims
    cpu_gpu: cpu_gpu.CpuGpu
    machines: tuple[devices.Machine, ...]
    doubts: tuple[doubts.Group, ...]
    command: str

    def summarized(self, run: Run) -> tuple[Summary, ...]:
        """Return the summaries of one of the evidence's campaigns."""
        return self.summaries[id(run)]


def gather(
    evidence: Evidence,
    *,
    claims_file: Path | None = None,
    command: str = "mobench report",
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> Report:
    """Judge the evidence: fronts, claims, orders, doubts.

    Args:
        evidence: what was read of the results.
        claims_file: other claims than the project's.
        command: that makes this page, as it stands in it.
        progress: takes the share that is done and what comes next.
    """
    progress(0.0, "figures of every cell")
    summaries = {id(run): tuple(summarize(run)) for run in evidence.runs}
    cells = tuple(timed_cells(evidence.timed, lambda run: summaries[id(run)]))
    progress(0.3, "fronts")
    ours = journal_places(evidence.timed, evidence.accuracies)
    places: list[Place] = [*(place for place in ours if place.threads == THREADS), *table_places()]
    found = fronts.gather(cells, evidence.accuracies, places)
    progress(0.5, "claims")
    judged = claims.gather(places, claims_file)
    progress(0.8, "CPU against GPU")
    compared = cpu_gpu.gather(places)
    return Report(
        evidence=evidence,
        summaries=summaries,
        cells=cells,
        fronts=found,
        claims=judged,
        cpu_gpu=compared,
        machines=devices.gather(evidence.runs),
        doubts=doubts.gather(cells, evidence.timed, evidence.faults),
        command=command,
    )


def counts(report: Report) -> dict[str, Any]:
    """Return how many of everything there are, for `--json`."""
    return {
        "campaigns": len(report.evidence.runs),
        "machines": len(report.machines),
        "cells": len(report.cells),
        "timed": len(report.fronts.ours),
        "fronts": len([one for one in report.fronts.fronts if one.kind == "ours"]),
        "claims": claims.counts(report.claims.judged),
        "faults": [*report.evidence.faults, *report.claims.faults],
    }


def render(report: Report) -> str:
    """Return the page: one HTML text that needs nothing else, the same for the same results."""
    first, last = report.evidence.runs[-1], report.evidence.runs[0]
    days = " to ".join(dict.fromkeys(str(run.header.get("started", ""))[:10] for run in (first, last)))
    bodies = {
        "summary": _summary(report),
        "fronts": fronts.section(report.fronts),
        "claims": claims.section(report.claims),
        "cpu-gpu": cpu_gpu.section(report.cpu_gpu, "".join(map(claims.headline, report.claims.headlines))),
        "devices": devices.section(report.machines),
        "doubts": doubts.section(report.doubts),
        "reproduce": reproduce.section(report.fronts.ours, report.command),
        "raw": reproduce.raw(
            reproduce.csv_gz(report.evidence.runs, report.fronts.theirs, report.summarized), _sources()
        ),
    }
    sections = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{TITLES[name]}</h2>{body}</section>'
        for name, body in bodies.items()
    )
    data = {
        "cells": fronts.data(report.fronts),
        "campaigns": devices.data(report.machines),
        "artifacts": reproduce.artifacts(report.evidence.runs),
        "pairs": cpu_gpu.data(report.cpu_gpu),
    }
    text = Template(_own("template.html")).substitute(
        version=e(__version__),
        title="mobench report",
        lead=f"{len(report.fronts.ours)} cells timed on {_machines(report)}, {e(days)}.",
        nav="".join(f'<a href="#{name}">{text}</a>' for name, text in TITLES.items()),
        sections=sections,
        style=_own("report.css"),
        data=json_script("data", data),
        plotly=_plotly(),
        charts=_own("charts.js"),
        script=_own("report.js"),
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # a journal may hold half a character


def _own(name: str) -> str:
    return files("mobench.report.html").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Return Plotly.js as its Python package ships it, gzip in base64: a third of its size, unpacked when idle."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _sources() -> list[str]:
    """Return where the figures of others come from."""
    named = dict.fromkeys(place.source for place in table_places() if place.kind == "others")
    return [f"measured by others: {source}" for source in named]


def _summary(report: Report) -> str:
    faults = [*report.evidence.faults, *report.claims.faults]
    told = "".join(f'<p class="fault">{line}</p>' for line in some(faults, FAULTS_TOLD))
    headlines = "".join(map(_headline, report.claims.headlines))
    return (
        f"{told}{items([*_measured(report), *_fronts(report), *_others(report)])}<h3>The two verdicts</h3>{headlines}"
    )


def _measured(report: Report) -> list[str]:
    points = report.fronts.ours
    networks = len({point.label for point in points})
    precisions = ", ".join(sorted({point.precision or "unknown precision" for point in points}))
    runtimes = ", ".join(sorted({point.runtime for point in points}))
    threads = ", ".join(map(str, sorted({point.threads for point in points})))
    machines = "; ".join(f"{e(machine.name)} ({', '.join(map(e, machine.devices))})" for machine in report.machines[:6])
    more = f"; and {len(report.machines) - 6} more" if len(report.machines) > 6 else ""
    return [
        f"{badge('ours')} {len(report.evidence.runs)} campaigns timed {len(points)} cells of {networks} networks"
        f" ({e(precisions)}; {e(runtimes)}; {threads} threads) on {_machines(report)}: {machines}{more}."
    ]


def _machines(report: Report) -> str:
    return f"{len(report.machines)} {'machine' if len(report.machines) == 1 else 'machines'}"


def _fronts(report: Report) -> list[str]:
    found = report.fronts
    ours = [one for one in found.fronts if one.kind == "ours"]
    lines = [
        f"{badge(one.kind)} <a href='#fronts'>Front</a> of {e(fronts.title(one.contest))}."
        f" {fronts.sentence(found, one, NAMED)}"
        for one in ours[:FRONTS_TOLD]
    ]
    left = len(ours) - FRONTS_TOLD
    return [
        *(lines or ["No front: no timed cell has an accuracy that counts."]),
        *([f"and {left} more fronts of ours"] if left > 0 else []),
    ]


def _others(report: Report) -> list[str]:
    lines = [f"<a href='#claims'>Claims</a>: {e(claims.sentence(report.claims.judged))}"]
    for one in report.cpu_gpu.comparisons[:2]:
        made = one.found
        names = f"{e(made.a.full_name)} against {e(made.b.full_name)}"
        lines.append(f"{badge(one.kind)} <a href='#cpu-gpu'>CPU against GPU</a>, {names}: {e(cpu_gpu.sentence(one))}")
    total = sum(group.count for group in report.doubts)
    lines.append(
        f"<a href='#doubts'>Doubts</a>: {total} in {len(report.doubts)} groups"
        + (f", most of them {e(report.doubts[0].name)}." if report.doubts else ".")
    )
    return lines


def _headline(judged: Judged) -> str:
    return (
        f"<p>{verdict(judged.verdict)} {badge(judged.by)} <strong>{e(judged.claim.says)}</strong>"
        f" {e(judged.why)} (<code>{e(judged.claim.id)}</code>)</p>"
    )
