"""Turns LiteRT's profile events into operators: what each is, from the graph as the interpreter lists it. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobench.errors import SessionError
from mobench.records import Operator
from runners.profile.xnnpack_match import family, match, multiplies, partitions

# They multiply too, in ways that are not counted here.
_UNCOUNTED = frozenset(
    {"CONV_3D", "CONV_3D_TRANSPOSE", "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "CUSTOM", "IF", "WHILE",
     "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "STABLEHLO_COMPOSITE"}
)  # fmt: skip
# Their output may bear the name of an activation that is fused behind them; their weights bear their own.
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "uint8": "int8", "int8": "int8"}
# litert_torch names a tensor by the modules it was traced in: mobench.zoo.blocks.ConvBN_0/torch.nn....Conv2d_conv;
_MODULE = re.compile(r"^(.*\.)?(_*[^_.]+)_(.+)$")

Node = Mapping[str, Any]
Tensor = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A timed node (``index`` is the graph's) or, ``inside`` a delegate, one of its operators (the delegate's own)."""

    label: str
    index: int
    inside: bool
    ns: int


def operators_of(
    runs: Sequence[Sequence[Event]], listed: Sequence[Node], tensors: Mapping[int, Tensor], label: str
) -> tuple[list[Operator], tuple[str, ...]]:
    """Return the operators in the order they ran, with their times, and notes on what could not be told.

    Args:
        runs: each run's events.
        listed: the nodes as the interpreter lists them, DELEGATE nodes behind the others.
        tensors: the tensors' details by index, at the shapes that ran.
        label: what errors call the model.

    Raises:
        SessionError: the runs differ.
    """
    if any([e.label for e in run] != [e.label for e in runs[0]] for run in runs):
        raise SessionError(f"profile of {label}", "its runs hold different operators", "profile again")
    first = runs[0] if runs else ()
    nodes = [node for node in listed if node["op_name"] != "DELEGATE"]
    places = _places(first, nodes, partitions(listed))
    written = {int(tensor) for node in nodes for tensor in node["outputs"]}
    fused = _passed_through(nodes, {place for place in places if place is not None}, tensors)
    found = []
    for position, (event, place) in enumerate(zip(first, places, strict=True)):
        ns = tuple(run[position].ns for run in runs)
        if place is None:
            found.append(_stranger(event, position, ns))
        else:
            found.append(_operator(event, nodes[place], place, tensors, fused, written, ns))
    strangers = sum(place is None and multiplies(event.label) for event, place in zip(first, places, strict=True))
    note = f"{strangers} operators of XNNPACK could not be told apart: their MACs and blocks are unknown"
    return found, (note,) if strangers else ()


def _places(events: Sequence[Event], nodes: Sequence[Node], parts: Sequence[Sequence[int]]) -> list[int | None]:
    """Return each event's node. A delegate counts its operators from 0, so each 0 begins the next partition."""
    segments: list[list[int]] = []
    for position, event in enumerate(events):
        if event.inside:
            if event.index == 0 or not segments:
                segments.append([])
            segments[-1].append(position)
    places: list[int | None] = [None if event.inside else event.index for event in events]
    if len(segments) != len(parts):
        return places
    for segment, part in zip(segments, parts, strict=True):
        kernels = [events[position].label for position in segment]
        for position, chosen in zip(segment, match(kernels, [nodes[i]["op_name"] for i in part]), strict=True):
            places[position] = None if chosen is None else part[chosen]
    return places


def _passed_through(nodes: Sequence[Node], timed: set[int], tensors: Mapping[int, Tensor]) -> dict[int, int]:
    """Return, for what a node without an operator of its own writes, what it reads: a fused PAD moves no bytes.

    A conversion is not passed through: weights that were widened when the model was loaded are read wide.
    """
    through: dict[int, int] = {}
    for index, node in enumerate(nodes):
        if index in timed or not len(node["inputs"]) or not len(node["outputs"]):
            continue
        source, sink = int(node["inputs"][0]), int(node["outputs"][0])
        if source in tensors and sink in tensors and tensors[source]["dtype"] == tensors[sink]["dtype"]:
            through[sink] = through.get(source, source)
    return through


def _stranger(event: Event, position: int, ns: tuple[int, ...]) -> Operator:
    return Operator(
        name=f"xnnpack {position}",
        kind=family(event.label),
        kernel=event.label,
        path=(),
        precision="",
        macs=None if multiplies(event.label) else 0,
        moved_bytes=None,
        ns=ns,
    )


