"""An NVIDIA GPU as NVML tells of it: what it is, the state it is in, and the energy it takes.

NVML is the driver's own library; it is read through the field's binding, nvidia-ml-py (module `pynvml`), which is
imported only when a GPU is opened. Where the binding, the driver or the GPU is missing, or does not tell something, the
value is None and the reason stands in `Gpu.describe()`: a campaign goes on without. No serial number, and nothing of
another's process but how many there are and their memory, gets into a record.

What a host that measures on such a GPU does with it (`mobench/hosts/desktop.py`):

    gpu = nvidia.Gpu()
    watch = nvidia.GpuWatch(gpu)                                   # in the place of device_state.Watch()
    machine = device_state.machine() | {"gpu": gpu.describe()}     # what the campaign's header has
    meter = gpu                                                    # for `mobench run --energy`; see mobench.energy

Its sessions need CUDA_DEVICE_ORDER=PCI_BUS_ID in their environment, so that CUDA counts GPUs as NVML does.
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean, median, stdev
from typing import Any, Literal, NamedTuple

from mobench.records import DeviceState, Energy, GpuState
from runners import device_state
from runners.device_files import Files, Source, family

# Why clocks are not higher: nvmlClocksEventReason*, in nvml.h; until driver 535 nvmlClocksThrottleReason*.
HELD_BY = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat, by the driver",
    0x40: "heat, by the hardware",
    0x80: "power brake",
    0x100: "display clocks",
}
_MIB = 1 << 20
# NVML does not document how often the energy counter moves. Users see 10 ms (gpuopenanalytics/pynvml#18), 20 to 100 ms
# (PETSc's manual page of PetscLogGpuEnergyMeter): so it is timed on the GPU at hand, over so many changes.
UPDATES = 6
UPDATES_S = 1.5  # one that did not move twice in this time moves once in it
_POLL_S = 0.001
# Where there is no counter (before Volta), the driver's buffer of power samples. On some GPUs nvmlDeviceGetPowerUsage
# is an average over the second before; the load has to be on for that long before a span begins (mobench.energy).
COUNTER, SAMPLES = "counter", "power samples"
NO_BINDING = "nvidia-ml-py is not installed"


class _Query(NamedTuple):
    """An NVML function of a GPU: its names, newest first, and its arguments by the binding's names for them."""

    functions: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    convert: Callable[[Any], Any] = int


def _watts(milliwatts: int) -> float:
    return milliwatts / 1e3


def _mib(count: Any) -> Callable[[Any], int]:
    return lambda memory: int(getattr(memory, count)) // _MIB


def _current(modes: Sequence[int]) -> bool:
    """Turn a pair of modes, the present one and the one after the next reboot, into whether the first is on."""
    return bool(modes[0])


def _held(reasons: int) -> tuple[str, ...]:
    named = [name for bit, name in HELD_BY.items() if reasons & bit]
    return (*named, *(f"reason {1 << n:#x}" for n in range(64) if reasons >> n & 1 and 1 << n not in HELD_BY))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)  # bytes: bindings before 12.535


