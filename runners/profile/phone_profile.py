"""Turns a phone's own account of a profiled model into operators, beside the model's file on this machine.

The harness has no words for graphs: it hands back ONNX Runtime's trace, or LiteRT's events. What each operator is comes
from the file, which is the same on both machines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobench.errors import MobenchError, SessionError
from mobench.records import Operator, Profile, Ready
from runners.profile import onnx_graph, ort_trace

TICK_NS = 1000  # both runtimes count whole microseconds
_ORT = "ONNX Runtime's own trace"
_XNNPACK = "LiteRT's profiler, which asks XNNPACK for the times inside it"
_GPU = "LiteRT's profiler, which asks its GPU accelerator"
_ON_GPU = "the GPU accelerator's operators bear its own names: their MACs, bytes and blocks are unknown"


def read(
    message: Mapping[str, Any],
    path: Path,
    ready: Ready,
    *,
    turns: int,
    lead_in: int,
    timed: int,
    batch: int,
    shape: tuple[int, ...],
    fetch: Callable[[str], Path],
) -> Profile:
    """Return the profile that the harness's ``profile`` message tells of (android_harness/PROTOCOL.md).

    Args:
        message: the answer.
        path: the model's file on this machine.
        ready: what the session said of its model.
        turns: as asked, and
        lead_in: untimed and
        timed: timed inferences of each.
        batch: of the session.
        shape: of the first input, where the file leaves it open.
        fetch: brings a file of the phone here, by its path there.

    Raises:
        LinkError: the phone is out of reach.
        SessionError: the account does not fit what was asked, or cannot be read.
    """
    try:
        plain, profiled = tuple(message["plain_ns"]), tuple(message["profiled_ns"])
        if len(plain) != turns * timed or len(profiled) != turns * timed:
            raise SessionError(f"profile of {path.name}", f"{len(profiled)} inferences came", "run again")
        notes: tuple[str, ...] = ()
        if "trace" in message:
            kept = [False] * message["warm_up"] + turns * ([False] * lead_in + [True] * timed)
            found, source = _of_trace(message, path, kept, fetch), _ORT
        else:
            gpu = ready.asked.startswith("GPU")
            found, notes = _of_events(message["events"], path, ready, batch=batch, shape=shape, gpu=gpu)
            source = _GPU if gpu else _XNNPACK
    except (KeyError, TypeError) as error:
        why = f"a profile message that does not fit ({error})"
        raise SessionError("session protocol", why, "update both") from error
    if any(len(operator.ns) != len(profiled) for operator in found):
        raise SessionError(f"profile of {path.name}", "its operators are of other inferences", "run again")
    return Profile(
        source=source, tick_ns=TICK_NS, plain_ns=plain, profiled_ns=profiled, operators=tuple(found), notes=notes
    )


def _of_trace(
    message: Mapping[str, Any], path: Path, kept: Sequence[bool], fetch: Callable[[str], Path]
) -> list[Operator]:
    trace, optimised = fetch(message["trace"]), fetch(message["optimised"])
    try:
        events = json.loads(trace.read_text(encoding="utf-8"))
        graphs = onnx_graph.read(optimised), onnx_graph.read(path)
    except (OSError, ValueError) as error:  # a full phone, above all
        raise SessionError(f"profile of {path.name}", str(error), "make room on the phone") from error
    return ort_trace.operators_of(events, kept, *graphs, path.name)


def _of_events(
    events: Sequence[Mapping[str, Any]], path: Path, ready: Ready, *, batch: int, shape: tuple[int, ...], gpu: bool
) -> tuple[list[Operator], tuple[str, ...]]:
    if gpu:
        if not all(event["inside"] for event in events):  # the whole of it, or what its queue took
            why = "the GPU accelerator tells no times inside it"
            raise SessionError(f"profile of {path.name}", why, "profile it on the CPU")
        return [_nameless(event, position) for position, event in enumerate(events)], (_ON_GPU,)
    try:
        # Heavy, and not there on every machine that has a phone.
        from runners import litert
        from runners.profile.litert_graph import Event, operators_of

        nodes, _ = litert.load(path, threads=1, provider="", batch=batch, shape=shape).graph()
        # Within a delegate tensors keep the shapes of the file; without one they are those of this batch.
        _, tensors = litert.load(path, threads=1, provider="builtin", batch=batch, shape=shape).graph()
    except (MobenchError, ValueError, RuntimeError) as error:  # the interpreter raises either of the two
        why = f"MACs and blocks are unknown: the graph cannot be read on this machine ({error})"
        return [_nameless(event, position) for position, event in enumerate(events)], (why,)
    here, total, _ = litert.count_delegated(nodes)
    notes: tuple[str, ...] = ()
    if (ready.nodes_delegated, ready.nodes_total) != (here, total):
        # Partitions are known from this machine's XNNPACK alone: where the phone's takes other nodes, none is known.
        nodes = [node for node in nodes if node["op_name"] != "DELEGATE"]
        notes = (f"XNNPACK takes {ready.nodes_delegated} of {ready.nodes_total} nodes there, {here} of {total} here",)
    if any(not event["inside"] and event["index"] >= total for event in events):
        raise SessionError(f"profile of {path.name}", "it tells of nodes that the file has not", "run again")
    runs = [
        [
            Event(label=event["label"], index=event["index"], inside=event["inside"], ns=ns)
            for event, ns in zip(events, run, strict=True)
        ]
        for run in zip(*(event["ns"] for event in events), strict=True)
    ]
    found, said = operators_of(runs, nodes, tensors, path.name)
    return found, (*notes, *said)


def _nameless(event: Mapping[str, Any], position: int) -> Operator:
    """Return an operator of which only the runtime's name for it is known."""
    label = str(event["label"])
    return Operator(
        name=f"{label.partition(' (')[0].lower()} {position}",
        kind=label.partition(" (")[0],
        kernel=label,
        path=(),
        precision="",
        macs=None,
        moved_bytes=None,
        ns=tuple(event["ns"]),
    )
