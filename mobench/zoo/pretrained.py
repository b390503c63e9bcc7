"""The published checkpoints: where they lie, their checksums and pre-processing, and how one reaches the cache."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobench import artifacts
from mobench.errors import BadInputError
from mobench.records import Preprocess
from mobench.zoo.spec import ModelSpec

_TIMEOUT_S = 30  # of each network operation, not of the whole download
_CHUNK_BYTES = 1 << 20
OTHER_CHOICES = "use --weights random, or --weights FILE with a .safetensors or .pth you have"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A published file for a network at width 1.0, and what its makers measured with it (top-1, percent)."""

    tag: str
    url: str
    file: str  # its name in the cache
    sha256: str
    layout: str
    preprocess: Preprocess
    top1: float


def _torchvision(tag: str, file: str, sha256: str, crop: float, top1: float) -> Checkpoint:
    return Checkpoint(
        tag=tag,
        url=f"https://download.pytorch.org/models/{file}",
        file=file,
        sha256=sha256,
        layout="torchvision",
        preprocess=Preprocess(size=224, crop=crop),
        top1=top1,
    )


# URLs, pre-processing and top-1: torchvision's mobilenetv2.py and mobilenetv3.py, timm's efficientnet.py and results.
# torchvision's file names carry the first 8 digits of the sha256; the whole digests come from public projects that pin
# them (timm's from one, which also pins its revision). The first of a network is the default.
CHECKPOINTS: Mapping[str, tuple[Checkpoint, ...]] = {
    "mobilenet_v1": (
        Checkpoint(
            tag="ra4_e3600_r224_in1k",
            url="https://huggingface.co/timm/mobilenetv1_100.ra4_e3600_r224_in1k/resolve/"
            "6e88b523abded44469eafcd52f7832d5e0300b1b/model.safetensors",
            file="mobilenetv1_100.ra4_e3600_r224_in1k.safetensors",
            sha256="15c2f1411deb8e0533acbb41fe9523062f80d444d0393e7ad2b429f41378efc3",
            layout="timm",
            preprocess=Preprocess(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic"),
            top1=75.382,
        ),
    ),
    "mobilenet_v2": (
        _torchvision(
            "IMAGENET1K_V2",
            "mobilenet_v2-7ebf99e0.pth",
            "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f",
            crop=224 / 232,
            top1=72.154,
        ),
        _torchvision(
            "IMAGENET1K_V1",
            "mobilenet_v2-b0353104.pth",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            crop=224 / 256,
            top1=71.878,
        ),
    ),
    "mobilenet_v3_large": (
        _torchvision(
            "IMAGENET1K_V2",
            "mobilenet_v3_large-5c1a4163.pth",
            "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
            crop=224 / 232,
            top1=75.274,
        ),
        _torchvision(
            "IMAGENET1K_V1",
            "mobilenet_v3_large-8738ca79.pth",
            "8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
            crop=224 / 256,
            top1=74.042,
        ),
    ),
    "mobilenet_v3_small": (
        _torchvision(
            "IMAGENET1K_V1",
            "mobilenet_v3_small-047dcff4.pth",
            "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
            crop=224 / 256,
            top1=67.668,
        ),
    ),
}


def find(spec: ModelSpec, tag: str | None = None) -> Checkpoint:
    """Return the published checkpoint of a network, the default one or the one tagged `tag`.

    Raises BadInputError for a width that nobody published and for an unknown tag.
    """
    choices = CHECKPOINTS.get(spec.name, ())
    if not choices or spec.width != 1.0:
        raise BadInputError(
            f"no published checkpoint of {spec.name} at width {spec.width:g} is known", mend=OTHER_CHOICES
        )
    for choice in choices:
        if tag is None or choice.tag == tag:
            return choice
    raise BadInputError(
        f"no published checkpoint of {spec.name} is tagged {tag!r}",
        mend=f"choose {' or '.join(choice.tag for choice in choices)}",
    )


def cache_folder() -> Path:
    """Return where downloads are kept: $MOBENCH_CACHE, else $XDG_CACHE_HOME/mobench, else ~/.cache/mobench."""
    if own := os.environ.get("MOBENCH_CACHE"):
        return Path(own).expanduser()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path there is to be ignored.
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "mobench"


def fetch(checkpoint: Checkpoint, cache: Path | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Return the checkpoint's file in the cache, downloading it the first time.

    The file appears under its name only once its checksum fits, so a crash or another process never leaves a part of
    one. ``say`` is told, in a line, that a download begins. Raises BadInputError, which offers the other choices.
    """
    folder = (cache or cache_folder()) / "weights"
    path = folder / checkpoint.file
    if path.is_file() and artifacts.sha256(path) == checkpoint.sha256:
        return path
    if say:
        say(f"downloading {checkpoint.url} to {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=checkpoint.file, suffix=".part")
    except OSError as error:
        raise BadInputError(
            f"the cache {folder} cannot be written", error.strerror or str(error), "set MOBENCH_CACHE to another folder"
        ) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _download(checkpoint.url, file.write)
        if digest != checkpoint.sha256:
            raise BadInputError(
                f"download of {checkpoint.url} was removed",
                f"its sha256 is {digest[:8]}..., not {checkpoint.sha256[:8]}...",
                f"try again, or {OTHER_CHOICES}",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _download(url: str, write: Callable[[bytes], object]) -> str:
    """Pass the body at `url` to `write`, whose own errors (a full disk) pass through; return the body's SHA-256."""
    digest, received = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "mobench"})
    with _one_line(url):
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    with response:
        announced = response.headers.get("Content-Length")
        while True:
            with _one_line(url):
                chunk = response.read(_CHUNK_BYTES)
            if not chunk:
                break
            digest.update(chunk)
            received += len(chunk)
            write(chunk)
    # http.client ends a body that was cut off like a whole one when it is read in pieces.
    if announced is not None and received != int(announced):
        raise BadInputError(
            f"download of {url} was removed",
            f"it broke off after {received} of {announced} bytes",
            f"try again, or {OTHER_CHOICES}",
        )
    return digest.hexdigest()


@contextlib.contextmanager
def _one_line(url: str) -> Iterator[None]:
    """Raise the network's errors as one that names the URL and the other choices."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise BadInputError(
            f"cannot download {url}", f"the server answered {error.code} {error.reason}", OTHER_CHOICES
        ) from error
    except urllib.error.URLError as error:
        raise BadInputError(f"cannot download {url}", str(error.reason), OTHER_CHOICES) from error
    except (OSError, http.client.HTTPException) as error:
        raise BadInputError(f"cannot download {url}", str(error) or type(error).__name__, OTHER_CHOICES) from error
