"""ONNX in other precisions: INT8 by ONNX Runtime's quantizer, static and dynamic, and FP16 as stored weights.

Why FP16 is stored weights and nothing more: on a CPU, ONNX Runtime computes in FP32 whatever the file says. Both forms
gave the same logits to the last bit, but the graph that is FP16 throughout ran at 1.5 times the time of FP32 on
MobileNetV2 (its Clips stay in FP16 between re-ordered convolutions), while the Casts behind stored weights are folded
when the file is loaded, and it runs as the FP32 file does. Either is half the size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from exporters import onnx_rewrite
from exporters.onnx_graph import WEIGHTED, Graph, attribute, has_branches
from exporters.onnx_observe import Observed, observe, start
from exporters.ranges import JUDGED, LARGEST, best_range, best_scales
from exporters.to_onnx import INPUT
from exporters.verify import closest
from mobench.errors import BadInputError

# float16's largest finite number; beyond it a weight would become infinite
_FLOAT16_MAX = float(np.finfo(np.float16).max)


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Hands images to ONNX Runtime one by one, channels first."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self._left = _feeds(images)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Return the next image as [1, 3, S, S], or None behind the last."""
        return next(self._left, None)


def _feeds(images: npt.NDArray[np.float32]) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    return ({INPUT: np.ascontiguousarray(image.transpose(2, 0, 1)[None])} for image in images)


def to_int8(model: bytes, images: npt.NDArray[np.float32], *, keep_float: Collection[str] = ()) -> bytes:
    """Return the FP32 ONNX file quantized: QDQ, weights s8 a channel, activations u8, input and output float32.

    What is done beyond ONNX Runtime's own quantization, each for what it gained (DECISIONS.md): the graph is rewritten
    so that nothing of a mobile network is left in float (`onnx_rewrite`), ranges are those of least squared error or
    the whole ones, as the logits say, the mean error that rounded weights make is taken out of the biases, and the
    logits are not quantized.

    Args:
        model: what `to_onnx.convert` made, or another float file with one input, called as there.
        images: calibration images, [N, S, S, 3] float32, pre-processed.
        keep_float: torch modules, such as `3.depthwise.conv` or `4.se`, whose layers stay in float, with all that is
            computed from their outputs alone (activation, pooling). Only for what `to_onnx.convert` made.

    Raises:
        BadInputError: a module of ``keep_float`` has no layers.
    """
    proto = _prepared(model)
    kept = _kept(Graph(proto), keep_float)
    if not has_branches(proto):
        graph = Graph(proto)
        onnx_rewrite.prepare(graph, kept)
        graph.remove_unused()
        proto = onnx.shape_inference.infer_shapes(proto)
    graph = Graph(proto)
    observed = observe(proto, graph.float_shapes(), _feeds(images))
    _correct_biases(graph, observed, kept)
    unquantized = [node.name for node in graph.nodes if kept.intersection(node.output)]
    made = [
        _with_ranges(proto, images, unquantized, _overrides(graph, observed, kept, choose))
        for choose in (best_range, _whole)
    ]
    return closest(model, made, lambda content: _logits(content, images[:JUDGED]))


