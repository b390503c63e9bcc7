"""The campaign: a randomised block design over sessions. Knows sessions, not runtimes."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mobench import __version__, energy
from mobench.design import LEAD_IN, Settings, starts, timed_inferences
from mobench.errors import BadInputError, DeathError, LinkError, MobenchError, SessionError
from mobench.hosts import Host, Session
from mobench.plan import describe
from mobench.precision import Known
from mobench.records import Block, Cell, Failure, Ready, Run
from mobench.stats import block_ns, is_trending
from mobench.store import SCHEMA, Journal, now
from mobench.tending import Tending

DEADLINE_FACTOR = 10  # a block may take this many times as long as its inferences would at the first one's pace
WARMUP_BLOCKS = 60
WARMUP_S = 1.0
SYNC_S = 1.0  # the journal is on the disk itself, safe from a power cut, at least this often
TELL_S = 0.1  # progress is shown at most this often: drawing it takes longer than a tiny model's block
SPARE_MB = 512  # memory that is left free when sessions are loaded side by side
GIVE_UP = 2  # starts in a row in which a cell's session died, or the phone restarted under it
FRUITLESS = 10  # links lost in a row without a block in between, after which nobody waits for another


@dataclass(slots=True)
class _Live:
    """A cell's session in the current incarnation, and how large its blocks are."""

    cell: Cell
    session: Session
    lead_in: int = LEAD_IN
    timed: int = 1
    latency_ns: float = 0.0

    def block_s(self) -> float:
        """Return about how long a block takes."""
        return (self.lead_in + self.timed) * self.latency_ns / 1e9


