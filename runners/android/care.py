"""The care a phone needs while it is measured: cool rounds, a charged battery, a steady mode, a cable that is back.

What is decided is decided by functions of a DeviceState; `Care` waits, and talks to the phone.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Protocol, Self

from mobench.errors import BadInputError, LinkError, MobenchError, NotReadyError
from mobench.records import DeviceState
from runners.adb import Adb

Caps = dict[tuple[int, ...], int]  # the highest cap seen of each cluster's clock, kHz

MARKER = "/data/local/tmp/mobench/fixed-performance"  # on the phone while the mode is on: the holder's id, the boot
POLL_S = 5.0  # skin and battery take minutes to cool: a state every few seconds is enough, and heats nothing
FRESH_S = 1.0  # a state that was read this short a time ago is the present one
ANSWER_S = 10.0  # for the phone's power service, and for a shell that was asked to end
SETTLE_S = 1.0  # until the clocks are as the mode wants them
RECONNECT_S = 900.0
_PLAUSIBLE_C = (-30.0, 100.0)  # sensors without a reading tell 0x7fff, -273 and the like

_MODE = "cmd power set-fixed-performance-mode-enabled"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BOOT = f"boot=$(cat {_BOOT_ID} 2>/dev/null || grep btime /proc/stat)"
# The holder runs on the phone for as long as its stdin is open: it ends, and switches the mode off, when this process
# closes it or dies, and when the cable is pulled. It then gets SIGHUP, and its output leads nowhere. Another holder may
# have taken the mode over meanwhile: the marker says who is to switch it off.
_HOLD = f"""trap '' HUP INT TERM PIPE
{_BOOT}
if ! {{ mkdir -p {MARKER.rpartition("/")[0]} && echo $$ $boot >{MARKER}; }}
then echo refused no room for a marker; exit; fi
if said=$({_MODE} true 2>&1); then
echo fixed $$; cat >/dev/null
read owner boot <{MARKER} && [ "$owner" = $$ ] && {_MODE} false >/dev/null 2>&1 && rm -f {MARKER}
else rm -f {MARKER}; echo refused $said; fi"""
_REPAIR = f"""{_BOOT}
echo serialno=$(getprop ro.serialno); echo boot=$boot
if read owner was <{MARKER} && ! {{ [ "$was" = "$boot" ] && kill -0 $owner; }}
then {_MODE} false >&2 && rm -f {MARKER} && echo repaired; fi 2>/dev/null"""
_RELEASE = f"""if read owner boot <{MARKER} && [ "$owner" = %s ]
then {_MODE} false && rm -f {MARKER}; fi >/dev/null 2>&1"""


class Watch(Protocol):
    """What care needs to know of the phone."""

    def state(self, when: Literal["before", "during", "after"], t_s: float) -> DeviceState:
        """Describe the phone now."""
        ...


def body_c(state: DeviceState) -> float | None:
    """Return the temperature that says how much heat a phone still takes: its skin's, else its battery's.

    A processor's own sensors follow the load within milliseconds; throttling is decided by the skin.
    """
    plausible = {name: c for name, c in state.temps_c.items() if _PLAUSIBLE_C[0] < c < _PLAUSIBLE_C[1]}
    skin = [c for name, c in plausible.items() if "skin" in name.lower()]
    battery = [c for name, c in plausible.items() if "battery" in name.lower()]
    return max(skin or battery, default=None)


def add_caps(caps: Caps, state: DeviceState, settled: Collection[tuple[int, ...]] = ()) -> None:
    """Raise each cluster's cap in ``caps`` to that of ``state``, where this one is higher; not those of ``settled``."""
    for cluster in state.clusters:
        if cluster.cap_khz is not None and cluster.cores not in settled:
            caps[cluster.cores] = max(caps.get(cluster.cores, 0), cluster.cap_khz)


def throttling(state: DeviceState, caps: Caps) -> str | None:
    """Return the sign by which a phone was throttled in a state, None where there is none.

    Android's own word, from ``light`` on. Where a phone has none (Android 9), a clock whose cap is below the highest
    one seen; elsewhere a cap says nothing: vendors move them for boosts, idle cores and to save power as well.
    """
    if state.thermal_status is not None:
        return None if state.thermal_status == "none" else f"thermal status {state.thermal_status}"
    for cluster in state.clusters:
        before_khz = caps.get(cluster.cores, 0)
        if cluster.cap_khz is not None and cluster.cap_khz < before_khz:
            cores = ",".join(map(str, cluster.cores))
            return f"cores {cores} capped at {cluster.cap_khz / 1e6:.2f} of {before_khz / 1e6:.2f} GHz"
    return None


def verdict(before: DeviceState, after: DeviceState, caps: Caps) -> str | None:
    """Return why what ran between two states does not count, None where it does."""
    for state, moment in ((before, "before"), (after, "after")):
        if why := throttling(state, caps):
            return f"{why} {moment} the round"
    return None


