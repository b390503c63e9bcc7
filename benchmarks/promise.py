"""Does a campaign that is asked for an interval keep its promise: two copies of one file, asked for 0.5 %.

Each campaign goes on until its ratio is known to the asked half-width; printed is how long that took, how wide the
interval came out, and how many intervals held 1, the true ratio.

    python benchmarks/promise.py artifacts/mobilenet_v2-fp32.tflite --precise 0.5 --campaigns 12
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from mobench import artifacts, plan
from mobench.campaign import run_cells
from mobench.design import Settings
from mobench.records import RUNTIME_FORMATS, Target
from mobench.stats import half_width, summarize
from runners import desktop


def main() -> None:
    """Print a line a campaign, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--campaigns", type=int, default=12)
    parser.add_argument("--precise", type=float, default=0.5, help="half-width asked of the ratio, percent")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds a campaign at most")
    arguments = parser.parse_args()
    lengths, widths, held, kept = [], [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name, f"{letter}{arguments.model.suffix}") for letter in "ab"]
        for file in files:
            shutil.copy(arguments.model, file)
        runtime = next(r for r, f in RUNTIME_FORMATS.items() if f".{f}" == arguments.model.suffix)
        target = Target(runtime=runtime, cores=desktop.choose_cores(1))
        cells = plan.make_cells([artifacts.read(file) for file in files], [target])
        for campaign in range(arguments.campaigns):
            settings = Settings(
                budget_s=arguments.budget,
                ratio_half_width=arguments.precise / 100,
                p50_half_width=1.0,  # the promise under test is the ratio's
                seed=campaign,
            )
            began = time.monotonic()
            run = run_cells(cells, settings=settings, results=Path(name))
            lengths.append(time.monotonic() - began)
            _, second = summarize(run)
            if second.ratio is None or second.ratio_ci is None:
                raise SystemExit(f"no ratio came out: {second.failure}")
            low, high = second.ratio_ci
            widths.append(half_width(second.ratio, second.ratio_ci))
            held += low <= 1 <= high
            kept += run.end == "precise"
            print(
                f"{campaign + 1:2}: {second.ratio:.4f} [{low:.4f}, {high:.4f}] in {lengths[-1]:.0f} s"
                f" of {second.incarnations} starts, ended: {run.end}",
                flush=True,
            )
    print("\n| asked | campaigns | kept it | widest half-width | intervals that hold 1 | seconds: median, longest |")
    print("|---|---|---|---|---|---|")
    print(
        f"| ±{arguments.precise:g} % | {len(widths)} | {kept} | {max(widths):.4f} | {held}"
        f" | {np.median(lengths):.0f}, {max(lengths):.0f} |"
    )


if __name__ == "__main__":
    main()
