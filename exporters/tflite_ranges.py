"""The ranges of an INT8 TFLite file: what each tensor holds on the calibration images, and what of it is worth 8 bits.

Ranges of least error for the typical image keep 2 to 4 dB more of MobileNetV3's logits than the images' minimum and
maximum do, and make the difference between noise and a network for EfficientNet with random weights (-23 and 8 dB).
Weights get the scale of least error too, which finds the grid again on which a checkpoint's weights were once
quantized: 6 dB for published MobileNetV1s (DECISIONS.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from exporters.tflite_graph import WEIGHTED, Graph

Range = tuple[float, float]
Float32 = npt.NDArray[np.float32]

_STEPS = 255  # between the lowest and the highest of 8 bits
_LARGEST = 127  # of a weight: symmetric, so that -128 is not used
# Of each tensor so many values an image are kept, always of the same places; 16 times as many gave no better ranges.
_SAMPLED = 1024
_BINS = 4096
# What these write has the range of what they read, or one that the format prescribes: looking would only take memory,
# a third of EfficientNet's.
_MOVED = frozenset({"PAD", "RESHAPE", "MAX_POOL_2D", "TRANSPOSE"})
_FIXED: Mapping[str, Range] = {"LOGISTIC": (0.0, 1.0), "SOFTMAX": (0.0, 1.0)}
_SHRUNK = np.geomspace(0.02, 1.0, 40)
_SAMPLED_WEIGHTS = 256  # a channel: a wrong scale is never the best for so many
_GRIDS = range(64, _LARGEST + 1)  # a channel's largest weight in steps of its scale; below 64 a finer scale exists


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a tensor held on the images: its lowest and highest value, and a sample of each image's, [N, ...]."""

    low: float
    high: float
    sample: Float32


def observe(model: bytes, images: Float32) -> dict[str, Observed]:
    """Run a float file on the images, [N, S, S, 3]; return what each tensor that it computes or reads held, by name."""
    graph = Graph(model)
    measured = [operator for operator in graph.operators if graph.kind(operator) not in (*_MOVED, *_FIXED)]
    tensors = [int(tensor) for operator in measured for tensor in operator.outputs if graph.is_float(int(tensor))]
    names = [graph.name(tensor) for tensor in tensors]
    graph.outputs = tensors
    interpreter = Interpreter(model_content=graph.content())
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    views = [interpreter.tensor(detail["index"]) for detail in interpreter.get_output_details()]  # nothing is copied
    random = np.random.default_rng(0)
    places: list[npt.NDArray[np.intp] | slice] = []
    for tensor in tensors:
        size = int(np.prod(graph.shape(tensor)))
        places.append(random.integers(size, size=_SAMPLED) if size > _SAMPLED else slice(None))
    lowest, highest = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    samples: list[list[Float32]] = [[] for _ in tensors]
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        for position, place in enumerate(places):
            values = views[position]().reshape(-1)
            sample = values[place].copy()
            low, high = values.min(), values.max()
            if not np.isfinite(low + high):  # what a maximum pooling is padded with
                finite = values[np.isfinite(values)]
                low, high, sample = (
                    finite.min(initial=0),
                    finite.max(initial=0),
                    np.where(np.isfinite(sample), sample, 0),
                )
            lowest[position], highest[position] = min(lowest[position], low), max(highest[position], high)
            samples[position].append(sample)
            del values  # the interpreter does not run while its memory is looked at
    found = {
        name: Observed(low=float(low), high=float(high), sample=np.stack(sample))
        for name, low, high, sample in zip(names, lowest, highest, samples, strict=True)
    }
    found[source["name"]] = Observed(low=float(images.min()), high=float(images.max()), sample=images[:0])
    for operator in graph.operators:
        kind, name = graph.kind(operator), graph.name(int(operator.outputs[0]))
        read = graph.name(int(operator.inputs[0]))
        if kind in _FIXED:
            low, high = _FIXED[kind]
            found[name] = Observed(low=low, high=high, sample=images[:0])
        elif kind in _MOVED and read in found:
            found[name] = found[read]
    return found


