"""Changes of level in a noisy series of a few hundred values: where, how large, how sure. Pure functions on numbers.

Neighbouring values may be correlated over MEMORY values, and bursts of that length are no change. Levels are searched
for by circular binary segmentation (Olshen, Venkatraman, Lucito and Wigler, Biostatistics 2004,
doi:10.1093/biostatistics/kxh008): the stretch whose mean differs most from that of the rest, then the same within each
part. A stretch may lie at an end, so one step and a passing change are found alike. Their noise model, which knows no
correlation, is replaced: the standard error comes from differences of means over MEMORY values (as Wu and Zhao, J. R.
Stat. Soc. B 2007, doi:10.1111/j.1467-9868.2007.00594.x, estimate long-run variance where a trend may be), and every
value counts in so far as a burst cannot reach the threshold (Huber's clipping).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Interval = tuple[float, float]

MEMORY = 3  # values: over windows of a second, as long as a busy machine's bursts
MIN_LENGTH = 5  # values a level lasts at least
MIN_VALUES = 24  # with fewer the noise is not known well enough to call anything a change
# A stretch counts when its mean is this many standard errors off: white noise of 24 to 240 values gets there in under
# 1 % of series, and so does recorded noise of a busy machine (benchmarks/drift.py).
THRESHOLD = 5.0
# Values count at most this many standard errors of one from the median: three large ones in five do not reach the
# threshold, five do.
CLIP = 0.5 * THRESHOLD
TRIM = 0.2  # of the differences the noise is taken from, the largest: they may be steps
TRIMMED_MEAN = 0.5586  # of the absolute values of standard normal ones without the largest 20 %
TREND_Z = 2.81  # Kendall's test, two-sided, 0.5 %
MIN_TREND = 6  # independent values: with fewer no order of them is that rare
NOISE_FLOOR = 0.001  # of a logarithm: rounding and the clock; a series without any noise is no reason to divide by zero


def noise_scale(values: Values) -> float:
    """Return one value's share in the standard error of a mean: its long-run standard deviation."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means = (sums[MEMORY:] - sums[:-MEMORY]) / MEMORY
    differences = np.sort(np.abs(means[MEMORY:] - means[:-MEMORY]))
    kept = differences[: max(1, round(len(differences) * (1 - TRIM)))]
    if not len(kept):
        return NOISE_FLOOR
    return max(NOISE_FLOOR, float(kept.mean()) / TRIMMED_MEAN / math.sqrt(2) * math.sqrt(MEMORY))


