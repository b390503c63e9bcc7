"""What an NVIDIA GPU's states say against the figures that were measured on it. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from mobench.records import DeviceState, GpuState

# Of the reasons that `runners.nvidia` names, those that hold clocks below what the work would take.
SLOWED = ("power cap", "hardware slowdown", "heat, by the driver", "heat, by the hardware", "power brake")
SLOWED_SHARE = 0.01  # of the time, from which power or heat held the clocks down long enough to say so
CLOCK_SPREAD = 1.05  # highest over lowest SM clock while it ran, from which it was not one clock

MENDS = {
    "GPU_THROTTLED": "let it cool, give it air, or see why its power limit is low (`nvidia-smi -q -d PERFORMANCE`)",
    "GPU_SHARED": "stop what else runs on the GPU",
    "GPU_CLOCKS": "run longer, so that all cells meet all clocks; ratios are paired and stay true",
    "GPU_SLICE": "MIG is on: latency is that of a slice of the GPU, power and energy are those of the whole one",
}


def doubts(states: Sequence[DeviceState]) -> Iterator[tuple[str, str]]:
    """Yield the name of each doubt that a campaign's states raise about its GPU, and why."""
    told = [(state, state.gpu) for state in states if state.gpu is not None]
    running = [gpu for state, gpu in told if state.when == "during"]
    if slowed := [*_reasons(running), *_shares(told)]:
        yield "GPU_THROTTLED", "; ".join(slowed)
    if most := max((gpu.others or 0 for _, gpu in told), default=0):
        sizes = [gpu.others_mb for _, gpu in told if gpu.others and gpu.others_mb is not None]
        memory = f", with {max(sizes)} MiB" if sizes else ""
        yield "GPU_SHARED", f"{most} other process{'' if most == 1 else 'es'} on it{memory}"
    clocks = [gpu.sm_mhz for gpu in running if gpu.sm_mhz and "idle" not in (gpu.held_by or ())]
    if clocks and max(clocks) > CLOCK_SPREAD * min(clocks):
        yield "GPU_CLOCKS", f"its SM clock went from {min(clocks)} to {max(clocks)} MHz while it ran"
    if any(gpu.mig for _, gpu in told):
        yield "GPU_SLICE", "MIG is on"


def _reasons(running: Sequence[GpuState]) -> Iterator[str]:
    counted = Counter(reason for gpu in running for reason in gpu.held_by or () if reason in SLOWED)
    for reason, count in counted.items():
        yield f"{reason} in {count} of {len(running)} states"


def _shares(told: Sequence[tuple[DeviceState, GpuState]]) -> Iterator[str]:
    """Yield for which share of the time power and heat held the clocks, from counters that count it."""
    for name in ("power", "heat"):
        counts = [(state.t_s, getattr(gpu, f"{name}_held_ns")) for state, gpu in told]
        known = [(t_s, ns) for t_s, ns in counts if ns is not None]
        # A counter that begins anew, with the driver, loses what it had.
        held_ns = sum(max(0, after - before) for (_, before), (_, after) in pairwise(known))
        lasted_s = known[-1][0] - known[0][0] if known else 0.0
        if lasted_s > 0 and held_ns / 1e9 / lasted_s > SLOWED_SHARE:
            yield f"held down by {name} for {min(1.0, held_ns / 1e9 / lasted_s):.0%} of the time"
