"""Our TFLite and ONNX files against the second road's (`mobench export --via tensorflow`): latency, and INT8's damage.

Needs the `tensorflow` extra. All three files of a network have the same random weights, their batch-norm statistics
computed on the calibration images. What is in FOLDER already, exported or timed, is not made again, so that a run that
was broken off goes on. `--export-only` first, on any machine; the timing then wants a quiet one: each network has
`--budget` seconds, and the few that are too slow for them what three starts take.

    python benchmarks/roads.py FOLDER --export-only
    python benchmarks/roads.py FOLDER [--only NAME]... [--precision int8]
    python benchmarks/roads.py FOLDER --snr --photographs DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from exporters.finish import Outcome
from exporters.recipe import STATISTICS_IMAGES
from mobench import artifacts, campaign, plan, store, zoo
from mobench.design import Settings
from mobench.errors import MobenchError
from mobench.exporting import export_networks
from mobench.records import Run
from mobench.stats import Summary, summarize
from mobench.zoo.count import count

# Those whose squeeze-and-excitation comparable tools lose tens of points on.
SE_NETWORKS = (
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "mnasnet_a1",
    "moga_a",
    "moga_b",
    "moga_c",
)
FEWEST_STARTS = 3
# For the budget of slow networks only: one core's pace, and how many inferences a start of a session takes.
MACS_PER_S, INFERENCES_PER_START, LOADING_S = 40e9, 8, 1.0

Files = tuple[Outcome, Outcome, Outcome]  # TensorFlow's TFLite, our TFLite, our ONNX


def export(
    names: Sequence[str], precision: str, folder: Path, images: tuple[Path | None, int], jobs: int | None
) -> list[Files]:
    """Export networks on both roads; ``images`` is the folder of the calibration images, and how many are taken."""

    def say(outcome: Outcome) -> None:
        if outcome.status != "unchanged":
            print(f"{outcome.path.name}: {outcome.error or f'{outcome.seconds:.0f} s'}", file=sys.stderr)

    common = {"precisions": (precision,), "weights": "random:0", "out": folder}
    common |= {"calibration_dir": images[0], "calibration_count": images[1]}
    theirs = export_networks(names, via="tensorflow", jobs=jobs, say=say, **common)  # type: ignore[arg-type]
    ours = export_networks(names, formats=("tflite", "onnx"), jobs=jobs, say=say, **common)  # type: ignore[arg-type]
    return list(zip(theirs, ours[0::2], ours[1::2], strict=True))


def time_files(name: str, files: Files, budget_s: float, folder: Path) -> Run:
    """Time the three files against TensorFlow's in one campaign, or read the one that did."""
    models = [artifacts.read(outcome.path) for outcome in files]
    journal = folder / f"{files[0].label}-{files[0].precision}.jsonl"
    if journal.is_file():
        run = store.read(journal)
        if run.end in ("precise", "budget") and _timed(run) == [model.sha256 for model in models]:
            return run
        journal.unlink()
    cells = plan.make_cells(models, campaign.make_targets())
    start_s = len(cells) * (LOADING_S + INFERENCES_PER_START * count(zoo.get(name)).macs / MACS_PER_S)
    settings = Settings(budget_s=max(budget_s, FEWEST_STARTS * start_s), ratio_half_width=0.003, p50_half_width=1.0)
    return campaign.run_cells(cells, settings=settings, journal=journal)


def _timed(run: Run) -> list[str]:
    return [cell["artifact"]["sha256"] for cell in run.header.get("cells", ())]


def ratio(summary: Summary) -> str:
    """Return a latency ratio with its interval, by the wall clock and by CPU time."""
    if summary.ratio is None or summary.ratio_cpu is None:
        return f"not timed: {summary.failure} | "
    pairs = ((summary.ratio, summary.ratio_ci), (summary.ratio_cpu, summary.ratio_cpu_ci))
    return " | ".join(f"{value:.3f} [{ci[0]:.3f}, {ci[1]:.3f}]" if ci else f"{value:.3f}" for value, ci in pairs)


def print_latency(exported: Iterable[tuple[str, Files]], budget_s: float, folder: Path) -> None:
    """Time every network; print a row each, then the medians and what is slower than 1.03."""
    print("| network | TensorFlow's, ms | TFLite, wall [95 %] | TFLite, CPU | ONNX, wall | ONNX, CPU | starts |")
    print("|---|---|---|---|---|---|---|")
    found: dict[str, list[tuple[str, float]]] = {"TFLite": [], "ONNX": []}
    for name, files in exported:
        if failed := [outcome for outcome in files if outcome.error]:
            print(f"| {name} | not exported: {failed[0].error} | | | | | |", flush=True)
            continue
        theirs, *ours = summarize(time_files(name, files, budget_s, folder))
        p50 = f"{theirs.p50_ms:.2f}" if theirs.p50_ms else "-"
        print(f"| {name} | {p50} | {ratio(ours[0])} | {ratio(ours[1])} | {theirs.incarnations} |", flush=True)
        for rows, summary in zip(found.values(), ours, strict=True):
            if summary.ratio is not None:
                rows.append((name, summary.ratio))
    for kind, rows in found.items():
        if rows:
            slow = ", ".join(f"{name} {value:.3f}" for name, value in rows if value > 1.03) or "none"
            print(f"\n{kind}: median {median(value for _, value in rows):.3f} of {len(rows)}; above 1.03: {slow}")


def print_snr(exported: Iterable[tuple[str, Files]]) -> None:
    """Print the signal-to-noise ratio of the INT8 logits against torch's FP32, as each file was verified."""
    print("| network | TensorFlow's TFLite, dB | our TFLite, dB | our ONNX, dB |")
    print("|---|---|---|---|")
    for name, files in exported:
        cells = [
            str(outcome.error) if outcome.error else f"{outcome.manifest['verification']['snr_db']:.1f}"
            for outcome in files
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Export, then print the table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the exports (20 GB for the whole zoo) and the campaigns")
    parser.add_argument("--only", action="append", metavar="NAME", help="instead of the whole zoo; repeatable")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8", "int8-dynamic"), default="fp32")
    parser.add_argument(
        "--snr", action="store_true", help="signal-to-noise of INT8 instead of latency; the SE networks"
    )
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="calibration images; default: the embedded set")
    parser.add_argument("--budget", type=float, default=15.0, metavar="SECONDS", help="of timing, a network")
    parser.add_argument("--jobs", type=int, help="exports side by side")
    parser.add_argument("--export-only", action="store_true")
    arguments = parser.parse_args()
    precision = "int8" if arguments.snr else arguments.precision
    names = arguments.only or (SE_NETWORKS if arguments.snr else zoo.names())
    # An image unknown to the statistics can drive random weights to a hundred times the range of the others.
    images = (arguments.photographs, STATISTICS_IMAGES if arguments.snr else 100)
    # Random weights take their statistics from the calibration images: with others, they are other weights.
    models = arguments.folder / ("models-snr" if arguments.snr else "models")
    campaigns = arguments.folder / "campaigns"
    campaigns.mkdir(parents=True, exist_ok=True)
    try:
        exported = list(zip(names, export(names, precision, models, images, arguments.jobs), strict=True))
        if arguments.snr:
            print_snr(exported)
        elif not arguments.export_only:
            print_latency(exported, arguments.budget, campaigns)
    except MobenchError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
