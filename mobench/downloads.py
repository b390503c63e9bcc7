"""Files from the network: downloaded once, checked by their SHA-256, and whole or not there at all."""

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

from mobench.errors import BadInputError

_TIMEOUT_S = 30  # of each network operation, not of the whole download
_CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """Return where downloads are kept: $MOBENCH_CACHE, else $XDG_CACHE_HOME/mobench, else ~/.cache/mobench."""
    if own := os.environ.get("MOBENCH_CACHE"):
        return Path(own).expanduser()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path there is to be ignored.
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "mobench"


def download(
    url: str, sha256: str, target: Path, say: Callable[[str], None] | None = None, *, otherwise: str = "try again"
) -> Path:
    """Return ``target``, which holds the file at ``url``: downloaded unless it is there already and its checksum fits.

    The file appears under its name only once its checksum fits, so a crash or another process never leaves a part of
    one.

    Args:
        url: an http or https address.
        sha256: the file's SHA-256 in hex digits, or as many of the first ones as are known.
        target: where it is kept; missing folders are made.
        say: told, in a line, that a download begins.
        otherwise: what else the user can do, for errors.

    Raises:
        BadInputError: the network or the server fails, the checksum does not fit, or ``target`` cannot be written.
    """
    folder = target.parent
    if target.is_file() and _digest(target).startswith(sha256):
        return target
    if say:
        say(f"downloading {url} to {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=target.name, suffix=".part")
    except OSError as error:
        raise _unwritable(folder, error) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _receive(url, file.write, otherwise)
        if not digest.startswith(sha256):
            raise BadInputError(
                f"download of {url} was removed",
                f"its sha256 is {digest[:10]}..., not {sha256[:10]}...",
                _again(otherwise),
            )
        part.replace(target)
    except OSError as error:  # a full disk; the network's errors are BadInputErrors by now
        raise _unwritable(folder, error) from error
    finally:
        part.unlink(missing_ok=True)
    return target


def checksum(url: str) -> str:
    """Return the SHA-256 of what lies at ``url`` now, as 64 hex digits; nothing is kept."""
    return _receive(url, lambda _: None, "try again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _again(otherwise: str) -> str:
    return otherwise if otherwise.startswith("try again") else f"try again, or {otherwise}"


def _unwritable(folder: Path, error: OSError) -> BadInputError:
    return BadInputError(
        f"the cache {folder} cannot be written", error.strerror or str(error), "set MOBENCH_CACHE to another folder"
    )


def _receive(url: str, write: Callable[[bytes], object], otherwise: str) -> str:
    """Pass the body at `url` to `write`, whose own errors (a full disk) pass through; return the body's SHA-256."""
    digest, received = hashlib.sha256(), 0
    with _one_line(url, otherwise):
        request = urllib.request.Request(url, headers={"User-Agent": "mobench"})
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    with response:
        announced = response.headers.get("Content-Length", "")
        while True:
            with _one_line(url, otherwise):
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
            _again(otherwise),
        )
    return digest.hexdigest()


@contextlib.contextmanager
def _one_line(url: str, otherwise: str) -> Iterator[None]:
    """Raise the network's errors as one that names the URL and what else can be done."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise BadInputError(
            f"cannot download {url}", f"the server answered {error.code} {error.reason}", otherwise
        ) from error
    except urllib.error.URLError as error:
        raise BadInputError(f"cannot download {url}", str(error.reason), otherwise) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise BadInputError(f"cannot download {url}", str(error) or type(error).__name__, otherwise) from error
