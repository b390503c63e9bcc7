"""Care of a phone. Its shell runs here, with a `cmd` that keeps what the power service was last told."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from mobench.errors import BadInputError, LinkError, SessionError
from mobench.records import Cluster, DeviceState
from runners.adb import Answer
from runners.android import care as module
from runners.android.care import Care, body_c, is_low, obstacle, throttling, verdict
from runners.fake import FakeClock

CAPS = {(0, 1): 1_800_000, (2, 3): 2_400_000}


def state(
    *, status: str | None = "none", big_khz: int | None = 2_400_000, percent: int | None = 80, **temps_c: float
) -> DeviceState:
    clusters = (Cluster(cores=(0, 1), cap_khz=1_800_000), Cluster(cores=(2, 3), cap_khz=big_khz))
    return DeviceState(
        when="during", t_s=0, thermal_status=status, clusters=clusters, battery_percent=percent, temps_c=temps_c
    )


@pytest.mark.parametrize("status", ["light", "moderate", "severe", "critical", "emergency", "shutdown"])
def test_every_thermal_status_but_none_is_throttling(status: str) -> None:
    assert throttling(state(status=status), CAPS) == f"thermal status {status}"


def test_a_cap_below_the_highest_seen_is_throttling_also_without_a_thermal_service() -> None:
    assert throttling(state(status=None, big_khz=1_747_000), CAPS) == "cores 2,3 capped at 1.75 of 2.40 GHz"
    assert throttling(state(status=None), CAPS) is None
    assert throttling(state(status="none", big_khz=1_747_000), CAPS) is None  # its system says that it is not hot
    assert throttling(state(status=None, big_khz=2_600_000), CAPS) is None  # it was capped when the campaign began
    assert throttling(state(status=None, big_khz=None), CAPS) is None  # a phone that hides its clocks


def test_a_verdict_names_the_moment() -> None:
    fine, hot = state(), state(status="light")
    assert verdict(fine, fine, CAPS) is None
    assert verdict(hot, fine, CAPS) == "thermal status light before the round"
    assert verdict(fine, hot, CAPS) == "thermal status light after the round"
    assert (
        verdict(fine, state(status=None, big_khz=1_000_000), CAPS)
        == "cores 2,3 capped at 1.00 of 2.40 GHz after the round"
    )


@pytest.mark.parametrize(
    ("temps_c", "expected"),
    [
        ({"CPU0": 71.0, "battery": 33.0, "VIRTUAL-SKIN": 37.5, "skin-therm-2": 36.0}, 37.5),
        ({"CPU0": 71.0, "battery": 33.0}, 33.0),
        ({"battery": 31.0, "skin": -273.0}, 31.0),  # a sensor without a reading
        ({"skin": 32767.0}, None),
        ({"CPU0": 71.0}, None),  # follows the load, not the heat
    ],
)
def test_skin_before_battery_says_how_warm_a_phone_is(temps_c: dict[str, float], expected: float | None) -> None:
    assert body_c(state(**temps_c)) == expected


def test_what_a_round_waits_for() -> None:
    assert obstacle(state(skin=36.0), CAPS, 35.0) == "36.0 degrees, to be 35"
    assert obstacle(state(skin=35.0), CAPS, 35.0) is None
    assert obstacle(state(skin=60.0), CAPS, None) is None  # no target: only throttling holds a round up
    assert obstacle(state(skin=30.0, status="moderate"), CAPS, 35.0) == "thermal status moderate"
    assert is_low(state(percent=19), 20) and not is_low(state(percent=20), 20)
    assert not is_low(state(percent=None), 20)  # a board without one


# --- waiting --------------------------------------------------------------------------------------------------------


class Script:
    """A watch that returns scripted states, the last one for ever."""

    def __init__(self, *states: DeviceState) -> None:
        self.states, self.read = list(states), 0

    def state(self, when: Literal["before", "during", "after"], t_s: float) -> DeviceState:
        """Return the next one."""
        self.read += 1
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@dataclass
class Shells:
    """An adb whose phone is a folder: its shell runs here, and the paths in it lead there."""

    root: Path
    serial: str = "R5"
    boot: str = "boot-1"
    serialno: str = "R5"
    gone: bool = False
    waits: list[bool] = field(default_factory=list)
    on_wait: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        programs = self.root / "bin"
        programs.mkdir()
        offered = self.root / "offered"
        offered.touch()
        (programs / "cmd").write_text(
            f"#!/bin/sh\n[ -e {offered} ] || {{ echo Failed to set FIXED_PERFORMANCE mode >&2; exit 255; }}\n"
            f'[ "$1 $2" = "power set-fixed-performance-mode-enabled" ] && echo "$3" >>{self.root}/mode\n'
        )
        (programs / "getprop").write_text(f"#!/bin/sh\ncat {self.root}/serialno\n")
        for program in programs.iterdir():
            program.chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        """Return the client's argument list."""
        assert arguments[0] == "shell"
        return [sys.executable, "-c", CLIENT, *self.inside(arguments[1])]

    def inside(self, script: str) -> list[str]:
        """Return the argument list of a shell on the phone."""
        (self.root / "serialno").write_text(self.serialno)
        (self.root / "boot_id").write_text(self.boot)
        script = script.replace("/data/local/tmp", str(self.root)).replace(module._BOOT_ID, f"{self.root}/boot_id")
        return ["sh", "-c", f"PATH={self.root}/bin:$PATH\n{script}"]

    def shell(self, script: str, *, deadline_s: float = 30.0, idempotent: bool = False) -> Answer:
        """Run a script on the phone."""
        if self.gone:
            raise LinkError("phone R5", "device not found", "plug it in")
        done = subprocess.run(self.inside(script), capture_output=True, text=True, timeout=deadline_s)
        return Answer(status=done.returncode, out=done.stdout, err=done.stderr)

    def wait(self, deadline_s: float) -> bool:
        """Return whether the phone is back, as scripted."""
        self.on_wait()
        back = self.waits.pop(0) if self.waits else True
        self.gone = not back
        return back

    @property
    def modes(self) -> list[str]:
        """What the power service was told, in order."""
        file = self.root / "mode"
        return file.read_text().split() if file.exists() else []

    @property
    def marked(self) -> bool:
        """Whether the marker is there."""
        return (self.root / "mobench" / "fixed-performance").exists()

    def settle(self, *modes: str) -> None:
        """Wait until exactly these modes were set and no marker is left."""
        end = time.monotonic() + 10
        while (self.modes != list(modes) or self.marked) and time.monotonic() < end:
            time.sleep(0.01)
        assert (self.modes, self.marked) == (list(modes), False)


