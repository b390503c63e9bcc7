"""Energy an inference where the device's counter moves too seldom for a block: each model alone, for seconds.

A GPU's counter moves about every tenth of a second. A block of milliseconds would be given what the cells before it
took, so each model runs for a span of its own behind each start's rounds, alone on the device and already warm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol, TypeVar

from mobench.errors import LinkError, SessionError
from mobench.hosts import Meter, Session
from mobench.records import Cell, Energy

# The load is on for so long before its span begins. By then the clocks are where it keeps them, and a power reading
# that is an average over the second before (NVML, nvmlDeviceGetPowerUsage: Ampere without GA100, and newer) is of it.
LEAD_S = 1.0
_DEADLINE_FACTOR = 10


class Live(Protocol):
    """A cell's live session, and about how long its inference takes."""

    cell: Cell
    session: Session
    latency_ns: float


L = TypeVar("L", bound=Live)


def takes_s(cells: int, seconds: float, meter: Meter | None) -> float:
    """Return how long `weigh_all` takes for so many cells."""
    return cells * (LEAD_S + seconds) if meter and seconds else 0.0


def weigh_all(
    live: list[L], seconds: float, meter: Meter | None, *, lost: Callable[[list[L], L, SessionError], None]
) -> Iterator[Energy]:
    """Yield what each cell's model takes, one after the other, where the device tells it and ``seconds`` are not 0.

    ``lost`` is told of a session that fails over it, and takes it out of ``live``.
    """
    if meter is None or not seconds:
        return
    for one in tuple(live):
        try:
            found = weigh(one.session, seconds, meter, latency_ns=one.latency_ns)
        except LinkError:
            raise
        except SessionError as error:
            lost(live, one, error)
        else:
            if found is not None:
                yield replace(found, cell=one.cell.id)


def weigh(session: Session, seconds: float, meter: Meter, *, latency_ns: float) -> Energy | None:
    """Return what the device takes for a model that runs alone; None where it does not tell.

    Args:
        session: holds the model; nothing else may run on the device.
        seconds: about how long the span is. Its error is one update of the device's counter over that.
        meter: the device's.
        latency_ns: of an inference, about.

    Raises:
        SessionError: the session failed.
    """

    def run(lasting_s: float) -> int:
        count = max(1, math.ceil(lasting_s * 1e9 / latency_ns))
        session.time(lead_in=count - 1, timed=1, deadline_s=60.0 + _DEADLINE_FACTOR * lasting_s)
        return count

    if not meter.begin():  # and its first call finds out how often the counter moves, for which nothing need run
        return None
    run(LEAD_S)
    meter.begin()
    count = run(seconds)
    told = meter.end()
    return replace(told, n=count) if told else None
