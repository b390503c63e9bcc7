"""Sessions on a phone for work that is not timed: they rest with it, and go on where its cable was pulled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy.typing as npt

from mobench.accuracy import Session
from mobench.errors import LinkError, SessionError
from mobench.hosts import Care, Tell
from mobench.measure import FRUITLESS, GIVE_UP
from mobench.records import Ready

Answer = TypeVar("Answer")
REST_S = 10.0  # a phone's heat and charge are looked at this often: each look is a trip over the cable


class LastingSession:
    """A session that is opened again, and its request repeated, whenever the link to its phone was lost."""

    def __init__(
        self,
        open_session: Callable[[], Session],
        care: Care,
        *,
        label: str,
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the session.

        Args:
            open_session: opens another one of the same model.
            care: the phone's.
            label: what errors call it, for example the model's file name.
            tell: told, in a line, what is waited for.
            clock: seconds, from any zero.

        Raises:
            NotReadyError: the phone does not cool down, or its battery is low.
            LinkError: it does not come back.
            SessionError: as from ``open_session``.
        """
        self._open_session, self._care, self._label, self._tell, self._clock = open_session, care, label, tell, clock
        self._session: Session | None = None
        self._lost = self._restarts = 0  # links lost, and the phone restarted, since an answer last came
        self._rested: float | None = None
        self._said = ""
        self.ready: Ready = self._ask(lambda session: session.ready)

    def predict(self, inputs: npt.NDArray[Any], *, deadline_s: float = 60.0) -> npt.NDArray[Any]:
        """Run the model once for each of [N, ...]; return its first output, stacked.

        Raises:
            NotReadyError, LinkError, SessionError: as when it was opened; or the phone restarts under the model.
        """
        outputs = self._ask(lambda session: session.predict(inputs, deadline_s=deadline_s))
        self._lost = self._restarts = 0
        return outputs

    def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _ask(self, request: Callable[[Session], Answer]) -> Answer:
        while True:
            try:
                if self._rested is None or self._clock() - self._rested >= REST_S:
                    self._care.ready(self._say)
                    self._rested = self._clock()
                if self._session is None:
                    self._session = self._open_session()
                return request(self._session)
            except LinkError as error:
                self.close()
                self._wait(error)
            except BaseException:
                self.close()
                raise

    def _wait(self, error: LinkError) -> None:
        """Wait until the phone is back, though not for ever where it goes again before it has answered."""
        self._lost += 1
        if self._lost == FRUITLESS:
            raise error
        self._restarts += self._care.reconnect(error, self._say)["boot"] == "new"
        self._rested = None
        if self._restarts == GIVE_UP:
            why = "the phone restarted again while it was loaded or run"
            raise SessionError(self._label, why, "try the other runtime or precision")

    def _say(self, text: str) -> None:
        if text != self._said:  # a wait says the same every few seconds
            self._said = text
            self._tell(text)
