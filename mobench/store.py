"""The journal: one campaign a file, one event a line, appended as it happens; folded back into a Run.

results/README.md describes every event. Percentiles and ratios are computed from it, never stored.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mobench.errors import BadInputError, MobenchError
from mobench.records import (
    Accuracy,
    Block,
    Check,
    Cluster,
    DeviceState,
    Energy,
    Failure,
    GpuState,
    Imported,
    Ready,
    Run,
)

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 4
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=dataclasses.asdict)
_SERIAL_LENGTH = 6
_LAST_BYTES = 4096  # what may hold the last line of a campaign that ended: its `end`


class Journal:
    """An append-only campaign file. An event is a line, handed to the system whole before ``append`` returns."""

    def __init__(self, path: Path, *, wait: bool = True, private: Sequence[str] = ()) -> None:
        """Open, or make, the file. A last line that an earlier writer did not finish is removed.

        ``wait``: for another writer to finish, as those who share ``accuracy.jsonl`` do; else that is an error.
        ``private``: words that stand in no line; shorter ones than a serial number would be found everywhere.
        """
        self.path = path
        self._private = [word.encode() for word in private if len(word) >= _SERIAL_LENGTH]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # freed when it is closed
            text = path.read_bytes()
            os.ftruncate(self._file, text.rfind(b"\n") + 1)
        except BlockingIOError as error:
            os.close(self._file)
            raise BadInputError(str(path), "another mobench is writing to it", "wait for it, or stop it") from error
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, event: str, record: Any = None, **fields: Any) -> None:
        """Append one event: a record's fields, or the given ones.

        Raises:
            MobenchError: the file cannot be written (a full disk); what was appended before is there and whole.
        """
        if record is not None:  # not asdict, which copies every timing; it is for what lies deeper
            fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        line = _ENCODER.encode({"event": event, **fields}).encode() + b"\n"
        for word in self._private:
            line = line.replace(word, b"SERIAL")
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._file, end)
            raise _unwritable(self.path, error) from error

    def size(self) -> int:
        """Return the file's length in bytes."""
        return os.lseek(self._file, 0, os.SEEK_END)

    def cut(self, size: int) -> None:
        """Cut the file back to a length it had: what was appended since is gone."""
        os.ftruncate(self._file, size)

    def sync(self) -> None:
        """Write through to the disk, so that a power cut loses nothing appended so far.

        Raises:
            MobenchError: the disk does not take it.
        """
        try:
            os.fsync(self._file)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Write through to the disk and close."""
        try:
            self.sync()
        finally:
            os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unwritable(path: Path, error: OSError) -> MobenchError:
    reason = error.strerror or str(error)
    return MobenchError(
        str(path), reason, "choose another folder, or make room or permission there; what was written before is kept"
    )


def new_path(folder: Path, kind: str, machine: Mapping[str, Any]) -> Path:
    """Make a fresh, empty journal and return its path: ``folder/<machine>/<time>-<kind>.jsonl``."""
    return fresh_path(machine_folder(folder, machine), kind)


def machine_folder(folder: Path, machine: Mapping[str, Any]) -> Path:
    """Return where under ``folder`` a machine's campaigns lie."""
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|\bcpu\b|@.*", "", str(machine["cpu"]).lower())).strip("-")
    return folder / f"{slug or 'machine'}-{machine['cores']}c"


