"""A session without a model: replays scripted latencies and faults on a clock of its own, for exact tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from mobench.errors import SessionError
from mobench.records import Cell, Check, DeviceState, Ready, Timing


@dataclass(slots=True)
class FakeClock:
    """Seconds that pass only when something takes them."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@dataclass(slots=True)
class FakeWatch:
    """A machine whose hypervisor steals nothing, and whose memory and energy counter are as scripted."""

    memory_mb: Callable[[], int | None] = lambda: None
    energy: Callable[[], int | None] = lambda: None

    def state(self, when: Literal["before", "during", "after"], t_s: float) -> DeviceState:
        """Return a state that tells only when it was taken."""
        return DeviceState(when=when, t_s=t_s)

    def steal_ticks(self) -> int:
        """Return 0."""
        return 0

    def energy_uj(self) -> int | None:
        """Return the scripted counter."""
        return self.energy()

    def memory_available_mb(self) -> int | None:
        """Return the scripted free memory."""
        return self.memory_mb()


@dataclass(slots=True)
class FakeHost:
    """A device whose sessions, state, care and checks are as scripted."""

    open_session: Callable[[Cell], Any]
    watch: Any = field(default_factory=FakeWatch)
    care: Any = None
    checks: Callable[[Cell], Check | None] = lambda cell: None
    meter: Any = None

    def choose_cores(self, threads: int) -> tuple[int, ...]:
        """Return none: the system's choice."""
        return ()

    def machine(self) -> dict[str, Any]:
        """Return the least that a journal's header has of a machine."""
        return {"cpu": "fake", "cores": 1}

    def private(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def conditions(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def check(self, cell: Cell, session: Any) -> Check | None:
        """Return the scripted check."""
        return self.checks(cell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return


@dataclass(slots=True)
class FakeSession:
    """Answers ``time`` from ``latency_ns()``; dies when ``fault`` says so."""

    cell: Cell
    clock: FakeClock
    latency_ns: Callable[[], int]
    fault: Callable[[], bool] = lambda: False
    ready: Ready = field(init=False)
    closed: bool = False

    def __post_init__(self) -> None:
        """Take the time that loading takes."""
        self.clock.now_s += 0.2
        target = self.cell.target
        self.ready = Ready(
            init_ns=150_000_000,
            first_ns=2 * self.latency_ns(),
            rss_before_mb=40.0,
            peak_rss_mb=60.0,
            asked="fake",
            got="fake",
            nodes_delegated=10,
            nodes_total=10,
            threads=target.threads,
            cores=target.cores,
            inputs=({"name": "input", "shape": [1, 8, 8, 3], "dtype": "float32"},),
            outputs=({"name": "output", "shape": [1, 1000], "dtype": "float32"},),
            versions={"fake": "1"},
        )

    def time(self, *, lead_in: int, timed: int, deadline_s: float) -> Timing:
        """Return the next scripted latencies and let the clock run on by them.

        Raises:
            SessionError: the script says that the process dies here.
        """
        assert not self.closed, "a closed session was asked"
        if self.fault():
            raise SessionError(self.cell.id, "its process ended (killed by SIGKILL)", "")
        waited = sum(self.latency_ns() for _ in range(lead_in))
        wall = tuple(self.latency_ns() for _ in range(timed))
        self.clock.now_s += (waited + sum(wall)) / 1e9
        return Timing(wall_ns=wall, cpu_ns=sum(wall), involuntary_switches=0)

    def close(self) -> None:
        """End the session."""
        self.closed = True


def replay(values: Iterator[int]) -> Callable[[], int]:
    """Turn an iterator of latencies, ns, into what FakeSession asks for."""
    return lambda: next(values)
