"""Pads what is max-pooled with zeros where that is the same as with minus infinity: behind a ReLU.

torch pads a max pooling with minus infinity. As an operator of its own that is a PADV2, which XNNPACK does not take and
which has no scale in INT8; a border of zeros is a PAD.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from exporters.tflite_graph import Graph

_RELUS = (schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6)


def zero_borders(content: bytes) -> bytes:
    """Return the float TFLite file with such a PADV2 replaced by a PAD: the same function, bit for bit."""
    graph = Graph(content)
    makers = {int(output): operator for operator in graph.operators for output in operator.outputs}
    found = [
        operator
        for operator in graph.operators
        if graph.kind(operator) == "PADV2"
        and _is_not_negative(graph, makers.get(int(operator.inputs[0])))
        and {graph.kind(reader) for reader in graph.readers(int(operator.outputs[0]))} == {"MAX_POOL_2D"}
    ]
    if not found:
        return content
    pad = schema.OperatorCodeT()
    pad.builtinCode = pad.deprecatedBuiltinCode = schema.BuiltinOperator.PAD
    pad.version = 2  # the first with INT8
    graph.model.operatorCodes.append(pad)
    for operator in found:
        operator.opcodeIndex = len(graph.model.operatorCodes) - 1
        operator.inputs = operator.inputs[:2]
        operator.builtinOptions, operator.builtinOptionsType = schema.PadOptionsT(), schema.BuiltinOptions.PadOptions
    return graph.content()


def _is_not_negative(graph: Graph, maker: Any | None) -> bool:
    """Return whether what an operator writes is 0 or more."""
    return maker is not None and (graph.kind(maker) in ("RELU", "RELU6") or graph.activation(maker) in _RELUS)
