"""Around the rounds of a campaign: the device's state, and the care that a phone needs."""

from __future__ import annotations

from collections.abc import Callable

from mobench.hosts import Care, Tell, Watch
from mobench.records import DeviceState
from mobench.store import Journal

STATE_S = 10.0  # the device's state is recorded at least this often
FRESH_S = 1.0  # a state this young, after a round, is also that before the next: a phone's is a trip over the cable


class Tending:
    """Journals the device's states and, where it needs care, lets rounds begin and says whether they count."""

    def __init__(
        self,
        watch: Watch,
        care: Care | None,
        journal: Journal,
        *,
        elapsed: Callable[[], float],
        pause: Callable[[Callable[[], float]], float],
        say: Tell,
    ) -> None:
        """Prepare.

        Args:
            watch: the device's state.
            care: None for a device that needs none.
            journal: where states and verdicts go.
            elapsed: seconds of the campaign.
            pause: calls what it is given and keeps the time that takes off the campaign's clock where it is not 0.
            say: told what is waited for.
        """
        self._watch, self._care, self._journal = watch, care, journal
        self._elapsed, self._pause, self._say = elapsed, pause, say
        self._last: DeviceState | None = None

    def begin(self) -> DeviceState | None:
        """Wait until the device may be measured; return its state, None for a device that needs no care.

        Raises:
            NotReadyError: it does not cool down in time, or its battery is low.
        """
        care = self._care
        if care is None:
            return None
        waited = self._pause(lambda: care.ready(self._say))
        if not waited and self._last is not None and self._elapsed() - self._last.t_s < FRESH_S:
            return self._last
        return self._state()

    def counts(self, before: DeviceState | None, incarnation: int, number: int) -> bool:
        """Return whether the device let a round be what it was to be; journal why where it did not."""
        if before is None or self._care is None:
            return True
        why = self._care.verdict(before, self._state())
        if why:
            self._journal.append("set_aside", incarnation=incarnation, round=number, why=why)
        return not why

    def keep_state(self) -> None:
        """Between rounds, now and then: record the device's state."""
        if self._elapsed() - (self._last.t_s if self._last else 0.0) >= STATE_S:
            self._state()

    def _state(self) -> DeviceState:
        self._last = self._watch.state("during", self._elapsed())
        self._journal.append("state", self._last)
        return self._last
