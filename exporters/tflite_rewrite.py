"""Spells out what XNNPACK takes in float but not in INT8, so that a quantized TFLite file stays in one piece.

Of an INT8 graph XNNPACK leaves HARD_SWISH out, which cuts MobileNetV3-Large into 22 pieces and makes it slower than
FP32. The same function from two operators it does take: t = relu6(x + 3), an ADD whose clamp costs nothing, then
u = x * t, and XNNPACK makes one table of the two. The factor of 1/6 goes into the weights of what reads u, and so does
that of a hard sigmoid, which the converter leaves behind as a multiplication.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from exporters.tflite_graph import NO_ACTIVATION, RELU6, WEIGHTED, Graph

# f(c x) = c f(x) for any c above 0: a factor may go on to what reads their output.
_HOMOGENEOUS = frozenset({"MEAN", "PAD", "RESHAPE", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RELU"})


def spell_out(graph: Graph, *, but: Collection[int] = ()) -> None:
    """Spell out each HARD_SWISH of a float graph and move constant factors into weights: the same function.

    ``but`` are outputs of operators that will stay in float, where the one fused operator is best.
    """
    for operator in list(graph.operators):
        kind, output = graph.kind(operator), int(operator.outputs[0])
        if kind == "HARD_SWISH" and output not in but:
            _hard_swish(graph, operator)
        elif kind == "MUL" and graph.activation(operator) == NO_ACTIVATION:
            _drop_factor(graph, operator)


def _hard_swish(graph: Graph, operator: Any) -> None:
    x, y = int(operator.inputs[0]), int(operator.outputs[0])
    name, shape, place = graph.name(y), graph.shape(y), graph.operators.index(operator)
    three = graph.add_tensor(f"{name}three", (), 3.0)
    t = graph.add_tensor(f"{name}relu6", shape)
    made = [graph.operator("ADD", [x, three], t, RELU6)]
    if _scale_readers(graph, y, 1 / 6):
        made.append(graph.operator("MUL", [x, t], y))
    else:
        u, sixth = graph.add_tensor(f"{name}times", shape), graph.add_tensor(f"{name}sixth", (), 1 / 6)
        made += [graph.operator("MUL", [x, t], u), graph.operator("MUL", [u, sixth], y)]
    graph.operators[place : place + 1] = made


def _drop_factor(graph: Graph, operator: Any) -> None:
    """Drop a multiplication by one positive constant where what reads its output can take the factor."""
    x, y, factor = int(operator.inputs[0]), int(operator.outputs[0]), graph.constant(int(operator.inputs[1]))
    if factor is None or factor.size != 1 or graph.shape(x) != graph.shape(y) or float(factor.reshape(())) <= 0:
        return
    if _scale_readers(graph, y, float(factor.reshape(()))):
        for reader in graph.readers(y):
            reader.inputs = [x if tensor == y else tensor for tensor in reader.inputs]
        graph.operators.remove(operator)


def _scale_readers(graph: Graph, tensor: int, factor: float) -> bool:
    """Multiply the weights behind a tensor by ``factor``; return False, with nothing done, where some have none."""
    found = _weights_behind(graph, tensor)
    for operator in found or ():
        weights = int(operator.inputs[1])
        values = graph.constant(weights)
        assert values is not None
        if len(graph.readers(weights)) > 1:
            weights = graph.add_tensor(f"{graph.name(weights)}{graph.name(tensor)}", values.shape)
            operator.inputs[1] = weights
        graph.set_constant(weights, values * np.float32(factor))
    return found is not None


def _weights_behind(graph: Graph, tensor: int) -> list[Any] | None:
    """Return the operators whose weights can take a factor of ``tensor``, one for each way that it comes; else None.

    A factor that comes by two ways to a product, as through squeeze-and-excitation, is there twice, and taken twice.
    """
    if tensor in graph.outputs:
        return None
    found: list[Any] = []
    for operator in graph.readers(tensor):
        kind, plain = graph.kind(operator), graph.activation(operator) == NO_ACTIVATION
        if kind in WEIGHTED and operator.inputs[0] == tensor and graph.constant(int(operator.inputs[1])) is not None:
            found.append(operator)
            continue
        product = kind == "MUL" and operator.inputs[0] != operator.inputs[1]
        if not plain or not (product or kind in _HOMOGENEOUS):
            return None
        further = _weights_behind(graph, int(operator.outputs[0]))
        if further is None:
            return None
        found += further
    return found
