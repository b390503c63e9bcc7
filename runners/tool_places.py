"""Where the user's own benchmark tools run: this machine, or what speaks as it does."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mobench.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a run of a tool ended: a shell's exit status, both streams, and how long it took. ``late``: it was ended."""

    status: int
    out: str
    err: str
    wall_s: float
    late: bool = False


class Place(Protocol):
    """Where a tool runs: this machine or a phone."""

    @property
    def libraries(self) -> str:
        """Return folders of libraries, as the linker there takes them; empty for none."""
        ...

    def program(self, binary: Path) -> str:
        """Bring a program there, with the libraries (`*.so*`) that lie beside it; return its path."""
        ...

    def file(self, path: Path) -> str:
        """Bring a file there; return its path."""
        ...

    def run(self, command: Sequence[str], *, deadline_s: float) -> Completed:
        """Run a command there; it is ended at the deadline."""
        ...

    def new_file(self, name: str) -> str:
        """Return the path of a file there that the tool may write."""
        ...

    def take(self, path: str) -> str:
        """Return what the tool wrote to such a file, and remove it; empty where it wrote none."""
        ...

    def close(self) -> None:
        """Remove what was made there for this session."""
        ...


class Here:
    """This machine."""

    def __init__(self) -> None:
        self.libraries = os.environ.get("LD_LIBRARY_PATH", "")
        self._scratch = tempfile.TemporaryDirectory(prefix="mobench-")

    def program(self, binary: Path) -> str:
        """Return the program's own path."""
        return str(binary.absolute())

    def file(self, path: Path) -> str:
        """Return the file's own path."""
        return str(path.absolute())

    def run(self, command: Sequence[str], *, deadline_s: float) -> Completed:
        """Run a command in a process group of its own, which is killed at the deadline."""
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise BadInputError(command[0], f"cannot be run ({why})", "is it built for this machine?") from error
        late = False
        try:
            out, err = process.communicate(timeout=deadline_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            late = True
        status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return Completed(
            status=status,
            out=out.decode(errors="replace"),
            err=err.decode(errors="replace"),
            wall_s=time.monotonic() - began,
            late=late,
        )

    def new_file(self, name: str) -> str:
        """Return a path in a temporary folder."""
        return str(Path(self._scratch.name, name))

    def take(self, path: str) -> str:
        """Read and remove a file."""
        file = Path(path)
        text = file.read_text(errors="replace") if file.is_file() else ""
        file.unlink(missing_ok=True)
        return text

    def close(self) -> None:
        """Remove the temporary folder."""
        self._scratch.cleanup()
