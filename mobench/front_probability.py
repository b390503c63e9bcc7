"""Fronts under uncertainty: how likely a point is on its front, the hypervolume, the knee. Pure functions, seeded.

A draw is one way in which the truth may be, given what was measured; every figure here is a share, or a quantile, of
DRAWS of them.

Latency: the logarithm of p50 is a Student t about what was measured, with as many degrees of freedom as starts less
one. Cells of one campaign went through the same starts, and their deviations in each start are drawn together, so that
the ratio of any two is drawn as its paired t-interval over starts has it (`mobench compare` pairs by round, which is a
little narrower); campaigns are independent of each other. Without starts it is log-normal with the given interval.

Accuracy: a measured one is drawn from the Beta posterior of its binomial (Jeffreys); a published one is exact. What
shares a file and a runtime shares the draw; what was measured on the same images is correlated by SAME_NETWORK or
SAME_IMAGES. A network's measured accuracy is first pulled towards the others' by as much as its few images leave open
(`_pulls`), for the best of many is in part the luckiest; without that, front points would be called doubtful too often.
(Calibration: benchmarks/front_coverage.py.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobench.pareto import Contest, Point, front
from mobench.stats import Interval

Matrix = npt.NDArray[np.float64]

SEED = 0
DRAWS = 4000  # a probability of 0.5 is then known to 0.8 points (one standard error)
BAND_DRAWS = 1000
MANY = 250  # points, from which DRAWS would take seconds
MIN_NETWORKS = 4  # from which the scatter of their accuracies about a line is known well enough to use
# Correlation of two files' hits on the same images, at the lower end of what benchmarks/README.md found: what a file
# gets right is for a part the image's merit. Too low a figure makes probabilities too cautious, not too bold.
SAME_IMAGES = 0.4  # of other networks
SAME_NETWORK = 0.9  # of one network in another precision or runtime
_Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile
_GRID = np.linspace(-5.0, 5.0, 201)  # of a normal deviate; a Beta's quantile function is too slow to call every draw


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontFigures:
    """What is said of one front as a whole.

    ``hypervolume`` is the area between the front and the ``reference`` (ms, top-1 in percent), in ms times points of
    top-1; its interval is at 95 %. ``knee`` is the point of the front farthest from the line between the front's ends,
    over the logarithm of latency; ``knee_probability`` the share of draws in which it is the knee. None where there
    are fewer than two points, or three on the front.
    """

    size: int
    reference: tuple[float, float]
    hypervolume: float | None
    hypervolume_ci: Interval | None
    knee: Point | None
    knee_probability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The probability of each point, in the order asked, and the figures of each front.

    A probability is None for a point that takes no part, and for one whose latency has no interval.
    """

    on_front: tuple[float | None, ...]
    fronts: Mapping[Contest, FrontFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Latency (ms) and accuracy (percent) of N points in D draws, both [D, N]."""

    latency_ms: Matrix
    accuracy: Matrix


def outlook(
    points: Sequence[Point], *, reference: tuple[float, float] | None = None, draws: int = 0, seed: int = SEED
) -> Outlook:
    """Return how likely each point is on the front of its contest, and what can be said of each front.

    Args:
        points: as `mobench.pareto.front` takes them.
        reference: of the hypervolume, in ms and percent; the slowest latency and the lowest accuracy of the contest's
            points where None. Fronts of two campaigns are only comparable against one given reference.
        draws: their number; 0 means DRAWS, or a quarter of them where the points are many.
        seed: of the draws. The order of the points changes nothing.
    """
    draws = draws or (DRAWS if len(points) <= MANY else DRAWS // 4)
    chances: list[float | None] = [None] * len(points)
    fronts = {}
    for contest, places in contests(points).items():
        members = [points[i] for i in places]
        drawn = draw(members, draws=draws, seed=seed)
        shares = on_front(drawn).mean(axis=0)
        for i, share in zip(places, shares, strict=True):
            chances[i] = float(share) if has_spread(points[i]) else None
        fronts[contest] = _figures(members, drawn, reference)
    return Outlook(on_front=tuple(chances), fronts=fronts)


def contests(points: Sequence[Point]) -> dict[Contest, list[int]]:
    """Return the places of the points that compete, by contest."""
    found: dict[Contest, list[int]] = {}
    for i, point in enumerate(points):
        if point.competes:
            found.setdefault(point.contest, []).append(i)
    return found


def has_spread(point: Point) -> bool:
    """Return whether anything is known of how far a point's latency may be off."""
    return len(point.starts_ms) > 2 or point.latency_ci_ms is not None


def draw(points: Sequence[Point], *, draws: int = DRAWS, seed: int = SEED) -> Draws:
    """Draw latencies and accuracies of points that have both. Each source of error has its own stream of numbers.

    So a point's draws do not hang on which other points there are, or in what order.
    """
    streams = _Streams(draws, seed)
    latency = [np.exp(_log_latency(point, streams)) for point in points]
    pulls = _pulls(points)
    accuracy = [_accuracy(point, pulls.get(point.label, _Pull()), streams) for point in points]
    shape = len(points), draws
    return Draws(latency_ms=np.reshape(np.array(latency), shape).T, accuracy=np.reshape(np.array(accuracy), shape).T)


class _Streams:
    """Normal deviates by the name of what they are of; the same name gives the same ones."""

    def __init__(self, draws: int, seed: int) -> None:
        self.draws, self.seed = draws, seed
        self._known: dict[tuple[object, ...], Matrix] = {}

    def normal(self, *name: object) -> Matrix:
        if name not in self._known:
            self._known[name] = self._source(name).standard_normal(self.draws)
        return self._known[name]

    def scale(self, freedom: int, *name: object) -> Matrix:
        """What a normal deviate is divided by to become Student's t."""
        named = ("scale", freedom, *name)
        if named not in self._known:
            self._known[named] = np.sqrt(self._source(named).chisquare(freedom, self.draws) / freedom)
        return self._known[named]

    def _source(self, name: tuple[object, ...]) -> np.random.Generator:
        digest = hashlib.sha256(repr((self.seed, name)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _log_latency(point: Point, streams: _Streams) -> Matrix:
    middle = np.full(streams.draws, math.log(point.latency_ms))
    where = (point.machine, point.campaign)
    count = len(point.starts_ms)
    if count > 2:
        logs = [math.log(value) for _, value in point.starts_ms]
        mean = math.fsum(logs) / count
        away = sum(
            (log - mean) * streams.normal("start", *where, start)
            for (start, _), log in zip(point.starts_ms, logs, strict=True)
        )
        scale = math.sqrt(count * (count - 1)) * streams.scale(count - 1, *where)
        return np.asarray(middle + away / scale)
    if point.latency_ci_ms is None:
        return middle
    low, high = point.latency_ci_ms
    half = math.log(high / low) / 2 if low > 0 else math.log(high / point.latency_ms)
    return middle + half / _Z95 * streams.normal("cell", *where, point.full_label, point.artifact)


def _accuracy(point: Point, pull: _Pull, streams: _Streams) -> Matrix:
    if point.accuracy is None or not _is_drawn(point) or point.accuracy_ci is None:
        return np.full(streams.draws, point.accuracy or 0.0)
    from scipy.special import betaincinv, ndtr  # here, as in mobench.stats: most users of this package need none

    images = point.accuracy_set
    file = (point.artifact or point.full_label, point.runtime, point.accuracy_source)
    deviate = (
        math.sqrt(SAME_IMAGES) * streams.normal("images", images)
        + math.sqrt((SAME_NETWORK - SAME_IMAGES) * pull.share) * streams.normal("network", images, point.label)
        + math.sqrt(1 - SAME_NETWORK) * streams.normal("file", images, *file)
    )
    n = trials(point.accuracy, point.accuracy_ci)
    hits = point.accuracy / 100 * n
    quantiles = 100 * betaincinv(hits + 0.5, n - hits + 0.5, ndtr(_GRID))
    return np.asarray(np.clip(np.interp(deviate, _GRID, quantiles) + pull.shift, 0.0, 100.0))


def _is_drawn(point: Point) -> bool:
    return point.accuracy_ci is not None and point.accuracy_ci[0] < point.accuracy_ci[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pull:
    """How far a network's accuracies move towards the line, in points, and the share of its variance that is left."""

    shift: float = 0.0
    share: float = 1.0


def _pulls(points: Sequence[Point]) -> dict[str, _Pull]:
    """Return, by network, what the other networks say of its accuracy (empirical Bayes; Efron and Morris, 1975).

    The best of many measured accuracies is the best for a part by luck. So each network's mean accuracy is pulled
    towards the line of all over the logarithm of their latencies, by the share of the scatter about that line which
    the images explain. The precisions of a network move together. With fewer than MIN_NETWORKS nothing moves.
    """
    networks: dict[str, list[Point]] = {}
    for point in points:
        if _is_drawn(point):
            networks.setdefault(point.label, []).append(point)
    if len(networks) < MIN_NETWORKS:
        return {}
    names = sorted(networks)
    x = np.array([np.mean([math.log(p.latency_ms) for p in networks[name]]) for name in names])
    y = np.array([np.mean([p.accuracy or 0.0 for p in networks[name]]) for name in names])
    own = (SAME_NETWORK - SAME_IMAGES) * np.array([np.mean([_variance(p) for p in networks[name]]) for name in names])
    line = np.stack([np.ones_like(x), x], axis=1)
    coefficients = np.linalg.lstsq(line, y, rcond=None)[0]
    away = y - line @ coefficients
    scatter = float(np.sum(away**2)) / (len(names) - 2)
    real = max(0.0, scatter - float(np.mean(own)))
    share = real / (real + own)
    return {
        name: _Pull(shift=float(-(1 - b) * r), share=float(b)) for name, b, r in zip(names, share, away, strict=True)
    }


def _variance(point: Point) -> float:
    """Of a measured accuracy, in points squared."""
    accuracy, ci = point.accuracy or 0.0, point.accuracy_ci
    return accuracy * (100 - accuracy) / trials(accuracy, ci) if ci else 0.0


def trials(accuracy: float, ci: Interval) -> float:
    """Return the number of images behind an accuracy, from its 95 % Wilson interval (both in percent).

    Each end P of the interval solves (share - P)^2 = z^2 P (1 - P) / n.

    >>> from mobench.accuracy import wilson
    >>> round(trials(88.4, wilson(442, 500)), 6)
    500.0
    """
    share = accuracy / 100
    end = max(ci, key=lambda bound: abs(bound - accuracy)) / 100
    return _Z95**2 * end * (1 - end) / (share - end) ** 2


def on_front(drawn: Draws) -> npt.NDArray[np.bool_]:
    """Return which points are on the front in each draw, [D, N]; points equal in both stand together."""
    order, latency, accuracy = _sorted(drawn)
    best = np.maximum.accumulate(accuracy, axis=1)
    before = np.concatenate([np.full((len(best), 1), -np.inf), best[:, :-1]], axis=1)
    leads = accuracy > before
    places = np.broadcast_to(np.arange(leads.shape[1]), leads.shape)
    leader = np.maximum.accumulate(np.where(leads, places, 0), axis=1)
    twins = (accuracy == np.take_along_axis(accuracy, leader, 1)) & (latency == np.take_along_axis(latency, leader, 1))
    found = np.zeros_like(leads)
    np.put_along_axis(found, order, leads | twins, axis=1)
    return found


def _sorted(drawn: Draws) -> tuple[npt.NDArray[np.intp], Matrix, Matrix]:
    """Return the order of the points by latency, the more accurate of equals first, and both figures in it."""
    order = np.lexsort((-drawn.accuracy, drawn.latency_ms), axis=1)
    return order, np.take_along_axis(drawn.latency_ms, order, 1), np.take_along_axis(drawn.accuracy, order, 1)


def hypervolume(drawn: Draws, reference: tuple[float, float]) -> Matrix:
    """Return the area between front and reference in each draw, [D]: of latencies up to it, what lies above it."""
    _, latency, accuracy = _sorted(drawn)
    slowest, least = reference
    ends = np.minimum(np.concatenate([latency, np.full((len(latency), 1), slowest)], axis=1), slowest)
    height = np.maximum(np.maximum.accumulate(accuracy, axis=1) - least, 0.0)
    return np.asarray(np.sum(np.diff(ends, axis=1) * height, axis=1))


def knees(drawn: Draws) -> npt.NDArray[np.intp]:
    """Return the place of the knee in each draw, [D]; -1 where the front has fewer than three points."""
    front_of = on_front(drawn)
    x, y = np.log(drawn.latency_ms), drawn.accuracy
    rows = np.arange(len(x))
    first = np.argmin(np.where(front_of, x, np.inf), axis=1)
    last = np.argmax(np.where(front_of, y, -np.inf), axis=1)
    run = np.maximum(x[rows, last] - x[rows, first], 1e-12)[:, None]
    rise = np.maximum(y[rows, last] - y[rows, first], 1e-12)[:, None]
    above = (y - y[rows, first][:, None]) / rise - (x - x[rows, first][:, None]) / run
    above = np.where(front_of, above, -np.inf)
    return np.where(front_of.sum(axis=1) < 3, -1, np.argmax(above, axis=1))


def band(points: Sequence[Point], latencies_ms: Sequence[float]) -> tuple[Matrix, Matrix]:
    """Return between which accuracies the front of one contest lies at each latency, in 95 % of draws.

    Where in more than 2.5 % of the draws nothing is so fast, the lower one is minus infinity.
    """
    drawn = draw(points, draws=BAND_DRAWS)
    best = [np.where(drawn.latency_ms <= ms, drawn.accuracy, -np.inf).max(axis=1) for ms in latencies_ms]
    low, high = np.quantile(np.array(best), (0.025, 0.975), axis=1, method="closest_observation")
    return low, high


def _as_measured(points: Sequence[Point]) -> Draws:
    """The figures themselves, as if they were the only draw."""
    return Draws(
        latency_ms=np.array([[point.latency_ms for point in points]]),
        accuracy=np.array([[point.accuracy or 0.0 for point in points]]),
    )


def _figures(points: Sequence[Point], drawn: Draws, reference: tuple[float, float] | None) -> FrontFigures:
    # The order of the points must not tell between equals.
    order = sorted(range(len(points)), key=lambda i: (points[i].latency_ms, points[i].full_label, repr(points[i])))
    points = [points[i] for i in order]
    drawn = Draws(latency_ms=drawn.latency_ms[:, order], accuracy=drawn.accuracy[:, order])
    measured = _as_measured(points)
    against = reference or (max(p.latency_ms for p in points), min(p.accuracy or 0.0 for p in points))
    area: float | None = None
    ci: Interval | None = None
    if len(points) > 1 or reference:
        area = float(hypervolume(measured, against)[0])
        low, high = np.quantile(hypervolume(drawn, against), (0.025, 0.975))
        ci = (float(low), float(high))
    knee = int(knees(measured)[0])
    return FrontFigures(
        size=sum(bool(standing.on_front) for standing in front(points)),
        reference=against,
        hypervolume=area,
        hypervolume_ci=ci,
        knee=points[knee] if knee >= 0 else None,
        knee_probability=float(np.mean(knees(drawn) == knee)) if knee >= 0 else None,
    )
