"""What measuring costs: mobench's p50 of a very small model against a bare loop in one process, in alternation.

mobench export mobilenet_v1 --width 0.25 --size 32 --weights random -o /tmp/tiny
python benchmarks/overhead.py /tmp/tiny/*fp32.tflite /tmp/tiny/*fp32.onnx
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from mobench import artifacts, plan
from mobench.campaign import run_cells
from mobench.design import Settings
from mobench.records import RUNTIME_FORMATS, Target
from mobench.stats import log_interval, summarize
from runners import desktop

# The loop anyone would write, without a line of mobench in it.
LITERT = """
import os, sys, time, statistics
os.sched_setaffinity(0, {cores})
import numpy as np
from ai_edge_litert.interpreter import Interpreter
net = Interpreter(model_path=sys.argv[1], num_threads=1)
net.allocate_tensors()
first = net.get_input_details()[0]
net.set_tensor(first["index"], np.random.default_rng(0).standard_normal(first["shape"]).astype(first["dtype"]))
run, wall = net.invoke, []
until = time.perf_counter() + {seconds}
while time.perf_counter() < until:
    start = time.perf_counter_ns(); run(); wall.append(time.perf_counter_ns() - start)
print(statistics.median(wall[len(wall) // 5:]))
"""
ORT = """
import os, sys, time, statistics
os.sched_setaffinity(0, {cores})
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
net = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
first = net.get_inputs()[0]; shape = [axis if isinstance(axis, int) else 1 for axis in first.shape]
binding = net.io_binding()
binding.bind_cpu_input(first.name, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
for output in net.get_outputs(): binding.bind_output(output.name)
run, wall = net.run_with_iobinding, []
until = time.perf_counter() + {seconds}
while time.perf_counter() < until:
    start = time.perf_counter_ns(); run(binding); wall.append(time.perf_counter_ns() - start)
print(statistics.median(wall[len(wall) // 5:]))
"""
LOOPS = {"litert": LITERT, "ort": ORT}


def main() -> None:
    """Print, for each file, both latencies and the ratio of mobench's to the bare loop's with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="of either in each pair")
    arguments = parser.parse_args()
    print("| file | bare loop, us | mobench, us | ratio [95 %] |")
    print("|---|---|---|---|")
    for path in arguments.models:
        artifact = artifacts.read(path)
        runtime = next(r for r, f in RUNTIME_FORMATS.items() if f == artifact.format)
        target = Target(runtime=runtime, cores=desktop.choose_cores(1))
        cells = plan.make_cells([artifact], [target])
        script = LOOPS[runtime].format(cores=set(target.cores), seconds=arguments.seconds)
        bare, ours = [], []
        with tempfile.TemporaryDirectory() as folder:
            for pair in range(arguments.pairs):
                command = [sys.executable, "-c", script, str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
                bare.append(float(done.stdout.split()[-1]) / 1e3)
                settings = Settings(budget_s=arguments.seconds, p50_half_width=0.0, seed=pair)
                p50_ms = summarize(run_cells(cells, settings=settings, results=Path(folder)))[0].p50_ms
                if p50_ms is None:
                    raise SystemExit(f"{path} could not be timed")
                ours.append(p50_ms * 1e3)
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        ratio, interval = log_interval(ratios, ratios)
        shown = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        middle = len(bare) // 2
        print(f"| {path.name} | {sorted(bare)[middle]:.1f} | {sorted(ours)[middle]:.1f} | {ratio:.3f} {shown} |")


if __name__ == "__main__":
    main()
