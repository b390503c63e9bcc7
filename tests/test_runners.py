"""Real models in real child processes: figures that make sense, errors that name the cause, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mobench import artifacts
from mobench.errors import BadInputError, SessionError
from mobench.records import Target
from runners import desktop, device_state, worker

ORT, LITERT = Target(runtime="ort"), Target(runtime="litert")


@pytest.mark.parametrize(("fixture", "target"), [("onnx_model", ORT), ("tflite_model", LITERT)])
def test_a_model_is_timed_and_predicts(fixture: str, target: Target, request: pytest.FixtureRequest) -> None:
    artifact = artifacts.read(request.getfixturevalue(fixture))
    with desktop.open_session(artifact, target) as session:
        ready = session.ready
        assert ready.init_ns > 0 and ready.first_ns > 0
        assert ready.peak_rss_mb >= ready.rss_before_mb > 5
        assert ready.threads == 1
        timing = session.time(lead_in=1, timed=5)
        assert len(timing.wall_ns) == 5 and min(timing.wall_ns) > 0 and timing.cpu_ns > 0
        shape = ready.inputs[0]["shape"][1:]
        samples = np.random.default_rng(1).random((3, *shape), dtype=np.float32)
        together = session.predict(samples)
        assert together.shape == (3, 1000)
        for sample, output in zip(samples, together, strict=True):
            np.testing.assert_array_equal(session.predict(sample[None])[0], output)
        assert not np.array_equal(together[0], together[1])


def test_a_session_tells_its_device_state_of_the_files_it_can_read(onnx_model: Path) -> None:
    with desktop.open_session(artifacts.read(onnx_model), ORT) as session:
        files = session.state(["/proc/self/comm", "/proc/no/such/file"])
    assert list(files) == ["/proc/self/comm"] and files["/proc/self/comm"].startswith("python")


def test_onnx_outputs_are_those_of_the_arithmetic(onnx_model: Path) -> None:
    samples = np.random.default_rng(2).random((2, 3, 8, 8), dtype=np.float32)
    weights = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    with desktop.open_session(artifacts.read(onnx_model), ORT) as session:
        np.testing.assert_allclose(session.predict(samples), samples.mean((2, 3)) @ weights, rtol=1e-4, atol=1e-5)


def test_an_open_batch_axis_becomes_one(open_batch_onnx_model: Path) -> None:
    with desktop.open_session(artifacts.read(open_batch_onnx_model), ORT) as session:
        assert session.ready.inputs[0]["shape"] == [1, 3, 8, 8]
        assert session.ready.outputs[0]["shape"] == [1, 1000]


def test_cores_and_threads_are_set_and_reported(onnx_model: Path) -> None:
    core = sorted(os.sched_getaffinity(0))[0]
    target = Target(runtime="ort", cores=(core,))
    with desktop.open_session(artifacts.read(onnx_model), target) as session:
        assert session.ready.cores == (core,)
        assert os.sched_getaffinity(session._process.pid) == {core}


def test_samples_of_another_shape_or_type_are_refused_and_the_session_lives(onnx_model: Path) -> None:
    with desktop.open_session(artifacts.read(onnx_model), ORT) as session:
        with pytest.raises(SessionError, match="wanted"):
            session.predict(np.zeros((1, 8, 8, 3), np.float32))
        with pytest.raises(SessionError, match="wanted"):
            session.predict(np.zeros((1, 3, 8, 8), np.uint8))
        assert session.predict(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 1000)


def test_a_runtime_does_not_read_the_other_format(onnx_model: Path) -> None:
    with pytest.raises(BadInputError, match="does not read"):
        desktop.open_session(artifacts.read(onnx_model), LITERT)


def test_a_truncated_model_is_one_line(onnx_model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(onnx_model.read_bytes()[:2000])
    with pytest.raises(SessionError, match=r"ort cannot load or run cut\.onnx") as raised:
        desktop.open_session(artifacts.read(cut), ORT)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["posenet_custom_op.tflite", "model_invoking_error.tflite"])
def test_a_custom_operator_is_named(shared: Path, name: str) -> None:
    with pytest.raises(SessionError, match=r"operator litert does not have.*custom op: \S+"):
        desktop.open_session(artifacts.read(shared / "data" / "models" / name), LITERT)


def test_nodes_left_outside_the_delegate_are_counted(shared: Path) -> None:
    path = shared / "data" / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    with desktop.open_session(artifacts.read(path), LITERT) as session:
        assert (session.ready.nodes_delegated, session.ready.nodes_total) == (65, 68)
        assert sum(session.ready.not_delegated.values()) == 3


def test_a_child_ends_when_its_parent_is_killed(onnx_model: Path) -> None:
    script = (
        "import os, time\nfrom pathlib import Path\nfrom mobench import artifacts\nfrom mobench.records import Target\n"
        "from runners import desktop\n"
        f"s = desktop.open_session(artifacts.read(Path({str(onnx_model)!r})), Target(runtime='ort'))\n"
        "print(s._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while time.monotonic() < until and _runs(child):
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_random_inputs_fit_what_the_model_asks_for() -> None:
    details = [{"shape": [2, 3], "dtype": d} for d in ("float32", "float16", "uint8", "int8", "int64", "bool")]
    arrays = worker.random_inputs(details)
    assert [str(a.dtype) for a in arrays] == ["float32", "float16", "uint8", "int8", "int64", "bool"]
    assert all(a.shape == (2, 3) for a in arrays)


def test_the_affinity_mask_has_as_many_cores_as_threads() -> None:
    allowed = os.sched_getaffinity(0)
    assert len(desktop.choose_cores(1)) == 1
    assert set(desktop.choose_cores(10_000)) == allowed


def test_the_parent_keeps_off_the_measured_cores_and_comes_back() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("needs two cores")
    measured = desktop.choose_cores(1)
    with desktop.keep_off(measured):
        assert os.sched_getaffinity(0) == allowed - set(measured)
    with desktop.keep_off(allowed):
        assert os.sched_getaffinity(0) == allowed  # there is nowhere else to go
    assert os.sched_getaffinity(0) == allowed


def test_the_machine_is_described() -> None:
    machine = device_state.machine()
    assert machine["cores"] == os.cpu_count() and machine["cpu"] and machine["kernel"]
    assert device_state.Watch().steal_ticks() >= 0


def _hide(folder: Path, *modules: str) -> dict[str, str]:
    """Return an environment in which importing any of the modules fails as if it were not installed."""
    for module in modules:
        (folder / module).mkdir(parents=True)
        (folder / module / "__init__.py").write_text("raise ImportError('hidden by a test')\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    ("hidden", "fixture", "package"),
    [
        (("onnxruntime",), "onnx_model", "onnxruntime"),
        (("ai_edge_litert", "tflite_runtime"), "tflite_model", "ai-edge-litert"),
    ],
)
def test_a_missing_runtime_is_one_line_that_names_the_package(
    hidden: tuple[str, ...], fixture: str, package: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    command = [sys.executable, "-m", "mobench", "run", str(request.getfixturevalue(fixture)), "--budget", "1", "--json"]
    env = _hide(tmp_path / "hidden", *hidden)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"error: {package} is not installed; pip install {package}" in done.stderr
    assert "Traceback" not in done.stderr


def test_tflite_runtime_stands_in_where_ai_edge_litert_is_absent(tflite_model: Path, tmp_path: Path) -> None:
    """A stand-in package of that name, whose interpreter is the real one: who is asked, and what is reported."""
    import ai_edge_litert

    env = _hide(tmp_path / "hidden", "ai_edge_litert")
    package = tmp_path / "hidden" / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(
        "import sys, types\n"
        "real = types.ModuleType('ai_edge_litert')\n"
        f"real.__path__ = [{str(Path(ai_edge_litert.__file__).parent)!r}]\n"
        "sys.modules['ai_edge_litert'] = real\n"
        "from ai_edge_litert.interpreter import Interpreter, OpResolverType\n"
    )
    info = tmp_path / "hidden" / "tflite_runtime-9.9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tflite-runtime\nVersion: 9.9.9\n")
    script = (
        "from pathlib import Path\nfrom mobench import artifacts\nfrom mobench.records import Target\n"
        "from runners import desktop\n"
        f"with desktop.open_session(artifacts.read(Path({str(tflite_model)!r})), Target(runtime='litert')) as s:\n"
        "    print(dict(s.ready.versions), s.ready.got)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert "'tflite-runtime': '9.9.9'" in done.stdout, done.stderr
