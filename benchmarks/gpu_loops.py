"""The loops that anyone would write around a network, without mobench: bare ONNX Runtime, torch eager, torch.compile.

A process each, started by `gpu.py`. It speaks the session protocol (android_harness/PROTOCOL.md) so that the loops can
take turns with mobench's own sessions; what it times is the loop alone. Its argument is a JSON object: `subject` (a key
of `SUBJECTS`), `model` (an .onnx file, or a module that torch saved), `gpu`, `batch`, `threads`, `cores`, `half`.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Ort:
    """ONNX Runtime with inputs and outputs bound, on the GPU in its memory; TF32 off, as in mobench's sessions."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        import onnxruntime

        if config["gpu"] and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA and cuDNN from NVIDIA's wheels, where they are not the system's
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config["threads"]
        cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
        providers = [cuda] if config["gpu"] else ["CPUExecutionProvider"]
        self._net = onnxruntime.InferenceSession(config["model"], options, providers=providers)
        self.got, self.versions = self._net.get_providers()[0], {"onnxruntime": onnxruntime.__version__}
        device = "cuda" if config["gpu"] else "cpu"
        first, binding = self._net.get_inputs()[0], self._net.io_binding()
        shape = [config["batch"], *first.shape[1:]]
        self.input = {"name": first.name, "shape": shape, "dtype": "float32"}
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32), device, 0)
        binding.bind_ortvalue_input(first.name, self._value)
        for output in self._net.get_outputs():
            binding.bind_output(output.name, device)
        self._binding = binding

    def feed(self, array: Array) -> None:
        """Put in what the next inferences run on."""
        self._value.update_inplace(array)

    def run(self) -> None:
        """Run one inference."""
        self._net.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def output(self) -> Array:
        """Return what came out."""
        return np.array(self._binding.copy_outputs_to_cpu()[0])


class Torch:
    """A saved module in torch, its input on the device; TF32 off, cuDNN's search on, as ONNX Runtime has them."""

    def __init__(self, config: Mapping[str, Any], compiled: bool = False) -> None:
        import torch

        torch.set_num_threads(config["threads"])
        self._torch, self._device = torch, torch.device("cuda" if config["gpu"] else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        saved = torch.load(config["model"], weights_only=False)  # gpu.py wrote it a moment ago
        self._dtype = torch.float16 if config["half"] else torch.float32
        net = saved["module"].to(self._device, self._dtype).eval()
        self._net: Callable[[Any], Any] = torch.compile(net) if compiled else net
        self._wait: Callable[[], object] = torch.cuda.synchronize if config["gpu"] else lambda: None
        self.got = f"torch on {torch.cuda.get_device_name() if config['gpu'] else 'the CPU'}"
        self.versions = {"torch": torch.__version__}
        shape = [config["batch"], 3, saved["size"], saved["size"]]
        self.input = {"name": "image", "shape": shape, "dtype": "float32"}
        self._image = self._out = torch.zeros(shape, device=self._device, dtype=self._dtype)

    def feed(self, array: Array) -> None:
        """Put in what the next inferences run on."""
        self._image = self._torch.from_numpy(array).to(self._device, self._dtype)

    def run(self) -> None:
        """Run one inference."""
        with self._torch.inference_mode():
            self._out = self._net(self._image)
            self._wait()

    def output(self) -> Array:
        """Return what came out."""
        return np.asarray(self._out.float().cpu().numpy())


SUBJECTS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "ort": Ort,
    "eager": Torch,
    "compile": lambda config: Torch(config, compiled=True),
}


def main() -> None:
    """Load, run once, say so, and answer until stdin closes."""
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no message

    def say(**message: Any) -> None:
        os.write(out, b"\x1e" + json.dumps(message).encode() + b"\n")

    config = json.loads(sys.argv[1])
    if config["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, config["cores"])
    hello = {"type": "hello", "protocol": 1, "harness": "bare loop"}
    try:
        start = time.perf_counter_ns()
        net = SUBJECTS[config["subject"]](config)
        loaded = time.perf_counter_ns()
        net.feed(np.random.default_rng(0).standard_normal(net.input["shape"]).astype(np.float32))
        first = time.perf_counter_ns()
        net.run()
        done = time.perf_counter_ns()
    except Exception as error:  # whatever a library raises: it is that loop's failure
        say(**hello, versions={"python": platform.python_version()})
        say(type="error", kind="session", what=f"the loop {config['subject']}", why=_brief(error), mend="")
        return
    say(**hello, versions={"python": platform.python_version(), **net.versions})
    result = net.output()
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(
        type="ready", init_ns=loaded - start, first_ns=done - first, rss_before_mb=0.0, peak_rss_mb=memory_mb,
        asked=net.got, got=net.got, nodes_delegated=None, nodes_total=None, threads=config["threads"],
        cores=config["cores"], inputs=[net.input],
        outputs=[{"name": "logits", "shape": list(result.shape), "dtype": result.dtype.name}],
    )  # fmt: skip
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line.rpartition(b"\x1e")[2])
        if request["type"] == "bye":
            return
        signal.setitimer(signal.ITIMER_REAL, request["deadline_ms"] / 1000)
        try:
            if request["type"] == "time":
                say(**_time(net.run, request["lead_in"], request["timed"]))
            else:
                np.save(request["output"], _predict(net, np.load(request["input"])))
                say(type="predicted")
        except Exception as error:
            say(type="error", kind="session", what=f"the loop {config['subject']}", why=_brief(error), mend="")
        signal.setitimer(signal.ITIMER_REAL, 0)


def _time(run: Callable[[], None], lead_in: int, timed: int) -> dict[str, Any]:
    for _ in range(lead_in):
        run()
    wall = []
    cpu = time.process_time_ns()
    for _ in range(timed):
        start = time.perf_counter_ns()
        run()
        wall.append(time.perf_counter_ns() - start)
    return {"type": "timing", "wall_ns": wall, "cpu_ns": time.process_time_ns() - cpu, "involuntary_switches": 0}


def _predict(net: Any, images: Array) -> Array:
    outputs = []
    for image in images:
        net.feed(np.ascontiguousarray(image[None]))
        net.run()
        outputs.append(net.output()[0])
    return np.stack(outputs)


def _brief(error: Exception) -> str:
    """Return an error's kind and its first lines: a compiler's whole log is of no use here."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # taking a runtime apart may take seconds, and may fail
