"""Pareto fronts: which points no other beats in accuracy and latency at once, and how sure that is. Pure functions.

`front` judges plain points; `pareto_points` makes them from campaigns and accuracies.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from mobench import zoo
from mobench.errors import BadInputError
from mobench.records import DEVICES, Accuracy, Run
from mobench.stats import NO_SPEED, WRONG_OUTPUT, Summary, block_ns, summarize
from mobench.verdicts.comparability import machine_name

AccuracyKind = Literal["measured", "published"]
AccuracyChoice = Literal["measured", "published", "auto"]
Axis = Literal["latency", "accuracy"]
Contest = tuple[str, str, str, int]
_Key = tuple[
    str, str, str
]  # of an accuracy: the file's SHA-256, the runtime, the device and provider ("": a desktop's)
PUBLISHED_SET = "ImageNet validation set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One timed artifact: its p50 latency and, where known, its top-1 accuracy in percent.

    ``accuracy_source`` says where the accuracy comes from: the data set and n, or the paper and its table.
    ``accuracy_set`` is what makes two accuracies comparable: the same images when measured; published figures all
    share one. ``artifact`` (the file's sha256) tells the same file from another of equal accuracy. ``random_weights``
    says that the file itself was never trained, so that a published accuracy is another file's; ``weights`` is where
    they are from: an address, a file, ``random:SEED``, "" where nobody knows. ``starts_ms``: the median of each start
    of its process, as (incarnation, ms): cells of one campaign share their incarnations.
    """

    label: str  # the network as a reader knows it: MobileNetV2 0.5-160
    name: str  # the network as the zoo knows it, or a foreign file's stem
    precision: str | None
    runtime: str
    provider: str = ""
    threads: int = 1
    batch: int = 1
    latency_ms: float
    latency_ci_ms: tuple[float, float] | None
    starts_ms: tuple[tuple[int, float], ...] = ()
    accuracy: float | None
    accuracy_ci: tuple[float, float] | None = None
    accuracy_kind: AccuracyKind | None = None
    accuracy_source: str = ""
    accuracy_set: str = ""
    random_weights: bool = False
    weights: str = ""
    doubts: tuple[str, ...] = ()
    artifact: str = ""
    file: str = ""
    device: str = ""
    machine: str = ""
    campaign: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.latency_ms) and self.latency_ms > 0):
            raise ValueError(f"latency_ms of {self.label} is {self.latency_ms}, not a positive number")
        if (self.accuracy is None) != (self.accuracy_kind is None):
            raise ValueError(f"{self.label}: an accuracy and its kind come together")
        if self.accuracy is not None and not 0 <= self.accuracy <= 100:
            raise ValueError(f"accuracy of {self.label} is {self.accuracy}, not a percentage")

    @property
    def full_label(self) -> str:
        """Network, precision, runtime, and provider, threads and batch where they are not the usual."""
        parts = [self.label, self.precision or "", self.runtime, self.provider]
        if self.threads != 1:
            parts.append(f"{self.threads} threads")
        if self.batch != 1:
            parts.append(f"batch {self.batch}")
        return " ".join(part for part in parts if part)

    @property
    def competes(self) -> bool:
        """Whether it has an accuracy, and its timed session computed what it should, at a speed that is one."""
        return self.accuracy is not None and not {WRONG_OUTPUT, NO_SPEED} & {*self.doubts}

    @property
    def contest(self) -> Contest:
        """What two points must share before one can dominate: machine, kind and set of the accuracy, batch."""
        return (self.machine, self.accuracy_kind or "", self.accuracy_set, self.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a point stands among those it can be compared with.

    ``on_front`` is None for a point without accuracy, and for one whose outputs were wrong where it was timed or whose
    GPU was a program: they take no part. ``noise`` names the axes on which the dominance could be chance; empty means
    that it is beyond the intervals.
    """

    point: Point
    on_front: bool | None
    dominated_by: Point | None = None
    noise: tuple[Axis, ...] = ()


def dominates(one: Point, other: Point) -> bool:
    """Whether ``one`` is at least as accurate and as fast as ``other``, and better in one of the two.

    Points of different machines, or whose accuracies are not comparable, never dominate each other.
    """
    if one.accuracy is None or other.accuracy is None or one.contest != other.contest:
        return False
    no_worse = one.accuracy >= other.accuracy and one.latency_ms <= other.latency_ms
    return no_worse and (one.accuracy > other.accuracy or one.latency_ms < other.latency_ms)


def dominance_noise(one: Point, other: Point) -> tuple[Axis, ...]:
    """Return the axes on which ``one``, which dominates ``other``, may do so by chance alone.

    Latency: the intervals overlap or one is missing. Accuracy: both have intervals and these overlap, unless it is
    the same file (its accuracy was measured once). Published figures come without interval and count as exact.
    """
    noise: list[Axis] = []
    if one.latency_ci_ms is None or other.latency_ci_ms is None or one.latency_ci_ms[1] >= other.latency_ci_ms[0]:
        noise.append("latency")
    same_file = bool(one.artifact) and (one.artifact, one.runtime) == (other.artifact, other.runtime)
    if one.accuracy_ci and other.accuracy_ci and not same_file and one.accuracy_ci[0] <= other.accuracy_ci[1]:
        noise.append("accuracy")
    return tuple(noise)


def front(points: Sequence[Point]) -> tuple[Standing, ...]:
    """Return the standing of each point, in the given order.

    A front is formed a contest: points of one machine whose accuracies are comparable. Points equal in both accuracy
    and latency stand together. The dominating point named is on the front: the fastest that dominates beyond the
    intervals, else the fastest that dominates.
    """
    contests: dict[Contest, list[Point]] = {}
    for point in points:
        if point.competes:
            contests.setdefault(point.contest, []).append(point)
    fronts = {contest: _front_of(members) for contest, members in contests.items()}
    return tuple(_standing(point, fronts.get(point.contest, ())) for point in points)


def front_points(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return only the points on a front, in the given order."""
    return tuple(standing.point for standing in front(points) if standing.on_front)


def _rank(point: Point) -> tuple[float, float, str, str]:
    """Fastest first, then most accurate; then all the rest, so that no tie is left to the order of the input."""
    accuracy = point.accuracy if point.accuracy is not None else -1.0
    return (point.latency_ms, -accuracy, point.full_label, repr(point))


def _front_of(points: Iterable[Point]) -> list[Point]:
    """Return the undominated points, fastest first: walking by latency, each must raise the best accuracy so far."""
    kept: list[Point] = []
    for point in sorted(points, key=_rank):
        last = kept[-1] if kept else None
        if (
            last is None
            or (point.accuracy or 0.0) > (last.accuracy or 0.0)
            or (point.accuracy, point.latency_ms) == (last.accuracy, last.latency_ms)
        ):
            kept.append(point)
    return kept


def _standing(point: Point, members: Sequence[Point]) -> Standing:
    if point.accuracy is None or not point.competes:
        return Standing(point=point, on_front=None)
    # The front is sorted by accuracy too, so those at least as accurate are its tail, fastest first.
    start = bisect_left(members, point.accuracy, key=lambda member: member.accuracy or 0.0)
    first: Point | None = None
    for member in members[start:]:
        if member.latency_ms > point.latency_ms:
            break
        if not dominates(member, point):
            continue
        if not dominance_noise(member, point):
            return Standing(point=point, on_front=False, dominated_by=member)
        first = first or member
    if first is None:
        return Standing(point=point, on_front=True)
    return Standing(point=point, on_front=False, dominated_by=first, noise=dominance_noise(first, point))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedCell:
    """What a campaign says of one cell, and where and when it was timed; ``starts_ms`` as a point has it."""

    summary: Summary
    machine: str
    campaign: str
    starts_ms: tuple[tuple[int, float], ...] = ()


def pareto_points(runs: Iterable[Run], accuracies: Iterable[Accuracy], choice: AccuracyChoice = "auto") -> list[Point]:
    """Return a point for each timed cell of the campaigns, with the accuracy of the very file that was timed.

    Of a cell that several campaigns timed on one machine, the newest timing that has an interval counts. Cells without
    a timing give no point. ``choice``: measured or published accuracies only, or measured where there is one and else
    published.
    """
    return points_of(timed_cells(runs), accuracies, choice)


def timed_cells(runs: Iterable[Run], summarized: Callable[[Run], Iterable[Summary]] = summarize) -> list[TimedCell]:
    """Return one summary of each cell of the campaigns, newest campaign first, failed ones included.

    The newest timing that has an interval counts, else the newest. ``summarized`` gives a campaign's summaries, for who
    has them already.
    """
    failed: list[TimedCell] = []
    counting: dict[tuple[object, ...], list[TimedCell]] = {}  # one campaign may hold a file twice: both are wanted
    for run in sorted(runs, key=lambda run: (str(run.header.get("started", "")), str(run.path)), reverse=True):
        campaign = str(run.header.get("campaign", run.path.stem))
        timed: dict[tuple[object, ...], list[TimedCell]] = {}
        starts = _starts_ms(run)
        for summary in summarized(run):
            machine = machine_name(run, summary.device)
            target = (summary.device, summary.runtime, summary.provider, summary.threads, summary.batch)
            key: tuple[object, ...] = (machine, summary.sha256, *target, summary.io, summary.cuda_graph, summary.tf32)
            own = starts.get(summary.cell, ())
            cell = TimedCell(summary=summary, machine=machine, campaign=campaign, starts_ms=own)
            if summary.p50_ms is not None:
                timed.setdefault(key, []).append(cell)
            elif key not in counting:  # it lets an older timing of it count
                failed.append(cell)
        for key, cells in timed.items():
            if key not in counting or (not _is_sure(counting[key]) and _is_sure(cells)):
                counting[key] = cells
    return [*(cell for cells in counting.values() for cell in cells), *failed]


def _is_sure(cells: Iterable[TimedCell]) -> bool:
    return any(cell.summary.p50_ci_ms is not None for cell in cells)


def _starts_ms(run: Run) -> dict[str, tuple[tuple[int, float], ...]]:
    """Return, of each cell, the median over its steady blocks of every start."""
    blocks: dict[str, dict[int, list[float]]] = {}
    for block in run.blocks:
        if block.phase == "steady":
            blocks.setdefault(block.cell, {}).setdefault(block.incarnation, []).append(block_ns(block) / 1e6)
    return {cell: tuple((i, median(values)) for i, values in sorted(own.items())) for cell, own in blocks.items()}


def points_of(
    cells: Sequence[TimedCell], accuracies: Iterable[Accuracy], choice: AccuracyChoice = "auto"
) -> list[Point]:
    """Return the points of the cells that have a timing; see `pareto_points`."""
    timed = [cell for cell in cells if cell.summary.p50_ms is not None]
    measured = _measured(timed, accuracies) if choice != "published" else {}
    return [
        _point(cell, next((measured[key] for key in _keys(cell.summary) if key in measured), None), choice)
        for cell in timed
    ]


def _keys(summary: Summary) -> tuple[_Key, ...]:
    """Return what an accuracy must be of to count for a cell, the best first: the very delegate, else a desktop's.

    A desktop's providers share theirs.
    """
    desktop = (summary.sha256, summary.runtime, "")
    if summary.device == "desktop-cpu":
        return (desktop,)
    return (summary.sha256, summary.runtime, f"{summary.device} {_provider(summary)}"), desktop


def _key(accuracy: Accuracy) -> _Key:
    where = "" if accuracy.device == "desktop-cpu" else f"{accuracy.device} {accuracy.provider}"
    return accuracy.sha256, accuracy.runtime, where


def _provider(summary: Summary) -> str:
    return summary.provider or DEVICES.get(summary.device, {}).get(summary.runtime, ("",))[0]


def _measured(cells: Sequence[TimedCell], accuracies: Iterable[Accuracy]) -> dict[_Key, Accuracy]:
    """Choose one accuracy a file and delegate: on the images that most cells share, so that most can be compared.

    An evaluation that had to assume the pre-processing counts only where there is none that knew it: the same bytes
    without their manifest may score far worse.
    """
    wanted = {key for cell in cells for key in _keys(cell.summary)}
    sets: dict[tuple[str, int], dict[_Key, Accuracy]] = {}
    every = [accuracy for accuracy in accuracies if _key(accuracy) in wanted]
    known = {_key(accuracy) for accuracy in every if not accuracy.assumed}
    for accuracy in every:
        key = _key(accuracy)
        if not accuracy.assumed or key not in known:
            sets.setdefault((accuracy.data, accuracy.n), {})[key] = accuracy  # the later of two is the newer
    chosen: dict[_Key, Accuracy] = {}
    for images in sorted(sets, key=lambda images: (len(sets[images]), images[1], images[0]), reverse=True):
        chosen = sets[images] | chosen
    return chosen


def _point(cell: TimedCell, measured: Accuracy | None, choice: AccuracyChoice) -> Point:
    summary = cell.summary
    network = summary.network or {}
    published = _published(summary) if choice != "measured" and measured is None else None
    base = Point(
        label=str(network.get("label", summary.name)),
        name=str(network.get("name", summary.name)),
        precision=summary.precision,
        runtime=summary.runtime,
        provider=summary.provider,
        threads=summary.threads,
        batch=summary.batch,
        latency_ms=summary.p50_ms or math.nan,
        latency_ci_ms=summary.p50_ci_ms,
        starts_ms=cell.starts_ms,
        doubts=tuple(doubt.name for doubt in summary.doubts),
        accuracy=None,
        random_weights=(summary.weights or {}).get("kind") == "random",
        weights=str((summary.weights or {}).get("source") or ""),
        artifact=summary.sha256,
        file=summary.file,
        device=summary.device,
        machine=cell.machine,
        campaign=cell.campaign,
    )
    if measured is not None:
        images = f"{measured.data}, n = {measured.n}"
        elsewhere = "" if measured.device == summary.device else f", on {measured.device}"
        return replace(
            base,
            accuracy=measured.top1,
            accuracy_ci=measured.top1_ci,
            accuracy_kind="measured",
            accuracy_source=images + elsewhere,
            accuracy_set=images,
        )
    if published is not None:
        top1, source = published
        return replace(
            base,
            accuracy=top1,
            accuracy_kind="published",
            # The papers' figures are FP32's: what quantization costs is not in them.
            accuracy_source=source if summary.precision == "fp32" else f"{source}, for FP32",
            accuracy_set=PUBLISHED_SET,
        )
    return base


def _published(summary: Summary) -> tuple[float, str] | None:
    """Return the published top-1 and its source for one of our own exports; a foreign file's name proves nothing.

    A published checkpoint's own figure goes before the paper's: it is these weights'.
    """
    network = summary.network
    if not network:
        return None
    weights = summary.weights or {}
    if weights.get("kind") == "pretrained":
        top1 = weights.get("published_top1")
        return None if top1 is None else (float(top1), str(weights.get("source")))
    try:
        spec = zoo.get(
            str(network["name"]),
            width=network.get("width"),
            depth=network.get("depth"),
            input_size=network.get("input_size"),
        )
    except (BadInputError, KeyError):  # exported by a mobench that knows other networks
        return None
    if spec.published_top1 is None:
        return None
    whose = " (not of these weights)" if weights.get("kind") == "file" else ""
    return spec.published_top1, f"{spec.published_source}{whose}"
