"""Figures with intervals, and three-valued truth about them. Pure functions.

An interval of a combined figure is what interval arithmetic gives: at times wider than need be, never narrower. Two
rank correlations over the same networks are subtracted draw by draw, for they share their noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Holds = Literal["yes", "no", "open", "missing"]
TAIL = 0.025  # of a bootstrap's draws on each side of its interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One figure that is not there: a network's latency in a precision and place (`cpu`, `gpu`), or its accuracy."""

    network: str
    precision: str
    where: str


class MissingError(Exception):
    """A figure that an expression needs is not there: which cells would give it, and in words what is missing."""

    def __init__(self, needs: tuple[Need, ...], why: str) -> None:
        super().__init__(why)
        self.needs, self.why = needs, why


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A figure and its interval; an exact one has itself as both ends, one without interval all numbers.

    ``draws`` are a bootstrap's, over the networks ``over``.
    """

    figure: float
    low: float
    high: float
    draws: tuple[float, ...] = ()
    over: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the figure, with its interval where it is not exact; M stands for a million."""
        if self.low == self.high:
            return f"{self.figure / 1e6:.6g} M" if abs(self.figure) >= 1e6 else f"{self.figure:.6g}"
        ends = f" [{self.low:.4g}, {self.high:.4g}]" if math.isfinite(self.high - self.low) else " [no interval]"
        return f"{self.figure:.4g}{ends}"


def exact(figure: float) -> Value:
    """Return a figure that has no error."""
    return Value(figure=figure, low=figure, high=figure)


def from_draws(figure: float, draws: tuple[float, ...], over: tuple[str, ...]) -> Value:
    """Return a figure with the 95 % interval of its bootstrap draws (percentiles)."""
    low, high = np.nanquantile(draws, [TAIL, 1 - TAIL])
    return Value(figure=figure, low=float(low), high=float(high), draws=draws, over=over)


def combine(op: str, a: Value, b: Value) -> Value:
    """Return ``a op b`` for + - * /.

    Raises:
        ZeroDivisionError: the divisor may be zero.
    """
    act = _ACTS[op]
    if a.draws and b.draws and a.over == b.over:
        draws = tuple(act(x, y) for x, y in zip(a.draws, b.draws, strict=True))
        return from_draws(act(a.figure, b.figure), draws, a.over)
    if op == "/" and b.low <= 0 <= b.high:
        raise ZeroDivisionError
    ends = [act(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    known = [end for end in ends if not math.isnan(end)]
    if len(known) < len(ends):  # infinity less infinity: nothing is known
        known = [-math.inf, math.inf]
    return Value(figure=act(a.figure, b.figure), low=min(known), high=max(known))


_ACTS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Whether something holds, and what was looked at.

    ``more`` is, where it is open, how many times the measuring would decide it if the figure stayed where it is:
    infinite where it lies on the very threshold. ``needs`` and ``why`` say what is missing.
    """

    holds: Holds
    seen: tuple[str, ...] = ()
    more: float | None = None
    needs: tuple[Need, ...] = ()
    why: str = ""


def compare(a: Value, op: str, b: Value) -> Truth:
    """Return whether ``a op b`` (< <= > >=) holds over the whole interval of the difference, or nowhere in it."""
    if op in (">", ">="):
        return compare(b, op.replace(">", "<"), a)
    gap = combine("-", a, b)
    strict = op == "<"
    if gap.high < 0 or (gap.high == 0 and not strict):
        return Truth(holds="yes")
    if gap.low > 0 or (gap.low == 0 and strict):
        return Truth(holds="no")
    reach = gap.high - gap.figure if gap.figure < 0 else gap.figure - gap.low
    return Truth(holds="open", more=(reach / gap.figure) ** 2 if gap.figure else math.inf)


def both(truths: list[Truth]) -> Truth:
    """Return whether all hold: no where one does not, else missing, else open where one is."""
    return _fold(truths, ("no", "missing", "open", "yes"))


def either(truths: list[Truth]) -> Truth:
    """Return whether one holds: yes where one does, else missing, else open where one is."""
    return _fold(truths, ("yes", "missing", "open", "no"))


def opposite(truth: Truth) -> Truth:
    """Return whether it does not hold."""
    turned: Mapping[Holds, Holds] = {"yes": "no", "no": "yes", "open": "open", "missing": "missing"}
    return Truth(holds=turned[truth.holds], seen=truth.seen, more=truth.more, needs=truth.needs, why=truth.why)


def _fold(truths: list[Truth], order: tuple[Holds, ...]) -> Truth:
    found = {truth.holds for truth in truths}
    more = [truth.more for truth in truths if truth.more is not None]
    return Truth(
        holds=next(holds for holds in order if holds in found),
        seen=tuple(text for truth in truths for text in truth.seen),
        more=max(more) if more else None,
        needs=tuple(dict.fromkeys(need for truth in truths for need in truth.needs)),
        why="; ".join(dict.fromkeys(truth.why for truth in truths if truth.why)),
    )
