"""The machine's pace through a campaign: blocks into windows, and these into what is a cell's and what is common.

A window is a few whole rounds of one incarnation, about a second, or one round if that is longer. A cell's figure in a
window is the median over its rounds of the logarithm of the block's figure. Tukey's median polish (Exploratory Data
Analysis, 1977) parts these figures into one of the cell and one of the window, which is the pace: a cell that changes
alone is outvoted by the others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mobench.records import Block

WINDOW_S = 1.0
MAX_WINDOWS = 600  # of a long campaign: windows grow, so that finding changes stays a matter of seconds
_SWEEPS = 10  # of the median polish; it settles in two or three

_Key = tuple[int, int]  # incarnation, round


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figures:
    """A campaign by windows. All figures are natural logarithms; NaN where a cell was not live.

    ``logs`` [windows, cells] are the cells' figures of latency in ns, ``ratios`` [windows, cells] those of their ratio
    to the baseline, paired by round. ``pace`` [windows], of median 0, and ``levels`` [cells] are the parts of ``logs``.
    ``times`` [windows] are in seconds since the campaign began, ``rounds`` how many a window has.
    """

    cells: tuple[str, ...]
    incarnations: tuple[int, ...]
    rounds: tuple[int, ...]
    times: NDArray[np.float64]
    logs: NDArray[np.float64]
    ratios: NDArray[np.float64]
    pace: NDArray[np.float64]
    levels: NDArray[np.float64]


def read(blocks: Iterable[Block], baseline: str) -> Figures | None:
    """Return the steady blocks by windows; None where nothing was timed."""
    rounds: dict[_Key, dict[str, float]] = defaultdict(dict)
    starts: dict[_Key, float] = {}
    for block in blocks:
        if block.phase == "steady":
            key = block.incarnation, block.round
            rounds[key][block.cell] = math.log(median(block.wall_ns))
            starts[key] = min(block.t_s, starts.get(key, math.inf))
    if not rounds:
        return None
    cells = tuple(sorted({cell for figures in rounds.values() for cell in figures}))
    windows = _cut(starts)
    logs = np.array([[_median(rounds[key].get(cell) for key in window) for cell in cells] for window in windows])
    ratios = np.array(
        [[_median(_paired(rounds[key], cell, baseline) for key in window) for cell in cells] for window in windows]
    )
    pace, levels = _polish(logs)
    return Figures(
        cells=cells,
        incarnations=tuple(window[0][0] for window in windows),
        rounds=tuple(map(len, windows)),
        times=np.array([starts[window[0]] for window in windows]),
        logs=logs,
        ratios=ratios,
        pace=pace,
        levels=levels,
    )


def _cut(starts: Mapping[_Key, float]) -> list[list[_Key]]:
    """Return windows as lists of rounds, in time: each of one incarnation, and equally long within it."""
    ordered = sorted(starts, key=lambda key: starts[key])
    by_incarnation: dict[int, list[_Key]] = defaultdict(list)
    for key in ordered:
        by_incarnation[key[0]].append(key)
    length = max(WINDOW_S, (starts[ordered[-1]] - starts[ordered[0]]) / MAX_WINDOWS)
    windows: list[list[_Key]] = []
    for keys in by_incarnation.values():
        first, span = starts[keys[0]], starts[keys[-1]] - starts[keys[0]]
        count = max(1, int(span / length))
        parts: dict[int, list[_Key]] = defaultdict(list)
        for key in keys:
            parts[min(count - 1, int((starts[key] - first) / span * count) if span else 0)].append(key)
        windows += parts.values()
    return windows


def _median(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return median(known) if known else math.nan


def _paired(figures: Mapping[str, float], cell: str, baseline: str) -> float | None:
    return figures[cell] - figures[baseline] if cell in figures and baseline in figures else None


def _polish(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Part figures [windows, cells] into one a window, of median 0, and one a cell.

    Cells that memory keeps apart still share windows with the baseline, so all are on one scale. Where the baseline
    failed, cells that share no windows with others have a scale of their own.
    """
    pace, levels = np.zeros(len(logs)), np.zeros(logs.shape[1])
    there = ~np.isnan(logs)
    for part in _connected(there):
        live = there[:, part].any(axis=1)
        shared = logs[live][:, part]
        level = np.nanmedian(shared, axis=0)
        for _ in range(_SWEEPS):
            own = np.nanmedian(shared - level, axis=1)
            own -= np.median(own)
            level = np.nanmedian(shared - own[:, None], axis=0)
        pace[live], levels[part] = own, level
    return pace, levels


def _connected(there: NDArray[np.bool_]) -> list[list[int]]:
    """Return the sets of cells (columns) that share windows (rows), directly or through others."""
    left = set(range(there.shape[1]))
    parts = []
    while left:
        part = {min(left)}
        while more := {cell for cell in left - part if there[there[:, sorted(part)].any(axis=1), cell].any()}:
            part |= more
        parts.append(sorted(part))
        left -= part
    return parts
