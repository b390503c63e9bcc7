"""The phone's harness against the Python child on this machine: one file in both, in one interleaved campaign.

For LiteRT both call the same library. ONNX Runtime's Python module holds a build of the runtime of its own, beside
libonnxruntime.so: a second row calls that library from Python, by ctypes, in processes in turns with the harness.

    mobench export mobilenet_v2 --weights random -o v2
    mobench export mobilenet_v1 --width 0.25 --size 32 --weights random -o tiny
    python benchmarks/harness.py v2/*fp32.tflite v2/*fp32.onnx tiny/*fp32.tflite tiny/*fp32.onnx
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from mobench import artifacts, plan
from mobench.campaign import run_cells
from mobench.design import Settings
from mobench.hosts import Session
from mobench.hosts.desktop import DesktopHost
from mobench.records import RUNTIME_FORMATS, Cell, Target
from mobench.stats import log_interval, summarize
from runners import desktop, wire
from runners.android import build

# Where a runtime's wheel has its library.
LIBRARIES = {"litert": ("ai_edge_litert", "libLiteRt.so"), "ort": ("onnxruntime", "capi/libonnxruntime.so*")}
IN_C = " in the harness"

# ONNX Runtime's C library called from Python; the numbers are functions' places in its table, as in ort.c.
BY_CTYPES = """
import ctypes as c, os, statistics, sys, time
import numpy as np, onnxruntime
os.sched_setaffinity(0, {cores})
first = onnxruntime.InferenceSession(sys.argv[1]).get_inputs()[0]
shape = [axis if isinstance(axis, int) else 1 for axis in first.shape]
library = c.CDLL({library!r})
class Base(c.Structure): _fields_ = [("api", c.CFUNCTYPE(c.c_void_p, c.c_uint32)), ("version", c.c_void_p)]
library.OrtGetApiBase.restype = c.POINTER(Base)
table = c.cast(library.OrtGetApiBase().contents.api(12), c.POINTER(c.c_void_p))
P, N, I, S = c.c_void_p, c.c_size_t, c.c_int, c.c_char_p
R = c.POINTER(P)
def call(place, types, *arguments): assert not c.CFUNCTYPE(P, *types)(table[place])(*arguments)
env, options, session, binding, memory, allocator, value, name, last = (P() for _ in range(9))
call(3, (I, S, R), 3, b"loop", c.byref(env))
call(10, (R,), c.byref(options)); call(24, (P, I), options, 1); call(25, (P, I), options, 1)
call(7, (P, S, P, R), env, sys.argv[1].encode(), options, c.byref(session))
call(134, (P, R), session, c.byref(binding))
call(78, (R,), c.byref(allocator)); call(69, (I, I, R), 1, 0, c.byref(memory))
call(36, (P, N, P, R), session, 0, allocator, c.byref(name))
call(37, (P, N, P, R), session, 0, allocator, c.byref(last))
image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
axes = (c.c_int64 * len(shape))(*shape)
call(49, (P, P, N, P, N, I, R), memory, image.ctypes.data, image.nbytes, c.cast(axes, P), len(shape), 1, c.byref(value))
call(136, (P, P, P), binding, name, value); call(138, (P, P, P), binding, last, memory)
run, wall = c.CFUNCTYPE(P, P, P, P)(table[133]), []
assert not run(session, None, binding)
until = time.perf_counter() + {seconds}
while time.perf_counter() < until:
    start = time.perf_counter_ns(); run(session, None, binding); wall.append(time.perf_counter_ns() - start)
print(statistics.median(wall[len(wall) // 5:]))
"""


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


def against_ctypes(host: BothHost, cell: Cell, pairs: int, seconds: float) -> tuple[float, float, list[float]]:
    """Return the medians (us) of ctypes and the harness, and their ratio a pair of starts."""
    cores = set(cell.target.cores)
    script = BY_CTYPES.format(cores=cores, seconds=seconds, library=str(library("ort")))
    bare, ours = [], []
    for _ in range(pairs):
        command = [sys.executable, "-c", script, str(cell.artifact.path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        bare.append(float(done.stdout) / 1e3)
        session = host.open_session(replace(cell, id=cell.id + IN_C))
        try:
            timed = max(5, round(seconds * 1e6 / bare[-1]))
            wall = session.time(lead_in=timed // 4, timed=timed, deadline_s=120).wall_ns
        finally:
            session.close()
        ours.append(statistics.median(wall) / 1e3)
    return statistics.median(bare), statistics.median(ours), [a / b for a, b in zip(ours, bare, strict=True)]


def main() -> None:
    """Print, for each file, both medians and the ratio of the harness's to the Python child's with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds a file, at most")
    parser.add_argument("--precise", type=float, default=0.25, help="half-width of the ratio at which to stop, percent")
    parser.add_argument("--pairs", type=int, default=20, help="starts of ctypes and the harness")
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
            if runtime == "ort" and arguments.threads == 1:
                bare, ours, ratios = against_ctypes(host, cell, arguments.pairs, 1.0)
                ratio, span = log_interval(ratios, ratios)
                interval = "" if span is None else f"[{span[0]:.4f}, {span[1]:.4f}]"
                print(f"| {path.name} | ort, by ctypes | {bare:.1f} | {ours:.1f} | {ratio:.4f} {interval} | - |")


if __name__ == "__main__":
    main()
