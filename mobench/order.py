"""Networks in order of latency on two devices: rank correlation, the pairs that change places, what predicts latency.

A device is one processor with one way to run on it (runtime, threads) whose latencies in one precision may be compared:
of our journals, of others' public figures, or printed in a paper; `Device.kind` says which. Latencies of two devices
are never set against each other, only their orders. A pair of networks is inverted where the p50 say the one order on
one device and the other on the other, and beyond noise where the interval of its ratio leaves out 1 on both. That
interval is, of our journals, the paired ratio's at 95 %; of others, what the 5th to the 95th percentile of one session
leave open. Figures printed without any spread get none: there a ratio within TOLERANCE of 1 counts as noise.
Pure functions.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from mobench.claims.networks import counted, is_known
from mobench.claims.places import WHERE, Key, Kind, Place, TablePlace, latency
from mobench.claims.ranks import AXES, MIN_NETWORKS, correlation, spearman
from mobench.claims.values import MissingError, Value
from mobench.errors import BadInputError
from mobench.records import PRECISIONS

MIN_COMMON = 3  # networks on both devices: of two there is one pair, which is in order or not
# What the 95th percentile is over p50 in the median of the leaderboard's sessions, which print their spread.
TOLERANCE = 0.05
# What stands for CPU against GPU in one line: a cell over another, network and precision each.
CONTRASTS: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = (
    (("mobilenet_v3_large", "fp32"), ("mobilenet_v2", "fp32")),
    (("mobilenet_v2", "int8"), ("mobilenet_v2", "fp32")),
    (("mobilenet_v3_large", "int8"), ("mobilenet_v3_large", "fp32")),
)
Counts = Literal["macs", "params"]
Of = Literal["macs", "params", "latency"]
COUNTS: Mapping[Counts, str] = {"macs": "MACs", "params": "params"}
EVIDENCE: Mapping[Kind, str] = {"ours": "measured here", "others": "measured by others", "printed": "printed"}
_SHOWN = 6  # devices named when words fit several, or none


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One processor of a place, in one precision.

    ``name`` is for people and for `find`: machine, processor, runtime, threads, or paper, table and phone. ``networks``
    are those that have a latency and take part in ranks, in the order of the source. ``where`` is the place's word for
    the processor: `cpu`, `gpu` or `gpu_other`.
    """

    name: str
    kind: Kind
    precision: str
    where: str
    place: Place
    networks: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """Its name with the precision, where that is not FP32."""
        return self.name if self.precision == "fp32" else f"{self.name}, {self.precision}"

    @property
    def source(self) -> str:
        """Where others' or printed figures come from; empty for ours."""
        return self.place.source if isinstance(self.place, TablePlace) else ""

    @property
    def noise(self) -> str:
        """What decides whether a ratio on it is beyond noise, in words."""
        if self.kind == "ours":
            return "the 95 % interval of the paired ratio over starts"
        if any(self.is_bare(network) for network in self.networks):
            return f"a ratio within {100 * TOLERANCE:.0f} % of 1, for no spread is printed"
        return "the 5th to the 95th percentile of one session of each"

    def latency(self, network: str) -> Value:
        """Return a network's p50 with its interval, ms. Raises MissingError where it is not there."""
        return latency(self.place, self._key(network))

    def ratio(self, one: str, other: str) -> Value:
        """Return the latency of a network over another's, with the interval that noise leaves open."""
        return _ratio(self.place, self._key(one), self._key(other))

    def is_bare(self, network: str) -> bool:
        """Whether a latency comes without any spread: its interval is what the last printed digit leaves open."""
        return isinstance(self.place, TablePlace) and self._key(network) in self.place.bare

    def _key(self, network: str) -> Key:
        return network, self.precision, self.where


