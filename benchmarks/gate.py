"""How often `mobench gate` falls where nothing got slower, and how often a slowdown of 3 % is found.

On recorded noise: whole campaigns of two copies of one model (true ratio 1), run by the real scheduler on a clock of
its own, whose sessions replay a recording (columns: ../shared/data/noise/README.md). Each start of the processes is
one of the recording's, drawn without replacement; its rounds are consecutive ones. A slowdown is planted by
multiplying one copy's times.

    python benchmarks/gate.py ../shared/data/noise/two_core_vm.csv.gz

On this machine: a model against the same one with about 3 % more work (a convolution over some rows of its input,
whose mean is added to every score, so that the classes stay), in alternation with copies of itself.

    python benchmarks/gate.py --real artifacts/mobilenet_v2-fp32.onnx
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coverage import blocks

from mobench import artifacts, campaign, plan, store
from mobench.design import Settings
from mobench.measure import Campaign
from mobench.records import Artifact, Block, Cell, Ready, Run, Target, Timing
from mobench.stats import half_width
from mobench.verdicts.comparison import Comparison, compare
from mobench.verdicts.gate import confidence, judge
from mobench.verdicts.matching import Match
from runners import desktop
from runners.fake import FakeClock, FakeHost

TOLERANCES = (0.0, 0.01, 0.03)
PLANTED = 1.03
START_S = 0.2
STOP_AT = 0.01  # where `mobench gate --tolerance 3%` stops: a half-width of a third of it


@dataclass(slots=True)
class Replay:
    """A session that answers with one start of the recording, from a random round on."""

    rows: Sequence[Block]
    first: int
    factor: float
    clock: FakeClock
    ready: Ready = field(init=False)
    given: int = 0

    def __post_init__(self) -> None:
        """Take the time that loading takes."""
        self.clock.now_s += START_S
        self.ready = Ready(
            init_ns=1, first_ns=round(self.rows[0].wall_ns[0] * self.factor), rss_before_mb=1.0, peak_rss_mb=1.0,
            asked="", got="", nodes_delegated=None, nodes_total=None, threads=1, cores=(), inputs=(), outputs=(),
            versions={},
        )  # fmt: skip

    def time(self, *, lead_in: int, timed: int, deadline_s: float) -> Timing:
        """Return the next recorded visit; those of the warm-up are taken from the same start, and used again."""
        if timed != 1:
            raise ValueError(f"blocks of {timed} inferences: the recording has blocks of one")
        row = self.rows[(self.first + self.given) % len(self.rows)]
        self.given = self.given + 1 if lead_in else self.given
        wall_ns, cpu_ns = round(row.wall_ns[0] * self.factor), round(row.cpu_ns * self.factor)
        self.clock.now_s += (lead_in + 1) * wall_ns / 1e9
        return Timing(wall_ns=(wall_ns,), cpu_ns=cpu_ns, involuntary_switches=0)

    def close(self) -> None:
        """End the session."""


class Unsynced(store.Journal):
    """A journal that need not survive a power cut."""

    def sync(self) -> None:
        """Leave it to the system when to write."""


def replayed(
    cells: Mapping[str, Mapping[int, Sequence[Block]]],
    factors: Mapping[str, float],
    rng: random.Random,
    budget_s: float,
    folder: Path,
) -> Run:
    """Run a campaign of the recording's cells with their times multiplied, the first as baseline."""
    clock, opened = FakeClock(), dict.fromkeys(cells, 0)
    starts = rng.sample(sorted(next(iter(cells.values()))), len(next(iter(cells.values()))))
    offsets = [rng.random() for _ in starts]

    def open_session(cell: Cell) -> Replay:
        number = opened[cell.id]
        opened[cell.id] += 1
        rows = cells[cell.id][starts[number]]
        return Replay(rows, int(offsets[number] * len(rows)), factors[cell.id], clock)

    swept = tuple(
        Cell(
            id=name,
            artifact=Artifact(path=Path(name), sha256=name, size_bytes=1, format="tflite", name=name),
            target=Target(runtime="litert"),
        )
        for name in cells
    )
    settings = Settings(budget_s=budget_s, ratio_half_width=STOP_AT, p50_half_width=1.0, seed=rng.randrange(2**32))
    path = folder / "campaign.jsonl"
    path.unlink(missing_ok=True)
    with Unsynced(path) as journal:
        Campaign(swept, swept[0].id, settings, journal, host=FakeHost(open_session), clock=clock).run()
    return store.read(path)


