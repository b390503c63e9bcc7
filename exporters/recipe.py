"""What one export is: its request, the key of everything that determines its file, its name and its manifest."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mobench import artifacts
from mobench.errors import BadInputError, MobenchError
from mobench.records import Format, Preprocess

if TYPE_CHECKING:
    from torch import nn

SCHEMA = 1
# Raise it whenever the same request would now give another file: every artifact is then exported anew.
REVISION = 6
VERIFIED_IMAGES = 32
# Enough for the batch-norm statistics of random weights: one batch, so that no average over batches depends on its cut.
STATISTICS_IMAGES = 32

# Distributions that shape a file, and so belong to its key: by format, and more for what is not FP32.
_VERSIONS: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("torch", "onnx", "onnxscript", "onnx-ir"),
    "tflite": ("torch", "litert-torch", "litert-converter"),
}
_INT8_VERSIONS: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnxruntime", "numpy"),
    "tflite": ("ai-edge-quantizer", "ai-edge-litert", "numpy"),
}
# Where a file is only quantized, nothing converts it.
_GIVEN_VERSIONS: Mapping[Format, tuple[str, ...]] = {"onnx": ("onnx",), "tflite": ()}
_FP16_VERSIONS: Mapping[Format, tuple[str, ...]] = {"onnx": (), "tflite": ("ai-edge-quantizer",)}
# How a network gets to its format. TensorFlow writes TFLite only, and makes every precision itself.
Via = Literal["torch", "tensorflow"]
_TENSORFLOW_REVISION = 1  # as REVISION: the roads change at different times
_TENSORFLOW_VERSIONS = ("torch", "tensorflow", "tensorflow-cpu", "keras")


class Weights(Protocol):
    """A network's weights and how its photographs are prepared; `mobench.zoo.weights.ResolvedWeights` is one."""

    @property
    def preprocess(self) -> Preprocess:
        """How a photograph becomes the input."""
        ...

    @property
    def origin(self) -> Mapping[str, Any]:
        """What the weights are, JSON-able; equal origins mean equal weights."""
        ...

    def build(self, images: npt.NDArray[np.float32] | None) -> nn.Module:
        """Return the module, in eval mode; random weights take their statistics from the images (NCHW)."""
        ...


