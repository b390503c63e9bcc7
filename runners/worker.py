"""The desktop child process: loads one model in one runtime and answers the session protocol until stdin closes."""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import json
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from mobench import __version__
from mobench.errors import MobenchError, SessionError
from runners.device_files import Files
from runners.inputs import random_inputs
from runners.profile import op_profile, stream
from runners.wire import PROTOCOL, decode, encode

# A runtime is a module with `versions() -> dict` and `load(path, *, threads, provider, batch, shape) -> Model`; one on
# a GPU takes `gpu`, what else it is asked, and its model has `details() -> dict`, what else it says in `ready`.
RUNTIMES = {"ort": "runners.ort", "litert": "runners.litert"}
GPU_RUNTIMES = {"ort": "runners.gpu_ort", "litert": "runners.gpu_litert"}
NO_GPU_PROFILE = "operators that wait in a GPU's queue cannot be timed one by one from here"


class Model(Protocol):
    """One model, loaded. ``inputs`` and ``outputs`` are JSON-able: name, shape, dtype, and scale and zero_point."""

    asked: str
    got: str
    nodes_delegated: int | None
    nodes_total: int | None
    not_delegated: Mapping[str, int]
    inputs: Sequence[Mapping[str, Any]]

    @property
    def outputs(self) -> Sequence[Mapping[str, Any]]:
        """Describe the outputs; known for certain after the first inference."""
        ...

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays into the model's inputs."""
        ...

    def invoke(self) -> None:
        """Run one inference and return when its outputs are there."""
        ...

    def output(self) -> np.ndarray:
        """Return a copy of the first output."""
        ...


class GpuModel(Model, Protocol):
    """One on a desktop's GPU."""

    def details(self) -> Mapping[str, Any]:
        """Return what else `ready` says of it."""
        ...

    def verify(self) -> None:
        """Raise a SessionError where the GPU has failed so far in a way that no call told."""
        ...


