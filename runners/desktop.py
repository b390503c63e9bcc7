"""Opens sessions on this machine: one Python child process a model."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobench.errors import BadInputError
from mobench.records import DEVICES, IOS, NVIDIA, RUNTIME_FORMATS, Artifact, Target
from runners import gpu_packages
from runners.wire import Session

START_DEADLINE_S = 120.0
BUILD_DEADLINE_S = 1800.0  # the first start in TensorRT tries kernels for minutes


def choose_cores(threads: int) -> tuple[int, ...]:
    """Return the affinity mask for ``threads`` threads: the fastest of the allowed cores, the last numbered first.

    Low-numbered cores serve most interrupts. Of two hardware threads of one core the second is taken last. As many
    threads as cores, or more, means no choice.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if threads >= len(allowed):
        return tuple(allowed)

    def rank(core: int) -> tuple[int, bool, int]:
        folder = Path(f"/sys/devices/system/cpu/cpu{core}")
        try:
            fastest_khz = int((folder / "cpufreq/cpuinfo_max_freq").read_text())
        except (OSError, ValueError):
            fastest_khz = 0
        try:
            first = re.match(r"\d+", (folder / "topology/thread_siblings_list").read_text())
        except OSError:
            first = None
        return fastest_khz, first is None or int(first[0]) == core, core

    return tuple(sorted(sorted(allowed, key=rank)[-threads:]))


@contextmanager
def keep_off(cores: Collection[int]) -> Iterator[None]:
    """Keep this process off the cores that are measured, as far as there are others, for as long as this lasts."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    others = allowed - set(cores)
    if not others:
        yield
        return
    os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def default_provider(runtime: str) -> str:
    """Return what a runtime runs in on this machine's GPU where nobody says: of ONNX Runtime what is installed."""
    return gpu_packages.default_provider() if runtime == "ort" else DEVICES["desktop-gpu"][runtime][0]


def open_session(
    artifact: Artifact, target: Target, *, start_deadline_s: float = START_DEADLINE_S, shape: tuple[int, ...] = ()
) -> Session:
    """Load a model in a fresh child process.

    Args:
        artifact: the model file.
        target: runtime, threads and cores.
        start_deadline_s: seconds for load and first inference.
        shape: the first input's shape, for a model that leaves more than its batch axis open.

    Raises:
        BadInputError: the runtime does not read this format, or another build of it is installed.
        MissingExtraError: it is not installed; only of a GPU that is known here already.
        SessionError: the model does not load or run, or the child died.
    """
    needed = RUNTIME_FORMATS.get(target.runtime)
    if needed != artifact.format:
        raise BadInputError(artifact.path.name, f"{target.runtime} does not read .{artifact.format}", "pick the other")
    on_gpu = target.device == "desktop-gpu"
    provider = target.provider or (default_provider(target.runtime) if on_gpu else "")
    if on_gpu and target.runtime == "ort":
        gpu_packages.require(provider)
    if provider == "tensorrt":
        start_deadline_s = max(start_deadline_s, BUILD_DEADLINE_S)
    config = {
        "runtime": target.runtime,
        "model": str(artifact.path),
        "threads": target.threads,
        "provider": provider,
        "batch": target.batch,
        "cores": list(target.cores),
        "shape": list(shape),
        "deadline_s": start_deadline_s,
        "parent": os.getpid(),
        "gpu": _gpu(artifact, target) if on_gpu else None,
    }
    # NumPy's own thread pool would only wake up beside the inference.
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if on_gpu:
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as NVML counts GPUs
    if provider in NVIDIA and not target.tf32:
        env["NVIDIA_TF32_OVERRIDE"] = "0"  # the only word that TensorRT, cuBLAS and cuDNN all listen to
    # -P: a folder called `runners` where the user stands must not shadow ours.
    command = [sys.executable, "-P", "-m", "runners.worker", json.dumps(config)]
    return Session(command, label=artifact.path.name, env=env, start_deadline_s=start_deadline_s)


def _gpu(artifact: Artifact, target: Target) -> dict[str, Any]:
    """Return what a session on a GPU is asked besides, as `runners.gpu_session.GpuAsked` takes it."""
    from mobench.downloads import cache_folder  # here: it imports what reads the network

    return {
        "io": target.io or IOS[0],
        "cuda_graph": target.cuda_graph,
        "tf32": target.tf32,
        "partial": target.partial,
        "precision": artifact.precision or "",
        "sha256": artifact.sha256,
        "cache": str(cache_folder()),
    }
