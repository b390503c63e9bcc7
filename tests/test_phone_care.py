"""Care of a stand-in phone through the real adb: the steady mode over pulled cables, restarts and killed runs."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from standin.device import StandIn

from mobench.errors import LinkError, SessionError
from runners.adb import Adb
from runners.android import care as module
from runners.android.care import Care
from runners.android.source import PhoneSource, PhoneWatch

LOST = LinkError("phone", "device not found", "plug it in")


def make(phone: StandIn, **options: object) -> Care:
    adb = Adb(phone.serial)
    return Care(adb, PhoneWatch(PhoneSource(adb)), **options)  # type: ignore[arg-type]


def mode(phone: StandIn) -> str:
    return phone.setting("fixed_performance")


def settle(phone: StandIn, *, fixed: str) -> None:
    """Wait until the mode is as it should be, and neither the marker nor a process is left."""
    end = time.monotonic() + 20
    marker = phone.path(module.MARKER)
    while (mode(phone) != fixed or marker.exists() or phone.processes()) and time.monotonic() < end:
        time.sleep(0.05)
    assert (mode(phone), marker.exists(), phone.processes()) == (fixed, False, [])


def test_the_mode_is_on_for_as_long_as_the_phone_is_measured(phone: StandIn) -> None:
    with make(phone) as care:
        assert care.fixed and mode(phone) == "true" and phone.path(module.MARKER).exists()
        assert care.ready(pytest.fail) == 0.0
    settle(phone, fixed="false")


def test_android_9_has_no_such_mode_and_is_measured_without(standin: Callable[..., StandIn]) -> None:
    phone, told = standin("android9"), list[str]()
    with make(phone, tell=told.append) as care:
        assert not care.fixed and care.ready(pytest.fail) == 0.0
    assert "Unknown command: set-fixed-performance-mode-enabled" in told[0]
    settle(phone, fixed="")


def test_a_pulled_cable_ends_the_mode_and_the_cable_back_brings_it_again(phone: StandIn) -> None:
    with make(phone) as care:
        phone.cut()
        settle(phone, fixed="false")  # by the phone itself
        with pytest.raises(SessionError):
            care.ready(lambda text: None)
        phone.plug_in()
        back = care.reconnect(LOST, lambda text: None)
        assert back["boot"] == "same" and care.fixed and mode(phone) == "true"
    settle(phone, fixed="false")


def test_a_restart_is_a_new_boot(phone: StandIn) -> None:
    with make(phone) as care:
        phone.reboot()
        assert care.reconnect(LOST, lambda text: None)["boot"] == "new"
        assert care.fixed and mode(phone) == "true"
    settle(phone, fixed="false")


def test_a_restarted_adb_server_does_not_end_it_for_long(phone: StandIn) -> None:
    with make(phone) as care:
        phone.restart_server()
        Adb(phone.serial).wait(20)
        end = time.monotonic() + 10
        while mode(phone) == "true" and time.monotonic() < end:
            time.sleep(0.05)
        care.ready(lambda text: None)
        assert care.fixed and mode(phone) == "true"
    settle(phone, fixed="false")


def test_a_killed_run_leaves_it_off(phone: StandIn) -> None:
    script = f"""
        import sys, time
        sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}
        from runners.adb import Adb
        from runners.android.care import Care
        Care(Adb({phone.serial!r}), None).__enter__()
        print("on", flush=True)
        time.sleep(60)
    """
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None and run.stdout.readline() == "on\n" and mode(phone) == "true"
    run.kill()
    run.wait()
    run.stdout.close()
    settle(phone, fixed="false")


def test_what_a_dead_holder_left_on_is_repaired_by_the_next_run(phone: StandIn) -> None:
    first = make(phone)
    first.__enter__()
    for pid in phone.processes():
        subprocess.run(["kill", "-9", str(pid)], check=False)
    first._owner = ""  # its process died with it, as when the host loses power
    first.__exit__()
    assert mode(phone) == "true" and phone.path(module.MARKER).exists()
    told: list[str] = []
    with make(phone, fixed_performance=False, tell=told.append):
        assert mode(phone) == "false"
    assert "its fixed-performance mode is off again" in told[0]
    settle(phone, fixed="false")


def test_a_throttled_phone_is_waited_for(phone: StandIn) -> None:
    service = phone._state / "services" / "thermalservice"
    cool = service.read_text()
    hot = cool.replace("Thermal Status: 0", "Thermal Status: 3")
    assert hot != cool
    phone.set_service("thermalservice", hot)
    told: list[str] = []

    def sleep(seconds: float) -> None:
        if seconds == module.POLL_S:
            phone.set_service("thermalservice", cool)

    with make(phone, sleep=sleep) as care:
        assert care.ready(told.append) > 0
    assert told == ["cooling down: thermal status severe"]
