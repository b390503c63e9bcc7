"""`mobench export` from end to end, on the smallest network the zoo has."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from exporters.finish import Outcome
from exporters.verify import compare
from mobench import artifacts, data, exporting, zoo
from mobench.cli.export import command, echo_outcomes
from mobench.errors import BadInputError, ExportError, MissingExtraError
from mobench.exporting import export_networks
from mobench.records import FORMATS, PRECISIONS

pytest.importorskip("torch", reason="needs mobench[export]")
pytest.importorskip("litert_torch", reason="needs mobench[export]")

NETWORK = "mobilenet_v1"
LABEL = "mobilenet_v1_0.25_64"
TINY: dict[str, Any] = {"width": 0.25, "input_size": 64, "weights": "random", "calibration_count": 16}
OPTIONS = ["--width", "0.25", "--size", "64", "--weights", "random", "--calibration-count", "16"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny network in both formats and all precisions. Tests must not change it."""
    folder = tmp_path_factory.mktemp("exported")
    outcomes = export_networks([NETWORK], precisions=PRECISIONS, out=folder, **TINY)
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
    assert len(outcomes) == len(FORMATS) * len(PRECISIONS)
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """The same files in a folder that a test may change."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def invoke(*arguments: str) -> Result:
    """Run the verb; what it returns is the exit code, as `mobench.cli.main` has it."""
    return CliRunner().invoke(command, arguments, standalone_mode=False)


@functools.cache
def reference(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images of the calibration and torch's logits for them, computed here and not by the exporter."""
    import torch

    from mobench import zoo
    from mobench.zoo import weights

    resolved = weights.resolve(zoo.get(NETWORK, width=0.25, input_size=64), "random")
    images = data.calibration(None, n=16).images(resolved.preprocess)
    first = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        return images, resolved.build(first.numpy())(first).numpy()


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_file_has_a_true_manifest(exported: Path, file_format: str, precision: str) -> None:
    artifact = artifacts.read(exported / f"{LABEL}-{precision}.{file_format}")
    manifest = artifact.manifest
    assert (manifest["schema"], manifest["format"], manifest["precision"]) == (1, file_format, precision)
    assert manifest["file"] == artifact.path.name
    assert manifest["size_bytes"] == artifact.path.stat().st_size
    network = {k: manifest["network"][k] for k in ("name", "width", "input_size", "padding")}
    assert network == {"name": NETWORK, "width": 0.25, "input_size": 64, "padding": "symmetric"}
    assert 400_000 < manifest["network"]["params"] < 500_000
    assert manifest["weights"]["kind"] == "random"
    assert manifest["calibration"]["n"] == 16  # random weights take their statistics from the images
    shape = [1, 64, 64, 3] if file_format == "tflite" else [1, 3, 64, 64]
    assert manifest["input"] == {
        "layout": "NHWC" if file_format == "tflite" else "NCHW",
        "dtype": "float32",
        "shape": shape,
    }
    assert artifact.preprocess is not None
    assert artifact.preprocess.size == 64
    assert manifest["versions"]["torch"]
    runtime = manifest["runtime"]
    if file_format == "tflite":
        assert (runtime["name"], runtime["got"], runtime["not_delegated"]) == ("litert", "XNNPACK", {})
        assert runtime["nodes_delegated"] == runtime["nodes_total"] > 27
    else:  # ONNX Runtime does not tell: its one provider runs every node
        assert (runtime["name"], runtime["got"]) == ("ort", "CPUExecutionProvider")
        assert runtime["nodes_total"] is None
    assert len(manifest["key"]) == 64


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_manifest_tells_the_error_that_one_finds(exported: Path, file_format: str) -> None:
    path = exported / f"{LABEL}-fp32.{file_format}"
    images, logits = reference(exported)
    inputs = images if file_format == "tflite" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    found = compare(logits, exporting.predict(path, inputs)[0])
    said = artifacts.read(path).manifest["verification"]
    assert said["n"] == found.n == 16
    assert said["max_abs_error"] < 1e-3
    assert found.max_rel_error < 1e-4  # torch's own threads already change the last digits
    assert said["top1_agreement"] == found.top1_agreement == 100


def test_fp16_files_are_half_and_int8_files_a_third(exported: Path) -> None:
    for file_format in FORMATS:
        size = {p: (exported / f"{LABEL}-{p}.{file_format}").stat().st_size for p in PRECISIONS}
        assert size["fp16"] < 0.53 * size["fp32"]
        assert size["int8"] < 0.34 * size["fp32"]


