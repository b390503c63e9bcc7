"""Bias correction of a TFLite file: what rounding its weights adds to the mean of each channel, the biases take back.

A layer's mean error is its weights' errors times the means of what it reads (Nagel et al. 2019, arXiv:1906.04721,
section 4.2). It is the same at every position and in every image, so nothing behind averages it out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from exporters.ranges import LARGEST
from exporters.tflite_graph import WEIGHTED, Graph
from exporters.tflite_ranges import weight_ranges

_IMAGES = 32  # a mean over positions and images is known well after so many


def correct_biases(model: bytes, images: npt.NDArray[np.float32], *, keep_float: Collection[str] = ()) -> bytes:
    """Return the float file with the biases that its INT8 form should have.

    Args:
        model: an FP32 file with one image as its input.
        images: calibration images, [N, S, S, 3] float32, pre-processed.
        keep_float: torch modules whose layers will not be rounded.
    """
    graph = Graph(model)
    layers = [
        operator
        for operator in graph.operators
        if graph.kind(operator) in WEIGHTED
        and graph.constant(int(operator.inputs[1])) is not None
        and not any(graph.in_module(operator, path) for path in keep_float)
    ]
    means = _means(model, {int(operator.inputs[0]) for operator in layers}, images[:_IMAGES])
    ranges = weight_ranges(graph)
    for operator in layers:
        name = graph.name(int(operator.inputs[1]))
        shift = _shift(graph, operator, ranges[name][1] / LARGEST, means[int(operator.inputs[0])])
        old = int(operator.inputs[2]) if len(operator.inputs) > 2 else -1
        before = graph.constant(old) if old >= 0 else None
        if shift is None or (old >= 0 and (before is None or before.size != shift.size)):
            continue  # computed, or of a form that nobody writes
        bias = graph.add_tensor(f"{graph.name(int(operator.outputs[0]))}bias", shift.shape, 0.0)
        graph.set_constant(bias, ((0.0 if before is None else before.reshape(-1)) - shift).astype(np.float32))
        operator.inputs = [*operator.inputs[:2], bias]
    return graph.content()


def _shift(
    graph: Graph, operator: Any, scale: npt.NDArray[np.float64], means: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """Return what rounding the weights adds to the mean of each output channel, [C].

    None where it reads no channels, such as an image that it flattens itself.
    """
    weights = graph.constant(int(operator.inputs[1]))
    assert weights is not None
    errors = np.round(weights / scale) * scale - weights
    if graph.kind(operator) == "DEPTHWISE_CONV_2D":  # [1, height, width, C]
        by_channel: npt.NDArray[np.float64] = errors.sum((0, 1, 2))
        if len(by_channel) % len(means):
            return None
        return by_channel * np.repeat(means, len(by_channel) // len(means))
    by_input = errors.reshape(len(errors), -1, errors.shape[-1]).sum(1)  # [C, inputs of a group]
    if len(means) % by_input.shape[1]:
        return None
    groups = len(means) // by_input.shape[1]
    shifts: npt.NDArray[np.float64] = np.einsum(
        "goi,gi->go", by_input.reshape(groups, -1, by_input.shape[1]), means.reshape(groups, -1)
    )
    return shifts.reshape(-1)


def _means(model: bytes, tensors: Iterable[int], images: npt.NDArray[np.float32]) -> dict[int, npt.NDArray[np.float64]]:
    """Return the mean of each channel, the last axis, of some tensors over the images."""
    graph = Graph(model)
    given = graph.inputs[0]
    found = {tensor: np.zeros(graph.shape(tensor)[-1]) for tensor in tensors}
    computed = [tensor for tensor in found if tensor != given]
    graph.outputs = computed
    interpreter = Interpreter(model_content=graph.content())
    interpreter.allocate_tensors()
    source, results = interpreter.get_input_details()[0], interpreter.get_output_details()
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        values = {tensor: interpreter.get_tensor(each["index"]) for tensor, each in zip(computed, results, strict=True)}
        for tensor, total in found.items():
            value = image if tensor == given else values[tensor]
            total += value.reshape(-1, len(total)).mean(0, dtype=np.float64) / len(images)
    return found
