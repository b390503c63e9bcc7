"""The stand-in is what the real adb program takes it for, and nothing of it stays behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from standin import StandIn
from standin.profiles import NAMES


def adb(device: StandIn, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["adb", "-s", device.serial, *arguments], input=stdin, capture_output=True, timeout=20)


def shell(device: StandIn, script: str) -> str:
    done = adb(device, "shell", script)
    assert done.returncode == 0, done
    return done.stdout.decode()


@pytest.mark.parametrize("profile", NAMES)
def test_a_phone_tells_of_itself_as_its_profile_says(profile: str, standin: Callable[..., StandIn]) -> None:
    device = standin(profile)
    assert shell(device, "getprop ro.product.model").strip() == device.profile.properties["ro.product.model"]
    clocks = shell(device, "cat /sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq").split()
    assert clocks == [str(cluster.max_khz) for cluster in device.profile.clusters]
    assert shell(device, "cat /proc/sys/kernel/random/boot_id").strip() == device.boot_id
    assert "level: " in shell(device, "dumpsys battery")


def test_files_go_and_come_back_as_they_are(phone: StandIn, tmp_path: Path) -> None:
    sent, came = tmp_path / "sent", tmp_path / "came"
    sent.write_bytes(os.urandom(300_000))
    assert adb(phone, "push", str(sent), "/data/local/tmp/deep/er/file").returncode == 0
    assert phone.path("/data/local/tmp/deep/er/file").read_bytes() == sent.read_bytes()
    assert adb(phone, "pull", "/data/local/tmp/deep/er/file", str(came)).returncode == 0
    assert came.read_bytes() == sent.read_bytes()


def test_status_output_and_errors_come_apart(phone: StandIn) -> None:
    done = adb(phone, "shell", "echo out; echo wrong >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"wrong\n")
    assert adb(phone, "shell", "cat", stdin=b"\0bytes\n").stdout == b"\0bytes\n"


def test_the_phone_sees_its_own_paths_and_none_of_the_hosts(phone: StandIn) -> None:
    assert shell(phone, "cd /data/local/tmp && pwd && touch a && ls /data/local/tmp") == "/data/local/tmp\na\n"
    assert phone.path("/data/local/tmp/a").exists()
    assert adb(phone, "shell", "reboot; systemctl").returncode == 127  # the host's programs are not there