class Images(Protocol):
    """A named, hashed set of calibration images; `mobench.data.Calibration` is one."""

    @property
    def sha256(self) -> str:
        """Hash of the images."""
        ...

    def images(self, p: Preprocess) -> npt.NDArray[np.float32]:
        """Return them pre-processed: [N, S, S, 3] float32."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of the set."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A float model file that is quantized as it stands, and its input; its own logits verify what it becomes."""

    path: Path
    input: str
    layout: Literal["NHWC", "NCHW"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One network in one format, in one or more precisions that share a float conversion.

    ``network`` is the manifest's description: name, label, family, width, depth, input_size, padding, bn_eps,
    params, macs; of a model from outside the zoo also ``source``, and what it does not have is None. ``given`` is the
    file to quantize where there is one: ``weights`` then only describes it. ``memory_mb`` is what the export will take
    at its most, about. An INT8 file leaves the ``keep_float`` layers in float that do most damage; ``explain`` has its
    manifest tell where it loses. Everything in it must be picklable: it travels to a worker process.
    """

    network: Mapping[str, Any]
    weights: Weights
    calibration: Images
    format: Format
    precisions: tuple[str, ...]
    folder: Path
    via: Via = "torch"
    given: Given | None = None
    memory_mb: float = 0.0
    keep_float: int = 0
    explain: bool = False

    def __post_init__(self) -> None:
        """Refuse what only a torch module on our own road can be asked for."""
        if (self.keep_float or self.explain) and (self.via != "torch" or self.given):
            made = self.given.path.name if self.given else f"made via {self.via}"
            raise BadInputError(
                f"--keep-float and --explain of {self.network['label']}",
                f"it is no torch module but {made}",
                "leave them out",
            )

    @property
    def channels_last(self) -> bool:
        """Whether the file reads [N, S, S, 3] and not [N, 3, S, S]."""
        return self.given.layout == "NHWC" if self.given else self.format == "tflite"

    @property
    def reference(self) -> str:
        """What the file is verified against."""
        return self.given.path.name if self.given else "torch"

    def path(self, precision: str) -> Path:
        """Return where the file of a precision goes."""
        via = "" if self.via == "torch" else f"-via-{self.via}"
        return self.folder / f"{self.network['label']}-{precision}{via}.{self.format}"

    def uses_calibration(self, precision: str) -> bool:
        """Return whether the calibration images shape the file, and not only its verification."""
        return precision == "int8" or self.weights.origin.get("kind") == "random"

    def versions(self, precision: str) -> dict[str, str]:
        """Return the versions of all distributions that make the file, but those not installed; nothing is imported."""
        more = {"int8": _INT8_VERSIONS, "int8-dynamic": _INT8_VERSIONS, "fp16": _FP16_VERSIONS}.get(precision, {})
        names = (*(_VERSIONS if self.given is None else _GIVEN_VERSIONS)[self.format], *more.get(self.format, ()))
        found = {}
        for name in _TENSORFLOW_VERSIONS if self.via == "tensorflow" else names:
            # One that is missing may have been renamed in a later release; a converter that misses it will say so.
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
        return found

    def key(self, precision: str) -> str:
        """Return the hash of everything that determines the file."""
        network = {key: self.network[key] for key in ("name", "width", "depth", "input_size", "padding", "bn_eps")}
        if source := self.network.get("source"):
            network["source"] = dict(source)
        parts = {
            "revision": REVISION if self.via == "torch" else _TENSORFLOW_REVISION,
            "format": self.format,
            "via": self.via,
            "precision": precision,
            "network": network,
            "weights": dict(self.weights.origin),
            "preprocess": asdict(self.weights.preprocess),
            "calibration": self.calibration.sha256 if self.uses_calibration(precision) else None,
            "versions": self.versions(precision),
        }
        if precision == "int8" and self.keep_float:
            parts["keep_float"] = self.keep_float
        return _digest(parts)

    def module_key(self) -> str:
        """Return the hash of what determines the torch module: exports in both formats may share one."""
        return _digest([dict(self.network), dict(self.weights.origin), self.images_key(), self.via])

    def images_key(self) -> str:
        """Return the hash of what determines the pre-processed images."""
        return _digest([asdict(self.weights.preprocess), self.calibration.sha256])

    def unchanged(self, precision: str) -> dict[str, Any] | None:
        """Return the manifest of the file that is there already, when it is whole and what this request would make.

        Never of a factory's: what it imports and reads is not in the key.
        """
        path = self.path(precision)
        if not path.is_file() or (self.network.get("source") or {}).get("kind") == "factory":
            return None
        try:
            manifest = dict(artifacts.read(path).manifest)
        except MobenchError:
            return None  # damaged, or not ours: it is exported again
        told = precision != "int8" or not self.explain or "explanation" in manifest
        return manifest if told and manifest.get("key") == self.key(precision) else None

    def manifest(
        self,
        precision: str,
        path: Path,
        verification: Mapping[str, Any],
        runtime: Mapping[str, Any],
        created: str,
        **more: Any,
    ) -> dict[str, Any]:
        """Return the manifest of the file now at ``path``, verified in ``runtime``; ``more`` joins it."""
        size = self.weights.preprocess.size
        manifest = {
            "schema": SCHEMA,
            "file": self.path(precision).name,
            "sha256": artifacts.sha256(path),
            "size_bytes": path.stat().st_size,
            "format": self.format,
            "via": self.via,
            "precision": precision,
            "network": dict(self.network),
            "weights": dict(self.weights.origin),
            "calibration": self.calibration.describe() if self.uses_calibration(precision) else None,
            "preprocess": asdict(self.weights.preprocess),
            "input": {
                **({"name": self.given.input} if self.given else {}),
                "layout": "NHWC" if self.channels_last else "NCHW",
                "dtype": "float32",
                "shape": [1, size, size, 3] if self.channels_last else [1, 3, size, size],
            },
            "versions": self.versions(precision),
            "verification": {**verification, "images": self.calibration.describe()["name"]},
            "runtime": dict(runtime),
            **more,
            "key": self.key(precision),
            "created": created,
        }
        plain: dict[str, Any] = json.loads(json.dumps(manifest))  # as whoever reads it back will find it
        return plain


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