def fresh_path(home: Path, kind: str) -> Path:
    """Make a fresh, empty journal and return its path: ``home/<time>-<kind>.jsonl``."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    number = 0
    while True:
        number += 1
        path = home / (f"{stamp}-{kind}.jsonl" if number == 1 else f"{stamp}-{kind}-{number}.jsonl")
        try:
            home.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=False)  # two campaigns may begin in the same second
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(path, error) from error
        return path


def append_accuracy(folder: Path, accuracy: Accuracy) -> Path:
    """Journal a measured accuracy under ``folder`` and return the file: all of them share ``accuracy.jsonl``."""
    path = folder / "accuracy.jsonl"
    with Journal(path) as journal:
        if not path.stat().st_size:
            journal.append("run", schema=SCHEMA, campaign="accuracy", started=now(), device="")
        journal.append("accuracy", accuracy)
    return path


def now() -> str:
    """Return the current time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def find(paths: Sequence[Path]) -> list[Path]:
    """Return the journals that are, or lie under, the given paths, oldest campaign first.

    Under a folder, one that was killed before its header was written is left out: there is nothing in it.

    Raises:
        BadInputError: a path does not exist, or there is no journal at all.
    """
    journals: list[Path] = []
    for path in paths:
        if path.is_dir():
            journals += (journal for journal in path.rglob("*.jsonl") if _has_begun(journal))
        elif path.is_file():
            journals.append(path)
        else:
            raise BadInputError(str(path), "no such file or folder", "name a journal (.jsonl) or a folder of them")
    if not journals:
        raise BadInputError(f"no results in {', '.join(map(str, paths))}", "", "make some with `mobench run`")
    return sorted(set(journals), key=lambda p: (p.name, str(p)))


