"""A campaign is found by its path, its name, a part of it, or in git's history."""

import os
import subprocess
from pathlib import Path

import pytest

from mobench import results, store
from mobench.errors import BadInputError
from mobench.results import open_run


def journal(path: Path, started: str = "2026-01-01T00:00:00+00:00") -> Path:
    with store.Journal(path) as log:
        log.append("run", schema=store.SCHEMA, campaign=path.stem, started=started, device="desktop-cpu", cells=[])
        log.append("end", reason="precise", t_s=1.0)
    return path


def git(*arguments: str) -> None:
    identity = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    nowhere = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    environment = os.environ | identity | nowhere
    subprocess.run(["git", *arguments], check=True, capture_output=True, timeout=30, env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a-2c/20260101T000000Z-run", "a-2c/20260102T000000Z-run", "b-4c/20260103T000000Z-run"):
        journal(tmp_path / "results" / f"{name}.jsonl")
    return tmp_path / "results"


@pytest.mark.parametrize("text", ["20260102T000000Z-run", "20260102", "a-2c/20260102", "0102T00"])
def test_a_campaign_answers_to_its_stem_and_to_a_part_only_it_has(folder: Path, text: str) -> None:
    assert open_run(text, folder).path == folder / "a-2c" / "20260102T000000Z-run.jsonl"
    assert open_run(text).header["campaign"] == "20260102T000000Z-run"  # results is the default folder


def test_a_path_is_taken_wherever_it_lies(folder: Path) -> None:
    other = journal(Path("elsewhere.jsonl"))
    assert open_run("elsewhere.jsonl", folder).path == other


def test_a_whole_stem_goes_before_a_part_of_another(folder: Path) -> None:
    journal(folder / "run.jsonl")
    assert open_run("run", folder).path == folder / "run.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a-2c", "2 journals under .* fit; say which: a-2c/20260101T000000Z-run.jsonl, a-2c/20260102"),
        ("20260109T000000Z-run", "did you mean 20260"),
        ("zzz", "`mobench results` lists"),
        ("", "is a folder"),  # Path("") is the working directory
        ("results", "is a folder"),
    ],
)
def test_a_text_that_fits_none_or_several_is_a_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as raised:
        open_run(text, folder)
    assert "\n" not in str(raised.value)


def test_without_a_results_folder_the_line_says_so() -> None:
    with pytest.raises(BadInputError, match="no folder results"):
        open_run("abc")


def test_a_journal_is_read_as_it_was_at_a_revision() -> None:
    git("init", "-q", "-b", "main")
    path = journal(Path("kept/j.jsonl"), started="then")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    path.unlink()
    journal(path, started="now")
    old = open_run("main:kept/j.jsonl")
    assert (old.header["started"], str(old.path)) == ("then", "main:kept/j.jsonl")
    assert open_run("HEAD:./kept/j.jsonl").header["started"] == "then"
    assert open_run("kept/j.jsonl").header["started"] == "now"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("main:absent.jsonl", "git says: .*absent"),
        ("nosuch:notes.txt", "git says: "),
        ("main:kept", "git says: "),  # a folder
        ("main:notes.txt", "main:notes.txt:1: not a journal's line"),
        ("--textconv:x", "not a revision"),
    ],
)
def test_what_git_does_not_have_is_a_line(text: str, message: str) -> None:
    git("init", "-q", "-b", "main")
    Path("kept").mkdir()
    for name in ("notes.txt", "kept/j.jsonl"):
        Path(name).write_text("no journal\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    with pytest.raises(BadInputError, match=message) as raised:
        open_run(text)
    assert "\n" not in str(raised.value)


def test_outside_a_repository_and_without_git_it_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(BadInputError, match="git says: "):
        open_run("main:j.jsonl")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInputError, match="git does not start"):
        open_run("main:j.jsonl")


def test_a_git_that_hangs_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stuck = tmp_path / "bin" / "git"
    stuck.parent.mkdir()
    stuck.write_text("#!/bin/sh\nexec sleep 30\n")
    stuck.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stuck.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(results, "GIT_DEADLINE_S", 0.2)
    with pytest.raises(BadInputError, match="did not answer"):
        open_run("main:j.jsonl")
