"""An FP16 file of ours as a GPU runs it best: activations in FP16 too, not the weights alone.

The file stores weights in FP16 behind a Cast to FP32, which is right for a CPU: ONNX Runtime folds the casts away and
computes in FP32. On a GPU that leaves the FP16 units idle. Here the casts go, every other float constant becomes FP16,
and inputs and outputs keep their FP32 by one Cast each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mobench.errors import MissingExtraError, SessionError

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

_MOST = float(np.finfo(np.float16).max)
# What our networks are made of. All take FP16 for every float that they take; of others (Resize, Range) some inputs
# must stay FP32, and nobody has looked.
KNOWN = frozenset((
    *("Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "Div", "Dropout", "Flatten", "Gather"),
    *("Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "MatMul", "Max", "MaxPool", "Min", "Mul"),
    *("Pad", "ReduceMean", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Squeeze", "Sub", "Transpose"),
    "Unsqueeze",
))  # fmt: skip


def in_half(model: bytes) -> bytes:
    """Return an ONNX file that computes in FP16 throughout, with the inputs and outputs it had.

    Raises:
        MissingExtraError: onnx is not installed.
        SessionError: it holds an operator that nobody has looked at.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "export") from error
    proto = onnx.load_from_string(model)
    graph = proto.graph
    strange = sorted({node.op_type for node in graph.node if node.domain or node.op_type not in KNOWN})
    if strange:
        raise SessionError("FP16 arithmetic", f"{', '.join(strange)} may need FP32", "run the FP32 file")
    _drop_casts(graph)
    for initializer in graph.initializer:
        _to_half(initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                _to_half(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    del graph.value_info[:]  # types of what lies between, as they were
    _keep_ends(graph)
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _drop_casts(graph: GraphProto) -> None:
    """Let what a stored FP16 weight was cast for take it as it is."""
    from onnx import TensorProto

    stored = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT16}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            stored[node.input[0]].name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _to_half(tensor: TensorProto) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT:
        values = numpy_helper.to_array(tensor)
        # A bound such as the largest float32 means none: the largest float16 says the same.
        tensor.CopyFrom(numpy_helper.from_array(values.clip(-_MOST, _MOST).astype(np.float16), tensor.name))


def _keep_ends(graph: GraphProto) -> None:
    """Cast float inputs to FP16 behind the graph's beginning, and float outputs back to FP32 before its end."""
    from onnx import TensorProto, helper

    def is_float(value: object) -> bool:
        elem: int = value.type.tensor_type.elem_type  # type: ignore[attr-defined]
        return elem == TensorProto.FLOAT

    weights = {each.name for each in graph.initializer}
    inputs = {each.name: f"{each.name}.half" for each in graph.input if is_float(each) and each.name not in weights}
    outputs = {each.name: f"{each.name}.half" for each in graph.output if is_float(each)}
    for node in graph.node:
        node.input[:] = [outputs.get(name) or inputs.get(name, name) for name in node.input]
        node.output[:] = [outputs.get(name, name) for name in node.output]
    nodes = [
        *(helper.make_node("Cast", [name], [half], name=half, to=TensorProto.FLOAT16) for name, half in inputs.items()),
        *graph.node,
        *(helper.make_node("Cast", [half], [name], name=half, to=TensorProto.FLOAT) for name, half in outputs.items()),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
