"""A campaign as flat rows, for tables and files: a row a cell, a block or a state of the machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from mobench.errors import MissingExtraError
from mobench.records import Block, DeviceState, Imported, Run
from mobench.report.tables import Column, Row
from mobench.results import machine, source
from mobench.stats import P99_SAMPLES, Summary, summarize

_FIELDS = [field.name for field in dataclasses.fields(Summary)]
# p50_ms has its interval in p50_ci_ms, ratio in ratio_ci.
_INTERVALS = {name.replace("_ci", ""): name for name in _FIELDS if "_ci" in name}
_FIRST = ("campaign", "started", "machine", "source")
_ONLY_IMPORTED = ("mean_ms", "min_ms", "max_ms", "std_ms", "warmup_ms", "resolution_ms", "notes")
_LAST = ("journal", "end")
# What a file has of a cell: all that `mobench run --json` says, and what only imported ones have.
CELL_COLUMNS = tuple(
    Column(key=key, title=key, ci=_INTERVALS.get(key, ""))
    for key in (*_FIRST, *(name for name in _FIELDS if "_ci" not in name), *_ONLY_IMPORTED, *_LAST)
)
BLOCK_COLUMNS = tuple(
    Column(key=key, title=key)
    for key in ("campaign", "source", *(field.name for field in dataclasses.fields(Block)), "latency_ms")
)


def cell_rows(
    run: Run, cells: Collection[str], summarized: Callable[[Run], Iterable[Summary]] = summarize
) -> list[dict[str, Any]]:
    """Return a row for each of the given cells: its ``Summary``, where it comes from and, of imports, their figures.

    ``summarized`` gives a campaign's summaries, for who has them already.
    """
    context = _context(run) | {"journal": str(run.path), "end": run.end}
    imported = {one.cell: one for one in run.imported}
    rows = []
    for summary in summarized(run):
        if summary.cell not in cells:
            continue
        row = dataclasses.asdict(summary) | context | {"doubts": tuple(d.name for d in summary.doubts)}
        row |= {"network": (summary.network or {}).get("name"), "sha256": summary.sha256 or None}
        row["weights"] = json.dumps(summary.weights) if summary.weights else None
        row["providers"] = json.dumps(summary.providers) if summary.providers else None
        if summary.cell in imported:
            row |= _imported(imported[summary.cell])
        rows.append(row)
    return rows


def _imported(one: Imported) -> dict[str, Any]:
    """Return an imported cell's figures by the names ours have; p50 is the median the tool gives, or its samples'."""
    times = [ns / 1e6 for ns in one.samples_ns]
    given = one.percentiles_ms
    return {
        "p50_ms": median(times) if times else given.get("p50"),
        "p90_ms": float(np.quantile(times, 0.9)) if times else given.get("p90"),
        "p99_ms": (float(np.quantile(times, 0.99)) if len(times) >= P99_SAMPLES else None)
        if times
        else given.get("p99"),
        "mean_ms": one.mean_ms,
        "min_ms": one.min_ms,
        "max_ms": one.max_ms,
        "std_ms": one.std_ms,
        "init_ms": one.init_ms,
        "first_ms": one.first_ms,
        "warmup_ms": one.warmup_ms,
        "peak_rss_mb": one.memory_mb.get("peak"),
        "nodes_delegated": one.nodes_delegated,
        "nodes_total": one.nodes_total,
        "incarnations": 1,
        "n_inferences": one.count,
        "resolution_ms": one.resolution_ms,
        "notes": one.notes,
    }


def block_rows(run: Run, cells: Collection[str]) -> list[dict[str, Any]]:
    """Return a row for each block of the given cells; of an import, one for each inference whose time is given."""
    context = {key: value for key, value in _context(run).items() if key in ("campaign", "source")}
    rows = [
        context | dataclasses.asdict(block) | {"latency_ms": median(block.wall_ns) / 1e6}
        for block in run.blocks
        if block.cell in cells
    ]
    for one in run.imported:
        if one.cell in cells:
            known = {"cell": one.cell, "incarnation": 0, "phase": "steady"}
            rows += [
                dict.fromkeys(column.key for column in BLOCK_COLUMNS)
                | context
                | known
                | {"round": number, "wall_ns": (ns,), "latency_ms": ns / 1e6}
                for number, ns in enumerate(one.samples_ns)
            ]
    return rows


def _context(run: Run) -> dict[str, Any]:
    return {
        "campaign": run.header.get("campaign"),
        "started": run.header.get("started"),
        "machine": machine(run.header) or None,
        "source": source(run.header) or None,
    }


# Android's words, mildest first
_THROTTLING = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
STATE_COLUMNS = (
    Column(key="when", title="state"),
    Column(key="t_s", title="s", digits=0, align="right"),
    Column(key="clock_ghz", title="clock GHz", align="right"),
    Column(key="cap_ghz", title="cap GHz", align="right"),
    Column(key="hottest_c", title="hottest C", digits=0, align="right"),
    Column(key="thermal_status", title="throttling"),
    Column(key="load_1m", title="load", digits=1, align="right"),
    Column(key="others_percent", title="others %", digits=0, align="right"),
    Column(key="steal_percent", title="stolen %", digits=0, align="right"),
    Column(key="power", title="power"),
)


def state_table(run: Run) -> tuple[list[Column], list[Row]]:
    """Return what the machine did before, at its worst during, and after a campaign, in the columns with a value."""
    rows: list[Row] = []
    for when in ("before", "during", "after"):
        states = [state for state in run.states if state.when == when]
        if states:
            rows.append({"when": when if len(states) == 1 else f"{when}, worst of {len(states)}", **_worst(states)})
    return [c for c in STATE_COLUMNS if any(row.get(c.key) is not None for row in rows)], rows


def _worst(states: Sequence[DeviceState]) -> dict[str, Any]:
    """Return the lowest clocks (of each state's fastest cores) and the highest of all else."""
    statuses = [state.thermal_status for state in states if state.thermal_status]
    return {
        "t_s": states[0].t_s if len(states) == 1 else None,
        "clock_ghz": _least(max((c.freq_khz for c in s.clusters if c.freq_khz), default=None) for s in states),
        "cap_ghz": _least(max((c.cap_khz for c in s.clusters if c.cap_khz), default=None) for s in states),
        "hottest_c": _most(max(state.temps_c.values(), default=None) for state in states),
        "thermal_status": max(statuses, key=_severity, default=None),
        "load_1m": _most(state.load_1m for state in states),
        "others_percent": _most(s.others_share * 100 if s.others_share is not None else None for s in states),
        "steal_percent": _most(s.steal_share * 100 if s.steal_share is not None else None for s in states),
        "power": "battery" if any(state.power == "battery" for state in states) else states[-1].power,
    }


def _severity(status: str) -> int:
    return _THROTTLING.index(status) if status in _THROTTLING else len(_THROTTLING)


def _least(khz: Iterable[int | None]) -> float | None:
    known = [value for value in khz if value is not None]
    return min(known) / 1e6 if known else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def parquet(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as a Parquet file: a column each, an interval as two, ``_low`` and ``_high``, as in CSV.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pyarrow") from error
    import pandas as pd

    table: dict[str, Any] = {}
    for column in columns:
        values = [_listed(row.get(column.key)) for row in rows]
        integers = None in values and {type(value) for value in values} == {int, type(None)}
        table[column.key] = pd.array(values, dtype="Int64") if integers else values  # else they would become floats
        if column.ci:
            for end, name in enumerate(("low", "high")):
                table[f"{column.ci}_{name}"] = [ci[end] if (ci := row.get(column.ci)) else None for row in rows]
    return pd.DataFrame(table).to_parquet(engine="pyarrow", index=False)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