def _has_begun(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline().endswith(b"\n")
    except OSError:
        return True  # whoever reads it says why that cannot be


def read(path: Path) -> Run:
    """Fold a journal into a Run. A last line that was cut off (power, kill) is left out; nothing else may be broken.

    A line is whole when its newline is there: a campaign that is taken up again goes on from the same lines.

    Raises:
        BadInputError: not a journal, from a newer mobench, or damaged before its last line (the line is named).
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise BadInputError(str(path), error.strerror or str(error), "name a readable journal") from error
    header: dict[str, Any] | None = None
    schema = SCHEMA
    states: list[DeviceState] = []
    resumes: list[dict[str, Any]] = []
    sessions: list[tuple[str, int, Ready]] = []
    blocks: list[Block] = []
    failures: list[Failure] = []
    accuracies: list[Accuracy] = []
    checks: list[Check] = []
    pauses: list[dict[str, Any]] = []
    set_aside: dict[tuple[int, int], str] = {}
    imported: list[Imported] = []
    energies: list[Energy] = []
    end: str | None = None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            event = json.loads(line)
            kind = event.pop("event")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadInputError(
                f"{path}:{number}", "not a journal's line", "name a file `mobench run` wrote"
            ) from error
        try:
            if kind == "run" and header is None:
                schema = _schema(path, event)
            kind, event = upgrade(kind, event, schema)
            if kind == "run":
                header = header or event
            elif kind == "state":
                states.append(_state(event))
            elif kind == "resume":
                resumes.append(event)
                end = None
            elif kind == "session":
                sessions.append((event["cell"], event["incarnation"], Ready(**_tuples(event["ready"]))))
            elif kind == "block":
                blocks.append(Block(**_tuples(event)))
            elif kind == "failure":
                failures.append(Failure(**event))
            elif kind == "check":
                checks.append(Check(**event))
            elif kind == "pause":
                pauses.append(event)
            elif kind == "set_aside":
                set_aside[event["incarnation"], event["round"]] = event["why"]
            elif kind == "accuracy":
                accuracies.append(Accuracy(**_tuples(event)))
            elif kind == "imported":
                imported.append(Imported(**_tuples(event)))
            elif kind == "energy":
                energies.append(Energy(**event))
            elif kind == "end":
                end = event["reason"]
        except (KeyError, TypeError) as error:
            raise BadInputError(f"{path}:{number}", f"a {kind!r} event that does not fit ({error})", "") from error
    if header is None:
        raise BadInputError(str(path), "it holds no campaign header", "name a file `mobench run` wrote")
    return Run(
        path=path,
        header=header,
        sessions=tuple(sessions),
        blocks=tuple(_set_aside(blocks, set_aside)),
        failures=tuple(failures),
        accuracies=tuple(accuracies),
        end=end,
        states=tuple(states),
        resumes=tuple(resumes),
        checks=tuple(checks),
        pauses=tuple(pauses),
        set_aside=set_aside,
        imported=tuple(imported),
        energies=tuple(energies),
    )


def glance(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return a journal's header and why it ended, from its first and its last line alone: folders grow.

    Raises:
        BadInputError: not a journal, or from a newer mobench.
    """
    try:
        with path.open("rb") as file:
            first = file.readline()
            size = os.fstat(file.fileno()).st_size
            file.seek(max(len(first), size - _LAST_BYTES))
            lines = file.read().splitlines()
        header = json.loads(first)
        if header.pop("event") != "run":
            raise ValueError
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInputError(f"{path}:1", "not a journal's header", "name a file `mobench run` wrote") from error
    header = upgrade("run", header, _schema(path, header))[1]
    try:
        end = json.loads(lines[-1]) if lines else None
    except ValueError:  # the write was cut off, or the line is longer than what was read of it
        end = None
    return header, end["reason"] if isinstance(end, dict) and end.get("event") == "end" else None


def to_frame(run: Run) -> pd.DataFrame:
    """Return a campaign's blocks as a DataFrame, a row a block: ``Block``'s fields, and ``latency_ms``, its median."""
    import pandas as pd

    rows = [dataclasses.asdict(block) | {"latency_ms": median(block.wall_ns) / 1e6} for block in run.blocks]
    columns = [field.name for field in dataclasses.fields(Block)]
    return pd.DataFrame(rows, columns=[*columns, "latency_ms"])


def _schema(path: Path, header: Mapping[str, Any]) -> int:
    schema = header.get("schema")
    if isinstance(schema, int) and 1 <= schema <= SCHEMA:
        return schema
    raise BadInputError(str(path), f"its schema is {schema}, this mobench reads 1 to {SCHEMA}", "update mobench")


def upgrade(kind: str, event: dict[str, Any], schema: int) -> tuple[str, dict[str, Any]]:
    """Return an event of an older schema as the present one has it.

    Schema 1 knew neither providers nor batches nor how many inferences led a block in, had no name for when a state
    was taken (before at 0 s, else after), and gave clocks a core, in kHz as text. Schema 2 knew no phones: no
    pauses, checks or rounds set aside, and accuracies without the device; schema 3 no desktop's GPU. What they have is
    as it is now.
    """
    if schema == 1 and kind == "run":
        cells = [{**cell, "target": {"provider": "", "batch": 1, **cell["target"]}} for cell in event.get("cells", ())]
        event = {**event, "schema": SCHEMA, "cells": cells}
    if schema == 1 and kind == "state" and "when" not in event:  # one taken up again has states of both forms
        clocks, caps = event.get("freq_khz", {}), event.get("cap_khz", {})
        event = {
            "when": "before" if event["t_s"] == 0 else "after",
            "t_s": event["t_s"],
            "load_1m": event.get("load_1m"),
            "temps_c": event.get("temp_c", {}),
            "clusters": [
                {"cores": [int(core.removeprefix("cpu"))], "freq_khz": int(khz), "cap_khz": int(caps[core])}
                for core, khz in clocks.items()
                if khz and caps.get(core)
            ],
        }
    return kind, event


def _set_aside(blocks: Sequence[Block], rounds: Mapping[tuple[int, int], str]) -> list[Block]:
    """Take the blocks of rounds that do not count out of the steady ones: a round's verdict comes after its blocks."""
    return [
        dataclasses.replace(block, phase="set_aside")
        if block.phase == "steady" and (block.incarnation, block.round) in rounds
        else block
        for block in blocks
    ]


def _state(event: Mapping[str, Any]) -> DeviceState:
    clusters = tuple(Cluster(**_tuples(cluster)) for cluster in event.get("clusters", ()))
    gpu = event.get("gpu")
    told = GpuState(**_tuples(gpu)) if gpu else None
    return DeviceState(**{**event, "clusters": clusters, "gpu": told})


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn JSON's lists back into the records' tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
