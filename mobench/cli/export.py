"""`mobench export`: a network to ONNX and TFLite files, each verified against torch before it counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click

from exporters.finish import Outcome
from exporters.recipe import Via
from mobench.cli.terminal import echo_table
from mobench.cli.triple import parse_triple
from mobench.exporting import export_networks, record
from mobench.records import FORMATS, PRECISIONS, Format
from mobench.report import explanation
from mobench.report.tables import Column
from mobench.subjects import Triple
from mobench.zoo import catalogue
from mobench.zoo.spec import Padding

COLUMNS = (
    Column(key="file", title="file"),
    Column(key="precision", title="precision"),
    Column(key="size_mb", title="MB", digits=2, align="right"),
    Column(key="max_abs_error", title="max error", align="right"),
    Column(key="snr_db", title="SNR dB", digits=1, align="right"),
    Column(key="top1_agreement", title="top-1 as torch %", digits=0, align="right"),
    Column(key="delegated", title="delegated", align="right"),
    Column(key="seconds", title="s", digits=1, align="right"),
    Column(key="status", title="status"),
)


def progress_line(outcome: Outcome) -> str:
    """Return the line that says what became of a file.

    >>> progress_line(Outcome(label="n", format="onnx", precision="fp32", path=Path("a/n-fp32.onnx"),
    ...                       status="unchanged", seconds=0.0))
    'n-fp32.onnx: unchanged'
    """
    if outcome.status == "failed":
        return f"{outcome.path.name}: failed: {outcome.error}"
    if outcome.status == "unchanged":
        return f"{outcome.path.name}: unchanged"
    verification = outcome.manifest["verification"]
    size = outcome.manifest["size_bytes"] / 1e6
    return (
        f"{outcome.path.name}: {size:.1f} MB in {outcome.seconds:.1f} s, largest error"
        f" {verification['max_abs_error']:.2g}, top-1 agreement {verification['top1_agreement']:.0f} %"
        f" of {verification['n']}"
    )


def echo_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print the outcomes as a table, with what failed under it."""
    rows, left = [], []
    for outcome in outcomes:
        row = record(outcome)
        delegated = f"{row['nodes_delegated']}/{row['nodes_total']}" if row["nodes_total"] else None
        rows.append({**row, "delegated": delegated, "size_mb": row["size_bytes"] / 1e6 if row["size_bytes"] else None})
        if row["not_delegated"]:
            names = ", ".join(f"{count} {name}" for name, count in row["not_delegated"].items())
            left.append(f"{outcome.path.name}: {names} left to the slower built-in kernels")
    against = {outcome.manifest.get("verification", {}).get("reference", "torch fp32") for outcome in outcomes}
    given = ", or the float file's in its own runtime," if against - {"torch fp32"} else ""
    notes = [f"max error, SNR, top-1: the file's logits against torch's FP32{given} on calibration images", *left]
    failed: dict[str, list[str]] = {}  # by error: one model may cost many files for one reason
    for outcome in outcomes:
        if outcome.error:
            failed.setdefault(str(outcome.error), []).append(outcome.path.name)
    for error, (first, *more) in failed.items():
        notes.append(f"FAILED {first}{f' and {len(more)} more' if more else ''}: {error}")
    echo_table(COLUMNS, rows, notes)


def echo_explanations(outcomes: Sequence[Outcome]) -> None:
    """Print where each INT8 file loses; the layers once for a network, as they are the same in both formats."""
    told = None
    for outcome in outcomes:
        if found := outcome.explanation or outcome.manifest.get("explanation"):
            if found["layers"] != told:
                click.echo(f"\n{outcome.label}: the damage of each layer")
                echo_table(explanation.LAYER_COLUMNS, found["layers"], explanation.layer_notes(found))
            told = found["layers"]
            click.echo(f"\n{outcome.path.name}: where it is lost")
            echo_table(explanation.STAGE_COLUMNS, explanation.stage_rows(found), [found["verdict"]])


@click.command()
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--all", "everything", is_flag=True, help="Every network of `mobench models`.")
@click.option("--family", metavar="NAME", help="Every network of one family, e.g. mobilenet_v3.")
@click.option("--fp32", "flags", flag_value="fp32", multiple=True, help="Short for --precision fp32, the default.")
@click.option("--fp16", "flags", flag_value="fp16", multiple=True, help="Weights stored in FP16, half the size.")
@click.option("--int8", "flags", flag_value="int8", multiple=True, help="Static INT8, weights a channel, calibrated.")
@click.option("--int8-dynamic", "flags", flag_value="int8-dynamic", multiple=True,
              help="INT8 weights, activations quantized as it runs; nothing to calibrate.")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), help="Repeatable.")
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), help="Repeatable; default both.")
@click.option("--weights", metavar="pretrained[:TAG]|random[:SEED]|FILE",
              help="Default: pretrained; of timm and torchvision random, of a factory what it makes.")  # fmt: skip
