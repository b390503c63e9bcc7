"""Points from figures of others: latencies of public tables with the accuracy that is published for the network.

A table's latency has no interval over starts: it takes part in a front by its figure alone, without P(front).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobench import order, zoo
from mobench.claims.places import Kind, Place, TablePlace
from mobench.errors import BadInputError
from mobench.pareto import PUBLISHED_SET, Point

MIN_NETWORKS = 3  # with a published accuracy, for a device to have a front worth a look


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """A point from a table, with what a page says of it.

    ``spread_ms`` is the table's own (the 5th to the 95th percentile of one session), None where it prints none.
    """

    point: Point
    kind: Kind
    family: str
    spread_ms: tuple[float, float] | None
    noise: str


def gather(places: Sequence[Place]) -> tuple[Theirs, ...]:
    """Return a point for each latency of a public table whose network is the zoo's and has a published accuracy."""
    found: dict[str, list[Theirs]] = {}
    for device in order.devices(place for place in places if isinstance(place, TablePlace)):
        for network in device.networks:
            if (made := _theirs(device, network)) is not None:
                found.setdefault(device.name, []).append(made)
    return tuple(one for own in found.values() if _networks(own) >= MIN_NETWORKS for one in own)


def _networks(own: Sequence[Theirs]) -> int:
    return len({one.point.label for one in own})


def _theirs(device: order.Device, network: str) -> Theirs | None:
    try:
        spec = zoo.get(network)
    except BadInputError:
        return None
    if spec.published_top1 is None:
        return None
    latency = device.latency(network)
    bare = isinstance(device.place, TablePlace) and (network, device.precision, device.where) in device.place.bare
    return Theirs(
        point=Point(
            label=network,
            name=spec.name,
            precision=device.precision,
            runtime="",
            latency_ms=latency.figure,
            latency_ci_ms=None,
            accuracy=spec.published_top1,
            accuracy_kind="published",
            accuracy_source=spec.published_source + ("" if device.precision == "fp32" else ", for FP32"),
            accuracy_set=PUBLISHED_SET,
            machine=device.name,
            campaign=device.source,
        ),
        kind=device.kind,
        family=spec.family,
        spread_ms=None if bare else (latency.low, latency.high),
        noise=device.noise,
    )
