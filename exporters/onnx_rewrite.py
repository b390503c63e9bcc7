"""Rewrites of an ONNX graph that keep its function, and make INT8 fast and exact; where one does not match, nothing.

Two of them are for the float graph before it is quantized (`prepare`), two for the quantized one (`finish`). Times are
those of MobileNetV3-Large or EfficientNet-B0 on x86, one thread.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import NodeProto, helper

from exporters.onnx_graph import Graph, attribute

# Operators that leave every channel by itself, and one whose channels are finite so: padded channels stay harmless.
_CHANNELWISE = frozenset(
    {"Add", "AveragePool", "Clip", "GlobalAveragePool", "HardSigmoid", "HardSwish", "MaxPool", "Mul", "Relu", "Sigmoid"}
)
# What a depthwise convolution of ONNX Runtime takes at a time (MLAS, x86 and ARM); it takes the rest one by one.
_DEPTHWISE_STEP = 16
_OF_LOGITS = ("Softmax", "LogSoftmax", "Sigmoid")


def prepare(graph: Graph, kept: Collection[str] = ()) -> None:
    """Rewrite a float graph with its shapes; ``kept`` are the outputs of nodes that will not be quantized."""
    _pool(graph)
    _multiply(graph)
    _pad_depthwise(graph)
    _clip(graph, kept)


def finish(graph: Graph) -> None:
    """Rewrite a quantized graph."""
    _hard_sigmoid_by_saturation(graph)
    _free_outputs(graph)


def _pool(graph: Graph) -> None:
    """Turn means over height and width into GlobalAveragePool, which has an INT8 kernel; ReduceMean has none.

    In float it took a fifth of EfficientNet-B0's time, conversion included.
    """
    for node in graph.nodes:
        if node.op_type != "ReduceMean" or attribute(node, "keepdims", 1) != 1:
            continue
        shape = graph.shape(node.input[0])
        axes = graph.constant(node.input[1]) if len(node.input) > 1 else attribute(node, "axes", None)
        if axes is not None and shape is not None and len(shape) == 4 and sorted(int(a) % 4 for a in axes) == [2, 3]:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]


def _multiply(graph: Graph) -> None:
    """Turn divisions by one constant into products, which have an INT8 kernel: the 6 of a spelled-out h-swish."""
    for node in graph.nodes:
        divisor = graph.constant(node.input[1]) if node.op_type == "Div" else None
        if divisor is not None and divisor.dtype == np.float32 and divisor.size == 1 and divisor.all():
            node.op_type = "Mul"
            node.input[1] = graph.set_constant(f"{node.output[0]}.factor", 1 / divisor)


def _pad_depthwise(graph: Graph) -> None:
    """Pad the channels of depthwise convolutions, with zero weights, to a multiple of what their kernel takes at once.

    With 72 channels one takes twice the time that it takes with 80; all of them, a twelfth of MobileNetV3-Large's. That
    is possible where such channels come from convolutions and end in convolutions.
    """
    parent: dict[str, str] = {}

    def root(tensor: str) -> str:
        while parent.setdefault(tensor, tensor) != tensor:
            tensor = parent[tensor]
        return tensor

    bound = graph.inputs | graph.outputs  # tensors whose channels are for others to say
    convolutions: list[tuple[NodeProto, bool]] = []
    for node in graph.nodes:
        tensors = graph.computed(node)
        channels = {shape[1] if (shape := graph.shape(name)) and len(shape) == 4 else None for name in tensors}
        constants = [name for name in node.input if graph.constant(name) is not None]
        own = len(tensors) == 2 and all(len(graph.readers(name)) == 1 for name in constants)
        groups = attribute(node, "group", 1) if node.op_type == "Conv" else 0
        if None in channels:
            bound |= set(tensors)
        elif own and groups == 1:
            convolutions.append((node, False))
        elif (own and channels == {groups}) or (
            node.op_type in _CHANNELWISE and len(channels) == 1 and all(_size(graph, name) == 1 for name in constants)
        ):
            if groups:
                convolutions.append((node, True))
            for name in tensors:
                parent[root(name)] = root(tensors[0])
        else:
            bound |= set(tensors)
    padded = {root(node.output[0]) for node, depthwise in convolutions if depthwise} - {root(name) for name in bound}
    for node, depthwise in convolutions:
        missing = [
            -int((graph.shape(name) or ())[1] or 0) % _DEPTHWISE_STEP if root(name) in padded else 0
            for name in (node.output[0], node.input[0])
        ]
        _pad(graph, node, missing[0], 0 if depthwise else missing[1])
        for each in node.attribute:
            if depthwise and each.name == "group":
                each.i += missing[0]


def _size(graph: Graph, constant: str) -> int:
    values = graph.constant(constant)
    return 0 if values is None else values.size


def _pad(graph: Graph, node: NodeProto, out: int, inp: int) -> None:
    """Give the weights and the bias of a convolution more channels of zeros."""
    for name, widths in zip(node.input[1:], ([(0, out), (0, inp), (0, 0), (0, 0)], [(0, out)]), strict=False):
        values = graph.constant(name)
        if values is not None and (out or inp):
            graph.set_constant(name, np.pad(values, widths))


def _clip(graph: Graph, kept: Collection[str]) -> None:
    """Clip what a convolution gives a hard sigmoid or h-swish to where they are not constant: all 8 bits for that.

    The Clip itself costs nothing: INT8 saturates at the ends of its range.
    """
    for node in list(graph.nodes):
        if node.op_type != "HardSigmoid" or node.output[0] in kept:
            continue
        x, maker, readers = node.input[0], graph.maker(node.input[0]), graph.readers(node.input[0])
        if maker is None or maker.op_type not in ("Conv", "Gemm") or x in graph.outputs:
            continue
        alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        bounds = {"low": -beta / alpha}
        if len(readers) == 1:
            bounds["high"] = (1 - beta) / alpha
        elif not (len(readers) == 2 and any(_is_product(each, x, node.output[0]) for each in readers)):
            continue
        whole = maker.output[0] = f"{x}.whole"
        names = [graph.set_constant(f"{x}.{end}", np.array(bound, np.float32)) for end, bound in bounds.items()]
        graph.insert(helper.make_node("Clip", [whole, *names], [x], name=f"{x}.clip"), before=_first(graph, readers))


def _is_product(node: NodeProto, one: str, other: str) -> bool:
    return node.op_type == "Mul" and set(node.input) == {one, other}


def _first(graph: Graph, nodes: Collection[NodeProto]) -> NodeProto:
    outputs = {node.output[0] for node in nodes}
    first: NodeProto = next(node for node in graph.nodes if node.output and node.output[0] in outputs)
    return first


def _hard_sigmoid_by_saturation(graph: Graph) -> None:
    """Turn each HardSigmoid between integers, which has no INT8 kernel, into an Add, which has one.

    clip(alpha x + beta, 0, 1) is alpha x + beta in 8 bits that hold 0 to 1 and saturate beyond. The factor costs
    nothing: alpha x are the integers of x with another scale.
    """
    for node in list(graph.nodes):
        if node.op_type != "HardSigmoid":
            continue
        dequantize, quantizers, y = graph.maker(node.input[0]), graph.readers(node.output[0]), node.output[0]
        if (
            dequantize is None
            or dequantize.op_type != "DequantizeLinear"
            or y in graph.outputs
            or not all(each.op_type == "QuantizeLinear" and _holds_0_to_1(graph, each) for each in quantizers)
        ):
            continue
        scale, alpha = graph.constant(dequantize.input[1]), attribute(node, "alpha", 0.2)
        if scale is None:
            continue
        one = graph.set_constant(f"{y}.one", np.array(1, np.uint8))
        zero = graph.set_constant(f"{y}.zero", np.array(0, np.uint8))
        beta = graph.set_constant(f"{y}.beta", np.array(attribute(node, "beta", 0.5), np.float32))
        scaled = graph.set_constant(f"{y}.scale", np.array(scale * alpha, np.float32))
        parts = {f"{y}.scaled": [dequantize.input[0], scaled, *dequantize.input[2:]], f"{y}.shift": [one, beta, zero]}
        for output, inputs in parts.items():
            graph.insert(helper.make_node("DequantizeLinear", inputs, [output], name=output), before=node)
        node.op_type = "Add"
        node.input[:] = list(parts)
        del node.attribute[:]


def _holds_0_to_1(graph: Graph, quantize: NodeProto) -> bool:
    scale, zero = graph.constant(quantize.input[1]), graph.constant(quantize.input[2])
    if scale is None or zero is None or zero.dtype != np.uint8:
        return False
    return scale.size == 1 and not zero.any() and bool(np.isclose(scale * 255, 1.0, rtol=1e-6).all())


def _free_outputs(graph: Graph) -> None:
    """Let a Gemm or MatMul give the model's output in float: it has computed it with more than 8 bits already.

    A softmax or sigmoid behind it is part of the output.
    """
    for name in graph.outputs:
        _free(graph, name)


def _free(graph: Graph, name: str) -> None:
    quantize = graph.maker(dequantize.input[0]) if (dequantize := graph.maker(name)) else None
    if (
        dequantize is not None
        and quantize is not None
        and (dequantize.op_type, quantize.op_type) == ("DequantizeLinear", "QuantizeLinear")
        and (maker := graph.maker(quantize.input[0])) is not None
        and maker.op_type in ("Gemm", "MatMul", *_OF_LOGITS)
        and len(graph.readers(quantize.input[0])) == 1
        and len(graph.readers(quantize.output[0])) == 1
    ):
        graph.nodes.remove(dequantize)
        graph.nodes.remove(quantize)
        maker.output[0] = name
        if maker.op_type in _OF_LOGITS and len(graph.readers(maker.input[0])) == 1:
            _free(graph, maker.input[0])
