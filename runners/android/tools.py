"""The user's own benchmark tools on a phone: pushed with their libraries, run in adb's shell, each with a deadline."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from mobench.errors import SessionError
from runners.adb import Adb
from runners.android.folder import Folder, safe_name
from runners.tool_places import Completed

GRACE_S = 5.0  # on the phone a tool is ended at its deadline; this much later adb is
# `timeout` puts what it runs into a process group of its own, where the shell's end, when the cable is pulled, does
# not reach it: it would run on beside what is timed next. Old ones make no group, and do not know the option.
_LIMIT = """t=
for each in timeout 'timeout --foreground'; do $each 1 true && t=$each; done 2>/dev/null"""


class OnPhone:
    """A phone behind adb."""

    libraries = ""  # the system's linker finds the rest

    def __init__(self, adb: Adb, folder: Folder) -> None:
        self._adb, self._folder = adb, folder
        self._scratch = ""

    def program(self, binary: Path) -> str:
        """Push the program and its libraries into one folder."""
        libraries = sorted(path for path in binary.parent.glob("*.so*") if path.is_file() and path != binary)
        program = f"{self._folder.put_together([binary, *libraries])}/{safe_name(binary)}"
        self._adb.shell(f"chmod 755 {shlex.quote(program)}")
        return program

    def file(self, path: Path) -> str:
        """Push the file."""
        return self._folder.put(path)

    def run(self, command: Sequence[str], *, deadline_s: float) -> Completed:
        """Run a command in adb's shell. It has a deadline on the phone too: there it outlives adb."""
        began = time.monotonic()
        script = f"{_LIMIT}\n${{t:+$t {math.ceil(deadline_s)}}} {shlex.join(command)}"
        answer = self._adb.shell(script, deadline_s=deadline_s + GRACE_S)
        wall_s = time.monotonic() - began
        late = wall_s >= deadline_s
        return Completed(status=answer.status, out=answer.out, err=answer.err, wall_s=wall_s, late=late)

    def new_file(self, name: str) -> str:
        """Return a path in a folder of this session's own."""
        self._scratch = self._scratch or self._folder.scratch("tool")
        return f"{self._scratch}/{name}"

    def take(self, path: str) -> str:
        """Read and remove a file."""
        quoted = shlex.quote(path)
        return self._adb.shell(f"cat {quoted} 2>/dev/null; rm -f {quoted}").out

    def close(self) -> None:
        """Remove the session's folder."""
        if self._scratch:
            scratch, self._scratch = self._scratch, ""
            with contextlib.suppress(SessionError):  # out of reach: the folder goes with the next run's cleaning
                self._folder.remove(scratch)
