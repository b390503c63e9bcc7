"""Model files and the manifests beside them: read, recognise, hash, find."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mobench.errors import BadInputError
from mobench.files import write_text
from mobench.records import Artifact, Format, Preprocess

SUFFIXES: Mapping[str, Format] = {".onnx": "onnx", ".tflite": "tflite"}


def sha256(path: Path) -> str:
    """Return the file's SHA-256 as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_path(path: Path) -> Path:
    """Return where the manifest of a model file lies: ``net.onnx`` -> ``net.onnx.json``."""
    return path.with_name(path.name + ".json")


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of the model file ``path`` beside it."""
    write_text(manifest_path(path), json.dumps(manifest, indent=1) + "\n")


def _looks_like(path: Path, file_format: Format) -> str | None:
    """Return why the file cannot be what its suffix says, or None. Cheap: the first bytes only."""
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        return "the file is empty"
    if file_format == "tflite" and head[4:8] != b"TFL3":
        return "it does not start like a TFLite flatbuffer (identifier TFL3)"
    # An ONNX file is a ModelProto; its first field is ir_version (tag 0x08) in every known writer.
    if file_format == "onnx" and head[4:8] == b"TFL3":
        return "it is a TFLite file"
    return None


def read(path: Path) -> Artifact:
    """Read a model file's identity and, where one of ours lies beside it, its manifest.

    Raises:
        BadInputError: missing, empty, of an unknown or foreign format, or not the file its manifest describes.
    """
    file_format = SUFFIXES.get(path.suffix.lower())
    if not path.is_file():
        raise BadInputError(str(path), "no such file", "give a .onnx or .tflite file, or `mobench export` one")
    if file_format is None:
        raise BadInputError(str(path), f"{path.suffix or 'no suffix'} is not a model format", "give .onnx or .tflite")
    reason = _looks_like(path, file_format)
    if reason:
        raise BadInputError(str(path), reason, "the file is damaged or misnamed: export or fetch it again")
    digest, size = sha256(path), path.stat().st_size
    beside = manifest_path(path)
    if not beside.is_file():
        return Artifact(path=path, sha256=digest, size_bytes=size, format=file_format, name=path.stem)
    try:
        manifest = json.loads(beside.read_text(encoding="utf-8"))
        described, name, precision = manifest["sha256"], manifest["network"]["label"], manifest["precision"]
        fields = manifest["preprocess"]
        preprocess = Preprocess(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(str(beside), f"not a mobench manifest ({error!r})", "remove it or export again") from error
    if described != digest:
        raise BadInputError(str(path), "it is not the file its manifest describes", "export it again")
    return Artifact(
        path=path,
        sha256=digest,
        size_bytes=size,
        format=file_format,
        name=name,
        precision=precision,
        preprocess=preprocess,
        manifest=manifest,
    )


def find(folder: Path) -> tuple[Path, ...]:
    """Return every model file under a folder, sorted by path."""
    return tuple(sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")))


def resolve(things: Iterable[str], folder: Path = Path("artifacts")) -> tuple[Path, ...]:
    """Turn what the user named into model files, in that order.

    A thing is a file, a folder (all models in it), or a network's name or label (all its exports under ``folder``).
    None named means all of ``folder``. A file named twice comes twice: two equal cells tell how well one measures.

    Raises:
        BadInputError: nothing is there, or a name matches no export; the nearest names are offered.
    """
    named = list(things)
    exports = {path: _network(path) for path in find(folder)} if folder.is_dir() else {}
    if not named:
        if not exports:
            raise BadInputError(f"no model under {folder}", "", "name files, or `mobench export mobilenet_v2` first")
        return tuple(exports)
    chosen: list[Path] = []
    for thing in named:
        path = Path(thing)
        if path.is_dir():
            matches = find(path)
            if not matches:
                raise BadInputError(thing, "no .onnx or .tflite in this folder", "name another")
        elif path.suffix.lower() in SUFFIXES or path.exists():
            matches = (path,)
        else:
            matches = tuple(p for p, names in exports.items() if thing in names)
            if not matches:
                known = sorted({name for names in exports.values() for name in names})
                near = difflib.get_close_matches(thing, known, n=3)
                mend = f"did you mean {', '.join(near)}?" if near else f"`mobench export {thing}` first"
                raise BadInputError(thing, f"neither a file nor an export under {folder}", mend)
        chosen += matches
    return tuple(chosen)


def _network(path: Path) -> tuple[str, ...]:
    """Return the names an export answers to: its network's name and label, and its file name."""
    try:
        network = json.loads(manifest_path(path).read_text(encoding="utf-8"))["network"]
        return (network["name"], network["label"], path.stem)
    except (OSError, ValueError, KeyError, TypeError):
        return (path.stem,)