def chunks(values: Values) -> list[Values]:
    """Cut consecutive values into parts of at least MEMORY (fewer only where there are no more)."""
    return np.array_split(values, max(1, len(values) // MEMORY))


def find(values: Values, least: float) -> list[int]:
    """Return where a new level begins (indices, ascending); none where there are fewer than MIN_VALUES.

    Args:
        values: shape [n], logarithms.
        least: a step between neighbouring levels that is smaller than this is no change.
    """
    if len(values) < MIN_VALUES:
        return []
    scale = noise_scale(values)
    found: list[int] = []
    parts = [(0, len(values))]
    while parts:
        start, end = parts.pop()
        arc = _strongest(values[start:end], scale)
        if arc:
            cuts = sorted({start, start + arc[0], start + arc[1], end})
            found += cuts[1:-1]
            parts += [(low, high) for low, high in pairwise(cuts)]
    return _pruned(values, sorted(found), scale, least)


def _strongest(values: Values, scale: float) -> tuple[int, int] | None:
    """Return begin and end of the stretch that differs most from the rest, if it does so enough."""
    n = len(values)
    if n < 2 * MIN_LENGTH:
        return None
    centred = values - np.median(values)
    sums = np.concatenate(([0.0], np.cumsum(np.clip(centred, -CLIP * scale, CLIP * scale))))
    begin, end = np.triu_indices(n + 1, MIN_LENGTH)
    rest = n - (end - begin)
    # What is left at either side is a level too, so it is nothing or long enough.
    fits = (rest >= MIN_LENGTH) & ((begin == 0) | (begin >= MIN_LENGTH)) & ((end == n) | (n - end >= MIN_LENGTH))
    begin, end, rest = begin[fits], end[fits], rest[fits]
    inside = sums[end] - sums[begin]
    length = end - begin
    score = np.abs(inside / length - (sums[-1] - inside) / rest) / np.sqrt(1 / length + 1 / rest) / scale
    best = int(np.argmax(score))
    return (int(begin[best]), int(end[best])) if score[best] > THRESHOLD else None


def _pruned(values: Values, cuts: list[int], scale: float, least: float) -> list[int]:
    """Drop, weakest first, every cut whose two neighbouring levels are too close to each other.

    A stretch is compared with all the rest, which may itself have levels: not each of its two ends need be a step.
    """
    while cuts:
        edges = [0, *cuts, len(values)]
        parts = [clipped(values[low:high], scale) for low, high in pairwise(edges)]
        steps = [abs(float(b.mean() - a.mean())) for a, b in pairwise(parts)]
        # 3 standard errors, not THRESHOLD: the places to look at are few by now.
        needed = [max(least, 3 * scale * math.sqrt(1 / len(a) + 1 / len(b))) for a, b in pairwise(parts)]
        margins = [step / need for step, need in zip(steps, needed, strict=True)]
        weakest = min(range(len(cuts)), key=margins.__getitem__)
        if margins[weakest] >= 1:
            break
        del cuts[weakest]
    return cuts


def clipped(values: Values, scale: float) -> Values:
    """Return one level's values with bursts cut to CLIP standard deviations from its median."""
    middle = float(np.median(values))
    return np.clip(values, middle - CLIP * scale, middle + CLIP * scale)


def trend(values: Values, times: Values) -> tuple[float, Interval] | None:
    """Return the change from first to last time along Theil and Sen's line, and its 95 % interval, if there is one.

    The test is Kendall's (0.5 %), the line and its interval are Sen's (J. Am. Stat. Assoc. 1968,
    doi:10.1080/01621459.1968.10480934): medians of the slopes between all pairs.
    """
    if len(values) < MIN_TREND * MEMORY:
        return None
    span = float(times[-1] - times[0])
    values = np.array([np.median(part) for part in chunks(values)])  # nearly independent, as the test wants them
    times = np.array([part.mean() for part in chunks(times)])
    n = len(values)
    first, second = np.triu_indices(n, 1)
    rise = values[second] - values[first]
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    if abs(float(np.sign(rise).sum())) < TREND_Z * spread:
        return None
    slopes = np.sort(rise / (times[second] - times[first]))
    low = max(0, int((len(slopes) - 1.96 * spread) / 2))
    high = len(slopes) - 1 - low
    return float(np.median(slopes)) * span, (float(slopes[low]) * span, float(slopes[high]) * span)


def line_fits_better(values: Values, times: Values, change: float, cuts: Sequence[int]) -> bool:
    """Return whether a line describes the values better than levels do, by Schwarz's criterion.

    (Yao, Stat. Probab. Lett. 1988, doi:10.1016/0167-7152(88)90118-6, for its use with change points.) A line has two
    parameters; levels have one each and one for each place between them.
    """
    scale = noise_scale(values)
    line = change * (times - times[0]) / (times[-1] - times[0])
    edges = [0, *cuts, len(values)]
    levels = np.concatenate([np.full(b - a, clipped(values[a:b], scale).mean()) for a, b in pairwise(edges)])

    def criterion(left: Values, parameters: int) -> float:
        squares = np.clip(left - np.median(left), -CLIP * scale, CLIP * scale) ** 2
        return len(left) * math.log(max(float(squares.mean()), NOISE_FLOOR**2)) + parameters * math.log(len(left))

    return criterion(values - line, 2) < criterion(values - levels, 2 * len(cuts) + 1)


def contrast(
    values: Values, groups: Sequence[int], after: NDArray[np.bool_], *, confidence: float = 0.95
) -> tuple[float, Interval | None]:
    """Return how much higher the values after are than those before, with an interval that knows of groups.

    Values of one group (an incarnation) share a random offset, and are independent otherwise. Both variances are
    estimated by analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992, chapter 3), and the
    difference's variance follows from them: an offset that lies on both sides cancels as far as it does. The interval
    is Student's, with the groups' degrees of freedom where their variance counts.

    Args:
        values: shape [n], logarithms.
        groups: each value's group.
        after: shape [n], which values come after; both sides have at least one.
        confidence: of the interval, 0 to 1.

    Returns:
        The difference, and its interval, or None where too few groups or values tell how sure it is.
    """
    from scipy.special import stdtrit  # imported here: most users need no interval

    sides = (~after, after)
    mean = [float(values[side].mean()) for side in sides]
    difference = mean[1] - mean[0]
    weights = np.where(after, 1 / after.sum(), -1 / (~after).sum())
    group = np.asarray(groups)
    cells = [side & (group == one) for side in sides for one in np.unique(group[side])]
    within = sum(float(((values[cell] - values[cell].mean()) ** 2).sum()) for cell in cells)
    around = sum(float(((values[side] - m) ** 2).sum()) for side, m in zip(sides, mean, strict=True))
    n, k = len(values), len(cells)
    if n <= 2:
        return difference, None
    if n == k or k == 2:  # one value a group, or nothing between groups to see: all noise counts as the values' own
        own, shared = around / (n - 2), 0.0
        if k == 2 and len(np.unique(group)) == 2 and n > k:
            return difference, None  # a group on each side: its offset cannot be told from the difference
    else:
        own = within / (n - k)
        unevenness = sum(sum(int(cell[side].sum()) ** 2 for cell in cells) / int(side.sum()) for side in sides)
        shared = max(0.0, (around - within - (k - 2) * own) / (n - unevenness))
    offsets = sum(float(weights[group == one].sum()) ** 2 for one in np.unique(group))
    error = math.sqrt(own * float((weights**2).sum()) + shared * offsets)
    freedom = k - 2 if shared and k > 2 else n - 2
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return difference, (difference - reach, difference + reach)