@dataclass(frozen=True, slots=True, kw_only=True)
class Inversion:
    """Two networks that change places: ``first`` is the faster one on device A, ``second`` on device B.

    The ratios are the latency of ``second`` over ``first``.
    """

    first: str
    second: str
    ratio_a: Value
    ratio_b: Value
    beyond_noise: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """How well MACs, params or another device's latency put a device's latencies in order.

    ``name`` says which, for people. ``correlation`` is Spearman's; without an interval below MIN_NETWORKS ``networks``.
    ``right`` of ``pairs`` are ordered right; a pair that it calls equal counts as half.
    """

    of: Of
    name: str
    correlation: Value
    right: float
    pairs: int
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What two devices make of the networks that both have.

    ``networks`` are those, fastest on A first. ``inversions`` of ``pairs``: beyond noise first, then those that differ
    most. ``correlation`` is Spearman's with the 95 % interval of a bootstrap over networks and their noise, or without
    one (infinite ends) where there are fewer than MIN_NETWORKS. Predictors: MACs, params and, on B, latency on A.
    """

    a: Device
    b: Device
    networks: tuple[str, ...]
    correlation: Value
    inversions: tuple[Inversion, ...]
    pairs: int
    predictors_a: tuple[Predictor, ...]
    predictors_b: tuple[Predictor, ...]

    @property
    def beyond_noise(self) -> tuple[Inversion, ...]:
        """The inversions that noise does not explain."""
        return tuple(inversion for inversion in self.inversions if inversion.beyond_noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One cell over another, network and precision each, on a CPU and on the GPU beside it.

    A ratio is None where one of the two was not timed there; ``gpu`` is None where the place has none.
    """

    one: tuple[str, str]
    other: tuple[str, str]
    cpu: Device
    gpu: Device | None
    on_cpu: Value | None
    on_gpu: Value | None

    @property
    def turned(self) -> bool | None:
        """Whether the CPU and the GPU say opposite things; None where one was not timed or is within noise."""
        sides = self.on_cpu, self.on_gpu
        if any(side is None or side.low <= 1 <= side.high for side in sides):
            return None
        return self.on_cpu is not None and self.on_gpu is not None and _opposed(self.on_cpu, self.on_gpu)


def devices(places: Iterable[Place]) -> tuple[Device, ...]:
    """Return every processor and precision that places have latencies of, each once, in the order of the places."""
    found: dict[tuple[str, str, str], Device] = {}
    for place in places:
        for where in WHERE:
            for precision in PRECISIONS:
                device = _device(place, where, precision)
                if device is not None:
                    found.setdefault((device.kind, device.name, precision), device)
    return tuple(found.values())


def facing(places: Iterable[Place], precision: str = "fp32") -> tuple[tuple[Device, Device], ...]:
    """Return each place's CPU with each of its GPUs, in one precision."""
    found: dict[tuple[str, str], tuple[Device, Device]] = {}
    for place in places:
        cpu, *gpus = (_device(place, where, precision) for where in WHERE)
        for gpu in gpus:
            if cpu is not None and gpu is not None:
                found.setdefault((cpu.name, gpu.name), (cpu, gpu))
    return tuple(found.values())


