"""ONNX Runtime on the CPU, behind the worker's Model interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobench.errors import MissingExtraError, SessionError
from runners.shapes import settle

try:
    import onnxruntime
except ImportError as error:
    raise MissingExtraError("onnxruntime") from error

_PROVIDERS = {"cpu": "CPUExecutionProvider", "xnnpack": "XnnpackExecutionProvider"}
# ONNX Runtime's type names, "tensor(float)", to NumPy's; TensorProto spells float32 and float64 its own way.
_DTYPES = {"float": "float32", "double": "float64"}


def versions() -> dict[str, str]:
    """Return the version of the runtime."""
    return {"onnxruntime": onnxruntime.__version__}


def load(path: Path, *, threads: int, provider: str, batch: int, shape: tuple[int, ...]) -> OrtModel:
    """Load and optimise a model for an execution provider."""
    return OrtModel(path, threads, provider, batch, shape)


class OrtModel:
    """A model in an InferenceSession, inputs and outputs bound once, so that a run copies and allocates nothing."""

    nodes_delegated = nodes_total = None  # the one provider runs every node, or the session does not load
    not_delegated: Mapping[str, int] = {}

    def __init__(
        self,
        path: Path,
        threads: int,
        provider: str,
        batch: int,
        shape: tuple[int, ...],
        *,
        trace: Path | None = None,
    ) -> None:
        """Load the model; with ``trace``, a folder, trace every run into it and leave the optimised graph there."""
        self.asked = self.got = _PROVIDERS[provider or "cpu"]
        if self.asked not in onnxruntime.get_available_providers():
            raise SessionError(path.name, f"this onnxruntime has no {self.asked}", "install a build that has it")
        options = onnxruntime.SessionOptions()
        if self.asked != _PROVIDERS["cpu"]:  # what it does not take would otherwise run on the CPU provider, unsaid
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads may spin while they run, as in any application, but not on into the next cell's block.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace / "trace")
            options.optimized_model_filepath = str(trace / "optimised.onnx")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=[self.asked])
        providers = self._session.get_providers()
        if providers[:1] != [self.asked]:
            raise SessionError(path.name, f"{self.asked} asked, {', '.join(providers)} got", "reinstall onnxruntime")
        self.inputs = [
            describe_input(value, shape if index == 0 else (), batch) for index, value in enumerate(_inputs(self))
        ]
        self._buffers = [np.zeros(detail["shape"], detail["dtype"]) for detail in self.inputs]
        self._binding = self._session.io_binding()
        self._bound: list[Any] = []
        for detail, buffer in zip(self.inputs, self._buffers, strict=True):
            value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer)
            self._bound.append(value)
            self._binding.bind_ortvalue_input(detail["name"], value)
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name)
        self._run = self._session.run_with_iobinding

    @property
    def outputs(self) -> list[Mapping[str, Any]]:
        """Describe the outputs of the last inference."""
        values = zip(self._session.get_outputs(), self._binding.get_outputs(), strict=True)
        return [{"name": o.name, "shape": list(v.shape()), "dtype": dtype_of(o.type)} for o, v in values]

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays into the bound inputs."""
        for value, array in zip(self._bound, arrays, strict=True):
            value.update_inplace(np.ascontiguousarray(array))

    def invoke(self) -> None:
        """Run one inference."""
        self._run(self._binding)

    def output(self) -> np.ndarray:
        """Return a copy of the first output."""
        return np.array(self._binding.get_outputs()[0].numpy())  # the bound memory itself is written again

    def end_trace(self) -> Path:
        """End the trace of a model that was loaded with one; return its file."""
        return Path(self._session.end_profiling())


def _inputs(model: OrtModel) -> list[Any]:
    return list(model._session.get_inputs())


def dtype_of(name: str) -> str:
    """Return NumPy's name of an ONNX Runtime type, for example of `tensor(float)`."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(inner, inner)


def describe_input(value: Any, shape: tuple[int, ...], batch: int) -> dict[str, Any]:
    """Return name, shape and dtype of an input."""
    axes = [axis if isinstance(axis, int) and axis > 0 else None for axis in value.shape]
    return {"name": value.name, "shape": settle(value.name, axes, shape, batch), "dtype": dtype_of(value.type)}