_STATE = {
    "sm_mhz": _Query(("nvmlDeviceGetClockInfo",), ("NVML_CLOCK_SM",)),
    "memory_mhz": _Query(("nvmlDeviceGetClockInfo",), ("NVML_CLOCK_MEM",)),
    "held_by": _Query(
        ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"), convert=_held
    ),
    "power_held_ns": _Query(
        ("nvmlDeviceGetViolationStatus",), ("NVML_PERF_POLICY_POWER",), lambda time: int(time.violationTime)
    ),
    "heat_held_ns": _Query(
        ("nvmlDeviceGetViolationStatus",), ("NVML_PERF_POLICY_THERMAL",), lambda time: int(time.violationTime)
    ),
    "temp_c": _Query(("nvmlDeviceGetTemperature",), ("NVML_TEMPERATURE_GPU",), float),
    "power_w": _Query(("nvmlDeviceGetPowerUsage",), convert=_watts),
    "power_limit_w": _Query(("nvmlDeviceGetEnforcedPowerLimit",), convert=_watts),
    "energy_mj": _Query(("nvmlDeviceGetTotalEnergyConsumption",)),
    "busy_percent": _Query(("nvmlDeviceGetUtilizationRates",), convert=lambda rates: int(rates.gpu)),
    "memory_used_mb": _Query(("nvmlDeviceGetMemoryInfo",), convert=_mib("used")),
    "mig": _Query(("nvmlDeviceGetMigMode",), convert=_current),
    "pcie_generation": _Query(("nvmlDeviceGetCurrPcieLinkGeneration",)),
    "pcie_width": _Query(("nvmlDeviceGetCurrPcieLinkWidth",)),
}
_DESCRIPTION = {
    "name": _Query(("nvmlDeviceGetName",), convert=_text),
    "compute_capability": _Query(("nvmlDeviceGetCudaComputeCapability",), convert=lambda pair: f"{pair[0]}.{pair[1]}"),
    "memory_mb": _Query(("nvmlDeviceGetMemoryInfo",), convert=_mib("total")),
    "sm_max_mhz": _Query(("nvmlDeviceGetMaxClockInfo",), ("NVML_CLOCK_SM",)),
    "memory_max_mhz": _Query(("nvmlDeviceGetMaxClockInfo",), ("NVML_CLOCK_MEM",)),
    "sm_application_mhz": _Query(("nvmlDeviceGetApplicationsClock",), ("NVML_CLOCK_SM",)),
    "memory_application_mhz": _Query(("nvmlDeviceGetApplicationsClock",), ("NVML_CLOCK_MEM",)),
    "power_limit_w": _Query(("nvmlDeviceGetEnforcedPowerLimit",), convert=_watts),
    "power_default_w": _Query(("nvmlDeviceGetPowerManagementDefaultLimit",), convert=_watts),
    "mig": _Query(("nvmlDeviceGetMigMode",), convert=_current),
    "persistence": _Query(("nvmlDeviceGetPersistenceMode",), convert=bool),
    "ecc": _Query(("nvmlDeviceGetEccMode",), convert=_current),
    "pcie_max_generation": _Query(("nvmlDeviceGetMaxPcieLinkGeneration",)),
    "pcie_max_width": _Query(("nvmlDeviceGetMaxPcieLinkWidth",)),
}
_COUNTER = _STATE["energy_mj"]
# Compute contexts and graphics: both take the GPU's time. A GPU without graphics need not know the second.
_PROCESSES = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")


