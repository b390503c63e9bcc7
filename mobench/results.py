"""Finding campaigns: one by the name a user gives it, in a results folder or in git's history."""

from __future__ import annotations

import difflib
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from mobench import store
from mobench.errors import BadInputError
from mobench.records import Run

GIT_DEADLINE_S = 60
_SHOWN = 4  # journals named when a text fits several


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