def main(argv: Sequence[str]) -> int:
    """Serve one session. Returns the exit status."""
    out = os.dup(1)
    os.dup2(2, 1)  # runtimes print to stdout; only framed messages go to the parent

    def say(message: Mapping[str, Any]) -> None:
        os.write(out, encode(message))

    config = json.loads(argv[1])
    _die_with_parent(config["parent"])
    if config["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, config["cores"])
    name = Path(config["model"]).name
    hello = {"type": "hello", "protocol": PROTOCOL, "harness": "desktop"}
    versions = {"mobench": __version__, "python": platform.python_version()}
    try:
        modules = GPU_RUNTIMES if config.get("gpu") else RUNTIMES
        runtime = importlib.import_module(modules[config["runtime"]])
    except MobenchError as error:
        say({**hello, "versions": versions})
        say(_error(error))
        return 1
    say({**hello, "versions": {**versions, **runtime.versions()}})
    try:
        _alarm(config["deadline_s"])
        model, ready = _load(runtime, config)
        _alarm(0)
    except Exception as error:  # whatever a runtime raises on a model it cannot take
        say(_error(error if isinstance(error, MobenchError) else _load_error(name, config["runtime"], error)))
        return 1
    say(ready)
    gc.collect()
    gc.disable()  # a collection inside a timed inference would be ours, not the model's
    return _serve(model, name, config, say)


def _load(runtime: Any, config: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    rss_before, anonymous = _peak_rss_mb(), _anonymous_mb()
    gpu = _gpu(config)
    start = time.perf_counter_ns()
    model: Model = runtime.load(
        Path(config["model"]),
        threads=config["threads"],
        provider=config["provider"],
        batch=config["batch"],
        shape=tuple(config["shape"]),
        **gpu,
    )
    loaded = time.perf_counter_ns()
    model.set_inputs(random_inputs(model.inputs))
    first = time.perf_counter_ns()
    model.invoke()
    done = time.perf_counter_ns()
    ready = {
        "type": "ready",
        "init_ns": loaded - start,
        "first_ns": done - first,
        "rss_before_mb": rss_before,
        "peak_rss_mb": _peak_rss_mb(),
        "arena_mb": None if anonymous is None else (_anonymous_mb() or 0.0) - anonymous,
        "asked": model.asked,
        "got": model.got,
        "nodes_delegated": model.nodes_delegated,
        "nodes_total": model.nodes_total,
        "not_delegated": dict(model.not_delegated),
        "threads": config["threads"],
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "inputs": list(model.inputs),
        "outputs": list(model.outputs),
    }
    if gpu:
        cast(GpuModel, model).verify()
        ready |= cast(GpuModel, model).details()
        ready["init_ns"] -= ready["build_ns"] or 0
    return model, ready


def _gpu(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a runtime on a GPU is asked besides; nothing for any other."""
    if not config.get("gpu"):
        return {}
    from runners.gpu_session import GpuAsked  # here: most sessions never need it

    return {"gpu": GpuAsked(**config["gpu"])}


def _serve(model: Model, name: str, config: Mapping[str, Any], say: Callable[[Mapping[str, Any]], None]) -> int:
    # One thread's own clock leaves out what other threads do; several threads need the process's.
    cpu_clock = time.thread_time_ns if config["threads"] == 1 else time.process_time_ns
    # A block's request is that of the block before: parsing it with caches full of another model takes 60 us.
    known = functools.lru_cache(maxsize=4)(decode)
    for line in iter(sys.stdin.buffer.readline, b""):
        request = known(line)
        if request is None:
            continue
        if request["type"] == "bye":
            return 0
        _alarm(request["deadline_ms"] / 1000)
        try:
            if request["type"] == "time":
                timing = _time(model.invoke, request["lead_in"], request["timed"], cpu_clock)
                if config.get("gpu"):
                    cast(GpuModel, model).verify()
                say(timing)
            elif request["type"] == "predict":
                _predict(model, Path(request["input"]), Path(request["output"]))
                if config.get("gpu"):
                    cast(GpuModel, model).verify()
                say({"type": "predicted"})
            elif request["type"] == "profile" and config.get("gpu"):
                say(_error(SessionError(f"profile of {name}", NO_GPU_PROFILE, "profile it on desktop-cpu")))
            elif request["type"] == "profile":
                say(op_profile.answer(config, model, random_inputs(model.inputs), request))
            elif request["type"] == "stream":
                say({"type": "rates", "bytes_per_s": stream.best_rates(request["sizes"], config["threads"])})
            elif request["type"] == "state":
                say({"type": "state", "files": Files().read_many(request["paths"])})
            else:
                say(_error(SessionError(name, f"unknown request {request['type']!r}", "update both")))
        except MobenchError as error:
            say(_error(error))
        except Exception as error:  # a model that loads but fails when invoked
            say(_error(SessionError(f"{name} fails when invoked", str(error), "see the runtime's message")))
        _alarm(0)
    return 0


def _time(invoke: Callable[[], None], lead_in: int, timed: int, cpu_clock: Callable[[], int]) -> dict[str, Any]:
    clock = time.perf_counter_ns
    for _ in range(lead_in):
        invoke()
    wall = []
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    cpu = cpu_clock()
    for _ in range(timed):
        start = clock()
        invoke()
        wall.append(clock() - start)
    cpu = cpu_clock() - cpu
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches
    return {"type": "timing", "wall_ns": wall, "cpu_ns": cpu, "involuntary_switches": switches}


def _predict(model: Model, source: Path, sink: Path) -> None:
    samples = np.load(source)
    shape, dtype = model.inputs[0]["shape"], np.dtype(model.inputs[0]["dtype"])
    if len(model.inputs) != 1 or list(samples.shape[1:]) != list(shape[1:]) or samples.dtype != dtype:
        wanted = f"{len(model.inputs)} input(s), first {list(shape)} {dtype}"
        raise SessionError("predict", f"samples {list(samples.shape[1:])} {samples.dtype} given, {wanted} wanted", "")
    outputs = []
    for sample in samples:
        model.set_inputs([sample[None]])
        model.invoke()
        outputs.append(model.output()[0])
    np.save(sink, np.stack(outputs))


def _load_error(name: str, runtime: str, error: Exception) -> SessionError:
    text = str(error)
    if "custom op" in text:
        return SessionError(
            f"{name} needs an operator {runtime} does not have", text, "export it without this operator"
        )
    return SessionError(f"{runtime} cannot load or run {name}", text, "check the file, or export it again")


def _error(error: MobenchError) -> dict[str, Any]:
    return {"type": "error", "kind": error.kind, "what": error.what, "why": error.why, "mend": error.mend}


def _alarm(seconds: float) -> None:
    """End this process when the deadline passes, even inside a runtime's native code (SIGALRM's default action)."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, also in the middle of an inference."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit(1)


def _peak_rss_mb() -> float:
    """Return the process's peak resident set in MiB.

    Not ru_maxrss on Linux: that starts from the parent's resident set, which the child held until it called exec.
    """
    if sys.platform == "linux":
        return _status_mb("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS counts bytes


def _anonymous_mb() -> float | None:
    """Return the process's anonymous memory in MiB: what it allocated, without mapped files."""
    return _status_mb("RssAnon") if sys.platform == "linux" else None


def _status_mb(key: str) -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[key].split()[0]) / 1024


if __name__ == "__main__":
    # At once: taking the interpreter and the model apart takes 80 ms, a tenth of a short start.
    os._exit(main(sys.argv))
