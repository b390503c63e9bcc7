"""The journal: what was appended comes back, whatever happened to the end of the file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobench import store
from mobench.errors import BadInputError, MobenchError
from mobench.records import Accuracy, Block, Cluster

GOLDEN = Path(__file__).parent / "golden" / "campaign_schema1.jsonl"


def block(number: int) -> Block:
    return Block(
        cell="a",
        incarnation=0,
        round=number,
        position=0,
        phase="steady",
        t_s=1.5,
        wall_ns=(10, 11),
        cpu_ns=21,
        involuntary_switches=0,
        steal_ticks=0,
    )


def test_a_campaign_of_schema_2_reads_as_one_of_a_desktop() -> None:
    run = store.read(GOLDEN.with_name("campaign_schema2.jsonl"))
    assert run.header["schema"] == 2 and run.sessions and {block.phase for block in run.blocks} >= {"warmup"}
    assert (run.checks, run.pauses, run.set_aside) == ((), (), {})


def journal(path: Path, count: int = 3) -> Path:
    with store.Journal(path) as log:
        log.append("run", schema=store.SCHEMA, campaign="c", cells=[])
        for number in range(count):
            log.append("block", block(number))
    return path


def test_what_is_appended_comes_back_equal(tmp_path: Path) -> None:
    run = store.read(journal(tmp_path / "j.jsonl"))
    assert run.blocks == (block(0), block(1), block(2))
    assert run.header["campaign"] == "c" and run.end is None


def test_a_file_cut_at_any_byte_loses_only_the_line_that_was_cut(tmp_path: Path) -> None:
    whole = journal(tmp_path / "j.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:cut])
        finished = whole[:cut].count(b"\n") - 1
        assert len(store.read(path).blocks) == finished


def test_appending_to_a_cut_file_removes_the_cut_line_first(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.jsonl")
    path.write_bytes(path.read_bytes()[:-5])
    with store.Journal(path) as log:
        log.append("block", block(9))
    assert [b.round for b in store.read(path).blocks] == [0, 1, 9]


def test_a_line_without_its_newline_counts_neither_for_a_reader_nor_for_the_next_writer(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.jsonl")
    path.write_bytes(path.read_bytes()[:-1])
    assert [b.round for b in store.read(path).blocks] == [0, 1]
    with store.Journal(path) as log:
        log.append("block", block(9))
    assert [b.round for b in store.read(path).blocks] == [0, 1, 9]


def test_damage_before_the_last_line_is_named_not_skipped(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "garbage\n", *lines[2:]]))
    with pytest.raises(BadInputError, match=r"j\.jsonl:2"):
        store.read(path)


def test_a_newer_schema_is_refused_in_one_line(tmp_path: Path) -> None:
    with store.Journal(tmp_path / "j.jsonl") as log:
        log.append("run", schema=99)
    with pytest.raises(BadInputError, match="schema is 99"):
        store.read(tmp_path / "j.jsonl")


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    for text in ("", "hello\n", '{"a": 1}\n', "[1]\n"):
        (tmp_path / "x.jsonl").write_text(text)
        with pytest.raises(BadInputError):
            store.read(tmp_path / "x.jsonl")


def test_a_full_disk_is_one_line_and_what_was_written_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = journal(tmp_path / "j.jsonl"), os.write

    def full(descriptor: int, data: bytes) -> int:
        if b'"block"' not in data:
            return write(descriptor, data)
        write(descriptor, data[:10])  # a part of the line still fits
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with store.Journal(path) as log, pytest.raises(MobenchError, match="No space left"):
        log.append("block", block(3))
    assert len(store.read(path).blocks) == 3


def test_accuracies_of_many_files_share_a_journal(tmp_path: Path) -> None:
    accuracy = Accuracy(
        sha256="s",
        name="n",
        precision="int8",
        runtime="ort",
        data="d",
        n=10,
        top1=80.0,
        top1_ci=(49.0, 94.3),
        top5=100.0,
        top5_ci=(72.2, 100.0),
    )
    path = store.append_accuracy(tmp_path, accuracy)
    assert store.append_accuracy(tmp_path, accuracy) == path
    assert store.read(path).accuracies == (accuracy, accuracy)


def test_the_first_schema_is_still_read() -> None:
    run = store.read(GOLDEN)
    assert (len(run.blocks), len(run.sessions), len(run.failures), run.end) == (3, 1, 1, "budget")
    assert run.blocks[1].wall_ns == (4353093,) and len(run.blocks[0].wall_ns) == 10
    assert run.sessions[0][2].got == "XNNPACK"


def test_a_campaign_becomes_a_data_frame_of_its_blocks(tmp_path: Path) -> None:
    frame = store.to_frame(store.read(GOLDEN))
    assert len(frame) == 3 and set(frame["phase"]) == {"steady"}
    assert frame["latency_ms"][1] == pytest.approx(4.353093)
    assert list(store.to_frame(store.read(journal(tmp_path / "none.jsonl", 0))).columns) == list(frame.columns)


def test_two_campaigns_of_one_second_get_two_files(tmp_path: Path) -> None:
    paths = {store.new_path(tmp_path, "run", {"cpu": "Some CPU @ 3 GHz", "cores": 2}) for _ in range(5)}
    assert len(paths) == 5 and {path.parent.name for path in paths} == {"some-2c"}


def test_writers_of_one_journal_wait_for_each_other(tmp_path: Path) -> None:
    """While one process holds the journal no other may open it: what either appends stays."""
    path = journal(tmp_path / "j.jsonl")
    script = f"from pathlib import Path; from mobench import store\nwith store.Journal(Path({str(path)!r})) as j: pass"
    with store.Journal(path):
        waiting = subprocess.Popen([sys.executable, "-c", script])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1.0)
    assert waiting.wait(timeout=20) == 0


def test_results_are_found_under_folders_oldest_first_or_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    new, old = tmp_path / "20260102-a.jsonl", tmp_path / "m" / "20260101-a.jsonl"
    for path in (new, old):
        journal(path)
    (tmp_path / "20260103-killed.jsonl").touch()  # before it had a header
    (tmp_path / "20260104-killed.jsonl").write_text('{"event":"run","sch')
    assert store.find([tmp_path]) == [old, new]
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="mobench run"):
        store.find([tmp_path / "empty"])
    with pytest.raises(BadInputError, match="no such"):
        store.find([tmp_path / "absent"])


def test_what_the_first_schema_said_of_the_machine_is_read_as_the_present_one_says_it(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    clocks = {"freq_khz": {"cpu0": "1800000", "cpu1": None}, "cap_khz": {"cpu0": "2400000", "cpu1": "2400000"}}
    cell = {"id": "a", "target": {"device": "desktop-cpu", "runtime": "ort", "threads": 1, "cores": []}}
    with store.Journal(path) as log:
        log.append("run", schema=1, campaign="c", cells=[cell])
        log.append("state", t_s=0.0, load_1m=0.5, temp_c={"thermal_zone0": 41.0}, **clocks)
        log.append("state", t_s=9.0, load_1m=1.5)
    run = store.read(path)
    assert [state.when for state in run.states] == ["before", "after"]
    assert run.states[0].clusters == (Cluster(cores=(0,), freq_khz=1_800_000, cap_khz=2_400_000),)
    assert run.states[0].temps_c == {"thermal_zone0": 41.0} and run.states[1].temps_c == {}
    assert run.header["cells"][0]["target"]["batch"] == 1
