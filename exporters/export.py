"""Runs export requests in worker processes side by side; what is there and unchanged is not made again."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from exporters.finish import Outcome, Predict, outcome
from exporters.lane import Lane
from exporters.recipe import Request
from exporters.schedule import Schedule

# More of them have never been faster: what they wait for is memory.
MOST_JOBS = 4


def default_jobs() -> int:
    """Return how many exports run side by side: one a core this process may use, up to a few."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_JOBS, cores))


def export_all(
    requests: Sequence[Request],
    *,
    predict: Predict,
    jobs: int | None = None,
    talk: Callable[[str], None] | None = None,
) -> Iterator[Outcome]:
    """Export, yielding each file's outcome as it is settled; files that are there and unchanged come first.

    A failed export is an outcome and does not stop the others. Closing the iterator, as Ctrl-C does, ends the workers
    and removes what they had begun; every file that was yielded stays.

    Args:
        requests: what to export; those that take longest should come first.
        predict: runs a file for its verification.
        jobs: worker processes side by side at most; fewer run while memory does not hold more.
        talk: told how many files there are to make, when there are any.

    Raises:
        OSError: a folder cannot be made.
    """
    work: list[Request] = []
    due = 0
    for request in requests:
        needed = []
        for precision in request.precisions:
            manifest = request.unchanged(precision)
            if manifest is None:
                needed.append(precision)
            else:
                yield outcome(request, precision, "unchanged", 0.0, manifest=manifest)
        if needed:
            request.folder.mkdir(parents=True, exist_ok=True)
            work.append(replace(request, precisions=tuple(needed)))
            due += len(needed)
    if due:
        jobs = min(jobs or default_jobs(), len(work))
        if talk is not None:
            talk(f"exporting {due} file{'s' if due > 1 else ''}, {jobs} side by side")
        yield from _in_lanes(work, due, predict, jobs)


def _in_lanes(work: Sequence[Request], due: int, predict: Predict, jobs: int) -> Iterator[Outcome]:
    threads = max(1, default_jobs() // jobs)
    settled: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
    schedule = Schedule(work)
    lanes = [Lane(number, schedule, settled, predict, threads) for number in range(jobs)]
    try:
        for lane in lanes:
            lane.thread.start()
        for _ in range(due):
            found = settled.get()
            if isinstance(found, BaseException):
                raise found  # our bug, in a lane's thread: it keeps its traceback
            yield found
    finally:
        schedule.stop()
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            if lane.thread.ident is not None:
                lane.thread.join()
