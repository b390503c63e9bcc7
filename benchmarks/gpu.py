"""mobench's ONNX files on a GPU: against other loops over the same weights, against themselves, and against the CPU.

`speed`: one campaign a network, in which mobench's session (inputs and outputs bound on the device), another of the
same, a bare ONNX Runtime loop, torch eager and torch.compile take turns; ratios are paired by round. `aa`: two copies
of one file, how far from 1 the ratio comes out. `outputs`: each file's nodes on the GPU, its outputs against the CPU's.
Weights are random. With `--device cpu` all of it runs on the CPU: that tries the script, and says nothing of a GPU.

    python benchmarks/gpu.py speed mobilenet_v2 mobilenet_v3_large efficientnet_b0
    python benchmarks/gpu.py aa mobilenet_v2 --campaigns 20
    python benchmarks/gpu.py outputs --all
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporters.finish import Outcome
from exporters.recipe import STATISTICS_IMAGES
from mobench import artifacts, campaign, checking, data, plan, store, zoo
from mobench.design import Settings
from mobench.errors import BadInputError, MobenchError
from mobench.exporting import export_networks
from mobench.hosts import Session
from mobench.hosts.desktop import DesktopHost
from mobench.records import Artifact, Block, Cell, Run, Target
from mobench.stats import Interval, Summary, paired_ratio, summarize
from mobench.subjects import Asked, from_zoo
from runners import desktop, nvidia, wire
from runners.half import in_half

WEIGHTS = "random:0"
OURS, AGAIN = "mobench", "mobench again"
# The other loops by what the tables call them: the subject of gpu_loops.py, and between which bounds the ratio of
# mobench's latency to its own should lie. None: it is only told.
LOOPS: Mapping[str, tuple[str, Interval | None]] = {
    "bare loop": ("ort", (0.99, 1.01)),
    "torch eager": ("eager", (0.0, 1.0)),
    "torch.compile": ("compile", None),
}
AA_P95 = 0.005
LARGEST, TOP1 = 1e-3, 1.0  # of FP32 outputs against the CPU's, TF32 off
INPUTS = 32
FINISHED = ("precise", "budget")
START_S = 600.0  # a loop's load and first inference: torch compiles in it


def target(device: str, batch: int = 1) -> Target:
    """Return where the files run: ONNX Runtime on CUDA with everything bound in its memory, or on one core."""
    cores = desktop.choose_cores(1)
    if device == "cuda":
        return Target(device="desktop-gpu", runtime="ort", provider="cuda", io="device", cores=cores, batch=batch)
    return Target(runtime="ort", provider="cpu", cores=cores, batch=batch)


def export(names: Sequence[str], precisions: Sequence[str], folder: Path, jobs: int | None = None) -> list[Artifact]:
    """Export networks with random weights as far as they are not there; return the files that came out."""
    outcomes = export_networks(
        names, precisions=precisions, formats=("onnx",), weights=WEIGHTS, out=folder, jobs=jobs, say=_export_said
    )
    return [artifacts.read(outcome.path) for outcome in outcomes if outcome.error is None]


def _export_said(outcome: Outcome) -> None:
    if outcome.status != "unchanged":
        say(f"{outcome.path.name}: {outcome.error or outcome.status}")


def say(line: str) -> None:
    """Tell what goes on, on stderr."""
    print(line, file=sys.stderr, flush=True)


def save_module(name: str, folder: Path) -> Path:
    """Save the torch module whose weights `export` gave a network's files; return its path."""
    import torch

    subject = from_zoo(name, Asked(weights=WEIGHTS))
    images = data.calibration(None).images(subject.weights.preprocess)[:STATISTICS_IMAGES]
    module = subject.weights.build(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    path = folder / f"{name}.pt"
    torch.save({"module": module, "size": subject.weights.preprocess.size}, path)
    return path


class Loops(DesktopHost):
    """This machine, on which some cells are loops of gpu_loops.py."""

    def __init__(self, configs: Mapping[str, Mapping[str, Any]], *, check: bool, on: Collection[str]) -> None:
        """Take the loops' configurations by cell; all others are mobench's own sessions."""
        super().__init__(check=check, on=on)
        self._configs = configs

    def open_session(self, cell: Cell) -> Session:
        """Start a cell's loop, or mobench's session."""
        if cell.id not in self._configs:
            return super().open_session(cell)
        script = Path(__file__).with_name("gpu_loops.py")
        command = [sys.executable, "-P", str(script), json.dumps(self._configs[cell.id])]
        # As mobench's sessions have them: GPUs counted alike, TF32 off, and no thread pool of NumPy's beside.
        more = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "NVIDIA_TF32_OVERRIDE": "0", "OPENBLAS_NUM_THREADS": "1"}
        environ = {**os.environ, **more, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        return wire.Session(command, label=cell.id, env=environ, start_deadline_s=START_S)


def measured(cells: Sequence[Cell], host: DesktopHost, settings: Settings, journal: Path) -> Run:
    """Time cells into a journal, or read it where it holds such a campaign that ended by itself."""
    if journal.is_file():
        run = store.read(journal)
        same = [(cell["id"], cell["artifact"]["sha256"]) for cell in run.header.get("cells", ())]
        if run.end in FINISHED and same == [(cell.id, cell.artifact.sha256) for cell in cells]:
            return run
        journal.unlink()
    journal.parent.mkdir(parents=True, exist_ok=True)
    with host:
        return campaign.run_cells(cells, host=host, baseline=cells[0].id, settings=settings, journal=journal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """mobench's p50 over that of another loop over the same weights, with its interval; why there is none, in words."""

    network: str
    loop: str
    ours_ms: float | None
    other_ms: float | None
    ratio: float | None
    ratio_ci: Interval | None
    snr_db: float | None
    verdict: str


def verdict(ratio_ci: Interval | None, bounds: Interval | None) -> str:
    """Say whether a ratio lies within bounds, as far as its interval tells.

    >>> verdict((0.995, 1.004), (0.99, 1.01)), verdict((1.02, 1.04), (0.0, 1.0)), verdict((0.98, 1.02), (0.0, 1.0))
    ('kept', 'missed', 'undecided')
    """
    if bounds is None or ratio_ci is None:
        return "told" if bounds is None else "undecided"
    (low, high), (least, most) = ratio_ci, bounds
    return "kept" if least <= low and high <= most else "missed" if high < least or low > most else "undecided"


def speed(
    name: str, *, device: str, precision: str, folder: Path, budget_s: float, loops: Sequence[str] = tuple(LOOPS)
) -> list[Against]:
    """Time a network's file against the other loops; return a row for each, mobench against itself first."""
    artifact = export([name], [precision], folder / "artifacts")[0]
    how = target(device)
    with tempfile.TemporaryDirectory() as scratch:
        needs_torch = any(LOOPS[loop][0] != "ort" for loop in loops)
        module = save_module(name, Path(scratch)) if needs_torch else Path()
        onnx = artifact.path.absolute()
        if device == "cuda" and precision == "fp16":  # the form in which mobench's session runs it
            onnx = Path(scratch) / onnx.name
            onnx.write_bytes(in_half(artifact.path.read_bytes()))
        common = {"gpu": device == "cuda", "batch": 1, "threads": 1, "cores": list(how.cores)}
        configs = {}
        for loop in loops:
            subject = LOOPS[loop][0]
            model = onnx if subject == "ort" else module
            configs[loop] = {**common, "subject": subject, "model": str(model), "half": precision == "fp16"}
        cells = [Cell(id=each, artifact=artifact, target=how) for each in (OURS, AGAIN, *loops)]
        settings = Settings(budget_s=budget_s, ratio_half_width=0.003, p50_half_width=1.0)
        journal = folder / f"speed-{artifact.path.stem}-{device}.jsonl"
        run = measured(cells, Loops(configs, check=True, on={how.device}), settings, journal)
    return list(against(name, run))


def against(network: str, run: Run) -> Iterator[Against]:
    """Yield what a campaign of `speed` says, a row for each cell but mobench's own."""
    steady: dict[str, list[Block]] = defaultdict(list)
    for block in run.blocks:
        if block.phase == "steady":
            steady[block.cell].append(block)
    summaries = {summary.cell: summary for summary in summarize(run)}
    for other in [cell for cell in summaries if cell != OURS]:
        found = paired_ratio(steady[OURS], steady[other])
        ratio, ratio_ci = found or (None, None)
        bounds = LOOPS[other][1] if other in LOOPS else (1 - AA_P95, 1 + AA_P95)
        yield Against(
            network=network,
            loop=other,
            ours_ms=summaries[OURS].p50_ms,
            other_ms=summaries[other].p50_ms,
            ratio=ratio,
            ratio_ci=ratio_ci,
            snr_db=summaries[other].check_db,
            verdict=_failure(summaries[OURS], summaries[other]) or verdict(ratio_ci, bounds),
        )


def _failure(*cells: Summary) -> str:
    """Return why a ratio between cells says nothing, empty where it does."""
    for summary in cells:
        wrong = [doubt.why for doubt in summary.doubts if doubt.name == "WRONG_OUTPUT"]
        if summary.p50_ms is None or wrong:
            return f"not timed: {summary.failure}" if summary.p50_ms is None else f"other outputs: {wrong[0]}"
    return ""


def print_speed(rows: Sequence[Against]) -> None:
    """Print the rows of `speed` as a table in Markdown."""
    print("| network | against | its p50, ms | mobench p50, ms | mobench over it [95 %] | SNR dB | bar |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        shown = [f"{value:.4f}" if value else "-" for value in (row.other_ms, row.ours_ms)]
        ratio = f"{row.ratio:.4f}" if row.ratio else "-"
        ratio += f" [{row.ratio_ci[0]:.4f}, {row.ratio_ci[1]:.4f}]" if row.ratio_ci else ""
        snr = f"{row.snr_db:.1f}" if row.snr_db is not None else "-"
        print(f"| {row.network} | {row.loop} | {' | '.join(shown)} | {ratio} | {snr} | {row.verdict} |")


def aa(name: str, *, device: str, folder: Path, campaigns: int, seconds: float) -> list[tuple[float, Interval | None]]:
    """Run campaigns of two copies of one file; return each one's ratio with its interval. The truth is 1."""
    artifact = export([name], ["fp32"], folder / "artifacts")[0]
    cells = plan.make_cells([artifact, artifact], [target(device)])
    found: list[tuple[float, Interval | None]] = []
    for number in range(campaigns):
        settings = Settings(budget_s=seconds, ratio_half_width=0.0, p50_half_width=0.0, seed=number)
        journal = folder / f"aa-{artifact.path.stem}-{device}-{seconds:g}s-{number}.jsonl"
        host = DesktopHost(on={cells[0].target.device})
        second = summarize(measured(cells, host, settings, journal))[1]
        if second.ratio is None:
            raise MobenchError(f"A/A of {name}", second.failure or "it was not timed", "raise --seconds")
        found.append((second.ratio, second.ratio_ci))
        say(f"{number + 1:2} of {campaigns}: {second.ratio:.4f}")
    return found


def print_aa(name: str, found: Sequence[tuple[float, Interval | None]]) -> bool:
    """Print how far from 1 the ratios came out; return whether the bar is kept."""
    p95 = float(np.quantile([abs(ratio - 1) for ratio, _ in found], 0.95))
    told = [interval for _, interval in found if interval is not None]
    held = sum(low <= 1 <= high for low, high in told)
    print("| network | p95 of abs(ratio - 1) | intervals that hold 1 | bar |")
    print("|---|---|---|---|")
    print(f"| {name} | {p95:.4f} | {held} of {len(told)} | {'kept' if p95 <= AA_P95 else 'missed'} |")
    return p95 <= AA_P95


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a file's nodes run, and how its outputs differ from the CPU's; ``wrong`` is why a bar is missed, or empty.

    ``largest`` is the largest difference as a share of the CPU's largest value, ``top1`` the share of equal classes.
    """

    file: str
    taken: int | None = None
    total: int | None = None
    largest: float | None = None
    top1: float | None = None
    wrong: str = ""


def output(artifact: Artifact, device: str) -> Output:
    """Run a file on the device and on the CPU, one image after the other, and compare."""
    cell = Cell(id=artifact.path.name, artifact=artifact, target=target(device))
    try:
        with DesktopHost(on={cell.target.device}) as host:
            on_cpu = host.open_session(replace(cell, target=target("cpu")))
            try:
                images = checking.inputs(on_cpu.ready, INPUTS)
                expected = on_cpu.predict(images)  # type: ignore[attr-defined]  # a desktop's session has it
            finally:
                on_cpu.close()
            session = host.open_session(cell)
            try:
                ready, got = session.ready, session.predict(images)  # type: ignore[attr-defined]
            finally:
                session.close()
    except MobenchError as error:
        return Output(file=artifact.path.name, wrong=str(error))
    told = checking.compare(cell, expected.astype(np.float64), got.astype(np.float64), named=ready.got)
    left = ", ".join(f"{count} {name}" for name, count in ready.not_delegated.items())
    wrong = [told.wrong] if told.wrong else []
    if ready.nodes_total is not None and ready.nodes_delegated != ready.nodes_total:
        wrong.append(f"not on the GPU: {left}")
    if artifact.precision == "fp32" and (told.largest or 0.0) > LARGEST:
        wrong.append(f"largest error above {LARGEST:g}")
    if artifact.precision == "fp32" and told.top1 is not None and told.top1 < TOP1:
        wrong.append("another class")
    return Output(
        file=artifact.path.name,
        taken=ready.nodes_delegated,
        total=ready.nodes_total,
        largest=told.largest,
        top1=told.top1,
        wrong="; ".join(wrong),
    )


def print_outputs(rows: Sequence[Output]) -> None:
    """Print the rows of `outputs` as a table in Markdown."""
    print(f"| file | nodes on the GPU | largest error | same class of {INPUTS} | |")
    print("|---|---|---|---|---|")
    for row in rows:
        nodes = f"{row.taken} of {row.total}" if row.total is not None else "-"
        largest = f"{row.largest:.2g}" if row.largest is not None else "-"
        top1 = f"{row.top1:.1%}" if row.top1 is not None else "-"
        print(f"| {row.file} | {nodes} | {largest} | {top1} | {row.wrong} |")
    print(f"\n{sum(not row.wrong for row in rows)} of {len(rows)} files keep every bar")


def machine(device: str) -> str:
    """Return the device in words, or raise a BadInputError where it is not there."""
    if device == "cpu":
        return "the CPU: this tries the script and says nothing of a GPU"
    gpu = nvidia.Gpu()
    if gpu.absent == nvidia.NO_BINDING:
        raise BadInputError("no NVIDIA GPU can be asked", gpu.absent, "pip install nvidia-ml-py, or --device cpu")
    if gpu.absent:
        raise BadInputError("no NVIDIA GPU here", gpu.absent, "run it on a machine with one, or with --device cpu")
    told = gpu.describe()
    return f"{told.get('name')}, driver {told.get('driver')}, CUDA {told.get('cuda')}"


def main() -> int:
    """Print the table that was asked for; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "aa", "outputs"))
    parser.add_argument("networks", nargs="*", help="default: mobilenet_v2")
    parser.add_argument("--all", action="store_true", help="the whole zoo")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precision", action="append", choices=("fp32", "fp16"), help="repeatable; default fp32")
    parser.add_argument("--folder", type=Path, default=Path("gpu-benchmark"), help="of models and campaigns")
    parser.add_argument("--budget", type=float, default=120.0, metavar="SECONDS", help="speed: a network")
    parser.add_argument("--without", action="append", choices=tuple(LOOPS), default=[], help="speed: repeatable")
    parser.add_argument("--campaigns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="aa: a campaign")
    arguments = parser.parse_args()
    names = zoo.names() if arguments.all else arguments.networks or ["mobilenet_v2"]
    precisions, folder, device = arguments.precision or ["fp32"], arguments.folder, arguments.device
    steps: Mapping[str, Callable[[], bool]] = {
        "speed": lambda: _speeds(names, precisions, folder, device, arguments.budget, arguments.without),
        "aa": lambda: _aas(names, folder, device, arguments.campaigns, arguments.seconds),
        "outputs": lambda: _outputs(export(names, precisions, folder / "artifacts"), device),
    }
    try:
        print(f"{machine(device)}\n", flush=True)
        return int(not steps[arguments.what]())
    except MobenchError as error:
        say(f"error: {error}")
        return 2 if error.kind == "bad_input" else 1
    except KeyboardInterrupt:
        say("interrupted; campaigns that ended are kept")
        return 130


def _speeds(
    names: Sequence[str], precisions: Sequence[str], folder: Path, device: str, budget_s: float, without: Sequence[str]
) -> bool:
    loops = [loop for loop in LOOPS if loop not in without]
    rows = [
        row
        for name in names
        for precision in precisions
        for row in speed(name, device=device, precision=precision, folder=folder, budget_s=budget_s, loops=loops)
    ]
    print_speed(rows)
    return all(row.verdict in ("kept", "told", "undecided") for row in rows)


def _aas(names: Sequence[str], folder: Path, device: str, campaigns: int, seconds: float) -> bool:
    kept = True
    for name in names:
        found = aa(name, device=device, folder=folder, campaigns=campaigns, seconds=seconds)
        kept = print_aa(name, found) and kept
    return kept


def _outputs(files: Sequence[Artifact], device: str) -> bool:
    rows = []
    for artifact in files:
        say(artifact.path.name)
        rows.append(output(artifact, device))
    print_outputs(rows)
    return not any(row.wrong for row in rows)


if __name__ == "__main__":
    sys.exit(main())
