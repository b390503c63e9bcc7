"""Published checkpoints: which a network has, and how one reaches the cache. The table of them is in `published`."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from mobench import artifacts
from mobench.errors import BadInputError
from mobench.zoo import catalogue
from mobench.zoo.published import CHECKPOINTS, ELSEWHERE, SAME_AS, Checkpoint
from mobench.zoo.spec import ModelSpec
from mobench.zoo.tables import NETWORKS

_TIMEOUT_S = 30  # of each network operation, not of the whole download
_CHUNK_BYTES = 1 << 20
OTHER_CHOICES = "use --weights random, or --weights FILE with a .safetensors or .pth you have"


def available(spec: ModelSpec) -> tuple[Checkpoint, ...]:
    """Return the published checkpoints of a network at its width and depth, the default first.

    At any input size, but for networks that flatten the last map: those have weights for one size.
    """
    own = NETWORKS[spec.name]
    flat = any(layer.kind == "flatten" for layer in spec.layers)
    if spec.depth != own.depth or (flat and spec.input_size != own.input_size):
        return ()
    width = "" if spec.width == own.width else f"_{spec.width:g}"
    return CHECKPOINTS.get(f"{SAME_AS.get(spec.name, spec.name)}{width}", ())


def find(spec: ModelSpec, tag: str | None = None) -> Checkpoint:
    """Return the published checkpoint of a network tagged `tag`, or the default one of the padding the caller chose.

    Raises BadInputError where nobody published one for this width, depth or padding, and for an unknown tag.
    """
    choices = available(spec)
    if tag is None and "padding" in spec.chosen:
        choices = tuple(choice for choice in choices if choice.padding == spec.padding)
    if not choices:
        padding = f" for {spec.padding} padding" if "padding" in spec.chosen else ""
        raise BadInputError(
            f"no published checkpoint of {spec.label}{padding} is known", elsewhere(spec.name), OTHER_CHOICES
        )
    for choice in choices:
        if tag is None or choice.tag == tag:
            return choice
    raise BadInputError(
        f"no published checkpoint of {spec.name} is tagged {tag!r}",
        mend=f"choose {' or '.join(choice.tag for choice in choices)}",
    )


def elsewhere(name: str) -> str:
    """Return what is known of weights for a network, or for the one it is a variant of, that have no address here."""
    return ELSEWHERE.get(catalogue.base(name), "")


def cache_folder() -> Path:
    """Return where downloads are kept: $MOBENCH_CACHE, else $XDG_CACHE_HOME/mobench, else ~/.cache/mobench."""
    if own := os.environ.get("MOBENCH_CACHE"):
        return Path(own).expanduser()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path there is to be ignored.
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "mobench"


def cached(checkpoint: Checkpoint, cache: Path | None = None) -> Path | None:
    """Return where a checkpoint lies in the cache, None where it does not. Its checksum is not looked at."""
    path = _place(checkpoint, cache)
    return path if path.is_file() else None


def _place(checkpoint: Checkpoint, cache: Path | None) -> Path:
    return (cache or cache_folder()) / "weights" / checkpoint.file


def fetch(checkpoint: Checkpoint, cache: Path | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Return the checkpoint's file in the cache, downloading it the first time.

    The file appears under its name only once its checksum fits, so a crash or another process never leaves a part of
    one. ``say`` is told, in a line, that a download begins. Raises BadInputError, which offers the other choices.
    """
    path = _place(checkpoint, cache)
    folder = path.parent
    if path.is_file() and artifacts.sha256(path).startswith(checkpoint.sha256):
        return path
    if say:
        say(f"downloading {checkpoint.url} to {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=checkpoint.file, suffix=".part")
    except OSError as error:
        raise _unwritable(folder, error) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _download(checkpoint.url, file.write)
        if not digest.startswith(checkpoint.sha256):
            raise BadInputError(
                f"download of {checkpoint.url} was removed",
                f"its sha256 is {digest[:10]}..., not {checkpoint.sha256[:10]}...",
                f"try again, or {OTHER_CHOICES}",
            )
        part.replace(path)
    except OSError as error:  # a full disk; the network's errors are BadInputErrors by now
        raise _unwritable(folder, error) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _unwritable(folder: Path, error: OSError) -> BadInputError:
    return BadInputError(
        f"the cache {folder} cannot be written", error.strerror or str(error), "set MOBENCH_CACHE to another folder"
    )


def _download(url: str, write: Callable[[bytes], object]) -> str:
    """Pass the body at `url` to `write`, whose own errors (a full disk) pass through; return the body's SHA-256."""
    digest, received = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "mobench"})
    with _one_line(url):
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    with response:
        announced = response.headers.get("Content-Length", "")
        while True:
            with _one_line(url):
                chunk = response.read(_CHUNK_BYTES)
            if not chunk:
                break
            digest.update(chunk)
            received += len(chunk)
            write(chunk)
    # http.client ends a body that was cut off like a whole one when it is read in pieces.
    if announced.isascii() and announced.isdigit() and received != int(announced):
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
