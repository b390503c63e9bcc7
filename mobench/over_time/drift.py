"""Whether the machine changed its speed within a campaign, and whether that cancels in the ratios. A pure reader.

Steps in the machine's pace (`pace`), or a steady trend, are found by `change_points`. The proof that
one cancels is, for each cell, the quotient of its ratio to the baseline after and before. benchmarks/README.md has the
rate of false alarms, and what is found, on recorded noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobench.over_time import change_points, pace
from mobench.over_time.pace import Figures
from mobench.records import Block, Run

Interval = tuple[float, float]
Indices = NDArray[np.int_]  # of windows

MIN_CHANGE = 0.02  # smaller is of no interest: p50 is asked to 2 %
RATIO_MOVED = 0.005  # a ratio that moves less has not moved: ratios are asked to 1 %
CELL_MOVED = 0.05  # a cell that moves this much against the others is named
_SHOWN = 3  # changes told in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A few seconds of one incarnation. ``pace``: latency over the campaign's usual one; above 1 is slower."""

    incarnation: int
    t_s: float
    rounds: int
    pace: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioShift:
    """A cell's ratio to the baseline after a change over that before, with its 95 % interval.

    ``bound`` is the same interval at a confidence that holds for all cells at once (Bonferroni).
    """

    cell: str
    quotient: float
    quotient_ci: Interval | None
    bound: Interval | None

    @property
    def is_shown_to_move(self) -> bool:
        """Whether the ratio changed beyond noise, and by more than a ratio is asked to be known to at its best."""
        return self.bound is not None and (self.bound[0] > 1 + RATIO_MOVED or self.bound[1] < 1 - RATIO_MOVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The machine became slower or faster: at ``t_s``, or steadily from ``t_s`` to ``until_s`` (a trend).

    ``factor`` is latency after over before, by the windows of the level on either side. ``followed`` of ``cells`` cells
    changed the same way by at least half as much. ``ratios`` has the cells other than the baseline whose rounds were
    shared with it on both sides. Times are in seconds since the campaign began, to about a window.
    """

    kind: Literal["step", "trend"]
    t_s: float
    until_s: float | None
    factor: float
    factor_ci: Interval | None
    followed: int
    cells: int
    ratios: tuple[RatioShift, ...]

    @property
    def cancels(self) -> bool | None:
        """Whether no ratio changed beyond noise; None where there is no ratio to look at."""
        return not any(shift.is_shown_to_move for shift in self.ratios) if self.ratios else None

    @property
    def worst(self) -> RatioShift | None:
        """The ratio that moved for certain by most, else the one that is least sure not to have."""
        known = [shift for shift in self.ratios if shift.bound is not None]
        moved = [shift for shift in known if shift.is_shown_to_move]
        if moved:
            return max(moved, key=lambda shift: abs(math.log(shift.quotient)))
        return max(known, key=_reach, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What became of the machine's pace in a campaign."""

    verdict: Literal["steady", "changed", "too short"]
    baseline: str
    windows: tuple[Window, ...]
    changes: tuple[Change, ...]


def find(run: Run) -> Drift:
    """Return the changes of the machine's speed in a campaign.

    With fewer than 24 windows only the first third is compared with the last, with fewer than 9 nothing is.
    """
    baseline = str(run.header.get("baseline", ""))
    figures = pace.read(run.blocks, baseline)
    third = len(figures.times) // 3 if figures else 0
    if figures is None or third < change_points.MEMORY:
        return Drift(verdict="too short", baseline=baseline, windows=_windows(figures), changes=())
    times = figures.times
    before, after = np.arange(third), np.arange(len(times) - third, len(times))
    cuts = change_points.find(figures.pace, math.log(1 + MIN_CHANGE))
    line = change_points.trend(figures.pace, times)
    if line and abs(line[0]) > MIN_CHANGE and change_points.line_fits_better(figures.pace, times, line[0], cuts):
        changes = [_change(figures, baseline, before, after, line)]
    elif len(times) < change_points.MIN_VALUES:
        between = compare(figures, figures.pace, before, after, confidence=0.99)
        large = between is not None and abs(between[0]) > MIN_CHANGE and between[1] is not None
        changes = [_change(figures, baseline, before, after, between)] if large else []
    else:
        edges = [0, *cuts, len(times)]
        changes = [
            _change(figures, baseline, np.arange(low, at), np.arange(at, high))
            for low, at, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
    common = tuple(change for change in changes if _is_common(change))
    return Drift(
        verdict="changed" if common else "steady", baseline=baseline, windows=_windows(figures), changes=common
    )


def moved(blocks: Iterable[Block]) -> dict[str, float]:
    """Return the cells that became slower or faster against the others, and by what share of their latency.

    The first third of a cell's windows is compared with the last, against the machine's pace, which one cell of three
    or more cannot sway. Of two cells the one is named whose own latency changed more; a single one is taken as it is. A
    change counts beyond 5 % and beyond noise: by the interval (for all cells at once), or by the test for a trend.
    """
    figures = pace.read(blocks, "")
    if figures is None:
        return {}
    count = len(figures.cells)
    own = figures.logs - figures.levels
    found: dict[str, float] = {}
    for number, cell in enumerate(figures.cells):
        machine = {1: np.zeros(len(own)), 2: own[:, number - 1]}.get(count, figures.pace)
        against = own[:, number] - machine
        live = np.flatnonzero(~np.isnan(against))
        third = len(live) // 3
        if third < change_points.MEMORY:
            continue
        before, after = live[:third], live[-third:]
        difference = compare(figures, against, before, after, confidence=1 - 0.05 / count)
        if difference is None:
            continue
        certain = difference[1] is not None and not difference[1][0] <= 0 <= difference[1][1]
        if not certain and change_points.trend(against[live], figures.times[live]) is None:
            continue
        alone, theirs = (abs(np.median(v[after]) - np.median(v[before])) for v in (own[:, number], machine))
        if abs(math.expm1(difference[0])) > CELL_MOVED and (count != 2 or alone >= theirs):
            found[cell] = math.expm1(difference[0])
    return found


def lines(drift: Drift) -> list[str]:
    """Return what to tell under a campaign's table; nothing where the machine was steady or too little was seen."""
    told = []
    for change in drift.changes[:_SHOWN]:
        when = (
            f"at about {change.t_s:.0f} s"
            if change.kind == "step"
            else f"from {change.t_s:.0f} to {change.until_s:.0f} s"
        )
        which = "slower" if change.factor > 1 else "faster"
        subject = "the machine" if change.cells > 1 else "the machine, or the only model,"
        verb = "became" if change.kind == "step" else "became steadily"
        told.append(
            f"{when} {subject} {verb} {_share(change.factor, change.factor_ci, sign=False)} {which}; "
            f"{_proof(change, drift.baseline)}"
        )
    if len(drift.changes) > _SHOWN:
        told.append(f"and {len(drift.changes) - _SHOWN} more changes of speed (--json has all)")
    return told


def as_fields(drift: Drift) -> dict[str, Any]:
    """Return the record as JSON takes it, with each change's verdict and worst cell spelled out."""
    fields = dataclasses.asdict(drift)
    fields["changes"] = [
        {**dataclasses.asdict(change), "cancels": change.cancels, "worst": change.worst.cell if change.worst else None}
        for change in drift.changes
    ]
    return fields


def _proof(change: Change, baseline: str) -> str:
    worst = change.worst
    if change.cancels is None:
        return "there is no ratio to look at"
    if worst is None or worst.bound is None:
        return "too few starts to tell whether it cancels in the ratios"
    by = _share(worst.quotient, worst.bound, sign=True)
    if change.cancels:
        return f"it cancels in the ratios: none changed beyond noise (at the most {worst.cell}'s to {baseline}: {by})"
    count = sum(shift.is_shown_to_move for shift in change.ratios)
    others = f", and {count - 1} more did" if count > 1 else ""
    return f"it does not cancel: {worst.cell}'s ratio to {baseline} changed by {by}{others}"


def _share(factor: float, interval: Interval | None, *, sign: bool) -> str:
    """Return a factor as percent with its interval; without a sign, by how much in the factor's own direction."""
    turn = 1 if sign or factor >= 1 else -1
    form = "+.1f" if sign else ".1f"
    ends = sorted(turn * 100 * (end - 1) for end in interval) if interval else []
    text = f"{turn * 100 * (factor - 1):{form}} %"
    return f"{text} [{', '.join(f'{end:{form}}' for end in ends)}]" if ends else text


def _reach(shift: RatioShift) -> float:
    return max(abs(math.log(end)) for end in shift.bound) if shift.bound else 0.0


def _is_common(change: Change) -> bool:
    """Whether it is a change of the machine's: more than half of the cells took part (of two, both), and for certain.

    A start's luck with memory looks like a change of level where there is one cell or two: hence the interval.
    """
    certain = change.factor_ci is None or not change.factor_ci[0] <= 1 <= change.factor_ci[1]
    return certain and change.followed > change.cells / 2


def _change(
    figures: Figures, baseline: str, before: Indices, after: Indices, line: tuple[float, Interval | None] | None = None
) -> Change:
    """Return one change between two sets of windows: its size, who took part, and what became of the ratios."""
    between = compare(figures, figures.pace, before, after) or (0.0, None)
    own = [compare(figures, column, before, after) for column in figures.logs.T]
    shifts = [shift[0] for shift in own if shift]
    others = [number for number, cell in enumerate(figures.cells) if cell != baseline]
    ratios = []
    for number in others:
        column = figures.ratios[:, number]
        usual = compare(figures, column, before, after)
        strict = compare(figures, column, before, after, confidence=1 - 0.05 / len(others))
        if usual and strict:
            ratios.append(
                RatioShift(
                    cell=figures.cells[number],
                    quotient=math.exp(usual[0]),
                    quotient_ci=_exponential(usual[1]),
                    bound=_exponential(strict[1]),
                )
            )
    size, interval = line or between
    return Change(
        kind="trend" if line else "step",
        t_s=round(float(figures.times[0 if line else after[0]]), 3),
        until_s=round(float(figures.times[-1]), 3) if line else None,
        factor=math.exp(size),
        factor_ci=_exponential(interval),
        followed=sum(shift * between[0] > 0 and abs(shift) >= abs(between[0]) / 2 for shift in shifts),
        cells=len(shifts),
        ratios=tuple(ratios),
    )


def compare(
    figures: Figures, values: NDArray[np.float64], before: Indices, after: Indices, *, confidence: float = 0.95
) -> tuple[float, Interval | None] | None:
    """Return by how much values [windows] differ between two sets of windows; None where a side has none.

    Bursts are clipped, and neighbouring windows of one incarnation taken together until they are nearly independent.
    """
    known = values[~np.isnan(values)]
    scale = change_points.noise_scale(known) if len(known) >= change_points.MIN_VALUES else math.inf
    figure: list[float] = []
    group: list[int] = []
    is_after: list[bool] = []
    for side in (before, after):
        live = side[~np.isnan(values[side])]
        if not len(live):
            return None
        flat = change_points.clipped(values[live], scale)
        incarnations = np.array([figures.incarnations[window] for window in live])
        for incarnation in np.unique(incarnations):
            parts = change_points.chunks(flat[incarnations == incarnation])
            figure += [float(part.mean()) for part in parts]
            group += [int(incarnation)] * len(parts)
            is_after += [side is after] * len(parts)
    return change_points.contrast(np.array(figure), group, np.array(is_after), confidence=confidence)


def _exponential(interval: Interval | None) -> Interval | None:
    return (math.exp(interval[0]), math.exp(interval[1])) if interval else None


def _windows(figures: Figures | None) -> tuple[Window, ...]:
    if figures is None:
        return ()
    columns = zip(figures.incarnations, figures.times, figures.rounds, figures.pace, strict=True)
    return tuple(
        Window(incarnation=incarnation, t_s=round(float(t_s), 3), rounds=rounds, pace=math.exp(value))
        for incarnation, t_s, rounds, value in columns
    )
