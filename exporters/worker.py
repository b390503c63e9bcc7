"""The child process that converts: takes pickled requests on stdin, answers with pickled messages until stdin closes.

Its libraries print where they like: descriptor 1 is pointed at stderr, which the parent keeps as the log, and what
reads descriptor 0 finds nothing there. The parent starts it by importing `main`, not with `-m`: what is pickled must
not be called `__main__`.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from exporters import given
from exporters.explain import Simulated, Study
from exporters.integers import has_integer_weights
from exporters.recipe import STATISTICS_IMAGES, VERIFIED_IMAGES, Given, Request
from mobench.errors import BadInputError, ExportError, MissingExtraError, MobenchError

if TYPE_CHECKING:
    from torch import nn

CONVERTERS = {"onnx": "exporters.to_onnx", "tflite": "exporters.to_tflite"}
QUANTIZERS = {"onnx": "exporters.quantize_onnx", "tflite": "exporters.quantize_tflite"}
# What torch and the runtimes say where an allocation fails, without a type of its own.
_NO_MEMORY = ("can't allocate memory", "Failed to allocate memory", "std::bad_alloc")
EXPLAINED = "explained"  # in place of a precision, in the name of the FP32 file that only an explanation reads
_MOST = 2  # modules and image sets kept for the next request: a network's other format, or other networks' images


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """torch's logits [N, classes] for the images [N, S, S, 3] that the files are verified on.

    They are None where a file is given: its runtime has the last word on them, and runs in a process of its own.
    """

    images: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A file that was written under a temporary name, not yet verified; its layers ``kept`` are in float."""

    precision: str
    path: Path
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What explains the INT8 file that follows, and the FP32 file it is held against, under a temporary name."""

    study: Study
    fp32: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A precision that could not be converted, with the traceback for whoever looks for the cause.

    ``out_of_memory``: it might go well where nothing else runs.
    """

    precision: str
    error: MobenchError
    trace: str
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The request is finished; the next may come."""


Message = Reference | Converted | Explained | Failed | Done
Make = Callable[[str, tuple[str, ...]], bytes]  # a file's content in a precision, in INT8 with some layers in float


class Kept:
    """The few values made last, by key."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """Return the value of ``key``, made on the first call; the oldest of too many is dropped."""
        if key not in self._values:
            while len(self._values) >= _MOST:
                del self._values[next(iter(self._values))]
            self._values[key] = make()
        return self._values[key]


def temporary_path(path: Path, pid: int) -> Path:
    """Return the hidden name, in the same folder and with the same suffix, under which ``path`` is written first."""
    return path.with_name(f".{path.stem}.{pid}{path.suffix}")


def convert(request: Request, send: Callable[[Message], None], images: Kept, modules: Kept) -> None:
    """Convert a network to all precisions asked for, one float conversion for all; failures are sent, not raised."""
    left = list(request.precisions)
    worst: Callable[[], tuple[str, ...]] = tuple
    try:
        calibration: npt.NDArray[np.float32] = images.get(
            request.images_key(), lambda: request.calibration.images(request.weights.preprocess)
        )
        if request.given is None:
            module, reference = modules.get(request.module_key(), lambda: _module(request, calibration))
            send(reference)
            make = _maker(request, module, calibration)

            def worst() -> tuple[str, ...]:
                simulated = modules.get(f"int8 {request.module_key()}", lambda: Simulated(module, calibration))
                kept: tuple[str, ...] = simulated.worst(request.keep_float)
                if request.explain:
                    fp32 = _write(request.path(EXPLAINED), make("fp32", ()))
                    send(Explained(study=simulated.study(reference.images, kept), fp32=fp32))
                return kept

        else:
            send(Reference(images=calibration[:VERIFIED_IMAGES], logits=None))
            make = _quantizer(request, request.given, calibration)
        for precision in request.precisions:
            try:
                # What cannot be simulated costs the INT8 file only.
                simulates = precision == "int8" and (request.keep_float or request.explain)
                kept = worst() if simulates else ()
                path, content = request.path(precision), make(precision, kept)
                if precision.startswith("int8") and not has_integer_weights(content, request.format):
                    mend = "it has no layers that a quantizer knows: convolutions, fully connected ones"
                    raise BadInputError(path.name, "nothing in it could be quantized", mend)
                written = _write(path, content)
            except Exception as error:
                send(_failed(request, precision, error))
            else:
                try:
                    send(Converted(precision=precision, path=written, kept=kept))
                except BrokenPipeError:  # the parent is gone: nobody will take the file over
                    written.unlink(missing_ok=True)
                    raise
            left.remove(precision)
    except BrokenPipeError:
        raise
    except Exception as error:  # whatever the converters raise: a network that cannot be exported, not a sweep's end
        for precision in left:
            send(_failed(request, precision, error))
    send(Done())


def _maker(request: Request, module: nn.Module, images: npt.NDArray[np.float32]) -> Make:
    """Do what all precisions share; return what gives the file in one of them."""
    if request.via == "tensorflow":
        road = importlib.import_module("exporters.via_tensorflow")
        network = road.build(request.network, module)
        return lambda precision, kept: road.convert(network, precision, images)
    model: bytes = importlib.import_module(CONVERTERS[request.format]).convert(module, request.weights.preprocess.size)
    return lambda precision, kept: _in_precision(model, request.format, precision, images, kept)


def _quantizer(request: Request, file: Given, images: npt.NDArray[np.float32]) -> Make:
    """Read a float model file; return what gives it in one of the other precisions."""
    model, restore = given.read(file, request.format)
    turned = given.calibration(request, images)
    return lambda precision, kept: restore(_in_precision(model, request.format, precision, turned, kept))


def _module(request: Request, images: npt.NDArray[np.float32]) -> tuple[nn.Module, Reference]:
    """Return the network with its batch norm folded, where its road does not, and the logits of the unfolded one."""
    import torch

    from exporters.fold import fold_batch_norm

    def channels_first(some: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(some.transpose(0, 3, 1, 2))

    module = request.weights.build(channels_first(images[:STATISTICS_IMAGES]))
    verified = images[:VERIFIED_IMAGES]
    with torch.inference_mode():
        logits = [module(torch.from_numpy(channels_first(batch))) for batch in np.array_split(verified, len(verified))]
    if request.via == "torch":
        module = fold_batch_norm(module)
    return module.requires_grad_(False), Reference(images=verified, logits=torch.cat(logits).numpy())


def _in_precision(
    model: bytes, file_format: str, precision: str, images: npt.NDArray[np.float32], kept: tuple[str, ...]
) -> bytes:
    if precision == "fp32":
        return model
    quantizer = importlib.import_module(QUANTIZERS[file_format])
    made: dict[str, Callable[[], bytes]] = {
        "fp16": lambda: quantizer.to_fp16(model),
        "int8-dynamic": lambda: quantizer.to_int8_dynamic(model),
        "int8": lambda: quantizer.to_int8(model, images, keep_float=kept),
    }
    return made[precision]()


def _write(path: Path, content: bytes) -> Path:
    """Write what will become ``path`` under its temporary name; return that."""
    begun = temporary_path(path, os.getpid())
    try:
        begun.write_bytes(content)
    except OSError as error:
        begun.unlink(missing_ok=True)
        mend = "free some space, or name another folder with -o"
        raise ExportError(f"cannot write {path}", error.strerror or str(error), mend) from error
    return begun


def _failed(request: Request, precision: str, error: Exception) -> Failed:
    if isinstance(error, ImportError):
        error = MissingExtraError(error.name or str(error), "export" if request.via == "torch" else request.via)
    if isinstance(error, BadInputError):
        shown: MobenchError = error
    elif isinstance(error, MobenchError):
        shown = ExportError(error.what, error.why, error.mend)  # its own constructor may differ, which pickle minds
    else:
        what = f"{request.path(precision).name} could not be exported"
        first = str(error).strip().splitlines() or [""]
        shown = ExportError(what, f"{type(error).__name__}: {first[0][:300]}", "see --verbose for the libraries' words")
    return Failed(
        precision=precision,
        error=shown,
        trace="".join(traceback.format_exception(error)),
        out_of_memory=isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY),
    )


def main() -> int:
    """Serve requests. Returns the exit status."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    # Code of others that asks on stdin would take a request for its answer, or wait for ever: it finds the end.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threads = int(sys.argv[1])
    images, modules = Kept(), Kept()
    # Tracing keeps millions of objects alive, over which the collector goes again and again: a tenth of the time.
    gc.set_threshold(100_000, 50, 50)
    try:
        while True:
            try:
                request = pickle.load(requests)
            except EOFError:
                return 0
            _set_threads(threads)
            convert(request, lambda message: _send(answers, message), images, modules)
    except BrokenPipeError:
        return 1


def _set_threads(threads: int) -> None:
    """Limit torch to this worker's share of the cores; where torch is missing, the conversion says so."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


def _send(answers: BinaryIO, message: Message) -> None:
    pickle.dump(message, answers, protocol=pickle.HIGHEST_PROTOCOL)
    answers.flush()
