"""`mobench gate` as a CI job calls it: exit status, JUnit, Markdown, and the README's example of a job."""

import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from made_runs import MACHINE, make_run, spread

import mobench.cli
from mobench import artifacts
from mobench.campaign import run_cells
from mobench.design import Settings
from mobench.plan import make_cells
from mobench.records import Target

README = Path(__file__).resolve().parents[1] / "README.md"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Call `mobench gate` in this process; return exit status, stdout and stderr."""
    monkeypatch.setattr("signal.signal", lambda *_: None)  # main's handler is for a process of its own

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mobench", "gate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            mobench.cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(autouse=True)
def _campaigns() -> None:
    """The old campaign, one that is 5 % slower in one cell of two, and one that is not."""
    for name, factor in (("old", 2.0), ("slow", 2.1), ("same", 2.0)):
        cells = {"base.tflite": spread(1.0), "net.tflite": spread(factor)}
        make_run(Path(f"{name}.jsonl"), cells, sha256={"net.tflite": name})


def test_a_regression_is_exit_1_and_a_tolerated_one_is_not(command: Command) -> None:
    status, out, err = command("slow.jsonl", "--against", "old.jsonl", "--unpaired")
    assert status == 1
    assert re.search(r"^net\.tflite +regression +1\.05 \[1\.05, 1\.05\]", out, re.MULTILINE)
    assert "where no cell is slower by more than 3 %, at most 1 % of gates fall by chance" in out
    assert err == "error: gate fell: 1 passed, 1 regression (tolerance 3 %)\n"
    assert command("slow.jsonl", "--against", "old.jsonl", "--unpaired", "--tolerance", "6%")[0] == 0
    assert command("same.jsonl", "--against", "old.jsonl", "--unpaired")[0] == 0


def test_junit_and_markdown_are_written_also_when_the_gate_falls(command: Command) -> None:
    status, _, _ = command(
        *("slow.jsonl", "--against", "old.jsonl", "--unpaired", "--junit", "out/junit.xml", "--markdown", "out/gate.md")
    )
    assert status == 1
    suite = ET.parse("out/junit.xml").getroot().find("testsuite")
    assert suite is not None and (suite.get("tests"), suite.get("failures")) == ("2", "1")
    text = Path("out/gate.md").read_text()
    assert text.startswith("## gate fell: 1 passed, 1 regression (tolerance 3 %)\n\n| cell | status |")
    assert "| net.tflite | regression | 1.05 [1.05, 1.05] | through base.tflite | slower by more than 3 % |" in text
    assert "- where no cell is slower by more than 3 %, at most 1 % of gates fall by chance" in text


def test_stdout_takes_one_of_them_alone(command: Command) -> None:
    status, out, _ = command("same.jsonl", "--against", "old.jsonl", "--unpaired", "--markdown", "-")
    assert status == 0 and out.startswith("## gate holds: 2 passed")
    _, out, _ = command("same.jsonl", "--against", "old.jsonl", "--unpaired", "--junit", "-")
    assert ET.fromstring(out.encode()).tag == "testsuites"
    _, out, _ = command("slow.jsonl", "--against", "old.jsonl", "--unpaired", "--json")
    assert [(row["cell"], row["status"], row["fell"]) for row in json.loads(out)] == [
        ("base.tflite", "passed", False), ("net.tflite", "regression", True),
    ]  # fmt: skip
    status, out, err = command("same.jsonl", "--against", "old.jsonl", "--markdown", "-", "--json")
    assert (status, out) == (2, "") and "one stdout for several" in err


def test_cells_that_are_gone_new_or_dead_are_named(command: Command) -> None:
    make_run(Path("now.jsonl"), {"base.tflite": spread(1.0), "net.tflite": None, "fresh.tflite": spread(1.0)})
    make_run(Path("then.jsonl"), {"base.tflite": spread(1.0), "net.tflite": spread(1.0), "lost.tflite": spread(1.0)})
    status, out, _ = command("now.jsonl", "--against", "then.jsonl", "--unpaired", "--json")
    found = {row["cell"]: row["status"] for row in json.loads(out)}
    assert status == 1
    assert found == {"base.tflite": "passed", "net.tflite": "failed", "fresh.tflite": "new", "lost.tflite": "gone"}


def test_of_a_folder_of_results_the_newest_campaign_counts(command: Command) -> None:
    for name, factor, day in (("a", 1.0, 3), ("b", 2.1, 2)):
        cells = {"base.tflite": spread(1.0), "net.tflite": spread(factor)}
        make_run(Path(f"folder/m/{name}.jsonl"), cells, started=f"2026-11-0{day}T00:00:00+00:00")
    _, out, _ = command("slow.jsonl", "--against", "folder", "--unpaired", "--json")
    assert json.loads(out)[1]["ratio"] == pytest.approx(2.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("slow.jsonl",), "Missing option '--against'"),
        (
            ("slow.jsonl", "--against", "old.jsonl"),
            "base.tflite against base.tflite: no other cell is in both",
        ),
        (
            ("away.jsonl", "--against", "old.jsonl", "--unpaired"),
            "compared: architecture: aarch64 against x86_64",
        ),
        (("slow.jsonl", "--against", "absent.jsonl"), "absent.jsonl: no file"),
        (("slow.jsonl", "old.jsonl", "--against", "old.jsonl"), "more than one campaign, or campaigns and models"),
        (("slow.jsonl", "--against", "alien.jsonl"), "nothing on one side has a counterpart on the other"),
        (("--against", "old.jsonl"), "no model under artifacts"),
        (("absent.onnx", "--against", "old.jsonl"), "absent.onnx: no such file"),
        (("slow.jsonl", "--against", "old.jsonl", "--tolerance", "three"), "'three' is not a percentage"),
        (("slow.jsonl", "--against", "old.jsonl", "--false-alarms", "0"), "'0' is not a percentage from 0.001 to 50"),
    ],
)
def test_what_cannot_be_judged_is_one_line_and_exit_2(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    make_run(Path("away.jsonl"), {"net.tflite": spread(1.0)}, machine=MACHINE | {"arch": "x86_64"})
    make_run(Path("alien.jsonl"), {"alien.tflite": spread(1.0)})
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1


def test_a_campaign_against_model_files_is_refused(command: Command, onnx_model: Path) -> None:
    status, _, err = command("slow.jsonl", "--against", onnx_model)
    assert status == 2 and "model files cannot be timed with a campaign that is over" in err


def test_two_folders_of_files_are_timed_in_one_campaign(command: Command, onnx_model: Path) -> None:
    for folder in ("old", "new"):
        Path(folder).mkdir()
        shutil.copy(onnx_model, f"{folder}/net.onnx")
    shutil.copy(onnx_model, "old/lost.onnx")
    status, out, err = command("new", "--against", "old", "--all", "--budget", "2", "--tolerance", "900%", "--json")
    assert status == 0, err
    found = {row["cell"]: row for row in json.loads(out)}
    assert found["new/net.onnx"]["basis"] == "paired" and found["new/net.onnx"]["ratio"] > 0
    assert found["old/lost.onnx"]["status"] == "gone"


def test_a_file_that_did_not_change_is_not_timed(command: Command, onnx_model: Path) -> None:
    shutil.copy(onnx_model, "net.onnx")
    status, out, _ = command("net.onnx", "--against", onnx_model, "--json")
    assert status == 0 and [row["status"] for row in json.loads(out)] == ["unchanged"]
    assert not Path("results").exists()


def test_a_new_file_that_does_not_load_makes_the_gate_fall(command: Command, onnx_model: Path) -> None:
    Path("broken.onnx").write_bytes(onnx_model.read_bytes()[:3000])
    status, out, _ = command("broken.onnx", "--against", onnx_model, "--budget", "1", "--json")
    (row,) = json.loads(out)
    assert (status, row["status"]) == (1, "failed") and "cannot load" in row["why"]


def test_a_file_that_was_replaced_is_compared_through_one_that_is_still_there(
    command: Command, onnx_model: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the export extra: pip install 'mobench[export]'")
    proto = onnx.load(onnx_model)
    for name in ("anchor.onnx", "net.onnx"):
        proto.producer_name = name  # the same model in other bytes
        onnx.save(proto, name)
    cells = [artifacts.read(Path(name)) for name in ("anchor.onnx", "net.onnx")]
    timed = run_cells(make_cells(cells, [Target(runtime="ort")]), settings=Settings(budget_s=2.0))
    proto.producer_name = "net.onnx, the second version"
    onnx.save(proto, "net.onnx")
    terms = ("--budget", "2", "--tolerance", "900%")
    status, out, err = command("net.onnx", "anchor.onnx", "--against", timed.path, *terms, "--json")
    assert status == 0, err
    found = {row["cell"]: row for row in json.loads(out)}
    assert found["net.onnx"]["basis"] == "through anchor.onnx" and found["anchor.onnx"]["status"] == "unchanged"
    # With nothing left of the old campaign's files there is only p50 against p50.
    Path("anchor.onnx").unlink()
    status, out, err = command("net.onnx", "--against", timed.path, *terms)
    assert status == 2 and "--unpaired" in err


def example() -> str:
    """The README's GitHub Action."""
    found = re.search(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "README.md has no yaml example"
    return found[1]


def test_the_readmes_job_is_yaml_and_its_commands_are_ours() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which the export extra brings")
    (job,) = yaml.safe_load(example())["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    lines = [line.strip() for script in scripts for line in script.replace("\\\n", " ").splitlines()]
    calls = [shlex.split(line) for line in lines if line.startswith("mobench ")]
    assert {call[1] for call in calls} >= {"gate"}
    for call in calls:
        verb = mobench.cli.cli.get_command(click.Context(mobench.cli.cli), call[1])
        assert verb is not None
        verb.make_context(call[1], call[2:])  # parses, and calls nothing
    uploads = [step["with"]["path"] for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert uploads and all(path in " ".join(scripts) for path in uploads)
