"""`mobench doctor`: what can run here, what cannot, and the mend."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from mobench.cli import android, gpus
from mobench.cli.terminal import echo_table
from mobench.report.tables import Column
from runners import device_state
from runners.gpu_packages import CPU, GPU, WEBGPU, installed

# What each part needs: the package, the module whose import proves that it works, and how to get it.
_RUNTIMES = {
    # Three packages of one module: see runners/gpu_packages.py.
    "ort": tuple((build, "onnxruntime") for build in (CPU, GPU, WEBGPU)),
    "litert": (("ai-edge-litert", "ai_edge_litert.interpreter"), ("tflite-runtime", "tflite_runtime.interpreter")),
}
_EXPORT = (
    ("torch", "torch"),
    ("litert-torch", "litert_torch"),
    ("ai-edge-quantizer", "ai_edge_quantizer"),
    ("onnx", "onnx"),
    ("onnxscript", "onnxscript"),
    ("safetensors", "safetensors"),
)
_PHONE_ABI = "arm64-v8a"
_COLUMNS = (Column(key="part", title="part"), Column(key="status", title="status"), Column(key="detail", title="found"),
            Column(key="mend", title="mend"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One part of mobench: whether it works here, what was found, and the mend where it does not."""

    part: str
    status: Literal["ok", "no", "note"]
    detail: str
    mend: str = ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _imports(module: str) -> str | None:
    """Import a module in a process of its own; return the last line of what went wrong, or None."""
    tried = subprocess.run(
        [sys.executable, "-P", "-c", f"import {module}"], capture_output=True, text=True, timeout=120, check=False
    )
    if tried.returncode == 0:
        return None
    return (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]


def _runtimes() -> Iterator[Check]:
    for runtime, packages in _RUNTIMES.items():
        found = [(package, module) for package, module in packages if _version(package)]
        part = f"run --runtime {runtime}"
        if not found:
            yield Check(part=part, status="no", detail="not installed", mend=f"pip install {packages[0][0]}")
            continue
        package, module = found[0]
        if module == "onnxruntime":  # of several that share it the files of one are there
            package = installed().build or package
        broken = _imports(module)
        if broken:
            mend = f"pip install --force-reinstall {package}"
            yield Check(part=part, status="no", detail=f"{package} {_version(package)}: {broken}", mend=mend)
        else:
            yield Check(part=part, status="ok", detail=f"{package} {_version(package)}")


def _export() -> Iterator[Check]:
    missing = [package for package, _ in _EXPORT if not _version(package)]
    if missing:
        detail = f"not installed: {', '.join(missing)}"
        yield Check(
            part="export", status="no", detail=detail, mend="pip install '.[export]' in mobench's source folder"
        )
    else:
        detail = ", ".join(f"{package} {_version(package)}" for package, _ in _EXPORT)
        yield Check(part="export", status="ok", detail=detail)


def _machine() -> Iterator[Check]:
    machine = device_state.machine()
    cpu = f"{machine['cpu']}, {machine['cores']} cores, {machine.get('memory_mb', 0) // 1024} GiB"
    yield Check(part="desktop-cpu", status="ok", detail=f"{cpu}, {' '.join(machine['extensions'])}")
    governor = machine.get("governor")
    if governor and governor != "performance":
        yield Check(part="clock", status="note", detail=f"governor {governor}", mend="set governor performance")
    if machine["virtual"]:
        mend = "expect wider intervals; ratios stay true"
        yield Check(part="virtual machine", status="note", detail="a hypervisor may steal time", mend=mend)
    load = os.getloadavg()[0]
    if load > 0.5:
        yield Check(part="load", status="note", detail=f"{load:.1f} in the last minute", mend="close what else runs")
    free_gib = shutil.disk_usage(Path.cwd()).free / (1 << 30)
    if free_gib < 1:
        yield Check(part="disk", status="note", detail=f"{free_gib:.1f} GiB free here", mend="make room")


def _phones() -> Iterator[Check]:
    """Say what there is for phones of the usual ABI; no phone is asked (`mobench devices` does that)."""
    if shutil.which("adb") is None:
        mend = "install adb (Android's platform-tools)"
        yield Check(part="phones", status="note", detail="adb is not installed", mend=mend)
        return
    rows = android.inventory([_PHONE_ABI])
    lacking = [row["part"] for row in rows if row["status"] == "no"]
    if lacking:
        mend = "mobench android build, mobench android setup"
        yield Check(part="phones", status="note", detail=f"{_PHONE_ABI} lacks {', '.join(lacking)}", mend=mend)
    else:
        yield Check(part="phones", status="ok", detail=f"{_PHONE_ABI}: {'; '.join(row['found'] for row in rows)}")


def _gpus() -> Iterator[Check]:
    for found in gpus.findings():
        yield Check(part=found.part, status=found.status, detail=found.detail, mend=found.mend)


def checks() -> list[Check]:
    """Return what was found, runtimes first."""
    parts: Iterable[Iterator[Check]] = (_runtimes(), _export(), _machine(), _gpus(), _phones())
    return [check for part in parts for check in part]


@click.command()
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout.")
def command(json_out: bool) -> int:
    """Say what can run here, what cannot, and the mend. Exit 1 where no runtime works."""
    found = checks()
    if json_out:
        click.echo(json.dumps([asdict(check) for check in found], indent=1))
    else:
        echo_table(_COLUMNS, [asdict(check) for check in found])
    return int(not any(check.status == "ok" and check.part.startswith("run ") for check in found))
