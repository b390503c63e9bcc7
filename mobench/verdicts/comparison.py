"""Is B slower than A, and how sure is that: the ratio of two timed cells, its interval, a verdict. Pure functions.

Ratio is always the latency of B over that of A: below 1, B is faster. What it rests on, strongest first:

- ``paired``: both were timed in the same rounds of one campaign, so what slows the machine slows both.
- ``through``: each is paired with a baseline cell of its own campaign, the same file in the same runtime in both. What
  changed between the campaigns for one model and not for the other is not in the interval.
- ``unpaired``: p50 against p50. Whatever changed between the campaigns is in the ratio, and not in the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mobench.errors import BadInputError
from mobench.records import Block, Run
from mobench.stats import (
    CONFIDENCE,
    MIN_INCARNATIONS,
    Interval,
    estimate,
    figure_ns,
    incarnation_figures,
    paired_values,
)
from mobench.verdicts.comparability import Difference, HeaderCell, differences, identity
from mobench.verdicts.matching import Match

Basis = Literal["paired", "through", "unpaired"]
Verdict = Literal["faster", "slower", "no difference", "undecided"]
NO_DIFFERENCE = 0.01  # the change that counts as none, as a share, where the user does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is known of the latency of ``b`` over that of ``a``.

    ``campaigns`` are those it rests on: one where the two were paired. ``baseline`` is the cell that a ``through``
    comparison goes through. ``incarnations`` are the starts that the interval is over, of the campaign with fewer of
    them; ``measured_s`` is how long the campaigns took. ``more_s`` is about how much longer an undecided one would
    take, if the ratio stays where it is; None where that cannot be told. ``differences`` are what else is not alike.
    """

    a: str
    b: str
    ratio: float
    ratio_ci: Interval | None
    confidence: float
    basis: Basis
    baseline: str
    campaigns: tuple[str, ...]
    incarnations: int
    measured_s: float
    verdict: Verdict
    more_s: float | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """A ratio with its interval, and the cells that both rest on."""

    match: Match
    ratio: float
    interval: Interval | None
    basis: Basis
    baseline: str = ""
    incarnations: int


def compare(
    match: Match,
    *,
    no_difference: float = NO_DIFFERENCE,
    confidence: float = CONFIDENCE,
    cpu: bool = False,
) -> Comparison | None:
    """Compare cell A of a match with its cell B.

    Args:
        match: the cells, of one campaign or of two.
        no_difference: a ratio within 1 / (1 + this) to 1 + this is no difference that matters.
        confidence: of the interval.
        cpu: compare the CPU time of the thread instead of wall clock: for cells of one thread only.

    Returns:
        None where one of the two was never timed.

    Raises:
        BadInputError: the CPU time of a cell with several threads, of which only one's is recorded.
    """
    for cell in (match.cell_a, match.cell_b):
        if cpu and cell["target"]["threads"] != 1:
            why = f"it has {cell['target']['threads']} threads, and only the calling one's is recorded"
            raise BadInputError(f"the CPU time of {cell['id']}", why, "compare wall clock")
    found = _strongest(match, confidence, cpu)
    if found is None:
        return None
    rests = found.match
    runs = [rests.one] if rests.one is rests.other else [rests.one, rests.other]
    measured_s = sum(_length_s(run) for run in runs)
    verdict, longer_s = judge(found.ratio, found.interval, found.incarnations, measured_s, no_difference)
    return Comparison(
        a=match.a,
        b=match.b,
        ratio=found.ratio,
        ratio_ci=found.interval,
        confidence=confidence,
        basis=found.basis,
        baseline=found.baseline,
        campaigns=tuple(str(run.header.get("campaign", run.path.stem)) for run in runs),
        incarnations=found.incarnations,
        measured_s=measured_s,
        verdict=verdict,
        more_s=longer_s,
        differences=differences(rests.one, rests.other, rests.cell_a, rests.cell_b),
    )


