"""An NVIDIA GPU as NVML tells of it: every value, every way to tell none, and energy against a known power."""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_nvml
import pytest
from fake_nvml import MIB, UUID, fake, process

from mobench import gpu_doubts, store
from mobench.records import DeviceState, GpuState
from runners import nvidia
from runners.fake import FakeClock
from runners.nvidia import Gpu


class Processes:
    """The processes of a machine, by id: each one's thread group."""

    def __init__(self, groups: Mapping[int, int] = {}) -> None:
        self.groups = groups

    def read_many(self, patterns: Sequence[str]) -> dict[str, str]:
        """Read their status."""
        texts = {f"/proc/{pid}/status": f"Name:\tx\nTgid:\t{group}\nPid:\t{pid}" for pid, group in self.groups.items()}
        return {path: texts[path] for path in patterns if path in texts}


def opened(nvml: Any, groups: Mapping[int, int] = {}, **more: Any) -> Gpu:
    return Gpu({}, nvml=nvml, source=Processes(groups), **more)


def test_an_idle_gpu_fills_the_record() -> None:
    state = opened(fake()).state("before")
    assert state == GpuState(
        sm_mhz=345,
        memory_mhz=3201,
        held_by=("idle",),
        power_held_ns=2_000_000,
        heat_held_ns=0,
        temp_c=31.0,
        power_w=76.42,
        power_limit_w=700.0,
        energy_mj=9_123_456,
        busy_percent=0,
        memory_used_mb=471,
        others=0,
        others_mb=0,
        mig=False,
        pcie_generation=5,
        pcie_width=16,
    )


def test_its_description_has_no_serial_number_and_is_json() -> None:
    told = opened(fake()).describe()
    assert (told["name"], told["driver"], told["cuda"]) == ("NVIDIA H200", "580.159.03", "13.0")
    assert (told["memory_mb"], told["compute_capability"], told["sm_max_mhz"]) == (143771, "9.0", 1980)
    assert (told["power_limit_w"], told["power_default_w"]) == (700.0, 700.0)
    assert (told["persistence"], told["ecc"], told["mig"], told["count"]) == (True, True, False, 1)
    assert (told["energy"], told["lacks"]) == ("counter", {})
    assert UUID not in json.dumps(told)


@pytest.mark.parametrize(
    ("nvml", "why"),
    [
        (fake(nvmlInit=fake_nvml.NVMLError_LibraryNotFound()), "NVML: NVML Shared Library Not Found"),
        (fake(nvmlInit=fake_nvml.NVMLError_DriverNotLoaded()), "NVML: Driver Not Loaded"),
        (fake(nvmlInit=fake_nvml.NVMLError_NoPermission()), "NVML: Insufficient Permissions"),
        (fake(nvmlDeviceGetHandleByIndex=fake_nvml.NVMLError_GpuIsLost()), "NVML: GPU is lost"),
        (fake(nvmlDeviceGetCount=0), "NVML sees no GPU"),
    ],
)
def test_without_a_gpu_everything_is_none_and_says_why(nvml: Any, why: str) -> None:
    gpu = opened(nvml)
    assert gpu.absent == why
    assert gpu.describe() == {"absent": why}
    assert gpu.state("during") == GpuState()
    assert not gpu.begin() and gpu.end() is None


def test_without_the_binding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # what importing it then raises is an ImportError
    gpu = Gpu({})
    assert gpu.absent == "nvidia-ml-py is not installed"
    assert gpu.state("after") == GpuState()


@pytest.mark.parametrize("field", [each.name for each in fields(GpuState) if not each.name.startswith("others")])
def test_what_one_function_does_not_tell_is_none_and_the_rest_is_there(field: str) -> None:
    query = nvidia._STATE[field]
    whole = opened(fake()).state("during")
    broken = {name: fake_nvml.NVMLError_NotSupported() for name in query.functions if name in fake_nvml.IDLE}
    gpu = opened(fake(**broken))
    state = gpu.state("during")
    assert getattr(state, field) is None
    unhurt = [name for name, other in nvidia._STATE.items() if other.functions != query.functions]
    assert all(getattr(state, name) == getattr(whole, name) for name in unhurt)
    assert gpu.describe()["lacks"][field] == "Not Supported"


