"""A private adb server: the real program, on a port and with a home folder of its own, that always ends."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

HOW_TO_GET_IT = "needs adb: apt-get install adb, or tests/standin/fetch.sh (no root), or Android's platform-tools"
# Whatever ends this process, a server does not outlive it: neither the first nor one that adb has started since.
_GUARD = '"$1" nodaemon server </dev/null & cat >/dev/null; "$1" kill-server'
_MARK = "STANDIN_SERVER"  # in the environment of a server and of all that it starts


def find_adb() -> str | None:
    """Return the adb program: on PATH, or where `fetch.sh` has put it."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("adb") or shutil.which("adb", path=beside)


def free_port() -> int:
    """Return a port nobody listens on now, below those that the system gives to whoever connects.

    While nobody listens on one of those, a connection to it may be given the same port and so meet itself.
    """
    while True:
        port = random.SystemRandom().randint(20_000, 32_000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


class AdbServer:
    """A running adb server; its clients need its ``env``."""

    def __init__(self, home: Path, program: str | None = None) -> None:
        found = program or find_adb()
        if found is None:
            raise FileNotFoundError(HOW_TO_GET_IT)
        self.program = found
        home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._mark = f"{_MARK}={home}"
        self.env = {
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "HOME": str(home),
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",  # it looks for no emulators
            "ADB_MDNS_AUTO_CONNECT": "0",
            _MARK: str(home),
        }
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def adb(self, *arguments: str, deadline_s: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run the adb program and return what it says."""
        return subprocess.run(
            [self.program, *arguments],
            env={**os.environ, **self.env, "TMPDIR": str(self._home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline_s,
        )

    def start(self) -> None:
        """Start it, as a child of this process."""
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "sh", self.program],
                env={**os.environ, **self.env, "TMPDIR": str(self._home)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.005)
        raise TimeoutError(f"the adb server does not come up; see {self._home / 'server.log'}")

    def kill(self) -> None:
        """End it as a crash does, however it was started; the next adb call starts another."""
        while servers := [pid for pid in processes_with(self._mark) if _is_server(pid)]:
            for pid in servers:  # its clients end by themselves
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def close(self) -> None:
        """End it for good."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # closes the pipe that the guard's child waits on
            self._process = None
        self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_server(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"fork-server" in words or b"nodaemon" in words


def processes_with(variable: str) -> list[int]:
    """Return the processes that have ``NAME=VALUE`` in their environment, and are not this one."""
    found, wanted = [], variable.encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone, or another user's
        if mine and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
