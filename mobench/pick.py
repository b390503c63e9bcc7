"""The best network, precision and runtime within a limit of latency and one of accuracy, and how sure that is."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobench import zoo
from mobench.errors import BadInputError, MobenchError
from mobench.front_draws import draw
from mobench.front_probability import contests
from mobench.pareto import Point
from mobench.records import READS
from mobench.zoo import pretrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is asked: p50 of at most so many ms, top-1 of at least so many percent, met with a probability ``sure``.

    None is no limit. With ``sure`` at 0 it is enough that the figures meet the limits.
    """

    max_latency_ms: float | None = None
    min_top1: float | None = None
    sure: float = 0.0

    def __str__(self) -> str:
        """Return ``p50 at most 20 ms, top-1 at least 70 %``."""
        parts = [f"p50 at most {self.max_latency_ms:g} ms"] if self.max_latency_ms is not None else []
        parts += [f"top-1 at least {self.min_top1:g} %"] if self.min_top1 is not None else []
        return ", ".join(parts)

    def shortfall(self, point: Point) -> float:
        """Return by how much a point misses the limits, as the sum of both shares; 0 where it meets them."""
        slow = point.latency_ms / self.max_latency_ms - 1 if self.max_latency_ms is not None else 0.0
        poor = 1 - (point.accuracy or 0.0) / self.min_top1 if self.min_top1 else 0.0
        return max(slow, 0.0) + max(poor, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A point, and the probability that it truly meets both limits; the margins are what its figures have to spare."""

    point: Point
    p_meets: float
    margin_ms: float | None
    margin_top1: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The best, the next best where there is one, of how many on which machine, and what has to be known of it."""

    best: Choice
    runner_up: Choice | None
    limits: Limits
    machine: str
    compared: int
    met: int
    notes: tuple[str, ...]
    commands: tuple[str, ...]


def pick(points: Sequence[Point], limits: Limits, *, device: str = "") -> Pick:
    """Return the most accurate point within the limits, or where only accuracy is limited the fastest.

    Args:
        points: of one or several machines; those that take no part in a front are left out.
        limits: at least one of the two.
        device: as `mobench run --device` names it, or a part of the machine's name; "" where there is one machine.

    Raises:
        BadInputError: no limit, or the device is none of those with results, or could be several.
        MobenchError: nothing meets the limits; the nearest is named.
    """
    if limits.max_latency_ms is None and limits.min_top1 is None:
        raise BadInputError("pick", "there is no limit to meet", "give --max-latency MS, --min-top1 PERCENT or both")
    there = _on_device(points, device)
    members, left_out = _comparable(there)
    drawn = draw(members)
    most = limits.max_latency_ms if limits.max_latency_ms is not None else math.inf
    meets = np.mean((drawn.latency_ms <= most) & (drawn.accuracy >= (limits.min_top1 or 0.0)), axis=0)
    choices = [_choice(point, float(p), limits) for point, p in zip(members, meets, strict=True)]
    met = [choice for choice in choices if limits.shortfall(choice.point) == 0]
    sure = [choice for choice in met if choice.p_meets >= limits.sure]
    if not sure:
        raise _nothing(limits, choices, met)
    fastest = limits.max_latency_ms is None
    best, *others = sorted(sure, key=lambda choice: _order(choice.point, fastest))
    return Pick(
        best=best,
        runner_up=others[0] if others else None,
        limits=limits,
        machine=best.point.machine,
        compared=len(members),
        met=len(sure),
        notes=(*_caveats(best.point), *left_out),
        commands=deploying(best.point),
    )


def _on_device(points: Sequence[Point], device: str) -> list[Point]:
    machines = sorted({point.machine for point in points})
    exact = [point for point in points if point.device == device]
    found = exact or [point for point in points if device.casefold() in point.machine.casefold()]
    if not found:
        mend = "name one of these, or a part of it, or time models there with `mobench run --device`"
        raise BadInputError(f"no results of {device}", f"there are those of {'; '.join(machines) or 'nothing'}", mend)
    several = sorted({point.machine for point in found})
    if len(several) > 1:
        what = f"--device {device}" if device else "no --device"
        raise BadInputError(what, f"it could be {'; '.join(several)}", "name one by a part that only it has")
    return found


def _comparable(points: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """Return the points of the contest that has most, measured accuracies first among equals, and what is left out."""
    found = contests(points)
    if not found:
        why = "no model has an accuracy and a speed that count"
        raise BadInputError(f"nothing to pick on {points[0].machine}", why, "measure accuracy with `mobench eval`")
    contest = max(sorted(found), key=lambda each: (len(found[each]), each[1] == "measured"))
    others = len(points) - len(found[contest])
    noun = "model" if others == 1 else "models"
    said = [f"{others} {noun} left out: without accuracy, in doubt, or not comparable with these (--accuracy)"]
    return [points[i] for i in found[contest]], said if others else []


def _choice(point: Point, p_meets: float, limits: Limits) -> Choice:
    return Choice(
        point=point,
        p_meets=p_meets,
        margin_ms=None if limits.max_latency_ms is None else limits.max_latency_ms - point.latency_ms,
        margin_top1=None if limits.min_top1 is None else (point.accuracy or 0.0) - limits.min_top1,
    )


def _order(point: Point, fastest: bool) -> tuple[float | str, ...]:
    axes = point.latency_ms, -(point.accuracy or 0.0)
    return (*(axes if fastest else axes[::-1]), point.full_label, repr(point))


def _nothing(limits: Limits, choices: Sequence[Choice], met: Sequence[Choice]) -> MobenchError:
    where = choices[0].point.machine
    if met:
        best = max(met, key=lambda choice: (choice.p_meets, choice.point.full_label))
        return MobenchError(
            f"nothing on {where} meets {limits} with a probability of {limits.sure:g}",
            f"the surest is {_figures(best.point)}, with {best.p_meets:.2f}",
            "lower --sure, or measure longer or on more images",
        )
    nearest = min(choices, key=lambda choice: (limits.shortfall(choice.point), choice.point.full_label)).point
    mends = []
    if limits.max_latency_ms is not None and nearest.latency_ms > limits.max_latency_ms:
        mends.append(f"--max-latency {math.ceil(100 * nearest.latency_ms) / 100:g}")
    if limits.min_top1 is not None and (nearest.accuracy or 0.0) < limits.min_top1:
        mends.append(f"--min-top1 {math.floor(10 * (nearest.accuracy or 0.0)) / 10:g}")
    return MobenchError(
        f"nothing on {where} meets {limits}",
        f"of {len(choices)} the nearest is {_figures(nearest)}",
        f"it would do with {' '.join(mends)}",
    )


def _figures(point: Point) -> str:
    return f"{point.full_label} with {point.latency_ms:.3g} ms and {point.accuracy or 0.0:.1f} %"


def _caveats(point: Point) -> list[str]:
    """Return what a reader must know before the choice is believed."""
    said = [f"top-1 {point.accuracy_kind}: {point.accuracy_source}"]
    if point.accuracy_kind == "published" and point.precision != "fp32":
        said.append("that figure is FP32's: what quantization costs is not in it; measure it with `mobench eval`")
    if point.random_weights:
        said.append("it was timed with random weights: deploy trained ones")
    if not point.latency_ci_ms:
        said.append("its latency has no interval: the probability counts it as exact")
    return said + ([f"in doubt: {' '.join(point.doubts)} (see `mobench pareto`)"] if point.doubts else [])


def deploying(point: Point) -> tuple[str, ...]:
    """Return the commands that make a point's file, where its network is ours, and run it as it was timed."""
    form = READS.get(point.runtime) or Path(point.file).suffix.removeprefix(".")
    commands = []
    if (weights := _weights(point)) is not None:
        parts = ["mobench", "export", point.label, "--precision", point.precision or "fp32", "--format", form]
        commands.append(shlex.join([*parts, *(["--weights", weights] if weights else [])]))
    parts = ["mobench", "run", point.file, "--device", point.device or "desktop-cpu", "--runtime", point.runtime]
    parts += ["--provider", point.provider] if point.provider else []
    parts += ["--threads", str(point.threads)] if point.threads != 1 else []
    parts += ["--batch", str(point.batch)] if point.batch != 1 else []
    commands.append(shlex.join(parts))
    return tuple(commands)


def _weights(point: Point) -> str | None:
    """Return what `mobench export --weights` takes for a point's, "" for its default; None for no network of ours."""
    try:
        spec = zoo.get(point.label)
    except BadInputError:
        return None
    if spec.name != point.name:
        return None
    published = pretrained.available(spec)
    tags = [choice.tag for choice in published if choice.url == point.weights]
    if tags:
        return "" if tags[0] == published[0].tag else f"pretrained:{tags[0]}"
    if point.weights and not point.random_weights:
        return point.weights
    return "" if published else "FILE"