def test_each_onnx_file_stands_alone(exported: Path, tmp_path: Path) -> None:
    assert {path.suffix for path in exported.iterdir()} == {".onnx", ".tflite", ".json"}
    images, logits = reference(exported)
    moved = tmp_path / "moved.onnx"
    moved.write_bytes((exported / f"{LABEL}-fp32.onnx").read_bytes())
    outputs, _ = exporting.predict(moved, np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    assert compare(logits, outputs).max_rel_error < 1e-4


def test_a_doubled_scale_in_any_convolution_fails_the_verification(exported: Path) -> None:
    """The failure that verification is for: one convolution of an INT8 file computes something else."""
    import onnx
    import onnxruntime

    from exporters.verify import check, tolerance

    images, logits = reference(exported)
    inputs = np.ascontiguousarray(images.transpose(0, 3, 1, 2))

    def run(model: Any) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"input": one[None]})[0] for one in inputs])

    whole = onnx.load(exported / f"{LABEL}-int8.onnx")
    allowed = tolerance("int8", trained=False)
    check(compare(logits, run(whole)), allowed, "whole")
    names = [t.name for t in whole.graph.initializer if t.name.endswith("conv.weight_scale")]
    assert len(names) == 27
    for name in names[::3]:
        damaged = onnx.ModelProto()
        damaged.CopyFrom(whole)
        scale = next(t for t in damaged.graph.initializer if t.name == name)
        scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(2), name))
        with pytest.raises(ExportError, match="signal-to-noise"):
            check(compare(logits, run(damaged)), allowed, name)


def test_an_unchanged_export_is_not_repeated_and_needs_no_torch(exported: Path) -> None:
    code = (
        "import sys, json; from mobench.cli.export import command;"
        "status = command(sys.argv[1:], standalone_mode=False);"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'litert_torch') if m in sys.modules], file=sys.stderr);"
        "sys.exit(status)"
    )
    before = {path: path.stat().st_mtime_ns for path in exported.iterdir()}
    arguments = [NETWORK, *OPTIONS, "--fp32", "--int8", "--fp16", "-o", str(exported), "--json"]
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert {record["status"] for record in json.loads(ran.stdout)} == {"unchanged"}
    assert f"{LABEL}-int8.tflite: unchanged" in ran.stderr
    assert ran.stderr.splitlines()[-1] == "[]"
    assert {path: path.stat().st_mtime_ns for path in exported.iterdir()} == before


def test_a_damaged_file_is_exported_again_and_others_are_not(copied: Path) -> None:
    target = copied / f"{LABEL}-fp32.onnx"
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 0xFF
    target.write_bytes(content)
    result = invoke(NETWORK, *OPTIONS, "--format", "onnx", "--precision", "fp32", "--precision", "int8",
                    "-o", str(copied), "--json")  # fmt: skip
    assert result.return_value == 0, result.output
    statuses = {record["precision"]: record["status"] for record in json.loads(result.stdout)}
    assert statuses == {"fp32": "exported", "int8": "unchanged"}
    artifacts.read(target)  # whole again: it is the file its manifest describes


def test_a_failed_export_is_told_the_others_are_kept_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = exporting.predict

    def predict(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        logits, runtime = honest(path, inputs)
        return logits * 2 if "fp32" in path.name else logits, runtime  # as if a scale had been lost on the way

    monkeypatch.setattr(exporting, "predict", predict)
    result = invoke(NETWORK, *OPTIONS, "--format", "onnx", "--fp32", "--fp16", "-o", str(tmp_path / "out"))
    assert result.return_value == 1
    assert f"FAILED {LABEL}-fp32.onnx: {LABEL}-fp32.onnx is too far from torch: largest error 1 of" in result.stdout
    assert "Traceback" not in result.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{LABEL}-fp16.onnx", f"{LABEL}-fp16.onnx.json"]


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_leaves_no_half_file(tmp_path: Path) -> None:
    arguments = [NETWORK, *OPTIONS, "--int8", "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", "from mobench.cli import main; main()", "export", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; what was finished is kept"
    assert "Traceback" not in errors
    assert [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []
    workers = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in workers


def test_bad_input_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="did you mean mobilenet_v2"):
        export_networks(["mobilenet_2"], out=tmp_path / "out")
    with pytest.raises(BadInputError, match="no weights"):
        export_networks(["mobilenet_v2"], weights="nowhere.safetensors", out=tmp_path / "out")
    with pytest.raises(BadInputError, match="no such folder"):
        export_networks(["mobilenet_v2"], weights="random", calibration_dir=tmp_path / "nowhere", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("missing", "formats", "package"),
    [("torch", ["onnx"], "torch"), ("litert_torch", ["tflite"], "litert-torch"), ("onnx", ["onnx"], "onnx")],
)
def test_a_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, formats: list[Any], package: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name))
    with pytest.raises(
        MissingExtraError, match=rf"^{package} is not installed; pip install '\.\[export\]' in mobench's source folder$"
    ):
        export_networks([NETWORK], formats=formats, out=tmp_path, **TINY)


def test_without_a_precision_it_is_fp32_in_both_formats(exported: Path) -> None:
    result = invoke(NETWORK, *OPTIONS, "-o", str(exported), "--json")
    assert [(r["precision"], r["format"]) for r in json.loads(result.stdout)] == [("fp32", "onnx"), ("fp32", "tflite")]


