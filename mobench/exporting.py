"""From networks' names to verified model files: weights, calibration images, exporters, in one call."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.export import export_all
from exporters.finish import Outcome
from exporters.recipe import STATISTICS_IMAGES, Request, Via
from mobench import artifacts, data, files, own_models, zoo
from mobench.errors import BadInputError, MissingExtraError, MobenchError
from mobench.records import FORMATS, RUNTIME_FORMATS, Format, Target
from mobench.subjects import Asked, Say, Subject, Triple, from_zoo
from mobench.zoo.spec import Padding
from runners import desktop

# Modules each export needs, and what pip calls them; looked for before anything else is done.
_NEEDED = {"torch": "torch"}
_NEEDED_FOR = {
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript"},
    "tflite": {"litert_torch": "litert-torch", "ai_edge_quantizer": "ai-edge-quantizer"},
}
_NEEDED_FOR_FILES = {"onnx": {"onnx": "onnx"}, "tflite": {"ai_edge_quantizer": "ai-edge-quantizer"}}
_FORMATS_VIA: Mapping[Via, tuple[Format, ...]] = {"torch": FORMATS, "tensorflow": ("tflite",)}
_PREDICT_DEADLINE_S = 600.0


def export_networks(
    names: Sequence[str],
    *,
    precisions: Sequence[str] = (),
    formats: Sequence[Format] = (),
    weights: str | None = None,
    calibration_dir: Path | None = None,
    calibration_count: int = 100,
    seed: int = 0,
    width: float | None = None,
    depth: float | None = None,
    input_size: int | None = None,
    padding: Padding | None = None,
    bn_eps: float | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    crop: float | None = None,
    keep_float: int = 0,
    explain: bool = False,
    out: Path = Path("artifacts"),
    via: Via = "torch",
    jobs: int | None = None,
    say: Callable[[Outcome], None] | None = None,
    talk: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Export models; return one outcome a file, in the order of names, formats and precisions.

    A failed export is an outcome with its error and does not stop the others.

    Args:
        names: networks, as `mobench.zoo.names()` has them, with width and size where one likes
            (`mobilenet_v2_0.35_224`); and models from outside the zoo: `timm:NAME`, `torchvision:NAME`,
            `FILE.py:FACTORY` (its code runs, in a process of its own), a float .onnx or .tflite file to be quantized.
        precisions: of `mobench.records.PRECISIONS`; where empty FP32, and INT8 of a file.
        formats: of `mobench.records.FORMATS`; all that the road leads to where empty.
        weights: `pretrained[:TAG]`, `random[:SEED]` or a file, for all of them. None: `pretrained` for networks,
            `random` for timm and torchvision, what a factory makes.
        calibration_dir: photographs for INT8 and for the verification; None is the embedded set.
        calibration_count: how many of them.
        seed: chooses among them.
        width: width multiplier; None is the network's own, as for the next four.
        depth: depth multiplier, of the repeats of blocks.
        input_size: side of the input in pixels.
        padding: `symmetric` or `same`.
        bn_eps: batch-norm epsilon, where the weights do not say.
        mean: of pixels in 0..1, a channel, where the model does not say; so are the next two.
        std: standard deviation.
        crop: share of the short side that the centre crop keeps.
        keep_float: how many layers an INT8 file leaves in float, those that do most damage.
        explain: have the INT8 files' manifests tell where they lose.
        out: folder of the files.
        via: the road there: `torch` (its own converters), or `tensorflow` (the same network in Keras), a check on it.
        jobs: exports side by side at most; None is one a core, at most four. Memory may hold fewer.
        say: called with each outcome as it is settled.
        talk: called with a line that says what is going on, such as a download.

    Raises:
        BadInputError: an unknown network, no calibration images, a format that the road does not lead to, a folder
            that cannot be written; and whatever is wrong with the only model named.
        MissingExtraError: torch or a converter is not installed.
    """
    asked = Asked(
        weights=weights,
        width=width,
        depth=depth,
        size=input_size,
        padding=padding,
        bn_eps=bn_eps,
        mean=mean,
        std=std,
        crop=crop,
    )
    things = tuple(dict.fromkeys(names))
    for thing in things:
        if not own_models.is_own(thing):
            zoo.get(thing)  # a name that is none stops everything before anything is begun
    formats = tuple(dict.fromkeys(formats or _FORMATS_VIA[via]))
    if wrong := set(formats) - set(_FORMATS_VIA[via]):
        raise BadInputError(f"{', '.join(sorted(wrong))} via {via}", "it writes TFLite only", "leave --format out")
    _check_installed(things, formats, via)
    files.check_writable(out)
    tell = talk or (lambda line: None)
    subjects, refused = _resolve(things, asked, via, tell)
    calibration = data.calibration(calibration_dir, n=calibration_count, seed=seed)
    requests: list[Request] = []
    work: dict[int, float] = {}  # by the network's object, which a subject's requests share
    for thing, subject in subjects.items():
        try:
            made = [
                Request(
                    network=subject.network,
                    weights=subject.weights,
                    calibration=calibration,
                    format=file_format,
                    precisions=_precisions(thing, subject, precisions, tell),
                    folder=out,
                    via=via,
                    given=subject.given,
                    memory_mb=_memory_mb(subject, calibration_count),
                    keep_float=keep_float,
                    explain=explain,
                )
                for file_format in _formats(thing, subject, formats)
            ]
        except MobenchError as error:
            refused[thing] = error
        else:
            requests += made
            work[id(subject.network)] = subject.work
    if refused and len(set(map(str, refused.values()))) == 1 and not requests:
        raise next(iter(refused.values()))
    order = [request.path(precision) for request in requests for precision in request.precisions]
    for request in requests:
        for line in _replacements(request):
            tell(line)
    # What is started last should be short; of a network TFLite takes longest.
    requests.sort(key=lambda request: (-work[id(request.network)], request.format != "tflite"))
    outcomes: dict[Path, Outcome] = {}
    failures = [each for thing, error in refused.items() for each in _refusals(thing, error, precisions, formats, out)]
    for why in refused.values():
        tell(f"failed: {why}")
    for outcome in export_all(requests, predict=predict, jobs=jobs, talk=talk):
        outcomes[outcome.path] = outcome
        if say is not None:
            say(outcome)
    return [*(outcomes[path] for path in order), *failures]