# The adb client: it passes its stdin on to a shell that does not die with it, as a phone's does not.
CLIENT = """
import subprocess, sys
shell = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
while data := sys.stdin.buffer.read1(4096):
    shell.stdin.write(data)
shell.stdin.close()
sys.exit(shell.wait())
"""


@pytest.fixture
def adb(tmp_path: Path) -> Shells:
    return Shells(tmp_path)


def make(adb: Shells, *states: DeviceState, **options: Any) -> tuple[Care, FakeClock, Script]:
    clock, watch = FakeClock(), Script(*(states or (state(),)))

    def sleep(seconds: float) -> None:
        clock.now_s += seconds

    return Care(adb, watch, sleep=sleep, clock=clock, **options), clock, watch  # type: ignore[arg-type]


def test_a_cool_phone_is_not_waited_for(adb: Shells) -> None:
    care, _, _ = make(adb, state(skin=30.0), target_c=35.0)
    assert care.ready(pytest.fail) == 0.0


def test_a_warm_phone_is_waited_for_until_it_is_below_the_target(adb: Shells) -> None:
    warm = [state(skin=c) for c in (37.0, 36.0, 35.5, 34.9)]
    care, _, _ = make(adb, *warm, target_c=35.0)
    told: list[str] = []
    assert care.ready(told.append) == 3 * module.POLL_S
    assert told == [f"cooling down: {c} degrees, to be 35" for c in ("37.0", "36.0", "35.5")]


def test_a_phone_that_stays_hot_ends_the_campaign_in_one_line(adb: Shells) -> None:
    care, clock, _ = make(adb, state(status="severe"), cool_down_s=60)
    with pytest.raises(SessionError, match=r"^phone R5: not cool after 60 s \(thermal status severe\); .*--resume$"):
        care.ready(lambda text: None)
    assert 60 <= clock.now_s < 60 + 2 * module.POLL_S


def old(big_khz: int = 2_400_000) -> DeviceState:
    """A state of a phone without a thermal service."""
    return state(status=None, big_khz=big_khz)


