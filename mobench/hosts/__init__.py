"""What a campaign needs of the device it measures on: its sessions, its state, and the care taken of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, Self

from mobench.errors import LinkError
from mobench.records import Cell, Check, DeviceState, Energy, Ready, Timing

Tell = Callable[[str], None]


class Session(Protocol):
    """What a campaign needs of a session."""

    @property
    def ready(self) -> Ready:
        """What it said once its model was loaded."""
        ...

    def time(self, *, lead_in: int, timed: int, deadline_s: float) -> Timing:
        """Run untimed, then timed inferences."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class Watch(Protocol):
    """What a campaign needs to know of the device."""

    def state(self, when: Literal["before", "during", "after"], t_s: float) -> DeviceState:
        """Describe the device now."""
        ...

    def steal_ticks(self) -> int:
        """Return the time a hypervisor gave to others since boot, in ticks of 10 ms; 0 where unknown."""
        ...

    def energy_uj(self) -> int | None:
        """Return the energy the processors took since some moment; None where the device does not tell."""
        ...

    def memory_available_mb(self) -> int | None:
        """Return how much memory is free for programs; None where unknown."""
        ...


class Meter(Protocol):
    """What tells the energy of a device whose counter moves too seldom for a block."""

    def begin(self) -> bool:
        """Begin a span; return whether the device tells what it takes in one."""
        ...

    def end(self) -> Energy | None:
        """Return what it took since `begin`; None where it did not tell."""
        ...


class Care(Protocol):
    """What is done around rounds on a device that heats up, runs on a battery and can be unplugged."""

    def ready(self, tell: Tell) -> float:
        """Wait until the device is cool; return the seconds that took.

        Raises:
            NotReadyError: it does not cool down in time, or its battery is low.
        """
        ...

    def verdict(self, before: DeviceState, after: DeviceState) -> str | None:
        """Return why what was timed between two states does not count, None where it does."""
        ...

    def reconnect(self, error: LinkError, tell: Tell) -> Mapping[str, Any]:
        """Wait until the same device is back; return ``waited_s`` and ``boot``, ``same`` or ``new``.

        Raises:
            LinkError: it did not come back in time.
        """
        ...


class Host(Protocol):
    """A device on which a campaign is measured, taken for as long as it is entered."""

    @property
    def watch(self) -> Watch:
        """Its state."""
        ...

    @property
    def care(self) -> Care | None:
        """The care it needs; None for a desktop."""
        ...

    @property
    def meter(self) -> Meter | None:
        """What tells the energy that one model alone takes; None where blocks tell it, or nothing does."""
        ...

    def choose_cores(self, threads: int) -> tuple[int, ...]:
        """Return the affinity mask for so many threads."""
        ...

    def machine(self) -> dict[str, Any]:
        """Describe it for the campaign's header."""
        ...

    def private(self) -> tuple[str, ...]:
        """Return words that must not stand in a journal, which may be published."""
        ...

    def conditions(self) -> dict[str, Any]:
        """Return what was asked beside the cells, for a campaign that is taken up again."""
        ...

    def open_session(self, cell: Cell) -> Session:
        """Load a cell's model in a fresh process."""
        ...

    def check(self, cell: Cell, session: Session) -> Check | None:
        """Compare a live session's outputs with a reference; None where that was not asked for."""
        ...

    def __enter__(self) -> Self:
        """Take the device."""
        ...

    def __exit__(self, *exception: object) -> None:
        """Give it back as it was."""
        ...
