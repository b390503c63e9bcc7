"""What a session's outputs are held against: those of the same file on this machine's CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mobench import checking
from mobench.errors import MobenchError
from mobench.records import Artifact, Cell, Check, Target
from runners import desktop

if TYPE_CHECKING:
    import numpy as np


class Reference:
    """The outputs of each file on this machine's CPU, computed once."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        """Compute nothing yet; ``shape`` is the first input's, for models that leave it open."""
        self._shape = shape
        self._outputs: dict[str, tuple[str, np.ndarray] | MobenchError] = {}

    def check(self, cell: Cell, session: Any) -> Check:
        """Compare a session's outputs with the file's own on this machine's CPU.

        What cannot be compared is said, and is no error: the session can be timed all the same.

        Raises:
            SessionError: the session fails over it.
        """
        count = len(session.ready.inputs)
        if count != 1:
            return checking.unchecked(cell, f"it has {count} inputs, and outputs are compared of one")
        found = self._expected(cell.artifact, cell.target.runtime)
        if isinstance(found, MobenchError):
            return checking.unchecked(cell, f"this machine's CPU gives no reference ({found})")
        named, expected = found
        outputs = session.predict(checking.inputs(session.ready))
        return checking.compare(cell, expected, checking.real(outputs, session.ready.outputs[0]), named=named)

    def _expected(self, artifact: Artifact, runtime: str) -> tuple[str, np.ndarray] | MobenchError:
        """Return what computed here, in words, and the outputs; or why there are none."""
        if artifact.sha256 not in self._outputs:
            try:
                with desktop.open_session(artifact, Target(runtime=runtime), shape=self._shape) as reference:
                    outputs = reference.predict(checking.inputs(reference.ready))
                    named = f"{reference.ready.got} on this machine"
                    self._outputs[artifact.sha256] = named, checking.real(outputs, reference.ready.outputs[0])
            except MobenchError as error:
                self._outputs[artifact.sha256] = error
        return self._outputs[artifact.sha256]
