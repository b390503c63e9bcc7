"""What this process's libraries print: runtimes say there, and often only there, why they fail and what they took."""

from __future__ import annotations

import os
import re
import stat
import sys

_STDERR = 2
_MOST_BYTES = 1 << 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Printed:
    """What is printed from now on. A session's stderr is a file, which is read back; of any other nothing is known."""

    def __init__(self) -> None:
        """Begin here."""
        self._begin = _end()

    def text(self) -> str:
        """Return what has been printed since, without colours."""
        sys.stderr.flush()
        try:
            printed = os.pread(_STDERR, _MOST_BYTES, self._begin) if _is_file() else b""
        except OSError:  # a file that is open for writing alone
            return ""
        return _COLOUR.sub("", printed.decode(errors="replace"))


def _is_file() -> bool:
    return stat.S_ISREG(os.fstat(_STDERR).st_mode)


def _end() -> int:
    return os.lseek(_STDERR, 0, os.SEEK_END) if _is_file() else 0
