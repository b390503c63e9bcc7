"""Profiles a model file on a device, in a session of its own."""

from __future__ import annotations

from statistics import median
from typing import cast

from mobench.hosts import Host
from mobench.records import Artifact, Cell, Profile, Target
from runners import desktop, wire

# A turn of either copy, with and without the profiler: the other's turn emptied the caches, so the first do not count.
LEAD_IN, TIMED = 2, 5
FEWEST_TURNS, MOST_TURNS = 2, 40  # more of them say nothing new and make a large trace
PACE_RUNS = 5
DEADLINE_FACTOR, DEADLINE_S = 10, 60.0


def profile_file(artifact: Artifact, target: Target, *, host: Host, budget_s: float = 10.0) -> Profile:
    """Return how long each operator of a model takes.

    Args:
        artifact: the model file.
        target: runtime, provider, threads, cores and batch.
        host: the device, entered.
        budget_s: about how long to run inferences, half of them profiled.

    Raises:
        BadInputError: the runtime does not read this format.
        LinkError: the phone is out of reach.
        SessionError: the model does not run, or the runtime has no operator times.
    """
    ours = target.cores if target.device == "desktop-cpu" else ()
    cell = Cell(id=artifact.path.name, artifact=artifact, target=target)
    # Only a tool's session has no profile, and a host has those where it was given a tool.
    with desktop.keep_off(ours), cast(wire.Session, host.open_session(cell)) as session:
        first_s = session.ready.first_ns / 1e9
        pace = session.time(lead_in=1, timed=PACE_RUNS, deadline_s=DEADLINE_S + DEADLINE_FACTOR * PACE_RUNS * first_s)
        turn_s = 2 * (LEAD_IN + TIMED) * median(pace.wall_ns) / 1e9
        turns = min(MOST_TURNS, max(FEWEST_TURNS, int(budget_s / turn_s)))
        deadline_s = DEADLINE_S + DEADLINE_FACTOR * turns * turn_s
        return session.profile(turns=turns, lead_in=LEAD_IN, timed=TIMED, deadline_s=deadline_s)
