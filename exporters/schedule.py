"""Which export starts when: the largest first, side by side as far as memory holds them, a killed one again alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from exporters.memory import available_mb
from exporters.recipe import Request

# Others use memory too, and an estimate is an estimate.
_USABLE = 0.9


class Schedule:
    """Hands requests to lanes, which are numbered threads with a worker process each.

    A request starts where its `memory_mb` fits beside what runs, or where nothing else runs. A lane gets its last
    network's other format before a new one, because its worker still has the module.
    """

    def __init__(self, requests: Sequence[Request], *, memory_mb: Callable[[], float | None] = available_mb) -> None:
        """Take requests in the order in which they should start.

        Args:
            requests: those that take longest first.
            memory_mb: says what memory there is, asked once, before any worker has taken of it.
        """
        self._waiting = list(requests)
        self._alone: list[Request] = []
        self._running: dict[int, Request] = {}
        self._last: dict[int, str] = {}
        self._stopped = False
        self._changed = threading.Condition()
        available = memory_mb()
        self._memory_mb = None if available is None else available * _USABLE

    def take(self, lane: int, release: Callable[[], None]) -> tuple[Request, bool] | None:
        """Return a lane's next request and whether it runs alone, once memory has room; None when there are no more.

        Args:
            lane: its number; what it took before is finished.
            release: called when it has to wait: ends its worker, so that others have the memory.
        """
        with self._changed:
            self._running.pop(lane, None)
            self._changed.notify_all()
            while not self._stopped:
                if chosen := self._choose(lane):
                    request, alone = chosen
                    (self._alone if alone else self._waiting).remove(request)
                    self._running[lane] = request
                    self._last[lane] = request.module_key()
                    return request, alone
                if not self._waiting and not self._alone:
                    return None
                release()
                self._changed.wait()
        return None

    def again_alone(self, request: Request) -> None:
        """Put back a request that was killed for want of memory: it runs when nothing else does."""
        with self._changed:
            self._alone.append(request)

    def stop(self) -> None:
        """Hand out no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _choose(self, lane: int) -> tuple[Request, bool] | None:
        fitting = [request for request in self._waiting if self._fits(request)]
        if fitting:
            mine = self._last.get(lane)
            others = {request.module_key() for request in self._running.values()}

            def rank(request: Request) -> tuple[bool, bool]:
                key = request.module_key()
                return key != mine, key in others

            return min(fitting, key=rank), False  # the first of the best: the order is the caller's
        if self._alone and not self._waiting and not self._running:
            return self._alone[0], True
        return None

    def _fits(self, request: Request) -> bool:
        if not self._running or self._memory_mb is None:
            return True
        taken_mb = sum(running.memory_mb for running in self._running.values())
        return taken_mb + request.memory_mb <= self._memory_mb
