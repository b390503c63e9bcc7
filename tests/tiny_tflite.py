"""TFLite files of a few operators, written with LiteRT's own schema: what no exporter here would make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# TensorType of the schema, by NumPy's name.
_TYPES = {"float32": 0, "int32": 2, "complex64": 8}
_OPTIONS = {"REVERSE_SEQUENCE": {"seqDim": 1}, "CONV_2D": {"strideH": 1, "strideW": 1}}


def write(
    path: Path,
    operators: Sequence[tuple[str, Sequence[str], str]],
    tensors: dict[str, tuple[Sequence[int], str] | np.ndarray],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Path:
    """Write a model.

    Args:
        path: where to.
        operators: each its name in the schema (``MATRIX_DIAG``), its inputs' names and its output's.
        tensors: by name its shape, -1 where an axis is open, and dtype; or an array, which is a constant.
        inputs: the graph's inputs, by name.
        outputs: and its outputs.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    names = list(tensors)
    graph, model = schema.SubGraphT(), schema.ModelT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [], [graph]
    graph.tensors, graph.operators = [], []
    graph.inputs, graph.outputs = [names.index(name) for name in inputs], [names.index(name) for name in outputs]
    for name, tensor in tensors.items():
        entry: Any = schema.TensorT()
        entry.name, entry.buffer, entry.hasRank = name, 0, True
        if isinstance(tensor, np.ndarray):
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(tensor.tobytes(), np.uint8)
            entry.buffer = len(model.buffers)
            model.buffers.append(buffer)
            entry.shape, entry.type = list(tensor.shape), _TYPES[tensor.dtype.name]
        else:
            entry.shape, entry.type = [max(axis, 1) for axis in tensor[0]], _TYPES[tensor[1]]
            if min(tensor[0], default=0) < 0:
                entry.shapeSignature = list(tensor[0])
        graph.tensors.append(entry)
    for name, sources, target in operators:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = [names.index(source) for source in sources], [names.index(target)]
        options = "".join(part.capitalize() for part in name.split("_")).replace("Conv2d", "Conv2D") + "Options"
        if hasattr(schema, f"{options}T"):
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for option, value in _OPTIONS.get(name, {}).items():
                setattr(operator.builtinOptions, option, value)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def matrix_diag(path: Path) -> Path:
    """ABS, which every delegate takes, and MATRIX_DIAG, which none does: a graph that is split."""
    operators = [("ABS", ["x"], "a"), ("MATRIX_DIAG", ["a"], "y")]
    return write(path, operators, {"x": ([1, 4], "float32"), "a": ([1, 4], "float32"), "y": ([1, 4, 4], "float32")},
                 ["x"], ["y"])  # fmt: skip


def reverse_sequence(path: Path) -> Path:
    """ABS and REVERSE_SEQUENCE."""
    operators = [("ABS", ["x"], "a"), ("REVERSE_SEQUENCE", ["a", "lengths"], "y")]
    shape = ([1, 4, 2], "float32")
    tensors = {"x": shape, "a": shape, "lengths": np.array([3], np.int32), "y": shape}
    return write(path, operators, tensors, ["x"], ["y"])


def rfft2d(path: Path) -> Path:
    """ABS and RFFT2D."""
    operators = [("ABS", ["x"], "a"), ("RFFT2D", ["a", "length"], "y")]
    shape = ([1, 4, 4], "float32")
    tensors = {"x": shape, "a": shape, "length": np.array([4, 4], np.int32), "y": ([1, 4, 3], "complex64")}
    return write(path, operators, tensors, ["x"], ["y"])


def wide_convolution(path: Path) -> Path:
    """CONV_2D, 3x3 over 64 channels of 56x56: LiteRT's GPU has a kernel of its own for such (Winograd)."""
    weights = np.random.default_rng(0).standard_normal((64, 3, 3, 64)).astype(np.float32) / 24
    shape = ([1, 56, 56, 64], "float32")
    tensors = {"x": shape, "w": weights, "b": np.zeros(64, np.float32), "y": shape}
    return write(path, [("CONV_2D", ["x", "w", "b"], "y")], tensors, ["x"], ["y"])


def segment_sum(path: Path) -> Path:
    """SEGMENT_SUM, whose output's shape depends on values: it is only known when the model runs."""
    tensors = {"x": ([4, 2], "float32"), "ids": ([4], "int32"), "y": ([-1, 2], "float32")}
    return write(path, [("SEGMENT_SUM", ["x", "ids"], "y")], tensors, ["x", "ids"], ["y"])


def open_axes(path: Path) -> Path:
    """ABS over [?, ?, 3]: batch and one more axis are open."""
    shape = ([-1, -1, 3], "float32")
    return write(path, [("ABS", ["x"], "y")], {"x": shape, "y": shape}, ["x"], ["y"])
