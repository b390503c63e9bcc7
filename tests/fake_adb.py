"""Adb without a phone: runs a phone's scripts in this host's shell, with /sys, /proc and /data in a private folder."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mobench.errors import LinkError
from runners.adb import Answer

# A phone's folders, at the beginning of a path; processes are the host's.
_MOVED = re.compile(r"(?<![\w.\-/*])/(?=(?:sys|data)/|proc/(?!self|[\d$\[]))")
# Android's shell is mksh, and its programs are toybox's; where this host has them, the scripts must run with them too.
SHELLS = tuple(name for name in ("sh", "mksh", "bash") if shutil.which(name))
_TOYBOX = (
    *("cat", "chmod", "date", "df", "du", "grep", "ls", "md5sum", "mkdir", "mv", "printf", "rm", "sed", "sha1sum"),
    *("sha256sum", "sleep", "touch"),
)


class FakeAdb:
    """Stands in for `runners.adb.Adb`. ``unplugged`` makes every call a LinkError; ``pushed`` counts bytes."""

    def __init__(self, root: Path, *, shell: str = "sh", serial: str = "FAKE01") -> None:
        self.serial, self.root, self._shell = serial, root, shell
        self.unplugged = False
        self.scripts: list[str] = []
        self.pushed = 0
        self._programs = root / "bin"
        self._programs.mkdir(parents=True, exist_ok=True)
        toybox = shutil.which("toybox")
        if shell == "mksh" and toybox:
            for name in _TOYBOX:
                (self._programs / name).symlink_to(toybox)
            (self._programs / "sh").symlink_to(str(shutil.which(shell)))

    def path(self, path: str) -> Path:
        """Return where a path of the phone's lies here."""
        return self.root / path.lstrip("/")

    def write(self, files: Mapping[str, object]) -> None:
        """Write files of the phone's."""
        for path, text in files.items():
            self.path(path).parent.mkdir(parents=True, exist_ok=True)
            self.path(path).write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())

    def program(self, name: str, script: str) -> None:
        """Give the phone a program."""
        (self._programs / name).unlink(missing_ok=True)  # it may be a link to the host's
        (self._programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self._programs / name).chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        """Return the argument list of a process that runs ``shell SCRIPT``."""
        assert arguments[0] == "shell"
        path = f"export PATH={self._programs}:$PATH; "
        return [str(shutil.which(self._shell)), "-c", path + _MOVED.sub(f"{self.root}/", arguments[1])]

    def shell(self, script: str, *, deadline_s: float = 30.0, idempotent: bool = False) -> Answer:
        """Run a script and return what it printed."""
        self._check()
        self.scripts.append(script)
        done = subprocess.run(
            self.command("shell", script),
            capture_output=True,
            timeout=deadline_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ,
        )
        out, err = (text.decode(errors="replace").replace(str(self.root), "") for text in (done.stdout, done.stderr))
        return Answer(status=done.returncode, out=out, err=err)

    def push(self, source: Path, target: str, *, deadline_s: float = 300.0) -> None:
        """Copy a file to the phone."""
        self._check()
        shutil.copyfile(source, self.path(target))
        self.pushed += source.stat().st_size

    def pull(self, source: str, target: Path, *, deadline_s: float = 300.0) -> None:
        """Copy a file from the phone."""
        self._check()
        shutil.copyfile(self.path(source), target)

    def _check(self) -> None:
        if self.unplugged:
            raise LinkError(f"phone {self.serial}", "device not found", "plug it in")
