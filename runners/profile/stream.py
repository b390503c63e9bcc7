"""Answers a `stream` request: how fast this process's cores copy and read memory, by working set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

WINDOW_S = 0.02  # how long one figure is taken over
WINDOWS = 5  # of which the best counts: this is a ceiling


def best_rates(sizes: Sequence[int], threads: int) -> list[int]:
    """Return bytes a second for each working set, the better of copying and reading.

    Args:
        sizes: bytes all threads touch together.
        threads: each works on a part of its own.
    """
    return [max(_rate(size, threads, operation) for operation in (_copy, _read)) for size in sizes]


def _copy(source: np.ndarray, sink: np.ndarray) -> Callable[[], object]:
    return lambda: np.copyto(sink, source)


def _read(left: np.ndarray, right: np.ndarray) -> Callable[[], object]:
    return lambda: np.dot(left, right)


def _rate(size: int, threads: int, operation: Callable[[np.ndarray, np.ndarray], Callable[[], object]]) -> int:
    elements = max(1, size // threads // 2 // 4)
    barrier = threading.Barrier(threads)
    rates = [[0.0] * WINDOWS for _ in range(threads)]

    def work(index: int) -> None:
        # Touched here, by the thread that uses them, and not all zeros, which some systems keep in one page.
        pass_once = operation(np.ones(elements, np.float32), np.ones(elements, np.float32))
        pass_once()
        for window in range(WINDOWS):
            barrier.wait()
            passes, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < WINDOW_S or not passes:
                pass_once()
                passes += 1
            rates[index][window] = passes * 2 * 4 * elements / (elapsed or WINDOW_S)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return round(max(map(sum, zip(*rates, strict=True))))
