"""TFLite in other precisions by ai-edge-quantizer: static INT8 with calibration, dynamic INT8, FP16 as stored weights.

FP16 is stored weights behind DEQUANTIZE, which XNNPACK folds when the file is loaded and then computes as the CPU can:
in FP32 where it has no FP16 arithmetic. Half the size, the time of FP32 on x86.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.algorithm_manager import AlgorithmName

from exporters import large_weights
from exporters.ranges import JUDGED
from exporters.tflite_biases import correct_biases
from exporters.tflite_graph import WEIGHTED, Graph
from exporters.tflite_ranges import Range, choose, logits, observe, weight_ranges, widest
from exporters.tflite_rewrite import spell_out
from exporters.verify import closest
from mobench.errors import BadInputError

_OF_LOGITS = ("SOFTMAX", "LOGISTIC")  # as a model's last operator, part of its output


def to_int8(model: bytes, images: npt.NDArray[np.float32], *, keep_float: Collection[str] = ()) -> bytes:
    """Return the FP32 TFLite file quantized: weights s8 a channel, activations s8, input and output float32.

    It is a drop-in replacement for the FP32 file. Logits are not quantized: the FULLY_CONNECTED that makes them has s8
    weights and quantizes what it reads as it runs, which takes no longer, while the range of logits is what calibration
    images tell least about. A softmax or logistic behind them stays in float, as does what cannot be quantized.

    Args:
        model: an FP32 file with one image as its input: what `to_tflite.convert` made, or another.
        images: calibration images, [N, S, S, 3] float32, pre-processed.
        keep_float: torch modules, such as `3.depthwise.conv` or `4.se`, whose layers stay in float, with all that is
            computed from their outputs alone (activation, pooling). Only for what `to_tflite.convert` made.

    Raises:
        BadInputError: the file is quantized already, its input is another, or a module of ``keep_float`` has no layers.
    """
    graph = Graph(model)
    _check(graph, images.shape[1:])
    graph = Graph(correct_biases(model, images, keep_float=keep_float))
    kept = _kept(graph, keep_float)
    spell_out(graph, but=kept)
    spelled = graph.content()
    observed = observe(spelled, images)
    made = [_quantized(graph, spelled, ranges, kept) for ranges in (choose(graph, observed), widest(observed))]
    return closest(model, made, lambda content: logits(content, images[:JUDGED]))


def _quantized(graph: Graph, spelled: bytes, ranges: Mapping[str, Range], kept: Collection[int]) -> bytes:
    """Return the file ``spelled``, which is ``graph``, quantized with these ranges of its activations."""
    activations = {name: {"min": np.array([low]), "max": np.array([high])} for name, (low, high) in ranges.items()}
    weights = {name: {"min": low, "max": high} for name, (low, high) in weight_ranges(graph).items()}
    quantize = quantizer.Quantizer(bytearray(spelled), recipe.static_wi8_ai8())
    for boundary in ("INPUT", "OUTPUT"):
        quantize.update_quantization_recipe(".*", boundary, algorithm_key=AlgorithmName.NO_QUANTIZE)
    last = [each for each in graph.operators if graph.kind(each) in _OF_LOGITS and each.outputs[0] in graph.outputs]
    logits_of = {*graph.outputs, *(int(each.inputs[0]) for each in last)}
    for operator in graph.operators:
        output = int(operator.outputs[0])
        if output in kept or operator in last:
            quantize.update_quantization_recipe(_only(graph, output), "*", algorithm_key=AlgorithmName.NO_QUANTIZE)
        elif graph.kind(operator) == "FULLY_CONNECTED" and output in logits_of:
            quantize.add_dynamic_config(_only(graph, output), "FULLY_CONNECTED", num_bits=8)
    with large_weights.in_parts():
        return bytes(quantize.quantize(activations | weights, enable_progress_report=False).quantized_model)


def to_int8_dynamic(model: bytes) -> bytes:
    """Return the FP32 TFLite file with s8 weights, a scale a channel; layers quantize what they read as they run.

    Depthwise convolutions stay in float: XNNPACK does not take such ones, and each would cut the graph once more.
    """
    quantize = quantizer.Quantizer(bytearray(model), recipe.dynamic_wi8_afp32())
    quantize.update_quantization_recipe(".*", "DEPTHWISE_CONV_2D", algorithm_key=AlgorithmName.NO_QUANTIZE)
    with large_weights.in_parts():
        return bytes(quantize.quantize(enable_progress_report=False).quantized_model)


def to_fp16(model: bytes) -> bytes:
    """Return the FP32 TFLite file with its weights stored in FP16, each behind a DEQUANTIZE; inputs stay FP32."""
    quantize = quantizer.Quantizer(bytearray(model))
    quantize.add_weight_only_config(".*", "*", num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING)
    return bytes(quantize.quantize(enable_progress_report=False).quantized_model)


def _check(graph: Graph, image: Iterable[int]) -> None:
    """Raise a BadInputError where the file is none that could be quantized with these images."""
    if graph.is_quantized():
        raise BadInputError("a TFLite file that is quantized already", "its tensors are integers", "give the FP32 file")
    shapes = [graph.shape(tensor)[1:] for tensor in graph.inputs]
    if shapes != [tuple(image)] or not graph.is_float(graph.inputs[0]):
        raise BadInputError(
            "a TFLite file that cannot be calibrated",
            f"it reads {shapes}, the images are {tuple(image)}",
            "give one with a float32 image as its only input",
        )


def _kept(graph: Graph, modules: Collection[str]) -> set[int]:
    """Return the outputs of all operators that stay in float for the sake of these torch modules."""
    kept: set[int] = set()
    missing = set(modules)
    for operator in graph.operators:
        if graph.kind(operator) in WEIGHTED:
            chosen: Collection[str] = {path for path in modules if graph.in_module(operator, path)}
            missing.difference_update(chosen)
        else:
            read = {int(tensor) for tensor in operator.inputs if tensor >= 0 and not graph.is_constant(int(tensor))}
            chosen = modules if read <= kept else ()
        if chosen:
            kept |= {int(tensor) for tensor in operator.outputs}
            before = [other for other in graph.operators if operator.inputs[0] in other.outputs]
            kept |= {int(other.outputs[0]) for other in before if graph.kind(other) == "PAD"}  # it is part of the layer
    if missing:
        raise BadInputError(
            f"no layers of {', '.join(sorted(missing))} to keep in float",
            "the file names no such modules",
            "name torch modules as `mobench export --explain` does",
        )
    return kept


def _only(graph: Graph, output: int) -> str:
    """Return the pattern of the one operator with this output: ai-edge-quantizer puts a semicolon behind each name."""
    return f"^{re.escape(graph.name(output))};$"
