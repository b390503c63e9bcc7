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

from exporters.ranges import LARGEST, best_range, best_scales
from exporters.tflite_graph import WEIGHTED, Graph

Range = tuple[float, float]
Float32 = npt.NDArray[np.float32]

# Of each tensor so many values an image are kept, always of the same places; 16 times as many gave no better ranges.
_SAMPLED = 1024
# What these write has the range of what they read, or one that the format prescribes: looking would only take memory,
# a third of EfficientNet's.
_MOVED = frozenset({"PAD", "RESHAPE", "MAX_POOL_2D", "TRANSPOSE"})
_FIXED: Mapping[str, Range] = {"LOGISTIC": (0.0, 1.0), "SOFTMAX": (0.0, 1.0)}


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


def choose(graph: Graph, observed: Mapping[str, Observed]) -> dict[str, Range]:
    """Return each tensor's range of least error; all that the model's own inputs and outputs held."""
    ends = {graph.name(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    return {
        name: whole for name, whole in widest(observed).items() if name in ends or not observed[name].sample.size
    } | {
        name: best_range(seen.low, seen.high, seen.sample)
        for name, seen in observed.items()
        if name not in ends and seen.sample.size
    }


def widest(observed: Mapping[str, Observed]) -> dict[str, Range]:
    """Return each tensor's whole range, 0 in it."""
    return {name: (min(seen.low, 0.0), max(seen.high, 0.0)) for name, seen in observed.items()}


def weight_ranges(graph: Graph) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Return, for each weight by name, the lowest and highest value of each output channel that make its best scale."""
    found = {}
    for operator in graph.operators:
        kind = graph.kind(operator)
        weights = graph.constant(operator.inputs[1]) if kind in WEIGHTED else None
        if weights is not None:
            # Output channels lie first, those of a depthwise convolution last.
            channel = weights.ndim - 1 if kind == "DEPTHWISE_CONV_2D" else 0
            scales = best_scales(np.moveaxis(weights, channel, 0)).astype(np.float64)
            largest = LARGEST * np.moveaxis(scales, 0, channel)
            found[graph.name(operator.inputs[1])] = (-largest, largest)
    return found


def logits(model: bytes, images: Float32) -> Float32:
    """Return a file's logits [N, classes] for images [N, S, S, 3]."""
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    source, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(output)[0])
    return np.stack(found)
