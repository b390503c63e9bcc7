"""What `mobench doctor` says of this machine's GPUs: drivers, packages, libraries, and whether each provider runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from mobench import artifacts
from mobench.errors import MobenchError
from mobench.records import DEVICES, Target
from runners import desktop, gpu_failures, gpu_libraries, gpu_packages, gpu_vulkan, nvidia

SIZE = 64  # of the matrix product that is tried
_NO_GPU = "a provider can run a model only where there is a GPU and its driver"


class Finding(NamedTuple):
    """One part, whether it works here, what was found, and the mend where it does not."""

    part: str
    status: Literal["ok", "no", "note"]
    detail: str
    mend: str = ""


Found = Iterator[Finding]


def findings() -> Found:
    """Return what there is for --device desktop-gpu: what it needs first, then each provider, tried."""
    yield from _packages()
    yield _driver()
    yield from _libraries()
    yield _vulkan()
    with tempfile.TemporaryDirectory(prefix="mobench-") as folder:
        for runtime, providers in DEVICES["desktop-gpu"].items():
            for provider in providers:
                yield _tried(Path(folder), runtime, provider)


def _packages() -> Found:
    found = gpu_packages.installed()
    if found.clash:
        wanted = found.build if found.build in gpu_packages.EXTRAS else gpu_packages.GPU
        yield Finding("onnxruntime", "note", found.clash, gpu_packages.install(wanted, found))


def _driver() -> Finding:
    gpu = nvidia.Gpu()
    if gpu.absent:
        unread = "not installed" in gpu.absent
        mend = "pip install nvidia-ml-py" if unread else "install NVIDIA's driver, where there is such a GPU"
        return Finding("NVIDIA driver", "note", gpu.absent, mend)
    said = gpu.describe()
    detail = f"{said.get('name')}, driver {said.get('driver')}, CUDA up to {said.get('cuda')}"
    return Finding("NVIDIA driver", "ok", detail)


def _libraries() -> Found:
    """Say which of NVIDIA's libraries the installed build needs, and which of them are not here."""
    found = gpu_packages.installed()
    if found.build != gpu_packages.GPU or found.folder is None:
        return
    for provider in ("cuda", "tensorrt"):
        needed = gpu_libraries.needed(found.folder / "capi" / f"libonnxruntime_providers_{provider}.so")
        missing = gpu_libraries.missing(needed)
        detail = f"{gpu_packages.GPU} {found.version} for CUDA {found.cuda or '?'} needs {', '.join(needed) or 'none'}"
        if missing:
            mend = gpu_failures.bring(missing[0], found.cuda)
            yield Finding(f"{provider} libraries", "no", f"{detail}; not here: {', '.join(missing)}", mend)
        else:
            yield Finding(f"{provider} libraries", "ok", detail)


def _vulkan() -> Finding:
    try:
        devices = gpu_vulkan.survey()
    except gpu_vulkan.VulkanError as error:
        mend = "install the loader and the GPU's driver (Debian: libvulkan1, mesa-vulkan-drivers)"
        return Finding("Vulkan", "note", str(error), mend)
    names = ", ".join(str(device) for device in devices)
    if all(device.kind == "software" for device in devices):
        mend = "nothing that runs there is a speed: install a GPU's driver"
        return Finding("Vulkan", "note", names or "no GPU", mend)
    return Finding("Vulkan", "ok", names)


def _tried(folder: Path, runtime: str, provider: str) -> Finding:
    """Run a small matrix product, as `mobench run` would."""
    from runners.profile import matmul_files

    part = f"desktop-gpu {runtime} {provider}"
    target = Target(device="desktop-gpu", runtime=runtime, provider=provider)
    try:
        file = artifacts.read(matmul_files.write(folder, runtime, "fp32", SIZE))
        with desktop.open_session(file, target) as session:
            versions = ", ".join(f"{name} {version}" for name, version in session.ready.versions.items()
                                 if name not in ("mobench", "python"))  # fmt: skip
            return Finding(part, "ok", f"{session.ready.got}; {versions}")
    except MobenchError as error:
        return Finding(part, "no", error.why or error.what, error.mend or _NO_GPU)
