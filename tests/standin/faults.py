"""What goes wrong with a phone: at once, or scripted for the moment when so many bytes have gone by.

Bytes are the payload of streams in both directions, counted from the moment a fault is armed, over the streams whose
service contains its ``where`` (``sync`` is push and pull; a program's name is in its shell's).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from standin.link import LinkLostError, Stream

if TYPE_CHECKING:
    from standin.device import StandIn

Kind = Literal[
    "cut",  # the cable is pulled in the middle of a message
    "offline",  # the connection drops, and on the next one the daemon does not answer
    "hang",  # the daemon answers nothing more, and the link stays
    "unauthorized",  # the connection drops, and the next one's key is not accepted
    "reboot",  # everything ends; a new boot_id
    "kill",  # the system kills what was pushed and runs (low memory)
    "server",  # the adb server on the host ends
    "full",  # not a byte more fits into the phone's storage
    "noexec",  # nothing in the phone's folder for programs may be run
    "garbage",  # bytes that nobody wrote come between others
    "half_line",  # output ends in the middle, with exit status 0
    "stutter",  # output comes in two batches
    "slow",  # programs run ten times as long, messages come late
    "clock",  # the wall clock jumps
]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
LOSES_LINK: tuple[Kind, ...] = ("cut", "offline", "unauthorized", "reboot", "server")
IN_OUTPUT: tuple[Kind, ...] = ("garbage", "half_line", "stutter")
PUSH_AND_PULL = "sync:"
_REACH = {"": 40_000, PUSH_AND_PULL: 40_000, "shell": 40_000}


class CutShortError(Exception):
    """A command's output ends with these bytes, as if that were all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, when, and for how long."""

    kind: Kind
    after_bytes: int = 0  # of the streams below; negative: at once
    where: str = ""  # part of the service's text
    back_s: float | None = 0.3  # until it is as before; None: until `StandIn.plug_in` or `recover`
    amount: float = 10.0  # slow: times as slow; clock: seconds; full: bytes that still fit


def sequence(seed: int, *, count: int = 3, reach: Mapping[str, int] = _REACH) -> tuple[Fault, ...]:
    """Return ``count`` random faults, the same for the same seed; each is armed when the one before has happened.

    Args:
        seed: what makes the sequence.
        count: how many faults.
        reach: the parts of services to choose from, and the most bytes that go by there before a fault.
    """
    random_ = random.Random(seed)
    faults = []
    for _ in range(count):
        kind = random_.choice(KINDS)
        where = random_.choice([part for part in reach if kind not in IN_OUTPUT or part != PUSH_AND_PULL])
        faults.append(
            Fault(
                kind=kind,
                after_bytes=int(reach[where] ** random_.random()),  # early moments as often as late ones
                where=where,
                back_s=round(random_.uniform(0.1, 0.8), 2),
                amount={"clock": random_.choice((-86_400.0, 3_600.0)), "full": 0.0}.get(kind, 10.0),
            )
        )
    # Files are pushed at the beginning: behind another fault theirs would wait in vain, and the next ones behind it.
    return tuple(sorted(faults, key=lambda fault: fault.where != PUSH_AND_PULL))


class Faults:
    """The faults of one device: those that are armed, and what is wrong now. Used in the device's own thread."""

    def __init__(self, device: StandIn, script: tuple[Fault, ...] = ()) -> None:
        self.happened: list[Fault] = []
        self.slowness = 1.0
        self._device = device
        self._script = list(script)
        self._passed = 0

    def arm(self, *faults: Fault) -> None:
        """Add faults behind those that wait."""
        self._script += faults

    def clear(self) -> None:
        """Forget those that wait."""
        self._script.clear()

    def waiting(self) -> int:
        """Return how many faults have not happened yet."""
        return len(self._script)

    async def delay(self, length: int) -> None:
        """Wait as long as a slow phone needs to send ``length`` bytes."""
        if self.slowness > 1:
            await asyncio.sleep(min(0.2, (self.slowness - 1) * (0.001 + length / 50e6)))

    def count(self, stream: Stream | None, data: bytes) -> bytes:
        """Let a stream's bytes pass, or those before a fault; raises LinkLostError where that took the link."""
        if not self._script or stream is None:
            return data
        fault = self._script[0]
        if fault.kind in IN_OUTPUT or fault.where not in stream.service:
            return data
        self._passed += len(data)
        if self._passed <= fault.after_bytes:
            return data
        self._next()
        self._device.strike(fault)
        if fault.kind in LOSES_LINK:
            raise LinkLostError
        return data

    async def mangle(self, stream: Stream, data: bytes) -> list[bytes]:
        """Return what comes of a command's output, in batches; raises CutShortError where it ends here."""
        fault = self._script[0] if self._script else None
        if fault is None or fault.kind not in IN_OUTPUT or fault.where not in stream.service:
            return [data]
        passed, self._passed = self._passed, self._passed + len(data)
        if self._passed <= fault.after_bytes:
            return [data]
        self._next()
        self.happened.append(fault)
        at = max(0, min(len(data) - 1, fault.after_bytes - passed))
        if fault.kind == "garbage":
            return [data[:at] + bytes(range(128, 160)) + b"\0garbage\n" + data[at:]]
        if fault.kind == "stutter":
            return [data[:at], data[at:]]
        raise CutShortError(data[:at])

    def _next(self) -> None:
        self._script.pop(0)
        self._passed = 0


def until(done: Callable[[], bool], deadline_s: float = 5.0) -> bool:
    """Wait in a test until something holds; return whether it came to it."""
    end = time.monotonic() + deadline_s
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
