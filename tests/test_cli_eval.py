from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from mobench import data, store
from mobench.artifacts import sha256, write_manifest
from mobench.cli.eval import command
from mobench.errors import MobenchError
from mobench.records import Artifact, Target
from runners import desktop
from runners.wire import Session


def _run(*args: object) -> Result:
    """Call the verb as `mobench.cli.main` does, where what it returns becomes the exit status."""
    result = CliRunner().invoke(command, [str(arg) for arg in args], standalone_mode=False)
    if result.exception is None:
        result.exit_code = result.return_value
    return result


def _json(result: Result) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(result.stdout)
    return records


def _scores(colour: Sequence[float]) -> np.ndarray:
    """What conftest's ONNX classifier answers to raw pixels of one colour."""
    weights = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    return np.asarray(colour, np.float32) @ weights


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten one-colour images in folders of the class the ONNX classifier gives them, and two in wrong ones."""
    rng = np.random.default_rng(1)
    for number in range(12):
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        order = np.argsort(-_scores(colour))
        label = order[0] if number < 10 else order[500]
        path = tmp_path / "photos" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(path)
    return tmp_path / "photos"


def _ours(model: Path, folder: Path, calibration: dict[str, Any] | None = None) -> Path:
    """Copy a model and write a manifest beside it: raw pixels, and what it was calibrated with."""
    path = folder / "ours.onnx"
    path.write_bytes(model.read_bytes())
    preprocess = {"size": 8, "mean": [0, 0, 0], "std": [1 / 255] * 3, "crop": 1.0, "interpolation": "bilinear"}
    manifest = {
        "sha256": sha256(path), "network": {"name": "ours", "label": "ours"}, "precision": "int8",
        "preprocess": preprocess, "calibration": calibration,
    }  # fmt: skip
    write_manifest(path, manifest)
    return path


def test_json_gives_accuracy_interval_and_n_and_journals_it(onnx_model: Path, photos: Path) -> None:
    result = _run(onnx_model, "--data", photos, "--raw-pixels", "--json", "-o", "res")
    assert result.exit_code == 0, result.stderr
    (record,) = _json(result)
    assert record["file"] == str(onnx_model)
    assert record["n"] == 12
    assert record["top1"] == record["top5"] == pytest.approx(100 * 10 / 12)
    assert record["top1_ci"][0] < record["top1"] < record["top1_ci"][1]
    assert record["runtime"] == "ort"
    (journaled,) = store.read(Path("res/accuracy.jsonl")).accuracies
    assert (journaled.top1, journaled.n, journaled.sha256) == (record["top1"], 12, sha256(onnx_model))


def test_table_and_what_was_assumed(onnx_model: Path, photos: Path) -> None:
    result = _run(onnx_model, "--data", photos, "--raw-pixels")
    assert "83.3 [55.2, 95.3]" in result.stdout.replace("\u00a0", " ")
    assert "assumed centre crop of 0.875" in result.stderr
    assert "mean" not in result.stderr


def test_our_manifest_gives_the_pre_processing(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    result = _run(_ours(onnx_model, tmp_path), "--data", photos, "--json")
    (record,) = _json(result)
    assert record["top1"] == pytest.approx(100 * 10 / 12)
    assert record["assumed"] == []
    assert (record["name"], record["precision"]) == ("ours", "int8")


def test_calibration_images_are_left_out_for_all_files(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    calibration = data.calibration(photos, n=4).describe()
    ours = _ours(onnx_model, tmp_path, calibration)
    both = _json(_run(ours, onnx_model, "--data", photos, "--json", "--raw-pixels"))
    assert [record["n"] for record in both] == [8, 8]
    assert both[0]["data"] == both[1]["data"]
    assert both[0]["calibration_images_left_out"] == 4
    result = _run(ours, "--data", photos, "--keep-calibration", "--json")
    assert _json(result)[0]["n"] == 12


def test_all_images_calibrated_leaves_nothing(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    ours = _ours(onnx_model, tmp_path, data.calibration(photos, n=12).describe())
    result = _run(ours, "--data", photos)
    assert "--keep-calibration" in str(result.exception)


def test_an_unlisted_calibration_set_is_warned_of_and_the_embedded_one_is_not(
    onnx_model: Path, photos: Path, tmp_path: Path
) -> None:
    unlisted = {"name": "big", "n": 5000, "sha256": "00", "seed": 0}
    assert "does not list" in _run(_ours(onnx_model, tmp_path, unlisted), "--data", photos).stderr
    embedded = data.calibration(None, n=2).describe()
    assert "does not list" not in _run(_ours(onnx_model, tmp_path, embedded), "--data", photos).stderr


def test_limit_is_a_seeded_choice(onnx_model: Path, photos: Path) -> None:
    def chosen(seed: int) -> str:
        (record,) = _json(_run(onnx_model, "--data", photos, "--json", "--limit", 5, "--seed", seed))
        assert record["n"] == 5
        name: str = record["data"]
        return name

    assert chosen(0) == chosen(0)
    assert len({chosen(seed) for seed in range(4)}) > 1


def test_labels_file(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    flat, lines = tmp_path / "flat", []
    flat.mkdir()
    for path in sorted(photos.rglob("*.png")):
        path.rename(flat / path.name)
        lines.append(f"{path.name},{path.parent.name}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    result = _run(onnx_model, "--data", flat, "--labels", tmp_path / "labels.csv", "--raw-pixels", "--json")
    assert _json(result)[0]["top1"] == pytest.approx(100 * 10 / 12)


def test_bad_files_are_one_line_each_and_the_others_go_on(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    broken, foreign = tmp_path / "broken.onnx", tmp_path / "foreign.tflite"
    broken.write_bytes(onnx_model.read_bytes()[:200])
    foreign.write_bytes(b"PK\x03\x04 this is a zip file")
    result = _run(tmp_path / "none.onnx", broken, foreign, onnx_model, "--data", photos, "--raw-pixels", "--json")
    assert result.exit_code == 1
    assert [record["file"] for record in _json(result)] == [str(onnx_model)]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for name in ("none.onnx", "broken.onnx", "foreign.tflite"):
        assert sum(name in line for line in errors) == 1
    assert "Traceback" not in result.stderr


def test_a_bad_file_in_a_folder_does_not_cost_the_others(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "a.onnx").touch()
    (folder / "b.onnx").write_bytes(onnx_model.read_bytes())
    result = _run(folder, "--data", photos, "--json")
    assert result.exit_code == 1 and "a.onnx" in result.stderr
    assert [Path(row["file"]).name for row in _json(result)] == ["b.onnx"]


def test_a_killed_child_costs_its_file_and_not_the_others(
    onnx_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = tmp_path / "doomed.onnx"
    doomed.write_bytes(onnx_model.read_bytes())
    opened = desktop.open_session

    def kill(artifact: Artifact, target: Target, **given: Any) -> Session:
        session = opened(artifact, target, **given)
        if artifact.path == doomed:
            session._process.kill()
        return session

    monkeypatch.setattr(desktop, "open_session", kill)
    result = _run(doomed, onnx_model, "--data", photos, "--raw-pixels", "--json")
    assert result.exit_code == 1
    assert [record["file"] for record in _json(result)] == [str(onnx_model)]
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "doomed.onnx" in error
    assert "SIGKILL" in error


def test_a_full_disk_does_not_hide_what_was_measured(
    onnx_model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, _accuracy: object) -> Path:
        raise MobenchError(str(folder), "No space left on device")

    monkeypatch.setattr(store, "append_accuracy", full)
    result = _run(onnx_model, "--data", photos, "--raw-pixels", "--json")
    assert result.exit_code == 1
    assert _json(result)[0]["n"] == 12
    assert "No space left" in result.stderr


def test_unreadable_images_are_named_once_counted_and_cost_the_exit_status(onnx_model: Path, photos: Path) -> None:
    bad = sorted(photos.rglob("*.png"))[0]
    bad.write_bytes(b"broken")
    result = _run(onnx_model, onnx_model, "--data", photos, "--raw-pixels", "--json")
    assert result.exit_code == 1
    assert [record["n"] for record in _json(result)] == [11, 11]
    assert result.stderr.count(str(bad)) == 1
    assert "1 of 12 images could not be read" in result.stderr


def test_a_runtime_that_does_not_read_the_format_is_one_line(onnx_model: Path, photos: Path) -> None:
    result = _run(onnx_model, "--data", photos, "--runtime", "litert")
    assert result.exit_code == 1
    assert "litert does not read .onnx" in result.stderr


@pytest.mark.parametrize(
    ("mean", "fits"), [("0.5", True), ("0.1,0.2,0.3", True), ("0.1,0.2", False), ("a", False), ("nan,0,0", False)]
)
def test_mean_is_one_number_or_three(onnx_model: Path, photos: Path, mean: str, fits: bool) -> None:
    result = _run(onnx_model, "--data", photos, "--mean", mean)
    assert (result.exception is None) == fits
    assert fits or isinstance(result.exception, click.BadParameter)


def test_a_tflite_classifier_runs_in_litert(tflite_model: Path, photos: Path) -> None:
    result = _run(tflite_model, "--data", photos, "--json")
    (record,) = _json(result)
    assert (record["runtime"], record["n"]) == ("litert", 12)
    assert any("ImageNet" in text for text in record["assumed"])


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("tf2_mobilenet_v2_1.0_224_ptq", 87, 90),
        ("mobilenet_v1_0.5_160_quant", 62, 67),
        ("mobilenet_v1_0.25_128_quant", 42, 47),
    ],
)
def test_published_quantized_classifiers_need_no_flags(shared: Path, name: str, low: float, high: float) -> None:
    """The command of issue 2, as a user calls it. Their FP32 weights give 88.4, 64.2 and 44.6 (data's README)."""
    arguments = [str(shared / f"data/models/{name}.tflite"), "--data", str(shared / "data/imagenet-sample"), "--json"]
    process = subprocess.run(
        [sys.executable, "-m", "mobench", "eval", *arguments], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    (record,) = json.loads(process.stdout)
    assert record["n"] == 500
    assert low <= record["top1"] <= high
    assert record["top1"] < record["top5"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("posenet_custom_op", "PosenetDecoderOp"),
        ("model_invoking_error", "model_invoking_error"),
        ("deeplabv3_mnv2_dm05_pascal_quant", "not a classifier's"),
    ],
)
def test_models_that_cannot_be_evaluated_are_one_line(shared: Path, photos: Path, name: str, why: str) -> None:
    result = _run(shared / f"data/models/{name}.tflite", "--data", photos, "--json")
    assert result.exit_code == 1
    assert _json(result) == []
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert line.startswith("error: ")
    assert why in line
