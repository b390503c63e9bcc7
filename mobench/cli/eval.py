"""`mobench eval`: top-1 and top-5 of model files on a folder of images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import click

from mobench import accuracy, artifacts, data, plan, store
from mobench.classifier import Options
from mobench.cli.run import parse_shape
from mobench.cli.terminal import Progress, echo_table
from mobench.cli.triple import parse_triple
from mobench.errors import BadInputError, LinkError, MobenchError, NotReadyError
from mobench.gpu_cells import GPU
from mobench.hosts.opening import open_host
from mobench.lasting import LastingSession
from mobench.records import DEVICES, PROVIDER_NAMES, RUNTIME_FORMATS, Artifact, Cell, Target
from mobench.report.tables import Column
from runners import desktop

COLUMNS = (
    Column(key="file", title="file"),
    Column(key="device", title="device"),
    Column(key="runtime", title="runtime"),
    Column(key="provider", title="provider"),
    Column(key="precision", title="precision"),
    Column(key="top1", title="top-1 % [95 %]", ci="top1_ci", digits=1, align="right"),
    Column(key="top5", title="top-5 % [95 %]", ci="top5_ci", digits=1, align="right"),
    Column(key="n", title="images", align="right"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The images that all files of one call are evaluated on, and how many calibration images were left out."""

    name: str
    labelled: data.LabelledImages
    left_out: int = 0


def choose_images(
    folder: Path,
    *,
    labels: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    calibration_ids: frozenset[str] = frozenset(),
) -> Images:
    """Read a data set, leave out the images in ``calibration_ids``, then choose ``limit`` of the rest by ``seed``.

    Raises BadInputError where a label or folder means nothing, or no image is left.
    """
    labelled = dict(data.labelled_images(folder, labels=labels))
    kept = [path for path in labelled if not calibration_ids or _image_id(path) not in calibration_ids]
    left_out = len(labelled) - len(kept)
    if not kept:
        why = f"all {left_out} images calibrated one of the files"
        raise BadInputError(f"images {folder}", why, "name other images, or pass --keep-calibration")
    if limit is not None and limit < len(kept):
        kept = sorted(data.seeded_order(kept, folder, seed)[:limit])
    return Images(name=folder.resolve().name, labelled=[(path, labelled[path]) for path in kept], left_out=left_out)


def _image_id(path: Path) -> str:
    """Return the image's id, or one that no image has where it cannot be read: evaluating it will say why."""
    try:
        return data.image_id(path)
    except OSError:
        return ""


def calibration_ids(files: Sequence[Artifact]) -> tuple[frozenset[str], list[str]]:
    """Return the ids of all images that calibrated one of the files, and what to warn of.

    A set too large to be listed in its manifest cannot be left out: that is a warning.
    """
    ids: set[str] = set()
    warnings = []
    for artifact in files:
        calibration = artifact.manifest.get("calibration") or {}
        listed = calibration.get("images") or []
        ids.update(listed)
        embedded = str(calibration.get("name", "")).startswith("embedded-")
        if calibration and not listed and not embedded:
            warnings.append(
                f"{artifact.path}: its manifest does not list the {calibration.get('n')} images that calibrated it; "
                "if they are among these, its accuracy is too high"
            )
    return frozenset(ids), warnings


def choose_runtime(artifact: Artifact, device: str, asked: str | None, provider: str | None) -> str:
    """Return the runtime for a file on a device: the one asked for, or that of its format.

    Raises:
        BadInputError: the device has none for this file, or it lacks the provider.
    """
    runtime = asked or next(name for name, form in RUNTIME_FORMATS.items() if form == artifact.format)
    has = DEVICES[device].get(runtime, ())
    if not has:
        raise plan.unread(artifact, [Target(device=device, runtime=name) for name in DEVICES[device]])
    if provider and provider not in has:
        raise BadInputError(
            f"--provider {provider}", f"{runtime} on {device} has {', '.join(has)}", "ask for one of these"
        )
    return runtime


def as_record(artifact: Artifact, images: Images, evaluation: accuracy.Evaluation) -> dict[str, Any]:
    """Return one file's result as JSON-able fields; accuracies in percent."""
    measured = evaluation.accuracy
    return {
        "file": str(artifact.path),
        "name": measured.name,
        "precision": measured.precision,
        "device": measured.device,
        "runtime": measured.runtime,
        "provider": measured.provider,
        "sha256": measured.sha256,
        "top1": measured.top1,
        "top1_ci": list(measured.top1_ci),
        "top5": measured.top5,
        "top5_ci": list(measured.top5_ci),
        "n": measured.n,
        "data": measured.data,
        "calibration_images_left_out": images.left_out,
        "unreadable": list(evaluation.unreadable),
        "assumed": list(evaluation.assumed),
        "doubts": list(evaluation.doubts),
    }


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("--data", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Class folders named by wnid or index, or images with --labels.")  # fmt: skip
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
              help="Lines 'filename label'; label is a wnid or an index.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only N images, chosen by --seed.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--keep-calibration", is_flag=True,
              help="Also evaluate on images that calibrated one of the files; else they are left out.")  # fmt: skip
