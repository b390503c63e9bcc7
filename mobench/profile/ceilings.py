"""Measures a device's ceilings in the runtimes that it has, pinned as a campaign's sessions are."""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from mobench import artifacts
from mobench.errors import BadInputError, LinkError, MobenchError, SessionError
from mobench.hosts import Host
from mobench.profile import roofline
from mobench.profile.roofline import Ceiling
from mobench.records import DEVICES, Cell, Target
from mobench.store import now
from runners import desktop, wire
from runners.android import runtimes
from runners.profile import matmul_files

PACKAGES = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "numpy")  # whose kernels reach the ceilings
PRECISIONS = ("fp32", "int8")
PROCESSORS = ("desktop-cpu", "android-cpu")  # devices whose ceilings are measured; nobody has tried a GPU's
WORKING_SETS = tuple(1 << bits for bits in range(18, 29, 2))  # 256 KiB, an operator's, to 256 MiB, beyond most caches
LEAD_IN, TIMED = 5, 30  # inferences; the fastest counts


def ceiling_for(
    host: Host,
    threads: int,
    *,
    device: str = "desktop-cpu",
    cache: Path,
    remeasure: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Ceiling:
    """Return the ceilings of a device with so many threads: those in the cache, or measured now and kept.

    Args:
        host: the device, entered.
        threads: of each runtime.
        device: the host's, one of `PROCESSORS`.
        cache: the folder of all caches.
        remeasure: measure in any case.
        tell: told, in a line, that measuring begins, and what could not be measured.

    Raises:
        SessionError: no runtime works.
        LinkError: the phone is out of reach.
        BadInputError: the cache cannot be written.
    """
    cores, machine = host.choose_cores(threads), host.machine()
    key = roofline.key_of(machine, threads, cores, _versions(device, machine))
    known = None if remeasure else roofline.load(key, cache)
    if known is not None:
        return known
    what = "this machine's" if device == "desktop-cpu" else "the phone's"
    tell(f"measuring {what} ceilings with {threads} thread{'s' if threads > 1 else ''}, once")
    ceiling = measure(host, Target(device=device, runtime="", threads=threads, cores=cores), tell)
    roofline.save(key, ceiling, cache)
    return ceiling


def _versions(device: str, machine: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    if device == "desktop-cpu":
        for package in PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
        return found
    for abi in machine["phone"]["abis"]:
        for runtime in DEVICES[device]:
            with contextlib.suppress(BadInputError):
                library = runtimes.find(abi, runtime)
                found[f"{runtime} for {abi}"] = library.sha256[library.library.name]
    return found


def measure(host: Host, target: Target, tell: Callable[[str], None] = lambda text: None) -> Ceiling:
    """Measure the ceilings of a target's device, threads and cores in every runtime; see `ceiling_for`."""
    peaks: dict[str, float] = {}
    reached_by: dict[str, str] = {}
    rates: tuple[int, ...] = ()
    failures: list[MobenchError] = []
    ours = target.cores if target.device == "desktop-cpu" else ()
    with tempfile.TemporaryDirectory(prefix="mobench-") as folder, desktop.keep_off(ours):
        for runtime in DEVICES[target.device]:
            for precision in PRECISIONS:
                for size in matmul_files.SIZES:
                    try:
                        file = artifacts.read(matmul_files.write(Path(folder), runtime, precision, size))
                        cell = Cell(id=file.path.name, artifact=file, target=replace(target, runtime=runtime))
                        if host.care:
                            host.care.ready(tell)
                        with cast(wire.Session, host.open_session(cell)) as session:
                            fastest_ns = min(session.time(lead_in=LEAD_IN, timed=TIMED).wall_ns)
                            rates = rates or session.stream(WORKING_SETS)
                    except LinkError:
                        raise
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