class Campaign:
    """Times cells against one another and journals every block as it ends."""

    def __init__(
        self,
        cells: Sequence[Cell],
        baseline: str,
        settings: Settings,
        journal: Journal,
        *,
        host: Host,
        resumed: Run | None = None,
        shape: tuple[int, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        progress: Callable[[float, str], None] = lambda share, text: None,
    ) -> None:
        """Prepare a campaign.

        ``resumed`` is what the journal already holds, when it is taken up again; ``shape`` is for the header only.
        """
        self._cells, self._baseline, self._settings, self._journal = tuple(cells), baseline, settings, journal
        self._host, self._watch, self._care = host, host.watch, host.care
        self._clock, self._progress, self._known = clock, progress, Known(baseline)
        self._deaths: dict[str, int] = {}  # starts in a row that a cell did not survive
        self._at: Cell | None = None  # what is loaded or timed now
        self._timed: dict[str, int] = {}
        self._versions: dict[str, Mapping[str, str]] = {}
        self._resumed, self._shape, self._timed_now = resumed is not None, shape, False
        self._first = self._spent_s = self._synced = 0.0
        self._tending = Tending(
            host.watch, host.care, journal, elapsed=self._elapsed, pause=self._off_the_clock, say=self._say
        )
        self._incarnation = self._fruitless = 0
        self._told = -TELL_S
        if resumed is not None:
            self._known.add_journaled(resumed.blocks)
            self._timed = {block.cell: len(block.wall_ns) for block in resumed.blocks if block.phase == "steady"}
            for cell_id, incarnation, ready in resumed.sessions:
                self._versions[cell_id] = ready.versions
                self._incarnation = max(self._incarnation, incarnation + 1)
            self._spent_s = max((block.t_s for block in resumed.blocks), default=0.0)

    def run(self) -> str:
        """Run the campaign; return why it ended.

        ``precise``, ``budget``, ``sustained``, ``failed``; ``unplugged``: the device was out of reach for too long;
        ``not_ready``: it does not cool down or answer, or its battery is low. The last two can be resumed.

        Raises:
            KeyboardInterrupt: after the journal has its end.
            MobenchError: the journal cannot be written (a full disk); all blocks before are in it.
        """
        machine = self._host.machine()
        self._first = self._clock() - self._spent_s
        found = self._journal.size()
        if not self._resumed:
            self._journal.append("run", **self._header(machine))
        else:
            taken_up = {"resumed": now(), "t_s": self._elapsed(), "machine": dict(machine)}
            self._journal.append("resume", **taken_up, versions=_VERSIONS, settings=asdict(self._settings))
        try:
            self._begin()
            reason = self._sustain() if self._settings.sustain_s else self._incarnations()
        except SessionError as error:  # of the phone itself: a session's own is its cell's
            self._journal.append("pause", t_s=self._elapsed(), why=str(error))
            reason = "unplugged" if isinstance(error, LinkError) else "not_ready"
        except KeyboardInterrupt:
            self._end("interrupted")
            raise
        except BadInputError:
            if self._resumed and not self._timed_now:
                self._journal.cut(found)  # a resumption that is refused leaves the journal as it was
            else:
                self._end("failed")
            raise
        self._end(reason)
        return reason

    def _begin(self) -> None:
        """Record the device's state at the beginning; a link that goes here is waited for as later."""
        while True:
            try:
                state = self._watch.state("before", self._elapsed())
            except LinkError as error:
                self._reconnect(error)
            else:
                self._journal.append("state", state)
                return

    def _end(self, reason: str) -> None:
        with contextlib.suppress(SessionError):
            self._journal.append("state", self._watch.state("after", self._elapsed()))
        self._journal.append("end", reason=reason, t_s=self._elapsed())

    def _header(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "campaign": self._journal.path.stem,
            "started": now(),
            "device": "+".join(dict.fromkeys(cell.target.device for cell in self._cells)),
            "machine": dict(machine),
            "versions": _VERSIONS,
            "settings": asdict(self._settings),
            "baseline": self._baseline,
            "shape": list(self._shape),
            "conditions": self._host.conditions(),
            "cells": [describe(cell) for cell in self._cells],
        }

    def _elapsed(self) -> float:
        return round(self._clock() - self._first, 6)

    def _incarnations(self) -> str:
        """Start sessions afresh, time rounds, close; again until precise or out of budget.

        Cells that memory cannot hold together take turns in groups, each with the baseline cell, so that every cell is
        paired with it.
        """
        budget, planned = self._settings.budget_s, 0
        waiting: list[Cell] = []
        while True:
            began, waiting = self._elapsed(), waiting or self._left()
            live: list[_Live] = []
            try:
                live, waiting = self._start_sessions(waiting)
                alone_s = energy.takes_s(len(live), self._settings.energy_s, self._host.meter)
                starting = self._elapsed() - began + alone_s
                if not live:
                    if not self._left():
                        return "failed"
                    self._incarnation += 1
                    continue  # every session died in this start; each gets another
                if not planned:
                    groups = 1 + len(waiting) / max(1, len(live) - 1)
                    planned = self._incarnation + math.ceil(
                        groups * starts((budget - began) / groups, starting, sum(one.block_s() for one in live))
                    )
                # What is left goes evenly to the starts to come; past the plan, each is as long as one of those.
                share = (budget - began) / max(1, planned - self._incarnation)
                if self._incarnation >= planned:
                    share = budget / planned
                self._rounds(live, min(budget, began + max(share, starting)) - alone_s)
                self._weigh(live)
            except LinkError as error:
                self._reconnect(error)
                self._incarnation += 1
                if self._elapsed() >= budget and all(self._known.has_run(cell.id) for cell in self._left()):
                    return "budget"
                continue  # no session outlives its link: all are started again
            finally:
                for one in live:
                    one.session.close()
            self._incarnation += 1
            if not self._left():
                return "failed"
            if not all(self._known.has_run(cell.id) for cell in waiting):
                continue  # every cell has its turn once, whatever the budget says
            if self._is_precise():
                return "precise"
            if self._elapsed() + starting >= budget:
                return "budget"

    def _off_the_clock(self, wait: Callable[[], float]) -> float:
        """Wait; where there was something to wait for, the time that takes is not the campaign's."""
        began = self._clock()
        waited_s = wait()
        if waited_s:
            self._first += self._clock() - began
        return waited_s

    def _reconnect(self, error: LinkError) -> None:
        """Wait until the device is back; the time that takes is not the campaign's.

        A model under which the phone restarts again and again is given up: it would do so for ever.

        Raises:
            LinkError: it does not come back, nobody can say when, or it goes each time before anything is timed.
        """
        self._fruitless += 1
        if self._care is None or self._fruitless == FRUITLESS:
            raise error
        t_s, began = self._elapsed(), self._clock()
        back = self._care.reconnect(error, self._say)
        self._first += self._clock() - began
        self._journal.append("pause", t_s=t_s, why=str(error), **back)
        if self._at is not None and back.get("boot") == "new":
            name = self._at.id
            self._deaths[name] = self._deaths.get(name, 0) + 1
            if self._deaths[name] == GIVE_UP:
                why = "the phone restarted again while it was loaded or timed"
                self._fail(self._at, SessionError(name, why, "try the other runtime or precision"), deaths=0)

    def _sustain(self) -> str:
        """Start all sessions once and time rounds without a pause."""
        live, waiting = self._start_sessions(self._left())
        try:
            for cell in waiting:
                error = MobenchError(cell.id, "no memory left beside the others", "sustain fewer models at once")
                self._fail(cell, error, deaths=GIVE_UP)
            self._rounds(live, self._elapsed() + self._settings.sustain_s)
        finally:
            for one in live:
                one.session.close()
        return "sustained" if live else "failed"

    def _start_sessions(self, cells: Sequence[Cell]) -> tuple[list[_Live], list[Cell]]:
        """Start the cells' sessions, and the baseline's, in random order.

        Returns:
            The sessions, and the cells that memory had no room for.
        """
        queue = [cell for cell in self._left() if cell.id == self._baseline or cell in cells]
        random.Random(f"{self._settings.seed} {self._incarnation}").shuffle(queue)
        live: list[_Live] = []
        waiting: list[Cell] = []
        try:
            while queue:
                cell = queue.pop(0)
                baseline_to_come = any(other.id == self._baseline for other in queue)
                if cell.id != self._baseline and not self._has_room(live, 1 + baseline_to_come):
                    waiting.append(cell)
                else:
                    self._start_session(cell, live)
        except BaseException:
            for one in live:
                one.session.close()
            raise
        return live, waiting

    def _start_session(self, cell: Cell, live: list[_Live]) -> None:
        self._tell(f"start {self._incarnation + 1}: {cell.id}")
        self._at = cell
        try:
            session = self._host.open_session(cell)
        except LinkError:
            raise
        except MobenchError as error:
            # What says that it cannot load will not load later; what was killed, or has run before, may.
            again = isinstance(error, DeathError) or self._known.has_run(cell.id)
            self._fail(cell, error, deaths=1 if again else GIVE_UP)
            return
        live.append(_Live(cell, session))
        self._check_versions(cell, session.ready)
        self._journal.append(
            "session", cell=cell.id, incarnation=self._incarnation, t_s=self._elapsed(), ready=asdict(session.ready)
        )
        try:
            self._warm_up(live[-1])
            check = self._host.check(cell, session)
        except LinkError:
            raise
        except SessionError as error:
            self._drop(live, live[-1], error)
        else:
            if check is not None:
                self._journal.append("check", replace(check, incarnation=self._incarnation))

    def _has_room(self, live: Sequence[_Live], count: int) -> bool:
        """Return whether the largest of the sessions so far would fit ``count`` times more; two in all may try."""
        available_mb = self._watch.memory_available_mb()
        if available_mb is None or not live or len(live) + count <= 2:
            return True
        return available_mb - count * max(one.session.ready.peak_rss_mb for one in live) > SPARE_MB

    def _check_versions(self, cell: Cell, ready: Ready) -> None:
        """A resumed campaign goes on with the versions it began with: figures of two would be mixed."""
        before = self._versions.setdefault(cell.id, ready.versions)
        if dict(before) != dict(ready.versions):
            changed = ", ".join(
                f"{name} {before.get(name)} then, {ready.versions.get(name)} now"
                for name in sorted({*before, *ready.versions})
                if before.get(name) != ready.versions.get(name)
            )
            raise BadInputError(f"{self._journal.path.stem} cannot be resumed", changed, "start a new campaign")

    def _warm_up(self, one: _Live) -> None:
        """Time blocks until they stop falling or the limit is reached; then fix how large this cell's blocks are."""
        timed = self._timed.get(one.cell.id) or timed_inferences(one.session.ready.first_ns)
        figures: list[float] = []
        began = self._clock()
        while is_trending(figures) and len(figures) < WARMUP_BLOCKS and self._clock() - began < WARMUP_S:
            block = self._block(one, -1, len(figures), "warmup", lead_in=0, timed=timed)
            figures.append(block_ns(block))
        one.latency_ns = min(figures[-8:])
        one.timed = self._timed.setdefault(one.cell.id, timed_inferences(one.latency_ns))
        one.lead_in = max(LEAD_IN, one.timed // 2)

    def _rounds(self, live: list[_Live], until: float) -> None:
        shuffled = random.Random(f"{self._settings.seed} {self._incarnation} rounds")
        number, survivors = 0, {one.cell.id for one in live}
        figures: dict[str, dict[int, float]] = {one.cell.id: {} for one in live}
        lost_s = 0.0  # in rounds that did not count, which are repeated, though not for ever
        try:
            while live and (number == 0 or self._elapsed() < until + min(lost_s, self._settings.budget_s)):
                before = None if self._settings.sustain_s else self._tending.begin()
                began = self._elapsed()
                self._tell(f"start {self._incarnation + 1}, round {number + 1}, {len(live)} cells")
                timed = self._round(live, number, shuffled, survivors)
                if self._tending.counts(before, self._incarnation, number):
                    for cell_id, figure in timed.items():
                        figures[cell_id][number] = figure
                else:
                    lost_s += self._elapsed() - began
                number += 1
                self._tending.keep_state()
        finally:  # what a pulled cable cuts off was measured all the same
            self._known.add_start(figures)
        for cell_id in survivors:
            self._deaths.pop(cell_id, None)

    def _weigh(self, live: list[_Live]) -> None:
        for found in energy.weigh_all(live, self._settings.energy_s, self._host.meter, lost=self._drop):
            self._journal.append("energy", replace(found, incarnation=self._incarnation, t_s=self._elapsed()))

    def _round(self, live: list[_Live], number: int, shuffled: random.Random, survivors: set[str]) -> dict[str, float]:
        """Time a block of every live cell, in random order; return their figures, ns."""
        timed: dict[str, float] = {}
        order = list(live)
        shuffled.shuffle(order)
        for position, one in enumerate(order):
            self._at = one.cell
            try:
                block = self._block(one, number, position, "steady", lead_in=one.lead_in, timed=one.timed)
            except LinkError:
                raise
            except SessionError as error:
                survivors.discard(one.cell.id)
                self._drop(live, one, error)
            else:
                self._timed_now, self._fruitless = True, 0
                if not self._settings.sustain_s:  # an hour without a pause would fill the memory
                    timed[one.cell.id] = block_ns(block)
        self._at = None
        return timed

    def _block(self, one: _Live, number: int, position: int, phase: Any, *, lead_in: int, timed: int) -> Block:
        expected_s = (lead_in + timed) * one.session.ready.first_ns / 1e9
        deadline_s = max(self._settings.deadline_s, DEADLINE_FACTOR * expected_s)
        stolen, energy_uj, t_s = self._watch.steal_ticks(), self._watch.energy_uj(), self._elapsed()
        timing = one.session.time(lead_in=lead_in, timed=timed, deadline_s=deadline_s)
        after_uj = self._watch.energy_uj()
        block = Block(
            cell=one.cell.id,
            incarnation=self._incarnation,
            round=number,
            position=position,
            phase=phase,
            t_s=t_s,
            wall_ns=timing.wall_ns,
            cpu_ns=timing.cpu_ns,
            involuntary_switches=timing.involuntary_switches,
            steal_ticks=self._watch.steal_ticks() - stolen,
            lead_in=lead_in,
            energy_uj=None if energy_uj is None or after_uj is None else after_uj - energy_uj,
        )
        self._journal.append("block", block)
        if t_s - self._synced >= SYNC_S:  # not once a round: one of many or of large models takes longer
            self._journal.sync()
            self._synced = t_s
        return block

    def _drop(self, live: list[_Live], one: _Live, error: MobenchError) -> None:
        """A session died: its cell sits this incarnation out, and is given up when it dies in the next one too."""
        live.remove(one)
        one.session.close()
        self._fail(one.cell, error, deaths=1)

    def _fail(self, cell: Cell, error: MobenchError, *, deaths: int) -> None:
        self._deaths[cell.id] = self._deaths.get(cell.id, 0) + deaths
        failure = Failure(
            cell=cell.id,
            incarnation=self._incarnation,
            kind=error.kind,
            what=error.what,
            why=error.why,
            mend=error.mend,
        )
        self._journal.append("failure", failure)

    def _is_precise(self) -> bool:
        """Return whether every interval is as narrow as asked."""
        return self._known.is_precise(
            (cell.id for cell in self._left()),
            p50_half_width=self._settings.p50_half_width,
            ratio_half_width=self._settings.ratio_half_width,
        )

    def _left(self) -> list[Cell]:
        """Return the cells that are not given up."""
        return [cell for cell in self._cells if self._deaths.get(cell.id, 0) < GIVE_UP]

    def _tell(self, text: str) -> None:
        if self._elapsed() - self._told >= TELL_S:
            self._say(text)

    def _say(self, text: str) -> None:
        self._told = self._elapsed()
        self._progress(min(1.0, self._told / (self._settings.sustain_s or self._settings.budget_s)), text)


_VERSIONS = {"mobench": __version__}
