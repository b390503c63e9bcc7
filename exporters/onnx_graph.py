"""An ONNX file's main graph as something that can be changed: who makes and who reads a tensor, constants as arrays."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})  # operators that have weights


class Graph:
    """The main graph of an ONNX model, changed in place; a tensor is told by its name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self.nodes = model.graph.node
        self.inputs = {value.name for value in model.graph.input}
        self.outputs = {value.name for value in model.graph.output}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in self.nodes for name in node.output}
        self._readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self._readers[name].append(node)
        known = {
            value.name: value.type.tensor_type
            for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        self._shapes = {
            name: tuple(axis.dim_value or None for axis in type_.shape.dim) for name, type_ in known.items()
        }
        self._floats = {name for name, type_ in known.items() if type_.elem_type == TensorProto.FLOAT}

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor; None for a constant and an input."""
        return self._makers.get(tensor)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, one that reads it twice twice."""
        return self._readers[tensor]

    def computed(self, node: onnx.NodeProto) -> list[str]:
        """Return a node's inputs and outputs but its constants."""
        return [name for name in (*node.input, *node.output) if name and name not in self._constants]

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Return a tensor's shape as the file says it, open axes None; None where it does not."""
        return self._shapes.get(tensor)

    def float_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the shapes of all float32 tensors that nodes compute or read, as far as the file says them."""
        names = dict.fromkeys(name for node in self.nodes for name in self.computed(node))
        return {name: self._shapes[name] for name in names if name in self._floats}

    def constant(self, tensor: str) -> npt.NDArray[Any] | None:
        """Return what a constant holds; None for another tensor."""
        found = self._constants.get(tensor)
        return None if found is None else numpy_helper.to_array(found)

    def set_constant(self, tensor: str, values: npt.NDArray[Any]) -> str:
        """Give a constant other values, or add one; return its name."""
        if tensor not in self._constants:
            self._constants[tensor] = self._graph.initializer.add()
        self._constants[tensor].CopyFrom(numpy_helper.from_array(np.array(values, order="C"), tensor))
        return tensor

    def insert(self, node: onnx.NodeProto, *, before: onnx.NodeProto) -> None:
        """Insert a node."""
        place = next(place for place, each in enumerate(self.nodes) if each.output == before.output)
        self.nodes.insert(place, node)
        node = self.nodes[place]  # the graph's own copy
        self._makers |= dict.fromkeys(node.output, node)
        for name in node.input:
            self._readers[name].append(node)

    def remove_unused(self) -> None:
        """Remove nodes and constants that nothing reads, and the shapes, which a change may have made wrong.

        It is the last change: what this object knows of readers is not true any more.
        """
        used = set(self.outputs)
        for node in reversed(list(self.nodes)):
            if used.intersection(node.output):
                used.update(node.input)
            else:
                self.nodes.remove(node)
        for name, tensor in self._constants.items():
            if name not in used:
                self._graph.initializer.remove(tensor)
        del self._graph.value_info[:]


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node, or the default where it has none of that name."""
    found = next((each for each in node.attribute if each.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def has_branches(model: onnx.ModelProto) -> bool:
    """Return whether a node holds a graph of its own (If, Loop), whose reading of the main one `Graph` does not see."""
    return any(each.type in (each.GRAPH, each.GRAPHS) for node in model.graph.node for each in node.attribute)
