"""Sustained load: what minutes without a pause do to latency, the machine's speed and the ranking. A pure reader.

A sustained campaign has one start of every cell and rounds for its whole length. A cell's figure in a minute is the
geometric mean of its medians over six slices of 10 s; the interval is Student's over these slices, which are longer
than the noise's memory (batch means: Schmeiser, Operations Research 1982, doi:10.1287/opre.30.3.556). It knows nothing
of what differs between two starts: ratios between minutes are sound, ratios between cells are those of these processes.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median
from typing import Any, Literal

import numpy as np

from mobench.errors import BadInputError
from mobench.over_time import change_points, drift, pace
from mobench.records import DeviceState, Run
from mobench.stats import block_ns, log_interval

Interval = tuple[float, float]

MINUTE_S = 60.0
LAST_MINUTE_S = 30.0  # a last minute that is shorter counts for nothing
SLICE_S = 10.0
THROTTLED = 0.05  # slower than this to the end
CLOCK_FELL = 0.05  # share by which a clock or its cap is lower
WARMER_C = 5.0
SHARE_ROSE = 0.10  # of the machine's CPU time


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A cell's median over about 10 s that begin ``t_s`` seconds after the first round."""

    cell: str
    t_s: float
    p50_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """A cell in one minute, counted from 1. ``to_first`` is its latency over that in the first minute."""

    cell: str
    minute: int
    n_blocks: int
    p50_ms: float
    p50_ci_ms: Interval | None
    to_first: float
    to_first_ci: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """The machine was more than 5 % slower than in the first minute from ``t_s`` on, and stayed so to the end.

    ``factor`` compares all that came after with the first minute. ``cause`` is "throttling" where clocks, their caps,
    temperatures or the system's own word say so, "others" where other programs or the hypervisor took the time, and
    else "unknown"; ``signs`` are what it was concluded from.
    """

    t_s: float
    factor: float
    factor_ci: Interval | None
    cause: Literal["throttling", "others", "unknown"]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Two cells that changed places: ``overtaken`` was the faster one in the first minute, and is not in the last.

    Ratios are of ``overtaken`` over ``other``, paired by round. A swap is certain when neither interval holds 1.
    """

    overtaken: str
    other: str
    first: float
    first_ci: Interval | None
    last: float
    last_ci: Interval | None

    @property
    def is_certain(self) -> bool:
        """Whether it is beyond noise."""
        return all(ci is not None and not ci[0] <= 1 <= ci[1] for ci in (self.first_ci, self.last_ci))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """A sustained campaign: ``cells`` in the order asked for, those that ran; the rest in their order, then in time."""

    seconds: float
    cells: tuple[str, ...]
    slices: tuple[Slice, ...]
    minutes: tuple[Minute, ...]
    slowdown: Slowdown | None
    swaps: tuple[Swap, ...]

    def of(self, cell: str) -> list[Minute]:
        """Return a cell's minutes."""
        return [minute for minute in self.minutes if minute.cell == cell]


def is_sustained(run: Run) -> bool:
    """Return whether a campaign is one of sustained load."""
    return bool(run.header.get("settings", {}).get("sustain_s"))


