"""Reads an ONNX file's nodes and weights' shapes, and writes a one-operator file, without the onnx package.

An ONNX file is a protobuf (https://protobuf.dev/programming-guides/encoding); field numbers are those of onnx.proto.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# TensorProto.DataType: bytes an element; what is not here (strings, 4-bit types) counts as unknown.
_ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_FLOAT, _UINT8, _INT8 = 1, 2, 3
_SCOPES = "pkg.torch.onnx.name_scopes"  # torch's exporter notes each node's modules under this key


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node; ``scope`` is the module it was traced in, outermost first, where the file says so."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scope: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A constant: its shape, and its bytes (0 where the element type is none of the plain ones)."""

    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes in the file's order, and constants by name."""

    nodes: tuple[Node, ...]
    weights: Mapping[str, Weight]


def read(path: Path) -> Graph:
    """Read the main graph of an ONNX file. The weights' values are skipped, so that size costs little.

    Raises:
        ValueError: it is not a protobuf with a graph.
    """
    content = memoryview(path.read_bytes())
    graphs = [_graph(value) for number, value in _fields(content) if number == 7 and not isinstance(value, int)]
    if not graphs:
        raise ValueError(f"{path.name} holds no ONNX graph")
    return graphs[0]


def _graph(data: memoryview) -> Graph:
    nodes: list[Node] = []
    weights: dict[str, Weight] = {}
    for number, value in _fields(data):
        if isinstance(value, int):
            continue
        if number == 1:
            node, constant = _node(value)
            nodes.append(node)
            if constant is not None:
                weights[node.outputs[0]] = constant
        elif number == 5:
            name, weight = _tensor(value)
            weights[name] = weight
    return Graph(nodes=tuple(nodes), weights=weights)


def _node(data: memoryview) -> tuple[Node, Weight | None]:
    """Return a node, and its tensor where it is a Constant."""
    texts: dict[int, list[str]] = {number: [] for number in (1, 2, 3, 4, 7)}
    scope: tuple[str, ...] = ()
    constant = None
    for number, value in _fields(data):
        if isinstance(value, int):
            continue
        if number in texts:
            texts[number].append(str(value, "utf-8"))
        elif number == 5:
            for field, inner in _fields(value):
                if field == 5 and not isinstance(inner, int):
                    constant = _tensor(inner)[1]
        elif number == 9:
            entry = {f: str(v, "utf-8") for f, v in _fields(value) if not isinstance(v, int)}
            if entry.get(1) == _SCOPES:
                scope = _scope(entry.get(2, ""))
    op = "".join(texts[4])
    node = Node(
        name="".join(texts[3]),
        op=op,
        domain="".join(texts[7]),
        inputs=tuple(texts[1]),
        outputs=tuple(texts[2]),
        scope=scope,
    )
    return node, constant if op == "Constant" else None


def _scope(text: str) -> tuple[str, ...]:
    """Return the innermost module's path; torch lists the paths from the root ('') to the traced operation.

    >>> _scope("['', 'features', 'features.0', 'conv2d']")
    ('features', '0')
    """
    try:
        paths = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ()
    modules = [path for path in paths[:-1] if isinstance(path, str)] if isinstance(paths, list) else []
    return tuple(modules[-1].split(".")) if modules and modules[-1] else ()


def _tensor(data: memoryview) -> tuple[str, Weight]:
    name, dims, element = "", [], 0
    for number, value in _fields(data):
        if number == 1:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif number == 2 and isinstance(value, int):
            element = value
        elif number == 8 and not isinstance(value, int):
            name = str(value, "utf-8")
    return name, Weight(shape=tuple(dims), size_bytes=math.prod(dims) * _ELEMENT_BYTES.get(element, 0))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field's number and value: an int, or the bytes of anything longer."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"no protobuf: wire type {wire}")
        if at + size > len(data):
            raise ValueError("a protobuf that was cut off")
        yield tag >> 3, data[at : at + size]
        at += size


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("no protobuf: a number without end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def write_matmul(size: int, weights: bytes, *, int8: bool) -> bytes:
    """Return an ONNX file: [size, size] times constant weights of that shape, in FP32, or in u8 times s8.

    Args:
        size: rows and columns.
        weights: the values, row by row, as float32 or int8.
        int8: which of the two.
    """
    element = _UINT8 if int8 else _FLOAT
    constants = [_constant("w", _INT8 if int8 else _FLOAT, (size, size), weights)]
    inputs: Sequence[str] = ("x", "w")
    if int8:
        # 1.0f and the zero points 0: the arithmetic is what counts.
        constants += [_constant("scale", _FLOAT, (), b"\x00\x00\x80\x3f")]
        constants += [_constant("zero", _UINT8, (), b"\x00"), _constant("zero_w", _INT8, (), b"\x00")]
        inputs = ("x", "scale", "zero", "w", "scale", "zero_w", "scale", "zero")
    op = "QLinearMatMul" if int8 else "MatMul"
    node = b"".join(_field(1, name) for name in inputs) + _field(2, "y") + _field(3, "matmul") + _field(4, op)
    graph = _field(1, node) + _field(2, "mobench") + b"".join(_field(5, constant) for constant in constants)
    graph += _field(11, _value("x", element, size)) + _field(12, _value("y", element, size))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def _constant(name: str, element: int, shape: Sequence[int], values: bytes) -> bytes:
    return b"".join(_field(1, axis) for axis in shape) + _field(2, element) + _field(8, name) + _field(9, values)


def _value(name: str, element: int, size: int) -> bytes:
    shape = _field(1, _field(1, size)) * 2
    return _field(1, name) + _field(2, _field(1, _field(1, element) + _field(2, shape)))


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    content = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