@click.option("--device", type=click.Choice(list(DEVICES)), default="desktop-cpu", show_default=True)
@click.option("--serial", metavar="SERIAL", help="Which phone (`mobench devices`).")
@click.option("--provider", type=click.Choice(PROVIDER_NAMES), help="Default: the runtime's own choice there.")
@click.option("--runtime", type=click.Choice(list(RUNTIME_FORMATS)), help="Default: the one of each file's format.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of each session.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Sessions at work at once; default: one a core.")
@click.option("--mean", callback=parse_triple, metavar="R,G,B", help="Of pixels in 0..1; one number stands for three.")
@click.option("--std", callback=parse_triple, metavar="R,G,B")
@click.option("--raw-pixels", is_flag=True, help="Feed 0..255 (int8: less 128) without mean and std.")
@click.option("--bgr", is_flag=True, help="Feed blue first; --mean and --std stay in RGB order.")
@click.option("--crop", type=float, help="Share of the short side the centre crop keeps, e.g. 0.875.")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]))
@click.option("--layout", type=click.Choice(["NHWC", "NCHW"], case_sensitive=False))
@click.option("--classes-offset", type=int, metavar="K", help="Output index of class 0; 1 with a background class.")
@click.option("--shape", metavar="1,3,H,W", help="The input's shape, for models that leave it open.")
@click.option("-o", "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a file.")
@click.pass_context
def command(
    context: click.Context,
    files: tuple[str, ...],
    folder: Path,
    labels: Path | None,
    limit: int | None,
    seed: int,
    keep_calibration: bool,
    device: str,
    serial: str | None,
    provider: str | None,
    runtime: str | None,
    threads: int,
    jobs: int | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    raw_pixels: bool,
    bgr: bool,
    crop: float | None,
    interpolation: Literal["bilinear", "bicubic"] | None,
    layout: Literal["NHWC", "NCHW"] | None,
    classes_offset: int | None,
    shape: str | None,
    results: Path,
    json_out: bool,
) -> int:
    """Measure top-1 and top-5 of model files on labelled images, in percent, each with a 95 % interval.

    FILES are .onnx or .tflite classifiers, ours (pre-processing from the manifest) or anybody's: what such a file does
    not say is assumed, said, and set by the options. All files see the same images.
    """
    options = Options(
        mean=mean, std=std, crop=crop, interpolation=interpolation, layout=layout,
        classes_offset=classes_offset, raw_pixels=raw_pixels, bgr=bgr,
    )  # fmt: skip
    failed = False
    usable = []
    for thing in files:
        paths: tuple[Path, ...] = ()
        with _said() as told:
            paths = artifacts.resolve([thing])
        failed |= told.failed
        for path in paths:
            with _said() as told:
                usable.append(artifacts.read(path))
            failed |= told.failed
    ids, warnings = (frozenset(), []) if keep_calibration else calibration_ids(usable)
    images = choose_images(folder, labels=labels, limit=limit, seed=seed, calibration_ids=ids)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if images.left_out:
        click.echo(f"{images.left_out} images left out: they calibrated one of the files", err=True)
    rows: list[dict[str, Any]] = []
    unreadable: set[str] = set()
    host = context.with_resource(open_host((device,), serials=[serial] if serial else [], shape=parse_shape(shape)))
    alone = device != "desktop-cpu"  # sessions side by side on a phone or a GPU only wait for one another

    def open_session(artifact: Artifact, target: Target) -> accuracy.Session:
        cores = host.choose_cores(threads) if alone else ()  # here several jobs share the cores
        cell = Cell(id=artifact.path.name, artifact=artifact, target=replace(target, cores=cores))

        def once() -> accuracy.Session:
            return cast(accuracy.Session, host.open_session(cell))  # only a tool's session does not predict

        if host.care is None:
            return once()
        return LastingSession(once, host.care, label=cell.id, tell=lambda line: click.echo(line, err=True))

    for artifact in usable:
        with _said() as told, Progress(artifact.path.name) as bar:
            chosen = choose_runtime(artifact, device, runtime, provider)
            usual = desktop.default_provider(chosen) if device == GPU else ""
            evaluation = accuracy.evaluate(
                artifact,
                images.labelled,
                runtime=chosen,
                open_session=open_session,
                data=images.name,
                device=device,
                provider=provider or usual,
                threads=threads,
                jobs=1 if alone else jobs or max(1, accuracy.usable_cores() // threads),
                options=options,
                progress=bar.counting(len(images.labelled)),
            )
            rows.append(as_record(artifact, images, evaluation))
            for text in evaluation.unreadable:
                if text not in unreadable:
                    click.echo(f"warning: {text}; left out", err=True)
            unreadable.update(evaluation.unreadable)
            if evaluation.assumed:
                click.echo(f"{artifact.path.name}: assumed {'; '.join(evaluation.assumed)}", err=True)
            for doubt in evaluation.doubts:
                click.echo(f"doubt: {artifact.path.name}: {doubt}", err=True)
            store.append_accuracy(results, evaluation.accuracy)  # last: a full disk must not hide what was measured
        failed |= told.failed
        if told.away:
            break  # the other files would wait as long for it
    if unreadable:
        click.echo(f"{len(unreadable)} of {len(images.labelled)} images could not be read", err=True)
    if json_out:
        click.echo(json.dumps(rows, indent=1, allow_nan=False))
    elif rows:
        echo_table(COLUMNS, rows)
    return int(failed or bool(unreadable))


class _Told:
    failed = False
    away = False  # it is the phone that does not answer, or must rest


@contextlib.contextmanager
def _said() -> Iterator[_Told]:
    """Print a MobenchError as one line and go on, so that one bad file does not cost the others."""
    told = _Told()
    try:
        yield told
    except MobenchError as error:
        click.echo(f"error: {error}", err=True)
        told.failed, told.away = True, isinstance(error, (LinkError, NotReadyError))