def test_an_older_binding_and_driver_have_other_names_for_the_same() -> None:
    """A binding may know a name that the driver does not, or not know it at all; names were bytes once."""
    slowed = {"nvmlDeviceGetCurrentClocksThrottleReasons": 0x4 | 0x40}
    for nvml in (
        fake(nvmlDeviceGetCurrentClocksEventReasons=fake_nvml.NVMLError_FunctionNotFound(), **slowed),
        fake(without=("nvmlDeviceGetCurrentClocksEventReasons",), **slowed),
    ):
        assert opened(nvml).state("during").held_by == ("power cap", "heat, by the hardware")
    gpu = opened(fake(without=("nvmlDeviceGetViolationStatus",), nvmlDeviceGetName=b"Tesla T4"))
    assert gpu.describe()["name"] == "Tesla T4"
    assert gpu.describe()["lacks"]["heat_held_ns"] == "unknown to this nvidia-ml-py"


def test_a_reason_that_is_new_is_kept_by_its_number() -> None:
    assert opened(fake(nvmlDeviceGetCurrentClocksEventReasons=0x200)).state("during").held_by == ("reason 0x200",)


def test_a_gpu_that_is_lost_in_a_campaign_tells_nothing_more() -> None:
    nvml = fake()
    gpu = opened(nvml)
    for name in fake_nvml.IDLE:
        if name.startswith("nvmlDevice"):
            setattr(nvml, name, fake_nvml._answer(fake_nvml.NVMLError_GpuIsLost()))
    assert gpu.state("during") == GpuState()


@pytest.mark.parametrize(
    ("visible", "handle"),
    [
        (None, "gpu 0"),
        ("1,0", "gpu 1"),
        ("GPU-af7b61d8", "gpu 0"),
        ("MIG-1234", "whole of slice MIG-1234"),
        ("", None),
        ("-1", None),
        ("GPU-00", None),
    ],
)
def test_cuda_visible_devices_says_which_gpu(visible: str | None, handle: str | None) -> None:
    nvml = fake(
        nvmlDeviceGetCount=2,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"slice {uuid}",
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle=lambda slice_: f"whole of {slice_}",
    )
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    gpu = Gpu(environ, nvml=nvml, source=Processes())
    assert gpu._handle == handle
    assert gpu.absent == ("" if handle else f"CUDA_VISIBLE_DEVICES={visible} shows no GPU")


def test_others_are_counted_without_ours() -> None:
    """Ours may be listed by a thread's id; one process may hold compute and graphics; memory may be unknown."""
    running = {
        "nvmlDeviceGetComputeRunningProcesses": [process(11), process(70, 512 * MIB), process(71, 40 * MIB)],
        "nvmlDeviceGetGraphicsRunningProcesses": [process(71, 40 * MIB)],
    }
    gpu = opened(fake(**running), groups={11: 10, 70: 70, 71: 71})
    state = gpu.state("during", ours=[10])
    assert (state.others, state.others_mb) == (2, 552)
    running["nvmlDeviceGetGraphicsRunningProcesses"] = [process(80, None)]
    state = opened(fake(**running), groups={11: 10, 70: 70, 71: 71, 80: 80}).state("during", ours=[10])
    assert (state.others, state.others_mb) == (3, None)


def test_in_a_container_others_are_told_only_while_none_of_ours_runs() -> None:
    """NVML gives the host's ids, which mean nothing in a container."""
    gpu = opened(fake(nvmlDeviceGetComputeRunningProcesses=[process(414_141)]), groups={10: 10})
    assert gpu.state("before", ours=[10]).others == 1
    assert gpu.state("during", ours=[10]).others is None


