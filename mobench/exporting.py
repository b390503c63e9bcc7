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
from exporters.recipe import Request, Via
from mobench import artifacts, data, zoo
from mobench.errors import BadInputError, MissingExtraError, MobenchError
from mobench.records import FORMATS, RUNTIME_FORMATS, Format, Target
from mobench.zoo import weights as zoo_weights
from mobench.zoo.count import count
from mobench.zoo.spec import Padding
from runners import desktop

# Modules each export needs, and what pip calls them; looked for before anything else is done.
_NEEDED = {"torch": "torch"}
_NEEDED_FOR = {
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript"},
    "tflite": {"litert_torch": "litert-torch", "ai_edge_quantizer": "ai-edge-quantizer"},
}
_FORMATS_VIA: Mapping[Via, tuple[Format, ...]] = {"torch": FORMATS, "tensorflow": ("tflite",)}
_PREDICT_DEADLINE_S = 600.0


def export_networks(
    names: Sequence[str],
    *,
    precisions: Sequence[str] = ("fp32",),
    formats: Sequence[Format] = (),
    weights: str = "pretrained",
    calibration_dir: Path | None = None,
    calibration_count: int = 100,
    seed: int = 0,
    width: float | None = None,
    depth: float | None = None,
    input_size: int | None = None,
    padding: Padding | None = None,
    keep_float: int = 0,
    explain: bool = False,
    out: Path = Path("artifacts"),
    via: Via = "torch",
    jobs: int | None = None,
    say: Callable[[Outcome], None] | None = None,
    talk: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Export networks; return one outcome a file, in the order of names, formats and precisions.

    A failed export is an outcome with its error and does not stop the others.

    Args:
        names: networks, as `mobench.zoo.names()` has them.
        precisions: of `mobench.records.PRECISIONS`.
        formats: of `mobench.records.FORMATS`; all that the road leads to where empty.
        weights: `pretrained`, `random[:SEED]` or a file, for all networks.
        calibration_dir: photographs for INT8 and for the verification; None is the embedded set.
        calibration_count: how many of them.
        seed: chooses among them.
        width: width multiplier; None is the network's own, as for the next three.
        depth: depth multiplier, of the repeats of blocks.
        input_size: side of the input in pixels.
        padding: `symmetric` or `same`.
        keep_float: how many layers an INT8 file leaves in float, those that do most damage.
        explain: have the INT8 files' manifests tell where they lose.
        out: folder of the files.
        via: the road there: `torch` (its own converters), or `tensorflow` (the same network in Keras), a check on it.
        jobs: exports side by side; None is one a core, at most four.
        say: called with each outcome as it is settled.
        talk: called with a line that says what is going on, such as a download.

    Raises:
        BadInputError: an unknown network, weights that are not there or do not fit, no calibration images, a format
            that the road does not lead to.
        MissingExtraError: torch or a converter is not installed.
    """
    chosen = [
        zoo.get(name, width=width, depth=depth, input_size=input_size, padding=padding) for name in dict.fromkeys(names)
    ]
    formats = formats or _FORMATS_VIA[via]
    if wrong := set(formats) - set(_FORMATS_VIA[via]):
        raise BadInputError(f"{', '.join(sorted(wrong))} via {via}", "it writes TFLite only", "leave --format out")
    _check_installed(formats, via)
    requests: list[Request] = []
    layers: dict[str, int] = {}
    everything = [zoo_weights.resolve(spec, weights, say=talk) for spec in chosen]
    calibration = data.calibration(calibration_dir, n=calibration_count, seed=seed)
    for resolved in everything:
        counts = count(resolved.spec)
        layers[resolved.spec.label] = len(resolved.spec.layers)
        network = {
            "name": resolved.spec.name,
            "label": resolved.spec.label,
            "family": resolved.spec.family,
            "width": resolved.spec.width,
            "depth": resolved.spec.depth,
            "input_size": resolved.spec.input_size,
            "padding": resolved.spec.padding,
            "bn_eps": resolved.spec.bn_eps,
            "params": counts.params,
            "macs": counts.macs,
        }
        requests += [
            Request(
                network=network,
                weights=resolved,
                calibration=calibration,
                format=file_format,
                precisions=tuple(dict.fromkeys(precisions)),
                folder=out,
                via=via,
                keep_float=keep_float,
                explain=explain,
            )
            for file_format in dict.fromkeys(formats)
        ]
    order = [request.path(precision) for request in requests for precision in request.precisions]
    if talk is not None:
        for request in requests:
            for line in _replacements(request):
                talk(line)
    # TFLite takes longest, and of it the deepest network: what is started last should be short.
    requests.sort(key=lambda request: (request.format != "tflite", -layers[request.network["label"]]))
    outcomes: dict[Path, Outcome] = {}
    for outcome in export_all(requests, predict=predict, jobs=jobs, talk=talk):
        outcomes[outcome.path] = outcome
        if say is not None:
            say(outcome)
    return [outcomes[path] for path in order]


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
    with desktop.open_session(artifact, Target(runtime=runtime)) as session:
        outputs = session.predict(inputs, deadline_s=_PREDICT_DEADLINE_S)
    ready = session.ready
    return outputs, {
        "name": runtime,
        "got": ready.got,
        "nodes_delegated": ready.nodes_delegated,
        "nodes_total": ready.nodes_total,
        "not_delegated": dict(ready.not_delegated),
    }


def _check_installed(formats: Sequence[Format], via: Via) -> None:
    needed = dict(_NEEDED)
    for file_format in formats if via == "torch" else ():
        needed |= _NEEDED_FOR[file_format]
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
