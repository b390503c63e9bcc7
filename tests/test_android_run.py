"""`mobench run --device android-*` end to end: real adb, real harness, real runtimes, and a phone that is none."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standin import tools
from standin.device import StandIn
from standin.profiles import battery
from test_cli_eval import photos  # noqa: F401 (a fixture)
from test_selftest import equipped  # noqa: F401 (a fixture)

from mobench import store
from runners.adb import RETRY_WAIT_S

pytestmark = pytest.mark.usefixtures("equipped")
BOTH = ("--device", "android-cpu", "--device", "android-gpu")
needs_vulkan = pytest.mark.skipif(tools.vulkan() is None, reason=tools.HOW_TO_GET_VULKAN)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mobench", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def mobench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def until_timed(process: subprocess.Popen[str], *, after: str = '"event":"run"') -> None:
    """Wait until a campaign has journaled a steady block behind a text."""
    end = time.monotonic() + 90
    while True:
        texts = [path.read_text() for path in Path("results").rglob("*.jsonl")]
        if any('"phase":"steady"' in text.partition(after)[2] for text in texts):
            return
        assert process.poll() is None and time.monotonic() < end, "it times nothing"
        time.sleep(0.1)


def clean(phone: StandIn) -> None:
    """Nothing of ours runs on the phone, and nothing but what was pushed to stay lies there."""
    assert phone.processes() == []
    run = phone.path("/data/local/tmp/mobench/run")
    assert not run.exists() or not list(run.iterdir())


@needs_vulkan
def test_three_artifacts_take_turns_on_a_phones_cpu_and_gpu(
    phone: StandIn, onnx_model: Path, tflite_model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(tflite_model.read_bytes())
    given = (onnx_model, tflite_model, other)
    done = mobench("run", *given, *BOTH, "--budget", "6", "--check", "--json")
    assert done.returncode == 0, done.stderr
    cells = {cell["cell"]: cell for cell in json.loads(done.stdout)}
    assert set(cells) == {
        "tiny.onnx", "tiny.tflite android-cpu", "tiny.tflite android-gpu",
        "other.tflite android-cpu", "other.tflite android-gpu",
    }  # fmt: skip
    for cell in cells.values():
        assert cell["p50_ms"] > 0 and cell["failure"] is None and cell["check_db"] > 40
    doubts = {cell: {doubt["name"] for doubt in fields["doubts"]} for cell, fields in cells.items()}
    assert {cell for cell, names in doubts.items() if "NO_SPEED" in names} == {
        "tiny.tflite android-gpu", "other.tflite android-gpu",
    }, "a GPU that is a program is labelled so"  # fmt: skip
    gpu = cells["tiny.tflite android-gpu"]
    assert gpu["nodes_delegated"] == gpu["nodes_total"] > 0
    run = store.read(Path(gpu["journal"]))
    said = {cell: ready for cell, _, ready in run.sessions}
    assert "fp16" in said["tiny.tflite android-gpu"].got and "XNNPACK" in said["tiny.tflite android-cpu"].got
    assert said["tiny.onnx"].versions["onnxruntime"]
    assert run.header["device"] == "android-cpu+android-gpu" and run.header["machine"]["phone"]["model"]
    assert phone.serial not in json.dumps(dict(run.header)), "a serial number is personal"
    assert all(ready.cores for ready in said.values()), "an explicit affinity mask is in every record"
    assert run.states[1].clusters and run.states[1].temps_c and run.states[1].screen == "on"
    clean(phone)


def test_what_lies_on_the_phone_already_is_not_sent_again(phone: StandIn, tflite_model: Path) -> None:
    first = mobench("run", tflite_model, "--device", "android-cpu", "--budget", "1", "--json")
    assert first.returncode == 0, first.stderr
    sent = phone.received_bytes
    assert sent > tflite_model.stat().st_size
    again = mobench("run", tflite_model, "--device", "android-cpu", "--budget", "1", "--json")
    assert again.returncode == 0 and phone.received_bytes == sent


def test_two_campaigns_do_not_share_a_phone(phone: StandIn, tflite_model: Path) -> None:
    first = start("run", tflite_model, "--device", "android-cpu", "--budget", "30", "--precise", "0.01")
    until_timed(first)
    second = mobench("run", tflite_model, "--device", "android-cpu", "--budget", "1")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert second.returncode == 2 and "another mobench is measuring on it" in second.stderr
    assert phone.serial in second.stderr
    clean(phone)


def test_a_pulled_cable_pauses_and_the_campaign_goes_on(phone: StandIn, tflite_model: Path, onnx_model: Path) -> None:
    files = (tflite_model, onnx_model)
    process = start("run", *files, "--device", "android-cpu", "--budget", "90", "--precise", "0.01", "--json")
    until_timed(process)
    phone.cut()
    time.sleep(RETRY_WAIT_S + 2)  # between two starts a shorter cut is waited out by the one retry, without a pause
    phone.plug_in()
    until_timed(process, after='"event":"pause"')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    cells = json.loads(out)
    run = store.read(Path(cells[0]["journal"]))
    assert len(run.pauses) == 1 and run.pauses[0]["boot"] == "same" and not run.failures
    assert all(cell["p50_ms"] > 0 for cell in cells)
    text = run.path.read_text()
    assert phone.serial not in text and phone.getprop("ro.serialno") not in text, "a serial number is personal"
    assert "phone SERIAL" in text or "SERIAL" in run.pauses[0]["why"]
    clean(phone)


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on(phone: StandIn, tflite_model: Path) -> None:
    process = start("run", tflite_model, "--device", "android-cpu", "--budget", "60", "--precise", "0.01", "--json")
    until_timed(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (cell,) = json.loads(out)
    assert cell["p50_ms"] > 0 and cell["end"] == "interrupted"
    clean(phone)
    resumed = mobench("run", "--resume", cell["journal"], "--budget", "2", "--json")
    assert resumed.returncode == 0, resumed.stderr
    (again,) = json.loads(resumed.stdout)
    assert again["n_blocks"] > cell["n_blocks"] and again["journal"] == cell["journal"]


def test_another_phone_does_not_take_a_campaign_up(standin: type[StandIn], tflite_model: Path) -> None:
    first = standin("pixel")
    done = mobench("run", tflite_model, "--device", "android-cpu", "--budget", "1", "--json")
    (cell,) = json.loads(done.stdout)
    first.cut()
    standin("samsung")
    resumed = mobench("run", "--resume", cell["journal"], "--budget", "1")
    assert resumed.returncode == 2 and "another machine" in resumed.stderr, resumed.stderr


def test_a_hot_phone_is_waited_for_and_a_low_battery_ends_it(phone: StandIn, tflite_model: Path) -> None:
    phone.set_service("battery", battery(level=7, tenths_c=274, usb=True, charge_uah=291_000))
    done = mobench("run", tflite_model, "--device", "android-cpu", "--budget", "2")
    assert done.returncode == 1 and "7 %" in done.stdout and "--resume" in done.stdout
    clean(phone)


def test_several_phones_run_side_by_side(standin: type[StandIn], tflite_model: Path) -> None:
    one, two = standin("pixel"), standin("samsung")
    alone = mobench("run", tflite_model, "--device", "android-cpu", "--budget", "1")
    assert alone.returncode == 2 and "--serial" in alone.stderr
    done = mobench(
        "run", tflite_model, "--device", "android-cpu", "--budget", "1", "--json",
        "--serial", one.serial, "--serial", two.serial,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)
    assert len({cell["journal"] for cell in cells}) == len(cells) == 2
    clean(one), clean(two)


@needs_vulkan
def test_accuracy_is_measured_on_the_phone_and_counts_for_its_own_delegate(
    phone: StandIn,
    onnx_model: Path,
    photos: Path,  # noqa: F811
) -> None:
    here = mobench("eval", onnx_model, "--data", photos, "--json")
    done = mobench("eval", onnx_model, "--data", photos, "--device", "android-cpu", "--json")
    assert done.returncode == 0, done.stderr
    (phones,), (own,) = json.loads(done.stdout), json.loads(here.stdout)
    assert (phones["device"], phones["provider"]) == ("android-cpu", "cpu") and own["device"] == "desktop-cpu"
    assert (phones["top1"], phones["top5"], phones["n"]) == (own["top1"], own["top5"], own["n"])
    refused = mobench("eval", onnx_model, "--data", photos, "--device", "android-gpu")
    assert refused.returncode == 1 and "ort has nothing for android-gpu" in refused.stderr
    clean(phone)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--device", "android-gpu", "--runtime", "ort"), "android-gpu"),
        (("--device", "android-cpu", "--device", "desktop-cpu"), "one machine"),
        (("--serial", "X"), "it names a phone"),
        (("--device", "android-cpu", "--serial", "nowhere"), "nowhere"),
        (("--device", "android-cpu", "--runtime", "benchmark_model"), "--tool"),
        (("--device", "android-cpu", "--provider", "gpu-fp16"), "gpu-fp16"),
    ],
)
def test_what_cannot_be_is_one_line(phone: StandIn, tflite_model: Path, arguments: tuple[str, ...], why: str) -> None:
    done = mobench("run", tflite_model, *arguments)
    assert done.returncode == 2 and why in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_without_a_phone_a_harness_or_a_runtime_the_mend_is_said(
    adb_server: object, standin: type[StandIn], tflite_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = mobench("run", tflite_model, "--device", "android-cpu")
    assert done.returncode == 2 and "mobench devices" in done.stderr, done.stderr
    standin("pixel")
    monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path / "empty"))
    done = mobench("run", tflite_model, "--device", "android-cpu", "--budget", "1")
    assert done.returncode != 0 and "mobench android" in done.stdout + done.stderr
    assert os.environ["MOBENCH_CACHE"].endswith("empty")
