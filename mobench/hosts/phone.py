"""A phone behind adb as a host."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from typing import Any, Self

from mobench.downloads import cache_folder
from mobench.errors import BadInputError, MobenchError
from mobench.hosts import Care, Meter, Session, Tell, Watch
from mobench.hosts.conditions import Limits, Tool, as_fields
from mobench.hosts.reference import Reference
from mobench.records import TOOL_FORMATS, Cell, Check
from runners import device_state
from runners.adb import Adb
from runners.android import phone, sessions
from runners.android.care import Care as PhoneCare
from runners.android.folder import Folder
from runners.android.source import PhoneSource, PhoneWatch, ThroughSession
from runners.android.tools import OnPhone


@contextmanager
def alone(on: phone.Phone) -> Iterator[None]:
    """Keep other mobenches of this machine off a phone: each would measure the other.

    Raises:
        BadInputError: one is measuring on it.
    """
    path = cache_folder() / "android" / "locks" / digest(on.serialno or on.serial)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed when it is closed, also by a crash
        except BlockingIOError as error:
            why = "another mobench is measuring on it"
            raise BadInputError(f"{on.name} ({on.serial})", why, "wait for it, or stop it") from error
        yield


def digest(serialno: str) -> str:
    """Return what stands for a serial number, which is personal, where anybody may read it."""
    return hashlib.sha256(serialno.encode()).hexdigest()[:16]


class PhoneHost:
    """A phone behind adb. Entering it finds it, takes care of it and cleans up after a run that was cut off."""

    meter: Meter | None = None

    def __init__(
        self,
        serials: Sequence[str] = (),
        *,
        shape: tuple[int, ...] = (),
        check: bool = False,
        tool: Tool | None = None,
        limits: Limits | None = None,
        tell: Tell = lambda line: None,
    ) -> None:
        """Say which phone; ``serials`` is empty where only one is attached. ``tell`` hears what was done to it."""
        self._tell = tell
        self._serials, self._shape, self._tool, self._limits = serials, shape, tool, limits or Limits()
        self._reference = Reference(shape) if check else None
        self._stack = ExitStack()
        self.care: Care | None = None

    def __enter__(self) -> Self:
        """Find the phone and take it.

        Raises:
            BadInputError: there is none, there are several, it does not let us in, or no harness is for its ABI.
            LinkError: it went out of reach.
        """
        with ExitStack() as stack:
            self._take(stack)
            self._stack = stack.pop_all()
        return self

    def _take(self, stack: ExitStack) -> None:
        if self._tool is None:
            _ = self.phone.abi  # a phone without one of ours is refused here and once, not in every cell
        stack.enter_context(alone(self.phone))
        self._adb = Adb(self.phone.serial)
        self._folder = Folder(self._adb)
        self._folder.clean()
        self._source = PhoneSource(self._adb)
        self._near = ThroughSession(self._source)
        self.watch: Watch = PhoneWatch(self._near, self._folder.processes)
        self.care = stack.enter_context(
            PhoneCare(
                self._adb,
                self.watch,
                target_c=self._limits.cool_to_c,
                cool_down_s=self._limits.cool_down_s,
                min_battery=self._limits.min_battery,
                tell=self._tell,
            )
        )

    def __exit__(self, *exception: object) -> None:
        """Give the phone back as it was."""
        try:
            with suppress(MobenchError):  # out of reach: the next run cleans
                Folder(self._adb).clean()  # a new one, which takes nothing of ours for alive, such as a push cut short
        finally:
            self._stack.close()

    @cached_property
    def phone(self) -> phone.Phone:
        """What the phone is; it is asked once, and nothing is done to it.

        Raises:
            BadInputError, LinkError: as when it is entered.
        """
        return phone.find(self._serials)[0]

    def choose_cores(self, threads: int) -> tuple[int, ...]:
        """Return cores of one kind, as fast as there are so many of; also of a phone that is not taken."""
        return phone.choose_cores(self.phone, threads)

    def machine(self) -> dict[str, Any]:
        """Describe the phone. Its serial number, which is personal, stands as a digest."""
        said = dataclasses.asdict(self.phone)
        serialno = said.pop("serialno")
        del said["serial"], said["boot_id"]
        return device_state.machine(self._source) | {
            "cpu": f"{self.phone.name} ({self.phone.soc})" if self.phone.soc else self.phone.name,
            "phone": said,
            "phone_id": digest(serialno),
            "fixed_performance": getattr(self.care, "fixed", False),
        }

    def private(self) -> tuple[str, ...]:
        """Return the phone's serial number and adb's name of it, which errors call it by."""
        return self.phone.serial, self.phone.serialno

    def conditions(self) -> dict[str, Any]:
        """Return what else was asked, as `open_host` takes it again."""
        return as_fields(self._reference is not None, self._tool, self._limits)

    def open_session(self, cell: Cell) -> Session:
        """Push what is not there yet, and load a cell's model in a harness on the phone."""
        if self._tool and cell.target.runtime in TOOL_FORMATS:
            return self._tool.open_session(cell, OnPhone(self._adb, self._folder))
        session = sessions.open_session(
            self.phone, self._adb, self._folder, cell.artifact, cell.target, shape=self._shape
        )
        self._near.follow(session)
        return session

    def check(self, cell: Cell, session: Session) -> Check | None:
        """Compare a session's outputs with those of the same file on this machine's CPU, where that was asked for."""
        return self._reference.check(cell, session) if self._reference else None
