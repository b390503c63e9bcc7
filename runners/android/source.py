"""A phone's files and services behind adb: however many are asked for, one round trip brings them."""

from __future__ import annotations

import contextlib
import glob
import re
import secrets
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

from mobench.errors import SessionError
from runners.adb import Adb
from runners.device_files import Source
from runners.device_parts import CPU
from runners.device_state import Watch

SERVICE = "dumpsys:"
# adb sends a command's length in four hexadecimal digits, and Linux takes 128 KiB in one argument: far below both.
MOST_CHARACTERS = 16_000
DEADLINE_S = 30.0
# What cat prints lies between two marks, the second with its exit status. `[` and `echo` are the shell's own, so that
# only `cat` may cost a process, and in Android's shell (mksh) that is its own too. There `r` would be an alias.
_SHOW = """show() { for p in "$@"; do [ -r "$p" ] || continue
echo "$m<$p"; cat "$p" 2>/dev/null; echo "$m>$?"; done; }"""
_MISSING_SERVICE = "Can't find service"


class PhoneSource:
    """A phone's files, as `runners.device_files.Source` gives them.

    Only what the shell's user may read is there; on new phones that is little of /sys, and services tell the rest.
    """

    def __init__(self, adb: Adb) -> None:
        self._adb = adb

    def read_many(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return the text of each readable file, and what each service prints, in one round trip."""
        return ask(self._adb, patterns)


class Session(Protocol):
    """What `ThroughSession` needs of a session on the phone."""

    @property
    def alive(self) -> bool:
        """Whether its process has not ended."""
        ...

    def state(self, paths: Sequence[str]) -> Mapping[str, str]:
        """Return the text of the files that can be read, by path."""
        ...


class ThroughSession:
    """A phone's files, clocks through a live session: during a trip over adb they fall back to idle."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._session: Session | None = None

    def follow(self, session: Session) -> None:
        """Take this session from now on, for as long as it lives."""
        self._session = session

    def read_many(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return the text of each readable file, and what each service prints."""
        clocks = [path for path in patterns if path.startswith(f"{CPU}/") and not glob.has_magic(path)]
        near: Mapping[str, str] = {}
        if clocks and self._session is not None and self._session.alive:
            with contextlib.suppress(SessionError):  # it dies: its own next request says so
                near = self._session.state(clocks)
        rest = [pattern for pattern in patterns if pattern not in near]
        return {**self._source.read_many(rest), **near}


class PhoneWatch(Watch):
    """Takes states of a phone. No hypervisor steals from it and no counter tells its processors' energy.

    So the two are known without a round trip, which would otherwise stand at either end of every block.
    """

    def __init__(self, source: Source, processes: Callable[[], Collection[int]] = lambda: ()) -> None:
        """Look up what there is to read, and begin to count.

        Args:
            source: the phone's files.
            processes: the ids, on the phone, of the processes that are ours now: `Folder.processes`.
        """
        super().__init__(source, processes)

    def steal_ticks(self) -> int:
        """Return 0."""
        return 0

    def energy_uj(self) -> int | None:
        """Return None."""
        return None


def ask(adb: Adb, patterns: Sequence[str], commands: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return texts from a phone, without white space around them.

    Args:
        adb: the phone.
        patterns: files, and services as ``dumpsys:SERVICE``, by whose names their texts are returned.
        commands: further shell commands, fixed in the source and never made from input, by the names under which what
            they print is returned. One that fails is left out, unless it prints something all the same.

    Raises:
        LinkError: the phone is out of reach.
        SessionError: it does not answer in time.
    """
    texts: dict[str, str] = {}
    for lines in _chunks(_requests(patterns, commands or {})):
        texts |= _ask(adb, lines)
    return texts


def _requests(patterns: Sequence[str], commands: Mapping[str, str]) -> Iterator[str]:
    files: list[str] = []
    for pattern in patterns:
        service = pattern.removeprefix(SERVICE)
        if pattern.startswith("/"):
            files.append(quote_pattern(pattern))
        elif service != pattern and re.fullmatch(r"[\w.]+", service, re.ASCII):
            yield _command(pattern, f"dumpsys {service}")
    for name, command in commands.items():
        yield _command(name, command)
    for begin in range(0, len(files), 50):
        yield "show " + " ".join(files[begin : begin + 50])


def _command(name: str, command: str) -> str:
    return f'echo "$m<"{shlex.quote(name)}; {{ {command}; }} </dev/null 2>/dev/null; echo "$m>$?"'


def quote_pattern(pattern: str) -> str:
    """Quote a path for a shell, all but ``*``, ``?`` and ``[...]``.

    >>> quote_pattern("/sys/class/x y/temp[0-9]*_input")
    "/sys/class/'x y'/temp[0-9]*_input"
    """
    parts = re.split(r"(\*|\?|\[[\w!.-]+\]|/)", pattern)
    return "".join(part if at % 2 else part and shlex.quote(part) for at, part in enumerate(parts))


def _chunks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Bundle the lines of a script, so that each script stays below what adb and a shell take at once."""
    chunk: list[str] = []
    for line in lines:
        if chunk and sum(map(len, chunk)) + len(line) > MOST_CHARACTERS:
            yield chunk
            chunk = []
        chunk.append(line)
    if chunk:
        yield chunk


def _ask(adb: Adb, lines: Sequence[str]) -> dict[str, str]:
    mark = f"mobench-{secrets.token_hex(8)}"  # no file can hold it: it is made for this one answer
    out = adb.shell("\n".join([f"m={mark}", _SHOW, *lines]), deadline_s=DEADLINE_S, idempotent=True).out
    return dict(_sections(out.replace("\r\n", "\n"), mark))  # some old phones answer as terminals do


def _sections(out: str, mark: str) -> Iterator[tuple[str, str]]:
    for name, text, status in re.findall(rf"{mark}<(.*?)\n(.*?){mark}>(\d+)", out, re.DOTALL):
        text = text.strip("\0\t\n\r ")
        if name.startswith("/") and status != "0":
            continue  # it may not be read, or is a folder
        if not name.startswith("/") and (_MISSING_SERVICE in text[:80] or (not text and status != "0")):
            continue
        yield name, text
