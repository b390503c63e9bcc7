"""Model files that are quantized as they stand: read as the quantizers expect them, given back under their own names.

The quantizers know the names and layouts of our own files. A file from elsewhere is renamed for them and back, instead
of each of them knowing all files.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.recipe import Given, Request
from mobench.errors import BadInputError
from mobench.records import Format

# What `quantize_tflite` calls a model's signature and input, and `quantize_onnx` its input.
_TFLITE_NAMES = ("serving_default", "args_0")
_ONNX_INPUT = "input"
_ONNX_OPSET = 18  # what our own files have, and the quantizer adds operators of
_ONNX_IR = 8  # of that opset's time
_GIVE_FLOAT = "give the float model that it was made from"
_ONNX_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")

Restore = Callable[[bytes], bytes]


def read(given: Given, file_format: Format) -> tuple[bytes, Restore]:
    """Return the file's content as the quantizers expect it, and what gives a quantized one the file's own names.

    Raises:
        BadInputError: it is not a float model, or not in one file.
    """
    return {"onnx": _read_onnx, "tflite": _read_tflite}[file_format](given)


def calibration(request: Request, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the images [N, S, S, 3] so turned that the quantizer of the format feeds them in the file's layout."""
    usual = request.format == "tflite"
    if request.channels_last == usual:
        return images
    # ONNX's turns [S, S, 3] to [3, S, S] by itself, so what becomes [S, S, 3] by that; TFLite's feeds what it gets.
    turned = images.transpose(0, 2, 3, 1) if request.format == "onnx" else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(turned)


def _read_onnx(given: Given) -> tuple[bytes, Restore]:
    import onnx
    from onnx import TensorProto, version_converter

    name = given.path.name
    try:
        model = onnx.load(given.path, load_external_data=False)
    except Exception as error:  # protobuf's own, which onnx does not name
        raise BadInputError(name, "it is not an ONNX file", "give another") from error
    tensors = model.graph.initializer
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
        raise BadInputError(name, "its weights lie in another file", "save it as one file (onnx.save)")
    quantized = sorted({node.op_type for node in model.graph.node if node.op_type in _ONNX_QUANTIZED})
    quantized += sorted({node.op_type for node in model.graph.node if node.op_type.startswith("QLinear")})
    if quantized:
        raise BadInputError(name, f"it is quantized already ({', '.join(quantized)})", _GIVE_FLOAT)
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in tensors):
        raise BadInputError(name, "its weights are FP16 already", _GIVE_FLOAT)

    _own_constants(model)
    opset = min((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=_ONNX_OPSET)
    if opset < _ONNX_OPSET:
        try:
            model = version_converter.convert_version(model, _ONNX_OPSET)
        except Exception as error:  # the converter's own, one type for all
            why = f"it is of opset {opset}, and cannot be brought to {_ONNX_OPSET}"
            raise BadInputError(name, why, "export it anew at a later opset") from error

    def renamed(content: bytes) -> bytes:
        """Let the file's input and the quantizer's name for it change places, so that no two tensors share a name."""
        proto = onnx.load_from_string(content)
        swap = {given.input: _ONNX_INPUT, _ONNX_INPUT: given.input}
        for graph in _graphs(proto.graph):
            for node in graph.node:
                node.input[:] = [swap.get(each, each) for each in node.input]
                node.output[:] = [swap.get(each, each) for each in node.output]
            for value in itertools.chain(graph.input, graph.output, graph.value_info, graph.initializer):
                value.name = swap.get(value.name, value.name)
        serialized: bytes = proto.SerializeToString(deterministic=True)
        return serialized

    return renamed(model.SerializeToString()), renamed


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and those of its branches and loops, which see its tensors."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _own_constants(model: Any) -> None:
    """Let a graph's initializers be constants: before IR version 4 they had to be inputs too, which could change."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _ONNX_IR)


def _read_tflite(given: Given) -> tuple[bytes, Restore]:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    from exporters.tflite_graph import has_scale

    def parsed(content: bytes) -> Any:
        return flatbuffer_utils.read_model_from_bytearray(bytearray(content))

    def serialized(model: Any) -> bytes:
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    name = given.path.name
    model = parsed(given.path.read_bytes())
    graph = model.subgraphs[0]
    seen: set[bytes] = set()
    for index, tensor in enumerate(graph.tensors):
        if not has_scale(tensor):
            tensor.quantization = None  # empty ones keep the quantizer from its work
        if not tensor.name or tensor.name in seen:  # which the format allows, but ranges are by name
            tensor.name = b"%s_%d" % (tensor.name or b"tensor", index)
        seen.add(tensor.name)
    integers = (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16)
    if any(tensor.type in integers and tensor.quantization is not None for tensor in graph.tensors):
        raise BadInputError(name, "it is quantized already", _GIVE_FLOAT)
    if any(tensor.type == schema.TensorType.FLOAT16 for tensor in graph.tensors):
        raise BadInputError(name, "its weights are FP16 already", _GIVE_FLOAT)
    own = list(model.signatureDefs or ())

    def signature(model: Any, key: str, input_name: str, output_name: str) -> Any:
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key.encode(), 0
        made.inputs, made.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
        made.inputs[0].name, made.inputs[0].tensorIndex = input_name.encode(), model.subgraphs[0].inputs[0]
        made.outputs[0].name, made.outputs[0].tensorIndex = output_name.encode(), model.subgraphs[0].outputs[0]
        return made

    def restore(content: bytes) -> bytes:
        quantized = parsed(content)
        quantized.signatureDefs = [
            signature(
                quantized, each.signatureKey.decode(), each.inputs[0].name.decode(), each.outputs[0].name.decode()
            )
            for each in own[:1]
        ]
        return serialized(quantized)

    key, input_name = _TFLITE_NAMES
    model.signatureDefs = [signature(model, key, input_name, "output_0")]
    return serialized(model), restore
