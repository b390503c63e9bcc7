"""Turns ONNX Runtime's trace into operators: what each is, from the optimised graph and the file's own. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobench.errors import SessionError
from mobench.records import Operator
from runners.profile.onnx_graph import Graph, Node

_KERNEL = "_kernel_time"  # what the trace adds to a node's name; older versions also trace fences
_CONTROL = frozenset({"If", "Loop", "Scan"})  # their time holds that of the nodes in their bodies
_NCHWC = "com.microsoft.nchwc"  # channels in blocks of 8 or 16, weights and outputs padded to whole blocks
# Operator: its weights' position among the inputs. A convolution's are [out, in / groups, height, width].
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = {
    **{"Gemm": 1, "FusedGemm": 1, "MatMul": 1, "FusedMatMul": 1, "MatMulInteger": 1, "DynamicQuantizeMatMul": 1},
    **{"QGemm": 3, "QLinearMatMul": 3},
}
# They multiply too, in ways that are not counted here.
_UNCOUNTED = frozenset(
    {"Attention", "ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM", "MatMulNBits", "MultiHeadAttention", "RNN",
     "QAttention", *_CONTROL}
)  # fmt: skip
_PRECISIONS = {"float": "fp32", "float16": "fp16", "uint8": "int8", "int8": "int8"}
_PARAMETER = re.compile(r"^(.+)\.(?:weight|bias)(?:[._]|$)")  # torch's name of a parameter, and what quantizers add

Shape = tuple[int, ...]
Event = Mapping[str, Any]


def operators_of(
    events: Sequence[Event], kept: Sequence[bool], optimised: Graph, original: Graph, label: str
) -> list[Operator]:
    """Return a trace's operators, in the order they ran, with their times in the runs that are kept.

    Args:
        events: the trace as ONNX Runtime writes it (Chrome's trace-event format, microseconds).
        kept: for each run in the trace, whether it counts.
        optimised: the graph that ran.
        original: the file's own graph.
        label: what errors call the model.

    Raises:
        SessionError: the trace does not hold those runs, or the runs differ.
    """
    runs = _runs(events)
    chosen = [run for run, keep in zip(runs, kept, strict=False) if keep]
    names = [[event["name"] for event in run] for run in chosen]
    if len(runs) != len(kept) or any(other != names[0] for other in names):
        why = f"its trace holds {len(runs)} of {len(kept)} runs, or they differ"
        raise SessionError(f"profile of {label}", why, "give a smaller --budget")
    find, join = _finder(optimised), _joiner(original)
    found = []
    for index, event in enumerate(chosen[0] if chosen else ()):
        name, args = str(event["name"]).removesuffix(_KERNEL), event["args"]
        node = find(name, str(args.get("op_name", "")))
        old = join(node) if node is not None else None
        ns = tuple(1000 * int(run[index]["dur"]) for run in chosen)
        found.append(_operator(name, args, node, old, optimised, original, ns))
    return found


def _runs(events: Sequence[Event]) -> list[list[Event]]:
    """Return the node events of each run. The trace holds an event when it ends: a run's own follows its nodes'."""
    runs: list[list[Event]] = []
    current: list[Event] = []
    for event in events:
        if event.get("name") == "model_run":
            runs.append(current)
            current = []
        elif event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL):
            if event["args"].get("op_name") in _CONTROL:
                while current and current[-1]["ts"] >= event["ts"]:
                    current.pop()
            current.append(event)
    return runs


def _finder(graph: Graph) -> Callable[[str, str], Node | None]:
    """Return a function from a traced name and operator to the optimised node; nameless nodes come by their order."""
    named = {node.name: node for node in graph.nodes if node.name}
    nameless: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if not node.name:
            nameless.setdefault(node.op, []).append(node)

    def find(name: str, op: str) -> Node | None:
        if name in named:
            return named[name]
        waiting = nameless.get(op)
        return waiting.pop(0) if waiting else None

    return find


def _joiner(graph: Graph) -> Callable[[Node], Node | None]:
    """Return a function from an optimised node to the node of the file it was made from.

    ONNX Runtime names the new node after the old one (``conv_token_3``), or after the value it writes
    (``relu_1_nchwc``), which may be that of an activation fused behind it.
    """
    by_name = {node.name: node for node in graph.nodes}
    writer = {value: node for node in graph.nodes for value in node.outputs}

    def join(node: Node) -> Node | None:
        base = re.sub(r"_token_\d+$", "", node.name).removesuffix("_nchwc")
        old = by_name.get(base) or writer.get(base)
        wanted = re.sub("^(NhwcFused|Fused|QLinear|Q)(?=[A-Z])", "", node.op)
        while old is not None and old.op != wanted:
            old = next((writer[value] for value in old.inputs if value in writer), None)
        return old

    return join


def _operator(
    name: str, args: Mapping[str, Any], node: Node | None, old: Node | None, optimised: Graph, original: Graph,
    ns: tuple[int, ...],
) -> Operator:  # fmt: skip
    op = str(args.get("op_name", "")) or (node.op if node else name)
    domain = node.domain if node else ""
    inputs = [(kind, tuple(shape)) for entry in args.get("input_type_shape", ()) for kind, shape in entry.items()]
    outputs = [tuple(shape) for entry in args.get("output_type_shape", ()) for shape in entry.values()]
    place = {**_CONVOLUTIONS, **_PRODUCTS}.get(op)
    weights: Shape = ()
    if place is not None and domain == _NCHWC and old is not None:
        weights = _constant(old, 1, original)
    if place is not None and node is not None and not weights:
        weights = _constant(node, place, optimised)
    kind = op
    if op in _CONVOLUTIONS and len(weights) > 2:
        depthwise = "depthwise " if weights[1] == 1 and weights[0] > 1 else ""
        kind = f"{op} {depthwise}{'x'.join(map(str, weights[2:]))}"
    return Operator(
        name=name,
        kind=kind,
        kernel=f"{op} of {domain}" if domain else op,
        path=_path(node, old),
        precision=_PRECISIONS.get(inputs[0][0], inputs[0][0]) if inputs else "",
        macs=_macs(op, domain, weights, [shape for _, shape in inputs], outputs),
        moved_bytes=_moved_bytes(args, node, optimised),
        ns=ns,
    )


def _constant(node: Node, place: int, graph: Graph) -> Shape:
    """Return the shape of a node's constant input; a quantized file's weights lie behind one DequantizeLinear."""
    value = node.inputs[place] if place < len(node.inputs) else ""
    if value not in graph.weights:
        before = next((other for other in graph.nodes if value in other.outputs), None)
        value = before.inputs[0] if before is not None and before.inputs else ""
    return graph.weights[value].shape if value in graph.weights else ()


def _macs(op: str, domain: str, weights: Shape, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int | None:
    """Count multiply-accumulates from the weights' and the traced shapes; None where that is not enough."""
    if op in _UNCOUNTED:
        return None
    if op not in _CONVOLUTIONS and op not in _PRODUCTS:
        return 0
    if not outputs or not outputs[0] or not math.prod(outputs[0]):
        return None
    written = math.prod(outputs[0])
    if op in _CONVOLUTIONS:
        channels = outputs[0][1] if domain == _NCHWC else weights[0] if weights else 0
        return written // channels * math.prod(weights) if channels and weights else None
    if len(weights) == 2:
        return written // outputs[0][-1] * math.prod(weights)
    return written * inputs[0][-1] if inputs and inputs[0] else None


def _moved_bytes(args: Mapping[str, Any], node: Node | None, optimised: Graph) -> int | None:
    """Return the bytes of inputs, weights and outputs as they lie in memory, each once."""
    if "activation_size" not in args or "output_size" not in args:
        return None
    held = sum(optimised.weights[v].size_bytes for v in (node.inputs if node else ()) if v in optimised.weights)
    # Weights that a kernel packed when it was loaded are missing from the trace's own figure.
    return int(args["activation_size"]) + int(args["output_size"]) + max(held, int(args.get("parameter_size", 0)))


def _path(node: Node | None, old: Node | None) -> tuple[str, ...]:
    """Return the module a node was traced in: noted by torch, or in its parameters' names, or in its own name."""
    if old is not None and old.scope:
        return old.scope
    for one in (node, old):
        for value in one.inputs if one is not None else ():
            owner = _PARAMETER.match(value)
            if owner:
                # The owner is a leaf, the convolution itself; what it belongs to is a level up.
                parts = tuple(owner[1].split("."))
                return parts[:-1] or parts
    name = old.name if old is not None else node.name if node is not None else ""
    scopes = [part for part in name.split("/") if part][:-1]
    # The first exporter of torch repeats a container's name: /features/features.2/conv/conv.0/Conv.
    inner = [part for part, after in itertools.zip_longest(scopes, scopes[1:], fillvalue="")
             if not after.startswith(f"{part}.")]  # fmt: skip
    return tuple(piece for part in inner for piece in part.split("."))
