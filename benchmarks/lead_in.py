"""How many untimed inferences it takes until a model that takes turns with others is as fast as in a loop of its own.

Sessions take turns, many consecutive inferences a turn. Printed is the median by position in the turn, and the ratio to
the first file at the same position. The last column is a loop of each model alone, in alternation.

    python benchmarks/lead_in.py artifacts/mobilenet_v2-{fp32,int8}.{tflite,onnx}
"""

from __future__ import annotations

import argparse
import contextlib
import random
from pathlib import Path

import numpy as np

from mobench import artifacts
from mobench.records import RUNTIME_FORMATS, Target
from runners import desktop

POSITIONS = (0, 1, 2, 4, 8, 16, 32)
TURN = 33
LOOP = 100


def main() -> None:
    """Print a table in ms and one of ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=80)
    arguments = parser.parse_args()
    cores = desktop.choose_cores(1)
    with contextlib.ExitStack() as stack:
        sessions = []
        for path in arguments.models:
            artifact = artifacts.read(path)
            runtime = next(r for r, f in RUNTIME_FORMATS.items() if f == artifact.format)
            target = Target(runtime=runtime, cores=cores)
            sessions.append(stack.enter_context(desktop.open_session(artifact, target)))
        turns: list[list[tuple[int, ...]]] = [[] for _ in sessions]
        loops: list[list[float]] = [[] for _ in sessions]
        order = list(range(len(sessions)))
        rng = random.Random(0)
        for number in range(arguments.rounds):
            rng.shuffle(order)
            for index in order:
                turns[index].append(sessions[index].time(lead_in=0, timed=TURN).wall_ns)
            if number % 10 == 9:
                for index in order:
                    wall = sessions[index].time(lead_in=TURN, timed=LOOP).wall_ns
                    loops[index].append(float(np.median(wall)) / 1e6)
    ms = np.array(turns) / 1e6  # [model, round, position]
    hot = np.array(loops)
    print("| file | " + " | ".join(f"after {p}" for p in POSITIONS) + " | loop |")
    print("|---" * (len(POSITIONS) + 2) + "|")
    for path, own, loop in zip(arguments.models, ms, hot, strict=True):
        shown = [f"{np.median(own[:, p]):.2f}" for p in POSITIONS] + [f"{np.median(loop):.2f}"]
        print(f"| {path.name}, ms | " + " | ".join(shown) + " |")
    for path, own, loop in list(zip(arguments.models, ms, hot, strict=True))[1:]:
        shown = [f"{np.median(own[:, p] / ms[0][:, p]):.3f}" for p in POSITIONS] + [f"{np.median(loop / hot[0]):.3f}"]
        print(f"| {path.name}, ratio | " + " | ".join(shown) + " |")


if __name__ == "__main__":
    main()
