"""What can be exported, as far as can be told without building it: description, weights, formats, what it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exporters.recipe import Given, Weights
from mobench import zoo
from mobench.errors import BadInputError
from mobench.records import FORMATS, Format, Preprocess
from mobench.zoo import layers
from mobench.zoo import weights as zoo_weights
from mobench.zoo.count import count
from mobench.zoo.spec import SIZE_RANGE, Padding

Triple = tuple[float, float, float]
Say = Callable[[str], None]
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the caller says of a model that its name does not; None where nothing is said."""

    weights: str | None = None
    width: float | None = None
    depth: float | None = None
    size: int | None = None
    padding: Padding | None = None
    bn_eps: float | None = None
    mean: Triple | None = None
    std: Triple | None = None
    crop: float | None = None

    def __post_init__(self) -> None:
        if self.std and min(self.std) <= 0:
            raise BadInputError(f"--std {','.join(f'{s:g}' for s in self.std)}", "each must be above 0")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise BadInputError(f"--crop {self.crop:g}", "it is a share of the short side, above 0 and at most 1")
        if self.size is not None and not 1 <= self.size <= SIZE_RANGE[1]:
            raise BadInputError(f"--size {self.size}", "out of range", f"give 1 to {SIZE_RANGE[1]} pixels")

    def over(self, usual: Preprocess) -> Preprocess:
        """Return the usual pre-processing with what is asked in its place."""
        said: dict[str, Any] = {"size": self.size, "mean": self.mean, "std": self.std, "crop": self.crop}
        return dataclasses.replace(usual, **{key: value for key, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model to export: the manifest's description, its weights, its formats, and the file where it is one.

    ``work`` orders exports by how long they take; ``weights_mb`` and ``activations_mb`` (MiB: FP32, the most live at
    once, of one image) say what memory they need.
    """

    network: Mapping[str, Any]
    weights: Weights
    formats: tuple[Format, ...] = FORMATS
    given: Given | None = None
    work: float
    weights_mb: float
    activations_mb: float


def from_zoo(name: str, asked: Asked, say: Say | None = None) -> Subject:
    """Describe a network of the zoo; finds its weights, which may download them.

    Raises:
        BadInputError: there is no such network, not at this width or size, or its weights are not there or do not fit.
    """
    chosen = zoo.get(
        name,
        width=asked.width,
        depth=asked.depth,
        input_size=asked.size,
        padding=asked.padding,
        bn_eps=asked.bn_eps,
    )
    source = asked.weights or "pretrained"
    resolved = zoo_weights.resolve(chosen, source, mean=asked.mean, std=asked.std, say=say)
    if asked.crop is not None:
        cropped = dataclasses.replace(resolved.preprocess, crop=asked.crop)
        resolved = dataclasses.replace(resolved, preprocess=cropped)
    spec = resolved.spec
    counts = count(spec)
    network = {
        "name": spec.name,
        "label": spec.label,
        "family": spec.family,
        "width": spec.width,
        "depth": spec.depth,
        "input_size": spec.input_size,
        "padding": spec.padding,
        "bn_eps": spec.bn_eps,
        "params": counts.params,
        "macs": counts.macs,
    }
    return Subject(
        network=network,
        weights=resolved,
        # Tracing goes by the number of layers, calibration and verification by what they compute (measured, seconds).
        work=len(spec.layers) + 7e-9 * counts.macs,
        weights_mb=counts.params * 4 / _MIB,
        activations_mb=layers.peak(layers.operators(spec)).elements * 4 / _MIB,
    )


def own(network: Mapping[str, Any], weights: Weights, *, weights_mb: float, **more: Any) -> Subject:
    """Describe a model whose layers are not known: it takes what a mobile network of its size does."""
    # MobileNetV2's widest tensors, which grow with the area of the image.
    activations_mb = 6.0 * (weights.preprocess.size / 224) ** 2
    return Subject(
        network=network, weights=weights, work=20.0, weights_mb=weights_mb, activations_mb=activations_mb, **more
    )
