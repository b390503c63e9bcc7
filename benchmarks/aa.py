"""Two copies of one file against each other: how far from 1 the ratio comes out, mobench against litert-benchmark.

One mobench campaign and one pair of litert-benchmark runs of the same length, in alternation, so that both meet one
machine. The true ratio is 1. With --disturbed a second process burns a core at random moments, a fifth to three seconds
long with pauses of the same kind; it may run on any core, as a neighbour's would.

    python benchmarks/aa.py artifacts/mobilenet_v2-fp32.tflite --campaigns 40 [--disturbed]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobench import artifacts, plan
from mobench.campaign import run_cells
from mobench.design import Settings
from mobench.records import Target
from mobench.stats import summarize
from runners import desktop


def ours(files: list[Path], seconds: float, seed: int, folder: Path) -> tuple[float, tuple[float, float], float]:
    """Run one campaign of the two files; return ratio, interval and p50 (ms) of the first."""
    target = Target(runtime="litert", cores=desktop.choose_cores(1))
    cells = plan.make_cells([artifacts.read(path) for path in files], [target])
    settings = Settings(budget_s=seconds, ratio_half_width=0.0, p50_half_width=0.0, seed=seed)
    first, second = summarize(run_cells(cells, settings=settings, results=folder))
    if second.ratio is None or second.ratio_ci is None or first.p50_ms is None:
        raise SystemExit(f"no ratio came out: {second.failure or first.failure}")
    return second.ratio, second.ratio_ci, first.p50_ms


def theirs(file: Path, runs: int, folder: Path) -> float:
    """Run litert-benchmark once; return its median latency, ms."""
    answer = folder / "litert.json"
    command = [str(Path(sys.executable).with_name("litert-benchmark")), "--model", str(file), "--num_threads", "1"]
    command += ["--num_runs", str(runs), "--warmup_runs", "10", "--result_json", str(answer)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    median: float = json.loads(answer.read_text())["latency"]["median_ms"]
    return median


# Burns any core it is put on, at random moments: half of the time on the whole.
BURNER = """
import random, time
rng = random.Random(0)
while True:
    until = time.monotonic() + rng.uniform(0.2, 3.0)
    while time.monotonic() < until: pass
    time.sleep(rng.uniform(0.2, 3.0))
"""


@contextlib.contextmanager
def disturbance(wanted: bool) -> Iterator[None]:
    """Keep a process burning a core at random moments, if wanted."""
    if not wanted:
        yield
        return
    burner = subprocess.Popen([sys.executable, "-c", BURNER])
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


def main() -> None:
    """Print every pair's error, then the 95th percentiles and how many of our intervals held 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="a campaign, and a pair of litert-benchmark runs")
    parser.add_argument("--disturbed", action="store_true", help="burn a core at random moments meanwhile")
    arguments = parser.parse_args()
    ratios, held, widths, other, lengths, other_lengths = [], 0, [], [], [], []
    with tempfile.TemporaryDirectory() as name, disturbance(arguments.disturbed):
        folder = Path(name)
        files = [folder / "a.tflite", folder / "b.tflite"]
        for file in files:
            shutil.copy(arguments.model, file)
        for campaign in range(arguments.campaigns):
            began = time.monotonic()
            ratio, (low, high), p50_ms = ours(files, arguments.seconds - 0.3, campaign, folder)
            lengths.append(time.monotonic() - began)
            ratios.append(ratio)
            held += low <= 1 <= high
            widths.append((high - low) / 2)
            runs = max(20, round((arguments.seconds / 2 - 1.0) * 1000 / p50_ms) - 10)
            began = time.monotonic()
            other.append(theirs(files[0], runs, folder) / theirs(files[1], runs, folder))
            other_lengths.append(time.monotonic() - began)
            print(
                f"{campaign + 1:2}: mobench {ratio:.4f} [{low:.4f}, {high:.4f}]  litert-benchmark {other[-1]:.4f}",
                flush=True,
            )
    ours_p95 = np.quantile([abs(ratio - 1) for ratio in ratios], 0.95)
    theirs_p95 = np.quantile([abs(ratio - 1) for ratio in other], 0.95)
    print("\n| | p95 of abs(ratio - 1) | root mean square | intervals that hold 1 | median half-width | longest, s |")
    print("|---|---|---|---|---|---|")
    rms = math.sqrt(np.mean([(ratio - 1) ** 2 for ratio in ratios]))
    other_rms = math.sqrt(np.mean([(ratio - 1) ** 2 for ratio in other]))
    print(
        f"| mobench | {ours_p95:.4f} | {rms:.4f} | {held} of {len(ratios)} | {np.median(widths):.4f}"
        f" | {max(lengths):.1f} |"
    )
    print(f"| litert-benchmark | {theirs_p95:.4f} | {other_rms:.4f} | none given | - | {max(other_lengths):.1f} |")
    print(f"\nratio of the two p95: {ours_p95 / theirs_p95:.3f}")


if __name__ == "__main__":
    main()
