"""How photographs enter a classifier file and its output is read: layout, dtype, normalisation, background class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobench.data import CLASSES, crop_pixels, normalise
from mobench.errors import BadInputError
from mobench.records import Artifact, Preprocess, Ready

Layout = Literal["NHWC", "NCHW"]
Triple = tuple[float, float, float]
_FLOATS = ("float16", "float32", "float64")
_QUANTIZED = ("uint8", "int8")
# Pixels to [-1, 1]: what TensorFlow's classifiers with a background class were trained on.
_HALF: Triple = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user knows of a file that the file does not say; None where nothing is known.

    ``mean`` and ``std`` a channel on pixels in 0..1; ``raw_pixels`` feeds 0..255 as they are; ``classes_offset`` is
    the output index of class 0.
    """

    mean: Triple | None = None
    std: Triple | None = None
    crop: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    layout: Layout | None = None
    classes_offset: int | None = None
    raw_pixels: bool = False
    bgr: bool = False

    def __post_init__(self) -> None:
        if self.raw_pixels and (self.mean or self.std):
            raise BadInputError("--raw-pixels", "it excludes --mean and --std", "give one of them")
        if self.std and min(self.std) <= 0:
            raise BadInputError(f"--std {','.join(f'{s:g}' for s in self.std)}", "each must be above 0")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise BadInputError(f"--crop {self.crop:g}", "it is a share of the short side, above 0 and at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Makes a model's input of a photograph and finds a class in its output: see `reader`.

    ``raw`` feeds pixels without normalisation. ``classes`` counts those without background; ``first_class`` is the
    output index where they begin. ``assumed`` says what was guessed, one sentence each.
    """

    preprocess: Preprocess
    layout: Layout
    dtype: str
    scale: float | None
    zero_point: int
    raw: bool
    bgr: bool
    first_class: int
    classes: int
    assumed: tuple[str, ...]
    file: str

    def sample(self, image: Image.Image) -> npt.NDArray[Any]:
        """Return the model's input for one photograph, without batch axis, in the model's layout and dtype."""
        pixels = crop_pixels(image, self.preprocess)
        values = self._raw(pixels) if self.raw else self._normalised(pixels)
        if self.bgr:
            values = values[..., ::-1]
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values)

    def output_index(self, label: int) -> int:
        """Return the output's index of class ``label``; raise a BadInputError where the output has no such class."""
        if label >= self.classes:
            raise BadInputError(self.file, f"an image has class {label}, its output holds {self.classes} classes")
        return self.first_class + label

    def _raw(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        if self.dtype == "int8":
            return (pixels.astype(np.int16) - 128).astype(np.int8)
        return pixels.astype(self.dtype, copy=False)

    def _normalised(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        values = normalise(pixels, self.preprocess)
        if self.scale is None:
            return values.astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        quantized = np.rint(values / np.float32(self.scale)) + self.zero_point
        fitting: npt.NDArray[Any] = np.clip(quantized, limits.min, limits.max).astype(self.dtype)
        return fitting


def reader(artifact: Artifact, ready: Ready, options: Options) -> Reader:
    """Settle how a file's input is made and its output read.

    One of our files says all of it in its manifest. For anybody's file, shape, dtype and quantization come from the
    file and the rest from ``options``, else from what is usual for such a file, which is then listed in ``assumed``.

    Raises:
        BadInputError: the file is no image classifier, or what it needs is not known.
    """
    file = artifact.path.name
    assumed: list[str] = []
    source, layout, size = _input(file, ready.inputs, options)
    first_class, classes = _output(file, ready.outputs, options, assumed)
    dtype = str(source["dtype"])
    scale = source.get("scale") if dtype in _QUANTIZED else None
    raw = options.raw_pixels
    preprocess = artifact.preprocess
    if preprocess is None:
        normalised = bool(options.mean or options.std)
        raw = raw or (dtype in _QUANTIZED and not normalised)
        if raw and not options.raw_pixels:
            assumed.append("raw pixels as input" if dtype == "uint8" else "raw pixels less 128 as input")
        preprocess = _foreign_preprocess(size, options, assumed, raw=raw, background=first_class == 1)
    if dtype in _QUANTIZED and not raw and not scale:
        raise BadInputError(file, f"its {dtype} input has no scale to quantize by", "give --raw-pixels")
    preprocess = replace(
        preprocess,
        size=size,
        mean=options.mean or preprocess.mean,
        std=options.std or preprocess.std,
        crop=options.crop or preprocess.crop,
        interpolation=options.interpolation or preprocess.interpolation,
    )
    return Reader(
        preprocess=preprocess,
        layout=layout,
        dtype=dtype,
        scale=float(scale) if scale else None,
        zero_point=int(source.get("zero_point") or 0),
        raw=raw,
        bgr=options.bgr,
        first_class=first_class,
        classes=classes,
        assumed=tuple(assumed),
        file=file,
    )


def _foreign_preprocess(size: int, options: Options, assumed: list[str], *, raw: bool, background: bool) -> Preprocess:
    usual = Preprocess(size=size, mean=_HALF, std=_HALF) if background else Preprocess(size=size)
    if not raw:
        for name, given, value in (("mean", options.mean, usual.mean), ("std", options.std, usual.std)):
            if given is None:
                why = "TensorFlow's, for the background class" if background else "ImageNet's"
                assumed.append(f"{name} {','.join(f'{v:g}' for v in value)} ({why})")
    if options.crop is None:
        assumed.append(f"centre crop of {usual.crop:g}")
    if options.interpolation is None:
        assumed.append(f"{usual.interpolation} resizing")
    if not options.bgr:
        assumed.append("RGB")
    return usual


def _input(file: str, inputs: Sequence[Mapping[str, Any]], options: Options) -> tuple[Mapping[str, Any], Layout, int]:
    if len(inputs) != 1:
        raise BadInputError(file, f"it has {len(inputs)} inputs, an image classifier has one")
    shape, dtype = list(inputs[0]["shape"]), str(inputs[0]["dtype"])
    shown = f"{shape} {dtype}"
    if dtype not in (*_FLOATS, *_QUANTIZED):
        raise BadInputError(file, f"its input is {shown}, not an image of floats or 8-bit integers")
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise BadInputError(file, f"its input is {shown}, not [1, size, size, 3] or [1, 3, size, size]")
    if shape[0] != 1:
        raise BadInputError(file, f"its input is {shown}, a fixed batch of {shape[0]}", "export it with batch 1")
    layout: Layout = options.layout or ("NHWC" if shape[3] == 3 else "NCHW")
    height, width, channels = shape[1:] if layout == "NHWC" else (*shape[2:], shape[1])
    if channels != 3:
        raise BadInputError(file, f"its input is {shown}, which is not {layout}", "leave --layout out")
    if height != width:
        raise BadInputError(file, f"its input is {shown}: {height} x {width} is not square")
    return inputs[0], layout, height


def _output(file: str, outputs: Sequence[Mapping[str, Any]], options: Options, assumed: list[str]) -> tuple[int, int]:
    """Return the output index of class 0, and how many classes there are."""
    shape = list(outputs[0]["shape"]) if outputs else []
    length = max(shape, default=0)
    if length < 2 or shape[0] != 1 or sum(side > 1 for side in shape) != 1:
        raise BadInputError(file, f"its output is {shape}, not a classifier's [1, classes]")
    if options.classes_offset is not None:
        if not 0 <= options.classes_offset < length:
            raise BadInputError(f"--classes-offset {options.classes_offset}", f"{file} has {length} outputs")
        first = options.classes_offset
    else:
        first = int(length == CLASSES + 1)
        if first:
            assumed.append("output 0 of 1,001 is the background class")
        elif length != CLASSES:
            assumed.append(f"class i is output i of {length}")
    return first, min(CLASSES, length - first)