class Gpu:
    """The NVIDIA GPU that CUDA counts first; where there is none, ``absent`` says why, and all else is None."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        nvml: Any = None,
        source: Source | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open NVML and find the GPU.

        Args:
            environ: CUDA_VISIBLE_DEVICES in it says which; this process's environment where None.
            nvml: the binding; `pynvml` where None.
            source: where processes are looked up; this machine where None.
            clock: seconds.
            sleep: waits for so many.
        """
        self._source, self._clock, self._sleep = source or Files(), clock, sleep
        self._handle: Any = None
        self._update_s: float | None = None
        self._began: tuple[float, float | None, int] | None = None  # a span's: when, the counter, the last sample
        self.absent = ""
        if nvml is None:
            try:
                nvml = importlib.import_module("pynvml")
            except ImportError:
                self.absent = NO_BINDING
                return
        self._nvml = nvml
        try:
            nvml.nvmlInit()
            self._handle = self._find((os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES", "0"))
        except nvml.NVMLError as error:  # no library, no driver, no permission, no such GPU
            self.absent = f"NVML: {error}"

    def _find(self, visible: str) -> Any:
        """Return the handle of the first GPU that CUDA may see, by index or by the beginning of its UUID."""
        nvml, first = self._nvml, visible.split(",")[0].strip()
        if not nvml.nvmlDeviceGetCount():
            self.absent = "NVML sees no GPU"
            return None
        if first.isdecimal():
            return nvml.nvmlDeviceGetHandleByIndex(int(first))
        if first.startswith("MIG-"):
            return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(first))
        for index in range(nvml.nvmlDeviceGetCount()) if first.startswith("GPU-") else ():
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if _text(nvml.nvmlDeviceGetUUID(handle)).startswith(first):
                return handle
        self.absent = f"CUDA_VISIBLE_DEVICES={visible} shows no GPU"
        return None

    def describe(self) -> dict[str, Any]:
        """Describe the GPU for a campaign's header, in JSON's types.

        Name, ``driver``, the newest ``cuda`` that it runs, memory, clocks' maxima and settings, power limits, MIG,
        persistence, ECC, PCIe's best; ``energy``: what tells it; ``lacks``: why a value is not told, by its name. Or
        ``absent``: why there is no GPU.
        """
        if self._handle is None:
            return {"absent": self.absent}
        info: dict[str, Any] = {}
        lacks: dict[str, str] = {}
        for name, query in {**_STATE, **_DESCRIPTION}.items():
            value, why = self._ask(query)
            if why:
                lacks[name] = why
            elif name in _DESCRIPTION:
                info[name] = value
        info["driver"] = self._system("nvmlSystemGetDriverVersion", _text)
        info["cuda"] = self._system("nvmlSystemGetCudaDriverVersion", lambda n: f"{n // 1000}.{n % 1000 // 10}")
        info["count"] = self._system("nvmlDeviceGetCount", int)
        info["energy"] = COUNTER if "energy_mj" not in lacks else SAMPLES if self._samples(0) else None
        return {**{key: value for key, value in info.items() if value is not None}, "lacks": lacks}

    def state(self, when: Literal["before", "during", "after"], ours: Collection[int] = ()) -> GpuState:
        """Return what the GPU is doing now; ``ours`` are the ids of our processes."""
        if self._handle is None:
            return GpuState()
        told = {name: self._ask(query)[0] for name, query in _STATE.items()}
        others, others_mb = self._others(ours, alone=when == "before")
        return GpuState(**told, others=others, others_mb=others_mb)

    def _others(self, ours: Collection[int], *, alone: bool) -> tuple[int | None, int | None]:
        """Return how many processes that are not ours are on the GPU, and their memory in MiB.

        NVML gives ids as the host counts them, in some versions a thread's. In a container they are nobody's here:
        then others can be told from ours only while none of ours is on the GPU (``alone``).
        """
        found: dict[int, int | None] = {}
        for function in _PROCESSES:
            listed, why = self._ask(_Query((function,), convert=list))
            if why and function == _PROCESSES[0]:
                return None, None
            found |= {process.pid: getattr(process, "usedGpuMemory", None) for process in listed or ()}
        texts = self._source.read_many([f"/proc/{pid}/status" for pid in found])
        groups = {pid: _thread_group(texts.get(f"/proc/{pid}/status", "")) for pid in found}
        if None in groups.values() and not alone:
            return None, None
        sizes = [found[pid] for pid, group in groups.items() if group not in ours]
        told = [size for size in sizes if size is not None]
        return len(sizes), sum(told) // _MIB if len(told) == len(sizes) else None

    def begin(self) -> bool:
        """Begin a span whose energy `end` gives; return whether this GPU tells it. The load should be on by now."""
        if self._handle is None:
            return False
        counter = self._ask(_COUNTER)[0]
        if counter is not None and self._update_s is None:
            self._update_s = self._time_updates()
            counter = self._ask(_COUNTER)[0]
        samples = self._samples(0) if counter is None else []
        self._began = (self._clock(), counter, samples[-1][0] if samples else 0)
        return counter is not None or bool(samples)

    def end(self) -> Energy | None:
        """Return what the board took since `begin`, its idle share included; None where it did not tell.

        Its error: by the counter, that either end may be late by one of its updates; by samples, what one sample
        stands for and twice the standard error of their mean.
        """
        if self._began is None:
            return None
        (began, before_mj, last), self._began = self._began, None
        seconds = self._clock() - began
        if before_mj is not None:
            after_mj = self._ask(_COUNTER)[0]
            if after_mj is None or after_mj <= before_mj or seconds <= 0:
                return None  # it did not move, or the driver was reloaded
            taken = float(after_mj - before_mj)
            late_s = self._update_s or UPDATES_S
            # Its power is at most what it took over the span without one update.
            error = taken * late_s / (seconds - late_s) if seconds > 2 * late_s else taken
            return Energy(seconds=seconds, energy_mj=taken, error_mj=error, source=COUNTER)
        watts = [milliwatts / 1e3 for _, milliwatts in self._samples(last)]
        if len(watts) < 2:
            return None
        taken = mean(watts) * seconds * 1e3
        error = taken / len(watts) + 2 * stdev(watts) / len(watts) ** 0.5 * seconds * 1e3
        return Energy(seconds=seconds, energy_mj=taken, error_mj=min(taken, error), source=SAMPLES)

    def _samples(self, since_us: int) -> list[tuple[int, int]]:
        """Return the driver's power samples after a moment: CPU time in microseconds, milliwatts."""
        kind = getattr(self._nvml, "NVML_TOTAL_POWER_SAMPLES", None)
        ask = getattr(self._nvml, "nvmlDeviceGetSamples", None)
        if kind is None or ask is None:
            return []
        try:
            _, samples = ask(self._handle, kind, since_us)
        except self._nvml.NVMLError:  # Not Found: none since
            return []
        return sorted(
            (int(sample.timeStamp), int(sample.sampleValue.uiVal))
            for sample in samples
            if sample.timeStamp > since_us and sample.sampleValue.uiVal > 0  # the buffer's unused part is 0
        )

    def _time_updates(self) -> float:
        """Return about how often the energy counter moves, in seconds: the median of the gaps between changes."""
        changes: list[float] = []
        began, last = self._clock(), self._ask(_COUNTER)[0]
        while len(changes) < UPDATES and self._clock() - began < UPDATES_S:
            self._sleep(_POLL_S)
            now = self._ask(_COUNTER)[0]
            if now != last:
                changes.append(self._clock())
                last = now
        gaps = [after - before for before, after in pairwise(changes)]
        return median(gaps) if gaps else UPDATES_S

    def _ask(self, query: _Query) -> tuple[Any, str]:
        """Return what a function says of the GPU, or None and why it does not.

        Of several names the driver may lack the one that the binding knows: then the next is tried.
        """
        nvml, why = self._nvml, "unknown to this nvidia-ml-py"
        for name in query.functions:
            if not all(hasattr(nvml, each) for each in (name, *query.arguments)):
                continue
            try:
                value = getattr(nvml, name)(self._handle, *(getattr(nvml, each) for each in query.arguments))
            except nvml.NVMLError as error:
                why = str(error)
            else:
                return query.convert(value), ""
        return None, why

    def _system(self, function: str, convert: Callable[[Any], Any]) -> Any:
        try:
            return convert(getattr(self._nvml, function)())
        except (AttributeError, self._nvml.NVMLError):
            return None


def _thread_group(status: str) -> int | None:
    """Return the id of the process that a `/proc/ID/status` is of; None where there is no such file here."""
    match = re.search(r"^Tgid:\s*(\d+)", status, re.MULTILINE)
    return int(match[1]) if match else None


class GpuWatch(device_state.Watch):
    """This machine's state, and in each the GPU's."""

    def __init__(self, gpu: Gpu) -> None:
        """Begin to count; ``gpu`` may be absent."""
        super().__init__()
        self._gpu = gpu

    def state(self, when: Literal["before", "during", "after"], t_s: float) -> DeviceState:
        """Read the state of the machine and of the GPU, in some milliseconds."""
        told = super().state(when, t_s)
        return told if self._gpu.absent else replace(told, gpu=self._gpu.state(when, family(Files(), os.getpid())))