def _resolve(
    things: Sequence[str], asked: Asked, via: Via, tell: Say
) -> tuple[dict[str, Subject], dict[str, MobenchError]]:
    """Describe each thing, or say what is wrong with it; no two would be written under one name."""
    subjects: dict[str, Subject] = {}
    refused: dict[str, MobenchError] = {}
    named: dict[tuple[str, Format], str] = {}  # by label and format: the thing whose files these are
    for thing in things:
        own = own_models.is_own(thing)
        try:
            if own and via != "torch":
                raise BadInputError(f"{thing} via {via}", "it is no network of the zoo", "leave --via out")
            subject = own_models.resolve(thing, asked, tell) if own else from_zoo(thing, asked, tell)
            label = subject.network["label"]
            first = next((named[label, each] for each in subject.formats if (label, each) in named), None)
            if first and not own:
                continue  # the same network by another name
            if first:
                mend = "export one of them by itself, to another folder (-o)"
                raise BadInputError(thing, f"its files would be called {label}, as those of {first}", mend)
            named |= {(label, each): thing for each in subject.formats}
            subjects[thing] = subject
        except MobenchError as error:
            refused[thing] = error
    return subjects, refused


def _precisions(thing: str, subject: Subject, asked: Sequence[str], tell: Say) -> tuple[str, ...]:
    """Return what to make: FP32 where nothing is asked; of a float file everything else, INT8 where nothing is."""
    if subject.given is None:
        return tuple(dict.fromkeys(asked or ("fp32",)))
    left = tuple(precision for precision in dict.fromkeys(asked or ("int8",)) if precision != "fp32")
    if not left:
        raise BadInputError(f"{thing} in FP32", "that is the file itself", "give --int8 or another precision")
    if "fp32" in asked:
        tell(f"{thing}: it is the FP32 file itself, the others are made of it")
    return left


def _formats(thing: str, subject: Subject, asked: Sequence[Format]) -> tuple[Format, ...]:
    possible = tuple(file_format for file_format in asked if file_format in subject.formats)
    if not possible:
        raise BadInputError(f"{thing} as {', '.join(asked)}", "a file keeps its format", "leave --format out")
    return possible


