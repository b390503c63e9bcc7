"""`mobench profile` from files to tables, JSON, CSV and plots; its ceilings are given, so nothing slow is measured."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mobench import artifacts, cli
from mobench.cli import profile as verb
from mobench.errors import BadInputError, SessionError
from mobench.profile.roofline import Ceiling
from mobench.records import Target
from runners.profile import matmul_files

CEILING = Ceiling(
    macs_per_s={"fp32": 1e15, "int8": 2e15},
    reached_by={"fp32": "ort", "int8": "litert"},
    bytes_per_s=((1 << 18, 5e15), (1 << 28, 1e15)),
    measured="2026-11-22T00:00:00+00:00",
)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    calls: list[tuple[int, bool]] = []

    def known(machine: object, threads: int, *, remeasure: bool, **_: object) -> Ceiling:
        calls.append((threads, remeasure))
        return CEILING

    monkeypatch.setattr(verb, "ceiling_for", known)
    return calls


def profile(*arguments: str | Path) -> Result:
    arguments = (*arguments, "--budget", "0.1")
    return CliRunner().invoke(verb.command, [str(argument) for argument in arguments], standalone_mode=False)


def test_operators_and_blocks_are_tables_and_the_notes_say_what_they_are(onnx_model: Path) -> None:
    result = profile(onnx_model)
    assert result.exception is None and result.return_value == 0
    head, *rest = result.stdout.splitlines()
    assert head == "tiny.onnx, ONNX Runtime, 1 thread"
    text = "\n".join(rest)
    assert text.startswith("operator") and "\nblock" in text
    (matmul,) = [line for line in rest if line.startswith("MatMul")]
    assert matmul.split()[4] == "0.0"  # 3,000 MACs in millions
    for words in ("without the profiler", "never a model's latency", "1,000,000 GMAC/s (ONNX Runtime)", "of ceiling:"):
        assert words in text
    assert "profiling tiny.onnx" in result.stderr and not list(Path.cwd().iterdir())


def test_json_holds_every_line_and_how_the_profile_relates_to_the_latency(tflite_model: Path) -> None:
    result = profile(tflite_model, "--json", "--by", "layer")
    assert result.exception is None
    (found,) = json.loads(result.stdout)
    assert found["target"]["runtime"] == "litert" and found["sha256"] == artifacts.sha256(tflite_model)
    layers = found["layer"]
    assert sum(line["macs"] for line in layers) == 6 * 6 * 8 * 27 + 8000
    # So small a network may take no whole microsecond an operator.
    assert sum(line["share"] for line in layers) == pytest.approx(1 if found["operators_ms"] else 0)
    assert found["operators_ms"] == pytest.approx(sum(line["time_ms"] for line in layers))
    assert found["plain_ms"] > 0 and found["profiled_ms"] > 0 and found["inferences"] >= 10
    assert found["ceiling"]["bytes_per_s"][0] == {"working_set_bytes": 1 << 18, "rate": 5e15}
    for line in layers:
        if line["macs"] and line["time_ms"]:
            least_s = max(line["macs"] / 1e15, line["moved_bytes"] / 5e15)
            assert line["of_ceiling"] == pytest.approx(1000 * least_s / line["time_ms"])


def test_the_csv_file_holds_every_operator_in_order_at_full_precision(onnx_model: Path, tmp_path: Path) -> None:
    result = profile(onnx_model, "--csv", tmp_path / "out.csv", "--json", "--by", "layer", "--top", "1")
    assert result.exception is None
    (found,) = json.loads(result.stdout)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [int(row["position"]) for row in rows] == list(range(len(found["layer"])))
    by_position = {line["position"]: line for line in found["layer"]}
    for row in rows:
        line = by_position[int(row["position"])]
        assert (row["name"], row["kind"], row["block"], row["file"]) == (
            line["name"], line["kind"], line["block"], str(onnx_model),
        )  # fmt: skip
        assert float(row["time_ms"]) == line["time_ms"] and float(row["share"]) == line["share"]
        assert (int(row["macs"]) if row["macs"] else None) == line["macs"]


def test_only_the_longest_layers_are_shown(onnx_model: Path) -> None:
    result = profile(onnx_model, "--by", "layer", "--top", "1")
    assert result.exception is None and "the 1 longest of" in result.stdout
    assert "operator" in result.stdout.splitlines()[1]


def test_both_plots_are_written(tmp_path: Path) -> None:
    model = matmul_files.write(tmp_path, "ort", "fp32", 256)  # large enough to take many microseconds
    result = profile(model, "--plot", tmp_path / "roof.svg", "--flame", tmp_path / "flame.png")
    assert result.exception is None
    assert (tmp_path / "roof.svg").read_text().startswith("<?xml")
    assert (tmp_path / "flame.png").read_bytes().startswith(b"\x89PNG")
    assert f"plot: {tmp_path / 'roof.svg'}" in result.stderr


def test_files_of_both_runtimes_come_one_after_the_other(onnx_model: Path, tflite_model: Path) -> None:
    result = profile(onnx_model, tflite_model, "--by", "operator")
    assert result.exception is None
    lines = result.stdout.splitlines()
    assert lines.index("tiny.onnx, ONNX Runtime, 1 thread") < lines.index("tiny.tflite, LiteRT, 1 thread")


def test_threads_and_remeasuring_reach_the_ceilings(onnx_model: Path, asked: list[tuple[int, bool]]) -> None:
    assert profile(onnx_model, "--threads", "2", "--remeasure").exception is None
    assert asked == [(2, True)]


def test_a_bad_file_is_one_line_and_the_others_go_on(onnx_model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07 not a model")
    (tmp_path / "empty.tflite").touch()
    result = profile(tmp_path / "bad.onnx", tmp_path / "empty.tflite", onnx_model)
    assert result.return_value == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "empty" in errors[0] and "bad.onnx" in errors[1]
    assert "tiny.onnx" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{model}", "--plot", "roof.gif"], "suffix"),
        (["{model}", "{model}", "--flame", "flame.svg"], "one model"),
        (["{model}", "--provider", "gpu"], "--provider gpu"),
        (["{model}", "--shape", "1,x"], "--shape"),
        (["no_such_network"], "no_such_network"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(
    arguments: list[str], message: str, onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "profile_file", lambda *_, **__: pytest.fail("it ran"))
    result = profile(*(argument.replace("{model}", str(onnx_model)) for argument in arguments))
    assert isinstance(result.exception, BadInputError) and message in str(result.exception)


def test_a_runtime_that_has_no_profiler_is_one_line(onnx_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SessionError(
            "per-operator times need ai-edge-litert 2.3 or newer", "an older one is installed", "upgrade"
        )

    monkeypatch.setattr(verb, "profile_file", refuse)
    result = profile(onnx_model, "--json", "--csv", "out.csv", "--plot", "roof.svg")
    assert result.return_value == 1 and json.loads(result.stdout) == []
    assert "error: per-operator times need ai-edge-litert 2.3 or newer: an older one is installed" in result.stderr
    assert not Path("out.csv").exists() and not Path("roof.svg").exists()


def test_our_networks_blocks_are_named_after_the_papers_table(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07")
    artifact = artifacts.read(path)
    assert verb.block_names(artifact) == {}
    network = {"name": "mobilenet_v2", "width": 1.0, "input_size": 224}
    names = verb.block_names(dataclasses.replace(artifact, manifest={"network": network}))
    assert (names["0"], names["2"], names["3"]) == ("0 conv 3-32 /2", "2 inverted 16-24 /2", "3 inverted 24-24")
    assert (names["19"], names["20"]) == ("19 pool", "20 dense 1280-1000") and len(names) == 21


def test_the_title_says_what_is_not_as_usual(onnx_model: Path) -> None:
    target = Target(runtime="ort", provider="xnnpack", threads=2, batch=4)
    shown: Callable[..., verb.Profiled] = verb.Profiled
    one = shown(
        artifact=artifacts.read(onnx_model), target=target, profile=None, ceiling=CEILING, block_names={}
    )  # fmt: skip
    assert one.title == "tiny.onnx, ONNX Runtime (xnnpack), 2 threads, batch 4"


def test_it_is_a_verb() -> None:
    assert "profile" in cli.VERBS and CliRunner().invoke(cli.cli, ["profile", "--help"]).exit_code == 0