def test_processes_that_may_not_be_listed_are_unknown() -> None:
    gpu = opened(fake(nvmlDeviceGetComputeRunningProcesses=fake_nvml.NVMLError_NoPermission()))
    assert gpu.state("before").others is None
    running = [process(70)]
    gpu = opened(
        fake(
            nvmlDeviceGetComputeRunningProcesses=running,
            nvmlDeviceGetGraphicsRunningProcesses=fake_nvml.NVMLError_NotSupported(),
        )
    )
    assert gpu.state("before").others == 1  # one without graphics


class Board:
    """A board that takes a constant power; its counter moves every ``period_s`` by what was taken since."""

    def __init__(self, watts: float, period_s: float, began_s: float = 0.037) -> None:
        self.clock, self.watts, self.period_s, self.began_s = FakeClock(), watts, period_s, began_s

    def counter(self, handle: Any) -> int:
        """Return mJ, as NVML does."""
        steps = (self.clock.now_s + self.began_s) // self.period_s
        return 5_000_000 + round(steps * self.period_s * self.watts * 1e3)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now_s += seconds

    def gpu(self, **answers: Any) -> Gpu:
        """Open it."""
        nvml = fake(**{"nvmlDeviceGetTotalEnergyConsumption": self.counter, **answers})
        return opened(nvml, clock=self.clock, sleep=self.wait)


