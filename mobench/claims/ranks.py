"""Networks in order, as claims ask: rank correlations with a bootstrap's interval, and how many pairs change places.

A bootstrap's draw takes as many networks of the place, with replacement, and moves each latency by its own error: so an
interval speaks of networks like these, and is wide where they are few. Equal axes share their draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from mobench.claims.networks import counted, in_zoo, is_known
from mobench.claims.places import WHERE, Place
from mobench.claims.values import MissingError, Value, from_draws
from mobench.zoo.spec import get

MIN_NETWORKS = 8  # for a rank correlation to say anything
DRAWS = 2000
AXES = ("macs", "params", *WHERE)
_NORMAL = 1.96  # half-widths of a 95 % interval in standard deviations
_Array = npt.NDArray[np.float64]


def _networks(place: Place, names: Sequence[str]) -> tuple[str, ...]:
    """Return the networks of a place that have a figure on each axis, in FP32."""
    every = dict.fromkeys(network for network, precision, _ in place.latencies if precision == "fp32")
    return tuple(network for network in every if all(_on_axis(place, network, axis) for axis in names))


def _on_axis(place: Place, network: str, axis: str) -> Value | None:
    if axis in WHERE:
        key = (network, "fp32", axis)
        return place.latencies.get(key) if key in place.ranked else None
    if not is_known(network):
        return None
    try:
        return counted(network, axis)
    except MissingError:
        return None


def rank_of(place: Place, network: str, x: str, y: str) -> Value:
    """Return the rank correlation of two axes over one network's widths, depths and sizes."""
    return _correlation(place, x, y, lambda name: in_zoo(name) and get(name).name == network)


def rank(place: Place, x: str, y: str) -> Value:
    """Return the rank correlation of two axes over a place's networks. Raises MissingError where they are few."""
    return _correlation(place, x, y, lambda name: True)


def _correlation(place: Place, x: str, y: str, wanted: Callable[[str], bool]) -> Value:
    devices = [axis for axis in WHERE if any(key[2] == axis for key in place.ranked)]
    lacking = [axis for axis in (x, y) if axis in WHERE and axis not in devices]
    if lacking:
        raise MissingError((), f"latencies on {' and '.join(lacking)} of {MIN_NETWORKS} networks")
    names = tuple(filter(wanted, _networks(place, (x, y))))
    if len(names) < MIN_NETWORKS:
        raise MissingError((), f"{len(names)} networks with {x} and {y}, {MIN_NETWORKS} are needed")
    columns = [[_on_axis(place, name, axis) for name in names] for axis in (x, y)]
    values = [[value for value in column if value is not None] for column in columns]
    return correlation(values[0], values[1], names, (AXES.index(x), AXES.index(y)))


def correlation(x: Sequence[Value], y: Sequence[Value], names: tuple[str, ...], seeds: tuple[int, int]) -> Value:
    """Return Spearman's rank correlation of two columns, a figure a network, with its bootstrap interval.

    Args:
        x: one column.
        y: the other.
        names: the networks.
        seeds: of either column's noise; the same seed gives the same draws.
    """
    columns = (x, y)
    logs = [np.log([value.figure for value in column]) for column in columns]
    figure = spearman(logs[0][None, :], logs[1][None, :])[0]
    picks = np.random.default_rng(0).integers(0, len(names), size=(DRAWS, len(names)))
    noisy = [_noisy(column, log, seed)[np.arange(DRAWS)[:, None], picks]
             for column, log, seed in zip(columns, logs, seeds, strict=True)]  # fmt: skip
    draws = spearman(*noisy)
    return from_draws(float(figure), tuple(map(float, draws)), names)


def _noisy(column: Sequence[Value], logs: _Array, seed: int) -> _Array:
    """Return draws of a column's logarithms, each figure moved by its own error: the same for the same axis."""
    errors = [math.log(v.high / v.low) / (2 * _NORMAL) if 0 < v.low < v.high < math.inf else 0.0 for v in column]
    moved: _Array = logs + np.random.default_rng((1, seed)).standard_normal((DRAWS, len(column))) * errors
    return moved


def spearman(x: _Array, y: _Array) -> _Array:
    """Return the rank correlation of each row of ``x`` with that of ``y``; NaN where all of a row is the same."""
    from scipy.stats import rankdata  # a tenth of a second

    rx, ry = (rankdata(each, axis=1) for each in (x, y))
    rx, ry = (each - each.mean(axis=1, keepdims=True) for each in (rx, ry))
    scale = np.sqrt((rx**2).sum(axis=1) * (ry**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: _Array = (rx * ry).sum(axis=1) / scale
    return found


def inverted(place: Place, x: str, y: str) -> Value:
    """Return how many pairs are inverted; its interval is from those beyond noise to those that may be.

    Raises:
        MissingError: the place has no two networks on both.
    """
    pairs = _pairs(place, x, y)
    if not pairs:
        raise MissingError((), f"two networks with both {x} and {y}")
    turned = sum((a.figure - 1) * (b.figure - 1) < 0 for *_, a, b in pairs)
    sure = sum(a.high < 1 < b.low or b.high < 1 < a.low for *_, a, b in pairs)
    same = sum((a.high < 1 and b.high < 1) or (a.low > 1 and b.low > 1) for *_, a, b in pairs)
    return Value(figure=float(turned), low=float(sure), high=float(len(pairs) - same))


def _pairs(place: Place, x: str, y: str) -> list[tuple[str, str, Value, Value]]:
    """Return each pair of networks with its ratio on both axes."""

    def over(one: str, other: str, axis: str) -> Value:
        return place.ratio((one, "fp32", axis), (other, "fp32", axis))

    pairs = combinations(_networks(place, (x, y)), 2)
    return [(one, other, over(one, other, x), over(one, other, y)) for one, other in pairs]
