"""A phone as a host: what is refused before anything is done to it, and the verbs that share its care."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from standin.device import StandIn
from test_android_run import clean, mobench, start
from test_cli_eval import photos  # noqa: F401 (a fixture)
from test_selftest import equipped  # noqa: F401 (a fixture)

from mobench import artifacts, selftest
from mobench.cli import cli
from mobench.errors import BadInputError
from mobench.hosts.phone import alone
from mobench.hosts.reference import Reference
from mobench.records import Cell, Target
from runners import desktop
from runners.android.care import MARKER, Care
from runners.android.phone import find

pytestmark = pytest.mark.usefixtures("equipped")


def go(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)


def mode(phone: StandIn) -> str:
    """What the phone's power service was last told; nothing where it never was."""
    return phone.setting("fixed_performance")


def test_a_dry_run_asks_a_phone_for_its_cores_and_does_nothing_to_it(phone: StandIn, tflite_model: Path) -> None:
    with alone(find([phone.serial])[0]):  # as beside a campaign
        done = go("run", tflite_model, "--device", "android-cpu", "--dry-run")
    assert done.exception is None and "tiny.tflite  android-cpu  litert" in done.stdout
    assert mode(phone) == "" and not phone.path("/data/local/tmp/mobench").exists()


def test_a_phone_of_32_bits_is_refused_once_and_before_anything_is_done_to_it(
    phone: StandIn, tflite_model: Path, onnx_model: Path
) -> None:
    phone.setprop("ro.product.cpu.abilist", "armeabi-v7a,armeabi")
    done = go("run", tflite_model, onnx_model, "--device", "android-cpu", "--budget", "1")
    assert isinstance(done.exception, BadInputError)
    assert "armeabi-v7a, armeabi only" in str(done.exception) and not list(Path("results").rglob("*.jsonl"))
    assert mode(phone) == "" and not phone.path("/data/local/tmp/mobench").exists()


def test_a_selftest_and_a_campaign_do_not_share_a_phone(phone: StandIn, tflite_model: Path) -> None:
    with alone(find([phone.serial])[0]):
        done = go("android", "selftest", tflite_model)
    assert isinstance(done.exception, BadInputError) and "another mobench is measuring on it" in str(done.exception)
    assert not Path("selftest.json").exists()


def steady_mode() -> selftest.Outcome:
    bench = selftest._Bench(find()[0], [])
    return selftest._run("steady-mode", selftest.CHECKS["steady-mode"], bench, lambda text: None)


def test_selftest_sees_that_the_steady_mode_goes_off(phone: StandIn) -> None:
    outcome = steady_mode()
    assert outcome.status == "ok" and outcome.said.startswith("switched on, and off again; the caps of its clocks did")
    assert outcome.figures["caps_khz"]["before"] == outcome.figures["caps_khz"]["after"] and mode(phone) == "false"


def test_selftest_sees_a_steady_mode_that_the_phone_does_not_end(
    phone: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Stuck(Care):
        def __exit__(self, *exception: object) -> None:
            (phone._state / "offers_fixed_performance").unlink()
            super().__exit__(*exception)

    monkeypatch.setattr(selftest, "Care", lambda adb, watch, tell: Stuck(adb, watch, tell=told.append))
    outcome = steady_mode()
    assert outcome.status == "no" and "still on" in outcome.said and "restart the phone" in outcome.said
    assert mode(phone) == "true" and phone.path(MARKER).exists(), "the next run tries again"
    assert "its fixed-performance mode stays on" in told[0]
    (phone._state / "offers_fixed_performance").touch()
    with Care(selftest._Bench(find()[0], []).adb, None, fixed_performance=False):  # type: ignore[arg-type]
        assert mode(phone) == "false" and not phone.path(MARKER).exists()


def test_selftest_sees_clocks_that_stay_capped(phone: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    capped = "/sys/devices/system/cpu/cpufreq/policy6/scaling_max_freq"
    assert phone.path(capped).exists()

    class Capping(Care):
        def __enter__(self) -> Capping:
            super().__enter__()
            phone.set_file(capped, "1000000")
            return self

    monkeypatch.setattr(selftest, "Care", Capping)
    outcome = steady_mode()
    assert outcome.status == "no" and "clocks stay capped" in outcome.said


def test_an_accuracy_on_a_phone_outlives_a_pulled_cable(
    phone: StandIn,
    onnx_model: Path,
    photos: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    labels = tmp_path / "labels.txt"
    shown = sorted(photos.rglob("*.png"))
    labels.write_text("".join(f"{number}-{path.name} {path.parent.name}\n" for number in range(40) for path in shown))
    many = tmp_path / "many"
    many.mkdir()
    for number in range(40):
        for path in shown:
            (many / f"{number}-{path.name}").symlink_to(path)
    asked = ("eval", onnx_model, "--data", many, "--labels", labels, "--raw-pixels", "--json")
    process = start(*asked, "--device", "android-cpu")
    pushed = phone.path("/data/local/tmp/mobench/run")
    end = time.monotonic() + 60
    while not list(pushed.glob("*/in.npy")) and time.monotonic() < end:
        time.sleep(0.02)
    phone.cut()
    time.sleep(1)
    phone.plug_in()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (row,) = json.loads(out)
    (here,) = json.loads(mobench(*asked).stdout)
    assert row["n"] == here["n"] == 480 and row["top1"] == here["top1"] > 50
    assert err.count("waiting for the phone") == 1, err
    clean(phone)


def test_an_accuracy_is_not_measured_on_the_last_of_a_battery(
    phone: StandIn,
    onnx_model: Path,
    photos: Path,  # noqa: F811
) -> None:
    phone.set_service("battery", "  USB powered: true\n  level: 7\n  scale: 100\n  temperature: 274\n")
    phone.set_file("/sys/class/power_supply/battery/capacity", "7")
    done = mobench("eval", onnx_model, "--data", photos, "--device", "android-cpu")
    assert done.returncode == 1 and done.stderr.count("7 % of charge are left") == 1, done.stderr


# --- outputs that cannot be compared ---------------------------------------------------------------------------------


@pytest.fixture
def two_inputs(tmp_path: Path) -> Path:
    """A model that adds its two inputs."""
    onnx = pytest.importorskip("onnx", reason="needs the export extra: pip install 'mobench[export]'")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, [1, 64]) for name in ("a", "b", "sum")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "two", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "two.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("device", ["desktop-cpu", "android-cpu"])
def test_a_model_of_two_inputs_is_timed_with_a_doubt(phone: StandIn, two_inputs: Path, device: str) -> None:
    done = mobench("run", two_inputs, "--device", device, "--check", "--budget", "1", "--json")
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout)
    assert cell["p50_ms"] > 0 and cell["failure"] is None and cell["check_db"] is None
    (doubt,) = [each for each in cell["doubts"] if each["name"] == "UNCHECKED"]
    assert "it has 2 inputs" in doubt["why"] and doubt["mend"]


def test_a_file_that_this_machine_cannot_run_is_no_fault_of_the_session(onnx_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(onnx_model.read_bytes()[:200])
    cell = Cell(id="tiny.onnx", artifact=artifacts.read(onnx_model), target=Target(runtime="ort"))
    with desktop.open_session(cell.artifact, cell.target) as session:
        right = Reference().check(cell, session)
        assert right.n == 4 and right.snr_db is not None and right.snr_db > 40 and not right.unchecked
        other = dataclasses.replace(cell, artifact=dataclasses.replace(cell.artifact, path=broken))
        found = Reference().check(other, session)
    assert "gives no reference" in found.unchecked and found.n == 0 and found.snr_db is None and not found.wrong
