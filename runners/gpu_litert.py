"""LiteRT on a desktop's GPU: its CompiledModel C API, as the phones' harness uses it (android_harness/litert.c).

The GPU is asked for alone: with the CPU beside it a missing accelerator would run on the CPU and call itself fully
accelerated. With ``partial`` both are asked for, and only where an accelerator is there.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_bool, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from mobench.errors import SessionError
from runners.gpu_session import COPIED, READ_BACK, SHOWN, GpuAsked, refuse_broken
from runners.litert import versions
from runners.litert_c import MEND, Litert, LitertError, folders
from runners.printed import Printed
from runners.shapes import settle

__all__ = ["LitertGpuModel", "load", "versions"]
_CPU, _GPU = 1, 2  # LiteRtHwAccelerators
_REGISTER, _RUNTIME_FOLDER = 24, 22  # of an environment's options
_INTEGER, _STRING = 2, 8  # how an option's value is held
_READ, _WRITE = 0, 1
_PER_TENSOR = 1
_NOT_COMPILED = 504  # the status of a graph that the accelerator does not take whole
_PRECISIONS = {"gpu-fp16": 1, "gpu-fp32": 2}  # as the accelerator's options number them
_DTYPES = {
    **{1: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 8: "complex64", 9: "int8"},
    **{10: "float16", 11: "float64", 13: "uint64", 16: "uint32", 17: "uint16"},
}
_LIST = re.compile(r"not supported by GPU delegate:\n(?P<operators>.*?)\n?(?P<taken>\d+|No) operations will run on the"
                   r" GPU, and (?:the remaining|all) (?P<left>\d+)", re.DOTALL)  # fmt: skip
_ADAPTER = re.compile(r"Selected adapter: (?P<name>[^,\n]+)(?P<rest>[^\n]*)")
_ERRORS = re.compile(r"^(?:ERROR|E\d)[^\n]*", re.MULTILINE)


class _Value(ctypes.Union):
    _fields_ = (("integer", c_int64), ("string", c_char_p))


class _Any(ctypes.Structure):
    _fields_ = (("kind", c_int), ("value", _Value))


class _Option(ctypes.Structure):
    _fields_ = (("tag", c_int), ("any", _Any))


class _Layout(ctypes.Structure):
    """Rank in the low 7 bits of a word; axes, less than 0 where open; strides."""

    _fields_ = (("rank", c_uint32), ("axes", c_int32 * 8), ("strides", c_uint32 * 8))


class _TensorType(ctypes.Structure):
    _fields_ = (("element", c_int), ("layout", _Layout))


class _Quantization(ctypes.Structure):
    _fields_ = (("scale", c_float), ("zero_point", c_int64))


def load(
    path: Path, *, threads: int, provider: str, batch: int, shape: tuple[int, ...], gpu: GpuAsked
) -> LitertGpuModel:
    """Compile a model for the GPU and make its buffers."""
    return LitertGpuModel(path, threads, provider, batch, shape, gpu)


class LitertGpuModel:
    """A compiled model. ``invoke`` returns when its outputs can be read: `Run` alone may only fill a queue."""

    def __init__(
        self, path: Path, threads: int, provider: str, batch: int, shape: tuple[int, ...], gpu: GpuAsked
    ) -> None:
        self.asked, self._path, self._gpu = provider.replace("gpu-", "GPU "), path, gpu
        self._provider, self._threads = provider, threads
        self._printed = printed = Printed()
        self._lite = Litert(f"{path.name} on {self.asked}", "LiteRT's GPU needs ai-edge-litert 2.3 or newer")
        try:
            self._compile(printed, batch, shape)
        except LitertError as error:
            raise _explain(path.name, error, printed.text()) from error
        name = _ADAPTER.search(printed.text())
        self.got = f"{self._accelerator} {provider.removeprefix('gpu-')}"
        if name:
            software = ", in software" if "adapterType=CPU" in name["rest"] else ""
            self.got += f" on {name['name']}{software}"
        self.invoke: Callable[[], None] = self._invoke_with_copies if gpu.io == "host" else self._invoke

    def _compile(self, printed: Printed, batch: int, shape: tuple[int, ...]) -> None:
        lite = self._lite
        self._environment = self._new_environment()
        self._accelerator = self._find_accelerator()
        self._file = lite.new("LiteRtCreateModelFromFile", self._environment, str(self._path).encode())
        options = lite.new("LiteRtCreateOptions")
        hardware = _GPU | _CPU if self._gpu.partial else _GPU
        lite.call("LiteRtSetOptionsHardwareAccelerators", options, c_int(hardware))
        lite.add_options(options, b"xnnpack", f"num_threads = {self._threads}\n")
        lite.add_options(options, b"gpu_options", f"precision = {_PRECISIONS[self._provider]}\n")
        self._model = lite.new("LiteRtCreateCompiledModel", self._environment, self._file, options)
        self._signature = lite.new("LiteRtGetModelSignature", self._file, c_size_t(0))
        self._count_nodes(printed)
        self._make_inputs(batch, shape)
        self._make_outputs()

    def _new_environment(self) -> c_void_p:
        options = (_Option * 2)()
        options[0].tag, options[0].any.kind = _REGISTER, _INTEGER
        options[0].any.value.integer = _CPU | _GPU
        options[1].tag, options[1].any.kind = _RUNTIME_FOLDER, _STRING
        options[1].any.value.string = str(self._lite.folder).encode()
        return self._lite.new("LiteRtCreateEnvironment", c_int(2), options)

    def _find_accelerator(self) -> str:
        """Return the name of the accelerator for GPUs that the library loaded."""
        lite, count = self._lite, c_size_t()
        lite.call("LiteRtGetNumAccelerators", self._environment, byref(count))
        for index in range(count.value):
            accelerator = lite.new("LiteRtGetAccelerator", self._environment, c_size_t(index))
            hardware, name = c_int(), c_char_p()
            lite.call("LiteRtGetAcceleratorHardwareSupport", accelerator, byref(hardware))
            if hardware.value & _GPU:
                lite.call("LiteRtGetAcceleratorName", accelerator, byref(name))
                return (name.value or b"GPU").decode()
        where = ", ".join(map(str, folders()))
        raise SessionError("LiteRT finds no GPU here", f"it could load no accelerator library in {where}", MEND)

    def _count_nodes(self, printed: Printed) -> None:
        """Say how many nodes the GPU runs; of a graph that it takes in part the library prints how many."""
        lite, total, full = self._lite, c_size_t(), c_bool()
        subgraph = lite.new("LiteRtGetSignatureSubgraph", self._signature)
        lite.call("LiteRtGetNumSubgraphOps", subgraph, byref(total))
        lite.call("LiteRtCompiledModelIsNonCpuFullyAccelerated", self._model, byref(full))
        found = _LIST.search(printed.text())
        left = 0 if full.value else int(found["left"]) if found else total.value
        named = tuple(found["operators"].splitlines()) if found and left else ()
        if left and (left >= total.value or not self._gpu.partial):
            raise _partial(self._path.name, found, total.value)
        self.nodes_delegated, self.nodes_total = total.value - left, total.value
        self.not_delegated: Mapping[str, int] = {}  # the list has each kind once, without its number
        self._left = named[:SHOWN]

    def _make_inputs(self, batch: int, shape: tuple[int, ...]) -> None:
        lite = self._lite
        self.inputs: list[dict[str, Any]] = []
        kinds = []
        for index, tensor in enumerate(self._tensors("Input")):
            described, kind = self._describe(tensor)
            axes = [None if axis < 0 else int(axis) for axis in described["shape"]]
            if batch != 1 and axes:
                axes[0] = None  # a fixed axis is resized too, where the accelerator allows it
            settled = settle(described["name"], axes, shape if index == 0 else (), batch)
            if settled != described["shape"]:
                lite.call(
                    "LiteRtCompiledModelResizeInputTensorNonStrict", self._model, c_size_t(0), c_size_t(index),
                    (c_int * len(settled))(*settled), c_size_t(len(settled)),
                )  # fmt: skip
            kind.layout.axes[: len(settled)] = settled
            self.inputs.append({**described, "shape": settled})
            kinds.append(kind)
        self._inputs = self._buffers("Input", kinds)
        self._arrays = [np.zeros(each["shape"], each["dtype"]) for each in self.inputs]

    def _make_outputs(self) -> None:
        tensors = self._tensors("Output")
        layouts = (_Layout * len(tensors))()
        self._lite.call(
            "LiteRtGetCompiledModelOutputTensorLayouts", self._model, c_size_t(0), c_size_t(len(tensors)), layouts,
            c_bool(True),
        )  # fmt: skip
        self.outputs: list[dict[str, Any]] = []
        kinds = []
        for tensor, layout in zip(tensors, layouts, strict=True):
            described, kind = self._describe(tensor)
            kind.layout = layout
            self.outputs.append({**described, "shape": list(layout.axes[: layout.rank & 0x7F])})
            kinds.append(kind)
        self._outputs = self._buffers("Output", kinds)
        self._results = [np.zeros(each["shape"], each["dtype"]) for each in self.outputs]

    def _tensors(self, side: str) -> list[c_void_p]:
        count = c_size_t()
        self._lite.call(f"LiteRtGetNumSignature{side}s", self._signature, byref(count))
        name = f"LiteRtGetSignature{side}TensorByIndex"
        return [self._lite.new(name, self._signature, c_size_t(index)) for index in range(count.value)]

    def _describe(self, tensor: c_void_p) -> tuple[dict[str, Any], _TensorType]:
        lite, name, kind, quantized = self._lite, c_char_p(), _TensorType(), c_int()
        lite.call("LiteRtGetTensorName", tensor, byref(name))
        lite.call("LiteRtGetRankedTensorType", tensor, byref(kind))
        if kind.element not in _DTYPES:
            raise SessionError(self._path.name, f"a tensor's dtype is none that NumPy has ({kind.element})", "")
        described: dict[str, Any] = {
            "name": (name.value or b"").decode(),
            "shape": list(kind.layout.axes[: kind.layout.rank & 0x7F]),
            "dtype": _DTYPES[kind.element],
        }
        lite.call("LiteRtGetQuantizationTypeId", tensor, byref(quantized))
        if quantized.value == _PER_TENSOR:
            scale = _Quantization()
            lite.call("LiteRtGetPerTensorQuantization", tensor, byref(scale))
            if scale.scale:
                described |= {"scale": float(scale.scale), "zero_point": int(scale.zero_point)}
        return described, kind

    def _buffers(self, side: str, kinds: Sequence[_TensorType]) -> ctypes.Array[c_void_p]:
        """Make the buffers where the accelerator wants them: in the GPU's memory, where it has its own."""
        buffers = (c_void_p * len(kinds))()
        for index, kind in enumerate(kinds):
            asked = f"LiteRtGetCompiledModel{side}BufferRequirements"
            wanted = self._lite.new(asked, self._model, c_size_t(0), c_size_t(index))
            buffers[index] = self._lite.new(
                "LiteRtCreateManagedTensorBufferFromRequirements", self._environment, byref(kind), wanted
            )
        return buffers

    def verify(self) -> None:
        """Raise where the GPU has thrown work away so far: a kernel that needs what the GPU has not, as FP16."""
        mend = "--provider gpu-fp32" if self._provider == "gpu-fp16" else "run it on the CPU"
        refuse_broken(f"{self._path.name} on {self.got}", self._printed.text(), mend)

    def details(self) -> dict[str, Any]:
        """Return what a ``ready`` message says of a GPU's session besides."""
        left = (self.nodes_total or 0) - (self.nodes_delegated or 0)
        quantized = self._gpu.precision.startswith("int8")
        return {
            "providers": {self._accelerator: self.nodes_delegated, **({"CPU": left} if left else {})},
            "left": list(self._left),
            "io": self._gpu.io,
            "waits": COPIED if self._gpu.io == "host" else READ_BACK,
            "build_ns": None,
            "settings": {"precision": self._provider.removeprefix("gpu-")},
            "as_float": "LiteRT's GPU accelerators compute quantized files in float" if quantized else "",
        }

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays into the GPU's buffers; with copies in every inference, keep them for those."""
        self._arrays = [np.ascontiguousarray(array) for array in arrays]
        self._write()

    def output(self) -> np.ndarray:
        """Return a copy of the first output."""
        self._read()
        return self._results[0].copy()

    def _write(self) -> None:
        for buffer, array in zip(self._inputs, self._arrays, strict=True):
            memory = self._lock(buffer, _WRITE)
            ctypes.memmove(memory, array.ctypes.data, array.nbytes)
            self._lite.call("LiteRtUnlockTensorBuffer", c_void_p(buffer))

    def _read(self) -> None:
        for buffer, array in zip(self._outputs, self._results, strict=True):
            memory = self._lock(buffer, _READ)
            ctypes.memmove(array.ctypes.data, memory, array.nbytes)
            self._lite.call("LiteRtUnlockTensorBuffer", c_void_p(buffer))

    def _lock(self, buffer: Any, mode: int) -> c_void_p:
        memory = c_void_p()
        self._lite.call("LiteRtLockTensorBuffer", c_void_p(buffer), byref(memory), c_int(mode))
        return memory

    def _run(self) -> None:
        counts = c_size_t(len(self._inputs)), c_size_t(len(self._outputs))
        self._lite.call(
            "LiteRtRunCompiledModel", self._model, c_size_t(0), counts[0], self._inputs, counts[1], self._outputs
        )

    def _invoke(self) -> None:
        self._run()
        for buffer in self._outputs:
            self._lock(buffer, _READ)
            self._lite.call("LiteRtUnlockTensorBuffer", c_void_p(buffer))

    def _invoke_with_copies(self) -> None:
        self._write()
        self._run()
        self._read()


def _explain(name: str, error: LitertError, printed: str) -> SessionError:
    """Return why a model was not compiled, from what the library printed."""
    found = _LIST.search(printed)
    if found or error.status == _NOT_COMPILED:
        return _partial(name, found, None)
    what = f"the GPU cannot load or run {name}"
    if "No adapters found" in printed:
        return SessionError(what, "WebGPU finds no adapter", "install the GPU's Vulkan driver; see `mobench doctor`")
    said = "; ".join((error.why, *_ERRORS.findall(printed)))
    return SessionError(what, said, "run it on the CPU")


def _partial(name: str, found: re.Match[str] | None, total: int | None) -> SessionError:
    """Return the error of a model that the GPU takes in part, or not at all; ``found`` is what the library printed."""
    what = f"the GPU does not take all of {name}"
    mend = "--allow-partial runs the rest on the CPU and says so everywhere"
    if found is None:
        count = f" of its {total} nodes" if total else ""
        return SessionError(what, f"the runtime does not print which{count} it leaves", mend)
    operators = "; ".join(found["operators"].splitlines()[:SHOWN])
    taken = "none" if found["taken"] == "No" else found["taken"]
    return SessionError(what, f"{operators}; {taken} would run on the GPU, {found['left']} on the CPU", mend)
