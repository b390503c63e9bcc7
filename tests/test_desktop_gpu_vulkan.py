"""The whole path on a GPU that is a program: LiteRT's GPU and ONNX Runtime's WebGPU on Vulkan in software.

Right answers, no quiet fall-back, and everywhere the word that none of it is a speed.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from standin.tools import HOW_TO_GET_VULKAN, vulkan

from mobench import artifacts, store
from mobench.errors import SessionError
from mobench.pareto import points_of, timed_cells
from mobench.records import Accuracy, Target
from mobench.stats import summarize
from runners import desktop, gpu_vulkan

WEBGPU = Path(sys.prefix) / "webgpu"
HOW_TO_GET_WEBGPU = "needs onnxruntime-webgpu in a folder of its own: make .venv/webgpu/installed"


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Vulkan in software, and nothing else, for this process's children."""
    found = vulkan()
    if found is None:
        pytest.skip(HOW_TO_GET_VULKAN)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def webgpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's WebGPU build before the other, here and in sessions."""
    if not (WEBGPU / "onnxruntime").is_dir():
        pytest.skip(HOW_TO_GET_WEBGPU)
    monkeypatch.setenv("PYTHONPATH", str(WEBGPU))
    monkeypatch.setattr(sys, "path", [str(WEBGPU), *sys.path])
    importlib.invalidate_caches()


def gpu(runtime: str, provider: str, **fields: Any) -> Target:
    return Target(device="desktop-gpu", runtime=runtime, provider=provider, io=fields.pop("io", "device"), **fields)


def mobench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_vulkan_finds_the_program_and_says_that_it_is_one(driver: dict[str, str]) -> None:
    devices = gpu_vulkan.survey()
    if any(device.kind != "software" for device in devices):
        pytest.skip("there is a GPU here")
    assert devices and all(str(device).endswith(", in software") for device in devices)


def test_no_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", "/no/driver.json")
    with pytest.raises(gpu_vulkan.VulkanError, match="no Vulkan driver works"):
        gpu_vulkan.survey()


def test_litert_computes_on_the_gpu_what_the_cpu_does_in_the_precision_asked(tflite_model: Path) -> None:
    artifact = artifacts.read(tflite_model)
    samples = np.random.default_rng(5).standard_normal((3, 8, 8, 3)).astype(np.float32)
    with desktop.open_session(artifact, Target(runtime="litert")) as session:
        expected = session.predict(samples)
    off = {}
    for provider in ("gpu-fp32", "gpu-fp16"):
        for io in ("device", "host"):
            with desktop.open_session(artifact, gpu("litert", provider, io=io)) as session:
                ready = session.ready
                off[provider, io] = np.abs(session.predict(samples) - expected).max()
                assert ready.asked == provider.replace("gpu-", "GPU ") and f" {provider[4:]}" in ready.got
                assert ready.nodes_delegated == ready.nodes_total == sum(ready.providers.values())
                assert ready.io == io and ("copied" in ready.waits) == (io == "host") and ready.settings
                assert min(session.time(lead_in=1, timed=3).wall_ns) > 0
    assert max(off["gpu-fp32", "device"], off["gpu-fp32", "host"]) < 1e-5
    assert 1e-5 < off["gpu-fp16", "device"] < 1e-2, "fp16 that computes as fp32 is none"
    assert off["gpu-fp16", "device"] == off["gpu-fp16", "host"]


@pytest.mark.parametrize("write", [tiny_tflite.matrix_diag, tiny_tflite.reverse_sequence])
def test_litert_refuses_what_the_gpu_takes_in_part_and_names_it(write: Callable[[Path], Path], tmp_path: Path) -> None:
    name = write.__name__.upper()
    artifact = artifacts.read(write(tmp_path / f"{name}.tflite"))
    with pytest.raises(SessionError, match=rf"does not take all of {name}\.tflite: {name}: .*--allow-partial"):
        desktop.open_session(artifact, gpu("litert", "gpu-fp32"))


def test_litert_may_be_partial_and_then_says_which_nodes_are_left(tmp_path: Path) -> None:
    artifact = artifacts.read(tiny_tflite.matrix_diag(tmp_path / "split.tflite"))
    sample = np.array([[-1, 2, -3, 4]], np.float32)
    with desktop.open_session(artifact, gpu("litert", "gpu-fp32", partial=True)) as session:
        ready = session.ready
        np.testing.assert_allclose(session.predict(sample)[0], np.diag(np.abs(sample[0])))
    assert (ready.nodes_delegated, ready.nodes_total) == (1, 2)
    assert ready.providers["CPU"] == 1 and "MATRIX_DIAG" in ready.left[0]


