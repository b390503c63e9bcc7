"""Campaigns are found by path, by name or a part of it, in git's history, and by filters, quickly."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mobench import results, store
from mobench.errors import BadInputError
from mobench.results import Filter, open_run, scan


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


def described(name: str, **changes: Any) -> dict[str, Any]:
    """A header's cell: a network called ``name`` in FP32, in ONNX Runtime on this machine's CPU."""
    network = {"name": name, "label": f"{name} 0.5-160"}
    artifact = {"name": f"{name}_050", "path": f"artifacts/{name}_050.onnx", "precision": "fp32", "network": network}
    target = {"runtime": "ort", "device": "desktop-cpu", "threads": 1, "cores": []}
    parts = ({key: changes.get(key, value) for key, value in part.items()} for part in (artifact, target))
    return dict(zip(("id", "artifact", "target"), (name, *parts), strict=True))


def campaign(path: Path, *cells: dict[str, Any], started: str = "2026-01-01T00:00:00+00:00", cpu: str = "Big") -> Path:
    with store.Journal(path) as log:
        machine = {"cpu": cpu, "cores": 4}
        log.append("run", schema=store.SCHEMA, campaign=path.stem, started=started, machine=machine, cells=cells)
    return path


def test_the_newest_campaign_comes_first_whatever_its_file_is_called(tmp_path: Path) -> None:
    campaign(tmp_path / "z.jsonl", described("a"), started="2026-01-01T00:00:00+00:00")
    campaign(tmp_path / "deep" / "a.jsonl", described("a"), started="2026-03-01T00:00:00+00:00")
    campaign(tmp_path / "m.jsonl", described("a"), started="2026-02-01T02:00:00+02:00")
    (tmp_path / "accuracy.jsonl").write_text(
        '{"event":"run","schema":1,"campaign":"accuracy","started":"2026-09-01"}\n'
    )
    campaigns, unreadable = scan(tmp_path)
    assert [listed.path.stem for listed in campaigns] == ["a", "m", "z"] and not unreadable


def test_why_it_ended_is_read_from_the_last_line(tmp_path: Path) -> None:
    ended, cut, resumed = (campaign(tmp_path / f"{name}.jsonl", described("a")) for name in ("1", "2", "3"))
    for path in (ended, resumed):
        with store.Journal(path) as log:
            log.append("end", reason="budget", t_s=1.0)
    with store.Journal(resumed) as log:
        log.append("resume", t_s=2.0)
        log.append("block", wall_ns=[1] * 5000)  # longer than what is read of the end
    cut.write_bytes(cut.read_bytes() + b'{"event":"end","rea')
    assert {listed.path: listed.end for listed in scan(tmp_path)[0]} == {ended: "budget", cut: None, resumed: None}


def test_listing_reads_two_lines_of_a_journal_and_no_more(tmp_path: Path) -> None:
    """What lies between them is not even text: reading it would fail."""
    path = campaign(tmp_path / "j.jsonl", described("a"))
    with path.open("ab") as file:
        file.write(b"\xff" * 100_000 + b'\n{"event":"end","reason":"precise","t_s":1.0}\n')
    (listed,), _ = scan(tmp_path)
    assert listed.end == "precise"
    with pytest.raises(BadInputError):
        store.read(path)


def test_an_older_schema_is_listed_and_what_cannot_be_read_is_a_line_each(tmp_path: Path) -> None:
    old = Path(__file__).parent / "golden" / "campaign_schema1.jsonl"
    (tmp_path / "old.jsonl").write_bytes(old.read_bytes())
    for name, text in (
        ("new", '{"event":"run","schema":99}'),
        ("junk", "junk"),
        ("empty", ""),
        ("no", '{"event":"x"}'),
    ):
        (tmp_path / f"{name}.jsonl").write_text(f"{text}\n")
    (listed,), unreadable = scan(tmp_path)
    assert listed.header["cells"][0]["target"]["provider"] == "" and listed.end == "budget"
    assert len(unreadable) == 4 and sum("schema is 99" in line for line in unreadable) == 1


def test_a_folder_that_is_not_there_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such folder; make some with `mobench run`"):
        scan(tmp_path / "absent")


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (Filter(), "abc"),
        (Filter(networks=("A",)), "a"),
        (Filter(networks=("a", "b")), "ab"),
        (Filter(networks=("*_050",)), "abc"),  # the file's name
        (Filter(networks=("b 0.5-160",)), "b"),
        (Filter(networks=("d*",)), ""),
        (Filter(precisions=("int8",)), "b"),
        (Filter(precisions=("int8", "fp32"), runtimes=("litert",)), "c"),
        (Filter(devices=("desktop-gpu",)), ""),
        (Filter(machines=("big",)), "abc"),
        (Filter(machines=("small", "folder-4c")), "abc"),
        (Filter(machines=("small",)), ""),
        (Filter(since=datetime(2026, 1, 1, tzinfo=UTC)), "abc"),
        (Filter(since=datetime(2026, 1, 2, tzinfo=UTC)), ""),
    ],
)
def test_a_filter_lets_through_cells_that_fit_one_of_each_kind(tmp_path: Path, chosen: Filter, ids: str) -> None:
    cells = [described("a"), described("b", precision="int8"), described("c", runtime="litert")]
    path = campaign(tmp_path / "folder-4c" / "j.jsonl", *cells)
    header = json.loads(path.read_text().splitlines()[0])
    assert "".join(cell["id"] for cell in chosen.cells(path, header)) == ids


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_a_date_that_is_none_is_a_line(text: str) -> None:
    with pytest.raises(BadInputError, match="not a date"):
        results.parse_since(text)