def best_range(observed: Observed) -> Range:
    """Return the range, 0 in it, whose 8 bits hold the sample best: least squared error, rounding and clipping.

    Each image's error counts relative to its own power. Squeeze-and-excitation multiplies, so that one image of a
    hundred may hold values many times as large as the others', and would take the eight bits for itself.
    """
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    power = np.square(observed.sample, dtype=np.float64).mean(1, keepdims=True) if observed.sample.size else np.zeros(1)
    if high <= low or not power.any():
        return low, high
    shares = np.broadcast_to(np.divide(1, power, out=np.zeros_like(power), where=power > 0), observed.sample.shape)
    some = observed.sample != 0  # zero is exact in every range
    counts, edges = np.histogram(observed.sample[some], _BINS, (low, high), weights=shares[some])
    centres = (edges[1:] + edges[:-1])[counts > 0] / 2
    counts = counts[counts > 0]
    least, best = np.inf, (low, high)
    for share in _SHRUNK:
        for bottom, top in ((low * share, high), (low, high * share), (low * share, high * share)):
            clipped = np.clip(centres, bottom, top)
            rounding = ((top - bottom) / _STEPS) ** 2 / 12
            error = float((np.where(clipped == centres, rounding, (clipped - centres) ** 2) * counts).sum())
            if error < least:
                least, best = error, (float(bottom), float(top))
    return best


def choose(graph: Graph, observed: Mapping[str, Observed]) -> dict[str, Range]:
    """Return each tensor's range: of least error, but all that the model's own inputs and outputs held."""
    ends = {graph.name(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    return {
        name: (min(seen.low, 0.0), max(seen.high, 0.0)) if name in ends else best_range(seen)
        for name, seen in observed.items()
    }


def weight_ranges(graph: Graph) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Return, for each weight by name, the lowest and highest value of each output channel that make its best scale."""
    found = {}
    for operator in graph.operators:
        kind = graph.kind(operator)
        weights = graph.constant(operator.inputs[1]) if kind in WEIGHTED else None
        if weights is not None:
            # Output channels lie first, those of a depthwise convolution last.
            axes = tuple(range(weights.ndim - 1)) if kind == "DEPTHWISE_CONV_2D" else tuple(range(1, weights.ndim))
            largest = _LARGEST * _scales(weights, axes)
            found[graph.name(operator.inputs[1])] = (-largest, largest)
    return found


def _scales(weights: Float32, axes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return each channel's scale: its largest weight over that whole number, 64 to 127, which rounds the others least.

    Nothing is clipped, and where the weights lie on a grid already, it is found.
    """
    largest = np.abs(weights).max(axes, keepdims=True).astype(np.float64)
    largest[largest == 0] = 1.0
    channel = (set(range(weights.ndim)) - set(axes)).pop()
    rows = np.moveaxis(weights, channel, 0).reshape(weights.shape[channel], -1).astype(np.float64)
    if rows.shape[1] > _SAMPLED_WEIGHTS:
        rows = rows[:, np.random.default_rng(0).integers(rows.shape[1], size=_SAMPLED_WEIGHTS)]
    scales = largest.reshape(-1, 1) / np.array(_GRIDS[::-1])  # finest first
    errors = np.stack(
        [((np.round(rows / scale[:, None]) * scale[:, None] - rows) ** 2).sum(1) for scale in scales.T], axis=1
    )
    # float32's own rounding is no reason to leave a finer scale.
    good = errors <= errors.min(1, keepdims=True) + np.finfo(np.float32).eps ** 2 * (rows**2).sum(1, keepdims=True)
    chosen: npt.NDArray[np.float64] = np.take_along_axis(scales, good.argmax(1)[:, None], 1)
    return chosen.reshape(largest.shape)
