"""LiteRT (TensorFlow Lite) on the CPU through XNNPACK, behind the worker's Model interface."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobench.errors import MissingExtraError
from runners.shapes import settle

# The interpreter, under the names it has had: the package, its module.
_PACKAGES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}


_KERNELS = "built-in kernels"


def _interpreter() -> tuple[str, Any, Any]:
    for package, module in _PACKAGES.items():
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        return package, found.Interpreter, found.OpResolverType
    raise MissingExtraError("ai-edge-litert")


_PACKAGE, _Interpreter, _Resolver = _interpreter()


def versions() -> dict[str, str]:
    """Return the package that holds the interpreter, with its version."""
    version = getattr(sys.modules[_PACKAGES[_PACKAGE].partition(".")[0]], "__version__", None)
    if version is None:
        from importlib import metadata  # slow to import: a fifth of the time that starting a session takes

        version = metadata.version(_PACKAGE)
    return {_PACKAGE: version}


def load(path: Path, *, threads: int, provider: str, batch: int, shape: tuple[int, ...]) -> LitertModel:
    """Load a model, let XNNPACK (or, asked for ``builtin``, nothing) take what it can, and allocate its tensors."""
    return LitertModel(path, threads, provider, batch, shape)


class LitertModel:
    """A model in an Interpreter."""

    def __init__(self, path: Path, threads: int, provider: str, batch: int, shape: tuple[int, ...]) -> None:
        self.asked = _KERNELS if provider == "builtin" else "XNNPACK"
        resolver = _Resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES if provider == "builtin" else _Resolver.AUTO
        self._interpreter = _Interpreter(
            model_path=str(path), num_threads=threads, experimental_op_resolver_type=resolver
        )
        for index, detail in enumerate(self._interpreter.get_input_details()):
            # The interpreter loads an open axis (-1 in the signature) as 1, and would run a photograph of one pixel.
            axes = [None if axis < 0 else int(axis) for axis in detail["shape_signature"]]
            if batch != 1 and axes:
                axes[0] = None  # the interpreter resizes a fixed axis too, where the model's reshapes allow it
            settled = settle(detail["name"], axes, shape if index == 0 else (), batch)
            if settled != [int(axis) for axis in detail["shape"]]:
                self._interpreter.resize_tensor_input(detail["index"], settled)
        self._interpreter.allocate_tensors()
        self._input_details = self._interpreter.get_input_details()
        self.inputs = [_describe(detail) for detail in self._input_details]
        operators = self._interpreter._get_ops_details()
        self.nodes_delegated, self.nodes_total, self.not_delegated = count_delegated(operators)
        self.got = "XNNPACK" if self.nodes_delegated else _KERNELS
        # Nothing of ours stands between the worker's clock and the interpreter.
        self.invoke: Callable[[], None] = self._interpreter.invoke

    @property
    def outputs(self) -> list[Mapping[str, Any]]:
        """Describe the outputs."""
        return [_describe(detail) for detail in self._interpreter.get_output_details()]

    def graph(self) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
        """Return the nodes as the interpreter lists them, DELEGATE nodes last, and the tensors by index."""
        tensors = {int(detail["index"]): detail for detail in self._interpreter.get_tensor_details()}
        return list(self._interpreter._get_ops_details()), tensors

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays into the input tensors."""
        for detail, array in zip(self._input_details, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)

    def output(self) -> np.ndarray:
        """Return a copy of the first output."""
        first: np.ndarray = self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])
        return first


def count_delegated(operators: Sequence[Mapping[str, Any]]) -> tuple[int, int, dict[str, int]]:
    """Return how many of a graph's nodes a delegate runs, how many there are, and what the others are, counted by name.

    The interpreter lists the original nodes and, behind them, a DELEGATE node for each partition that names only the
    tensors at its border. What lies between a DELEGATE's outputs and its inputs is what it replaced.

    >>> conv = {"op_name": "CONV_2D", "inputs": [0, 9], "outputs": [1]}
    >>> custom = {"op_name": "CUSTOM", "inputs": [1], "outputs": [2]}
    >>> count_delegated([conv, custom, {"op_name": "DELEGATE", "inputs": [0, 9], "outputs": [1]}])
    (1, 2, {'CUSTOM': 1})
    """
    nodes = [op for op in operators if op["op_name"] != "DELEGATE"]
    producer = {int(tensor): index for index, op in enumerate(nodes) for tensor in op["outputs"]}
    replaced: set[int] = set()
    for delegate in operators:
        if delegate["op_name"] != "DELEGATE":
            continue
        border = {int(tensor) for tensor in delegate["inputs"]}
        pending = [int(tensor) for tensor in delegate["outputs"]]
        while pending:
            index = producer.get(pending.pop())
            if index is None or index in replaced:
                continue
            replaced.add(index)
            pending += [int(tensor) for tensor in nodes[index]["inputs"] if int(tensor) not in border]
    left = Counter(str(node["op_name"]) for index, node in enumerate(nodes) if index not in replaced)
    return len(replaced), len(nodes), dict(left)


def _describe(detail: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": detail["name"],
        "shape": [int(d) for d in detail["shape"]],
        "dtype": np.dtype(detail["dtype"]).name,
    }
    scale, zero_point = detail["quantization"]
    if scale:
        described |= {"scale": float(scale), "zero_point": int(zero_point)}
    return described
