"""Operator times in ONNX Runtime: a second session on the model that traces every run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobench.errors import SessionError
from mobench.records import Operator
from runners.ort import OrtModel
from runners.profile.onnx_graph import read
from runners.profile.ort_trace import operators_of


class OrtProfiler:
    """The traced session. It has the options of the one that is timed, and the trace on."""

    source = "ONNX Runtime's own trace"
    tick_ns = 1000  # the trace counts whole microseconds
    notes: tuple[str, ...] = ()

    def __init__(
        self, plain: object, path: Path, *, threads: int, provider: str, batch: int, shape: tuple[int, ...]
    ) -> None:
        self._path, self._kept = path, list[bool]()
        self._folder = tempfile.TemporaryDirectory(prefix="mobench-")
        self._model = OrtModel(path, threads, provider, batch, shape, trace=Path(self._folder.name))

    def set_inputs(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy the arrays into the model's inputs."""
        self._model.set_inputs(arrays)

    def invoke(self, keep: bool) -> int:
        """Run one inference and return its wall clock, ns; ``keep`` says whether its operators' times count."""
        self._kept.append(keep)
        start = time.perf_counter_ns()
        self._model.invoke()
        return time.perf_counter_ns() - start

    def operators(self) -> list[Operator]:
        """End the trace and return the operators, in the order they run. Nothing can be invoked afterwards.

        Raises:
            SessionError: the trace was cut off or cannot be read.
        """
        with self._folder:
            try:
                events = json.loads(self._model.end_trace().read_text(encoding="utf-8"))
                optimised = read(Path(self._folder.name, "optimised.onnx"))
            except (OSError, ValueError) as error:  # a full disk, above all
                raise SessionError(
                    f"profile of {self._path.name}", str(error), "make room in the temporary folder"
                ) from error
        return operators_of(events, self._kept, optimised, read(self._path), self._path.name)
