"""The whole way to a phone: the real adb, the real harness and the real runtimes, on the stand-in's loopback."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from standin import StandIn
from standin.faults import until
from standin.tools import HOW_TO_GET_VULKAN, vulkan

from mobench.errors import DeathError, LinkError, MobenchError
from mobench.records import Artifact, Target
from runners import desktop
from runners.adb import Adb
from runners.android import build, runtimes, sessions
from runners.android.folder import ROOT, Folder
from runners.android.phone import choose_cores, describe, find
from runners.android.source import PhoneSource, PhoneWatch

BOOT = "/proc/sys/kernel/random/boot_id"


@pytest.fixture
def _cache(harness: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache with this host's harness and the wheels' runtimes, as `mobench android build` and `setup` fill it."""
    ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    litert = pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path / "cache"))
    build.put(harness, "x86_64", how="host", tool="cc")
    (library,) = Path(ort.__file__).parent.glob("capi/libonnxruntime.so.*")
    runtimes.put("x86_64", "ort", library, version=ort.__version__)
    folder = Path(litert.__file__).parent
    accelerators = sorted(folder.glob("libLiteRt*Accelerator.so"))
    runtimes.put("x86_64", "litert", folder / "libLiteRt.so", accelerators, version="2.3.0")


class Bench:
    """A stand-in, and the way to it."""

    def __init__(self, device: StandIn) -> None:
        self.device = device
        (self.phone,) = find([device.serial])
        self.adb = Adb(device.serial)
        self.folder = Folder(self.adb)

    def open(self, path: Path, device: str = "android-cpu") -> sessions.AndroidSession:
        """Open a session of a file."""
        return sessions.open_session(self.phone, self.adb, self.folder, artifact(path), self.target(path, device))

    def target(self, path: Path, device: str) -> Target:
        """Return where it runs."""
        runtime = "ort" if path.suffix == ".onnx" else "litert"
        return Target(device=device, runtime=runtime, cores=choose_cores(self.phone, 1))

    def left(self) -> list[object]:
        """Return processes, and folders of sessions, on the device."""
        return [*self.device.processes(), *self.device.path(f"{ROOT}/run").glob("*")]


@pytest.fixture
def bench(phone: StandIn, _cache: None) -> Iterator[Bench]:
    bench = Bench(phone)
    yield bench
    bench.folder.clean()
    assert until(lambda: bench.left() == []), bench.left()


def artifact(path: Path) -> Artifact:
    data = path.read_bytes()
    form = "onnx" if path.suffix == ".onnx" else "tflite"
    sha256 = hashlib.sha256(data).hexdigest()
    return Artifact(path=path, sha256=sha256, size_bytes=len(data), format=form, name=path.stem)


@pytest.mark.parametrize("profile", ["pixel", "samsung", "android9"])
def test_every_profile_is_described(standin: Callable[..., StandIn], profile: str) -> None:
    device = standin(profile)
    phone = describe(Adb(device.serial))
    assert phone.serialno == device.getprop("ro.serialno") and phone.boot_id == device.boot_id
    assert phone.model == device.getprop("ro.product.model") and phone.abi == "x86_64"
    assert [cluster["cores"] for cluster in phone.clusters] == [list(each.cores) for each in device.profile.clusters]
    assert [cluster["max_khz"] for cluster in phone.clusters] == [each.max_khz for each in device.profile.clusters]
    assert all("part" in cluster for cluster in phone.clusters) and phone.gpu and phone.soc and phone.fingerprint
    assert choose_cores(phone, 1) == (max(device.profile.clusters[-1].cores),)
    watch = PhoneWatch(PhoneSource(Adb(device.serial)))
    state = watch.state("before", 0.0)
    assert state.battery_percent and state.power and len(state.clusters) == len(phone.clusters)
    assert (state.thermal_status is not None) == (phone.sdk >= 29), "thermalservice came with Android 10"