def test_litert_without_an_adapter_is_an_error_and_never_the_cpu(
    tflite_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", "/no/driver.json")
    for partial in (False, True):
        with pytest.raises(SessionError, match=r"the GPU cannot load or run tiny\.tflite.*adapter"):
            desktop.open_session(artifacts.read(tflite_model), gpu("litert", "gpu-fp16", partial=partial))


def test_litert_work_that_the_gpu_throws_away_is_an_error_and_not_zeros(tmp_path: Path) -> None:
    """SwiftShader has no FP16, which LiteRT's kernel for wide convolutions needs: no call fails, all outputs are 0."""
    if any(device.kind != "software" for device in gpu_vulkan.survey()):
        pytest.skip("there is a GPU here, which may have FP16")
    artifact = artifacts.read(tiny_tflite.wide_convolution(tmp_path / "wide.tflite"))
    with pytest.raises(SessionError, match=r"threw work away.*'f16' type used.*--provider gpu-fp32") as raised:
        desktop.open_session(artifact, gpu("litert", "gpu-fp16"))
    assert "\n" not in str(raised.value)
    samples = np.random.default_rng(1).standard_normal((1, 56, 56, 64)).astype(np.float32)
    with desktop.open_session(artifact, Target(runtime="litert")) as session:
        expected = session.predict(samples)
    with desktop.open_session(artifact, gpu("litert", "gpu-fp32")) as session:
        np.testing.assert_allclose(session.predict(samples), expected, rtol=1e-3, atol=1e-3)


def test_a_campaign_on_cpu_and_gpu_is_labelled_as_no_speed(tflite_model: Path) -> None:
    both = ("--device", "desktop-cpu", "--device", "desktop-gpu")
    done = mobench("run", tflite_model, *both, "--check", "--budget", "2")
    assert done.returncode == 0, done.stderr
    assert "NO_SPEED" in done.stdout and "in software: its outputs were read back" in done.stdout
    journal = Path(done.stdout.split("journal: ")[1].strip())
    run = store.read(journal)
    assert {cell["target"]["device"] for cell in run.header["cells"]} == {"desktop-cpu", "desktop-gpu"}
    assert any("in software" in name for name in run.header["machine"]["vulkan"])
    assert all(not check.wrong for check in run.checks if check.n) and run.checks
    (judged,) = [s for s in summarize(run) if s.device == "desktop-gpu"]
    assert "NO_SPEED" in {doubt.name for doubt in judged.doubts} and judged.io == "device"
    known = Accuracy(
        sha256=judged.sha256, name="tiny", precision="fp32", runtime="litert", data="d#1", n=9, top1=50.0,
        top1_ci=(40.0, 60.0), top5=50.0, top5_ci=(40.0, 60.0),
    )  # fmt: skip
    points = {point.device: point for point in points_of(timed_cells([run]), [known])}
    assert points["desktop-cpu"].competes and not points["desktop-gpu"].competes


@pytest.mark.parametrize("io", ["device", "host"])
def test_onnx_runtime_computes_on_webgpu_what_the_cpu_does(webgpu: None, onnx_model: Path, io: str) -> None:
    artifact = artifacts.read(onnx_model)
    samples = np.random.default_rng(2).random((2, 3, 8, 8), dtype=np.float32)
    with desktop.open_session(artifact, Target(runtime="ort")) as session:
        expected = session.predict(samples)
    with desktop.open_session(artifact, gpu("ort", "webgpu", io=io)) as session:
        ready = session.ready
        np.testing.assert_allclose(session.predict(samples), expected, rtol=1e-4, atol=1e-5)
        assert ready.asked == "WebGpuExecutionProvider" and ready.got.endswith("in software")
        # As they run: with what turns channels to where this GPU's kernels want them.
        assert ready.nodes_total is not None and ready.nodes_total >= 3
        assert ready.nodes_delegated == ready.nodes_total and ready.providers == {ready.asked: ready.nodes_total}
        assert ready.io == io and ready.versions["build"] == "onnxruntime-webgpu"
        assert min(session.time(lead_in=1, timed=3).wall_ns) > 0


def split_model(path: Path) -> Path:
    """An ONNX file with an operator that no GPU has: the places of what is not zero, whose number depends on values."""
    helper = pytest.importorskip("onnx", reason="needs the export extra: pip install 'mobench[export]'").helper
    floats, ints = 1, 7  # TensorProto's types
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["r"], name="relu"),
            helper.make_node("NonZero", ["r"], ["y"], name="places"),
        ],
        "split",
        [helper.make_tensor_value_info("x", floats, [1, 4])],
        [helper.make_tensor_value_info("y", ints, [2, None])],
    )
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    return path


def test_onnx_runtime_names_the_nodes_that_webgpu_does_not_take(webgpu: None, tmp_path: Path) -> None:
    artifact = artifacts.read(split_model(tmp_path / "split.onnx"))
    with pytest.raises(
        SessionError, match=r"takes 1 of the 2 nodes of split\.onnx: it leaves NonZero 'places' \(CPUEx"
    ):
        desktop.open_session(artifact, gpu("ort", "webgpu"))
    with desktop.open_session(artifact, gpu("ort", "webgpu", partial=True, io="host")) as session:
        ready = session.ready
        assert ready.providers == {"WebGpuExecutionProvider": 1, "CPUExecutionProvider": 1}
        assert ready.left == ("NonZero 'places' (CPUExecutionProvider)",)


def test_onnx_runtime_without_an_adapter_is_one_line(
    webgpu: None, onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", "/no/driver.json")
    with pytest.raises(SessionError, match="WebGPU finds no GPU"):
        desktop.open_session(artifacts.read(onnx_model), gpu("ort", "webgpu"))
