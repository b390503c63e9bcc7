"""ONNX Runtime on a desktop's GPU through CUDA, TensorRT or WebGPU, behind the worker's Model interface.

Left to itself ONNX Runtime falls back in three places: a provider that cannot be loaded is left out with a line on
stderr, nodes that it has no kernel for go to the CPU, and a run that fails is repeated there. All three are off; what
runs where is read from the trace of one run, node by node. (ONNX Runtime's own account of what it assigned is of the
graph before it was rewritten: of a network on WebGPU it names two nodes in five.)
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mobench.errors import MissingExtraError, MobenchError, SessionError
from mobench.records import NVIDIA
from runners.gpu_failures import explain
from runners.gpu_packages import PROVIDERS, installed
from runners.gpu_session import (
    COPIED,
    READ_BACK,
    SYNCHRONISED,
    GpuAsked,
    Placement,
    nodes_of,
    place,
    refuse_broken,
    refuse_partial,
)
from runners.gpu_vulkan import adapter
from runners.half import in_half
from runners.printed import Printed

try:
    import onnxruntime
except ImportError as error:
    raise MissingExtraError("onnxruntime-gpu", "gpu") from error
from runners.gpu_libraries import preload
from runners.ort import describe_input, dtype_of

_NO_GRAPH = ("gpu_graph_id", "-1")  # of a run: it is neither captured nor replayed
# What is kept of the provider's own account of its options.
_SETTINGS = (
    *("use_tf32", "enable_cuda_graph", "cudnn_conv_algo_search", "prefer_nhwc"),
    *("trt_fp16_enable", "trt_int8_enable", "trt_cuda_graph_enable", "trt_engine_cache_enable"),
    "trt_builder_optimization_level",
)
_QUANTIZE = frozenset({"QuantizeLinear", "DequantizeLinear"})


def versions() -> dict[str, str]:
    """Return the runtime's version, which build it is, and the CUDA that is for."""
    found = installed()
    said = {"onnxruntime": onnxruntime.__version__, "build": found.build, "cuda": found.cuda}
    return {key: value for key, value in said.items() if value}


def load(path: Path, *, threads: int, provider: str, batch: int, shape: tuple[int, ...], gpu: GpuAsked) -> OrtGpuModel:
    """Load a model for a provider and bind its inputs and outputs where they were asked for."""
    return OrtGpuModel(path, threads, provider, batch, shape, gpu)


