"""Answers a `profile` request: inferences with and without the runtime's profiler, in turns, in one process."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobench.errors import SessionError
from mobench.records import Operator

# A runtime: the class that profiles a model in it. Imported when asked for, as most sessions never are.
PROFILERS = {
    "ort": ("runners.profile.ort_profile", "OrtProfiler"),
    "litert": ("runners.profile.litert_profile", "LitertProfiler"),
}
WARM_UP = 5  # first inferences of the profiled model, which allocate


class Profiler(Protocol):
    """A second copy of the model, with the runtime's profiler on."""

    source: str
    tick_ns: int
    notes: tuple[str, ...]

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays into the model's inputs."""
        ...

    def invoke(self, keep: bool) -> int:
        """Run one inference and return its wall clock, ns; ``keep`` says whether its operators' times count."""
        ...

    def operators(self) -> list[Operator]:
        """Return the operators with their times in the inferences that were kept; the last call."""
        ...


def answer(
    config: Mapping[str, Any], plain: Any, inputs: Sequence[np.ndarray], request: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the ``profile`` message.

    Args:
        config: what the session was started with.
        plain: the session's model, as it is timed otherwise.
        inputs: what both copies run on.
        request: ``turns`` of ``lead_in`` untimed and ``timed`` timed inferences of either copy.

    Raises:
        SessionError: this runtime, or this version of it, has no operator times.
    """
    module, name = PROFILERS.get(config["runtime"], ("", ""))
    if not module:
        raise SessionError(f"profile in {config['runtime']}", "it tells no operator times", "use another runtime")
    profiler: Profiler = getattr(importlib.import_module(module), name)(
        plain,
        Path(config["model"]),
        threads=config["threads"],
        provider=config["provider"],
        batch=config["batch"],
        shape=tuple(config["shape"]),
    )
    plain.set_inputs(inputs)
    profiler.set_inputs(inputs)
    for _ in range(WARM_UP):
        profiler.invoke(False)
    lead_in, timed = request["lead_in"], request["timed"]
    plain_ns: list[int] = []
    profiled_ns: list[int] = []
    for _ in range(request["turns"]):
        for _ in range(lead_in):
            plain.invoke()
        plain_ns += [_timed(plain.invoke) for _ in range(timed)]
        # The two copies share nothing but the caches: each has its own lead-in after the other's turn.
        for _ in range(lead_in):
            profiler.invoke(False)
        profiled_ns += [profiler.invoke(True) for _ in range(timed)]
    operators = profiler.operators()
    return {
        "type": "profile",
        "source": profiler.source,
        "tick_ns": profiler.tick_ns,
        "plain_ns": plain_ns,
        "profiled_ns": profiled_ns,
        "operators": [asdict(operator) for operator in operators],
        "notes": list(profiler.notes),
    }


def _timed(invoke: Callable[[], None]) -> int:
    start = time.perf_counter_ns()
    invoke()
    return time.perf_counter_ns() - start
