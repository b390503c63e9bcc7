"""CPU against GPU: for each device with both, the order of its networks, the pairs that change places, predictors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobench import order
from mobench.claims.places import Place
from mobench.claims.values import Value
from mobench.errors import BadInputError
from mobench.report.html.markup import badge, e, folded, items, table
from mobench.report.style import network_colours, shown

OPEN = 3  # comparisons that stand open; ours first, then those of most networks
PAIRS = 30  # inverted pairs that are listed
MOST = 60  # networks of one slope chart: more lines cannot be told apart
KINDS = ("ours", "others", "printed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A CPU and the GPU beside it: what their orders make of each other."""

    found: order.Order

    @property
    def kind(self) -> str:
        """Whose figures these are."""
        return self.found.a.kind

    @property
    def drawn(self) -> tuple[str, ...]:
        """The networks of the chart: all, or of many those that change places beyond noise, and then the fastest."""
        turned = {name for pair in self.found.beyond_noise for name in (pair.first, pair.second)}
        first = sorted(self.found.networks, key=lambda name: name not in turned)[:MOST]
        return tuple(name for name in self.found.networks if name in first)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuGpu:
    """Every comparison, ours first; the contrasts; and a line for each device with both that could not be compared."""

    comparisons: tuple[Comparison, ...]
    contrasts: tuple[order.Contrast, ...]
    skipped: tuple[str, ...]


def gather(places: Sequence[Place]) -> CpuGpu:
    """Compare each place's CPU with its GPUs."""
    found, skipped = [], []
    for cpu, gpu in order.facing(places):
        try:
            found.append(Comparison(found=order.order(cpu, gpu)))
        except BadInputError as error:
            skipped.append(str(error))
    found.sort(key=lambda one: (KINDS.index(one.kind), -len(one.found.networks), one.found.a.name))
    return CpuGpu(comparisons=tuple(found), contrasts=order.contrasts(places), skipped=tuple(skipped))


def data(found: CpuGpu) -> list[dict[str, Any]]:
    """Return what the slope charts draw, one for each comparison."""
    return [_pair(one) for one in found.comparisons]


def _pair(one: Comparison) -> dict[str, Any]:
    made, names = one.found, one.drawn
    colours = network_colours(name.partition(":")[0] for name in names)
    turned: dict[str, int] = {}
    for pair in made.beyond_noise:
        for name in (pair.first, pair.second):
            turned[name] = turned.get(name, 0) + 1
    ranks = [_ranks(device, names) for device in (made.a, made.b)]
    networks = []
    for name in names:
        a, b = made.a.latency(name), made.b.latency(name)
        networks.append(
            {"network": _shown(name), "colour": colours[name.partition(":")[0]], "inverted": turned.get(name, 0)}
            | {"a_ms": a.figure, "a_low": _end(a.low), "a_high": _end(a.high), "a_rank": ranks[0][name]}
            | {"b_ms": b.figure, "b_low": _end(b.low), "b_high": _end(b.high), "b_rank": ranks[1][name]}
        )
    return {"a": made.a.full_name, "b": made.b.full_name, "networks": networks}


def _ranks(device: order.Device, names: Sequence[str]) -> Mapping[str, int]:
    ordered = sorted(names, key=lambda name: device.latency(name).figure)
    return {name: rank for rank, name in enumerate(ordered, 1)}


