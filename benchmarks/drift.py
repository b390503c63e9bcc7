"""How often a change of the machine's speed is reported where there is none, and how often one that is there is found.

Campaigns are resampled from a recording of four models taking turns (columns as in ../shared/data/noise/README.md):
incarnations in random order, with whatever the machine did for up to 10 s within each. "stationary" takes out of each
incarnation the speed that its four cells share, so that no change is left to find; "shuffled" leaves it, and with it
what the machine really did for tens of seconds. Steps are put on top of stationary campaigns, at a random time.

    python benchmarks/drift.py ../shared/data/noise/two_core_vm.csv.gz
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
from collections import defaultdict
from pathlib import Path
from statistics import median

import pandas as pd
from coverage import blocks

from mobench.over_time import drift
from mobench.records import Block, Run

CELLS = ["fp32_a", "fp32_b", "fp32_other", "int8"]
GAP_S = 1.0  # between two starts
DESIGNS = ((5, 3.0), (3, 10.0), (6, 10.0), (12, 5.0), (12, 10.0), (24, 10.0))
STEPS = (
    (0.05, 6.0),
    (0.05, 10.0),
    (0.05, 30.0),
    (0.10, 6.0),
    (0.10, 10.0),
    (0.10, 30.0),
    (0.20, 6.0),
    (0.20, 30.0),
    (0.40, 6.0),
)
QUIETER = (1.0, 0.25, 0.1)  # the recorded noise, and what a quieter machine might have

Start = list[Block]  # one incarnation, t_s from 0, scaled so that its machine's speed is the usual one


def starts(recording: pd.DataFrame, cells: list[str], *, level: bool) -> list[Start]:
    """Return the recording's incarnations; with ``level`` as they were, else without the speed that all cells share."""
    by_cell = {cell: blocks(recording, cell) for cell in cells}
    usual = {cell: median(b.wall_ns[0] for own in one.values() for b in own) for cell, one in by_cell.items()}
    found = []
    for incarnation in sorted(next(iter(by_cell.values()))):
        own = {cell: by_cell[cell][incarnation] for cell in cells}
        speed = median(median(b.wall_ns[0] for b in own[cell]) / usual[cell] for cell in cells)
        first = min(b.t_s for each in own.values() for b in each)
        scale = 1.0 if level else 1 / speed
        found.append(
            [
                dataclasses.replace(b, t_s=b.t_s - first, wall_ns=(round(b.wall_ns[0] * scale),))
                for each in own.values()
                for b in each
            ]
        )
    return found


def campaign(
    rng: random.Random, pool: list[Start], count: int, seconds: float, step: tuple[float, float] | None = None
) -> tuple[Run, float]:
    """Return a campaign of ``count`` starts, and when its step of (size, seconds) began."""
    lasts = count * (seconds + GAP_S)
    at = rng.uniform(6.0, lasts - 6.0 - step[1]) if step else math.inf
    chosen = []
    for number, start in enumerate(rng.sample(pool, count)):
        begin = rng.uniform(0, max(0.0, max(b.t_s for b in start) - seconds))
        for block in start:
            t_s = number * (seconds + GAP_S) + block.t_s - begin
            if 0 <= block.t_s - begin < seconds:
                size = step[0] if step and at <= t_s < at + step[1] else 0.0
                chosen.append(
                    dataclasses.replace(
                        block, incarnation=number, t_s=t_s, wall_ns=(round(block.wall_ns[0] * (1 + size)),)
                    )
                )
    run = Run(
        path=Path("resampled"),
        header={"baseline": chosen[0].cell},
        sessions=(),
        blocks=tuple(chosen),
        failures=(),
        accuracies=(),
        end="budget",
    )
    return run, at


def false_alarms(rng: random.Random, recording: pd.DataFrame, count: int) -> None:
    """Print how many campaigns report a change."""
    print("| starts x seconds | cells | stationary | shuffled as recorded | a cell said to move, stationary |")
    print("|---|---|---|---|---|")
    for cells in (CELLS, ["fp32_a", "int8"], ["fp32_a"]):
        pools = [starts(recording, cells, level=level) for level in (False, True)]
        for number, seconds in DESIGNS:
            changed, moved = [0, 0], 0
            for which, pool in enumerate(pools):
                for _ in range(count):
                    run, _ = campaign(rng, pool, number, seconds)
                    changed[which] += drift.find(run).verdict == "changed"
                    moved += which == 0 and bool(drift.moved(run.blocks))
            shares = " | ".join(f"{share / count:.1%}" for share in (*changed, moved))
            print(f"| {number} x {seconds:g} | {len(cells)} | {shares} |", flush=True)


def sensitivity(rng: random.Random, recording: pd.DataFrame, count: int) -> None:
    """Print how many steps are found, within 4 s of where one end of them is, and how many of them cancel."""
    pool = starts(recording, CELLS, level=False)
    pools = [quieter(pool, scale) for scale in QUIETER]
    found = " | ".join(f"found, noise x {scale:g}" for scale in QUIETER)
    print(f"| step | lasts | {found} | then a ratio said to change |")
    print("|---|---|---|---|---|---|")
    for step in STEPS:
        shares, told, wrong = [], 0, 0
        for chosen in pools:
            hits = 0
            for _ in range(count):
                run, at = campaign(rng, chosen, 6, 10.0, step)
                near = [
                    change
                    for change in drift.find(run).changes
                    if change.kind == "step" and min(abs(change.t_s - at), abs(change.t_s - at - step[1])) <= 4
                ]
                hits += bool(near)
                told += len(near)
                wrong += sum(change.cancels is False for change in near)
            shares.append(f" {hits / count:.0%} |")
        among = f"{wrong / told:.1%} of {told}" if told else "-"
        print(f"| {step[0]:.0%} | {step[1]:g} s |{''.join(shares)} {among} |", flush=True)


def quieter(pool: list[Start], scale: float) -> list[Start]:
    """Return the starts with every block's deviation from its cell's median scaled (in logarithms)."""
    figures: dict[str, list[int]] = defaultdict(list)
    for block in (block for start in pool for block in start):
        figures[block.cell].append(block.wall_ns[0])
    usual = {cell: median(values) for cell, values in figures.items()}
    return [
        [
            dataclasses.replace(b, wall_ns=(round(usual[b.cell] * (b.wall_ns[0] / usual[b.cell]) ** scale),))
            for b in start
        ]
        for start in pool
    ]


def main() -> None:
    """Print both tables, and what is found in the recording as it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--campaigns", type=int, default=500)
    arguments = parser.parse_args()
    recording = pd.read_csv(arguments.recording)
    rng = random.Random(0)
    false_alarms(rng, recording, arguments.campaigns)
    sensitivity(rng, recording, max(1, arguments.campaigns // 5))
    every = tuple(b for cell in CELLS for own in blocks(recording, cell).values() for b in own)
    run = Run(
        path=arguments.recording,
        header={"baseline": "fp32_a"},
        sessions=(),
        blocks=every,
        failures=(),
        accuracies=(),
        end="budget",
    )
    print("the recording itself, nine minutes:")
    found = drift.find(run)
    for change in found.changes:
        print(f"  {change.t_s:.0f} s: factor {change.factor:.3f} {change.factor_ci}, cancels: {change.cancels}")
    print("\n".join(drift.lines(found)))


if __name__ == "__main__":
    main()