def find(known: Sequence[Device], words: str) -> Device:
    """Return the device that a user names by words of its name, in any order: ``pixel 9 gpu``, ``xeon ort 2 threads``.

    Without a precision among them FP32 is meant. Words that are whole in a name go before parts of words.

    Raises:
        BadInputError: no device has them all, with the nearest, or several do.
    """
    asked = _words(words)
    precision = next((word for word in asked if word in PRECISIONS), "fp32")
    asked = [word for word in asked if word not in PRECISIONS]
    able = [device for device in known if device.precision == precision]
    fitting: list[Device] = []
    if asked:
        fitting = [device for device in able if set(asked) <= set(_words(device.name))]
        fitting = fitting or [device for device in able if all(word in device.name.lower() for word in asked)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        more = f" and {len(fitting) - _SHOWN} more" if len(fitting) > _SHOWN else ""
        several = "; ".join(device.name for device in fitting[:_SHOWN])
        raise BadInputError(f"device {words!r}", f"{len(fitting)} fit", f"add words of the one meant: {several}{more}")
    near = sorted(able, key=lambda device: -_likeness(asked, device.name))[: _SHOWN // 2]
    in_precision = "" if precision == "fp32" else f" in {precision}"
    mend = f"near: {'; '.join(device.name for device in near)}" if near else "`mobench order` lists what there is"
    raise BadInputError(f"device {words!r}", f"no results of such a one{in_precision}", mend)


def order(a: Device, b: Device) -> Order:
    """Compare the order of the networks that both devices have.

    Raises:
        BadInputError: fewer than MIN_COMMON networks are on both.
    """
    common = tuple(network for network in a.networks if network in b.networks)
    if len(common) < MIN_COMMON:
        what = f"{a.full_name} and {b.full_name}"
        why = f"{len(common)} networks in common{': ' if common else ''}{', '.join(common)}; {MIN_COMMON} are needed"
        raise BadInputError(what, why, "time more of the same networks, or choose others of `mobench order`")
    columns = [[device.latency(network) for network in common] for device in (a, b)]
    inversions = []
    for (one, on_a, on_b), (other, other_a, other_b) in combinations(zip(common, *columns, strict=True), 2):
        if (on_a.figure - other_a.figure) * (on_b.figure - other_b.figure) < 0:
            first, second = (one, other) if on_a.figure < other_a.figure else (other, one)
            ratios = a.ratio(second, first), b.ratio(second, first)
            inversions.append(
                Inversion(
                    first=first,
                    second=second,
                    ratio_a=ratios[0],
                    ratio_b=ratios[1],
                    beyond_noise=_opposed(*ratios),
                )
            )
    inversions.sort(key=lambda found: (not found.beyond_noise, -_apart(found), found.first, found.second))
    return Order(
        a=a,
        b=b,
        networks=tuple(sorted(common, key=lambda network: a.latency(network).figure)),
        correlation=_correlation(columns[0], columns[1], common, _seeds(a, b)),
        inversions=tuple(inversions),
        pairs=math.comb(len(common), 2),
        predictors_a=predictors(a),
        predictors_b=predictors(b, by=a),
    )


def predictors(device: Device, *, by: Device | None = None) -> tuple[Predictor, ...]:
    """Return how well MACs, params and the latency on another device put a device's latencies in order.

    Each over the networks that have the figure; one with fewer than MIN_COMMON of them is left out.
    """
    found = []
    for of, words in COUNTS.items():
        found.append(_predictor(device, of, words, counts(device, of), (AXES.index(of), _seed(device))))
    if by is not None:
        columns = {network: by.latency(network) for network in device.networks if network in by.networks}
        found.append(_predictor(device, "latency", f"p50 on {by.full_name}", columns, _seeds(by, device)))
    return tuple(one for one in found if one is not None)


def counts(device: Device, of: Counts) -> dict[str, Value]:
    """Return the MACs or params of a device's networks, counted or as printed, where they are known."""
    found = {}
    for network in device.networks:
        if is_known(network):
            with contextlib.suppress(MissingError):
                found[network] = counted(network, of)
    return found


def contrasts(places: Iterable[Place]) -> tuple[Contrast, ...]:
    """Return V3-Large against V2 and INT8 against FP32 on each CPU and the GPU beside it.

    Places of others have a line where both processors have the ratio; ours where one has.
    """
    found: dict[tuple[object, ...], Contrast] = {}
    for place in places:
        cpu, *others = (_device(place, where, "fp32") for where in WHERE)
        gpus = [gpu for gpu in others if gpu is not None]
        if cpu is None:
            continue
        beside: list[Device | None] = [*gpus] or [None]
        for gpu in beside:
            for one, other in CONTRASTS:
                on_cpu = _between(place, one, other, cpu.where)
                on_gpu = _between(place, one, other, gpu.where) if gpu is not None else None
                known = [ratio for ratio in (on_cpu, on_gpu) if ratio is not None]
                if len(known) == 2 or (known and place.kind == "ours"):
                    key = (one, other, cpu.name, gpu.name if gpu else "")
                    contrast = Contrast(one=one, other=other, cpu=cpu, gpu=gpu, on_cpu=on_cpu, on_gpu=on_gpu)
                    found.setdefault(key, contrast)
    return tuple(sorted(found.values(), key=lambda contrast: CONTRASTS.index((contrast.one, contrast.other))))


def _device(place: Place, where: str, precision: str) -> Device | None:
    """Return one processor of a place in one precision; None where no network of it takes part in ranks."""
    networks = [key[0] for key in place.latencies if key[1:] == (precision, where) and key in place.ranked]
    if not networks:
        return None
    return Device(
        name=place.names.get(where, f"{place.name}, {where}"),
        kind=place.kind,
        precision=precision,
        where=where,
        place=place,
        networks=tuple(networks),
    )


def _ratio(place: Place, one: Key, other: Key) -> Value:
    """Return a ratio; that of figures without any spread is as unsure as TOLERANCE says, beside its last digit."""
    found = place.ratio(one, other)
    if isinstance(place, TablePlace) and (one in place.bare or other in place.bare):
        return replace(found, low=found.low / (1 + TOLERANCE), high=found.high * (1 + TOLERANCE))
    return found


def _between(place: Place, one: tuple[str, str], other: tuple[str, str], where: str) -> Value | None:
    keys = (*one, where), (*other, where)
    return _ratio(place, *keys) if all(key in place.ranked for key in keys) else None


def _opposed(one: Value, other: Value) -> bool:
    """Whether one interval lies wholly below 1 and the other wholly above."""
    return one.high < 1 < other.low or other.high < 1 < one.low


def _apart(found: Inversion) -> float:
    """Return how far the devices disagree on a pair: the smaller of its two logarithms."""
    return min(abs(math.log(found.ratio_a.figure)), abs(math.log(found.ratio_b.figure)))


def _predictor(device: Device, of: Of, name: str, by: dict[str, Value], seeds: tuple[int, int]) -> Predictor | None:
    if len(by) < MIN_COMMON:
        return None
    names = tuple(by)
    latencies = [device.latency(network) for network in names]
    right = 0.0
    for (x, y), (other_x, other_y) in combinations(zip(by.values(), latencies, strict=True), 2):
        agree = (x.figure - other_x.figure) * (y.figure - other_y.figure)
        right += 1.0 if agree > 0 else 0.5 if agree == 0 else 0.0
    return Predictor(
        of=of,
        name=name,
        correlation=_correlation(list(by.values()), latencies, names, seeds),
        right=right,
        pairs=math.comb(len(names), 2),
        networks=names,
    )


def _correlation(x: Sequence[Value], y: Sequence[Value], names: tuple[str, ...], seeds: tuple[int, int]) -> Value:
    """Return Spearman's correlation; few networks have no interval, for resampling them says nothing."""
    if len(names) >= MIN_NETWORKS:
        return correlation(x, y, names, seeds)
    columns = (np.array([[value.figure for value in column]]) for column in (x, y))
    return Value(figure=float(spearman(*columns)[0]), low=-math.inf, high=math.inf)


def _seed(device: Device) -> int:
    return AXES.index(device.where)


def _seeds(a: Device, b: Device) -> tuple[int, int]:
    """Return the seeds of two devices' noise: those of `mobench claims` within a place, and never the same one."""
    return _seed(a), _seed(b) + (len(AXES) if a.where == b.where else 0)


def _words(text: str) -> list[str]:
    return [word.strip(".,;:()") for word in re.split(r"[\s,]+", text.lower()) if word.strip(".,;:()")]


def _likeness(asked: Sequence[str], name: str) -> float:
    """Return how near a name comes to words: the mean of each word's best ratio."""
    there = _words(name)
    best = [max((difflib.SequenceMatcher(None, word, each).ratio() for each in there), default=0.0) for word in asked]
    return sum(best) / len(best) if best else 0.0
