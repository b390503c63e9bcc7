"""Fronts under uncertainty: how likely a point is on its front, the hypervolume, the knee. Pure functions, seeded.

Every figure here is a share, or a quantile, of DRAWS draws of what the truth may be (`mobench.front_draws`).
(Calibration: benchmarks/front_coverage.py.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobench.front_draws import DRAWS, SEED, Draws, Matrix, draw
from mobench.pareto import Contest, Point, front
from mobench.stats import Interval

BAND_DRAWS = 1000
MANY = 250  # points, from which DRAWS would take seconds


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
