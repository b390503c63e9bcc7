"""A device's own files, on this machine or behind a cable, and which of its processes descend from one."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Source(Protocol):
    """Where a device's files are: this machine, or one behind a cable, which should answer in one round trip."""

    def read_many(self, patterns: Sequence[str]) -> Mapping[str, str]:
        """Return the text of each readable file by its path, without white space around it.

        A pattern is an absolute path in which ``*``, ``?`` and ``[...]`` stand for parts of a name, as in a shell, or
        ``dumpsys:SERVICE``, what that Android service prints. What does not exist or may not be read is left out.
        """
        ...


class Files:
    """This machine's files, or those under another root."""

    def __init__(self, root: str | Path = "") -> None:
        self._root = str(root).rstrip("/")

    def read_many(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return the text of each readable file."""
        texts = {}
        for pattern in patterns:
            if not pattern.startswith("/"):
                continue  # a service, and there are none here
            # glob and open, not pathlib: a state is read while a campaign goes on, and these take a third of the time.
            paths = glob.glob(self._root + pattern) if glob.has_magic(pattern) else [self._root + pattern]  # noqa: PTH207
            for path in paths:
                try:
                    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                        text = file.readall()
                except OSError:
                    continue
                texts[path[len(self._root) :]] = text.decode(errors="replace").strip("\0\t\n\r ")
        return texts


def integer(text: str | None) -> int | None:
    """Return a file's whole number, or None where it holds none or is not there."""
    try:
        return int(text or "")
    except ValueError:
        return None


def integers(text: str) -> list[int]:
    """Return the whole numbers of a file, whatever else stands between them."""
    return [number for part in text.split() if (number := integer(part)) is not None]


def family(source: Source, pid: int) -> list[int]:
    """Return a process and its living descendants."""
    found, parents = [pid], [pid]
    while parents:
        lists = source.read_many([f"/proc/{parent}/task/*/children" for parent in parents])
        if not lists and parents == [pid]:
            return _family_by_parent(source, pid)  # a kernel without CONFIG_PROC_CHILDREN
        parents = [child for text in lists.values() for child in integers(text)]
        found += parents
    return found


def _family_by_parent(source: Source, pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for path, text in source.read_many(["/proc/[0-9]*/stat"]).items():
        fields = process_fields(text)
        if fields:
            parents[int(path.split("/")[2])] = fields[0]
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one and child not in found]
    return found


def process_fields(text: str) -> list[int] | None:
    """Turn a ``/proc/PID/stat`` into parent's id and CPU ticks: its own (user, system), its awaited children's."""
    fields = text.rpartition(")")[2].split()  # a name may hold anything, also spaces and brackets
    try:
        return [int(fields[at]) for at in (1, 11, 12, 13, 14)]
    except (IndexError, ValueError):
        return None