def verdicts(match: Match, truth: float, cpu: bool) -> dict[str, float]:
    """Return what a campaign says of one match: 1 or 0 a column, and the interval's half-width."""
    seen = compare(match, cpu=cpu)
    at_gate = compare(match, confidence=confidence(0.01, 1), cpu=cpu)
    assert isinstance(seen, Comparison) and isinstance(at_gate, Comparison) and seen.ratio_ci is not None
    said: dict[str, float] = {"slower": seen.verdict == "slower", "faster": seen.verdict == "faster"}
    said["held"] = seen.ratio_ci[0] <= truth <= seen.ratio_ci[1]
    said["width"] = half_width(seen.ratio, seen.ratio_ci)
    said["starts"] = seen.incarnations
    said["ratio"] = seen.ratio
    for tolerance in TOLERANCES:
        said[f"fell at {tolerance:.0%}"] = judge("", at_gate, tolerance).status == "regression"
        said[f"holds at {tolerance:.0%}"] = judge("", at_gate, tolerance).status == "passed"
    return said


HEADER = (
    "| campaigns | n | starts | slower | faster | gate falls at 0 % | at 1 % | at 3 % | holds at 3 %"
    " | coverage | median half-width |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(name: str, found: Sequence[Mapping[str, float]]) -> str:
    """Return a table's line: shares of the campaigns, coverage of the 95 % interval, its median half-width."""
    columns = ["slower", "faster", "fell at 0%", "fell at 1%", "fell at 3%", "holds at 3%", "held"]
    shares = [f"{statistics.fmean(one[column] for one in found):.3f}" for column in columns]
    starts = f"{statistics.fmean(one['starts'] for one in found):.1f}"
    width = f"{statistics.median(one['width'] for one in found):.4f}"
    return f"| {' | '.join([name, str(len(found)), starts, *shares, width])} |"


def simulate(recording: Path, campaigns: int) -> None:
    """Print a table for campaigns on recorded noise: copies of one model, and one with a planted slowdown."""
    import pandas as pd

    table = pd.read_csv(recording)
    a, b, other = (blocks(table, cell) for cell in ("fp32_a", "fp32_b", "fp32_other"))
    print(HEADER)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for budget_s in (20.0, 60.0, 120.0):
            for factor in (1.0, PLANTED):
                rng = random.Random(0)
                runs = []
                for _ in range(campaigns):
                    run = replayed({"a": a, "b": b}, {"a": 1.0, "b": factor}, rng, budget_s, folder)
                    match = Match(one=run, a="a", other=run, b="b")
                    runs.append((verdicts(match, factor, cpu=False), verdicts(match, factor, cpu=True)))
                for at, clock in enumerate(("wall", "cpu")):
                    title = f"{'two copies' if factor == 1 else f'{factor - 1:+.0%} planted'}, {budget_s:g} s, {clock}"
                    print(line(title, [run[at] for run in runs]), flush=True)
        # Two campaigns with one cell in common.
        for factor in (1.0, PLANTED):
            rng = random.Random(0)
            found = []
            for _ in range(campaigns):
                old = replayed({"base": other, "a": a}, {"base": 1.0, "a": 1.0}, rng, 20.0, folder)
                new = replayed({"base": other, "b": b}, {"base": 1.0, "b": factor}, rng, 20.0, folder)
                found.append(verdicts(Match(one=old, a="a", other=new, b="b"), factor, cpu=False))
            title = f"{'two copies' if factor == 1 else f'{factor - 1:+.0%} planted'}, through a third, 2 x 20 s, wall"
            print(line(title, found), flush=True)


def with_more_work(model: Path, to: Path, rows: int, channels: int) -> None:
    """Write an ONNX classifier with a convolution of ``channels`` over the first ``rows`` of its input on top.

    Its mean is added to all scores: it has to be computed, and changes no ranking.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    proto = onnx.load(model)
    graph = proto.graph
    image, scores = graph.input[0].name, graph.output[0].name
    producer = next(node for node in graph.node if scores in node.output)
    producer.output[list(producer.output).index(scores)] = "plain_scores"
    weights = np.random.default_rng(0).standard_normal((channels, 3, 3, 3)).astype(np.float32) * 0.01
    constants = {
        "more_weights": weights,
        "more_from": np.array([0], np.int64),
        "more_to": np.array([rows], np.int64),
        "more_axis": np.array([2], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    nodes: list[Any] = [
        helper.make_node("Slice", [image, "more_from", "more_to", "more_axis"], ["more_rows"]),
        helper.make_node("Conv", ["more_rows", "more_weights"], ["more_maps"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["more_maps"], ["more_means"]),
        helper.make_node("Flatten", ["more_means"], ["more_flat"]),
        helper.make_node("ReduceMean", ["more_flat"], ["more_mean"], keepdims=1),
        helper.make_node("Add", ["plain_scores", "more_mean"], [scores]),
    ]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    to.write_bytes(proto.SerializeToString())


def timed(old: Path, new: Path, seconds: float, seed: int, folder: Path) -> Match:
    """Time two files in one campaign of that length."""
    target = Target(runtime="ort", cores=desktop.choose_cores(1))
    cells = plan.make_cells([artifacts.read(path) for path in (old, new)], [target])
    settings = Settings(budget_s=seconds, ratio_half_width=0.0, p50_half_width=0.0, seed=seed)
    run = campaign.run_cells(cells, settings=settings, results=folder)
    return Match(one=run, a=cells[0].id, other=run, b=cells[1].id)


def ratio_of(match: Match) -> Comparison:
    """Return the comparison of two timed files."""
    found = compare(match)
    if found is None or found.ratio_ci is None:
        raise SystemExit(f"no ratio came out: {match.one.failures}")
    return found


def find_rows(model: Path, folder: Path, seconds: float) -> Path:
    """Return the model with about 3 % more work: cost grows with rows and channels, and is measured three times."""
    import onnx

    height = onnx.load(model, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[2].dim_value
    slower = folder / "slower.onnx"
    rows, channels = height // 2, 16
    for _ in range(3):
        with_more_work(model, slower, rows, channels)
        cost = ratio_of(timed(model, slower, seconds, 0, folder)).ratio - 1
        print(f"{rows} rows of {channels} channels: {cost:+.2%}", flush=True)
        rows = round(rows * min(8.0, (PLANTED - 1) / max(cost, 0.001)))
        while rows > height:
            channels, rows = 2 * channels, rows // 2
        rows = max(4, rows)
    with_more_work(model, slower, rows, channels)
    return slower


def real(model: Path, campaigns: int, seconds: float, calibration_s: float) -> None:
    """Print the same table for campaigns on this machine: copies and the slower model, in alternation."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {part: folder / f"{part}.onnx" for part in ("old", "copy")}
        for file in files.values():
            shutil.copy(model, file)
        files["slower"] = find_rows(files["old"], folder, calibration_s / 4)
        truth = ratio_of(timed(files["old"], files["slower"], calibration_s, 1, folder))
        assert truth.ratio_ci is not None
        low, high = truth.ratio_ci
        print(f"in a campaign of {calibration_s:g} s: {truth.ratio:.4f} [{low:.4f}, {high:.4f}]\n", flush=True)
        found: dict[str, list[dict[str, float]]] = {"copy": [], "slower": []}
        for seed in range(campaigns):
            for part, true in (("copy", 1.0), ("slower", truth.ratio)):
                match = timed(files["old"], files[part], seconds, seed, folder)
                found[part].append(verdicts(match, true, cpu=False))
                print(f"{seed + 1:3} {part}: {found[part][-1]['ratio']:.4f}", flush=True)
        print(f"\n{HEADER}")
        print(line(f"two copies, {seconds:g} s", found["copy"]))
        print(line(f"{truth.ratio - 1:+.1%} of work, {seconds:g} s", found["slower"]))


def main() -> None:
    """Simulate, or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "file", type=Path, help="a recording (.csv.gz), or with --real an ONNX classifier without manifest"
    )
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--campaigns", type=int, help="default: 1000 simulated, 20 real ones of each kind")
    parser.add_argument("--seconds", type=float, default=20.0, help="a real campaign")
    parser.add_argument("--calibration", type=float, default=120.0, help="seconds for the slower model's true ratio")
    arguments = parser.parse_args()
    if arguments.real:
        real(arguments.file, arguments.campaigns or 20, arguments.seconds, arguments.calibration)
    else:
        simulate(arguments.file, arguments.campaigns or 1000)


if __name__ == "__main__":
    main()