@pytest.mark.parametrize("period_s", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("seconds", [0.6, 2.0, 3.33])
def test_energy_is_right_within_the_error_that_it_tells(period_s: float, seconds: float) -> None:
    board = Board(250.0, period_s)
    gpu = board.gpu()
    assert gpu.begin()
    assert gpu._update_s == pytest.approx(period_s, abs=0.002)  # found by watching it, to one poll
    board.wait(seconds)
    told = gpu.end()
    assert told is not None and told.source == "counter" and told.seconds == pytest.approx(seconds)
    assert abs(told.energy_mj - 250e3 * seconds) <= told.error_mj
    assert told.error_mj == pytest.approx(told.energy_mj * period_s / (seconds - period_s), rel=0.1)


def test_the_period_is_timed_once_and_a_span_costs_two_readings() -> None:
    board = Board(100.0, 0.1)
    gpu = board.gpu()
    gpu.begin()
    before = board.clock.now_s
    gpu.begin()
    assert board.clock.now_s == before


def test_a_counter_that_stands_still_tells_nothing() -> None:
    board = Board(100.0, 60.0)
    gpu = board.gpu()
    gpu.begin()
    assert gpu._update_s == nvidia.UPDATES_S
    board.wait(1.0)
    assert gpu.end() is None
    assert gpu.end() is None  # nor does a span that was not begun


def test_a_driver_reloaded_in_between_gives_no_negative_energy() -> None:
    board = Board(100.0, 0.1)
    gpu = board.gpu()
    gpu.begin()
    gpu._nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle: 12
    board.wait(1.0)
    assert gpu.end() is None


def sampled(board: Board, milliwatts: Callable[[int], int], every_s: float = 0.02) -> Callable[..., Any]:
    """Return a driver's buffer of power samples; what it has not filled yet is 0, as NVML leaves it."""

    def samples(handle: Any, kind: int, since_us: int) -> tuple[int, list[Any]]:
        count = int(board.clock.now_s / every_s) + 1
        told = [(1_000_000 + round(n * every_s * 1e6), milliwatts(n)) for n in range(count)] + [(0, 0)] * 3
        found = [SimpleNamespace(timeStamp=t, sampleValue=SimpleNamespace(uiVal=mw)) for t, mw in told]
        kept = [sample for sample in found if sample.timeStamp > since_us or sample.timeStamp == 0]
        if not any(sample.timeStamp for sample in kept):
            raise fake_nvml.NVMLError_NotFound
        return 1, kept

    return samples


def test_without_a_counter_the_drivers_power_samples_are_averaged() -> None:
    board = Board(0.0, 1.0)
    board.wait(1.0)
    gpu = board.gpu(
        nvmlDeviceGetTotalEnergyConsumption=fake_nvml.NVMLError_NotSupported(),
        nvmlDeviceGetSamples=sampled(board, lambda n: 60_000 if n % 2 else 80_000),
    )
    assert gpu.describe()["energy"] == "power samples"
    assert gpu.begin()
    board.wait(2.0)
    told = gpu.end()
    assert told is not None and told.source == "power samples"
    assert abs(told.energy_mj - 140e3) <= told.error_mj < 0.05 * told.energy_mj


def test_a_gpu_that_tells_neither_has_no_energy() -> None:
    board = Board(0.0, 1.0)
    gpu = board.gpu(nvmlDeviceGetTotalEnergyConsumption=fake_nvml.NVMLError_NotSupported())
    assert "energy" not in gpu.describe()
    assert not gpu.begin()
    assert gpu.end() is None


def test_a_watch_puts_the_gpus_state_into_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    state = nvidia.GpuWatch(opened(fake())).state("before", 0.0)
    assert state.gpu is not None and state.gpu.sm_mhz == 345
    absent = nvidia.GpuWatch(opened(fake(nvmlInit=fake_nvml.NVMLError_DriverNotLoaded())))
    assert absent.state("before", 0.0).gpu is None


def test_a_gpus_state_comes_back_from_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    states = [
        DeviceState(when="before", t_s=0.0, gpu=opened(fake()).state("before")),
        DeviceState(when="during", t_s=1.0),
    ]
    with store.Journal(path) as journal:
        journal.append("run", schema=store.SCHEMA, campaign="j", started="", device="desktop-gpu", cells=[])
        for state in states:
            journal.append("state", state)
    assert store.read(path).states == tuple(states)


def test_the_reasons_that_raise_a_doubt_are_words_of_nvmls() -> None:
    assert set(gpu_doubts.SLOWED) < set(nvidia.HELD_BY.values())
    assert {"idle", "application clocks", "display clocks", "sync boost"}.isdisjoint(gpu_doubts.SLOWED)


def test_every_value_of_a_state_is_told_by_some_function() -> None:
    told = {*nvidia._STATE, "others", "others_mb"}
    assert told == {each.name for each in fields(GpuState)}


def test_the_real_binding_has_every_name_that_is_used() -> None:
    pynvml = pytest.importorskip("pynvml", reason="needs the gpu extra: pip install nvidia-ml-py")
    queries = [*nvidia._STATE.values(), *nvidia._DESCRIPTION.values()]
    for query in queries:
        assert any(hasattr(pynvml, name) for name in query.functions), query.functions
        assert all(hasattr(pynvml, name) for name in query.arguments), query.arguments
    for name in (*nvidia._PROCESSES, "nvmlInit", "nvmlDeviceGetSamples", "NVML_TOTAL_POWER_SAMPLES", "NVMLError"):
        assert hasattr(pynvml, name), name
    # The numbers of the fake, and the bits of the reasons, are the binding's.
    assert {name: getattr(pynvml, name) for name in fake_nvml.CONSTANTS} == dict(fake_nvml.CONSTANTS)
    bits = {getattr(pynvml, name) for name in dir(pynvml) if re.match(r"nvmlClocks(Event|Throttle)Reason[A-Z]", name)}
    assert set(nvidia.HELD_BY) <= bits


def test_here_the_real_binding_says_why_there_is_none() -> None:
    pytest.importorskip("pynvml", reason="needs the gpu extra: pip install nvidia-ml-py")
    gpu = Gpu()
    if not gpu.absent:
        pytest.skip("there is a GPU here: tests/test_gpu_machine.py has its tests")
    assert gpu.absent.startswith("NVML: ")
    assert asdict(gpu.state("before")) == asdict(GpuState())
