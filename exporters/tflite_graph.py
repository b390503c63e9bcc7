"""A TFLite file as a graph that can be changed: operators by name, who reads a tensor, constants as arrays.

In the schema's object form, of which the package that runs TFLite files ships the Python classes. They are untyped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

NO_ACTIVATION, RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_KINDS: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
# ConvBN, SE_Block, and what begins with a small letter as it likes.
_CLASS = re.compile(r"_*([a-z]\w*|[A-Z][A-Za-z0-9]*(_[A-Z0-9][A-Za-z0-9]*)*)")
_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}


def has_scale(tensor: Any) -> bool:
    """Return whether a tensor of the schema is quantized; older converters give float ones empty parameters."""
    scale = None if tensor.quantization is None else tensor.quantization.scale
    return scale is not None and len(scale) > 0


def _is_of(scope: str, attribute: str) -> bool:
    """Return whether a scope's attribute is this one; its class is written as classes are, so that `dw_conv` is none.

    >>> _is_of("nn.Conv2d_conv", "conv"), _is_of("nn.Conv2d_dw_conv", "conv"), _is_of("own.SE_Block_conv", "conv")
    (True, False, True)
    """
    class_name = scope.rpartition(".")[2].removesuffix(f"_{attribute}")
    return scope.endswith(f"_{attribute}") and _CLASS.fullmatch(class_name) is not None


class Graph:
    """The first subgraph of a TFLite file; a tensor is told by its index."""

    def __init__(self, content: bytes) -> None:
        self.model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        self._graph = self.model.subgraphs[0]
        self.operators: list[Any] = self._graph.operators

    def content(self) -> bytes:
        """Return the file, without the constants that no tensor refers to any more."""
        tensors = [tensor for graph in self.model.subgraphs for tensor in graph.tensors]
        holders = [*tensors, *(self.model.metadata or ())]
        places = {index: place for place, index in enumerate(sorted({0, *(holder.buffer for holder in holders)}))}
        self.model.buffers = [self.model.buffers[index] for index in places]
        for holder in holders:
            holder.buffer = places[holder.buffer]
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))

    @property
    def inputs(self) -> list[int]:
        """The model's inputs."""
        return [int(tensor) for tensor in self._graph.inputs]

    @property
    def outputs(self) -> list[int]:
        """The model's outputs, which may be set."""
        return [int(tensor) for tensor in self._graph.outputs]

    @outputs.setter
    def outputs(self, tensors: Sequence[int]) -> None:
        self._graph.outputs = list(tensors)

    def kind(self, operator: Any) -> str:
        """Return an operator's name in the schema, such as CONV_2D."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return _KINDS[flatbuffer_utils.get_builtin_code_from_operator_code(code)]

    def activation(self, operator: Any) -> int:
        """Return the activation that is fused into an operator, NO_ACTIVATION where it can have none."""
        return int(getattr(operator.builtinOptions, "fusedActivationFunction", NO_ACTIVATION))

    def readers(self, tensor: int) -> list[Any]:
        """Return the operators that read a tensor."""
        return [operator for operator in self.operators if tensor in operator.inputs]

    def in_module(self, operator: Any, path: str) -> bool:
        """Return whether the weights of an operator belong to a torch module, or to one within it, such as `4.se`.

        litert-torch names them by scopes, `WRAPPER/ROOT/package.InvertedResidual_4/package.SqueezeExcite_se/...`: the
        class, an underscore and the attribute. Outputs bear such names too, but those of a fused activation or of
        another layer that looked the same; they are asked only where the weights have none.
        """
        wanted = path.split(".")
        for tensor in (operator.inputs[1], operator.outputs[0]):
            scopes = self.name(int(tensor)).split(";")[0].split("/")[2:]
            if scopes:
                near = zip(scopes, wanted, strict=False)
                return len(scopes) >= len(wanted) and all(_is_of(scope, part) for scope, part in near)
        return False

    def name(self, tensor: int) -> str:
        """Return a tensor's name."""
        name: bytes = self._graph.tensors[tensor].name
        return name.decode()

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape; a scalar's is empty."""
        shape = self._graph.tensors[tensor].shape
        return tuple(int(axis) for axis in shape) if shape is not None else ()

    def is_float(self, tensor: int) -> bool:
        """Return whether a tensor is float32."""
        return bool(self._graph.tensors[tensor].type == schema.TensorType.FLOAT32)

    def is_quantized(self) -> bool:
        """Return whether any tensor has a scale."""
        return any(has_scale(tensor) for tensor in self._graph.tensors)

    def has_integer_weights(self) -> bool:
        """Return whether any constant of two axes or more is s8."""
        tensors = enumerate(self._graph.tensors)
        s8 = [index for index, tensor in tensors if tensor.type == schema.TensorType.INT8 and has_scale(tensor)]
        return any(self.is_constant(index) and len(self.shape(index)) > 1 for index in s8)

    def is_constant(self, tensor: int) -> bool:
        """Return whether the file holds a tensor's values."""
        return self.model.buffers[self._graph.tensors[tensor].buffer].data is not None

    def constant(self, tensor: int) -> npt.NDArray[Any] | None:
        """Return what a float32 or int32 constant holds, as a copy; None for another tensor."""
        described = self._graph.tensors[tensor]
        dtype = _DTYPES.get(described.type)
        if dtype is None or not self.is_constant(tensor):
            return None
        return np.frombuffer(bytes(self.model.buffers[described.buffer].data), dtype).reshape(self.shape(tensor)).copy()

    def set_constant(self, tensor: int, values: npt.NDArray[Any]) -> None:
        """Give a constant other values, of its own type and shape; others that shared its buffer keep theirs."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self._graph.tensors[tensor].buffer = len(self.model.buffers) - 1

    def add_tensor(self, name: str, shape: Sequence[int], value: float | None = None) -> int:
        """Add a float32 tensor, full of ``value`` where it is a constant; return its index."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), schema.TensorType.FLOAT32, 0
        self._graph.tensors.append(tensor)
        index = len(self._graph.tensors) - 1
        if value is not None:
            self.set_constant(index, np.full(shape, value, np.float32))
        return index

    def operator(self, kind: str, inputs: Sequence[int], output: int, activation: int = NO_ACTIVATION) -> Any:
        """Return a new ADD or MUL, which has no place among the graph's operators yet."""
        made, options = schema.OperatorT(), {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}[kind]()
        options.fusedActivationFunction = activation
        made.opcodeIndex = self._opcode(getattr(schema.BuiltinOperator, kind))
        made.inputs, made.outputs = list(inputs), [output]
        made.builtinOptions = options
        made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind.capitalize()}Options")
        return made

    def _opcode(self, code: int) -> int:
        codes = self.model.operatorCodes
        for index, known in enumerate(codes):
            if flatbuffer_utils.get_builtin_code_from_operator_code(known) == code:
                return index
        made = schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = code
        made.version = 2  # the first with INT8
        codes.append(made)
        return len(codes) - 1
