"""A binding of NVML without a GPU: answers in the shapes of nvidia-ml-py, with faults in place of any of them.

Values are those that an H200 gave (driver 580.159.03, idle); shapes and error texts are nvidia-ml-py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

UUID = "GPU-af7b61d8-21af-baea-6a19-42a1f9f00001"
MIB = 1 << 20


class NVMLError(Exception):
    """The base of its errors."""

    text = "Unknown Error"

    def __str__(self) -> str:
        return self.text


class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 (the binding's own name)
    text = "Not Supported"


class NVMLError_NoPermission(NVMLError):  # noqa: N801, N818
    text = "Insufficient Permissions"


class NVMLError_DriverNotLoaded(NVMLError):  # noqa: N801, N818
    text = "Driver Not Loaded"


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818
    text = "NVML Shared Library Not Found"


class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801, N818
    text = "Function Not Found"


class NVMLError_NotFound(NVMLError):  # noqa: N801, N818
    text = "Not Found"


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801, N818
    text = "GPU is lost"


IDLE: Mapping[str, Any] = {
    "nvmlInit": None,
    "nvmlSystemGetDriverVersion": "580.159.03",
    "nvmlSystemGetCudaDriverVersion": 13000,
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}",
    "nvmlDeviceGetUUID": lambda handle: UUID,
    "nvmlDeviceGetName": "NVIDIA H200",
    "nvmlDeviceGetCudaComputeCapability": (9, 0),
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=143771 * MIB, free=143300 * MIB, used=471 * MIB),
    "nvmlDeviceGetClockInfo": lambda handle, clock: {1: 345, 2: 3201}[clock],
    "nvmlDeviceGetMaxClockInfo": lambda handle, clock: {1: 1980, 2: 3201}[clock],
    "nvmlDeviceGetApplicationsClock": lambda handle, clock: {1: 1980, 2: 3201}[clock],
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
    "nvmlDeviceGetViolationStatus": lambda handle, policy: SimpleNamespace(
        referenceTime=1_763_000_000_000_000, violationTime=(2_000_000, 0)[policy]
    ),
    "nvmlDeviceGetTemperature": lambda handle, sensor: 31,
    "nvmlDeviceGetPowerUsage": 76_420,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetTotalEnergyConsumption": 9_123_456,
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0),
    "nvmlDeviceGetComputeRunningProcesses": [],
    "nvmlDeviceGetGraphicsRunningProcesses": [],
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetCurrPcieLinkGeneration": 5,
    "nvmlDeviceGetCurrPcieLinkWidth": 16,
    "nvmlDeviceGetMaxPcieLinkGeneration": 5,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetSamples": NVMLError_NotFound(),
}
CONSTANTS: Mapping[str, int] = {
    "NVML_CLOCK_SM": 1,
    "NVML_CLOCK_MEM": 2,
    "NVML_TEMPERATURE_GPU": 0,
    "NVML_PERF_POLICY_POWER": 0,
    "NVML_PERF_POLICY_THERMAL": 1,
    "NVML_TOTAL_POWER_SAMPLES": 0,
}


def fake(without: tuple[str, ...] = (), **answers: Any) -> SimpleNamespace:
    """Return a binding that answers as an idle H200 does, but for ``answers``; an error among them is raised.

    ``without``: what this version of the binding does not have.
    """
    told = {**IDLE, **answers}
    functions = {name: _answer(told[name]) for name in told if name not in without}
    constants = {name: value for name, value in CONSTANTS.items() if name not in without}
    return SimpleNamespace(NVMLError=NVMLError, **functions, **constants)


def _answer(value: Any) -> Callable[..., Any]:
    def answer(*arguments: Any) -> Any:
        if isinstance(value, NVMLError):
            raise value
        return value(*arguments) if callable(value) else value

    return answer


def process(pid: int, memory: int | None = 300 * MIB) -> SimpleNamespace:
    """Return a process on the GPU as the binding lists it: its memory is None where the driver does not tell."""
    return SimpleNamespace(pid=pid, usedGpuMemory=memory, gpuInstanceId=0xFFFFFFFF, computeInstanceId=0xFFFFFFFF)
