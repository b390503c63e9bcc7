"""Everything that goes wrong between a host and a phone, provoked with the real adb program, and what mobench says."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from standin import Fault, StandIn
from standin.fake_server import FakeServer
from standin.faults import until
from standin.server import AdbServer

from mobench.errors import BadInputError, DeathError, LinkError, MobenchError, SessionError
from runners import adb as module
from runners.adb import Adb, attached
from runners.adb_failures import BrokenLinkError, failure, program_failure, without_chatter


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_AFTER_S", 0.2)
    monkeypatch.setattr(module, "RESTART_AFTER_S", 0.8)
    monkeypatch.setattr(module, "RETRY_WAIT_S", 4.0)
    monkeypatch.setattr(module, "PING_S", 1.0)
    monkeypatch.setattr(module, "POLL_S", 0.05)


def soon(act: Callable[[], object], after_s: float = 0.3) -> threading.Timer:
    timer = threading.Timer(after_s, act)
    timer.start()
    return timer


def message(call: Callable[[], object], kind: type[MobenchError]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pushed(device: StandIn, text: str, path: str = "/data/local/tmp/program") -> str:
    device.set_file(path, text)
    device.path(path).chmod(0o755)
    return path


# Commands that work.


@pytest.mark.parametrize("shell_v2", [True, False])
def test_a_scripts_status_comes_from_old_phones_too(shell_v2: bool, standin: Callable[..., StandIn]) -> None:
    device = standin("android9", shell_v2=shell_v2)
    answer = Adb(device.serial).shell("echo out; echo wrong >&2; exit 7")
    assert answer.status == 7
    assert (answer.out, answer.err) == (("out\n", "wrong\n") if shell_v2 else ("out\nwrong\n", ""))
    assert Adb(device.serial).shell("printf 'no newline'").out == "no newline"
    assert Adb(device.serial).shell("cat; false").status == 1  # no input, and the last command's status


def test_files_are_copied_whole(phone: StandIn, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(200_000))
    adb = Adb(phone.serial)
    adb.push(sent, "/data/local/tmp/a/b")
    adb.pull("/data/local/tmp/a/b", tmp_path / "came")
    assert (tmp_path / "came").read_bytes() == sent.read_bytes() == phone.path("/data/local/tmp/a/b").read_bytes()


def test_attached_phones_are_told_apart(standin: Callable[..., StandIn]) -> None:
    devices = [standin("pixel"), standin("samsung")]
    listed = {one.serial: one for one in attached()}
    assert [listed[device.serial].model for device in devices] == ["Pixel_6", "SM_S911B"]
    assert {listed[device.serial].state for device in devices} == {"device"}
    for device in devices:  # `more than one device` cannot happen: a serial goes with every call
        assert Adb(device.serial).shell("getprop ro.serialno").out.strip() == device.getprop("ro.serialno")


# No phone, or none that can be used.


def test_without_adb_there_is_a_way_to_get_it() -> None:
    assert "apt install adb" in message(lambda: attached("no-such-adb"), BadInputError)
    assert "apt install adb" in message(lambda: Adb("x", program="no-such-adb").shell("true"), BadInputError)


def test_a_phone_that_is_not_there_is_out_of_reach(adb_server: AdbServer) -> None:
    assert attached() == ()
    absent = Adb("SERIAL1")
    assert "unplugged or restarting" in message(lambda: absent.shell("true"), BrokenLinkError)
    assert "unplugged or restarting; plug" in str(absent.missing())
    assert absent.state() != "device" and not absent.wait(0.1)


def test_an_unknown_key_asks_for_the_dialog_and_is_not_retried(phone: StandIn) -> None:
    phone.unauthorized()
    adb = Adb(phone.serial)
    assert until(lambda: adb.state() == "unauthorized")
    began = time.monotonic()
    assert "accept its dialog" in message(lambda: adb.shell("true", idempotent=True), LinkError)
    assert time.monotonic() - began < module.RETRY_WAIT_S / 2
    (listed,) = attached()
    assert listed.state == "unauthorized" and "accept its dialog" in listed.mend
    assert not adb.wait(0.5)
    soon(phone.plug_in)
    assert adb.wait(5)


def test_an_offline_phone_is_reconnected(phone: StandIn) -> None:
    phone.offline()
    adb = Adb(phone.serial)
    assert until(lambda: adb.state() == "offline")
    assert "offline" in message(lambda: adb.shell("true"), BrokenLinkError)
    soon(phone.heal)
    assert adb.wait(10)
    assert adb.shell("echo back").out == "back\n"


@pytest.mark.parametrize(
    ("line", "state", "mend"),
    [
        ("R1 no permissions (missing udev rules? user is in the plugdev group); see [http://x/y] usb:1-2", "", "udev"),
        (
            "???????????? no permissions (user x is not in the plugdev group); see [http://x/y]",
            "no permissions",
            "udev",
        ),
        ("(no serial number) device usb:1-2 product:p model:m device:d transport_id:3", "device", ""),
        ("R1                     authorizing usb:1-2 transport_id:1", "authorizing", "unlock"),
        ("R1                     recovery usb:1-2 product:p model:m device:d transport_id:1", "recovery", "adb reboot"),
        ("R1                     bootloader usb:1-2", "bootloader", "fastboot reboot"),
        ("R1                     something new", "something", "something"),
        ("adb-R1-XyZ (2)._adb-tls-connect._tcp device product:p model:m device:d transport_id:4", "device", ""),
    ],
)
def test_states_that_only_usb_knows_have_a_mend(
    line: str, state: str, mend: str, adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer(line + "\n", "insufficient permissions for device: user in plugdev group") as fake:
        for name, value in fake.env.items():
            monkeypatch.setenv(name, value)
        (listed,) = attached()
        assert listed.state == (state or "no permissions") and mend in listed.mend
        assert (listed.mend == "") == (listed.state == "device")
        if not state:
            assert "udev" in message(lambda: Adb("R1").shell("true"), LinkError)


@pytest.mark.parametrize(
    ("said", "kind", "part"),
    [
        ("error: more than one device/emulator", BadInputError, "unplug one"),
        ("adb: error: failed to get feature set: more than one device/emulator", BadInputError, "unplug one"),
        ("error: no devices/emulators found", BrokenLinkError, "unplugged"),
        ("adb: device offline", BrokenLinkError, "offline"),
        ("error: device still authorizing", BrokenLinkError, "unlock"),
        ("error: closed", BrokenLinkError, "link broke"),
        ("error: protocol fault (couldn't read status): Success", BrokenLinkError, "link broke"),
        ("adb: error: failed to get feature set: protocol fault (no status)", BrokenLinkError, "link broke"),
        ("error: insufficient permissions for device: missing udev rules?", LinkError, "plugdev"),
        ("* failed to start daemon\nerror: cannot connect to daemon", BrokenLinkError, "kill-server"),
        ("adb: error: failed to copy 'a' to 'b': remote No space left on device", SessionError, "storage is full"),
        (
            "adb: error: failed to copy 'a' to '/b': remote couldn't create file: Permission denied",
            *(SessionError, "couldn't create file: Permission denied; use a folder under /data/local/tmp"),
        ),
        (
            "adb: error: failed to copy 'a' to '/b': remote fchown failed: Operation not permitted",
            *(SessionError, "fchown failed: Operation not permitted; use a folder under /data/local/tmp"),
        ),
        ("adb: error: cannot stat 'a': No such file or directory", BadInputError, "check the path"),
        ("adb: error: cannot open 'a': Permission denied", BadInputError, "check the path"),
    ],
)
def test_what_adb_says_has_its_mend(said: str, kind: type[MobenchError], part: str) -> None:
    error = failure("phone R1", said)
    assert type(error) is kind and part in str(error) and str(error).startswith("phone R1: ")


def test_what_is_not_adbs_is_no_failure_of_it() -> None:
    assert failure("phone R1", "") is None
    assert failure("phone R1", "all is well\n") is None


# Links that break.


def test_a_link_cut_in_an_output_is_no_answer(phone: StandIn) -> None:
    """adb 29 itself ends with status 0 and half the output."""
    adb = Adb(phone.serial)
    phone.faults.arm(Fault(kind="cut", after_bytes=4_000, back_s=None))
    assert "broke off" in message(lambda: adb.shell("seq 1 3000; sleep 1"), BrokenLinkError)
    assert adb.state() != "device"
    soon(phone.plug_in)
    assert adb.wait(10)


def test_newer_adb_tells_of_a_cut_by_its_status_alone(tmp_path: Path) -> None:
    """adb 35 ends with 255 and no word where the phone goes in the middle of a command (google/syzkaller#4807)."""
    program = tmp_path / "adb"
    program.write_text("#!/bin/sh\necho half an output\nexit 255\n")
    program.chmod(0o755)
    message(lambda: Adb("R1", program=str(program)).shell("true"), BrokenLinkError)
    program.write_text("#!/bin/sh\nexit 137\n")
    message(lambda: Adb("R1", program=str(program)).shell("true"), DeathError)


def test_what_may_run_twice_is_tried_again_and_nothing_else(phone: StandIn) -> None:
    adb = Adb(phone.serial)
    script = "echo x >> /data/local/tmp/runs; seq 1 3000"
    runs = phone.path("/data/local/tmp/runs")
    phone.faults.arm(Fault(kind="cut", after_bytes=4_000))
    assert adb.shell(script, idempotent=True).out.endswith("\n3000\n")
    assert runs.read_text() == "x\n" * 2
    phone.faults.arm(Fault(kind="cut", after_bytes=4_000))
    message(lambda: adb.shell(script), BrokenLinkError)
    assert runs.read_text() == "x\n" * 3
    assert adb.wait(5)


def test_a_copy_that_is_cut_off_is_made_again(phone: StandIn, tmp_path: Path) -> None:
    adb, sent = Adb(phone.serial), tmp_path / "sent"
    sent.write_bytes(os.urandom(3_000_000))
    phone.faults.arm(Fault(kind="cut", after_bytes=700_000))
    adb.push(sent, "/data/local/tmp/big")
    assert phone.path("/data/local/tmp/big").read_bytes() == sent.read_bytes()
    phone.faults.arm(Fault(kind="cut", after_bytes=700_000))
    adb.pull("/data/local/tmp/big", tmp_path / "came")
    assert (tmp_path / "came").read_bytes() == sent.read_bytes()
    assert len(phone.faults.happened) == 2


def test_a_copy_that_fails_twice_leaves_no_file_here(phone: StandIn, tmp_path: Path) -> None:
    adb = Adb(phone.serial)
    phone.path("/data/local/tmp/big").write_bytes(os.urandom(3_000_000))
    phone.faults.arm(*[Fault(kind="cut", after_bytes=700_000, where="sync:")] * 2)
    message(lambda: adb.pull("/data/local/tmp/big", tmp_path / "here" / "came"), BrokenLinkError)
    assert list((tmp_path / "here").iterdir()) == []
    assert adb.wait(5)


def test_a_server_that_ends_is_started_again(phone: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    adb = Adb(phone.serial)
    phone.restart_server()
    answer = adb.shell("echo out; echo wrong >&2", idempotent=True)  # a call that starts it tells so
    assert (answer.out, answer.err) == ("out\n", "wrong\n")
    soon(phone.restart_server)
    assert adb.shell("sleep 0.6; echo done", idempotent=True).out == "done\n"
    phone.restart_server()
    assert [one for one in attached() if one.state != "device"] == []
    assert capfd.readouterr().err == ""


def test_a_dead_link_that_adb_calls_ready_is_found_and_renewed(phone: StandIn) -> None:
    adb = Adb(phone.serial)
    phone.hang()
    assert adb.state() == "device"
    assert "no answer in 0.5 s" in message(lambda: adb.shell("true", deadline_s=0.5), BrokenLinkError)
    soon(phone.heal)
    assert adb.wait(15)


def test_a_copy_to_a_mute_phone_is_given_up_long_before_its_deadline(
    phone: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.3)
    adb, sent = Adb(phone.serial), tmp_path / "sent"
    sent.write_bytes(os.urandom(3_000_000))
    began = time.monotonic()
    phone.faults.arm(Fault(kind="hang", after_bytes=700_000))
    adb.push(sent, "/data/local/tmp/big", deadline_s=300)
    assert phone.path("/data/local/tmp/big").read_bytes() == sent.read_bytes()
    assert len(phone.faults.happened) == 1 and time.monotonic() - began < 30
    phone.hang()
    assert "no answer in " in message(lambda: adb.pull("/data/local/tmp/big", tmp_path / "came"), BrokenLinkError)
    assert time.monotonic() - began < 60
    phone.heal()
    assert adb.wait(15)


def test_a_phone_that_is_busy_for_long_and_answers_is_waited_for(
    phone: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    monkeypatch.setattr(module, "PING_S", 5.0)
    adb = Adb(phone.serial)
    looks: list[bool] = []
    answers = Adb._answers
    monkeypatch.setattr(Adb, "_answers", lambda self: looks.append(answers(self)) or looks[-1])
    assert adb.shell("sleep 1; echo done", idempotent=True).out == "done\n"
    assert looks and all(looks)
    with pytest.raises(SessionError, match=r"not done in 0\.5 s, though the phone answers"):
        adb.shell("sleep 3", deadline_s=0.5, idempotent=True)
    count = len(looks)
    adb.shell("sleep 1")
    assert len(looks) == count, "what may be a measurement is not disturbed"


def test_a_server_is_not_restarted_under_another_phone(standin: Callable[..., StandIn]) -> None:
    away, used = standin("pixel"), standin("samsung")
    away.cut()
    running = threading.Thread(target=lambda: said.append(Adb(used.serial).shell("sleep 2; echo whole")))
    said: list[module.Answer] = []
    running.start()
    assert not Adb(away.serial).wait(1.5)
    running.join()
    assert said[0].out == "whole\n"


def test_a_restart_is_waited_for_until_the_phone_is_up(phone: StandIn) -> None:
    adb, before = Adb(phone.serial), phone.boot_id
    phone.reboot(down_s=0.5)
    assert "restarting" in message(lambda: adb.shell("true"), BrokenLinkError)
    assert adb.wait(10)
    answer = adb.shell("getprop sys.boot_completed; cat /proc/sys/kernel/random/boot_id").out.split()
    assert answer[0] == "1" and answer[1] == phone.boot_id != before


# Answers that are not whole, or not clean.


def test_half_an_output_is_never_an_answer(phone: StandIn) -> None:
    adb = Adb(phone.serial)
    for after_bytes in (0, 5, 20, 23, 31, 40, 51, 52):  # in the first mark, the output, the second mark, the status
        phone.faults.arm(Fault(kind="half_line", after_bytes=after_bytes))
        message(lambda: adb.shell("echo one two; exit 12"), BrokenLinkError)
    phone.faults.arm(Fault(kind="stutter", after_bytes=10))
    answer = adb.shell("echo one two; exit 12")
    assert (answer.status, answer.out) == (12, "one two\n")


def test_garbage_is_part_of_the_output_or_no_answer(phone: StandIn) -> None:
    adb = Adb(phone.serial)
    phone.garbage()  # before everything
    answer = adb.shell("echo one; exit 3")
    assert (answer.status, answer.out) == (3, "one\n")
    phone.faults.arm(Fault(kind="garbage", after_bytes=len("mobench-0123456789ab:\non")))
    answer = adb.shell("echo one; exit 3")
    assert answer.status == 3 and answer.out.startswith("on") and answer.out.endswith("garbage\ne\n")
    for after_bytes in (10, 40):  # in a mark
        phone.faults.arm(Fault(kind="garbage", after_bytes=after_bytes))
        message(lambda: adb.shell("echo one; exit 3"), BrokenLinkError)


def test_a_script_that_no_shell_can_read_is_our_mistake(phone: StandIn) -> None:
    assert "cannot read a script" in message(lambda: Adb(phone.serial).shell("if true; then"), SessionError)


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 | cat; true", "logcat -f & sleep 60"])
def test_what_takes_too_long_ends_here_and_there(script: str, phone: StandIn) -> None:
    adb = Adb(phone.serial)
    assert "not done in 0.5 s" in message(lambda: adb.shell(script, deadline_s=0.5), SessionError)
    assert until(lambda: phone.processes() == [])


def test_nothing_of_a_script_goes_on_behind_a_cut_cable(phone: StandIn) -> None:
    soon(phone.cut)
    message(lambda: Adb(phone.serial).shell("sleep 60; echo late"), BrokenLinkError)
    assert until(lambda: phone.processes() == [])


# The phone's storage and system.


def test_a_full_phone_is_told_and_keeps_no_half_a_file(phone: StandIn, tmp_path: Path) -> None:
    adb, big = Adb(phone.serial), tmp_path / "big"
    big.write_bytes(os.urandom(2_000_000))
    for left in (0, 500_000):
        phone.fill_storage(left)
        assert "storage is full" in message(lambda: adb.push(big, "/data/local/tmp/big"), SessionError)
        assert not phone.path("/data/local/tmp/big").exists()
    assert adb.shell("df -k /data").out.split()[-3] == "0"
    assert adb.shell("echo more > /data/local/tmp/more").status != 0
    phone.free_storage()
    adb.push(big, "/data/local/tmp/big")


def test_files_that_are_not_there_are_told(phone: StandIn, tmp_path: Path) -> None:
    adb = Adb(phone.serial)
    assert "no such file" in message(lambda: adb.push(tmp_path / "none", "/data/local/tmp/x"), BadInputError)
    assert "No such file" in message(lambda: adb.pull("/data/local/tmp/none", tmp_path / "x"), SessionError)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("folder", ["/sdcard/mobench", "/data/local/tmp"])
def test_a_mount_without_programs_is_told(folder: str, phone: StandIn) -> None:
    if folder != "/sdcard/mobench":
        phone.noexec(folder)
    path = f"{folder}/program"
    phone.set_file(path, "#!/bin/sh\necho ran\n")
    phone.path(path).chmod(0o660)
    answer = Adb(phone.serial).shell(f"chmod 755 {path}; {path}")
    error = program_failure("tiny.onnx", answer.status, answer.err)
    assert answer.status == 126 and "`adb shell rm -rf /data/local/tmp/mobench`" in str(error)


def test_a_killed_program_is_told(phone: StandIn) -> None:
    program = pushed(phone, "")
    phone.path(program).write_bytes(Path("/bin/sleep").resolve().read_bytes())
    timer = soon(lambda: until(lambda: bool(phone.programs_running())) and phone.kill_harness(), 0.1)
    answer = Adb(phone.serial).shell(f"{program} 30")
    timer.join()
    error = program_failure("tiny.onnx", answer.status, answer.err)
    assert answer.status == 137 and isinstance(error, DeathError) and "out of memory" in str(error)


@pytest.mark.parametrize(
    ("status", "words", "part"),
    [
        (1, 'x: dlopen failed: library "libOpenCL.so" not found\n', "use android-cpu"),
        (
            *(
                1,
                'dlopen failed: library "/vendor/lib64/libOpenCL.so" needed or dlopened by "/data/a" is not accessible',
            ),
            "use android-cpu",
        ),
        (1, 'CANNOT LINK EXECUTABLE: dlopen failed: library "libLiteRt.so" not found', "mobench android setup"),
        (127, "sh: /data/local/tmp/x: inaccessible or not found", "this phone's ABI"),
        (142, "", "within its deadline"),
        (139, "", "signal 11"),
        (3, "a\nlast words\n\n", "exit status 3): last words"),
    ],
)
def test_how_a_program_ended_is_told_with_the_mend(status: int, words: str, part: str) -> None:
    assert part in str(program_failure("tiny.onnx", status, words))


def test_only_adbs_own_chatter_is_stripped() -> None:
    chatter = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    assert without_chatter(chatter + "* a list\n* daemon of ours\n") == "* a list\n* daemon of ours\n"
    old = "adb server version (40) doesn't match this client (41); killing...\n* daemon started successfully\nout\n"
    assert without_chatter(old) == "out\n"
