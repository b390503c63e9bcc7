"""Which campaign would decide the most claims on a device: the cells it needs and the commands that time them.

Claims are taken in the order of how few networks they add to those already chosen, so that a short campaign decides as
many as it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobench.claims.check import Judged, exports
from mobench.claims.functions import axes, cells, is_placed
from mobench.claims.language import Name, calls
from mobench.claims.networks import in_zoo
from mobench.claims.ranks import MIN_NETWORKS
from mobench.claims.values import Need
from mobench.zoo import catalogue
from mobench.zoo.count import count
from mobench.zoo.spec import get

SECONDS_A_CELL = 20  # twice the share of one in a pair's budget that finds a slowdown of 3 % (benchmarks/gate.py)
WHERE = {
    "desktop-cpu": ("cpu",),
    "desktop-gpu": ("cpu", "gpu"),
    "android-cpu": ("cpu",),
    "android-gpu": ("cpu", "gpu"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A claim the campaign would decide, and the cells that it adds to those before it."""

    claim: str
    new: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The campaign: its steps, its commands in their order, and the claims that this device cannot decide, and why."""

    steps: tuple[Step, ...]
    commands: tuple[str, ...]
    out: tuple[tuple[str, str], ...]


def plan(
    judged: Sequence[Judged],
    device: str,
    *,
    most_files: int | None = None,
    random: bool = False,
    budget_s: float | None = None,
) -> Plan:
    """Return the campaign on a device for the claims that our own measurements have not decided.

    Args:
        judged: the claims as they stand.
        device: a CPU (`desktop-cpu`, `android-cpu`), or a GPU for it and its machine's CPU in turns.
        most_files: stop before the campaign has more files than this.
        random: export with random weights, so that nothing is downloaded.
        budget_s: of the campaign; None is 20 s for each file and device.
    """
    open_: dict[str, tuple[Need, ...]] = {}
    out: list[tuple[str, str]] = []
    for each in judged:
        if not any(is_placed(test.tree) for test in each.claim.tests):
            continue
        if each.verdict_by("ours") in ("confirmed", "refuted"):
            continue
        needs, why = _needs(each, WHERE[device])
        if why:
            out.append((each.claim.id, why))
        else:
            open_[each.claim.id] = needs
    chosen: dict[tuple[str, str], None] = {}
    steps: list[Step] = []
    while open_:
        cost = {claim: [key for key in _files(needs) if key not in chosen] for claim, needs in open_.items()}
        claim = min(open_, key=lambda name: len(cost[name]))
        if most_files is not None and len(chosen) + len(cost[claim]) > most_files:
            break
        chosen |= dict.fromkeys(cost[claim])
        steps.append(Step(claim=claim, new=tuple(_name(*key) for key in cost[claim])))
        del open_[claim]
    out += [(claim, f"it would take more than {most_files} files") for claim in open_]
    return Plan(steps=tuple(steps), commands=_commands(tuple(chosen), device, random, budget_s), out=tuple(out))


def _needs(judged: Judged, where: Sequence[str]) -> tuple[tuple[Need, ...], str]:
    """Return the cells that a claim needs, or why this device cannot give them."""
    needs: list[Need] = []
    for test in judged.claim.tests:
        if not is_placed(test.tree):
            continue
        needs += cells(test.tree)
        ranked = axes(test.tree)
        if ranked:
            of = [a.text for call in calls(test.tree) for a in call.arguments[:1] if call.function == "rank_of"
                  and isinstance(a, Name)]  # fmt: skip
            networks = [spec.label for spec in catalogue.printed_sizes(of[0])] if of else _usual()
            places = [axis for axis in ranked if axis not in ("macs", "params")]
            needs += [Need(network=name, precision="fp32", where=axis) for name in networks for axis in places]
    for need in needs:
        if need.where == "top1":
            return (), "it needs accuracies: `mobench eval`"
        if need.where not in where:
            return (), f"it needs latencies on {need.where.replace('_', ' ')}"
        if not in_zoo(need.network):
            return (), f"{need.network} is not in the zoo"
    return tuple(dict.fromkeys(needs)), ""


def _usual() -> list[str]:
    """Return as many networks as a rank correlation needs, at their own size, the cheapest first."""
    bases = [name for name in catalogue.ordered() if catalogue.base(name) == name]
    return sorted(bases, key=lambda name: count(get(name)).macs)[: MIN_NETWORKS + 4]


def _files(needs: Sequence[Need]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((need.network, need.precision) for need in needs))


def _name(network: str, precision: str) -> str:
    return network if precision == "fp32" else f"{network} {precision}"


def _commands(files: Sequence[tuple[str, str]], device: str, random: bool, budget_s: float | None) -> tuple[str, ...]:
    """Return what exports the files and times them in one campaign.

    In LiteRT, the papers' runtime and that of a phone's GPU; on a desktop's GPU in ONNX Runtime, which has CUDA.
    """
    if not files:
        return ()
    runtime, form = ("ort", "onnx") if device == "desktop-gpu" else ("litert", "tflite")
    precisions = tuple(dict.fromkeys(precision for _, precision in files))
    lines = [
        f"{line} --format {form}"
        for precision in precisions
        for line in exports([network for network, other in files if other == precision], (precision,), random=random)
    ]
    networks = tuple(dict.fromkeys(network for network, _ in files))
    devices = (device.replace("-gpu", "-cpu"), device) if device.endswith("-gpu") else (device,)
    wanted = "".join(f" --precision {precision}" for precision in precisions)
    asked = "" if device == "desktop-cpu" else "".join(f" --device {each}" for each in devices)
    budget = budget_s or SECONDS_A_CELL * len(files) * len(devices)
    return (*lines, f"mobench run {' '.join(networks)} --runtime {runtime}{wanted}{asked} --budget {budget:g}")
