"""How far off mobench's ratio is, and how often its interval holds the truth, on recorded noise of a real machine.

Resamples campaigns from a recording of two copies of one model (true ratio 1): incarnations drawn without replacement,
consecutive rounds within each. The recording's columns are those of ../shared/data/noise/README.md.

    python benchmarks/coverage.py ../shared/data/noise/two_core_vm.csv.gz
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mobench.records import Block
from mobench.stats import MIN_INCARNATIONS, half_width, paired_ratio

DESIGNS = ((9, 6), (5, 20), (5, 80), (8, 20), (8, 80), (12, 20), (12, 80))


def blocks(recording: pd.DataFrame, cell: str) -> dict[int, list[Block]]:
    """Return one cell's visits as blocks (the second of the two timings), by incarnation and in order."""
    chosen: dict[int, list[Block]] = {}
    row: Any
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


def draw(
    rng: random.Random, cells: tuple[dict[int, list[Block]], ...], incarnation: int, rounds: int
) -> list[list[Block]]:
    """Return consecutive rounds of one incarnation, from a random one on, for each cell."""
    every = [block.round for block in cells[0][incarnation]]
    start = rng.randint(0, max(0, len(every) - rounds))
    inside = set(every[start : start + rounds])
    return [[block for block in cell[incarnation] if block.round in inside] for cell in cells]


def campaign(
    rng: random.Random,
    cells: tuple[dict[int, list[Block]], ...],
    rounds: int,
    *,
    least: int,
    most: int,
    until: float,
    cpu: bool,
) -> tuple[float, tuple[float, float]]:
    """Return ratio and interval of a campaign that ends once its interval is narrow, or after ``most`` starts."""
    one: list[Block] = []
    two: list[Block] = []
    found = (math.nan, (math.nan, math.nan))
    for count, incarnation in enumerate(rng.sample(sorted(cells[0]), most), 1):
        first, second = draw(rng, cells, incarnation, rounds)
        one, two = one + first, two + second
        if count < least:
            continue
        ratio, interval = paired_ratio(one, two, cpu=cpu) or found
        assert interval is not None  # at least two incarnations
        found = ratio, interval
        if half_width(ratio, interval) <= until:
            break
    return found


def main() -> None:
    """Print a table: design, error of the ratio, coverage and width of its interval, for wall clock and CPU time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--campaigns", type=int, default=1000)
    arguments = parser.parse_args()
    recording = pd.read_csv(arguments.recording)
    cells = blocks(recording, "fp32_a"), blocks(recording, "fp32_b")
    designs = [(f"{count} x {rounds}", rounds, count, count, 0.0) for count, rounds in DESIGNS]
    designs += [
        (f"{MIN_INCARNATIONS} to 16 x {rounds}, until ±1 %", rounds, MIN_INCARNATIONS, 16, 0.01) for rounds in (20, 60)
    ]
    rng = random.Random(0)
    print(
        "| incarnations x rounds | clock | p95 of abs(ratio - 1) | coverage of the 95 % interval | median half-width |"
    )
    print("|---|---|---|---|---|")
    for name, rounds, least, most, until in designs:
        for clock in ("wall", "cpu"):
            found = [
                campaign(rng, cells, rounds, least=least, most=most, until=until, cpu=clock == "cpu")
                for _ in range(arguments.campaigns)
            ]
            held = sum(low <= 1 <= high for _, (low, high) in found) / len(found)
            p95 = np.quantile([abs(ratio - 1) for ratio, _ in found], 0.95)
            width = np.median([half_width(ratio, interval) for ratio, interval in found])
            print(f"| {name} | {clock} | {p95:.4f} | {held:.3f} | {width:.4f} |")


if __name__ == "__main__":
    main()