def _memory_mb(subject: Subject, images: int) -> float:
    """Return about what an export takes at its most, worker and verification, in MiB; rather too much than too little.

    Measured without verification (2026-11): MobileNetV2 732 (ONNX) and 825 (TFLite), ResNet-50 1336 and 1348.
    """
    one_image_mb = 3 * 4 * subject.weights.preprocess.size**2 / 2**20
    random = subject.weights.origin.get("kind") == "random"  # batch-norm statistics: a batch at once
    batch_mb = (2 * STATISTICS_IMAGES if random else 4) * subject.activations_mb
    return 800 + 2 * images * one_image_mb + max(8 * subject.weights_mb, batch_mb)


def _refusals(
    thing: str, error: MobenchError, precisions: Sequence[str], formats: Sequence[Format], folder: Path
) -> Iterator[Outcome]:
    """Yield the outcomes of files that were never begun: all share the one error."""
    own = artifacts.SUFFIXES.get(Path(thing).suffix)
    label = own_models.label(thing) if own_models.is_own(thing) else thing
    for file_format in (own,) if own else formats:
        for precision in precisions or ("int8" if own else "fp32",):
            yield Outcome(
                label=label,
                format=file_format,
                precision=precision,
                path=folder / f"{label}-{precision}.{file_format}",
                status="failed",
                seconds=0.0,
                error=error,
            )


def _replacements(request: Request) -> Iterator[str]:
    """Yield a line for each file that is there and was made from other weights: its name does not tell them apart."""
    for precision in request.precisions:
        try:
            before = artifacts.read(request.path(precision)).manifest.get("weights", {})
        except MobenchError:
            continue
        if before and before != request.weights.origin:
            name = request.path(precision).name
            yield f"{name} was made from {before.get('source')} and will be replaced; -o DIR keeps both"


def predict(path: Path, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """Run a model file on inputs [N, ...] in a session of its own: a runtime that aborts ends the session only.

    Returns:
        Its outputs, and what the session says of delegation, as the manifest's ``runtime`` has it.
    """
    artifact = artifacts.read(path)
    runtime = next(name for name, file_format in RUNTIME_FORMATS.items() if file_format == artifact.format)
    shape = (1, *inputs.shape[1:])  # counts only where the file leaves it open
    with desktop.open_session(artifact, Target(runtime=runtime), shape=shape) as session:
        outputs = session.predict(inputs, deadline_s=_PREDICT_DEADLINE_S)
    ready = session.ready
    return outputs, {
        "name": runtime,
        "got": ready.got,
        "nodes_delegated": ready.nodes_delegated,
        "nodes_total": ready.nodes_total,
        "not_delegated": dict(ready.not_delegated),
    }


def _check_installed(things: Sequence[str], formats: Sequence[Format], via: Via) -> None:
    modules = not all(Path(thing).suffix in artifacts.SUFFIXES for thing in things)
    needed = dict(_NEEDED) if modules else {}
    for file_format in formats if via == "torch" else ():
        if modules or any(artifacts.SUFFIXES.get(Path(thing).suffix) == file_format for thing in things):
            needed |= (_NEEDED_FOR if modules else _NEEDED_FOR_FILES)[file_format]
    for module, package in needed.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "export")
    if via == "tensorflow" and importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError("tensorflow", "tensorflow")


def record(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as `--json` prints it; figures of the verification are None where it failed before."""
    verification = outcome.manifest.get("verification", {})
    runtime = outcome.manifest.get("runtime", {})
    return {
        "file": str(outcome.path),
        "network": outcome.label,
        "format": outcome.format,
        "precision": outcome.precision,
        "status": outcome.status,
        "size_bytes": outcome.manifest.get("size_bytes"),
        "sha256": outcome.manifest.get("sha256"),
        "max_abs_error": verification.get("max_abs_error"),
        "mean_abs_error": verification.get("mean_abs_error"),
        "snr_db": verification.get("snr_db"),
        "top1_agreement": verification.get("top1_agreement"),
        "nodes_delegated": runtime.get("nodes_delegated"),
        "nodes_total": runtime.get("nodes_total"),
        "not_delegated": runtime.get("not_delegated", {}),
        "keep_float": outcome.manifest.get("keep_float"),
        "explanation": outcome.explanation or outcome.manifest.get("explanation"),
        "seconds": outcome.seconds,
        "error": str(outcome.error) if outcome.error else None,
    }
