"""Whether a file that should be INT8 holds integer weights: a quantizer passes over what it does not know.

Such a file is as exact and as fast as FP32, and would pass for a marvel.
"""

from __future__ import annotations

from mobench.records import Format


def has_integer_weights(content: bytes, file_format: Format) -> bool:
    """Return whether any 8-bit constant of a model file has the shape of weights, two axes or more."""
    return {"onnx": _in_onnx, "tflite": _in_tflite}[file_format](content)


def _in_onnx(content: bytes) -> bool:
    import onnx
    from onnx import TensorProto

    tensors = onnx.load_from_string(content).graph.initializer
    return any(tensor.data_type in (TensorProto.INT8, TensorProto.UINT8) and len(tensor.dims) > 1 for tensor in tensors)


def _in_tflite(content: bytes) -> bool:
    from exporters.tflite_graph import Graph

    return Graph(content).has_integer_weights()
