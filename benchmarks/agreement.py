"""Does mobench measure what others measure: its p50 of one model against litert-benchmark's and a bare ORT loop's.

A mobench campaign of the one file and a run of the other tool take turns, so that both meet one machine; the paired
ratio of their medians should be 1. A .tflite file is held against litert-benchmark, an .onnx file against the loop
anyone would write (overhead.py has it).

    mobench export mobilenet_v2 --fp32 --int8 --weights random -o v2
    python benchmarks/agreement.py v2/*
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import aa
import overhead

from mobench import artifacts, plan
from mobench.campaign import run_cells
from mobench.design import Settings
from mobench.records import RUNTIME_FORMATS, Artifact, Target
from mobench.stats import log_interval, summarize
from runners import desktop


def others_ms(artifact: Artifact, cores: tuple[int, ...], seconds: float, guess_ms: float, folder: Path) -> float:
    """Return the other tool's median latency, ms."""
    if artifact.format == "tflite":
        return aa.theirs(artifact.path, max(20, round(seconds * 1000 / guess_ms)), folder)
    script = overhead.ORT.format(cores=set(cores), seconds=seconds)
    command = [sys.executable, "-c", script, str(artifact.path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return float(done.stdout.split()[-1]) / 1e6


def main() -> None:
    """Print, for each file, both latencies and the ratio of mobench's to the other's with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0, help="of either in each pair")
    arguments = parser.parse_args()
    print("| file | held against | its median, ms | mobench p50, ms | ratio [95 %] |")
    print("|---|---|---|---|---|")
    for path in arguments.models:
        if path.suffix == ".json":
            continue
        artifact = artifacts.read(path)
        runtime = next(r for r, f in RUNTIME_FORMATS.items() if f == artifact.format)
        target = Target(runtime=runtime, cores=desktop.choose_cores(1))
        cells = plan.make_cells([artifact], [target])
        other, ours = [], []
        with tempfile.TemporaryDirectory() as name:
            for pair in range(arguments.pairs):
                settings = Settings(budget_s=arguments.seconds, p50_half_width=0.0, seed=pair)
                p50_ms = summarize(run_cells(cells, settings=settings, results=Path(name)))[0].p50_ms
                if p50_ms is None:
                    raise SystemExit(f"{path} could not be timed")
                ours.append(p50_ms)
                other.append(others_ms(artifact, target.cores, arguments.seconds, p50_ms, Path(name)))
        ratios = [a / b for a, b in zip(ours, other, strict=True)]
        ratio, interval = log_interval(ratios, ratios)
        shown = f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        middle = len(ours) // 2
        tool = "litert-benchmark" if artifact.format == "tflite" else "bare ONNX Runtime loop"
        medians = f"{sorted(other)[middle]:.2f} | {sorted(ours)[middle]:.2f}"
        print(f"| {path.name} | {tool} | {medians} | {ratio:.3f} {shown} |", flush=True)


if __name__ == "__main__":
    main()