def judge(
    ratio: float,
    interval: Interval | None,
    incarnations: int,
    measured_s: float,
    no_difference: float = NO_DIFFERENCE,
) -> tuple[Verdict, float | None]:
    """Return the verdict on an interval, and about how much longer an undecided one would take, s.

    The interval comes first to exclude 1, or to lie within what counts as no difference. Fewer than five starts decide
    nothing, however narrow the interval is.

    >>> judge(1.03, (1.01, 1.05), 6, 20.0)
    ('slower', None)
    >>> judge(1.0, (0.98, 1.02), 6, 20.0)[0]
    'undecided'
    """
    if incarnations < MIN_INCARNATIONS or interval is None:
        return "undecided", measured_s * (MIN_INCARNATIONS / incarnations - 1)
    low, high = interval
    if 1 / (1 + no_difference) <= low and high <= 1 + no_difference:
        return "no difference", None
    if low > 1:
        return "slower", None
    if high < 1:
        return "faster", None
    away = abs(math.log(ratio))
    return "undecided", more_s(interval, max(away, math.log1p(no_difference) - away), measured_s)


def more_s(interval: Interval, needed: float, measured_s: float) -> float | None:
    """Return about how much longer to measure until the interval's half-width is ``needed`` (on the log scale).

    Half-widths shrink with the square root of the time. None where no time would do.
    """
    if needed <= 0:
        return None
    now = math.log(interval[1] / interval[0]) / 2
    return measured_s * max(0.0, (now / needed) ** 2 - 1)


def longer(more_s: float | None) -> str:
    """Say how much longer an undecided comparison would take.

    >>> longer(45), longer(600), longer(1e6), longer(None)
    ('about 45 s more', 'about 10 min more', 'longer than a day', 'it cannot be told how much longer it would take')
    """
    if more_s is None:
        return "it cannot be told how much longer it would take"
    for most, unit_s, unit in ((99.5, 1, "s"), (99.5 * 60, 60, "min"), (24 * 3600, 3600, "h")):
        if more_s < most:
            return f"about {max(1, math.ceil(round(more_s / unit_s, 6)))} {unit} more"
    return "longer than a day"


def percent(share: float) -> str:
    """Return a share in percent.

    >>> percent(0.03), percent(0.005)
    ('3 %', '0.5 %')
    """
    return f"{100 * share:.3g} %"


def said(comparison: Comparison, no_difference: float = NO_DIFFERENCE) -> str:
    """Return the verdict in words."""
    if comparison.verdict == "undecided":
        return f"undecided: {longer(comparison.more_s)}"
    return {
        "faster": "B is faster",
        "slower": "B is slower",
        "no difference": f"no difference beyond {percent(no_difference)}",
    }[comparison.verdict]


def basis(comparison: Comparison) -> str:
    """Return what a comparison rests on, in words."""
    return f"through {comparison.baseline}" if comparison.basis == "through" else comparison.basis


def _strongest(match: Match, confidence: float, cpu: bool) -> _Estimate | None:
    """Return the ratio on the strongest basis there is."""
    one, other = match.one, match.other
    together = [match] if one is other else []
    if one is not other and identity(one, match.cell_a) != identity(other, match.cell_b):
        # Where one campaign timed the other's file as well, the two were paired there.
        together += [replace(match, one=other, a=twin) for twin in _twins(one, match.cell_a, other)]
        together += [replace(match, other=one, b=twin) for twin in _twins(other, match.cell_b, one)]
    paired = (_paired(candidate, confidence, cpu) for candidate in together)
    found = next(filter(None, paired), None)
    return found or _through(match, confidence, cpu) or _unpaired(match, confidence, cpu)


def _paired(match: Match, confidence: float, cpu: bool) -> _Estimate | None:
    """Compare two cells of one campaign in the rounds that timed both."""
    values = paired_values(_steady(match.other, match.b), _steady(match.one, match.a), cpu=cpu)
    found = estimate(values, confidence=confidence)
    if found is None:
        return None
    starts = len({incarnation for incarnation, _ in values})
    return _Estimate(match=match, ratio=found[0], interval=found[1], basis="paired", incarnations=starts)


