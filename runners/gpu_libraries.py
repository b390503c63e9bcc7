"""The libraries that ONNX Runtime's GPU providers need: which, whether they are here, and loading those of wheels."""

from __future__ import annotations

import ctypes
import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB = 1, 5
# What an ordinary system has; the others are NVIDIA's.
_SYSTEM = ("ld-linux", "libc.so", "libdl.so", "libgcc_s", "libm.so", "libpthread", "librt.so", "libstdc++", "libonnx")


def needed(library: Path) -> tuple[str, ...]:
    """Return the names of NVIDIA's libraries that a library is linked with, in their order.

    Read from its ELF headers alone: the files are hundreds of megabytes. Empty where it is no 64-bit ELF file.
    """
    try:
        with library.open("rb") as file:
            return tuple(name for name in _needed(file) if not name.startswith(_SYSTEM))
    except (OSError, struct.error, StopIteration, UnicodeDecodeError):
        return ()


def _needed(file: BinaryIO) -> Iterator[str]:
    header = file.read(64)
    if header[:5] != b"\x7fELF\x02":
        return
    table = struct.unpack_from("<Q", header, 32)[0]
    size, count = struct.unpack_from("<HH", header, 54)
    file.seek(table)
    rows = file.read(size * count)
    segments = [struct.unpack_from("<IIQQQQQQ", rows, size * index) for index in range(count)]
    at, length = next((offset, filled) for kind, _, offset, _, _, filled, _, _ in segments if kind == _DYNAMIC)
    file.seek(at)
    entries = list(struct.iter_unpack("<qQ", file.read(length)))
    address = next(value for tag, value in entries if tag == _STRTAB)
    strings = next(
        offset + address - start
        for kind, _, offset, start, _, filled, _, _ in segments
        if kind == _LOAD and start <= address < start + filled
    )
    for tag, value in entries:
        if tag == _NEEDED:
            file.seek(strings + value)
            yield file.read(256).partition(b"\0")[0].decode()


def missing(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the libraries that can neither be found in a wheel of NVIDIA's nor loaded by name."""
    return tuple(name for name in names if not any(_wheels(name)) and not _loads(name))


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _wheels(pattern: str) -> Iterator[Path]:
    """Yield the files of a name in the wheels that hold NVIDIA's libraries: nvidia-*, tensorrt-*-libs."""
    for package, inside in (("nvidia", f"*/lib/{pattern}"), ("tensorrt_libs", pattern)):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(folder).glob(inside))


def preload(*, tensorrt: bool) -> None:
    """Load CUDA, cuDNN and TensorRT from their wheels, where they are, so that the provider's library finds them.

    ONNX Runtime does so for CUDA and cuDNN when it is told to, and says what it does not find; what is missing makes
    the session fail later, with its name.
    """
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    for pattern in ("libnvinfer.so.*", "libnvinfer_plugin.so.*", "libnvonnxparser.so.*") if tensorrt else ():
        for path in _wheels(pattern):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue  # it wants what is not here: the session says what