def test_a_cap_that_stays_lower_on_a_cool_phone_is_waited_for_once(adb: Shells) -> None:
    """As where a vendor's governor, or a battery saver, has moved it: it may never come back."""
    told: list[str] = []
    care, clock, watch = make(adb, old(), old(1_900_000), cool_down_s=60, tell=told.append)
    assert care.ready(pytest.fail) == 0.0
    assert care.verdict(old(), old(1_900_000)) is not None
    assert care.ready(lambda text: None) == 60.0
    assert told == [
        "phone R5: cores 2,3 capped at 1.90 of 2.40 GHz after 60 s of rest; its system wants it so: taken for normal"
    ]
    assert care.verdict(old(1_900_000), old(1_900_000)) is None and care.ready(pytest.fail) == 0.0
    watch.states = [old(2_400_000)]  # up and down again, as boosts do
    clock.now_s += 10
    assert care.ready(pytest.fail) == 0.0
    assert care.verdict(old(2_400_000), old(1_900_000)) is None and len(told) == 1
    assert care.verdict(old(1_900_000), old(1_200_000)) is not None  # lower still may be heat again


def test_a_cap_on_a_phone_that_is_also_too_warm_is_not_taken_for_normal(adb: Shells) -> None:
    warm = state(status=None, big_khz=1_900_000, skin=40.0)
    care, _, _ = make(adb, state(status=None, skin=30.0), warm, cool_down_s=60, target_c=35.0)
    assert care.ready(pytest.fail) == 0.0
    assert care.verdict(state(status=None, skin=30.0), warm) is not None
    with pytest.raises(SessionError, match="not cool after 60 s"):
        care.ready(lambda text: None)


def test_caps_are_waited_for_until_they_are_back_where_they_were(adb: Shells) -> None:
    care, _, _ = make(adb, old(), old(1_700_000), old(2_000_000), old())
    assert care.ready(pytest.fail) == 0.0
    assert care.verdict(old(), old(1_700_000)) == "cores 2,3 capped at 1.70 of 2.40 GHz after the round"
    assert care.ready(lambda text: None) == 3 * module.POLL_S  # 1.7 GHz was just seen, and then twice more


def test_a_state_that_was_just_read_is_not_read_again(adb: Shells) -> None:
    care, clock, watch = make(adb)
    assert care.verdict(state(), state()) is None
    care.ready(pytest.fail)
    assert watch.read == 0
    clock.now_s += 2.0
    care.ready(pytest.fail)
    assert watch.read == 1


def test_a_low_battery_ends_the_campaign_at_once(adb: Shells) -> None:
    care, clock, _ = make(adb, state(percent=19))
    with pytest.raises(SessionError, match=r"19 % of charge are left, and 20 % are the least; charge it"):
        care.ready(pytest.fail)
    assert clock.now_s == 0


def test_a_target_on_a_phone_without_a_thermometer_is_refused(adb: Shells) -> None:
    care, _, _ = make(adb, state(CPU0=50.0), target_c=35.0)
    with pytest.raises(BadInputError, match="neither skin nor battery"):
        care.ready(pytest.fail)


# --- fixed-performance mode -----------------------------------------------------------------------------------------


def test_the_mode_is_on_while_the_phone_is_taken_care_of(adb: Shells) -> None:
    care, _, _ = make(adb)
    with care:
        assert (adb.modes, adb.marked, care.fixed) == (["true"], True, True)
    assert (adb.modes, adb.marked, care.fixed) == (["true", "false"], False, False)


def test_it_is_switched_off_when_the_campaign_fails(adb: Shells) -> None:
    care, _, _ = make(adb)
    with pytest.raises(ZeroDivisionError), care:
        _ = 1 / 0
    assert (adb.modes, adb.marked) == (["true", "false"], False)


def test_a_phone_that_refuses_it_is_measured_without_and_that_is_said(adb: Shells) -> None:
    (adb.root / "offered").unlink()
    told: list[str] = []
    care, _, _ = make(adb, tell=told.append)
    with care:
        assert not care.fixed and care.ready(pytest.fail) == 0.0
    reason = "Failed to set FIXED_PERFORMANCE mode"
    assert told == [f"phone R5: no fixed-performance mode ({reason}); clocks may vary more"]
    assert (adb.modes, adb.marked) == ([], False)


def test_it_is_not_touched_where_it_is_not_wanted(adb: Shells) -> None:
    care, _, _ = make(adb, fixed_performance=False)
    with care:
        assert not care.fixed
    assert adb.modes == []


def test_without_room_for_its_marker_it_stays_off(adb: Shells) -> None:
    (adb.root / "mobench").write_text("a file where the folder is to be")
    told: list[str] = []
    care, _, _ = make(adb, tell=told.append)
    with care:
        assert not care.fixed
    assert adb.modes == [] and "refused" not in told[0] and "no room for a marker" in told[0]


