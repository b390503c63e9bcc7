"""Operator times in LiteRT, those inside XNNPACK too: the profiler of its C library, through ctypes.

The Python interpreter has no profiler. The C library in the same ai-edge-litert wheel has one, and hands on what
XNNPACK times for each of its operators; both are built from the same kernels. The library comes without headers and
without a stable ABI: what is used here was tried on 2.3.0, and what does not look like it is refused.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Mapping, Sequence
from ctypes import byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from mobench.errors import SessionError
from mobench.records import Operator
from runners import litert
from runners.litert_c import MEND, Litert
from runners.profile.litert_graph import Event, operators_of

_WHAT = "per-operator times need ai-edge-litert 2.3 or newer"
_CPU = 1  # LiteRtHwAccelerators
_LOCK_WRITE = 1
_HOST_MEMORY = 1
# Types of events: a node that no delegate runs, and an operator inside a delegate (told in either of two ways).
_NODE, _INSIDE = 1 << 1, (1 << 2, 1 << 3)
_EVENT_TYPES = frozenset(1 << bit for bit in range(9))
_ROOM_BYTES = 256  # an event is 104 bytes in 2.3.0; a larger one of another version must not run over the end


class _Event(ctypes.Structure):
    """ProfiledEventData: label, type, microseconds, six figures of memory, the operator's index, and its source."""

    _fields_ = (
        ("label", c_char_p),
        ("type", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory", c_int64 * 6),
        ("index", c_uint64),
        ("subgraph", c_uint64),
        ("source", c_int),
    )


class _TensorType(ctypes.Structure):
    """LiteRtRankedTensorType: element type, rank in the low 7 bits of a word, axes, strides."""

    _fields_ = (("element", c_int), ("rank", c_int32), ("axes", c_int32 * 8), ("strides", c_int32 * 8))


class LitertProfiler:
    """The model, compiled a second time with the profiler on. It lives as long as its process."""

    source = "LiteRT's profiler, which asks XNNPACK for the times inside it"
    tick_ns = 1000  # both count whole microseconds

    def __init__(
        self, plain: Any, path: Path, *, threads: int, provider: str, batch: int, shape: tuple[int, ...]
    ) -> None:
        """Compile the model at the shapes of ``plain``, the one that is timed, which has settled batch and shape."""
        self._plain, self._path = plain, path
        lite = Litert(f"profile of {path.name}", _WHAT)
        self._call, self._new, self._add = lite.call, lite.new, lite.add_options
        self._config: dict[str, Any] = {"threads": threads, "batch": batch, "shape": shape}
        self.notes: tuple[str, ...] = ()
        self._environment = self._new("LiteRtCreateEnvironment", c_int(0), None)
        model = self._new("LiteRtCreateModelFromFile", self._environment, str(path).encode())
        options = self._new("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, c_int(_CPU))
        kernels = 'kernel_mode = "builtin"\n' if provider == "builtin" else ""
        self._add(options, b"xnnpack", f"num_threads = {threads}\n{kernels}")
        self._add(options, b"runtime_options_string", "enable_profiling = true\n")
        self._model = self._new("LiteRtCreateCompiledModel", self._environment, model, options)
        self._profiler = self._new("LiteRtCompiledModelGetProfiler", self._model)
        if not self._profiler:
            raise SessionError(_WHAT, "this build of LiteRT has no profiler", MEND)
        self._signature = self._new("LiteRtGetModelSignature", model, c_size_t(0))
        inputs = self._tensors("Input", plain.inputs)
        for index, (_, detail) in enumerate(inputs):
            axes = (c_int * len(detail["shape"]))(*detail["shape"])
            self._call("LiteRtCompiledModelResizeInputTensorNonStrict", self._model, c_size_t(0), c_size_t(index), axes,
                       c_size_t(len(axes)))  # fmt: skip
        self._input_order = [detail["name"] for _, detail in inputs]
        self._inputs = self._buffers(inputs)
        self._outputs = self._buffers(self._tensors("Output", plain.outputs))
        self._runs: list[list[Event]] = []

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays, in the order of the plain model's inputs, into this one's."""
        named = {detail["name"]: array for detail, array in zip(self._plain.inputs, arrays, strict=True)}
        for name, buffer in zip(self._input_order, self._inputs, strict=True):
            content, memory = np.ascontiguousarray(named[name]), c_void_p()
            self._call("LiteRtLockTensorBuffer", c_void_p(buffer), byref(memory), c_int(_LOCK_WRITE))
            ctypes.memmove(memory, content.ctypes.data, content.nbytes)
            self._call("LiteRtUnlockTensorBuffer", c_void_p(buffer))

    def invoke(self, keep: bool) -> int:
        """Run one inference and return its wall clock, ns; ``keep`` says whether its operators' times count."""
        self._call("LiteRtStartProfiler", self._profiler)
        counts = c_size_t(len(self._inputs)), c_size_t(len(self._outputs))
        start = time.perf_counter_ns()
        self._call(
            "LiteRtRunCompiledModel", self._model, c_size_t(0), counts[0], self._inputs, counts[1], self._outputs
        )
        took = time.perf_counter_ns() - start
        self._call("LiteRtStopProfiler", self._profiler)
        if keep:
            self._runs.append(self._events())
        self._call("LiteRtResetProfiler", self._profiler)
        return took

    def operators(self) -> list[Operator]:
        """Return the operators in the order they run, with their times in the runs that were kept.

        Raises:
            SessionError: the runs differ.
        """
        nodes, _ = self._plain.graph()
        # Within a delegate tensors keep the shapes of the file; without one they are those of this batch.
        _, tensors = litert.load(self._path, **self._config, provider="builtin").graph()
        found, self.notes = operators_of(self._runs, nodes, tensors, self._path.name)
        return found

    def _events(self) -> list[Event]:
        count = c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        if not count.value:
            return []
        room = ctypes.create_string_buffer(count.value * _ROOM_BYTES)
        self._call("LiteRtGetProfilerEvents", self._profiler, count, room)
        events = (_Event * count.value).from_buffer(room)
        # Before any label is followed: were an event of another size, its words would lie elsewhere.
        if any(event.type not in _EVENT_TYPES or not 0 <= event.source <= 2 for event in events):
            raise SessionError(
                _WHAT, "this version's events are laid out otherwise", "pip install ai-edge-litert==2.3.0"
            )
        return [
            Event(label=(event.label or b"").decode(), index=event.index, inside=event.type in _INSIDE,
                  ns=1000 * event.elapsed_us)
            for event in events if event.type in (_NODE, *_INSIDE)
        ]  # fmt: skip

    def _tensors(self, side: str, details: Sequence[Mapping[str, Any]]) -> list[tuple[c_void_p, Mapping[str, Any]]]:
        """Return the signature's inputs or outputs, each with the plain model's description of the same tensor."""
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", self._signature, byref(count))
        found, by_name = [], {detail["name"]: detail for detail in details}
        for index in range(count.value):
            tensor = self._new(f"LiteRtGetSignature{side}TensorByIndex", self._signature, c_size_t(index))
            name = c_char_p()
            self._call("LiteRtGetTensorName", tensor, byref(name))
            detail = by_name.get((name.value or b"").decode())
            if detail is None:
                raise SessionError(
                    f"profile of {self._path.name}", "its signature names other tensors than its graph", ""
                )
            found.append((tensor, detail))
        return found

    def _buffers(self, tensors: Sequence[tuple[c_void_p, Mapping[str, Any]]]) -> ctypes.Array[c_void_p]:
        buffers = (c_void_p * len(tensors))()
        for index, (tensor, detail) in enumerate(tensors):
            room = ctypes.create_string_buffer(_ROOM_BYTES)
            self._call("LiteRtGetRankedTensorType", tensor, room)
            kind, axes = _TensorType.from_buffer(room), detail["shape"]
            if kind.rank & 0x7F != len(axes):
                raise SessionError(
                    _WHAT, "this version describes tensors otherwise", "pip install ai-edge-litert==2.3.0"
                )
            kind.axes[: len(axes)] = axes
            # Not from the model's own requirements: those of an output do not follow a resized input.
            size = c_size_t(math.prod(axes) * np.dtype(detail["dtype"]).itemsize)
            buffer = self._new("LiteRtCreateManagedTensorBuffer", self._environment, c_int(_HOST_MEMORY), room, size)
            buffers[index] = buffer
        return buffers
