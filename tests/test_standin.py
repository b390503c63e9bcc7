"""The stand-in is what the real adb program takes it for, and nothing of it stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from standin import AdbServer, StandIn, sequence
from standin.faults import KINDS, until
from standin.profiles import NAMES
from standin.server import processes_with
from standin.shell import Translation, host_cores


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


def test_each_program_that_is_missing_on_a_phone_is_missing_here(standin: Callable[..., StandIn]) -> None:
    old, new = standin("android9"), standin("pixel")
    mode = "cmd power set-fixed-performance-mode-enabled true"
    assert adb(old, "shell", mode).returncode == 255 and old.setting("fixed_performance") == ""
    assert adb(new, "shell", mode).returncode == 0 and new.setting("fixed_performance") == "true"
    assert shell(old, "dumpsys thermalservice") == "Can't find service: thermalservice\n"
    assert adb(old, "shell", "settaskprofile $$ MaxPerformance").returncode == 127


def test_what_a_phone_does_changes_while_it_is_asked(phone: StandIn) -> None:
    clock = "/sys/devices/system/cpu/cpufreq/policy6/scaling_max_freq"
    phone.set_file(clock, "1000000\n")
    assert shell(phone, f"cat {clock}") == "1000000\n"
    phone.set_service("thermalservice", "Thermal Status: 3\n")
    assert shell(phone, "dumpsys thermalservice") == "Thermal Status: 3\n"
    phone.set_service("thermalservice", None)
    assert "Can't find" in shell(phone, "dumpsys thermalservice")
    phone.setprop("ro.product.model", "Another")
    assert shell(phone, "getprop ro.product.model; getprop none; getprop none 7") == "Another\n\n7\n"


def test_processes_are_the_phones_own(phone: StandIn) -> None:
    with subprocess.Popen(["sleep", "30"]) as ours:
        shell(phone, "sleep 31 >/dev/null 2>&1 </dev/null & sleep 0.1")
        assert len(phone.processes()) == 1
        assert shell(phone, "pgrep -f 'sleep 3[01]'").split() == [str(phone.processes()[0])]
        assert "sleep" in shell(phone, "ps -A")
        shell(phone, "pkill sleep; true")
        assert until(lambda: phone.processes() == [])
        assert ours.poll() is None
        ours.kill()


def test_nothing_is_left_of_a_phone(tmp_path: Path, adb_server: AdbServer) -> None:
    with StandIn("pixel", tmp_path, server=adb_server) as device:
        adb(device, "shell", "nohup setsid sleep 60 >/dev/null 2>&1 </dev/null & sleep 0.1")
        assert len(device.processes()) == 1
    assert device.processes() == []
    assert device.serial not in adb_server.adb("devices").stdout
    with StandIn("samsung", tmp_path) as alone:
        home = alone.env["HOME"]
        alone.restart_server()
        alone.server.adb("devices")  # starts one that is no child of ours
        assert processes_with(f"STANDIN_SERVER={home}")
    assert until(lambda: processes_with(f"STANDIN_SERVER={home}") == [])


def test_a_masks_cores_are_played_by_the_hosts(phone: StandIn) -> None:
    hosts = sorted(os.sched_getaffinity(0))
    mask = shell(phone, "taskset c0 sh -c \"sed -n 's/^Cpus_allowed_list:\t//p' /proc/\\$\\$/status\"").strip()
    assert {int(core) for part in mask.split(",") for core in part.split("-")} <= set(hosts)
    told = shell(phone, f"echo '{json.dumps({'cores': [6, 7]})}'")  # an argument goes in, the answer comes out
    assert json.loads(told) == {"cores": [6, 7]}
    names = Translation(phone)
    inside = names.inward('x \'{"library": "/data/local/tmp/a.so", "cores": [6]}\'')
    assert f'"{phone.root}/data/local/tmp/a.so"' in inside and f'"cores": {host_cores([6])}' in inside
    assert names.outward(b'{"cores":[99]}') == b'{"cores":[99]}'  # another mask than asked for is told as it is


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        ("cat /data/x '/sys/y' \"/proc/cpuinfo\"", "cat ROOT/data/x 'ROOT/sys/y' \"ROOT/proc/cpuinfo\""),
        ("a=/data/local/tmp; ls $a/data ${a}/sys", "a=ROOT/data/local/tmp; ls $a/data ${a}/sys"),
        (
            "cat /proc/$$/stat /proc/self/stat /proc/[0-9]*/stat",
            "cat /proc/$$/stat /proc/self/stat /proc/[0-9]*/stat",
        ),
        ("cat /proc/sys/kernel/random/boot_id </dev/null", "cat ROOT/proc/sys/kernel/random/boot_id </dev/null"),
        ("echo >/data/a;rm /database /sysx", "echo >ROOT/data/a;rm /database /sysx"),
    ],
)
def test_paths_are_mapped_where_they_begin(text: str, mapped: str, phone: StandIn) -> None:
    assert Translation(phone).inward(text) == mapped.replace("ROOT", str(phone.root))


def test_output_is_mapped_back_whatever_its_pieces(phone: StandIn) -> None:
    names, root = Translation(phone), str(phone.root).encode()
    text = b"a " + root + b"/data/x " + root[:-1] + b" " + root + b"/sys/y\n"
    for at in range(len(text)):
        assert (
            names.outward(text[:at]) + names.outward(text[at:], last=True) == b"a /data/x " + root[:-1] + b" /sys/y\n"
        )


# Faults.


def test_a_slow_phone_takes_so_much_longer(phone: StandIn) -> None:
    """A pushed program gets a tenth of its core: its CPU time a second of the wall's falls tenfold."""
    phone.path("/data/local/tmp/sh").write_bytes(Path("/bin/sh").resolve().read_bytes())
    phone.path("/data/local/tmp/sh").chmod(0o755)
    busy = subprocess.Popen(
        ["adb", "-s", phone.serial, "shell", "/data/local/tmp/sh -c 'while :; do :; done'"], stdin=subprocess.DEVNULL
    )
    try:
        assert until(lambda: bool(phone.programs_running()))
        (pid,) = phone.programs_running()
        phone.slow(10)
        time.sleep(0.2)
        before = cpu_ticks(pid)
        time.sleep(1.0)
        assert cpu_ticks(pid) - before < 50  # of 100; a fair share on a busy host may be less than a tenth
        phone.slow(1)
    finally:
        busy.kill()
        busy.wait()


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_clock_jumps_and_boots_differ(phone: StandIn) -> None:
    before = int(shell(phone, "date +%s"))
    phone.clock_jump(-86_400)
    assert -86_410 < int(shell(phone, "date +%s")) - before < -86_390
    shell(phone, "touch /data/local/tmp/then")
    assert abs(phone.path("/data/local/tmp/then").stat().st_mtime - time.time() + 86_400) < 10
    boot = phone.boot_id
    phone.reboot(down_s=0.1)
    assert until(lambda: phone.getprop("sys.boot_completed") == "1")
    assert phone.boot_id != boot


def test_what_runs_on_a_full_phone_meets_an_error_and_goes_on_later(phone: StandIn) -> None:
    wait = "while [ ! -e go ]; do sleep 0.05; done"
    script = f"{wait}; echo a > b && echo wrote || echo full; rm go; {wait}; echo a > b && echo wrote"
    with subprocess.Popen(
        ["adb", "-s", phone.serial, "shell", f"cd /data/local/tmp; {script}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert until(lambda: bool(phone.processes()))
        phone.fill_storage()
        go = phone.path("/data/local/tmp/go")
        go.touch()
        assert until(lambda: not go.exists())
        phone.free_storage()
        go.touch()
        assert running.communicate(timeout=10)[0].split() == ["full", "wrote"]


def test_random_sequences_are_the_same_for_the_same_seed_and_meet_everything() -> None:
    assert sequence(3) == sequence(3) != sequence(4)
    faults = [fault for seed in range(200) for fault in sequence(seed)]
    assert {fault.kind for fault in faults} == set(KINDS)
    assert min(fault.after_bytes for fault in faults) < 10 and max(fault.after_bytes for fault in faults) > 10_000
