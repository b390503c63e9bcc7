"""Checkpoint files: what one holds, read without torch and without running anything in it; then its tensors."""

from __future__ import annotations

import argparse
import json
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mobench.errors import BadInputError, MissingExtraError

if TYPE_CHECKING:
    import torch

SUFFIXES = (".safetensors", ".pth", ".pt")
# Training scripts put the weights under one of these, beside the optimiser's state; timm's and torchvision's also their
# running average, which is what they evaluate and publish.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state", "model_state_dict")
_COUNTER = "n_averaged"  # beside torchvision's averaged weights
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile; no layout has them
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The names in a file. ``shapes`` and ``metadata`` are known for safetensors only.

    ``averaged`` says that a training checkpoint has averaged weights too, which :func:`tensors` prefers.
    """

    names: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    averaged: bool = False


def look(path: Path) -> Contents:
    """Read what a checkpoint holds, from its header. Raises BadInputError for a file that is none."""
    if path.suffix not in SUFFIXES:
        raise BadInputError(f"{path} is no checkpoint", mend=f"give a file ending in {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            return _safetensors_header(path, file) if path.suffix == ".safetensors" else _pickle_names(path, file)
    except OSError as error:
        raise BadInputError(f"cannot read {path}", error.strerror or str(error)) from error


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the file's tensors by name. Pickled code is refused, never run."""
    import torch

    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise MissingExtraError("safetensors", "export") from error
        try:
            return {_plain(key): value for key, value in load_file(path).items()}
        except SafetensorError as error:
            raise _damaged(path, str(error)) from error
    try:
        # Training scripts keep their options beside the weights: a Namespace is a bag of values, and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _more_than_weights(path) from error
    except (EOFError, KeyError, RuntimeError, ValueError, OSError) as error:
        raise _damaged(path, str(error).split("\n", maxsplit=1)[0]) from error
    held = next((held[key] for key in _WRAPPERS if isinstance(held, dict) and isinstance(held.get(key), dict)), held)
    if not isinstance(held, dict):
        raise BadInputError(f"{path} holds a {type(held).__name__}, not weights by name", mend="save a state_dict()")
    weights = {_plain(str(key)): value for key, value in held.items() if isinstance(value, torch.Tensor)}
    return {key: value for key, value in weights.items() if key != _COUNTER}


def _plain(name: str) -> str:
    """Return a tensor's name without the prefixes that wrappers of the network put before it."""
    while prefix := next((each for each in _PREFIXES if name.startswith(each)), ""):
        name = name.removeprefix(prefix)
    return name


def _more_than_weights(path: Path) -> BadInputError:
    return BadInputError(
        f"{path} holds more than weights",
        "it has Python objects, such as a whole network, that would run code when read",
        "save its state_dict() alone, or as .safetensors",
    )


def _damaged(path: Path, why: str) -> BadInputError:
    return BadInputError(f"{path} is truncated or no checkpoint", why, "fetch it again")


def _safetensors_header(path: Path, file: BinaryIO) -> Contents:
    size = path.stat().st_size
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
    if not 0 < length <= min(size - 8, _MAX_HEADER_BYTES):
        raise _damaged(path, "its header does not fit its size")
    try:
        header = json.loads(file.read(length))
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        shapes = {_plain(name): tuple(map(int, entry["shape"])) for name, entry in header.items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path, "its header is not safetensors'") from error
    if 8 + length + end != size:
        raise _damaged(path, f"it has {size} bytes and its header says {8 + length + end}")
    return Contents(names=frozenset(shapes), shapes=shapes, metadata=metadata)


def _pickle_names(path: Path, file: BinaryIO) -> Contents:
    """List the strings in a torch file's pickle by reading its opcodes: nothing is built, nothing can run."""
    names: set[str] = set()
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                names |= _strings(archive.read(member))
        else:
            # Before torch 1.6: magic number, protocol, system, then the weights, a pickle each.
            for _ in range(4):
                names |= _strings(file)
    except (ValueError, StopIteration, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise _damaged(path, "it is not a file of torch.save") from error
    if any(name.startswith("torch.nn.modules.") for name in names):  # the class of a pickled network
        raise _more_than_weights(path)
    # A name alone may be an option of the training script, which timm's has under `model_ema`: torchvision's weights of
    # that name come with the counter.
    averaged = "state_dict_ema" in names or {"model_ema", _COUNTER} <= names
    return Contents(names=frozenset(map(_plain, names)), averaged=averaged)


def _strings(data: bytes | BinaryIO) -> set[str]:
    return {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