def _through(match: Match, confidence: float, cpu: bool) -> _Estimate | None:
    """Compare through a cell that both campaigns timed in the rounds of A and of B: the baselines come first."""
    one, other = match.one, match.other
    wanted = [one.header.get("baseline"), other.header.get("baseline")]
    known = {identity(other, cell): cell["id"] for cell in reversed(other.header["cells"])}
    shared = [(cell["id"], known[key]) for cell in one.header["cells"] if (key := identity(one, cell)) in known]
    shared.sort(key=lambda pair: min(wanted.index(name) if name in wanted else len(wanted) for name in pair))
    for mine, theirs in shared:
        if mine == match.a or theirs == match.b:
            continue  # it would be compared with itself
        first = incarnation_figures(paired_values(_steady(one, match.a), _steady(one, mine), cpu=cpu))
        second = incarnation_figures(paired_values(_steady(other, match.b), _steady(other, theirs), cpu=cpu))
        if first and second:
            return _apart(match, first, second, confidence, "through", mine)
    return None


def _unpaired(match: Match, confidence: float, cpu: bool) -> _Estimate | None:
    """Compare p50 with p50."""
    first, second = (
        incarnation_figures((block.incarnation, figure_ns(block, cpu=cpu)) for block in _steady(run, cell))
        for run, cell in ((match.one, match.a), (match.other, match.b))
    )
    return _apart(match, first, second, confidence, "unpaired") if first and second else None


def _apart(
    match: Match, first: Sequence[float], second: Sequence[float], confidence: float, basis: Basis, baseline: str = ""
) -> _Estimate:
    ratio, interval = welch(first, second, confidence)
    starts = min(len(first), len(second))
    return _Estimate(match=match, ratio=ratio, interval=interval, basis=basis, baseline=baseline, incarnations=starts)


def welch(first: Sequence[float], second: Sequence[float], confidence: float) -> tuple[float, Interval | None]:
    """Return the geometric mean of ``second`` over that of ``first``, with the interval of Welch's t-test on the logs.

    The two may spread differently, and be of different number (Welch, Biometrika 34, 1947). No interval below three
    figures on either side.
    """
    logs = [[math.log(value) for value in figures] for figures in (first, second)]
    means = [math.fsum(values) / len(values) for values in logs]
    difference = means[1] - means[0]
    if min(len(first), len(second)) < 3:
        return math.exp(difference), None
    # The squared standard error of each mean.
    squares = [
        math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)
        for values, mean in zip(logs, means, strict=True)
    ]
    error = math.sqrt(sum(squares))
    if error == 0:
        return math.exp(difference), (math.exp(difference), math.exp(difference))
    freedom = sum(squares) ** 2 / sum(s**2 / (len(v) - 1) for s, v in zip(squares, logs, strict=True))
    from scipy.special import stdtrit  # imported here, as in stats: half of the users need no interval

    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return math.exp(difference), (math.exp(difference - half), math.exp(difference + half))


def _twins(run: Run, cell: HeaderCell, other: Run) -> list[str]:
    """Return the cells of ``other`` that are the very thing that ``cell`` of ``run`` is."""
    wanted = identity(run, cell)
    return [twin["id"] for twin in other.header["cells"] if identity(other, twin) == wanted]


def was_timed(run: Run, cell_id: str) -> bool:
    """Whether a campaign has a figure of a cell."""
    return any(block.cell == cell_id and block.phase == "steady" for block in run.blocks)


def _steady(run: Run, cell_id: str) -> list[Block]:
    return [block for block in run.blocks if block.cell == cell_id and block.phase == "steady"]


def _length_s(run: Run) -> float:
    return max((block.t_s for block in run.blocks), default=0.0)
