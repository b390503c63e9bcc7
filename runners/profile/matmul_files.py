"""Model files of one large matrix product, in FP32 and INT8: what a runtime's kernels do at their best."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobench.errors import MissingExtraError
from runners.profile import onnx_graph

SIZES = (512, 1024)  # rows and columns: a size at which kernels reach their best, and one up


def write(folder: Path, runtime: str, precision: str, size: int) -> Path:
    """Write a file for a runtime: [size, size] times constant weights of that shape.

    Raises:
        MissingExtraError: the package that lays out the file is not there (tflite-runtime has none).
    """
    rng = np.random.default_rng(0)
    int8 = precision == "int8"
    weights = rng.integers(-127, 128, (size, size), np.int8) if int8 else rng.standard_normal((size, size), np.float32)
    path = folder / f"matmul-{size}-{precision}.{'onnx' if runtime == 'ort' else 'tflite'}"
    if runtime == "ort":
        path.write_bytes(onnx_graph.write_matmul(size, weights.tobytes(), int8=int8))
    else:
        path.write_bytes(_tflite(weights))
    return path


def _tflite(weights: np.ndarray) -> bytes:
    """Return a TFLite file with one FULLY_CONNECTED, [n, n] x [n, n], quantized where the weights are int8."""
    try:
        import flatbuffers  # type: ignore[import-untyped]  # it ships no types
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingExtraError("ai-edge-litert") from error
    size, int8 = weights.shape[0], weights.dtype == np.int8

    def tensor(name: str, buffer: int, scale: float) -> object:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name.encode(), [size, size], buffer
        made.type = schema.TensorType.INT8 if int8 else schema.TensorType.FLOAT32
        if int8:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [0]
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, -1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [tensor("x", 0, 0.01), tensor("w", 1, 0.01), tensor("y", 0, 0.1)]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    content = schema.BufferT()
    content.data = weights.view(np.uint8).ravel()
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), content]
    builder = flatbuffers.Builder(weights.nbytes + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