@click.option("--width", type=float, metavar="X", help="Width multiplier.")
@click.option("--depth", type=float, metavar="X", help="Depth multiplier.")
@click.option("--size", type=int, metavar="PIXELS", help="Side of the input.")
@click.option("--padding", type=click.Choice(get_args(Padding)), help="Default: what the weights were trained with.")
@click.option("--bn-eps", type=float, metavar="EPS", help="Batch-norm epsilon, where the weights do not say.")
@click.option("--mean", callback=parse_triple, metavar="R,G,B",
              help="Of pixels in 0..1, where the model does not say; one number stands for three.")  # fmt: skip
@click.option("--std", callback=parse_triple, metavar="R,G,B")
@click.option("--crop", type=float, metavar="SHARE", help="Of the short side that the centre crop keeps, e.g. 0.875.")
@click.option("--calibration", type=click.Path(path_type=Path), metavar="DIR",
              help="Photographs, at any depth; default: an embedded set.")  # fmt: skip
@click.option("--calibration-count", type=click.IntRange(1), default=100, show_default=True, metavar="N")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the calibration images.")
@click.option("--keep-float", type=click.IntRange(0), default=0, metavar="N",
              help="Leave the N layers in float that INT8 damages most.")  # fmt: skip
@click.option("--explain", is_flag=True, help="Where INT8 loses: a table of layers, and of the stages from torch on.")
@click.option("--via", type=click.Choice(get_args(Via)), default="torch", show_default=True,
              help="tensorflow: the same network built in Keras, converted by TFLiteConverter.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("artifacts"), show_default=True)
@click.option("--jobs", type=click.IntRange(1), metavar="N",
              help="Exports side by side at most, as memory allows; default: a core each, at most 4.")  # fmt: skip
@click.option("--verbose", is_flag=True, help="Show what the converters printed where one failed.")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a file.")
def command(
    models: tuple[str, ...],
    everything: bool,
    family: str | None,
    flags: tuple[str, ...],
    precisions: tuple[str, ...],
    formats: tuple[Format, ...],
    weights: str | None,
    width: float | None,
    depth: float | None,
    size: int | None,
    padding: Padding | None,
    bn_eps: float | None,
    mean: Triple | None,
    std: Triple | None,
    crop: float | None,
    calibration: Path | None,
    calibration_count: int,
    seed: int,
    keep_float: int,
    explain: bool,
    via: Via,
    out: Path,
    jobs: int | None,
    verbose: bool,
    json_out: bool,
) -> int:
    """Export MODELs to ONNX and TFLite, each file verified against torch before it counts.

    A MODEL is a network of `mobench models` (mobilenet_v2, or mobilenet_v2_0.35_224 with width and size), timm:NAME,
    torchvision:NAME, FILE.py:FACTORY (its code runs), or a float .onnx or .tflite file, which is quantized. A file
    that is there already and would come out the same is not made again.
    """
    if bool(models) == bool(everything or family):
        raise click.UsageError("name models, or --all, or --family NAME")
    if everything or family:
        models = tuple(spec.name for spec in catalogue.of_family(family))

    def say(outcome: Outcome) -> None:
        click.echo(progress_line(outcome), err=True)
        if verbose and outcome.error and outcome.log:
            click.echo(outcome.log, err=True)

    asked = [precision for precision in PRECISIONS if precision in (*flags, *precisions)]
    if (keep_float or explain) and "int8" not in asked:
        raise click.UsageError("--keep-float and --explain are about INT8 files: add --int8")
    outcomes = export_networks(
        models,
        precisions=asked,
        formats=formats,
        weights=weights,
        calibration_dir=calibration,
        calibration_count=calibration_count,
        seed=seed,
        width=width,
        depth=depth,
        input_size=size,
        padding=padding,
        bn_eps=bn_eps,
        mean=mean,
        std=std,
        crop=crop,
        keep_float=keep_float,
        explain=explain,
        out=out,
        via=via,
        jobs=jobs,
        say=say,
        talk=lambda line: click.echo(line, err=True),
    )
    if json_out:
        click.echo(json.dumps([record(outcome) for outcome in outcomes], indent=1, allow_nan=False))
    else:
        echo_outcomes(outcomes)
        if explain:
            echo_explanations(outcomes)
    return 1 if any(outcome.error for outcome in outcomes) else 0