def _with_ranges(
    proto: onnx.ModelProto,
    images: npt.NDArray[np.float32],
    unquantized: Sequence[str],
    overrides: Mapping[str, list[dict[str, Any]]],
) -> bytes:
    """Return a prepared model quantized, but for some nodes, with these ranges."""
    with tempfile.TemporaryDirectory(prefix="mobench-") as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "quantized.onnx")
        onnx.save(proto, prepared)
        quantize_static(
            str(prepared),
            str(quantized),
            _Images(images[:1]),  # for what could not be observed, if anything
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(unquantized),
            extra_options={"TensorQuantOverrides": overrides},
        )
        proto = onnx.load(quantized)
    if not has_branches(proto):
        graph = Graph(proto)
        onnx_rewrite.finish(graph)
        graph.remove_unused()
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _whole(low: float, high: float, sample: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the whole range, 0 in it; the sample is not needed."""
    return min(low, 0.0), max(high, 0.0)


def _logits(model: bytes, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a file's logits [N, classes] for images [N, S, S, 3]."""
    session = start(model)
    return np.concatenate([session.run(None, feed)[0] for feed in _feeds(images)])


def _kept(graph: Graph, modules: Collection[str]) -> set[str]:
    """Return the outputs of all nodes that stay in float for the sake of these torch modules."""
    kept: set[str] = set()
    missing = set(modules)
    for node in graph.nodes:
        if node.op_type in WEIGHTED:
            path = node.name.partition("#")[0]
            chosen = {module for module in modules if path == module or path.startswith(f"{module}.")}
            missing -= chosen
        else:
            read = [name for name in node.input if name in graph.computed(node)]
            chosen = set(modules) if read and kept.issuperset(read) else set()
        if chosen:
            kept.update(node.output)
    if missing:
        raise BadInputError(
            f"no layers of {', '.join(sorted(missing))} to keep in float",
            "the file names no such modules",
            "name torch modules as `mobench export --explain` does",
        )
    return kept


def _overrides(
    graph: Graph,
    observed: Mapping[str, Observed],
    kept: set[str],
    choose: Callable[[float, float, npt.NDArray[np.float32]], tuple[float, float]],
) -> dict[str, list[dict[str, Any]]]:
    """Return each tensor's range as ONNX Runtime's quantizer wants it: as ``choose`` says, but all of the input's."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, seen in observed.items():
        maker = graph.maker(name)
        if maker is not None and maker.op_type == "HardSigmoid":
            low, high = 0.0, 1.0  # see `onnx_rewrite`
        elif name in graph.inputs:
            low, high = seen.low, seen.high
        else:
            low, high = choose(seen.low, seen.high, seen.sample)
        found[name] = [{"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
    for node in graph.nodes:
        layer = None if kept.intersection(node.output) else _layer(graph, node)
        if layer is not None:
            ends = best_scales(layer[0]).reshape(-1) * LARGEST
            axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
            found[node.input[1]] = [{"axis": axis, "rmin": np.array(-end), "rmax": np.array(end)} for end in ends]
    return found


def _correct_biases(graph: Graph, observed: Mapping[str, Observed], kept: Collection[str]) -> None:
    """Take out of the biases what rounding the weights adds to the mean of each channel.

    A layer's mean error is its weights' errors times the means of what it reads (Nagel et al. 2019, arXiv:1906.04721,
    section 4.2). Channels that a folded batch norm has left with a few small weights have most of it.
    """
    for node in graph.nodes:
        layer, seen = _layer(graph, node), observed.get(node.input[0]) if node.input else None
        if layer is None or seen is None or node.op_type == "MatMul" or node.output[0] in kept:
            continue
        weights, bias = layer
        integers, scale = _quantized(weights)
        groups = attribute(node, "group", 1)
        errors = (integers * scale - weights).reshape(groups, len(weights) // groups, weights.shape[1], -1).sum(-1)
        shift = np.einsum("goi,gi->go", errors, seen.means.reshape(groups, -1)).reshape(-1)
        own = len(node.input) > 2 and len(graph.readers(node.input[2])) == 1
        name = node.input[2] if own else f"{node.output[0]}.bias"
        node.input[:] = [*node.input[:2], graph.set_constant(name, (bias - shift).astype(np.float32))]


def _layer(graph: Graph, node: onnx.NodeProto) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Return the weights [out, in / groups, ...] and the bias [out] of a node; None where it is no plain layer."""
    weights = graph.constant(node.input[1]) if node.op_type in WEIGHTED else None
    plain = (attribute(node, name, usual) == usual for name, usual in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)))
    if weights is None or weights.dtype != np.float32 or not all(plain) or weights.ndim < 2:
        return None
    if node.op_type == "MatMul" and weights.ndim != 2:
        return None
    if node.op_type != "Conv" and not attribute(node, "transB", 0):
        weights = weights.T
    bias = graph.constant(node.input[2]) if len(node.input) > 2 else np.zeros(len(weights), np.float32)
    return None if bias is None or bias.shape != (len(weights),) else (weights, bias)


