"""The phone's harness against the Python child on this machine: one file in both, in one interleaved campaign.

Both call the same library of the same wheel, so that the true ratio is that of what stands around it: a few
instructions here, an interpreter there.

    mobench export mobilenet_v2 --weights random -o /tmp/v2
    mobench export mobilenet_v1 --width 0.25 --size 32 --weights random -o /tmp/tiny
    python benchmarks/harness.py /tmp/v2/*fp32.tflite /tmp/v2/*fp32.onnx /tmp/tiny/*fp32.tflite /tmp/tiny/*fp32.onnx
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from mobench import artifacts, plan
from mobench.campaign import run_cells
from mobench.design import Settings
from mobench.devices import DesktopHost
from mobench.hosts import Session
from mobench.records import RUNTIME_FORMATS, Cell, Target
from mobench.stats import summarize
from runners import desktop, wire
from runners.android import build

# Where a runtime's wheel has its library.
LIBRARIES = {"litert": ("ai_edge_litert", "libLiteRt.so"), "ort": ("onnxruntime", "capi/libonnxruntime.so*")}
IN_C = " in the harness"


def library(runtime: str) -> Path:
    """Return the library that the Python child loads too."""
    package, pattern = LIBRARIES[runtime]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed")
    return next(Path(spec.submodule_search_locations[0]).glob(pattern))


class BothHost(DesktopHost):
    """This machine, which opens the cells so named in the harness."""

    def __init__(self, harness: Path) -> None:
        """Take the machine and the harness's program."""
        super().__init__()
        self._harness = harness

    def open_session(self, cell: Cell) -> Session:
        """Load a cell's model in the harness or in a Python child."""
        if not cell.id.endswith(IN_C):
            return super().open_session(cell)
        target, model = cell.target, cell.artifact.path
        argument = {
            "runtime": target.runtime,
            "library": str(library(target.runtime)),
            "accelerators": "",
            "model": str(model),
            "provider": target.provider,
            "threads": target.threads,
            "batch": target.batch,
            "shape": [],
            "cores": list(target.cores),
            "deadline_s": desktop.START_DEADLINE_S,
            "idle_s": 900,
        }
        command = [str(self._harness), json.dumps(argument)]
        return wire.Session(command, label=model.name, env=os.environ, start_deadline_s=desktop.START_DEADLINE_S)


def main() -> None:
    """Print, for each file, both medians and the ratio of the harness's to the Python child's with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds a file, at most")
    parser.add_argument("--precise", type=float, default=0.25, help="half-width of the ratio at which to stop, percent")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print("| file | runtime | Python child, us | harness, us | ratio [95 %] | CPU time's |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        host = BothHost(build.build_host(Path(folder, "mobench-harness")))
        for path in arguments.models:
            artifact = artifacts.read(path)
            runtime = next(name for name, form in RUNTIME_FORMATS.items() if form == artifact.format)
            target = Target(runtime=runtime, threads=arguments.threads, cores=desktop.choose_cores(arguments.threads))
            cell = plan.make_cells([artifact], [target])[0]
            settings = Settings(
                budget_s=arguments.budget, ratio_half_width=arguments.precise / 100, p50_half_width=1.0, seed=0
            )
            cells = (cell, replace(cell, id=cell.id + IN_C))
            run = run_cells(cells, host=host, baseline=cell.id, settings=settings, results=Path(folder))
            python, harness = summarize(run)
            if harness.ratio is None or python.p50_ms is None or harness.p50_ms is None:
                raise SystemExit(f"{path}: {python.failure or harness.failure or 'too few rounds'}")
            interval = "" if harness.ratio_ci is None else f"[{harness.ratio_ci[0]:.4f}, {harness.ratio_ci[1]:.4f}]"
            medians = f"{python.p50_ms * 1e3:.1f} | {harness.p50_ms * 1e3:.1f}"
            cpu = "-" if harness.ratio_cpu is None else f"{harness.ratio_cpu:.4f}"
            print(f"| {path.name} | {runtime} | {medians} | {harness.ratio:.4f} {interval} | {cpu} |")


if __name__ == "__main__":
    main()
