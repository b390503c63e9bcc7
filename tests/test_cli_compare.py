"""`mobench compare` as a user calls it: on campaigns of exact numbers, and on real models in real processes."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import MACHINE, make_run, spread

import mobench.cli

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Call `mobench` in this process; return exit status, stdout and stderr."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # main's handler is for a process of its own

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mobench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            mobench.cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def one() -> Path:
    path = Path("results/m/one.jsonl")
    make_run(path, {"base.tflite": spread(1.0), "net.tflite": spread(2.0)}, sha256={"net.tflite": "old"})
    return path


@pytest.fixture
def other() -> Path:
    path = Path("results/m/other.jsonl")
    make_run(path, {"base.tflite": spread(2.0), "net.tflite": spread(4.2)}, sha256={"net.tflite": "new"})
    return path


def test_two_campaigns_are_compared_cell_by_cell_through_the_one_they_share(
    command: Command, one: Path, other: Path
) -> None:
    status, out, _ = command("compare", "one", other)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0
    assert lines[2] == "base.tflite base.tflite 2.00 [2.00, 2.00] B is slower unpaired"
    assert lines[3] == "net.tflite net.tflite 1.05 [1.05, 1.05] B is slower through base.tflite"
    assert "what changed between them for one model alone is not in the interval" in out
    assert f"journal: {one}" in out and f"journal: {other}" in out


def test_json_has_every_field_and_nothing_else_is_on_stdout(command: Command, one: Path, other: Path) -> None:
    status, out, err = command("compare", one, other, "--cells", "net", "net", "--same", "6%", "--json")
    (found,) = json.loads(out)
    assert (status, err) == (0, "")
    assert found["ratio"] == pytest.approx(1.05) and found["ratio_ci"] == [pytest.approx(1.05)] * 2
    assert (found["verdict"], found["no_difference"], found["basis"]) == ("no difference", 0.06, "through")
    assert found["campaigns"] == ["one", "other"] and found["journals"] == [str(one), str(other)]
    assert found["confidence"] == 0.95 and found["incarnations"] == 5 and found["more_s"] is None


def test_cells_of_one_campaign_are_named_by_file_or_network(command: Command, one: Path) -> None:
    status, out, _ = command("compare", "net", "base.tflite", "--in", one)
    assert status == 0
    assert "0.500 [0.500, 0.500]" in out and "B is faster" in out and "paired" in out


def test_git_has_both_sides(command: Command, one: Path, other: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    shutil.copy(one, "net.jsonl")
    git("init", "-q")
    git("add", "net.jsonl")
    git("commit", "-qm", "old")
    shutil.copy(other, "net.jsonl")
    git("commit", "-qam", "new")
    status, out, _ = command("compare", "HEAD~1:net.jsonl", "HEAD:net.jsonl", "--cells", "net", "net", "--json")
    (found,) = json.loads(out)
    assert status == 0 and found["ratio"] == pytest.approx(1.05)
    assert found["journals"] == ["HEAD:net.jsonl", "HEAD~1:net.jsonl"]


def test_another_machine_is_refused_in_one_line_and_labelled_anyway(command: Command, one: Path) -> None:
    away = Path("away.jsonl")
    make_run(away, {"net.tflite": spread(2.0)}, machine=MACHINE | {"cpu": "Cortex-A53", "kernel": "Linux 6.8"})
    status, out, err = command("compare", one, away)
    assert (status, out) == (2, "")
    assert err == (
        "note: base.tflite is only on A's side\n"
        "error: net.tflite and net.tflite cannot be compared: CPU model: Cortex-Z9 against Cortex-A53;"
        " time both in one campaign on one machine, or --anyway to compare under this label\n"
    )
    status, out, _ = command("compare", one, away, "--anyway")
    assert status == 0
    assert "NOT COMPARABLE, differ in CPU model: Cortex-Z9 against Cortex-A53" in out
    assert "\ndiffer in kernel: Linux 6.1 against Linux 6.8" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.tflite", "one"), "a.tflite: no such file"),
        (("one", "nothing"), "nothing: no file; neither a file nor an export under artifacts; neither a file nor"),
        (("one", "results/m/other.jsonl", "--cells", "x", "net"), "x: no such cell in results/m/one.jsonl"),
        (("one", "alien.jsonl"), "nothing on one side has a counterpart on the other"),
        (("x", "net", "--in", "one"), "x: no such cell in results/m/one.jsonl; one of: base.tflite, net.tflite"),
        (("x", "net", "--in", "one", "--cells", "a", "b"), "--in and --cells: each names the cells"),
        (("one", "other", "--same", "x"), "'x' is not a percentage from 0.1 to 50"),
        (("one", "untimed.jsonl"), "untimed.jsonl: nothing was timed in it"),
        (("one", "HEAD:absent.jsonl"), "HEAD:absent.jsonl: no such file, and git says"),
        (("one", "threads.jsonl", "--cells", "net", "net", "--clock", "cpu"), "it has 2 threads"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    command: Command, one: Path, other: Path, arguments: tuple[str, ...], message: str
) -> None:
    make_run(Path("alien.jsonl"), {"alien.tflite": spread(1.0)})
    make_run(Path("threads.jsonl"), {"net.tflite": spread(1.0)}, target={"net.tflite": {"threads": 2}})
    make_run(Path("untimed.jsonl"), {"net.tflite": spread(1.0)}, incarnations=0)
    status, out, err = command("compare", *arguments)
    assert (status, out) == (2, "")
    assert message in err and len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


def test_a_cell_that_failed_is_said_and_exit_1(command: Command, one: Path) -> None:
    make_run(Path("dead.jsonl"), {"base.tflite": spread(1.0), "net.tflite": None})
    status, out, err = command("compare", one, "dead.jsonl")
    assert status == 1
    assert "not timed" in out and "error: net.tflite: net.tflite: it does not load; no" in err


def test_two_model_files_are_timed_now_in_one_campaign(command: Command, onnx_model: Path, tflite_model: Path) -> None:
    status, out, err = command("compare", onnx_model, tflite_model, "--budget", "2", "--json")
    (found,) = json.loads(out)
    assert status == 0, err
    assert (found["a"], found["b"], found["basis"]) == ("tiny.onnx", "tiny.tflite", "paired")
    assert found["ratio"] > 0 and 0 < found["measured_s"] < 30
    assert {d["field"]: d["severity"] for d in found["differences"]} == {"runtime": "label"}
    assert Path(found["journals"][0]).is_file()


def test_a_file_against_itself_and_against_a_campaign_that_timed_it(command: Command, onnx_model: Path) -> None:
    shutil.copy(onnx_model, "new.onnx")
    status, out, _ = command("compare", onnx_model, onnx_model, "--budget", "2", "--json")
    (found,) = json.loads(out)
    assert status == 0 and (found["a"], found["b"]) == ("tiny.onnx", "tiny.onnx #2")
    journal = found["journals"][0]
    # The file that the campaign timed is still there, and is timed again with the new one.
    status, out, _ = command("compare", journal, "new.onnx", "--budget", "2", "--json")
    (found,) = json.loads(out)
    assert status == 0 and found["basis"] == "paired" and found["journals"] != [journal]


def test_exports_are_compared_by_name_and_precision(command: Command, onnx_model: Path) -> None:
    Path("artifacts").mkdir()
    for name in ("first.onnx", "second.onnx"):
        shutil.copy(onnx_model, f"artifacts/{name}")
    status, out, _ = command("compare", "first", "second", "--budget", "2", "--runtime", "ort", "--json")
    assert status == 0 and [(pair["a"], pair["b"]) for pair in json.loads(out)] == [("first.onnx", "second.onnx")]
