"""`mobench results` as a user calls it: list, show, export, import."""

import csv
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from mobench import artifacts, store
from mobench.cli import cli
from mobench.errors import BadInputError, MissingExtraError
from mobench.foreign import journal, outputs
from mobench.pareto import pareto_points
from mobench.records import Cluster, DeviceState
from mobench.stats import summarize

GOLDEN = Path(__file__).parent / "golden"
FOREIGN = GOLDEN / "foreign"
RUN = "20260101T000000Z-desktop-cpu"


def mobench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["results", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    done = mobench(*arguments, "--json")
    assert not done.return_value, done.stderr
    loaded: list[dict[str, Any]] = json.loads(done.stdout)
    return loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign of three cells in an older schema, and an imported run of each tool."""
    place = tmp_path / "results" / "some-2c" / f"{RUN}.jsonl"
    place.parent.mkdir(parents=True)
    events = [json.loads(line) for line in (GOLDEN / "campaign_schema1.jsonl").read_text().splitlines()]
    session = next(event for event in events if event["event"] == "session")
    more = [
        session | {"cell": cell} for cell in {e["cell"] for e in events if e["event"] == "block"} - {session["cell"]}
    ]
    place.write_text("".join(json.dumps(event) + "\n" for event in [events[0], *more, *events[1:]]))
    for name in ("tflite_gpu.txt", "perf_test_rows.csv", "litert_benchmark.json"):
        journal.import_file(FOREIGN / name, machine="Pixel 8", device="android-gpu")
    return tmp_path / "results"


def test_the_list_has_ours_and_imported_ones_and_says_whose(folder: Path) -> None:
    listed = rows()
    assert [row["campaign"] for row in listed][-1] == RUN  # the oldest
    assert {row["source"] for row in listed} == {
        None,
        "benchmark_model (tflite)",
        "onnxruntime_perf_test (result file)",
        "litert-benchmark (json)",
    }
    ours = listed[-1]
    assert (ours["cells"], ours["end"], ours["device"]) == (3, "budget", "desktop-cpu")
    assert ours["machine"] == "Intel(R) Xeon(R) Processor, 2 cores"
    assert {row["machine"] for row in listed[:-1]} == {"Pixel 8"}
    table = mobench().stdout
    assert all(row["campaign"] in table for row in listed) and "benchmark_model (tflite)" in table


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        (("--runtime", "ort"), [2]),
        (("--runtime", "ort", "--runtime", "litert"), [1, 2, 1, 3]),
        (("--device", "desktop-cpu"), [3]),
        (("--machine", "pixel"), [1, 2, 1]),
        (("--network", "mobilenet_v1*"), [1]),
        (("--since", "2026-11-22T10:00", "--machine", "xeon"), [3]),
        (("--since", "2999-01-01"), []),
    ],
)
def test_filters_leave_out_campaigns_and_count_the_cells_they_let_through(
    folder: Path, options: tuple[str, ...], cells: list[int]
) -> None:
    assert sorted(row["cells"] for row in rows(*options)) == sorted(cells)


def test_show_gives_one_campaign_s_figures_machine_and_end(folder: Path) -> None:
    done = mobench("show", "20260101")
    assert "ratio: latency over that of tf2_mobilenet_v2" in done.stdout
    assert "machine: Intel(R) Xeon(R) Processor, 2 cores; started 2026-11-22T10:40:59" in done.stdout
    shown = {row["cell"]: row for row in rows("show", RUN)}
    (summary,) = [s for s in summarize(store.read(folder / "some-2c" / f"{RUN}.jsonl")) if "v2" in s.cell]
    assert len(shown) == 3 and shown[summary.cell]["p50_ms"] == summary.p50_ms
    assert shown[summary.cell]["source"] is None and shown[summary.cell]["mean_ms"] is None
    assert len(rows("show", RUN, "--network", "*v2*")) == 1


def test_without_a_name_the_newest_campaign_that_fits_is_shown(folder: Path) -> None:
    assert {row["campaign"] for row in rows("show")} == {rows()[0]["campaign"]}
    assert {row["campaign"] for row in rows("show", "--device", "desktop-cpu")} == {"20261122T104059Z-desktop-cpu"}


def test_show_says_what_the_machine_did_at_its_worst(folder: Path) -> None:
    path = folder / "some-2c" / f"{RUN}.jsonl"
    states = [
        DeviceState(when="before", t_s=0.0, clusters=(Cluster(cores=(0,), freq_khz=2_000_000, cap_khz=2_400_000),)),
        DeviceState(when="during", t_s=1.0, temps_c={"cpu": 71.2, "skin": 38.0}, thermal_status="none"),
        DeviceState(when="during", t_s=2.0, temps_c={"cpu": 55.0}, thermal_status="severe", others_share=0.25),
        DeviceState(when="after", t_s=9.0, clusters=(Cluster(cores=(0,), freq_khz=800_000, cap_khz=1_000_000),)),
    ]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace('"schema": 1', f'"schema": {store.SCHEMA}').replace('"cores": [1]}', TARGET))
    with store.Journal(path) as log:
        for state in states:
            log.append("state", state)
    table = mobench("show", RUN).stdout.split("\n\n")[1].splitlines()
    assert table[0].split() == ["state", "s", "clock", "GHz", "cap", "GHz", "hottest", "C", "throttling", "others", "%"]
    assert table[2].split() == ["before", "0", "2.00", "2.40"]
    assert table[3].split() == ["during,", "worst", "of", "2", "71", "severe", "25"]
    assert table[4].split() == ["after", "9", "0.800", "1.00"]


TARGET = '"cores": [1], "provider": "", "batch": 1}'  # as this schema has it


def test_every_row_of_an_import_says_whose_it_is(folder: Path) -> None:
    for listed in rows("--device", "android-gpu"):
        table = mobench("show", listed["campaign"]).stdout
        assert table.count(listed["source"]) == listed["cells"] and "not by mobench" in table and "Pixel 8" in table
        assert "[" not in table  # no interval
        for row in rows("show", listed["campaign"]):
            assert row["source"] == listed["source"] and row["ratio"] is None and row["p50_ci_ms"] is None


def test_figures_of_an_import_are_the_tool_s_and_nothing_else(folder: Path) -> None:
    (gpu,) = rows("show", "--network", "net_v1*")
    assert (gpu["p50_ms"], gpu["mean_ms"], gpu["init_ms"], gpu["first_ms"]) == (1239.807, 1240.27, 842.225, 1357.602)
    assert (gpu["provider"], gpu["nodes_delegated"], gpu["nodes_total"]) == ("gpu", 29, 31)
    unknown = ("threads", "batch", "sha256", "precision", "network", "p90_ms", "peak_rss_mb", "ratio_cpu", "failure")
    assert all(gpu[key] is None for key in unknown)
    one, two = rows("show", "--runtime", "ort")
    assert (one["cell"], one["p50_ms"], one["n_inferences"], one["init_ms"]) == ("net_v2", 4.1, 3, None)
    assert (two["cell"], two["p50_ms"], two["p99_ms"], two["peak_rss_mb"]) == ("net_v2 #2", 8.05, None, 49.0)


def test_an_import_enters_no_front(folder: Path) -> None:
    for listed in rows("--device", "android-gpu"):
        run = store.read(Path(listed["journal"]))
        assert run.imported and not run.blocks and not pareto_points([run], [])
    done = CliRunner().invoke(cli, ["pareto", str(folder), "--json"], catch_exceptions=False, standalone_mode=False)
    assert {point["network"] for point in json.loads(done.stdout)}.isdisjoint({"net_v1", "net_v2", "tiny"})


def test_a_coarse_figure_and_what_went_otherwise_are_said() -> None:
    said = mobench("import", FOREIGN / "litert_benchmark.json", FOREIGN / "tflite_fell_back.txt").stdout
    assert "tiny.tflite: the tool rounds to 0.01 ms" in said
    assert "net_v3.tflite: the NNAPI delegate was asked for and runs nothing" in said


def test_importing_names_the_model_when_it_is_given(onnx_model: Path) -> None:
    rows_file = FOREIGN / "perf_test_rows.csv"
    one, two = rows("import", rows_file, "--model", onnx_model, "--machine", "a phone", "--device", "android-cpu")
    assert (one["cell"], two["cell"], one["name"]) == ("tiny.onnx", "tiny.onnx #2", "tiny")
    assert len(one["sha256"]) == 64 and (one["machine"], one["device"]) == ("a phone", "android-cpu")
    done = mobench("import", FOREIGN / "tflite_gpu.txt", "--model", onnx_model)
    assert done.return_value == 1 and "benchmark_model does not read it; give the .tflite file" in done.stderr


def test_a_bad_file_is_a_line_and_leaves_nothing_and_the_others_are_imported() -> None:
    Path("junk.txt").write_text("junk")
    files = [FOREIGN / "tflite_crashed.txt", Path("junk.txt"), Path("absent.txt"), FOREIGN / "tflite_cpu.txt"]
    done = mobench("import", *files)
    assert done.return_value == 1 and "net_v2.tflite" in done.stdout
    assert [line.split(": ")[1].rsplit("/", 1)[-1] for line in done.stderr.splitlines()] == [f.name for f in files[:3]]
    assert len(list(Path("results").rglob("*.jsonl"))) == 1


def test_an_import_comes_back_from_its_journal_as_it_was_parsed() -> None:
    for name in ("tflite_cpu.txt", "perf_test_rows.csv", "litert_with_counts.txt"):
        run = store.read(journal.import_file(FOREIGN / name))
        parsed = outputs.parse((FOREIGN / name).read_text(), name)
        assert tuple(replace(one, cell="") for one in run.imported) == parsed
        assert run.header["source"]["sha256"] == artifacts.sha256(FOREIGN / name) and run.end == "imported"
        assert [cell["id"] for cell in run.header["cells"]] == [one.cell for one in run.imported]


def test_the_same_file_is_not_imported_twice() -> None:
    assert not mobench("import", FOREIGN / "tflite_cpu.txt").return_value
    shutil.copy(FOREIGN / "tflite_cpu.txt", "copy.txt")
    done = mobench("import", "copy.txt")
    assert done.return_value == 1 and "imported before, as results/imported/" in done.stderr


def test_csv_has_a_column_for_each_end_of_an_interval(folder: Path) -> None:
    table = list(csv.DictReader(io.StringIO(mobench("export").stdout)))
    assert len(table) == 7 and {row["campaign"] for row in table} >= {"20261122T104059Z-desktop-cpu"}
    assert {"p50_ci_ms_low", "p50_ci_ms_high", "ratio_ci_low", "source", "mean_ms", "machine"} <= table[0].keys()
    gpu = next(row for row in table if row["cell"] == "net_v1.tflite")
    assert (gpu["p50_ms"], gpu["p50_ci_ms_low"], gpu["source"]) == ("1239.807", "", "benchmark_model (tflite)")


def test_parquet_and_json_hold_the_same_as_csv(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the parquet extra: pip install pyarrow")
    for name in ("a.parquet", "a.csv", "a.json"):
        assert not mobench("export", "-o", name).return_value  # the format is the suffix
    parquet, text = pd.read_parquet("a.parquet"), pd.read_csv("a.csv")
    assert list(parquet.columns) == list(text.columns) and len(parquet) == len(json.loads(Path("a.json").read_text()))
    for column in ("cell", "source", "p50_ms", "mean_ms", "n_inferences", "threads"):
        one, other = ([None if pd.isna(v) else v for v in frame[column]] for frame in (parquet, text))
        assert one == other, column
    assert pd.api.types.is_integer_dtype(parquet["threads"])  # unknown ones do not make floats of the rest
    whole = mobench("export", "--format", "parquet")
    assert pd.read_parquet(io.BytesIO(whole.stdout_bytes)).equals(parquet)


def test_parquet_without_pyarrow_is_a_line_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow is not installed; pip install pyarrow"):
        mobench("export", "-o", "a.parquet")
    assert not list(Path().glob("*.parquet"))


def test_blocks_are_the_raw_times_ours_and_imported(folder: Path) -> None:
    table = list(csv.DictReader(io.StringIO(mobench("export", "--blocks").stdout)))
    run = store.read(folder / "some-2c" / f"{RUN}.jsonl")
    frame = store.to_frame(run)
    ours = [row for row in table if not row["source"]]
    assert [float(row["latency_ms"]) for row in ours] == list(frame["latency_ms"])
    assert [tuple(map(int, row["wall_ns"].split())) for row in ours] == [block.wall_ns for block in run.blocks]
    theirs = [row for row in table if row["source"]]
    assert [row["wall_ns"] for row in theirs] == ["4310000", "4100000", "4000000", "8100000", "8000000"]
    assert {row["cpu_ns"] for row in theirs} == {""} and len(rows("export", RUN, "--blocks")) == len(run.blocks)


def test_markdown_has_few_columns_and_a_row_a_cell(folder: Path) -> None:
    lines = mobench("export", "--format", "md", RUN).stdout.splitlines()
    assert lines[0].startswith("| campaign | source | model |") and len(lines) == 2 + 3
    assert "p50 ms [95 %]" in lines[0] and "mean ms" not in lines[0]  # no tool gave means here
    assert all("| measured here |" in line for line in lines[2:])


def test_named_campaigns_are_exported_and_filters_hold(folder: Path) -> None:
    assert {row["cell"] for row in rows("export", RUN, "--network", "*v1*")} == {"mobilenet_v1_0.25_128_quant.tflite"}
    both = rows("export", RUN, "litert-benchmark", "--runtime", "litert")
    assert [row["source"] for row in both] == [None] * 3 + ["litert-benchmark (json)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "zzz"), "neither a file nor a journal"),
        (("show", "--since", "2999-01-01"), "none is let through by the filters"),
        (("show", RUN, "--runtime", "ort"), "no cell of it is let through"),
        (("export", "--since", "2999-01-01"), "nothing to export"),
        (("--since", "soon"), "not a date"),
        (("--results", "absent"), "no such folder"),
    ],
)
def test_what_is_not_there_is_a_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInputError, match=message) as raised:
        mobench(*arguments)
    assert "\n" not in str(raised.value)


def test_options_before_the_verb_are_refused_not_dropped(folder: Path) -> None:
    import click

    with pytest.raises(click.UsageError, match="options go after the verb: mobench results show"):
        mobench("--runtime", "ort", "show")


def test_a_damaged_journal_is_said_and_the_rest_is_listed(folder: Path) -> None:
    (folder / "broken.jsonl").write_text("broken\n")
    done = mobench()
    assert "left out: " in done.stderr and "broken.jsonl" in done.stderr and RUN in done.stdout