def test_table_has_a_row_a_file_with_error_and_agreement(exported: Path) -> None:
    result = invoke(NETWORK, *OPTIONS, "--int8", "--fp32", "-o", str(exported))
    assert result.return_value == 0
    rows = [line for line in result.stdout.splitlines() if LABEL in line]
    assert len(rows) == 4
    assert "fp32" in rows[0]
    assert "unchanged" in rows[0]


@pytest.mark.parametrize(
    ("reference", "against"),
    [("torch fp32", "torch's FP32 on"), ("net.onnx in its runtime", "torch's FP32, or the float file's in its own")],
)
def test_the_note_says_what_files_are_held_against(
    reference: str, against: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome(
        label="net",
        format="onnx",
        precision="int8",
        path=Path("net-int8.onnx"),
        status="exported",
        seconds=1.0,
        manifest={"verification": {"reference": reference}},
    )
    echo_outcomes([outcome])
    assert f"the file's logits against {against}" in " ".join(capsys.readouterr().out.split())


def test_photographs_calibrate_and_are_named(shared: Path, tmp_path: Path) -> None:
    """A checkpoint's own padding, mean and std, and photographs for its ranges."""
    weights = shared / "data" / "checkpoints" / "mobilenet_v1_0.25_128.safetensors"
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for folder in sorted((shared / "data" / "imagenet-sample").iterdir())[:8]:
        for path in folder.iterdir():
            (photographs / path.name).write_bytes(path.read_bytes())
    outcome, *more = export_networks(
        [NETWORK],
        precisions=["int8"],
        formats=["onnx"],
        weights=str(weights),
        width=0.25,
        calibration_dir=photographs,
        out=tmp_path / "out",
    )
    assert not more
    assert outcome.error is None
    assert outcome.manifest["network"]["padding"] == "same"
    assert outcome.manifest["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert outcome.manifest["calibration"]["name"] == "photographs"
    assert outcome.manifest["calibration"]["n"] == 8
    assert outcome.manifest["weights"]["source"] == weights.name
    assert outcome.manifest["verification"]["snr_db"] > 12


def test_a_file_of_other_weights_is_not_replaced_in_silence(onnx_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "net-fp32.onnx"
    path.write_bytes(onnx_model.read_bytes())
    manifest = {
        "sha256": artifacts.sha256(path),
        "precision": "fp32",
        "network": {"name": "net", "label": "net"},
        "preprocess": {"size": 8, "mean": [0, 0, 0], "std": [1, 1, 1]},
        "weights": {"kind": "file", "source": "mine.pth"},
    }
    artifacts.write_manifest(path, manifest)

    def asked(**origin: str) -> Any:
        weights = SimpleNamespace(origin=origin)
        return SimpleNamespace(precisions=("fp32", "int8"), weights=weights, path=lambda p: tmp_path / f"net-{p}.onnx")

    assert list(exporting._replacements(asked(kind="file", source="mine.pth"))) == []
    (line,) = exporting._replacements(asked(kind="random", source="random:0"))
    assert "net-fp32.onnx was made from mine.pth and will be replaced" in line


def test_a_model_that_is_refused_is_one_line_and_the_others_finish(exported: Path) -> None:
    result = invoke(LABEL, f"{NETWORK}_0.25_32", "--size", "64", *OPTIONS[4:], "--int8", "--fp32", "-o", str(exported))
    assert result.return_value == 1
    line = f"input size 64 for {NETWORK}_0.25_32: the name itself says 32"
    assert [text for text in result.stderr.splitlines() if line in text] == [
        f"failed: {line}; give {NETWORK}, or leave the option out"
    ]
    rows = [text for text in result.stdout.splitlines() if text.startswith(str(exported))]
    assert [text.split()[-1] for text in rows] == ["unchanged"] * 4 + ["failed"] * 4
    assert sum(f"FAILED {NETWORK}_0.25_32-fp32.onnx and 3 more: {line}" in text for text in result.stdout.splitlines())


def test_a_network_by_two_names_is_exported_once(exported: Path) -> None:
    result = invoke(LABEL, NETWORK, *OPTIONS, "--format", "onnx", "-o", str(exported), "--json")
    assert [record["status"] for record in json.loads(result.stdout)] == ["unchanged"]


def test_a_folder_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"folder .*file/out cannot be written: Not a directory; name another"):
        export_networks([NETWORK], weights="nowhere.pth", out=tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_all_and_family_name_the_zoos_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def remember(names: Any, **options: Any) -> list[Any]:
        asked.append(names)
        return []

    monkeypatch.setattr("mobench.cli.export.export_networks", remember)
    assert invoke("--all").return_value == 0
    assert invoke("--family", "mobilenet_v3").return_value == 0
    assert set(asked[0]) == set(zoo.names())
    assert "mobilenet_v3_large" in asked[1] and all(zoo.get(name).family == "mobilenet_v3" for name in asked[1])
    for wrong in ((), ("--all", NETWORK), ("--family", "mobilenet_v3", NETWORK)):
        failure = invoke(*wrong).exception
        assert isinstance(failure, click.UsageError) and failure.message == "name models, or --all, or --family NAME"
    assert "no family is named" in str(invoke("--family", "mobilenet_v9").exception)