def series(run: Run) -> Sustained:
    """Return the minutes of a sustained campaign, its slowdown and who changed places.

    Raises:
        BadInputError: the campaign is no sustained load, or nothing was timed in it.
    """
    name = str(run.header.get("campaign", run.path))
    if not is_sustained(run):
        raise BadInputError(f"{name} is no sustained load", "its starts begin cool again", "run one with --sustain 10m")
    blocks = [block for block in run.blocks if block.phase == "steady"]
    if not blocks:
        raise BadInputError(f"{name} holds nothing to show", "no round was timed", "see its failures")
    began = min(block.t_s for block in blocks)
    lasted = max(block.t_s for block in blocks) - began
    figures: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))  # cell, slice, round
    for block in blocks:
        number = int((block.t_s - began) // SLICE_S)
        if number == 0 or (number + 0.5) * SLICE_S <= lasted:  # the last one may be too short to count
            figures[block.cell][number][block.round] = math.log(block_ns(block) / 1e6)
    whole = int(lasted // MINUTE_S)
    count = max(1, whole + (lasted - whole * MINUTE_S >= LAST_MINUTE_S))
    asked = [cell["id"] for cell in run.header.get("cells", ())]
    cells = tuple(sorted(figures, key=lambda cell: (asked.index(cell) if cell in asked else len(asked), cell)))
    minutes = tuple(minute for cell in cells for minute in _minutes(cell, figures[cell], count))
    return Sustained(
        seconds=round(lasted, 3),
        cells=cells,
        slices=tuple(
            Slice(cell=cell, t_s=index * SLICE_S, p50_ms=math.exp(median(values.values())))
            for cell in cells
            for index, values in sorted(figures[cell].items())
        ),
        minutes=minutes,
        slowdown=_slowdown(run, minutes, began),
        swaps=tuple(_swaps(figures, minutes, count)),
    )


def lines(sustained: Sustained) -> list[str]:
    """Return what to tell under the tables: whether the machine slowed down and why, and who changed places."""
    told = []
    slow = sustained.slowdown
    if slow:
        interval = f" [{', '.join(f'{100 * (end - 1):.1f}' for end in slow.factor_ci)}]" if slow.factor_ci else ""
        why = {
            "throttling": "it throttled",
            "others": "the time went to others",
            "unknown": "neither clocks nor temperatures nor others' load tell why",
        }[slow.cause]
        told.append(
            f"from {clock(slow.t_s)} to the end the machine was {100 * (slow.factor - 1):.1f} %{interval} slower than "
            f"in the first minute: {'; '.join((why, *slow.signs))}"
        )
    else:
        told.append(f"no lasting slowdown of the machine beyond {THROTTLED:.0%}")
    for swap in sustained.swaps:
        sure = "beyond noise" if swap.is_certain else "within noise"
        told.append(
            f"{swap.other} overtook {swap.overtaken} ({sure}): {swap.overtaken} over {swap.other} was "
            f"{_ratio(swap.first, swap.first_ci)} in the first minute, {_ratio(swap.last, swap.last_ci)} in the last"
        )
    return told


def as_fields(sustained: Sustained) -> dict[str, Any]:
    """Return the record as JSON takes it."""
    fields = dataclasses.asdict(sustained)
    fields["swaps"] = [{**dataclasses.asdict(swap), "is_certain": swap.is_certain} for swap in sustained.swaps]
    return fields


def clock(t_s: float) -> str:
    """Return a time since the load began as minutes and seconds.

    >>> clock(185.2)
    '3:05'
    """
    return f"{round(t_s) // 60}:{round(t_s) % 60:02d}"


def _ratio(value: float, interval: Interval | None) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else f"{value:.3f}"


def _in_minute(slices: Mapping[int, Any], minute: int) -> list[int]:
    """Return the slices of a minute (from 1) that a cell has."""
    size = round(MINUTE_S / SLICE_S)
    return [index for index in range((minute - 1) * size, minute * size) if index in slices]


def _minutes(cell: str, slices: Mapping[int, Mapping[int, float]], count: int) -> Iterable[Minute]:
    """Return a cell's minutes, none from where it died on."""
    first: list[float] = []
    for minute in range(1, count + 1):
        inside = _in_minute(slices, minute)
        logs = [median(slices[index].values()) for index in inside]
        if not logs:
            continue
        first = first or logs
        p50, interval = log_interval([math.exp(value) for value in logs], [])
        difference, span = _difference(first, logs) if minute > 1 else (0.0, None)
        yield Minute(
            cell=cell,
            minute=minute,
            n_blocks=sum(len(slices[index]) for index in inside),
            p50_ms=p50,
            p50_ci_ms=interval,
            to_first=math.exp(difference),
            to_first_ci=(math.exp(span[0]), math.exp(span[1])) if span else None,
        )


def _difference(before: Sequence[float], after: Sequence[float]) -> tuple[float, Interval | None]:
    values = np.array([*before, *after])
    is_after = np.arange(len(values)) >= len(before)
    return change_points.contrast(values, [0] * len(values), is_after)


def _swaps(
    figures: Mapping[str, Mapping[int, Mapping[int, float]]], minutes: Sequence[Minute], count: int
) -> Iterable[Swap]:
    by_minute: dict[int, dict[str, float]] = defaultdict(dict)
    for minute in minutes:
        by_minute[minute.minute][minute.cell] = minute.p50_ms
    for one, two in combinations(by_minute[1], 2) if count > 1 else ():
        if not {one, two} <= set(by_minute[count]):
            continue
        ratios = [_paired(figures[one], figures[two], minute) for minute in (1, count)]
        if ratios[0] is None or ratios[1] is None or (ratios[0][0] - 1) * (ratios[1][0] - 1) >= 0:
            continue
        if ratios[0][0] > 1:
            one, two = two, one
            ratios = [_paired(figures[one], figures[two], minute) for minute in (1, count)]
        (first, first_ci), (last, last_ci) = (ratio or (math.nan, None) for ratio in ratios)
        yield Swap(overtaken=one, other=two, first=first, first_ci=first_ci, last=last, last_ci=last_ci)


def _paired(
    one: Mapping[int, Mapping[int, float]], two: Mapping[int, Mapping[int, float]], minute: int
) -> tuple[float, Interval | None] | None:
    """Return one cell's latency over another's in a minute, paired by round, with its interval over slices."""
    values = []
    for index in _in_minute(one, minute):
        shared = one[index].keys() & two.get(index, {}).keys()
        if shared:
            values.append(math.exp(median(one[index][number] - two[index][number] for number in shared)))
    return log_interval(values, []) if values else None


def _slowdown(run: Run, minutes: Sequence[Minute], began: float) -> Slowdown | None:
    """Return the lasting slowdown of the machine, if more than half of the cells (of two, both) show it in the end."""
    figures = pace.read(run.blocks, "")
    if figures is None:
        return None
    last = max(minute.minute for minute in minutes)
    ended = [minute.to_first for minute in minutes if minute.minute == last]
    if sum(quotient > 1 + THROTTLED / 2 for quotient in ended) <= len(ended) / 2:
        return None
    cuts = change_points.find(figures.pace, math.log(1 + drift.MIN_CHANGE))
    first = np.flatnonzero(figures.times < began + MINUTE_S)
    edges = [0, *cuts, len(figures.pace)]
    if cuts and cuts[0] < len(first):  # the machine slowed down within the first minute: what it was before is meant
        first = first[: cuts[0]]
    usual = float(np.median(figures.pace[first]))
    start = None
    for low, high in reversed(list(pairwise(edges[1:]))):
        if float(np.median(figures.pace[low:high])) - usual <= math.log(1 + THROTTLED):
            break
        start = low
    if start is None:
        return None
    size = drift.compare(figures, figures.pace, first, np.arange(start, len(figures.pace)))
    if size is None or (size[1] is not None and size[1][0] <= 0):
        return None
    t_s = float(figures.times[start])
    cause, signs = _why(run.states, t_s)
    return Slowdown(
        t_s=round(t_s - began, 3),
        factor=math.exp(size[0]),
        factor_ci=(math.exp(size[1][0]), math.exp(size[1][1])) if size[1] else None,
        cause=cause,
        signs=signs,
    )


def _why(
    states: Sequence[DeviceState], t_s: float
) -> tuple[Literal["throttling", "others", "unknown"], tuple[str, ...]]:
    """Compare the machine's states under load before and after a time: clocks, caps, temperatures, others' load."""
    loaded = [state for state in states if state.when == "during"]
    before = [state for state in loaded if state.t_s < t_s]
    after = [state for state in loaded if state.t_s >= t_s]
    slow, hot = list(_clock_signs(before, after)), list(_heat_signs(before, after))
    busy = [
        f"{who} took {then:.0%} of the CPU before, {now:.0%} after"
        for who, key in (("other programs", "others_share"), ("the hypervisor", "steal_share"))
        if (then := _middle(before, key)) is not None
        and (now := _middle(after, key)) is not None
        and now - then >= SHARE_ROSE
    ]
    # A machine under load gets warmer anyway: heat counts where nothing else explains what happened.
    cause: Literal["throttling", "others", "unknown"] = "unknown"
    if slow or (hot and not busy):
        cause = "throttling"
    elif busy:
        cause = "others"
    return cause, (*slow, *hot, *busy)


def _clock_signs(before: Sequence[DeviceState], after: Sequence[DeviceState]) -> Iterable[str]:
    for key, what in (("freq_khz", "the clock"), ("cap_khz", "the cap on the clock")):
        then, now = _clocks(before, key), _clocks(after, key)
        for cores in then.keys() & now.keys():
            old, new = median(then[cores]), median(now[cores])
            if new < old * (1 - CLOCK_FELL):
                span = f"{cores[0]}-{cores[-1]}" if len(cores) > 1 else f"{cores[0]}"
                yield f"{what} of core {span} fell from {old / 1e3:,.0f} to {new / 1e3:,.0f} MHz"
    words = {state.thermal_status for state in after} - {state.thermal_status for state in before} - {None, "none"}
    if words:
        yield f"the system reported {', '.join(sorted(str(word) for word in words))} throttling"


def _clocks(states: Sequence[DeviceState], key: str) -> dict[tuple[int, ...], list[int]]:
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for state in states:
        for cluster in state.clusters:
            if (value := getattr(cluster, key)) is not None:
                found[cluster.cores].append(value)
    return found


def _heat_signs(before: Sequence[DeviceState], after: Sequence[DeviceState]) -> Iterable[str]:
    sensors = {name for state in before for name in state.temps_c} & {name for state in after for name in state.temps_c}
    rises = []
    for name in sensors:
        coolest = min(state.temps_c[name] for state in before if name in state.temps_c)
        hottest = max(state.temps_c[name] for state in after if name in state.temps_c)
        rises.append((hottest - coolest, name, coolest, hottest))
    rise, name, coolest, hottest = max(rises, default=(0.0, "", 0.0, 0.0))
    if rise >= WARMER_C:
        yield f"{name} rose from {coolest:.0f} to {hottest:.0f} °C"


def _middle(states: Sequence[DeviceState], key: str) -> float | None:
    known = [value for state in states if (value := getattr(state, key)) is not None]
    return median(known) if known else None
