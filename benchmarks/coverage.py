"""How far off mobench's ratio is, and how often its interval holds the truth, on recorded noise of a real machine.

Resamples campaigns from a recording of two copies of one model (true ratio 1): incarnations drawn without replacement,
consecutive rounds within each. The recording's columns are those of ../shared/data/noise/README.md.

    python benchmarks/coverage.py ../shared/data/noise/two_core_vm.csv.gz
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import pandas as pd

from mobench.records import Block
from mobench.stats import half_width, paired_ratio

DESIGNS = ((4, 20), (4, 80), (6, 20), (8, 20), (8, 80), (12, 20), (12, 80))


def blocks(recording: pd.DataFrame, cell: str) -> dict[int, list[Block]]:
    """Return one cell's visits as blocks (the second of the two timings), by incarnation and in order."""
    chosen: dict[int, list[Block]] = {}
    for row in recording[recording["cell"] == cell].itertuples():
        block = Block(
            cell=cell,
            incarnation=int(row.incarnation),
            round=int(row.round),
            position=int(row.position),
            phase="steady",
            t_s=row.t_ms / 1e3,
            wall_ns=(int(row.wall2_ns),),
            cpu_ns=int(row.cpu2_ns),
            involuntary_switches=0,
            steal_ticks=int(row.steal_ticks),
        )
        chosen.setdefault(block.incarnation, []).append(block)
    return chosen


def main() -> None:
    """Print a table: design, error of the ratio, coverage and width of its interval, for wall clock and CPU time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--campaigns", type=int, default=1000)
    arguments = parser.parse_args()
    recording = pd.read_csv(arguments.recording)
    a, b = blocks(recording, "fp32_a"), blocks(recording, "fp32_b")
    incarnations = sorted(set(a) & set(b))
    rng = random.Random(0)
    print("| incarnations x rounds | clock | p95 of abs(ratio - 1) | coverage of the 95 % interval | median half-width |")
    print("|---|---|---|---|---|")
    for count, rounds in DESIGNS:
        for clock in ("wall", "cpu"):
            errors, held, widths = [], 0, []
            for _ in range(arguments.campaigns):
                one, two = [], []
                for incarnation in rng.sample(incarnations, count):
                    last = min(a[incarnation][-1].round, b[incarnation][-1].round)
                    start = rng.randint(0, max(0, last - rounds))
                    inside = range(start, start + rounds)
                    one += [block for block in a[incarnation] if block.round in inside]
                    two += [block for block in b[incarnation] if block.round in inside]
                ratio, interval = paired_ratio(one, two, cpu=clock == "cpu") or (float("nan"), None)
                assert interval is not None
                errors.append(abs(ratio - 1))
                held += interval[0] <= 1 <= interval[1]
                widths.append(half_width(ratio, interval))
            p95, width = np.quantile(errors, 0.95), np.median(widths)
            print(f"| {count} x {rounds} | {clock} | {p95:.4f} | {held / arguments.campaigns:.3f} | {width:.4f} |")


if __name__ == "__main__":
    main()
