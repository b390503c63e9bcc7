"""The machines: what each is, which versions ran on it, and of every campaign its state before, during and after."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobench.over_time import drift
from mobench.records import Run
from mobench.report.html.evidence import plain_path
from mobench.report.html.markup import badge, chooser, e, folded, items, some, table
from mobench.report.rows import state_table
from mobench.report.tables import Column, Row, interval
from mobench.results import source
from mobench.verdicts.comparability import machine_name

PRIVATE = frozenset(("phone_id", "serial", "fingerprint", "hostname", "uuid"))  # of a machine: not for a page
WINDOWS = 60  # of a campaign's pace that are drawn
FILES = 40  # of a campaign's files that its command names; the artifacts' table has all
# Of `mobench run`, by the name a cell's target has for it; and what it need not be told.
OPTIONS = (
    *((name, name) for name in ("device", "runtime", "provider", "threads", "batch", "io", "tf32")),
    ("cuda-graph", "cuda_graph"),
)
USUAL = {"device": ["desktop-cpu"], "threads": ["1"], "batch": ["1"], "tf32": ["off"], "cuda_graph": ["off"]}
VALUES = 4  # of one fact in which a machine's campaigns differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine with its campaigns, newest first."""

    name: str
    runs: tuple[Run, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """What was measured on it: desktop-cpu, android-gpu and so on."""
        return tuple(sorted({cell["target"]["device"] for run in self.runs for cell in run.header.get("cells", ())}))


def gather(runs: Sequence[Run]) -> tuple[Machine, ...]:
    """Group campaigns by machine, that of the newest first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(machine_name(run, "desktop-cpu"), []).append(run)
    return tuple(Machine(name=name, runs=tuple(own)) for name, own in groups.items())


def data(machines: Sequence[Machine]) -> dict[str, Any]:
    """Return every campaign as the page's script reads it."""
    rows = [_campaign(machine, run) for machine in machines for run in machine.runs]
    columns = tuple(rows[0]) if rows else ()
    return {"columns": columns, "rows": [tuple(row.values()) for row in rows]}


def _campaign(machine: Machine, run: Run) -> dict[str, Any]:
    header, found = run.header, drift.find(run)
    step = -(-len(found.windows) // WINDOWS) or 1
    columns, states = state_table(run)
    return {
        "campaign": str(header.get("campaign", run.path.stem)),
        "machine": machine.name,
        "device": str(header.get("device", "")),
        "started": str(header.get("started", ""))[:19].replace("T", " "),
        "cells": len(header.get("cells", ())),
        "end": run.end or "cut off",
        "steps": len(found.changes),
        "states": {"columns": [column.title for column in columns], "rows": _texts(columns, states)},
        "said": [*_settings(header), *drift.lines(found), *_troubles(run)],
        "pace": [(round(window.t_s, 1), round(window.pace, 4)) for window in found.windows[::step]],
        "command": command(header),
    }


def _texts(columns: Sequence[Column], rows: Sequence[Row]) -> list[list[str]]:
    def text(column: Column, row: Row) -> str:
        value = row.get(column.key)
        return interval(float(value), digits=column.digits) if isinstance(value, (int, float)) else str(value or "")

    return [[text(column, row) for column in columns] for row in rows]


def _settings(header: Mapping[str, Any]) -> list[str]:
    settings = header.get("settings") or {}
    said = [f"{key.removesuffix('_s').replace('_', ' ')} {value}" for key, value in settings.items() if value]
    imported = source(header)
    return [
        *([f"figures of {imported}, imported"] if imported else []),
        *([f"settings: {', '.join(said)}"] if said else []),
    ]


def _troubles(run: Run) -> list[str]:
    said = []
    if run.set_aside:
        said.append(f"{len(run.set_aside)} rounds set aside: {', '.join(dict.fromkeys(run.set_aside.values()))}")
    if run.pauses:
        said.append(f"{len(run.pauses)} pauses: {', '.join(dict.fromkeys(str(p.get('why', '')) for p in run.pauses))}")
    if run.resumes:
        said.append(f"taken up again {len(run.resumes)} times")
    return said


def command(header: Mapping[str, Any]) -> str:
    """Return the command that times the same again; empty for figures of another tool."""
    cells = header.get("cells", ())
    if header.get("source") or not cells:
        return ""
    parts = ["mobench", "run", *_things([cell["artifact"] for cell in cells])]
    for option, key in OPTIONS:
        values = sorted({_told(cell["target"].get(key, "")) for cell in cells} - {""})
        parts += [part for value in values if values != USUAL.get(key) for part in (f"--{option}", value)]
    settings = header.get("settings") or {}
    parts += ["--budget", f"{settings['budget_s']:g}"] if settings.get("budget_s") else []
    parts += ["--seed", str(settings["seed"])] if settings.get("seed") else []
    parts += ["--baseline", str(header["baseline"])] if header.get("baseline") else []
    return shlex.join(parts)


def _told(value: object) -> str:
    """Return a target's value as the command line takes it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _things(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what `mobench run` is to time: the zoo's networks by name, with their precisions; else the files."""
    networks = [artifact.get("network") or {} for artifact in artifacts]
    if all(network.get("family", "own") != "own" for network in networks):
        precisions = sorted({artifact["precision"] or "fp32" for artifact in artifacts})
        asked = [part for precision in precisions for part in ("--precision", precision)]
        return [*dict.fromkeys(str(network["label"]) for network in networks), *asked]
    files = list(dict.fromkeys(plain_path(artifact["path"]) for artifact in artifacts))
    return files if len(files) <= FILES else [*files[:FILES], "..."]


def section(machines: Sequence[Machine]) -> str:
    """Return the section: each machine's facts, and the table of campaigns."""
    blocks = "".join(
        folded(
            f"<strong>{e(machine.name)}</strong>: {len(machine.runs)} campaigns, {', '.join(map(e, machine.devices))}",
            _facts(machine),
            attributes=f'class="device" data-machine="{e(machine.name)}"',
            opened=number < 2,
        )
        for number, machine in enumerate(machines)
    )
    return (
        f"<p>Everything in this section is {badge('ours')}.</p>{blocks}"
        "<h3>Campaigns</h3><p>A campaign unfolds to the machine's clocks, temperatures and load before, during (the"
        " worst) and after it, the steps in its speed, and whether they cancel in the ratios.</p>"
        f'<div class="filters">{chooser("machine", "machine", [machine.name for machine in machines])}</div>'
        '<div class="scroll" role="region" tabindex="0" aria-label="Campaigns"><table id="campaigns"></table></div>'
        '<div id="campaigns-pager" class="pager"></div>'
    )


def _facts(machine: Machine) -> str:
    facts: dict[str, list[str]] = {}
    for run in machine.runs:
        for key, value in _flat(run.header.get("machine") or {}):
            if value not in facts.setdefault(key, []):
                facts[key].append(value)
    versions = sorted(
        {(k, v) for run in machine.runs for _, _, ready in run.sessions for k, v in ready.versions.items()}
    )
    facts["versions that ran"] = [", ".join(f"{name} {version}" for name, version in versions)]
    rows = [(e(key), items(some(values, VALUES)) if len(values) > 1 else e(values[0])) for key, values in facts.items()]
    return table(("what", "here"), rows, label=f"What {machine.name} is")


def _flat(machine: Mapping[str, Any], lead: str = "") -> Iterable[tuple[str, str]]:
    """Return a machine's facts as text, those within another with its name before theirs."""
    for key, value in machine.items():
        if key in PRIVATE or value is None or value in ("", [], {}):
            continue
        name = f"{lead}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value))
        else:
            yield name, "yes" if value is True else "no" if value is False else str(value)