def _end(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None


def _shown(network: str) -> str:
    return shown(network, network)


def _value(value: Value | None) -> str:
    return "-" if value is None else e(value)


def sentence(one: Comparison) -> str:
    """Return what a comparison says, in plain words."""
    made = one.found
    return (
        f"{len(made.networks)} networks; rank correlation of their latencies {made.correlation};"
        f" {len(made.inversions)} of {made.pairs} pairs change places, {len(made.beyond_noise)} of them beyond noise"
        f" ({made.a.noise})."
    )


def section(found: CpuGpu, headlines: str) -> str:
    """Return the section: the papers' two claims, contrasts, and a chart with its tables for each device."""
    none = "" if found.comparisons else "<p>No device has three networks on both its CPU and its GPU.</p>"
    skipped = folded("Too few networks on both", items(map(e, found.skipped))) if found.skipped else ""
    blocks = "".join(_block(number, one) for number, one in enumerate(found.comparisons))
    return (
        "<p>Does the order of networks by latency hold from a CPU to the GPU beside it? Latencies of two devices are"
        " never set against each other, only their orders; whose figures they are stands with each.</p>"
        f'<div class="cards">{headlines}</div>{none}{_contrasts(found.contrasts)}{blocks}{skipped}'
    )


def _contrasts(contrasts: Sequence[order.Contrast]) -> str:
    if not contrasts:
        return ""

    def cell(pair: tuple[str, str]) -> str:
        return f"{_shown(pair[0])}{'' if pair[1] == 'fp32' else f' {pair[1].upper()}'}"

    rows = [
        (
            e(f"{cell(one.one)} over {cell(one.other)}"),
            e(one.gpu.name if one.gpu else one.cpu.name),
            _value(one.on_cpu),
            _value(one.on_gpu),
            "opposite, beyond noise" if one.turned else "",
            badge(one.cpu.kind),
        )
        for one in contrasts
    ]
    heads = ("latency of", "device", "on the CPU", "on the GPU", "CPU against GPU", "evidence")
    return "<h3>The same two networks on both; below 1 the first is faster</h3>" + table(
        heads, rows, label="Ratios on CPU and GPU", numeric=(2, 3)
    )


def _block(number: int, one: Comparison) -> str:
    made = one.found
    name = f"{made.a.full_name} against {made.b.full_name}"
    source = f" Source: {e(made.a.source)}." if made.a.source else ""
    some_left = "" if len(one.drawn) == len(made.networks) else f" The chart has {MOST} of them."
    figure = (
        f'<figure data-chart="slope" data-pair="{number}"><div class="plot" role="img" aria-label="{e(name)}; the'
        f' tables below say the same"></div><figcaption>Networks by latency, fastest on top, on the CPU (left) and the'
        f" GPU (right); lines that cross change places, thick ones beyond noise.{source}{some_left} {badge(one.kind)}"
        "</figcaption></figure>"
    )
    body = f"<p>{e(sentence(one))}</p>{figure}{_inversions(made)}{_predictors(made)}"
    return folded(
        f"<strong>{e(name)}</strong> {badge(one.kind)}",
        body,
        attributes=f'class="comparison" data-kind="{one.kind}"',
        opened=number < OPEN,
    )


def _inversions(made: order.Order) -> str:
    if not made.inversions:
        return "<p>No pair changes places.</p>"
    rows = [
        (
            e(_shown(pair.first)),
            e(_shown(pair.second)),
            _value(pair.ratio_a),
            _value(pair.ratio_b),
            "beyond noise" if pair.beyond_noise else "within noise",
        )
        for pair in made.inversions[:PAIRS]
    ]
    heads = ("faster on the CPU", "faster on the GPU", "second over first, CPU", "second over first, GPU", "")
    left = len(made.inversions) - PAIRS
    tail = f"<p>and {left} more: `mobench order` has all</p>" if left > 0 else ""
    return folded(
        f"{len(made.inversions)} pairs that change places",
        table(heads, rows, label="Pairs that change places", numeric=(2, 3)) + tail,
        opened=len(made.inversions) <= 6,
    )


def _predictors(made: order.Order) -> str:
    rows = [
        (
            e(where),
            e(one.name),
            _value(one.correlation),
            f"{one.right:g} of {one.pairs}",
            str(len(one.networks)),
        )
        for where, predictors in (("CPU", made.predictors_a), ("GPU", made.predictors_b))
        for one in predictors
    ]
    heads = ("latency on", "predicted by", "rank correlation", "pairs in order", "networks")
    return (
        folded("What predicts the latency", table(heads, rows, label="Predictors", numeric=(2, 3, 4))) if rows else ""
    )
