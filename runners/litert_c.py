"""LiteRT's C library, from the ai-edge-litert wheel, through ctypes: its status codes become errors.

It comes without headers and without a stable ABI: what is used here was tried on 2.3.0, and an older one is refused.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from ctypes import byref, c_void_p
from pathlib import Path
from typing import Any

from mobench.errors import SessionError

MEND = "pip install --upgrade ai-edge-litert"
_NEW_IN_2_3 = "LiteRtCompiledModelIsNonCpuFullyAccelerated"  # there is no call that tells the version


class LitertError(SessionError):
    """A call that failed, with its status."""

    def __init__(self, what: str, function: str, status: int) -> None:
        self.status = status
        super().__init__(what, f"{function} failed with status {status}", "see the runtime's message")


class Litert:
    """The library. ``what`` is what a failed call is said to be the failure of."""

    def __init__(self, what: str, needed_for: str) -> None:
        """Load it.

        Raises:
            SessionError: it is not there, or older than 2.3; ``needed_for`` says what needs it.
        """
        self._what = what
        found = [path for path in folders() if (path / _file()).is_file()]
        if not found:
            raise SessionError(needed_for, "there is no LiteRT C library here", MEND)
        self.folder = found[0]
        self.library = ctypes.CDLL(str(self.folder / _file()))
        if not hasattr(self.library, _NEW_IN_2_3):
            raise SessionError(needed_for, "an older one is installed", MEND)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            LitertError: it gives another status than 0.
        """
        if status := getattr(self.library, name)(*arguments):
            raise LitertError(self._what, name, status)

    def new(self, name: str, *arguments: Any) -> c_void_p:
        """Call what hands back an object through its last argument."""
        made = c_void_p()
        self.call(name, *arguments, byref(made))
        return made

    def add_options(self, options: c_void_p, identifier: bytes, text: str) -> None:
        """Add options as LiteRT takes them: TOML text on the heap, and who frees it."""
        libc = ctypes.CDLL(None)
        libc.strdup.restype = c_void_p
        payload, free = c_void_p(libc.strdup(text.encode())), ctypes.cast(libc.free, c_void_p)
        opaque = c_void_p()
        self.call("LiteRtCreateOpaqueOptions", identifier, payload, free, byref(opaque))
        self.call("LiteRtAddOpaqueOptions", options, opaque)


def folders() -> list[Path]:
    """Return the folders of the ai-edge-litert package; none where it is not installed."""
    package = importlib.util.find_spec("ai_edge_litert")
    return [Path(folder) for folder in (package.submodule_search_locations if package else None) or ()]


def _file() -> str:
    return "libLiteRt.dylib" if sys.platform == "darwin" else "libLiteRt.so"
