"""What is particular to cells of a desktop's GPU: how a model runs there, what raises doubts, what is said. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

from mobench.errors import BadInputError
from mobench.records import IOS, NVIDIA, Ready, Run

GPU = "desktop-gpu"
IN_SOFTWARE = "in software"  # how a session says that its GPU is a program, such as SwiftShader
MENDS = {
    "PARTIAL": "its latency is the GPU's and the CPU's together, with copies between: leave out --allow-partial, or "
    "export it without these nodes",
    "INT8_AS_FLOAT": "compare it as a float file with more work; --provider tensorrt computes in INT8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWays:
    """In which ways cells are to run on a desktop's GPU: every combination that a provider has.

    ``ios`` are of `mobench.records.IOS`; only the first where empty. ``cuda_graphs`` and ``tf32s`` are off where empty.
    """

    ios: tuple[str, ...] = ()
    cuda_graphs: tuple[bool, ...] = ()
    tf32s: tuple[bool, ...] = ()
    partial: bool = False

    def check(self, chosen: Collection[tuple[str, str]]) -> None:
        """Refuse what none of the chosen devices and providers has.

        Raises:
            BadInputError: it is for a desktop's GPU, or for NVIDIA's providers; or a graph with copies was asked.
        """
        providers = {provider for device, provider in chosen if device == GPU}
        asked = {"--io": self.ios, "--cuda-graph": self.cuda_graphs, "--tf32": self.tf32s}
        given = [name for name, values in asked.items() if values] + ["--allow-partial"] * self.partial
        if given and not providers:
            raise BadInputError(given[0], "it is for a desktop's GPU", "with --device desktop-gpu")
        only_nvidia = [name for name in given if name in ("--cuda-graph", "--tf32") and True in asked[name]]
        if only_nvidia and not providers & {*NVIDIA}:
            mend = f"with --provider {' or '.join(NVIDIA)}"
            raise BadInputError(f"{only_nvidia[0]} on", f"{', '.join(sorted(providers))} has none", mend)
        if True in self.cuda_graphs and self.ios and IOS[0] not in self.ios:
            why = "a graph replays on memory that stays where it is"
            raise BadInputError("--cuda-graph on with --io host", why, f"add --io {IOS[0]}")

    def of(self, device: str, provider: str) -> list[dict[str, Any]]:
        """Return the fields of a target for each way that a provider has; none of them where it is no desktop's GPU."""
        if device != GPU:
            return [{}]
        graphs, tf32s = (self.cuda_graphs or (False,)), (self.tf32s or (False,))
        if provider not in NVIDIA:
            graphs, tf32s = (False,), (False,)
        asked = product(self.ios or IOS[:1], graphs, tf32s)
        # With copies there is no graph: a sweep over both times the copies once.
        ways = dict.fromkeys((io, graph and io == IOS[0], tf32) for io, graph, tf32 in asked)
        return [{"io": io, "cuda_graph": graph, "tf32": tf32, "partial": self.partial} for io, graph, tf32 in ways]


def way(target: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what else than provider and threads makes two ways to run on a GPU different, from a header's target.

    Campaigns of before there were desktop GPUs have none of it.
    """
    return target.get("io", ""), *(bool(target.get(key, False)) for key in ("cuda_graph", "tf32", "partial"))


def words(target: Mapping[str, Any]) -> str:
    """Return a way in words, for names: only what is not usual.

    >>> words({"io": "host", "tf32": True}), words({"io": "device"})
    ('host tf32', '')
    """
    io, graph, tf32, partial = way(target)
    named = (("host", io == "host"), ("graph", graph), ("tf32", tf32), ("partial", partial))
    return " ".join(name for name, is_so in named if is_so)


def doubts(ready: Sequence[Ready]) -> Iterator[tuple[str, str]]:
    """Yield the name of each doubt that a cell's last session raises, and why."""
    for last in ready[-1:]:
        others = {name: count for name, count in last.providers.items() if name != _taken_by(last)}
        if others:
            rest = ", ".join(f"{name} {count}" for name, count in others.items())
            why = f"{_taken_by(last)} runs {last.nodes_delegated} of {last.nodes_total} nodes, {rest}"
            yield "PARTIAL", f"{why}: {', '.join(last.left)}" if last.left else why
        if last.as_float:
            yield "INT8_AS_FLOAT", last.as_float


def _taken_by(ready: Ready) -> str:
    """Return the provider that was asked for as its nodes are counted: with ONNX Runtime `asked`, else the first."""
    return ready.asked if ready.asked in ready.providers else next(iter(ready.providers), "")


def figures(cell: Mapping[str, Any], ready: Sequence[Ready], batch: int, p50_ms: float | None) -> dict[str, Any]:
    """Return what a `mobench.stats.Summary` has of a GPU, from the header's cell and its sessions.

    ``images_per_s`` is the throughput of one stream of inferences; a GPU that is a program has no speed.
    """
    target, builds = cell["target"], [each.build_ns for each in ready if each.build_ns is not None]
    is_real = not any(IN_SOFTWARE in last.got for last in ready[-1:])
    return {
        "providers": dict(ready[-1].providers) if ready else {},
        "io": target.get("io", ""),
        "cuda_graph": bool(target.get("cuda_graph", False)),
        "tf32": bool(target.get("tf32", False)),
        "build_ms": median(builds) / 1e6 if builds else None,
        "images_per_s": batch / p50_ms * 1000 if p50_ms and is_real else None,
    }


def notes(run: Run) -> list[str]:
    """Return a line for each way in which cells ran on a desktop's GPU: on what, what was timed, how it was set.

    And one where energy was asked for and nothing told it.
    """
    lines = []
    last = {cell: ready for cell, _, ready in run.sessions if ready.io}
    said: dict[str, list[str]] = {}
    for cell, ready in last.items():
        where = f"{ready.got}: {ready.waits}"
        settings = ", ".join(f"{key} {value}" for key, value in ready.settings.items())
        said.setdefault(f"{where} ({settings})" if settings else where, []).append(cell)
    for text, cells in said.items():
        lines.append(text if len(said) == 1 else f"{', '.join(cells)}: {text}")
    if run.header.get("settings", {}).get("energy_s") and not run.energies:
        gpu = run.header.get("machine", {}).get("gpu") or {"absent": "only an NVIDIA GPU's can be measured"}
        lines.append(f"no energy: {gpu.get('absent') or 'this GPU does not tell it'}")
    return lines


def describe(machine: Mapping[str, Any]) -> str:
    """Return the name of a machine's GPU, from a campaign's header: NVML's, else Vulkan's; empty where neither."""
    gpu = machine.get("gpu") or {}
    return str(gpu.get("name") or next(iter(machine.get("vulkan") or ()), ""))
