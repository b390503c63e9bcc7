"""Finding campaigns: one by the name a user gives it, here or in git's history, or all that a filter lets through."""

from __future__ import annotations

import difflib
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mobench import store
from mobench.errors import BadInputError
from mobench.records import Run

GIT_DEADLINE_S = 60
_SHOWN = 4  # journals named when a text fits several


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A campaign as its journal's first and last line describe it; ``end`` is None where it was cut off."""

    path: Path
    header: Mapping[str, Any]
    end: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What to leave in. Of each kind one has to fit; an empty kind lets everything through.

    ``networks`` are shell patterns for a network's or a file's name, ``machines`` parts of a machine's description or
    of its folder's name; the others are exact. ``since`` is the earliest start.
    """

    networks: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    since: datetime | None = None

    def cells(self, path: Path, header: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the cells of a campaign, as its header describes them, that are let through."""
        where = f"{machine(header)} {path.parent.name}".lower()
        if self.machines and not any(part.lower() in where for part in self.machines):
            return []
        if self.since and not _moment(header.get("started")) >= self.since:
            return []
        return [cell for cell in header.get("cells", ()) if self._fits(cell)]

    def _fits(self, cell: Mapping[str, Any]) -> bool:
        artifact, target = cell["artifact"], cell["target"]
        network = artifact.get("network") or {}
        names = {artifact["name"], Path(artifact["path"]).name, network.get("name"), network.get("label")}
        return (
            _one_of(self.precisions, artifact["precision"])
            and _one_of(self.runtimes, target["runtime"])
            and _one_of(self.devices, target["device"])
            and (not self.networks or any(fnmatchcase(str(n).lower(), p.lower()) for n in names for p in self.networks))
        )


def _one_of(wanted: Collection[str], value: str | None) -> bool:
    return not wanted or value in wanted


def _moment(text: Any) -> datetime:
    """Return an ISO 8601 time; one without a zone is in UTC, and one that is none is before all others."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_since(text: str) -> datetime:
    """Turn ``2026-11-22`` or ``2026-11-22T13:00`` into a time, in UTC where it names no zone.

    Raises:
        BadInputError: not a date.
    """
    moment = _moment(text)
    if moment.year == datetime.min.year:
        raise BadInputError(f"--since {text}", "not a date", "for example 2026-11-22, or 2026-11-22T13:00")
    return moment


def machine(header: Mapping[str, Any]) -> str:
    """Return a campaign's machine in words: its CPU and cores, or as an import was told; empty where nobody said."""
    said = header.get("machine") or {}
    cores = f", {said['cores']} cores" if said.get("cores") else ""
    return f"{said.get('cpu') or ''}{cores}"


def source(header: Mapping[str, Any]) -> str:
    """Return whose figures an imported campaign has (``benchmark_model (tflite)``); empty for mobench's own."""
    said = header.get("source")
    return f"{said['tool']} ({said['form']})" if said else ""


def scan(folder: Path) -> tuple[list[Listed], list[str]]:
    """Return the campaigns under a folder, newest first, and a line for each journal that cannot be read.

    Raises:
        BadInputError: no such folder, or no journal in it.
    """
    if not folder.is_dir():
        raise BadInputError(f"no results in {folder}", "there is no such folder", "make some with `mobench run`")
    campaigns, unreadable = [], []
    for path in store.find([folder]):
        try:
            header, end = store.glance(path)
        except BadInputError as error:
            unreadable.append(str(error))
            continue
        if header.get("cells"):  # accuracy.jsonl has none
            campaigns.append(Listed(path=path, header=header, end=end))
    campaigns.sort(key=lambda listed: (_moment(listed.header.get("started")), str(listed.path)), reverse=True)
    return campaigns, unreadable


def open_run(text: str, folder: Path = Path("results")) -> Run:
    """Read the campaign a user names.

    Args:
        text: a journal's path; its stem, or a part of its path under ``folder`` that only it has; or ``REV:PATH``, a
            journal as git knows it at a revision (``main:results/m/j.jsonl``, ``HEAD~1:./j.jsonl``), in the repository
            of the working directory. Such a run's ``path`` is that text.
        folder: where stems and parts are looked up.

    Raises:
        BadInputError: no such journal, several that fit, not a journal, or git does not have it.
    """
    path = Path(text)
    if path.is_file():
        return store.read(path)
    if path.is_dir():
        raise BadInputError(text, "is a folder", "name one journal in it; `mobench results` lists them")
    if ":" in text:
        return _from_git(text)
    return store.read(locate(text, folder))


def locate(text: str, folder: Path = Path("results")) -> Path:
    """Return the journal under ``folder`` whose stem is ``text``, or the only one with ``text`` in its path there.

    Raises:
        BadInputError: none fits, or several do.
    """
    if not folder.is_dir():
        raise BadInputError(text, f"no such file, and there is no folder {folder}", "name a journal (.jsonl)")
    names = {path: path.relative_to(folder).as_posix() for path in store.find([folder])}
    matches = [path for path in names if path.stem == text] or [p for p, name in names.items() if text and text in name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        more = f" and {len(matches) - _SHOWN} more" if len(matches) > _SHOWN else ""
        several = ", ".join(names[path] for path in matches[-_SHOWN:])
        raise BadInputError(text, f"{len(matches)} journals under {folder} fit", f"say which: {several}{more}")
    near = difflib.get_close_matches(text, [path.stem for path in names], n=1)
    mend = f"did you mean {near[0]}?" if near else "`mobench results` lists what is there"
    raise BadInputError(text, f"neither a file nor a journal under {folder}", mend)


def _from_git(text: str) -> Run:
    """Read ``REV:PATH`` from the repository of the working directory."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "journal.jsonl"
        copy.write_bytes(_git_blob(text))
        try:
            return replace(store.read(copy), path=Path(text))
        except BadInputError as error:  # it names the copy, which the user has never seen
            raise BadInputError(error.what.replace(str(copy), text), error.why, error.mend) from error


def _git_blob(text: str) -> bytes:
    mend = "name a file, or REV:PATH as `git show` takes it (from the repository's root, or ./ from here)"
    if text.startswith("-"):  # git would take it for an option
        raise BadInputError(text, "not a revision and a path", mend)
    try:
        done = subprocess.run(
            ["git", "cat-file", "blob", text],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadInputError(text, f"git did not answer in {GIT_DEADLINE_S} s", mend) from error
    except OSError as error:
        raise BadInputError(text, f"no such file, and git does not start ({error.strerror})", mend) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[0].removeprefix("fatal: ") if said else f"exit status {done.returncode}"
        raise BadInputError(text, f"no such file, and git says: {reason}", mend)
    return done.stdout
