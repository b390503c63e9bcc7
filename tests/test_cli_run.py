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
from mobench.cli.run import columns, state_notes
from mobench.records import Cluster, DeviceState, Run

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
        (("run", "--shape", "1,x"), "positive integers"),
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
    assert done.stdout.splitlines() == [
        "tiny.onnx x1  desktop-cpu  ort  threads 1",
        "tiny.onnx x2  desktop-cpu  ort  threads 2",
    ]
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


def test_a_campaign_that_was_killed_is_taken_up_again(onnx_model: Path, tflite_model: Path) -> None:
    command = [sys.executable, "-m", "mobench", "run", str(onnx_model), str(tflite_model), "--budget", "60"]
    parent = subprocess.Popen([*command, "--precise", "0.01"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 20_000 for path in Path("results").rglob("*.jsonl")):
        assert time.monotonic() < deadline, "no blocks came"
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    (journal,) = Path("results").rglob("*.jsonl")
    before = store.read(journal)
    assert before.end is None
    done = mobench("run", "--resume", journal.stem, "--budget", "2", "--json")
    assert done.returncode == 0, done.stderr
    after = store.read(journal)
    assert after.blocks[: len(before.blocks)] == before.blocks and len(after.blocks) > len(before.blocks)
    assert after.end in ("precise", "budget") and len(after.resumes) == 1
    assert {cell["campaign"] for cell in json.loads(done.stdout)} == {journal.stem}


def test_what_cannot_be_resumed_is_refused_in_one_line(onnx_model: Path) -> None:
    model = Path(shutil.copy(onnx_model, "mine.onnx"))
    assert mobench("run", model, "--budget", "1", "--precise", "50").returncode == 0
    (journal,) = Path("results").rglob("*.jsonl")
    lines = {
        ("run", "--resume", journal): "measure on with --budget",
        ("run", "--resume", journal, "--threads", "2"): "it goes on as it began",
        ("run", "--resume", "never"): "neither a file nor a journal",
    }
    for arguments, expected in lines.items():
        done = mobench(*arguments)
        assert done.returncode == 2 and expected in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    model.write_bytes(model.read_bytes() + b" ")
    done = mobench("run", "--resume", journal, "--budget", "1")
    assert done.returncode == 2 and "has changed since" in done.stderr


def test_a_sweep_records_what_cannot_run_with_its_reason(onnx_model: Path, tflite_model: Path) -> None:
    sweep = ["--batch", "1", "--batch", "3", "--provider", "cpu", "--provider", "xnnpack", "--provider", "builtin"]
    done = mobench("run", onnx_model, tflite_model, *sweep, "--budget", "2", "--json")
    assert done.returncode == 1
    cells = {cell["cell"]: cell for cell in json.loads(done.stdout)}
    assert len(cells) == 2 * 4  # ORT: cpu, xnnpack; LiteRT: xnnpack, builtin; each at both batches
    assert cells["tiny.tflite builtin b1"]["p50_ms"] and cells["tiny.tflite builtin b1"]["nodes_delegated"] == 0
    assert "XnnpackExecutionProvider" in cells["tiny.onnx xnnpack b1"]["failure"]
    assert cells["tiny.onnx cpu b1"]["batch"] == 1 and cells["tiny.onnx cpu b1"]["arena_mb"] is not None


def test_a_provider_of_another_runtime_is_refused_with_the_choice(onnx_model: Path) -> None:
    done = mobench("run", onnx_model, "--runtime", "ort", "--provider", "builtin")
    assert done.returncode == 2 and "ort: cpu, xnnpack" in done.stderr


def test_sigterm_ends_a_campaign_as_ctrl_c_does(onnx_model: Path) -> None:
    command = [sys.executable, "-m", "mobench", "run", str(onnx_model), "--budget", "60", "--precise", "0.01"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 20_000 for path in Path("results").rglob("*.jsonl")):
        assert time.monotonic() < deadline, "no blocks came"
        time.sleep(0.05)
    parent.terminate()
    out, err = parent.communicate(timeout=30)
    assert parent.returncode == 130 and "interrupted" in err
    assert "tiny.onnx" in out
    assert store.read(next(Path("results").rglob("*.jsonl"))).end == "interrupted"


def test_a_sustained_load_is_timed_without_a_pause(onnx_model: Path) -> None:
    done = mobench("run", onnx_model, "--sustain", "3s", "--json")
    assert done.returncode == 0, done.stderr
    (journal,) = Path("results").rglob("*.jsonl")
    run = store.read(journal)
    assert run.end == "sustained" and run.header["settings"]["sustain_s"] == 3
    assert mobench("run", onnx_model, "--sustain", "soon").returncode == 2


def test_what_the_machine_did_meanwhile_is_said_where_it_matters(tmp_path: Path) -> None:
    def notes(*states: DeviceState) -> list[str]:
        return state_notes(Run(path=tmp_path, header={}, sessions=(), blocks=(), failures=(), accuracies=(), end=None,
                               states=states))  # fmt: skip

    quiet = Cluster(cores=(0, 1), cap_khz=2_400_000, max_khz=2_400_000)
    assert notes(DeviceState(when="before", t_s=0, clusters=(quiet,), others_share=0.01, power="mains")) == []
    capped = Cluster(cores=(0, 1), cap_khz=1_200_000, max_khz=2_400_000)
    found = notes(
        DeviceState(when="before", t_s=0, clusters=(capped,), power="battery"),
        DeviceState(when="during", t_s=9, others_share=0.5, steal_share=0.2, thermal_status="light"),
    )
    assert found == [
        "clocks were capped below the hardware's maximum: cores 0,1 to 50%",
        "other processes took up to 50% of the machine's CPU time",
        "the hypervisor gave up to 20% of the machine's CPU time to others",
        "the device ran on its battery",
        "the device said that it throttled: light",
    ]


def test_a_column_in_which_all_is_as_usual_is_left_out() -> None:
    usual = {"provider": "", "batch": 1, "energy_mj": None}
    assert not {column.key for column in columns([usual])} & set(usual)
    assert "batch" in {column.key for column in columns([usual, {**usual, "batch": 8}])}


def test_a_sustained_load_shows_its_minutes_and_draws_them(onnx_model: Path, tflite_model: Path) -> None:
    done = mobench("run", onnx_model, tflite_model, "--sustain", "3s", "--plot", "load.svg")
    assert done.returncode == 0, done.stderr
    assert "ended: 3 s of sustained load" in done.stdout and "minute 1, ms" in done.stdout
    assert "ONE_START" in done.stdout and "FEW_SAMPLES" not in done.stdout
    assert Path("load.svg").read_text().lstrip().startswith("<?xml")
    done = mobench("run", onnx_model, "--plot", "load.svg")
    assert done.returncode == 2 and "needs --sustain" in done.stderr