class OrtGpuModel:
    """A model in an InferenceSession on a GPU. ``invoke`` returns when its outputs are there."""

    def __init__(
        self, path: Path, threads: int, provider: str, batch: int, shape: tuple[int, ...], gpu: GpuAsked
    ) -> None:
        self.asked = self.got = PROVIDERS[provider][0]
        self._path, self._threads, self._provider, self._gpu = path, threads, provider, gpu
        self._batch, self._shape = batch, shape
        self._arithmetic = ""  # where the file's precision does not say it
        self.build_ns: int | None = None
        self.nodes_delegated = self.nodes_total = None  # `details` says
        self._release()
        self.not_delegated: Mapping[str, int] = {}
        self._printed = printed = Printed()
        if provider in NVIDIA:
            preload(tensorrt=provider == "tensorrt")
        if self.asked not in onnxruntime.get_available_providers():
            raise explain(f"{path.name} on {self.asked}", "", printed.text(), installed().cuda) or SessionError(
                path.name, f"this onnxruntime has no {self.asked}", "see `mobench doctor`"
            )
        self._cache = _engine_folder(gpu, batch, shape) if provider == "tensorrt" else None
        if self._cache is not None and not any(self._cache.glob("*.engine")):
            self._build(printed)
        self._session = self._open(printed)
        self._settle()
        if provider == "webgpu":
            self.got = f"{self.asked} on {adapter()}"

    def _build(self, printed: Printed) -> None:
        """Let TensorRT build its engine, timed apart; the session that is measured loads it from its folder."""
        assert self._cache is not None
        start = time.perf_counter_ns()
        self._cache.mkdir(parents=True, exist_ok=True)
        self._session = self._open(printed)
        self._settle()
        self.invoke()  # where an axis is open the engine is built by the first inference
        self._release()
        self.build_ns = time.perf_counter_ns() - start

    def _release(self) -> None:
        """Let go of a session and of what is bound to it, and so of the GPU's memory."""
        self.invoke: Callable[[], None] = self._invoke_with_copies
        self._session = None
        self._binding: Any = None
        self._bound: list[Any] = []
        self._bound_outputs: list[Any] = []  # held as long as they are bound
        self._outputs: list[Any] = []

    def _open(self, printed: Printed) -> Any:
        """Create the session; refuse one that is not what was asked for, and say why."""
        what = f"{self._path.name} on {self.asked}"
        try:
            session = self._create(strict=not self._gpu.partial)
        except Exception as error:  # ONNX Runtime's own kinds
            reason = explain(what, str(error), printed.text(), installed().cuda)
            if reason is None and "fallback to CPU EP has been explicitly disabled" in str(error):
                reason = refuse_partial(self._traced(), self._path.name)
            if reason is None:
                raise
            raise reason from error
        providers = list(session.get_providers())
        if self.asked not in providers:
            reason = explain(what, "", printed.text(), installed().cuda)
            raise reason or SessionError(what, f"{', '.join(providers)} got instead", "see `mobench doctor`")
        return session

    def _traced(self) -> Placement:
        """Return where the nodes run, from the trace of one inference in a session of its own that may be partial."""
        with tempfile.TemporaryDirectory(prefix="mobench-") as folder:
            session = self._create(strict=False, trace=folder)
            session.run(None, self._zeros(session))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return place(nodes_of(events), self.asked)

    def _create(self, *, strict: bool, trace: str = "") -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        gpu = self._gpu
        if trace:
            options.enable_profiling = True
            options.profile_file_prefix = f"{trace}/trace"
            gpu = replace(gpu, cuda_graph=False)  # it would be one event
        providers: list[Any] = [(self.asked, self._options(gpu))]
        if self._provider == "tensorrt" and not strict:
            providers.append((PROVIDERS["cuda"][0], _cuda_options(gpu)))
        session = onnxruntime.InferenceSession(self._form(), options, providers=providers, enable_fallback=0)
        session.disable_fallback()  # of a run that fails
        return session

    def _form(self) -> str | bytes:
        """Return the file, or of an FP16 file for CUDA the form that also computes in FP16; TensorRT makes its own."""
        if self._provider != "cuda" or self._gpu.precision != "fp16":
            return str(self._path)
        try:
            form = in_half(self._path.read_bytes())
        except MobenchError as error:
            self._arithmetic = f"FP32 ({error})"
            return str(self._path)
        self._arithmetic = "FP16"
        return form

    def _options(self, gpu: GpuAsked) -> dict[str, str]:
        if self._provider == "cuda":
            return _cuda_options(gpu)
        if self._provider == "tensorrt":
            return _tensorrt_options(gpu, str(self._cache))
        return {}

    def _settle(self) -> None:
        """Make the inputs, and bind them."""
        self.inputs = self._describe_inputs(self._session)
        self._feed = self._zeros(self._session)
        if self._gpu.io == "device":
            self._binding = self._session.io_binding()
            stays = self._provider in NVIDIA
            for name, array in self._feed.items() if stays else ():
                self._bound.append(_on_cuda(array))
                self._binding.bind_ortvalue_input(name, self._bound[-1])
            for output in self._session.get_outputs():
                # WebGPU returns from a run when its queue is filled; what reads the outputs back waits for it.
                self._binding.bind_output(output.name, "cuda" if stays else "cpu")
            self.invoke = self._invoke_first if stays else self._invoke_read_back

    def _describe_inputs(self, session: Any) -> list[dict[str, Any]]:
        values = enumerate(session.get_inputs())
        return [describe_input(value, self._shape if index == 0 else (), self._batch) for index, value in values]

    def _zeros(self, session: Any) -> dict[str, np.ndarray]:
        return {each["name"]: np.zeros(each["shape"], each["dtype"]) for each in self._describe_inputs(session)}

    def verify(self) -> None:
        """Raise where WebGPU has thrown work away so far; CUDA and TensorRT fail by themselves."""
        if self._provider == "webgpu":
            refuse_broken(f"{self._path.name} on {self.got}", self._printed.text(), "run it on the CPU")

    def details(self) -> dict[str, Any]:
        """Return what a ``ready`` message says of a GPU's session besides.

        Raises:
            SessionError: the GPU runs no node, or not all where it has to.
        """
        placement = self._traced()
        if not placement.taken or (placement.taken < placement.total and not self._gpu.partial):
            raise refuse_partial(placement, self._path.name)
        waits = COPIED
        if self._gpu.io == "device":
            waits = SYNCHRONISED if self._provider in NVIDIA else READ_BACK
        return {
            **placement.told(),
            "io": self._gpu.io,
            "waits": waits,
            "build_ns": self.build_ns,
            "settings": self._settings(),
            "as_float": self._as_float(placement),
        }

    def _settings(self) -> dict[str, str]:
        told = self._session.get_provider_options().get(self.asked, {})
        kept = {key: str(told[key]) for key in _SETTINGS if key in told}
        if "NVIDIA_TF32_OVERRIDE" in os.environ and self._provider in NVIDIA:
            kept["NVIDIA_TF32_OVERRIDE"] = os.environ["NVIDIA_TF32_OVERRIDE"]
        return kept | ({"arithmetic": self._arithmetic} if self._arithmetic else {})

    def _as_float(self, placement: Placement) -> str:
        """Say that a quantized file computes in float, between nodes that convert to float and back."""
        count = sum(placement.operators.get(op, 0) for op in _QUANTIZE)
        if not count or self._provider == "tensorrt":
            return ""  # TensorRT fuses them: that is how it is told to compute in INT8
        return f"{self.asked} has no INT8 kernels for this form: {count} nodes convert to float and back around it"

    @property
    def outputs(self) -> list[Mapping[str, Any]]:
        """Describe the outputs of the last inference."""
        values = zip(self._session.get_outputs(), self._values(), strict=True)
        return [{"name": o.name, "shape": list(v.shape), "dtype": dtype_of(o.type)} for o, v in values]

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays to where the inputs are bound, or keep them to be copied with every inference."""
        self._feed = {
            each["name"]: np.ascontiguousarray(array) for each, array in zip(self.inputs, arrays, strict=True)
        }
        if self._binding is not None and not self._bound:
            for name, array in self._feed.items():  # binding copies it to where the provider wants it, once
                self._binding.bind_cpu_input(name, array)
        for value, array in zip(self._bound, self._feed.values(), strict=False):  # none are bound where they are copied
            value.update_inplace(array)

    def output(self) -> np.ndarray:
        """Return a copy of the first output."""
        return np.array(self._values()[0])

    def _values(self) -> list[np.ndarray]:
        return list(self._binding.copy_outputs_to_cpu() if self._gpu.io == "device" else self._outputs)

    def _invoke_with_copies(self) -> None:
        self._outputs = self._session.run(None, self._feed)

    def _invoke_read_back(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _invoke_first(self) -> None:
        """Run once with outputs that ONNX Runtime places, then keep them where they are: a CUDA graph needs that."""
        run_options = onnxruntime.RunOptions()
        if self._gpu.cuda_graph:
            run_options.add_run_config_entry(*_NO_GRAPH)
        self._session.run_with_iobinding(self._binding, run_options)
        self._binding.synchronize_outputs()
        shapes = [list(value.shape()) for value in self._binding.get_outputs()]
        for output, shape in zip(self._session.get_outputs(), shapes, strict=True):
            self._bound_outputs.append(_on_cuda(np.zeros(shape, dtype_of(output.type))))
            self._binding.bind_ortvalue_output(output.name, self._bound_outputs[-1])
        run, wait, binding = self._session.run_with_iobinding, self._binding.synchronize_outputs, self._binding

        def invoke() -> None:
            run(binding)
            wait()

        self.invoke = invoke


def _on_cuda(array: np.ndarray) -> Any:
    """Return a value in the GPU's memory that holds an array."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)


def _cuda_options(gpu: GpuAsked) -> dict[str, str]:
    return {"device_id": "0", "use_tf32": str(int(gpu.tf32)), "enable_cuda_graph": str(int(gpu.cuda_graph))}


def _tensorrt_options(gpu: GpuAsked, cache: str) -> dict[str, str]:
    """Return TensorRT's options: the precision that the file is in, and for INT8 FP16 for what it leaves in float."""
    int8 = gpu.precision.startswith("int8")
    return {
        "device_id": "0",
        "trt_fp16_enable": str(int(int8 or gpu.precision == "fp16")),
        "trt_int8_enable": str(int(int8)),
        "trt_cuda_graph_enable": str(int(gpu.cuda_graph)),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
    }


def _engine_folder(gpu: GpuAsked, batch: int, shape: Sequence[int]) -> Path:
    """Return the folder of a file's engines, by all that changes them but the GPU: that is in their names."""
    asked = [gpu.sha256, gpu.precision, gpu.tf32, gpu.cuda_graph, gpu.partial, batch, list(shape), versions()]
    return Path(gpu.cache, "tensorrt", hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24])
