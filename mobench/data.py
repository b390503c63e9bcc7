"""Photographs in: folders and labels, pre-processing, and calibration sets that are named, seeded and hashed."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mobench import calibration_images
from mobench.errors import BadInputError
from mobench.records import Preprocess

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"))
CLASSES = 1000
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# What Pillow raises on bytes that are no image, or only the beginning of one: its decoders have no common exception.
_UNREADABLE = (
    OSError,
    EOFError,
    IndexError,
    KeyError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# A manifest lists the images it was calibrated with up to this many, so that it stays a file one can read.
_LISTED_IMAGES = 1000

LabelledImages = list[tuple[Path, int]]
Float32 = npt.NDArray[np.float32]


def open_image(path: Path) -> Image.Image:
    """Decode the image at ``path`` whole; raise a BadInputError that names it when that fails."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except _UNREADABLE as error:
        why = "not an image Pillow knows" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BadInputError(f"unreadable image {path}", why or type(error).__name__) from error


def _rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` upright and in RGB; 16-bit grey is scaled, transparency is laid on white."""
    try:
        upright = ImageOps.exif_transpose(image)
    except _UNREADABLE:  # a broken EXIF block says nothing about the pixels
        upright = image
    if upright.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 when converting, which turns nearly every such image white.
        grey = np.asarray(upright, dtype=np.int64)
        upright = Image.fromarray(np.clip(grey // 257 if grey.max() > 255 else grey, 0, 255).astype(np.uint8))
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return upright.convert("RGB")


def crop_pixels(image: Image.Image, p: Preprocess) -> npt.NDArray[np.uint8]:
    """Resize and centre-crop ``image`` as ``p`` says: uint8 [size, size, 3], RGB, before any normalisation.

    The long side and the crop's corner are rounded down.
    """
    rgb = _rgb(image)
    short = max(p.size, round(p.size / p.crop))
    width, height = rgb.size
    scale = short / min(width, height)
    target = (short, int(height * scale)) if width <= height else (int(width * scale), short)
    target = (max(short, target[0]), max(short, target[1]))
    if rgb.size != target:
        rgb = rgb.resize(target, _RESAMPLING[p.interpolation])
    left, top = (target[0] - p.size) // 2, (target[1] - p.size) // 2
    return np.asarray(rgb.crop((left, top, left + p.size, top + p.size)), dtype=np.uint8)


def normalise(pixels: npt.NDArray[np.uint8], p: Preprocess) -> Float32:
    """Return ``(pixels / 255 - mean) / std`` a channel: float32, same shape, channels last."""
    std = np.asarray(p.std, dtype=np.float32)
    mean = np.asarray(p.mean, dtype=np.float32)
    return ((pixels.astype(np.float32) / np.float32(255) - mean) / std).astype(np.float32, copy=False)


def preprocess(image: Image.Image, p: Preprocess) -> Float32:
    """Turn a photograph of any mode into a network's input: float32 [size, size, 3], RGB, channels last."""
    return normalise(crop_pixels(image, p), p)


def load_images(paths: Iterable[Path], p: Preprocess) -> Float32:
    """Decode and pre-process ``paths``: float32 [N, size, size, 3]. An unreadable one raises a BadInputError."""
    loaded = [preprocess(open_image(path), p) for path in paths]
    return np.stack(loaded) if loaded else np.empty((0, p.size, p.size, 3), np.float32)


def image_files(folder: Path) -> list[Path]:
    """Return the image files at any depth under ``folder``, sorted by their path in it; links are followed once."""
    if not folder.is_dir():
        why = "it is a file, not a folder" if folder.exists() else "no such folder"
        raise BadInputError(f"images {folder}", why)
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        seen.add(Path(parent).resolve())
        folders[:] = [f for f in folders if not f.startswith(".") and Path(parent, f).resolve() not in seen]
        found += [Path(parent, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def seeded_order(paths: Sequence[Path], folder: Path, seed: int) -> list[Path]:
    """Shuffle ``paths`` by ``seed`` and their path in ``folder``: the same on every platform and Python version."""

    def key(path: Path) -> bytes:
        return hashlib.sha256(f"{seed}:{os.path.relpath(path, folder)}".encode()).digest()

    return sorted(paths, key=key)


def image_id(path: Path) -> str:
    """Return what names an image by its bytes: the first 16 hexadecimal digits of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Images that set the ranges of a quantized network, and what names them: see `calibration`.

    ``paths`` are the chosen files in the order of their path in the folder; empty for the embedded set, which is made
    anew from ``seed``. ``ids`` are their `image_id`.
    """

    name: str
    sha256: str
    n: int
    seed: int
    paths: tuple[Path, ...] = ()
    ids: tuple[str, ...] = ()

    def images(self, p: Preprocess) -> Float32:
        """Return the images pre-processed: float32 [n, size, size, 3], RGB, channels last."""
        if self.paths:
            return load_images(self.paths, p)
        return np.stack([preprocess(Image.fromarray(pixels), p) for pixels in _embedded(self.n, self.seed)])

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of the set. ``images`` lets `mobench eval` leave its photographs out."""
        said: dict[str, Any] = {"name": self.name, "sha256": self.sha256, "n": self.n, "seed": self.seed}
        if 0 < len(self.ids) <= _LISTED_IMAGES:
            said["images"] = list(self.ids)
        return said


def calibration(folder: Path | None, *, n: int = 100, seed: int = 0) -> Calibration:
    """Choose ``n`` images at any depth under ``folder``, or without a folder the embedded set, by ``seed``.

    An image that cannot be read is named on stderr and the next one taken in its place. Raises BadInputError when none
    can be read.
    """
    if n < 1:
        raise BadInputError(f"calibration with {n} images", "at least one is needed")
    if folder is None:
        # Name, n and seed say which images these are; the first one, that this machine draws them as others do. All of
        # them would take seconds, in every export that turns out to be unchanged.
        digest = hashlib.sha256(f"{calibration_images.NAME}:{n}:{seed}:".encode())
        digest.update(calibration_images.image(0, seed=seed).tobytes())
        return Calibration(name=calibration_images.NAME, sha256=digest.hexdigest(), n=n, seed=seed)
    found = image_files(folder)
    chosen: dict[Path, str] = {}
    for path in seeded_order(found, folder, seed):
        if len(chosen) == n:
            break
        try:
            open_image(path)
        except BadInputError as error:
            print(f"warning: {error}; left out of the calibration", file=sys.stderr)
        else:
            chosen[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    if not chosen:
        why = f"none of its {len(found)} images can be read" if found else "no image files in it"
        raise BadInputError(f"calibration images {folder}", why, "name a folder of photographs, or none at all")
    if len(chosen) < n:
        print(f"warning: calibration images {folder}: {len(chosen)} of the {n} asked for", file=sys.stderr)
    paths = tuple(path for path in found if path in chosen)
    return Calibration(
        name=folder.resolve().name,
        sha256=hashlib.sha256("".join(chosen[path] for path in paths).encode()).hexdigest(),
        n=len(paths),
        seed=seed,
        paths=paths,
        ids=tuple(chosen[path][:16] for path in paths),
    )


@functools.lru_cache(maxsize=1)  # drawn once for all networks of an export; it takes seconds
def _embedded(n: int, seed: int) -> tuple[npt.NDArray[np.uint8], ...]:
    return tuple(calibration_images.image(index, seed=seed) for index in range(n))


@functools.cache
def class_by_wnid() -> Mapping[str, int]:
    """Return the index, 0 to 999, of each of ImageNet's thousand classes by its WordNet id."""
    table = importlib.resources.files("mobench").joinpath("imagenet_classes.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in table.splitlines()[1:])
    return {wnid: int(index) for index, wnid, _ in rows}


def class_index(label: str, where: str) -> int:
    """Return the class index that ``label``, a wnid or an index, stands for; ``where`` names it in the error."""
    if re.fullmatch(r"[0-9]{1,6}", label):
        if int(label) < CLASSES:
            return int(label)
        raise BadInputError(where, f"class index {label} is not in 0..{CLASSES - 1}")
    index = class_by_wnid().get(label)
    if index is None:
        raise BadInputError(where, f"{label!r} is neither a class index nor the wnid of one of ImageNet's classes")
    return index


def labelled_images(folder: Path, *, labels: Path | None = None) -> LabelledImages:
    """Return (path, class index 0..999) of every image in ``folder``, sorted by path.

    Without ``labels``, ``folder`` holds a folder a class, named by wnid or by index; any subset of the thousand, and
    the place of a folder among the others means nothing. With ``labels``, a text file with one ``filename label`` a
    line (comma, tab or space between them; label a wnid or an index), the files are looked up in ``folder``.
    """
    if labels is not None:
        return _by_labels_file(folder, labels)
    found = image_files(folder)
    if not found:
        raise BadInputError(f"images {folder}", f"no image files in it ({', '.join(sorted(SUFFIXES))})")
    indices: dict[str, int] = {}
    labelled = []
    for path in found:
        inside = path.relative_to(folder).parts
        if len(inside) == 1:
            mend = "give --labels FILE with a line 'filename label' for each"
            raise BadInputError(f"image {path}", "it lies in no class folder", mend)
        if inside[0] not in indices:
            indices[inside[0]] = class_index(inside[0], f"class folder {folder / inside[0]}")
        labelled.append((path, indices[inside[0]]))
    return labelled


def _by_labels_file(folder: Path, labels: Path) -> LabelledImages:
    if not folder.is_dir():
        raise BadInputError(f"images {folder}", "no such folder")
    try:
        text = labels.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"labels file {labels}", getattr(error, "strerror", None) or "not UTF-8 text") from error
    labelled: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{labels}:{number}"
        # The label holds no separator and comes last; a file name may hold spaces.
        split = re.fullmatch(r"(.+?)\s*[,\t ]\s*([^,\s]+)", line)
        if split is None:
            raise BadInputError(where, f"{line[:60]!r} is not 'filename label'")
        name, label = split[1].strip().strip('"'), split[2].strip('"')
        if number == 1 and Path(name).suffix.lower() not in SUFFIXES and not (folder / name).exists():
            continue  # a heading such as "filename,label"
        path = folder / name
        index = class_index(label, where)
        if not path.is_file():
            raise BadInputError(where, f"{name} is not in {folder}")
        if labelled.setdefault(path, index) != index:
            raise BadInputError(where, f"{name} has class {index} here and {labelled[path]} further up")
    if not labelled:
        raise BadInputError(f"labels file {labels}", "it names no image")
    return sorted(labelled.items())
