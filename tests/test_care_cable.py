"""Care of a phone whose cable is pulled: the one that comes back, in time or not, or another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_care import Shells, make

from mobench.errors import LinkError
from runners.adb import Answer
from runners.android import care as module

LOST = LinkError("phone R5", "device not found", "plug it in")


@pytest.fixture
def adb(tmp_path: Path) -> Shells:
    return Shells(tmp_path)


def test_a_phone_that_is_back_goes_on_with_the_mode_on(adb: Shells) -> None:
    care, clock, _ = make(adb)
    told: list[str] = []
    with care:
        adb.gone, adb.waits = True, [False, False, True]
        adb.on_wait = lambda: setattr(clock, "now_s", clock.now_s + 30)
        back = care.reconnect(LOST, told.append)
        assert back == {"waited_s": 90.0 + module.SETTLE_S, "boot": "same"}
        assert care.fixed and len(told) == 3 and "device not found" in told[0]
    assert adb.modes == ["true", "false", "true", "false"]


def test_a_reboot_in_between_is_noted(adb: Shells) -> None:
    care, _, _ = make(adb)
    with care:
        adb.boot = "boot-2"
        assert care.reconnect(LOST, lambda text: None)["boot"] == "new"
        assert care.reconnect(LOST, lambda text: None)["boot"] == "same"


def test_another_phone_on_the_same_address_is_refused(adb: Shells) -> None:
    care, _, _ = make(adb)
    with care:
        adb.serialno = "R6"
        with pytest.raises(LinkError, match=r"another phone answers \(R6\)"):
            care.reconnect(LOST, lambda text: None)


def test_a_phone_that_flaps_is_waited_for(adb: Shells) -> None:
    care, clock, _ = make(adb, fixed_performance=False)
    with care:
        shell, losses = adb.shell, [LOST, LOST]

        def flapping(script: str, *, deadline_s: float = 30.0, idempotent: bool = False) -> Answer:
            if losses:
                raise losses.pop()
            return shell(script, deadline_s=deadline_s)

        adb.shell = flapping  # type: ignore[method-assign]
        back: Mapping[str, Any] = care.reconnect(LOST, lambda text: None)
        assert back["waited_s"] == 2 * module.POLL_S and clock.now_s == 2 * module.POLL_S


def test_a_phone_that_does_not_come_back_ends_the_campaign(adb: Shells) -> None:
    care, clock, _ = make(adb)
    with care:
        adb.waits = [False] * 100
        adb.on_wait = lambda: setattr(clock, "now_s", clock.now_s + 30)
        with pytest.raises(LinkError, match=r"not back after 900 s; plug it in and take the campaign up again"):
            care.reconnect(LOST, lambda text: None)
        adb.waits, adb.gone = [], False