def _quantized(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return weights [out, ...] as they are rounded: s8 and the scale of each output channel."""
    scale = best_scales(weights)
    return np.clip(np.round(weights / scale), -LARGEST, LARGEST).astype(np.int8), scale


def to_int8_dynamic(model: bytes) -> bytes:
    """Return the FP32 ONNX file with s8 weights, a scale a channel; layers quantize what they read as they run.

    Made here and not by ONNX Runtime's `quantize_dynamic`, which gives a convolution one scale for all its channels: of
    MobileNetV1 0.25's logits that leaves 4 dB.
    """
    proto = _prepared(model)
    graph = Graph(proto)
    for node in list(graph.nodes):
        layer = _layer(graph, node)
        if layer is not None:
            _quantize_as_it_runs(graph, node, *layer)
    graph.remove_unused()
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _quantize_as_it_runs(
    graph: Graph, node: onnx.NodeProto, weights: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
) -> None:
    """Turn a layer y into y.sums, of integers, times the scales of what it reads and of its weights, plus its bias."""
    x, y = node.input[0], node.output[0]
    inputs = [f"{x}.{part}" for part in ("quantized", "scale", "zero")]
    if graph.maker(inputs[0]) is None:
        graph.insert(helper.make_node("DynamicQuantizeLinear", [x], inputs, name=inputs[0]), before=node)
    integers, scale = _quantized(weights)
    is_conv = node.op_type == "Conv"
    shape = (1, -1, *[1] * (weights.ndim - 2)) if is_conv else (-1,)
    weights_name = graph.set_constant(f"{y}.weights", integers if is_conv else integers.T)
    scale_name = graph.set_constant(f"{y}.weights.scale", scale.reshape(shape))
    bias_name = graph.set_constant(f"{y}.bias", bias.reshape(shape))
    kind, attributes = ("ConvInteger", node.attribute) if is_conv else ("MatMulInteger", [])
    sums = helper.make_node(kind, [inputs[0], weights_name, inputs[2]], [f"{y}.sums"], name=node.name)
    sums.attribute.extend(attributes)
    steps = (
        sums,
        helper.make_node("Cast", [f"{y}.sums"], [f"{y}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [inputs[1], scale_name], [f"{y}.scales"]),
        helper.make_node("Mul", [f"{y}.float", f"{y}.scales"], [f"{y}.scaled"]),
    )
    for step in steps:
        graph.insert(step, before=node)
    node.CopyFrom(helper.make_node("Add", [f"{y}.scaled", bias_name], [y]))


def _prepared(model: bytes) -> onnx.ModelProto:
    """Return a float model with batch norm folded and all shapes known, as the quantizer wants it."""
    with tempfile.TemporaryDirectory(prefix="mobench-") as folder:
        path = Path(folder, "prepared.onnx")
        quant_pre_process(onnx.load_from_string(model), str(path))
        return onnx.load(path)


def to_fp16(model: bytes) -> bytes:
    """Return the FP32 ONNX file with its weights stored in FP16, each behind a Cast to FP32; inputs stay FP32.

    Raises:
        OverflowError: a weight is too large for FP16.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    casts = []
    for index, initializer in enumerate(graph.initializer):
        if initializer.data_type != TensorProto.FLOAT or len(initializer.dims) < 2:
            continue  # biases and the bounds of Clip: there is nothing to save, only exactness to lose
        values = numpy_helper.to_array(initializer)
        largest = float(np.abs(values).max(initial=0.0))
        if largest > _FLOAT16_MAX:
            raise OverflowError(f"a weight of {largest:g} in {initializer.name} does not fit into FP16")
        name, stored = initializer.name, f"{initializer.name}.fp16"
        graph.initializer[index].CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content
