"""`mobench pareto` from journals on disk to stdout, stderr and files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_runs import MACHINE, make_run, spread
from test_pareto import V2, accuracy, campaign, cell

from mobench import store
from mobench.cli.pareto import command
from mobench.errors import BadInputError
from mobench.records import Run


def save(run: Run, folder: Path, *, ended: bool = True) -> Path:
    path = folder / run.path.name
    with store.Journal(path) as journal:
        journal.append("run", schema=store.SCHEMA, **run.header)
        for cell_id, incarnation, ready in run.sessions:
            journal.append("session", cell=cell_id, incarnation=incarnation, ready=dataclasses.asdict(ready))
        for block in run.blocks:
            journal.append("block", block)
        if ended:
            journal.append("end", reason="precise", t_s=1.0)
    return path


def pareto(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """An old campaign of a and b, a newer one of a, b as INT8 and a foreign file; one accuracy."""
    folder = tmp_path / "results"
    save(campaign("20260101T000000Z-desktop", {"a-ort": 20.0, "old-ort": 5.0}, [cell("a"), cell("old")]), folder)
    described = [cell("a"), cell("b", precision="int8"), cell("foreign", network=None)]
    times = {"a-ort": 10.0, "b-ort": 5.0, "foreign-ort": 1.0}
    save(campaign("20260201T000000Z-desktop", times, described), folder / "machine")
    store.append_accuracy(folder, accuracy("a"))
    return folder


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    loaded: list[dict[str, Any]] = json.loads(result.stdout)
    return loaded


def test_without_arguments_the_newest_campaign_under_results_with_all_accuracies(results: Path) -> None:
    result = pareto("--json")
    found = {row["sha256"]: row for row in rows(result)}
    assert set(found) == {"a", "b", "foreign"}
    assert found["a"]["p50_ms"] == pytest.approx(10)
    assert (found["a"]["top1"], found["a"]["accuracy_kind"]) == (80.0, "measured")
    assert (found["b"]["top1"], found["b"]["accuracy_kind"]) == (72.0, "published")
    assert found["foreign"]["on_front"] is None
    assert "holds 2 campaigns: this is the newest" in result.stderr


def test_published_alone_makes_one_front(results: Path) -> None:
    found = {row["sha256"]: row for row in rows(pareto("--json", "--accuracy", "published"))}
    assert found["b"]["on_front"]
    assert not found["a"]["on_front"]
    assert found["a"]["dominated_by"] == "mobilenet_v2 int8 ort"
    assert found["a"]["within_noise"] == []


def test_the_papers_ablations_are_left_out_when_asked(tmp_path: Path) -> None:
    described = [
        cell("a"),
        cell("b", network=V2 | {"name": "mobilenet_v3_large_no_se", "label": "mobilenet_v3_large_no_se"}),
        cell("foreign", network=None),
    ]
    path = save(
        campaign("20260301T000000Z-desktop", {"a-ort": 2.0, "b-ort": 1.0, "foreign-ort": 1.0}, described), tmp_path
    )
    assert {row["sha256"] for row in rows(pareto(path, "--json"))} == {"a", "b", "foreign"}
    assert {row["sha256"] for row in rows(pareto(path, "--json", "--no-variants"))} == {"a", "foreign"}


def test_several_campaigns_give_the_newest_of_each_cell_and_say_they_were_not_interleaved(results: Path) -> None:
    result = pareto("--json", *store.find([results]))
    found = {row["sha256"]: row for row in rows(result)}
    assert set(found) == {"a", "b", "foreign", "old"}
    assert found["a"]["p50_ms"] == pytest.approx(10)
    assert "not interleaved" in result.stderr


def test_campaigns_of_one_machine_say_in_what_they_differ() -> None:
    for name, kernel, day in (("a", "Linux 6.1", 1), ("b", "Linux 6.8", 2)):
        machine = MACHINE | {"kernel": kernel}
        make_run(Path(f"{name}.jsonl"), {"net.tflite": spread(1.0)}, machine=machine, started=f"2026-11-0{day}")
    make_run(Path("c.jsonl"), {"net.tflite": spread(1.0)}, machine=MACHINE | {"cpu": "another"})
    notes = [line for line in pareto("a.jsonl", "b.jsonl", "c.jsonl").stderr.splitlines() if "differ in" in line]
    assert notes == ["note: a.jsonl and b.jsonl differ in kernel: Linux 6.1 against Linux 6.8"]


def test_naming_the_same_campaign_twice_is_naming_it_once(results: Path) -> None:
    result = pareto("--json", results, results / "machine")
    assert len(rows(result)) == 3
    assert "interleaved" not in result.stderr


def test_the_formats_hold_the_same_models(results: Path) -> None:
    table, md = pareto().stdout, pareto("--format", "md").stdout
    as_csv = list(csv.DictReader(io.StringIO(pareto("--format", "csv").stdout)))
    as_json = rows(pareto("--format", "json"))
    assert [row["sha256"] for row in as_csv] == [row["sha256"] for row in as_json]
    for text in (table, md):
        assert "10.0" in text
        assert "80.0 [77.0, 83.0]" in text
        assert "published for FP32" in text
        assert "top-1 measured: photos, n = 500" in text


def test_plots_are_written_and_named_on_stderr(results: Path) -> None:
    result = pareto("--plot", "out/pareto.svg", "--plot", "pareto.png", "--width", "3.5")
    assert Path("out/pareto.svg").read_text().startswith("<?xml")
    assert Path("pareto.png").read_bytes().startswith(b"\x89PNG")
    assert "plot: out/pareto.svg" in result.stderr
    assert "out/pareto.svg" not in result.stdout


def test_a_plot_s_suffix_is_refused_before_anything_is_read() -> None:
    with pytest.raises(BadInputError, match=r"cannot draw x\.gif"):
        pareto("--plot", "x.gif", "nowhere")


def test_the_hypervolume_s_reference_is_a_latency_and_an_accuracy(results: Path) -> None:
    found = rows(pareto("--json", "--accuracy", "published", "--reference", "20,60"))
    (row,) = [row for row in found if row["sha256"] == "b"]
    assert row["hypervolume"] == pytest.approx((20 - 5) * 12)
    assert (row["p_front"], row["reference_ms"]) == (1.0, 20.0)
    for wrong in ("20", "20,60,1", "0,60", "20,101", "nan,60", "x,y"):
        result = pareto("--reference", wrong)
        assert result.exit_code == 2
        assert "such as 25,60" in result.stderr


def test_nothing_found_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="mobench run"):
        pareto()
    (tmp_path / "results").mkdir()
    with pytest.raises(BadInputError, match="mobench run"):
        pareto()
    store.append_accuracy(tmp_path / "results", accuracy("a"))
    with pytest.raises(BadInputError, match=r"nothing timed in results.*mobench run"):
        pareto()


def test_an_unreadable_journal_is_named_and_the_rest_goes_on(results: Path) -> None:
    (results / "20260301T000000Z-desktop.jsonl").write_text('{"event":"run","schema":999}\n')
    (results / "20260302T000000Z-desktop.jsonl").write_text("not json\n\n")
    result = pareto("--json")
    assert len(rows(result)) == 3
    assert "20260301T000000Z-desktop.jsonl: its schema is 999" in result.stderr
    assert "20260302T000000Z-desktop.jsonl:1" in result.stderr


def test_when_no_journal_can_be_read_the_error_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n\n")
    with pytest.raises(BadInputError, match=r"bad\.jsonl:1.*not a journal"):
        pareto("bad.jsonl")


def test_a_campaign_cut_off_and_a_cell_without_timing_are_said(tmp_path: Path) -> None:
    run = campaign("1", {"a-ort": 10.0, "b-ort": None}, [cell("a"), cell("b")])
    result = pareto("--json", save(run, tmp_path, ended=False))
    assert [row["sha256"] for row in rows(result)] == ["a"]
    assert "was cut off" in result.stderr
    assert "b-ort has no timing" in result.stderr


def test_from_a_shell_an_error_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from mobench.cli import main; main()", "pareto", "nowhere"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: nowhere: no such file or folder")
    assert done.stderr.count("\n") == 1
