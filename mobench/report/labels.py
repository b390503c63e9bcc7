"""Put labels beside points in a plot so that none covers another, a point or an error bar. Pure and deterministic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Directions in which a label may lie from its point, dearest last: above and right are read first.
DIRECTIONS = (
    *((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)),
    *((1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)),
    *((0.5, 1.0), (-0.5, 1.0), (0.5, -1.0), (-0.5, -1.0)),
)
DIRECTION_COST = 0.04
STEPS = tuple(0.15 + 0.25 * step for step in range(17))  # distances tried, in label heights
LEADER_FROM = 1.2  # label heights from its point at which a label needs a line to it
MISTAKEN_FROM = 0.3  # the same where a stranger's point is nearer
LINE_COST = 3.0  # lying on a line costs as much as being this many heights further away
STRANGER_COST = 0.8  # so does being nearer to a stranger's point than to one's own
MAX_ANCHORS = 12  # points of one label that are tried; more only take time


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An upright rectangle in pixels, y upwards."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text's size in pixels and the points it may stand beside."""

    width: float
    height: float
    anchors: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a label's box lies, and the point it belongs to; ``leader`` when it needs a line to that point.

    ``away`` is how far it is from that point's marker, in heights of the label.
    """

    box: Box
    anchor: tuple[float, float]
    leader: bool
    away: float


Boxes = NDArray[np.float64]  # n x 4: x0, y0, x1, y1


def place(
    labels: Sequence[Label],
    *,
    marker_radius: float,
    markers: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    lines: Sequence[Box],
    frame: Box,
) -> tuple[Placement | None, ...]:
    """Return a place for each label, earlier labels choosing first; None where no free place is near enough.

    A label never covers a marker, an obstacle or another label and never leaves the frame; it avoids ``lines`` and
    the neighbourhood of other labels' markers where it can.
    """
    blocked = _array([_around(x, y, marker_radius) for x, y in markers] + list(obstacles))
    soft = _array(lines)
    centres = np.array(markers, dtype=float).reshape(-1, 2)
    placed: list[Placement | None] = []
    for label in labels:
        best = _best(label, marker_radius, centres, blocked, soft, frame)
        placed.append(best)
        if best is not None:
            blocked = np.vstack([blocked, _array([best.box])])
    return tuple(placed)


def spread(wanted: Sequence[float], step: float, low: float, high: float) -> tuple[float, ...]:
    """Return places on a line ``step`` or more apart, in the order wanted and as near to it as squares tell.

    They lie between ``low`` and ``high``; where there is no room for all, they run over ``high``.

    >>> spread([0.0, 0.1, 5.0], 1.0, -2.0, 6.0)
    (-0.45, 0.55, 5.0)
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    # Without the steps between them the places must only not fall: pool what does (isotonic regression).
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        total, count = wanted[i] - rank * step, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    last = max(low, high - (len(wanted) - 1) * step)
    level = [min(max(total / count, low), last) for total, count in pools for _ in range(count)]
    found = {i: level[rank] + rank * step for rank, i in enumerate(order)}
    return tuple(found[i] for i in range(len(wanted)))


def _best(
    label: Label, marker_radius: float, centres: Boxes, blocked: Boxes, soft: Boxes, frame: Box
) -> Placement | None:
    own = {(round(x, 6), round(y, 6)) for x, y in label.anchors}
    strangers = np.array([c for c in centres if (round(c[0], 6), round(c[1], 6)) not in own]).reshape(-1, 2)
    candidates: list[tuple[float, float, float, float]] = []  # x0, y0, distance in heights, preference
    for anchor in _spread(label.anchors):
        for step in STEPS:
            reach = marker_radius + step * label.height
            for rank, (dx, dy) in enumerate(DIRECTIONS):
                # diagonal places touch the marker's corner, so they need less reach a side
                away = reach / math.sqrt(2) if abs(dx) == abs(dy) else reach
                x = anchor[0] + dx * (label.width / 2 + (away if abs(dx) == 1 else 0)) - label.width / 2
                y = anchor[1] + dy * (label.height / 2 + away) - label.height / 2
                candidates.append((x, y, step, DIRECTION_COST * rank))
    table = np.array(candidates)
    boxes = np.column_stack([table[:, 0], table[:, 1], table[:, 0] + label.width, table[:, 1] + label.height])
    inside = (
        (boxes[:, 0] >= frame.x0) & (boxes[:, 1] >= frame.y0) & (boxes[:, 2] <= frame.x1) & (boxes[:, 3] <= frame.y1)
    )
    free = inside & (_hits(boxes, blocked) == 0)
    if not free.any():
        return None
    cost = table[:, 2] + table[:, 3] + LINE_COST * np.minimum(_hits(boxes, soft), 1)
    nearest = _nearest(boxes, strangers) / label.height
    cost += STRANGER_COST * np.clip(1.0 - nearest + np.minimum(table[:, 2], 1.0), 0, None)
    cost[~free] = np.inf
    # Rounded, so that the last bit of a float does not choose; then the first of equals wins.
    index = int(np.argmin(np.round(cost, 6)))
    x0, y0, x1, y1 = (float(value) for value in boxes[index])
    box = Box(x0=x0, y0=y0, x1=x1, y1=y1)
    # The place was found from one of the label's points and may be nearer to another.
    anchor = min(label.anchors, key=lambda point: (_gap(box, point), point))
    away = (_gap(box, anchor) - marker_radius) / label.height
    mistaken = away >= MISTAKEN_FROM and nearest[index] * label.height < _gap(box, anchor)
    return Placement(box=box, anchor=anchor, leader=away >= LEADER_FROM or bool(mistaken), away=away)


def _gap(box: Box, point: tuple[float, float]) -> float:
    x, y = point
    return math.hypot(max(box.x0 - x, x - box.x1, 0.0), max(box.y0 - y, y - box.y1, 0.0))


def _spread(anchors: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_ANCHORS of the anchors, left to right, evenly chosen."""
    ordered = sorted(set(anchors))
    if len(ordered) <= MAX_ANCHORS:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (MAX_ANCHORS - 1))] for i in range(MAX_ANCHORS)]


def _around(x: float, y: float, radius: float) -> Box:
    return Box(x0=x - radius, y0=y - radius, x1=x + radius, y1=y + radius)


def _array(boxes: Sequence[Box]) -> Boxes:
    return np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes], dtype=float).reshape(-1, 4)


def _hits(boxes: Boxes, others: Boxes) -> NDArray[np.int64]:
    """How many of ``others`` each box overlaps."""
    across = (boxes[:, None, 0] < others[None, :, 2]) & (others[None, :, 0] < boxes[:, None, 2])
    upright = (boxes[:, None, 1] < others[None, :, 3]) & (others[None, :, 1] < boxes[:, None, 3])
    return np.asarray((across & upright).sum(axis=1), dtype=np.int64)


def _nearest(boxes: Boxes, centres: Boxes) -> NDArray[np.float64]:
    """The distance from each box to the nearest centre; infinite when there is none."""
    if not len(centres):
        return np.full(len(boxes), np.inf)
    dx = np.maximum(np.maximum(boxes[:, None, 0] - centres[None, :, 0], centres[None, :, 0] - boxes[:, None, 2]), 0)
    dy = np.maximum(np.maximum(boxes[:, None, 1] - centres[None, :, 1], centres[None, :, 1] - boxes[:, None, 3]), 0)
    return np.asarray(np.hypot(dx, dy).min(axis=1), dtype=np.float64)
