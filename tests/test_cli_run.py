"""`mobench run` as a user calls it, on real models in real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobench import artifacts, store

KEYS = {"p50_ms", "p50_ci_ms", "ratio", "ratio_ci", "init_ms", "first_ms", "peak_rss_mb", "doubts"}


def mobench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_two_files_give_figures_with_intervals(onnx_model: Path, tflite_model: Path) -> None:
    done = mobench("run", onnx_model, tflite_model, "--budget", "4", "--baseline", "tiny.tflite", "--json")
    assert done.returncode == 0, done.stderr
    cells = {cell["cell"]: cell for cell in json.loads(done.stdout)}
    assert set(cells) == {"tiny.onnx", "tiny.tflite"}
    for cell in cells.values():
        assert set(cell) >= KEYS
        assert cell["p50_ci_ms"][0] <= cell["p50_ms"] <= cell["p50_ci_ms"][1]
        assert cell["init_ms"] > 0 and cell["first_ms"] > 0 and cell["peak_rss_mb"] > 10
    assert cells["tiny.tflite"]["ratio"] == 1 and cells["tiny.tflite"]["ratio_ci"] is None
    low, high = cells["tiny.onnx"]["ratio_ci"]
    assert low <= cells["tiny.onnx"]["ratio"] <= high
    run = store.read(Path(cells["tiny.onnx"]["journal"]))
    assert run.end in ("precise", "budget")
    assert run.header["machine"]["cores"] == os.cpu_count()


def test_the_table_names_the_journal_and_the_baseline(onnx_model: Path) -> None:
    done = mobench("run", onnx_model, "--budget", "1", "-o", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert "ratio: latency over that of tiny.onnx" in done.stdout
    journal = Path(done.stdout.split("journal: ")[1].strip())
    assert journal.is_relative_to("elsewhere") and journal.is_file()


def test_bad_files_are_a_line_each_and_the_rest_is_timed(onnx_model: Path) -> None:
    Path("junk.tflite").write_text("junk junk junk")
    Path("empty.onnx").touch()
    Path("cut.onnx").write_bytes(onnx_model.read_bytes()[:3000])
    done = mobench("run", "junk.tflite", "empty.onnx", "absent.onnx", "cut.onnx", onnx_model, "--budget", "1", "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    for name in ("junk.tflite", "empty.onnx", "absent.onnx", "cut.onnx"):
        assert sum(name in line for line in errors) == 1
    cells = {cell["cell"]: cell for cell in json.loads(done.stdout)}
    assert cells["tiny.onnx"]["p50_ms"] > 0
    assert cells["cut.onnx"]["p50_ms"] is None and "cannot load" in cells["cut.onnx"]["failure"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "mobench export"),
        (("run", "mobilenet_v9"), "neither a file nor an export"),
        (("run", "absent.onnx"), "no such file"),
        (("run", "--shape", "1,x"), "no model"),
        (("run", "--threads", "0"), "--threads"),
        (("rum",), "did you mean `mobench run`"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: tuple[str, ...], message: str) -> None:
    done = mobench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_no_asked_runtime_reads_is_a_line_and_the_rest_is_timed(
    onnx_model: Path, tflite_model: Path
) -> None:
    shutil.copy(onnx_model, "x.onnx")
    assert mobench("run", "./x.onnx", "--runtime", "litert").returncode == 2
    done = mobench("run", "./x.onnx", tflite_model, "--runtime", "litert", "--budget", "1", "--json")
    assert done.returncode == 1 and "--runtime ort" in done.stderr
    assert [cell["cell"] for cell in json.loads(done.stdout)] == ["tiny.tflite"]


def test_mobench_alone_is_its_help() -> None:
    done = mobench()
    assert "Commands:" in done.stdout and "quickstart" in done.stdout and not done.stderr


def test_dry_run_prints_the_cells_and_measures_nothing(onnx_model: Path) -> None:
    done = mobench("run", onnx_model, "--threads", "1", "--threads", "2", "--dry-run")
    assert done.stdout.splitlines() == ["tiny.onnx x1  ort  threads 1", "tiny.onnx x2  ort  threads 2"]
    assert not Path("results").exists()


def test_without_files_everything_under_artifacts_is_taken(onnx_model: Path) -> None:
    Path("artifacts/deep").mkdir(parents=True)
    shutil.copy(onnx_model, "artifacts/a.onnx")
    shutil.copy(onnx_model, "artifacts/deep/b.onnx")
    done = mobench("run", "--dry-run")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["a.onnx", "b.onnx"]
    assert artifacts.resolve(["b"]) == (Path("artifacts/deep/b.onnx"),)


def test_ctrl_c_prints_what_was_measured_and_keeps_it(onnx_model: Path) -> None:
    command = [sys.executable, "-m", "mobench", "run", str(onnx_model), "--budget", "60", "--precise", "0.01"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = _wait_for_blocks()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted" in out and "tiny.onnx" in out and "Traceback" not in err
    run = store.read(journal)
    assert run.end == "interrupted" and run.blocks
    _no_children_of_this_journal(onnx_model)


def test_a_killed_campaign_leaves_every_block_and_no_process(onnx_model: Path) -> None:
    command = [sys.executable, "-m", "mobench", "run", str(onnx_model), "--budget", "60", "--precise", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        journal = _wait_for_blocks()
        running.kill()
    run = store.read(journal)
    assert run.end is None and len(run.blocks) > 5
    _no_children_of_this_journal(onnx_model)


def test_a_killed_child_is_a_failure_and_the_sweep_goes_on(onnx_model: Path) -> None:
    other = Path("other.onnx")
    shutil.copy(onnx_model, other)
    command = [sys.executable, "-m", "mobench", "run", str(onnx_model), str(other), "--budget", "6", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_blocks(phase="steady")
    victims = _workers("other.onnx")
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    out, err = running.communicate(timeout=60)
    assert victims and running.returncode == 1
    cells = {cell["cell"]: cell for cell in json.loads(out)}
    assert cells["tiny.onnx"]["failure"] is None and cells["tiny.onnx"]["p50_ms"] > 0
    assert "SIGKILL" in cells["other.onnx"]["failure"]
    assert cells["other.onnx"]["p50_ms"] > 0  # it came back in the next incarnation
    assert "SIGKILL" in err and "Traceback" not in err


def _wait_for_blocks(phase: str = "warmup") -> Path:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for path in Path("results").rglob("*.jsonl"):
            if path.read_bytes().count(f'"phase":"{phase}"'.encode()) > 12:
                return path
        time.sleep(0.02)
    raise AssertionError("no block was journaled in a minute")


def _workers(name: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().decode()
        except OSError:
            continue
        if "runners.worker" in arguments and name in arguments:
            found.append(int(path.parent.name))
    return found


def _no_children_of_this_journal(model: Path) -> None:
    until = time.monotonic() + 10
    while _workers(str(model)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _workers(str(model))
