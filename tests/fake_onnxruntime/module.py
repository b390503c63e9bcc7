"""The module: see the package's docstring. It is copied to where a session finds it as `onnxruntime`."""

# ruff: noqa: D102, N818 (names, and what each method does, are ONNX Runtime's own)
from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

PLAN = json.loads(Path(__file__).with_name("plan.json").read_text())
__version__ = PLAN["version"]
CPU = "CPUExecutionProvider"
REFUSED = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP, but "
    "fallback to CPU EP has been explicitly disabled by the user."
)


class EPFail(RuntimeError):
    pass


def get_available_providers() -> list[str]:
    return list(PLAN["providers"])


def preload_dlls() -> None:
    print(PLAN.get("preload", ""))


class SessionOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.enable_profiling = False
        self.profile_file_prefix = ""

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


class RunOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


class OrtValue:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array.copy()

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, device: str = "cpu", number: int = 0) -> OrtValue:
        assert device == "cuda"
        return cls(array)

    def update_inplace(self, array: np.ndarray) -> None:
        self.array[:] = array

    def shape(self) -> list[int]:
        return list(self.array.shape)


class Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, OrtValue] = {}
        self.output: OrtValue | None = None
        self.fixed = False
        self.ready_at = 0.0

    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: OrtValue) -> None:
        self.output, self.fixed = value, True

    def bind_output(self, name: str, device: str = "cpu") -> None:
        assert device in ("cuda", "cpu")

    def synchronize_outputs(self) -> None:
        time.sleep(max(0.0, self.ready_at - time.monotonic()))

    def get_outputs(self) -> list[Any]:
        return [self.output]

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        self.synchronize_outputs()
        assert self.output is not None
        return [self.output.array.copy()]


class InferenceSession:
    def __init__(self, path: str, options: SessionOptions, providers: list[Any], enable_fallback: int = 1) -> None:
        assert not enable_fallback, "it would print a notice and run on the CPU"
        self.fallback = True
        self.options = dict(providers)
        asked = [name for name, _ in providers]
        if "prints" in PLAN:
            print(PLAN["prints"], file=sys.stderr)
            asked = []
        if "raises" in PLAN:
            raise RuntimeError(PLAN["raises"])
        strict = options.entries.get("session.disable_cpu_ep_fallback") == "1"
        self.nodes = [(name if name in asked else CPU, op, node) for name, op, node in PLAN["nodes"]]
        if strict and any(name == CPU for name, _, _ in self.nodes):
            raise RuntimeError(REFUSED)
        self.providers = [*asked, CPU]
        trt = self.options.get("TensorrtExecutionProvider", {})
        if (folder := trt.get("trt_engine_cache_path")) and not list(Path(folder).glob("*.engine")):
            time.sleep(PLAN.get("build_s", 0.0))
            (Path(folder) / "graph_sm90.engine").touch()
        self.trace = options.profile_file_prefix if options.enable_profiling else ""

    def disable_fallback(self) -> None:
        self.fallback = False

    def get_providers(self) -> list[str]:
        return self.providers

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return self.options

    def end_profiling(self) -> str:
        """Write a trace as the real one does: nodes, copies between them, and whole runs."""
        assert self.trace, "nobody asked for a trace"
        events = [{"cat": "Session", "name": "model_run", "dur": 9}]
        for provider, op, name in [*self.nodes, ("CUDAExecutionProvider", "MemcpyToHost", "copy")]:
            args = {"op_name": op, "provider": provider}
            events.append({"cat": "Node", "name": f"{name}_kernel_time", "dur": 1, "args": args})
        path = Path(f"{self.trace}_1.json")
        path.write_text(json.dumps(events))
        return str(path)

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image", shape=["N", 3, 8, 8], type="tensor(float)")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="scores", shape=["N", 3], type="tensor(float)")]

    def io_binding(self) -> Binding:
        return Binding()

    def compute(self, image: np.ndarray) -> np.ndarray:
        if "fails" in PLAN:
            assert not self.fallback, "it would run again on the CPU"
            raise EPFail(PLAN["fails"])
        tf32 = self.options.get("CUDAExecutionProvider", {}).get("use_tf32") == "1"
        return image.mean((2, 3)) * (2 if tf32 else 1)

    def run(self, names: Any, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        time.sleep(PLAN.get("run_s", 0.0))
        return [self.compute(feed["image"])]

    def run_with_iobinding(self, binding: Binding, run_options: RunOptions | None = None) -> None:
        captures = self.options.get("CUDAExecutionProvider", {}).get("enable_cuda_graph") == "1"
        if captures and not (run_options and run_options.entries.get("gpu_graph_id") == "-1"):
            assert binding.fixed, "a graph writes to where its outputs were when it was captured"
        result = self.compute(binding.inputs["image"].array)
        if binding.fixed and binding.output is not None:
            binding.output.array[:] = result
        else:
            binding.output = OrtValue(result)
        binding.ready_at = time.monotonic() + PLAN.get("run_s", 0.0)  # it returns when its queue is filled
