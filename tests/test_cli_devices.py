"""`mobench devices`: every phone in one row, whatever its state, and what can run on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from standin import StandIn
from standin.faults import until

from mobench.cli.devices import command
from runners import adb
from runners.android import build, phone, runtimes
from runners.android.phone import Phone


def devices(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(devices("--json").stdout)
    return found


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path / "cache"))


def fill_cache(tmp_path: Path, *, accelerators: tuple[str, ...] = ()) -> None:
    files = {name: tmp_path / name for name in ("mobench-harness", "libLiteRt.so", "libonnxruntime.so", *accelerators)}
    for path in files.values():
        path.write_bytes(b"ELF")
    build.put(files["mobench-harness"], "x86_64", how="host", tool="cc")
    runtimes.put("x86_64", "ort", files["libonnxruntime.so"], version="1.31.1")
    runtimes.put("x86_64", "litert", files["libLiteRt.so"], [files[name] for name in accelerators], version="2.3.0")


def test_phones_are_listed_with_what_runs_on_them_step_by_step(phone: StandIn, tmp_path: Path) -> None:
    (row,) = rows()
    assert (row["serial"], row["model"], row["android"]) == (phone.serial, "Pixel 6", "14") and row["gpu"] == "Mali-G78"
    assert {run["status"] for run in row["runs"]} == {"no"} and "mobench android build" in row["runs"][0]["mend"]
    assert devices().return_value == 1
    fill_cache(tmp_path)
    (row,) = rows()
    by_name = {(run["device"], run["runtime"]): run for run in row["runs"]}
    assert set(by_name) == {("android-cpu", "ort"), ("android-cpu", "litert"), ("android-gpu", "litert")}
    assert by_name["android-cpu", "ort"]["found"] == "ONNX Runtime 1.31.1: cpu, xnnpack"
    assert by_name["android-gpu", "litert"]["status"] == "no"
    assert "no GPU accelerator" in by_name["android-gpu", "litert"]["found"]
    fill_cache(tmp_path, accelerators=("libLiteRtGpuAccelerator.so",))
    (row,) = rows()
    assert {run["status"] for run in row["runs"]} == {"ok"}
    shown = devices()
    assert shown.return_value == 0
    assert "2x2.80 + 2x2.25 + 4x1.80" in shown.stdout and "android-gpu" in shown.stdout


def test_a_phone_that_does_not_let_us_in_is_listed_with_the_mend(standin: Callable[..., StandIn]) -> None:
    ready, shut = standin("samsung"), standin("android9")
    shut.unauthorized()
    assert until(lambda: adb.Adb(shut.serial).state() == "unauthorized")
    by_serial = {row["serial"]: row for row in rows()}
    assert by_serial[ready.serial]["state"] == "device" and by_serial[ready.serial]["runs"]
    assert by_serial[shut.serial]["state"] == "unauthorized" and "dialog" in by_serial[shut.serial]["mend"]
    assert by_serial[shut.serial]["runs"] == []
    assert "unauthorized" in devices().stdout


def test_without_a_phone_it_says_how_to_attach_one(adb_server: object) -> None:
    shown = devices()
    assert shown.return_value == 1 and shown.stdout == "" and "USB debugging" in shown.stderr
    assert rows() == []


def test_one_phone_over_two_cables_is_one_row_and_an_unknown_abi_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {
        "serialno": "1A2B", "manufacturer": "Google", "model": "Pixel", "android": "14", "sdk": 34, "soc": "",
        "abis": ("armeabi-v7a",), "fingerprint": "", "boot_id": "x", "gpu": None, "memory_mb": None,
        "clusters": ({"cores": [0, 1]},), "cores": (0, 1),
    }  # fmt: skip
    listed = [adb.Attached(serial=serial, state="device", mend="") for serial in ("192.168.1.7:5555", "1A2B")]
    monkeypatch.setattr(adb, "attached", lambda program: tuple(listed))
    monkeypatch.setattr(phone, "describe", lambda adb: Phone(serial=adb.serial, **said))
    (row,) = rows()
    assert (row["serial"], row["also"]) == ("1A2B", ["192.168.1.7:5555"])
    assert {run["found"] for run in row["runs"]} == {"no harness: the phone runs armeabi-v7a only"}
    assert "1A2B = 192.168.1.7:5555" in devices().stdout
