"""Measures the machine's ceilings in the runtimes that are installed, pinned as a campaign's sessions are."""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mobench import artifacts
from mobench.errors import MobenchError, SessionError
from mobench.profile import roofline
from mobench.profile.roofline import Ceiling
from mobench.records import RUNTIME_FORMATS, Target
from mobench.store import now
from runners import desktop
from runners.profile import matmul_files

PACKAGES = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "numpy")  # whose kernels reach the ceilings
PRECISIONS = ("fp32", "int8")
WORKING_SETS = tuple(1 << bits for bits in range(18, 29, 2))  # 256 KiB, an operator's, to 256 MiB, beyond most caches
LEAD_IN, TIMED = 5, 30  # inferences; the fastest counts


def ceiling_for(
    machine: Mapping[str, object],
    threads: int,
    *,
    cache: Path,
    remeasure: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Ceiling:
    """Return the ceilings of this machine with so many threads: those in the cache, or measured now and kept.

    Args:
        machine: what ``device_state.machine`` says.
        threads: of each runtime.
        cache: the folder of all caches.
        remeasure: measure in any case.
        tell: told, in a line, that measuring begins, and what could not be measured.

    Raises:
        SessionError: no runtime works.
        BadInputError: the cache cannot be written.
    """
    cores = desktop.choose_cores(threads)
    key = roofline.key_of(machine, threads, cores, _versions())
    known = None if remeasure else roofline.load(key, cache)
    if known is not None:
        return known
    tell(f"measuring this machine's ceilings with {threads} thread{'s' if threads > 1 else ''}, once")
    ceiling = measure(threads, cores, tell)
    roofline.save(key, ceiling, cache)
    return ceiling


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def measure(threads: int, cores: tuple[int, ...], tell: Callable[[str], None] = lambda text: None) -> Ceiling:
    """Measure the ceilings; see `ceiling_for`."""
    peaks: dict[str, float] = {}
    reached_by: dict[str, str] = {}
    rates: tuple[int, ...] = ()
    failures: list[MobenchError] = []
    with tempfile.TemporaryDirectory(prefix="mobench-") as folder, desktop.keep_off(cores):
        for runtime in RUNTIME_FORMATS:
            target = Target(runtime=runtime, threads=threads, cores=cores)
            for precision in PRECISIONS:
                for size in matmul_files.SIZES:
                    try:
                        file = artifacts.read(matmul_files.write(Path(folder), runtime, precision, size))
                        with desktop.open_session(file, target) as session:
                            fastest_ns = min(session.time(lead_in=LEAD_IN, timed=TIMED).wall_ns)
                            rates = rates or session.stream(WORKING_SETS)
                    except MobenchError as error:
                        failures.append(error)
                        continue
                    if size**3 / fastest_ns * 1e9 > peaks.get(precision, 0.0):
                        peaks[precision] = size**3 / fastest_ns * 1e9
                        reached_by[precision] = runtime
    for line in dict.fromkeys(map(str, failures)):
        tell(f"ceilings: {line}")
    if not peaks or not rates:
        first = failures[0]
        raise SessionError("no ceiling could be measured", str(first), "see `mobench doctor`")
    pairs = tuple(zip(WORKING_SETS, map(float, rates), strict=True))
    return Ceiling(macs_per_s=peaks, reached_by=reached_by, bytes_per_s=pairs, measured=now())