def obstacle(state: DeviceState, caps: Caps, target_c: float | None) -> str | None:
    """Return what a round has to wait for, None where it may begin."""
    if why := throttling(state, caps):
        return why
    now_c = body_c(state)
    if target_c is not None and now_c is not None and now_c > target_c:
        return f"{now_c:.1f} degrees, to be {target_c:g}"
    return None


def is_low(state: DeviceState, min_battery: int) -> bool:
    """Return whether the battery is below the guard: Android then saves power, and so caps clocks, on its own."""
    return state.battery_percent is not None and state.battery_percent < min_battery


class Care:
    """Takes care of one phone while it is entered. `mobench.hosts.Care` says what a campaign asks of it."""

    def __init__(
        self,
        adb: Adb,
        watch: Watch,
        *,
        target_c: float | None = None,
        cool_down_s: float = 300.0,
        min_battery: int = 20,
        fixed_performance: bool = True,
        tell: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Say what care to take; nothing is done to the phone before it is entered.

        Args:
            adb: the phone.
            watch: its state.
            target_c: rounds begin below this temperature of skin or battery; None: at any, only not throttled.
            cool_down_s: how long a round may be waited for.
            min_battery: percent below which nothing is measured.
            fixed_performance: use Android's mode for steady clocks, where the phone offers it.
            tell: told, in a line, what was done to the phone and could not be done.
            sleep: waits.
            clock: seconds, from any zero.
        """
        self._adb, self._watch, self._tell = adb, watch, tell
        self._target_c, self._cool_down_s, self._min_battery = target_c, cool_down_s, min_battery
        self._sleep, self._clock = sleep, clock
        self._holder: subprocess.Popen[bytes] | None = None
        self._owner = ""  # the holder's id on the phone
        self._caps: Caps = {}
        self._settled: set[tuple[int, ...]] = set()  # clusters whose lower cap has outlasted a cool-down
        self._last: tuple[float, DeviceState] | None = None
        self._began = clock()
        self._serialno = self._boot = ""
        self.fixed = False  # whether the mode is on; the campaign's header says so
        self._refused, self._again = not fixed_performance, False

    def __enter__(self) -> Self:
        """Switch off what a run before may have left on, then hold the mode.

        Raises:
            LinkError: the phone is out of reach.
        """
        self._serialno, self._boot = self._identify()
        self._hold()
        return self

    def __exit__(self, *_: object) -> None:
        """Switch the mode off again. Never raises: the phone does it by itself where this process cannot."""
        self._release()

    def ready(self, tell: Callable[[str], None]) -> float:
        """Wait until the phone is neither throttled nor too warm; return the seconds that took, 0 without waiting.

        A cap that is still lower when the time is up, on a phone that is else fine, is no throttling: it is taken for
        normal from then on.

        Raises:
            NotReadyError: it did not cool down in time, or its battery is below the guard.
            BadInputError: a temperature is asked for, and the phone tells none.
            LinkError: the phone is out of reach.
        """
        if self._is_lost() or self._again:
            self._hold()
        began, waited = self._clock(), False
        state = self._present()
        while True:
            if is_low(state, self._min_battery):
                why = f"{state.battery_percent} % of charge are left, and {self._min_battery} % are the least"
                raise NotReadyError(
                    f"phone {self._adb.serial}", why, "charge it; then run again, a campaign with --resume"
                )
            if self._target_c is not None and body_c(state) is None:
                why = "it tells the temperature of neither skin nor battery"
                raise BadInputError(f"phone {self._adb.serial}", why, "leave out the temperature to cool down to")
            why_not = obstacle(state, self._caps, self._target_c)
            if why_not is None:
                return self._clock() - began if waited else 0.0
            if self._clock() - began >= self._cool_down_s:
                if obstacle(state, {}, self._target_c) is None:
                    self._settle(state)
                    continue
                mend = "take it out of its case, or off the charger; then run again, a campaign with --resume"
                why = f"not cool after {self._cool_down_s:g} s ({why_not})"
                raise NotReadyError(f"phone {self._adb.serial}", why, mend)
            tell(f"cooling down: {why_not}")
            waited = True
            self._sleep(POLL_S)
            state = self._read()

    def verdict(self, before: DeviceState, after: DeviceState) -> str | None:
        """Return why what was timed between two states does not count, None where it does."""
        if self._is_lost():  # adb's server was restarted: the mode ended with the old one, and its caps with it
            self._last = None
            return "fixed-performance mode ended in the round"
        add_caps(self._caps, before, self._settled)
        add_caps(self._caps, after, self._settled)
        self._last = self._clock(), after
        return verdict(before, after, self._caps)

    def reconnect(self, error: LinkError, tell: Callable[[str], None]) -> Mapping[str, Any]:
        """Wait until the same phone is back; return ``waited_s`` and ``boot``: the ``same``, or a ``new`` one.

        Raises:
            LinkError: it did not come back in time, or another phone answers in its place.
        """
        began, self._last = self._clock(), None
        while (left_s := RECONNECT_S - (self._clock() - began)) > 0:
            tell(f"{error}: waiting for the phone")
            try:
                if not self._adb.wait(min(left_s, 30.0)):
                    continue
                serialno, boot = self._identify()
            except LinkError:  # there, and gone again
                self._sleep(min(POLL_S, left_s))
                continue
            if serialno != self._serialno:
                raise LinkError(error.what, f"another phone answers ({serialno})", "plug the first one in again")
            same, self._boot = boot == self._boot, boot
            with contextlib.suppress(LinkError):  # the campaign's next request meets it again
                self._hold()
            return {"waited_s": round(self._clock() - began, 3), "boot": "same" if same else "new"}
        raise LinkError(error.what, f"not back after {RECONNECT_S:g} s", "plug it in and take the campaign up again")

    def _settle(self, state: DeviceState) -> None:
        """Take the caps of a state for normal, where they are lower than before."""
        for cluster in state.clusters:
            if cluster.cap_khz is not None and cluster.cap_khz < self._caps.get(cluster.cores, 0):
                if not self._settled:
                    why = f"{throttling(state, self._caps)} after {self._cool_down_s:g} s of rest"
                    self._tell(f"phone {self._adb.serial}: {why}; its system wants it so: taken for normal")
                self._caps[cluster.cores] = cluster.cap_khz
                self._settled.add(cluster.cores)

    def _present(self) -> DeviceState:
        """Return the last state if that was just read, else a new one: a reading is a trip over the cable."""
        if self._last is not None and self._clock() - self._last[0] < FRESH_S:
            return self._last[1]
        return self._read()

    def _read(self) -> DeviceState:
        state = self._watch.state("during", round(self._clock() - self._began, 6))
        add_caps(self._caps, state, self._settled)
        self._last = self._clock(), state
        return state

    def _identify(self) -> tuple[str, str]:
        """Return the phone's own serial number and the id of its boot; undo what a dead run left behind."""
        answer = self._adb.shell(_REPAIR, deadline_s=ANSWER_S, idempotent=True)
        said = dict(line.strip().partition("=")[::2] for line in answer.out.splitlines())
        if "repaired" in said:
            self._tell(f"phone {self._adb.serial}: a run before was cut off; its fixed-performance mode is off again")
        return said.get("serialno", ""), said.get("boot", "")

    def _is_lost(self) -> bool:
        return self._holder is not None and self._holder.poll() is not None

    def _hold(self) -> None:
        """Switch the mode on, unless it is not wanted or the phone has refused it."""
        self._release()
        self._again = False
        if self._refused:
            return
        self._holder = holder = subprocess.Popen(
            self._adb.command("shell", _HOLD),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the holder in order
        )
        said = _first_words(holder, ("fixed", "refused"), ANSWER_S)
        self.fixed = said.startswith("fixed")
        self._owner = said.split()[1] if self.fixed else ""
        if self.fixed:
            self._caps, self._settled, self._last = {}, set(), None  # the mode has lower caps of its own
            self._sleep(SETTLE_S)
        else:
            self._release()
            self._refused = said.startswith("refused")
            self._again = not self._refused  # the link failed: the next round tries again
            why = said.removeprefix("refused").strip()[:120] or "no answer"
            self._tell(f"phone {self._adb.serial}: no fixed-performance mode ({why}); clocks may vary more")

    def _release(self) -> None:
        """End the holder, and switch the mode off in its place where it does not come to it."""
        holder, owner = self._holder, self._owner
        self._holder, self._owner, self.fixed = None, "", False
        if holder is None:
            return
        if holder.stdin is not None:
            with contextlib.suppress(OSError):
                holder.stdin.close()
        try:
            done = holder.wait(ANSWER_S) == 0
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.wait()
            done = False
        if holder.stdout is not None:
            holder.stdout.close()
        if owner and not done:
            with contextlib.suppress(MobenchError):  # out of reach: its shell sees the end of its input
                if self._adb.shell(_RELEASE % owner, deadline_s=ANSWER_S, idempotent=True).status:
                    self._tell(f"phone {self._adb.serial}: its fixed-performance mode stays on; restart the phone")


def _first_words(process: subprocess.Popen[bytes], starts: tuple[str, ...], deadline_s: float) -> str:
    """Return the first line that begins as one of ``starts``; else what came until the end or the deadline."""
    assert process.stdout is not None
    end, text = time.monotonic() + deadline_s, b""
    poll = select.poll()
    poll.register(process.stdout.fileno(), select.POLLIN | select.POLLHUP)
    while (left_ms := (end - time.monotonic()) * 1000) > 0 and poll.poll(left_ms):
        chunk = os.read(process.stdout.fileno(), 4096)
        if not chunk:
            break
        text += chunk
        for line in text.decode(errors="replace").split("\n")[:-1]:
            if line.startswith(starts):
                return line.strip()
    return " ".join(text.decode(errors="replace").split())