def _operator(
    event: Event, node: Node, place: int, tensors: Mapping[int, Tensor], through: Mapping[int, int], made: set[int],
    ns: tuple[int, ...],
) -> Operator:  # fmt: skip
    op = str(node["op_name"])
    written = [tensors[int(i)] for i in node["outputs"] if int(i) in tensors]
    read = [tensors[i] for i in (through.get(int(i), int(i)) for i in node["inputs"]) if i in tensors]
    data, weights = _shape(read, 0), _shape(read, 1)
    own = [tensors[int(i)] for i in node["inputs"][1:]
           if int(i) in tensors and (op in _WEIGHTED or int(i) not in made)]  # fmt: skip
    known = [tensor for tensor in (*read, *written) if _bytes(tensor) is not None]
    kind = op
    if op in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV") and len(weights) == 4:
        kind = f"{op} {weights[1]}x{weights[2]}"
    return Operator(
        name=f"{op.lower()} {place}",
        kind=kind,
        kernel=event.label if event.inside else "built-in kernel",
        path=_path([*own, *written] if op in _WEIGHTED else [*written, *own]),
        precision=_PRECISIONS.get(np.dtype(read[0]["dtype"]).name, np.dtype(read[0]["dtype"]).name) if read else "",
        macs=_macs(op, data, weights, _shape(written, 0), read),
        moved_bytes=sum(_bytes(tensor) or 0 for tensor in known) if len(known) == len(read) + len(written) else None,
        ns=ns,
    )


def _shape(tensors: Sequence[Tensor], position: int) -> tuple[int, ...]:
    return tuple(int(axis) for axis in tensors[position]["shape"]) if position < len(tensors) else ()


def _bytes(tensor: Tensor) -> int | None:
    dtype = np.dtype(tensor["dtype"])
    return math.prod(int(axis) for axis in tensor["shape"]) * dtype.itemsize if dtype.kind in "fiub" else None


def _macs(
    op: str, data: Sequence[int], weights: Sequence[int], written: Sequence[int], read: Sequence[Tensor]
) -> int | None:
    """Count multiply-accumulates; weights lie as [out, height, width, in], depthwise ones [1, height, width, out]."""
    if op in _UNCOUNTED:
        return None
    if op in ("CONV_2D", "FULLY_CONNECTED"):
        return math.prod(written) * math.prod(weights[1:]) if len(weights) > 1 else None
    if op == "DEPTHWISE_CONV_2D":
        return math.prod(written) * math.prod(weights[1:3]) if len(weights) == 4 else None
    if op == "TRANSPOSE_CONV":  # its inputs are the output's shape, the weights and the data
        channels = int(weights[3]) if len(weights) == 4 else 0
        return math.prod(_shape(read, 2)) // channels * math.prod(weights) if channels and len(read) > 2 else None
    if op == "BATCH_MATMUL":
        # Either may be transposed; what is summed over is what the data has and the result has not.
        rows = math.prod(written[:-1])
        return math.prod(data) // rows * math.prod(written) if data and rows and math.prod(data) % rows == 0 else None
    return 0


def _path(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    """Return the module the first of the tensors that says so was made in."""
    for tensor in tensors:
        # A fused operator bears all its parts' names, its own first.
        first = next((part for part in str(tensor["name"]).split(";") if part), "")
        scopes = [scope for scope in first.split("/") if scope]
        if len(scopes) > 1:
            return _modules(scopes)
    return ()


def _modules(scopes: Sequence[str]) -> tuple[str, ...]:
    """Turn the parts of a tensor's name into a module path without the leaf, which is the operator itself.

    >>> _modules(["x.ChannelLastIOWrapper", "torch.nn.Sequential_wrapped", "x.ConvBN_0", "torch.nn.Conv2d_conv"])
    ('0',)
    >>> _modules(["MobilenetV2", "expanded_conv_15", "add"])
    ('MobilenetV2', 'expanded_conv_15')
    """
    if not any("." in scope for scope in scopes):
        return tuple(scopes[:-1])
    named = [match_ for scope in scopes[1:] if (match_ := _MODULE.match(scope))]
    if named and scopes[0].endswith("ChannelLastIOWrapper"):
        named = named[1:]  # what litert_torch.to_channel_last_io wraps
    attributes = [match_[3] for match_ in named]
    leaf = bool(named) and (named[-1][1] or "").startswith("torch.nn.")
    return tuple(attributes[:-1] or attributes) if leaf else tuple(attributes)
