"""What a GPU's states say against its figures: each doubt where it is due, and none where nothing is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from made_runs import MACHINE, make_run, spread

from mobench import gpu_cells, gpu_doubts
from mobench.records import DeviceState, GpuState
from mobench.stats import summarize

FINE = GpuState(sm_mhz=1980, held_by=("application clocks",), power_held_ns=0, heat_held_ns=0, others=0, mig=False)
IDLE = replace(FINE, sm_mhz=345, held_by=("idle",))


def at(when: Literal["before", "during", "after"], t_s: float, gpu: GpuState | None) -> DeviceState:
    return DeviceState(when=when, t_s=t_s, gpu=gpu)


def states(*running: GpuState | None) -> list[DeviceState]:
    """An idle GPU before and after, and what it did meanwhile, ten seconds apart."""
    during = [at("during", 10.0 * (number + 1), gpu) for number, gpu in enumerate(running)]
    return [at("before", 0.0, IDLE), *during, at("after", 10.0 * (len(running) + 1), IDLE)]


def test_a_gpu_at_its_clocks_and_alone_raises_no_doubt() -> None:
    assert list(gpu_doubts.doubts(states(FINE, replace(FINE, sm_mhz=1965), IDLE))) == []
    assert list(gpu_doubts.doubts([at("before", 0.0, None), at("after", 1.0, None)])) == []
    assert list(gpu_doubts.doubts(states(GpuState(), GpuState()))) == []


@pytest.mark.parametrize(
    ("running", "doubt"),
    [
        ({"held_by": ("power cap",)}, ("GPU_THROTTLED", "power cap in 1 of 2 states")),
        (
            {"held_by": ("heat, by the hardware", "hardware slowdown")},
            ("GPU_THROTTLED", "heat, by the hardware in 1 of 2 states; hardware slowdown in 1 of 2 states"),
        ),
        ({"others": 2, "others_mb": 700}, ("GPU_SHARED", "2 other processes on it, with 700 MiB")),
        ({"others": 1, "others_mb": None}, ("GPU_SHARED", "1 other process on it")),
        ({"sm_mhz": 1410}, ("GPU_CLOCKS", "its SM clock went from 1410 to 1980 MHz while it ran")),
        ({"mig": True}, ("GPU_SLICE", "MIG is on")),
    ],
)
def test_each_doubt(running: dict[str, Any], doubt: tuple[str, str]) -> None:
    assert list(gpu_doubts.doubts(states(FINE, replace(FINE, **running)))) == [doubt]


def test_throttling_between_two_states_is_told_by_the_drivers_counters() -> None:
    """3 s of 30; and a counter that began anew with the driver is no negative time."""
    held = [replace(FINE, power_held_ns=ns) for ns in (2_000_000_000, 3_000_000_000)]
    after = [*states(*held)[:-1], at("after", 30.0, replace(IDLE, power_held_ns=0))]
    assert list(gpu_doubts.doubts(after)) == [("GPU_THROTTLED", "held down by power for 10% of the time")]
    short = states(replace(FINE, heat_held_ns=200_000_000), replace(FINE, heat_held_ns=200_000_000))
    assert list(gpu_doubts.doubts(short)) == []  # under a hundredth of the time


def test_the_doubts_are_those_of_cells_on_the_gpu_and_have_a_mend(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "j.jsonl",
        {"cpu.onnx": spread(2.0), "gpu.onnx": spread(1.0)},
        target={"gpu.onnx": {"device": "desktop-gpu", "provider": "cuda"}},
        states=states(replace(FINE, others=1, others_mb=10)),
    )
    on_cpu, on_gpu = summarize(run)
    assert "GPU_SHARED" not in {doubt.name for doubt in on_cpu.doubts}
    told = next(doubt for doubt in on_gpu.doubts if doubt.name == "GPU_SHARED")
    assert told.why == "1 other process on it, with 10 MiB"
    assert told.mend == gpu_doubts.MENDS["GPU_SHARED"]


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"gpu": {"absent": "NVML: Driver Not Loaded"}}, "NVML: Driver Not Loaded"),
        ({"gpu": {"name": "Tesla T4"}}, "this GPU does not tell it"),
        ({}, "only an NVIDIA GPU's can be measured"),
    ],
)
def test_energy_that_was_asked_for_and_is_not_told_is_a_line(tmp_path: Path, machine: dict[str, Any], why: str) -> None:
    header = {"settings": {"budget_s": 20.0, "energy_s": 3.0}}
    run = make_run(tmp_path / "j.jsonl", {"a.onnx": spread(1.0)}, machine={**MACHINE, **machine}, header=header)
    assert gpu_cells.notes(run) == [f"no energy: {why}"]
    run = make_run(tmp_path / "k.jsonl", {"a.onnx": spread(1.0)}, machine={**MACHINE, **machine})
    assert gpu_cells.notes(run) == []