def test_a_pulled_cable_switches_it_off(adb: Shells) -> None:
    """The client dies; the phone's shell sees the end of its input, and SIGHUP, and its output leads nowhere."""
    care, _, _ = make(adb)
    with care:
        assert care._holder is not None
        os.kill(int(care._owner), signal.SIGHUP)
        care._holder.kill()
        adb.settle("true", "false")
        adb.gone = True
    adb.settle("true", "false")


def test_a_server_that_was_restarted_gets_it_back_before_the_next_round(adb: Shells) -> None:
    care, _, _ = make(adb)
    with care:
        assert care._holder is not None
        care._holder.kill()
        care._holder.wait()
        adb.settle("true", "false")
        care.ready(pytest.fail)
        assert care.fixed and adb.modes == ["true", "false", "true"]
    adb.settle("true", "false", "true", "false")


def test_a_killed_run_leaves_it_off(adb: Shells, tmp_path: Path) -> None:
    """SIGKILL, so that nothing of ours can be done: the end of the phone's input is all there is."""
    script = f"""
        import sys, time
        from pathlib import Path
        sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}
        import test_care
        adb = object.__new__(test_care.Shells)
        for name in ("serial", "boot", "serialno", "gone"):
            setattr(adb, name, getattr(test_care.Shells, name))
        adb.root = Path({str(tmp_path)!r})
        test_care.make(adb)[0].__enter__()
        print("on", flush=True)
        time.sleep(60)
    """
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "on\n" and adb.modes == ["true"]
    run.kill()
    run.wait()
    run.stdout.close()
    adb.settle("true", "false")


def test_a_round_in_which_the_mode_ended_is_set_aside_and_the_mode_s_own_caps_are_no_throttling(adb: Shells) -> None:
    care, _, _ = make(adb)
    capped = old(1_900_000)  # as the mode wants it
    with care:
        assert care._holder is not None and care.verdict(capped, capped) is None
        care._holder.kill()
        care._holder.wait()
        adb.settle("true", "false")
        assert care.verdict(capped, old()) == "fixed-performance mode ended in the round"
        assert care.ready(pytest.fail) == 0.0 and care.fixed
        assert care.verdict(capped, capped) is not None  # 2.4 GHz, seen with the mode on, is what it allows
    assert adb.modes == ["true", "false", "true", "false"]


def test_a_mode_that_a_broken_link_kept_off_is_tried_again_before_the_next_round(adb: Shells) -> None:
    told: list[str] = []
    care, _, _ = make(adb, tell=told.append)
    command, adb.command = adb.command, lambda *_: ["echo", "error: device offline"]  # type: ignore[method-assign]
    with care:
        assert not care.fixed and "error: device offline" in told[0]
        adb.command = command  # type: ignore[method-assign]
        care.ready(pytest.fail)
        assert care.fixed and adb.modes == ["true"]
    assert adb.modes == ["true", "false"]


@pytest.fixture
def left_on(adb: Shells) -> Iterator[Shells]:
    """A phone whose holder was killed itself, by the system: the mode is on, and the marker there."""
    care, _, _ = make(adb)
    care.__enter__()
    os.kill(int(care._owner), signal.SIGKILL)
    adb.gone = True  # so that it cannot be repaired at once either
    care.__exit__()
    adb.gone = False
    assert (adb.modes, adb.marked) == (["true"], True)
    yield adb


def test_the_next_run_repairs_what_is_left_on_also_when_it_does_not_use_the_mode(left_on: Shells) -> None:
    told: list[str] = []
    care, _, _ = make(left_on, fixed_performance=False, tell=told.append)
    with care:
        assert (left_on.modes, left_on.marked) == (["true", "false"], False)
    assert told == ["phone R5: a run before was cut off; its fixed-performance mode is off again"]


def test_a_marker_of_another_boot_is_repaired_whoever_has_its_process_id_now(adb: Shells) -> None:
    folder = adb.root / "mobench"
    folder.mkdir()
    (folder / "fixed-performance").write_text(f"{os.getpid()} boot-0\n")
    with make(adb, fixed_performance=False)[0]:
        assert (adb.modes, adb.marked) == (["false"], False)


def test_a_run_that_is_alive_is_not_repaired_and_the_last_one_switches_it_off(adb: Shells) -> None:
    first, second = make(adb)[0], make(adb)[0]
    with second:
        with first:
            assert adb.modes == ["true", "true"]  # nobody switched it off in between
        assert (adb.modes, adb.marked) == (["true", "true", "false"], False)
    assert adb.modes == ["true", "true", "false"]
