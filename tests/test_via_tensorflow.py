"""The second road: the Keras network is the torch one, its files are within the same tolerances, both roads agree."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_export import channels_first

from exporters import worker
from exporters.recipe import Request
from exporters.verify import check, compare, tolerance
from mobench import data, exporting, zoo
from mobench.errors import BadInputError, MissingExtraError
from mobench.records import PRECISIONS
from mobench.zoo import weights

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("torch") is None,
    reason="needs mobench[export,tensorflow]",
)
# Of each family the least that has all its parts: what is repeated once, what is wide narrow.
SMALL: dict[str, dict[str, Any]] = {
    "mobilenet_v1_se": {"width": 0.25, "depth": 0.1, "input_size": 32},
    "mobilenet_v2": {"width": 0.25, "depth": 0.1, "input_size": 48},
    "mobilenet_v3_small": {"width": 0.25, "input_size": 48},
    "mobilenet_v3_large_spelled": {"width": 0.25, "input_size": 32},
    "efficientnet_b0": {"width": 0.25, "depth": 0.1, "input_size": 48},
    "mnasnet_a1": {"width": 0.25, "depth": 0.1, "input_size": 32},
    "moga_a": {"width": 0.25, "input_size": 32},
    "resnet50_stride1x1": {"width": 0.25, "depth": 0.1, "input_size": 48},
    "alexnet": {"width": 0.25, "input_size": 67},
    "vgg16": {"width": 0.05, "input_size": 32},
}
SE_PLACES = [
    pytest.param(name, {"width": 0.25, "depth": 0.1, "input_size": 32}, id=name)
    for name in zoo.names()
    if name.startswith("se_resnet50")
]


def made(name: str, **parameters: Any) -> tuple[weights.ResolvedWeights, np.ndarray]:
    """Return a network's random weights, and images it can take its statistics from."""
    resolved = weights.resolve(zoo.get(name, **parameters), "random:0")
    return resolved, data.calibration(None, n=8).images(resolved.preprocess)


def asked(resolved: weights.ResolvedWeights, folder: Path, **more: Any) -> Request:
    keys = ("name", "label", "width", "depth", "input_size", "padding", "bn_eps")
    network = {key: getattr(resolved.spec, key) for key in keys}
    calibration = data.calibration(None, n=8)
    fields: dict[str, Any] = {"format": "tflite", "precisions": ("fp32",), "via": "tensorflow", **more}
    return Request(network=network, weights=resolved, calibration=calibration, folder=folder, **fields)


def converted(what: Request) -> tuple[worker.Reference, dict[str, Path]]:
    messages: list[worker.Message] = []
    worker.convert(what, messages.append, worker.Kept(), worker.Kept())
    failed = [message for message in messages if isinstance(message, worker.Failed)]
    assert not failed, failed[0].trace
    (reference,) = (message for message in messages if isinstance(message, worker.Reference))
    return reference, {m.precision: m.path for m in messages if isinstance(m, worker.Converted)}


@needs_tensorflow
@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize(("name", "parameters"), [*(pytest.param(n, p, id=n) for n, p in SMALL.items()), *SE_PLACES])
def test_the_keras_network_is_the_torch_network(name: str, parameters: dict[str, Any], padding: str) -> None:
    import torch

    from exporters import via_tensorflow

    resolved, images = made(name, padding=padding, **parameters)
    module = resolved.build(channels_first(images))
    with torch.inference_mode():
        logits = module(torch.from_numpy(channels_first(images[:1]))).numpy()
    model = via_tensorflow.build(asked(resolved, Path()).network, module)
    found = np.asarray(model(images[:1], training=False))
    np.testing.assert_allclose(found, logits, atol=1e-4 * np.abs(logits).max())


@needs_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("name", [name for name in SMALL if name != "mobilenet_v3_large_spelled"])
def test_both_roads_give_the_same_numbers(tmp_path: Path, name: str, padding: str) -> None:
    resolved, images = made(name, padding=padding, **SMALL[name])
    logits = [
        exporting.predict(converted(asked(resolved, tmp_path, via=via))[1]["fp32"], images)[0]
        for via in ("torch", "tensorflow")
    ]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-3 * np.abs(logits[0]).max())


@needs_tensorflow
@pytest.mark.slow
def test_every_precision_passes_the_same_verification(tmp_path: Path) -> None:
    resolved, _ = made("mobilenet_v2", **SMALL["mobilenet_v2"])
    reference, files = converted(asked(resolved, tmp_path, precisions=PRECISIONS))
    assert tuple(files) == PRECISIONS
    for precision, path in files.items():
        logits, _ = exporting.predict(path, reference.images)
        assert logits.dtype == np.float32
        check(compare(reference.logits, logits), tolerance(precision, trained=False), precision)
    sizes = {precision: path.stat().st_size for precision, path in files.items()}
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"]


@needs_tensorflow
@pytest.mark.slow
def test_spelled_h_swish_stays_spelled_and_the_fused_one_is_one_operator(tmp_path: Path) -> None:
    from test_exporters import tflite_operators

    for name, fused in (("mobilenet_v3_large_spelled", 0), ("mobilenet_v3_small", 19)):
        resolved, _ = made(name, **SMALL[name])
        _, files = converted(asked(resolved, tmp_path))
        assert tflite_operators(files["fp32"].read_bytes())["HARD_SWISH"] == fused


def test_both_roads_lie_side_by_side_and_their_keys_differ(tmp_path: Path) -> None:
    theirs = asked(made("mobilenet_v1", **SMALL["mobilenet_v1_se"])[0], tmp_path)
    ours = replace(theirs, via="torch")
    assert ours.path("int8").name == "mobilenet_v1_0.25_32_d0.1-int8.tflite"
    assert theirs.path("int8").name == "mobilenet_v1_0.25_32_d0.1-int8-via-tensorflow.tflite"
    assert ours.key("fp32") != theirs.key("fp32")
    assert ours.module_key() != theirs.module_key()  # the one folds batch norm, the other leaves it to the converter
    assert "litert-torch" not in theirs.versions("int8")


@needs_tensorflow
def test_the_manifest_names_the_road_and_tensorflow(tmp_path: Path) -> None:
    theirs = asked(made("mobilenet_v1", **SMALL["mobilenet_v1_se"])[0], tmp_path)
    file = tmp_path / "made.tflite"
    file.write_bytes(b"model")
    manifest = theirs.manifest("fp32", file, {}, {}, "2026-11-22")
    assert manifest["via"] == "tensorflow"
    assert {"tensorflow", "tensorflow-cpu"} & manifest["versions"].keys()


def test_onnx_is_refused_in_one_line() -> None:
    with pytest.raises(BadInputError) as refused:
        exporting.export_networks(["mobilenet_v2"], formats=("onnx",), via="tensorflow")
    assert str(refused.value) == "onnx via tensorflow: it writes TFLite only; leave --format out"


def test_without_tensorflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorflow" else found(name))
    with pytest.raises(MissingExtraError, match=r"tensorflow is not installed; pip install '\.\[tensorflow\]'"):
        exporting.export_networks(["mobilenet_v2"], weights="random", via="tensorflow")