def test_both_runtimes_time_and_predict_as_this_machine_does(
    bench: Bench, onnx_model: Path, tflite_model: Path
) -> None:
    rng = np.random.default_rng(0)
    for path in (onnx_model, tflite_model):
        with (
            bench.open(path) as session,
            desktop.open_session(
                artifact(path), Target(runtime=bench.target(path, "android-cpu").runtime)
            ) as reference,
        ):
            assert session.ready.cores == choose_cores(bench.phone, 1)
            assert len(session.time(lead_in=2, timed=5).wall_ns) == 5
            inputs = rng.standard_normal((3, *session.ready.inputs[0]["shape"][1:])).astype(np.float32)
            np.testing.assert_allclose(session.predict(inputs), reference.predict(inputs), rtol=1e-5, atol=1e-6)
            assert session.state([BOOT, "/proc/none"]) == {BOOT: bench.phone.boot_id}
    assert until(lambda: bench.left() == [])


def test_an_unchanged_set_sends_no_bytes_over_the_cable(bench: Bench, onnx_model: Path, tflite_model: Path) -> None:
    for path in (onnx_model, tflite_model):
        bench.open(path).close()
    pushed: list[str] = []
    again = Bench(bench.device)
    again.adb.push = lambda source, target, **_: pushed.append(target)  # type: ignore[method-assign]
    for path in (onnx_model, tflite_model):
        again.open(path).close()
    assert pushed == []


def test_two_models_live_side_by_side(bench: Bench, onnx_model: Path, tflite_model: Path) -> None:
    with bench.open(onnx_model) as one, bench.open(tflite_model) as other:
        for _ in range(3):
            assert len(one.time(lead_in=0, timed=2).wall_ns) == len(other.time(lead_in=0, timed=2).wall_ns) == 2
        assert len(bench.device.programs_running()) == 2
    assert until(lambda: bench.left() == [])


def test_the_gpu_alone_runs_what_it_is_asked_to_and_says_which_it_is(
    standin: Callable[..., StandIn], _cache: None, tflite_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = vulkan()
    if driver is None:
        pytest.skip(HOW_TO_GET_VULKAN)
    for name, value in driver.items():
        monkeypatch.setenv(name, value)
    bench = Bench(standin())
    with bench.open(tflite_model) as reference, bench.open(tflite_model, "android-gpu") as session:
        assert session.ready.asked == "GPU fp16" and session.ready.got.startswith("GPU ")
        assert session.ready.nodes_delegated == session.ready.nodes_total
        inputs = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
        np.testing.assert_allclose(session.predict(inputs), reference.predict(inputs), atol=0.02)
    assert until(lambda: bench.left() == [])


def in_a_request(session: sessions.AndroidSession, strike: Callable[[], object]) -> MobenchError:
    timer = threading.Timer(0.3, strike)
    timer.start()
    with pytest.raises(MobenchError) as caught:
        while True:
            session.time(lead_in=0, timed=200)
    timer.join()
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_kill_for_memory_is_a_death(bench: Bench, onnx_model: Path) -> None:
    with bench.open(onnx_model) as session:
        error = in_a_request(session, bench.device.kill_harness)
    assert isinstance(error, DeathError) and "memory" in str(error)


def test_a_cut_cable_is_a_link_error_and_the_phone_cleans_up_by_itself(bench: Bench, onnx_model: Path) -> None:
    with bench.open(onnx_model) as session:
        error = in_a_request(session, bench.device.cut)
        assert isinstance(error, LinkError)
    assert until(lambda: bench.left() == [])
    bench.device.plug_in()
    assert bench.adb.wait(10)
    with bench.open(onnx_model) as session:
        assert len(session.time(lead_in=0, timed=2).wall_ns) == 2


def test_a_restart_is_a_link_error(bench: Bench, onnx_model: Path) -> None:
    with bench.open(onnx_model) as session:
        error = in_a_request(session, lambda: bench.device.reboot(down_s=0.2))
    assert isinstance(error, LinkError)
    assert bench.adb.wait(10) and describe(bench.adb).boot_id != bench.phone.boot_id
    bench.folder.forget()
    bench.open(onnx_model).close()


def test_an_old_phone_without_statuses_tells_ends_apart_too(
    standin: Callable[..., StandIn], _cache: None, onnx_model: Path
) -> None:
    bench = Bench(standin("android9", shell_v2=False))
    with bench.open(onnx_model) as session:
        assert len(session.time(lead_in=0, timed=2).wall_ns) == 2
        error = in_a_request(session, bench.device.kill_harness)
    assert isinstance(error, DeathError) and "memory" in str(error)
    assert until(lambda: bench.left() == [])
