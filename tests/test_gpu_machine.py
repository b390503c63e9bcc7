"""On a machine with an NVIDIA GPU: the real driver, the real runtime. Elsewhere each test says what it needs.

`make gpu-check` runs these; `pytest -m gpu` too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobench import artifacts, energy
from mobench.errors import MobenchError
from mobench.records import Target
from runners import desktop, gpu_packages, nvidia, wire

pytestmark = pytest.mark.gpu
CUDA = Target(device="desktop-gpu", runtime="ort", provider="cuda", io="device")


@pytest.fixture(scope="module")
def gpu() -> nvidia.Gpu:
    """The GPU of this machine."""
    found = nvidia.Gpu()
    if found.absent:
        pytest.skip(f"needs an NVIDIA GPU ({found.absent}); `make gpu-check` on a machine with one runs this")
    return found


@pytest.fixture(scope="module")
def cuda(gpu: nvidia.Gpu) -> Target:
    """A target on it."""
    try:
        gpu_packages.require("cuda")
    except MobenchError as error:
        pytest.skip(f"needs onnxruntime-gpu: {error}")
    return CUDA


@contextmanager
def session(path: Path, target: Target) -> Iterator[wire.Session]:
    with desktop.open_session(artifacts.read(path), target) as opened:
        yield opened


def test_the_driver_tells_what_the_gpu_is_and_does(gpu: nvidia.Gpu) -> None:
    told = gpu.describe()
    assert told["name"] and told["driver"] and told["memory_mb"] > 500
    assert not any("GPU-" in str(value) for value in told.values())  # its UUID is nobody's business
    state = gpu.state("before")
    assert state.memory_used_mb is not None and state.memory_used_mb > 0
    assert state.temp_c is None or 0 < state.temp_c < 120
    assert state.sm_mhz is None or 0 < state.sm_mhz <= told.get("sm_max_mhz", 10_000)


def test_every_node_runs_on_the_gpu_and_the_outputs_are_the_cpus(cuda: Target, open_batch_onnx_model: Path) -> None:
    images = np.random.default_rng(1).standard_normal((16, 3, 8, 8)).astype(np.float32)
    with session(open_batch_onnx_model, Target(runtime="ort")) as on_cpu:
        expected = on_cpu.predict(images)
    with session(open_batch_onnx_model, cuda) as on_gpu:
        ready, got = on_gpu.ready, on_gpu.predict(images)
    assert "CUDA" in ready.got
    assert ready.nodes_total and ready.nodes_delegated == ready.nodes_total
    assert np.abs(got - expected).max() <= 1e-3 * np.abs(expected).max()
    assert (got.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("change", [{"io": "host"}, {"cuda_graph": True}, {"tf32": True}, {"batch": 8}])
def test_each_way_to_run_it_loads_and_is_timed(cuda: Target, open_batch_onnx_model: Path, change: dict) -> None:
    with session(open_batch_onnx_model, replace(cuda, **change)) as opened:
        timing = opened.time(lead_in=3, timed=5)
        assert all(ns > 0 for ns in timing.wall_ns)
        assert opened.ready.inputs[0]["shape"][0] == change.get("batch", 1)
        assert opened.ready.io == change.get("io", "device")


def test_a_timed_inference_has_really_ended(cuda: Target, open_batch_onnx_model: Path) -> None:
    """One that only fills the GPU's queue would take as long for 4,096 images as for one."""
    walls = []
    for batch in (1, 4096):
        with session(open_batch_onnx_model, replace(cuda, batch=batch)) as opened:
            walls.append(min(opened.time(lead_in=10, timed=20).wall_ns))
    assert walls[1] > 1.2 * walls[0]


def test_energy_and_state_while_it_runs(gpu: nvidia.Gpu, cuda: Target, open_batch_onnx_model: Path) -> None:
    if not gpu.begin():
        pytest.skip("this GPU tells neither its energy nor its power")
    with session(open_batch_onnx_model, replace(cuda, batch=512)) as opened:
        latency_ns = float(np.median(opened.time(lead_in=20, timed=20).wall_ns))
        told = energy.weigh(opened, 1.0, gpu, latency_ns=latency_ns)
        state = gpu.state("during")
    assert told is not None and told.n > 0
    watts = told.energy_mj / 1e3 / told.seconds
    assert 1.0 < watts < 3000.0
    assert state.power_w is None or 0.2 < watts / state.power_w < 5.0


def test_a_whole_campaign(gpu: nvidia.Gpu, cuda: Target, open_batch_onnx_model: Path) -> None:
    command = [sys.executable, "-P", "-m", "mobench", "run", str(open_batch_onnx_model), "--device", "desktop-gpu",
               "--runtime", "ort", "--provider", "cuda", "--budget", "10", "--check", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout)
    assert cell["device"] == "desktop-gpu" and cell["p50_ms"] > 0
    assert cell["nodes_delegated"] == cell["nodes_total"] and cell["check_db"] > 40
    journal = Path(cell["journal"]).read_text()
    assert gpu.describe()["name"] in journal and "GPU-" not in journal


def test_tensorrt_where_it_is_there(gpu: nvidia.Gpu, cuda: Target, open_batch_onnx_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt", reason="needs TensorRT: pip install tensorrt")
    with session(open_batch_onnx_model, replace(cuda, provider="tensorrt")) as opened:
        assert "Tensorrt" in opened.ready.got
        assert opened.time(lead_in=1, timed=3).wall_ns
