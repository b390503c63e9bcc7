"""The devices that campaigns are measured on, as hosts: this machine, or a phone behind adb."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mobench import checking
from mobench.downloads import cache_folder
from mobench.errors import BadInputError, MobenchError
from mobench.hosts import Care, Host, Session, Tell, Watch
from mobench.records import TOOL_FORMATS, Cell, Check, Target
from runners import desktop, device_state, native_tools
from runners.adb import Adb
from runners.android import phone, sessions
from runners.android.care import Care as PhoneCare
from runners.android.folder import Folder
from runners.android.source import PhoneSource, PhoneWatch, ThroughSession
from runners.android.tools import OnPhone
from runners.tool_places import Here, Place

if TYPE_CHECKING:
    import numpy as np


class _Reference:
    """The outputs of each file on this machine's CPU, for checks."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._outputs: dict[str, tuple[str, np.ndarray]] = {}

    def check(self, cell: Cell, session: Any) -> Check:
        """Compare a session's outputs with the file's own on this machine's CPU."""
        sha256 = cell.artifact.sha256
        if sha256 not in self._outputs:
            with desktop.open_session(
                cell.artifact, Target(runtime=cell.target.runtime), shape=self._shape
            ) as reference:
                outputs = reference.predict(checking.inputs(reference.ready))
                named = f"{reference.ready.got} on this machine"
                self._outputs[sha256] = named, checking.real(outputs, reference.ready.outputs[0])
        named, expected = self._outputs[sha256]
        outputs = session.predict(checking.inputs(session.ready))
        return checking.compare(cell, expected, checking.real(outputs, session.ready.outputs[0]), named=named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """The user's own benchmark program, and the folder that keeps what each run of it printed."""

    binary: Path
    logs: Path

    def open_session(self, cell: Cell, place: Place) -> Session:
        """Bring the program and a cell's model to where they are to run, and run it once."""
        return native_tools.open_tool_session(
            cell.target.runtime, self.binary, cell.artifact, cell.target, place=place, logs=self.logs
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Under what conditions a phone is measured.

    A round begins only at or below ``cool_to_c`` (skin or battery; None: whenever it does not throttle), for which it
    waits ``cool_down_s`` at most, and while the battery holds ``min_battery`` percent.
    """

    cool_to_c: float | None = None
    cool_down_s: float = 300.0
    min_battery: int = 20


class DesktopHost:
    """This machine."""

    care: Care | None = None

    def __init__(self, *, shape: tuple[int, ...] = (), check: bool = False, tool: Tool | None = None) -> None:
        """Take this machine; ``shape`` is the first input's, for models that leave it open."""
        self._shape, self._tool = shape, tool
        self._reference = _Reference(shape) if check else None
        self.watch: Watch = device_state.Watch()  # now: the first state has a span behind it to tell others' load of

    def choose_cores(self, threads: int) -> tuple[int, ...]:
        """Return the fastest of the allowed cores."""
        return desktop.choose_cores(threads)

    def machine(self) -> dict[str, Any]:
        """Describe this machine."""
        return device_state.machine()

    def private(self) -> tuple[str, ...]:
        """Return nothing: a machine's name is in no journal."""
        return ()

    def conditions(self) -> dict[str, Any]:
        """Return what else was asked, as `open_host` takes it again."""
        return _conditions(self._reference, self._tool, None)

    def open_session(self, cell: Cell) -> Session:
        """Load a cell's model in a child process."""
        if self._tool and cell.target.runtime in TOOL_FORMATS:
            return self._tool.open_session(cell, Here())
        return desktop.open_session(cell.artifact, cell.target, shape=self._shape)

    def check(self, cell: Cell, session: Session) -> Check | None:
        """Compare a session's outputs with those of the runtime's own choice for a CPU, where that was asked for."""
        return self._reference.check(cell, session) if self._reference else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return


@contextmanager
def _alone(on: phone.Phone) -> Iterator[None]:
    """Keep other mobenches of this machine off a phone: each would measure the other.

    Raises:
        BadInputError: one is measuring on it.
    """
    path = cache_folder() / "android" / "locks" / _digest(on.serialno or on.serial)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed when it is closed, also by a crash
        except BlockingIOError as error:
            why = "another mobench is measuring on it"
            raise BadInputError(f"{on.name} ({on.serial})", why, "wait for it, or stop it") from error
        yield


def _digest(serialno: str) -> str:
    return hashlib.sha256(serialno.encode()).hexdigest()[:16]


class PhoneHost:
    """A phone behind adb. Entering it finds it, takes care of it and cleans up after a run that was cut off."""

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
        self._reference = _Reference(shape) if check else None
        self._stack = ExitStack()
        self.care: Care | None = None

    def __enter__(self) -> Self:
        """Find the phone and take it.

        Raises:
            BadInputError: there is none, there are several, or it does not let us in.
            LinkError: it went out of reach.
        """
        with ExitStack() as stack:
            self._take(stack)
            self._stack = stack.pop_all()
        return self

    def _take(self, stack: ExitStack) -> None:
        self.phone = phone.find(self._serials)[0]
        stack.enter_context(_alone(self.phone))
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

    def choose_cores(self, threads: int) -> tuple[int, ...]:
        """Return cores of one kind, as fast as there are so many of."""
        return phone.choose_cores(self.phone, threads)

    def machine(self) -> dict[str, Any]:
        """Describe the phone. Its serial number, which is personal, stands as a digest."""
        said = dataclasses.asdict(self.phone)
        serialno = said.pop("serialno")
        del said["serial"], said["boot_id"]
        return device_state.machine(self._source) | {
            "cpu": f"{self.phone.name} ({self.phone.soc})" if self.phone.soc else self.phone.name,
            "phone": said,
            "phone_id": _digest(serialno),
            "fixed_performance": getattr(self.care, "fixed", False),
        }

    def private(self) -> tuple[str, ...]:
        """Return the phone's serial number and adb's name of it, which errors call it by."""
        return self.phone.serial, self.phone.serialno

    def conditions(self) -> dict[str, Any]:
        """Return what else was asked, as `open_host` takes it again."""
        return _conditions(self._reference, self._tool, self._limits)

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


def _conditions(reference: _Reference | None, tool: Tool | None, limits: Limits | None) -> dict[str, Any]:
    """Return the keyword arguments of `open_host` as JSON has them."""
    return {
        "check": reference is not None,
        "tool": {"binary": str(tool.binary.absolute()), "logs": str(tool.logs.absolute())} if tool else None,
        "limits": dataclasses.asdict(limits) if limits else None,
    }


def as_before(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments with which `open_host` opens a host whose ``conditions()`` these were."""
    tool, limits = conditions.get("tool"), conditions.get("limits")
    return {
        "check": bool(conditions.get("check")),
        "tool": Tool(binary=Path(tool["binary"]), logs=Path(tool["logs"])) if tool else None,
        "limits": Limits(**limits) if limits else None,
    }


def open_host(
    on: Collection[str],
    *,
    serials: Sequence[str] = (),
    shape: tuple[int, ...] = (),
    check: bool = False,
    tool: Tool | None = None,
    limits: Limits | None = None,
    tell: Tell = lambda line: None,
) -> Host:
    """Return the host of the named devices, not yet entered.

    Args:
        on: devices, as `mobench run --device` names them.
        serials: of the phone, for adb: one, or none where only one is attached.
        shape: first input's shape for models that leave it open.
        check: compare each session's outputs with a reference.
        tool: the user's own benchmark program, for cells whose runtime it is.
        limits: under what conditions a phone is measured.
        tell: told, in a line, what was done to a phone or could not be done.

    Raises:
        BadInputError: devices of different machines, or a serial number or limits without a phone.
    """
    phones = {device for device in on if device.startswith("android-")}
    if phones and phones != set(on):
        why = "a campaign is of one machine, so that its cells can take turns"
        raise BadInputError(f"--device {', '.join(sorted(on))}", why, "run one after the other")
    if check and tool:
        raise BadInputError("--check", "a tool of one's own does not show its outputs", "leave it out")
    if phones:
        return PhoneHost(serials, shape=shape, check=check, tool=tool, limits=limits, tell=tell)
    if serials:
        raise BadInputError(f"--serial {serials[0]}", "it names a phone", "with --device android-cpu or android-gpu")
    if limits and limits != Limits():
        raise BadInputError("--cool-to, --min-battery", "they are for phones", "leave them out")
    return DesktopHost(shape=shape, check=check, tool=tool)
