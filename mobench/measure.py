"""The campaign: a randomised block design over sessions. Knows sessions, not runtimes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from mobench import __version__
from mobench.errors import BadInputError, DeathError, MobenchError, SessionError
from mobench.plan import describe
from mobench.precision import Known
from mobench.records import Block, Cell, DeviceState, Failure, Ready, Run, Timing
from mobench.stats import MIN_INCARNATIONS, block_ns, is_trending
from mobench.store import SCHEMA, Journal, now

BLOCK_NS = 5_000_000  # a block is as short as this allows: one inference of a 10 ms net, 125 of a 40 us one
MAX_TIMED = 500
# Untimed inferences before the timed ones. While others have their turn a model's weights leave the caches, and it
# takes several passes to bring them back. After one, MobileNetV2 INT8 in ONNX Runtime is 18 % above a loop of its own
# and its ratio to FP32 11 % off; after four, 6 % and 3 %; eight gain 1 % and cost half of the rounds
# (benchmarks/lead_in.py).
LEAD_IN = 4
# Rounds an incarnation should have: with fewer the median over them is too rough, with many more a further start would
# have been the better use of the time. A short budget gets short starts, 20 rounds, so that there are enough of them;
# one that holds more than 12 of those gets longer ones, which keep the coverage of a campaign that stops as soon as
# its interval is narrow (benchmarks/coverage.py).
ROUNDS, LONG_ROUNDS, ENOUGH_INCARNATIONS = 20, 40, 12
DEADLINE_FACTOR = 10  # a block may take this many times as long as its inferences would at the first one's pace
WARMUP_BLOCKS = 60
WARMUP_S = 1.0
STATE_S = 10.0  # the machine's state is recorded at least this often
SYNC_S = 1.0  # the journal is on the disk itself, safe from a power cut, at least this often
TELL_S = 0.1  # progress is shown at most this often: drawing it takes longer than a tiny model's block
SPARE_MB = 512  # memory that is left free when sessions are loaded side by side
GIVE_UP = 2  # starts in a row in which a cell's session died


class Session(Protocol):
    """What a campaign needs of a session."""

    ready: Ready

    def time(self, *, lead_in: int, timed: int, deadline_s: float) -> Timing:
        """Run untimed, then timed inferences."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class Watch(Protocol):
    """What a campaign needs to know of the machine."""

    def state(self, when: Literal["before", "during", "after"], t_s: float) -> DeviceState:
        """Describe the machine now."""
        ...

    def steal_ticks(self) -> int:
        """Return the time a hypervisor gave to others since boot, in ticks of 10 ms; 0 where unknown."""
        ...

    def energy_uj(self) -> int | None:
        """Return the energy the processors took since some moment; None where the machine does not tell."""
        ...

    def memory_available_mb(self) -> int | None:
        """Return how much memory is free for programs; None where unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """When a campaign ends: at the asked interval half-widths (shares of the figure), or when the budget is spent.

    With ``sustain_s`` it is a sustained load instead: one start, rounds without a pause for that long.
    """

    budget_s: float = 60.0
    ratio_half_width: float = 0.01
    p50_half_width: float = 0.02
    seed: int = 0
    deadline_s: float = 60.0
    sustain_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse times and widths that no campaign could keep to.

        Raises:
            BadInputError: a value that is negative or not finite, or no budget at all.
        """
        for name in ("budget_s", "ratio_half_width", "p50_half_width", "deadline_s", "sustain_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0) or (name == "budget_s" and value == 0):
                raise BadInputError(f"{name} {value}", "not a finite, positive number", "for example a budget of 3600")


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
        open_session: Callable[[Cell], Session],
        watch: Watch,
        resumed: Run | None = None,
        shape: tuple[int, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        progress: Callable[[float, str], None] = lambda share, text: None,
    ) -> None:
        """Prepare a campaign.

        ``resumed`` is what the journal already holds, when it is taken up again; ``shape`` is for the header only.
        """
        self._cells, self._baseline, self._settings, self._journal = tuple(cells), baseline, settings, journal
        self._open, self._watch, self._clock, self._progress = open_session, watch, clock, progress
        self._known = Known(baseline)
        self._deaths: dict[str, int] = {}  # starts in a row that a cell did not survive
        self._timed: dict[str, int] = {}
        self._versions: dict[str, Mapping[str, str]] = {}
        self._resumed, self._shape = resumed is not None, shape
        self._first = self._spent_s = 0.0
        self._incarnation = 0
        self._timed_now = False
        self._synced = self._stated = 0.0
        self._told = -TELL_S
        if resumed is not None:
            self._known.add_journaled(resumed.blocks)
            self._timed = {block.cell: len(block.wall_ns) for block in resumed.blocks if block.phase == "steady"}
            for cell_id, incarnation, ready in resumed.sessions:
                self._versions[cell_id] = ready.versions
                self._incarnation = max(self._incarnation, incarnation + 1)
            self._spent_s = max((block.t_s for block in resumed.blocks), default=0.0)

    def run(self, machine: Mapping[str, Any]) -> str:
        """Run the campaign; return why it ended: ``precise``, ``budget``, ``sustained`` or ``failed``.

        Raises:
            KeyboardInterrupt: after the journal has its end.
            MobenchError: the journal cannot be written (a full disk); all blocks before are in it.
        """
        self._first = self._clock() - self._spent_s
        found = self._journal.size()
        if not self._resumed:
            self._journal.append("run", **self._header(machine))
        else:
            taken_up = {"resumed": now(), "t_s": self._elapsed(), "machine": dict(machine)}
            self._journal.append("resume", **taken_up, versions=_VERSIONS, settings=asdict(self._settings))
        try:
            self._journal.append("state", self._watch.state("before", self._elapsed()))
            reason = self._sustain() if self._settings.sustain_s else self._incarnations()
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

    def _end(self, reason: str) -> None:
        self._journal.append("state", self._watch.state("after", self._elapsed()))
        self._journal.append("end", reason=reason, t_s=self._elapsed())

    def _header(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "campaign": self._journal.path.stem,
            "started": now(),
            "device": self._cells[0].target.device,
            "machine": dict(machine),
            "versions": _VERSIONS,
            "settings": asdict(self._settings),
            "baseline": self._baseline,
            "shape": list(self._shape),
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
            live, waiting = self._start_sessions(waiting)
            try:
                starting = self._elapsed() - began
                if not live:
                    if not self._left():
                        return "failed"
                    self._incarnation += 1
                    continue  # every session died in this start; each gets another
                if not planned:
                    groups = 1 + len(waiting) / max(1, len(live) - 1)
                    planned = self._incarnation + math.ceil(groups * _starts((budget - began) / groups, starting, live))
                # What is left goes evenly to the starts to come; past the plan, each is as long as one of those.
                share = (budget - began) / max(1, planned - self._incarnation)
                if self._incarnation >= planned:
                    share = budget / planned
                self._rounds(live, min(budget, began + max(share, starting)))
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
        try:
            session = self._open(cell)
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
        except SessionError as error:
            self._drop(live, live[-1], error)

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
        timed = self._timed.get(one.cell.id) or _timed(one.session.ready.first_ns)
        figures: list[float] = []
        began = self._clock()
        while is_trending(figures) and len(figures) < WARMUP_BLOCKS and self._clock() - began < WARMUP_S:
            block = self._block(one, -1, len(figures), "warmup", lead_in=0, timed=timed)
            figures.append(block_ns(block))
        one.latency_ns = min(figures[-8:])
        one.timed = self._timed.setdefault(one.cell.id, _timed(one.latency_ns))
        one.lead_in = max(LEAD_IN, one.timed // 2)

    def _rounds(self, live: list[_Live], until: float) -> None:
        shuffled = random.Random(f"{self._settings.seed} {self._incarnation} rounds")
        number, survivors = 0, {one.cell.id for one in live}
        figures: dict[str, dict[int, float]] = {one.cell.id: {} for one in live}
        while live and (number == 0 or self._elapsed() < until):
            self._tell(f"start {self._incarnation + 1}, round {number + 1}, {len(live)} cells")
            order = list(live)
            shuffled.shuffle(order)
            for position, one in enumerate(order):
                try:
                    block = self._block(one, number, position, "steady", lead_in=one.lead_in, timed=one.timed)
                except SessionError as error:
                    survivors.discard(one.cell.id)
                    self._drop(live, one, error)
                else:
                    self._timed_now = True
                    if not self._settings.sustain_s:  # an hour without a pause would fill the memory
                        figures[one.cell.id][number] = block_ns(block)
            number += 1
            self._keep_state()
        self._known.add_start(figures)
        for cell_id in survivors:
            self._deaths.pop(cell_id, None)

    def _keep_state(self) -> None:
        """Between rounds, now and then: record the machine's state."""
        elapsed = self._elapsed()
        if elapsed - self._stated >= STATE_S:
            self._journal.append("state", self._watch.state("during", elapsed))
            self._stated = elapsed

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
        elapsed = self._elapsed()
        if elapsed - self._told >= TELL_S:
            self._told = elapsed
            self._progress(min(1.0, elapsed / (self._settings.sustain_s or self._settings.budget_s)), text)


_VERSIONS = {"mobench": __version__}


def _timed(latency_ns: float) -> int:
    return max(1, min(MAX_TIMED, round(BLOCK_NS / max(latency_ns, 1))))


def _starts(budget_s: float, starting_s: float, live: Sequence[_Live]) -> int:
    """Return how many starts of all sessions a budget holds best."""
    round_s = sum(one.block_s() for one in live)
    short = int(budget_s / (starting_s + ROUNDS * round_s))
    long = int(budget_s / (starting_s + LONG_ROUNDS * round_s))
    return max(MIN_INCARNATIONS, min(short, max(long, ENOUGH_INCARNATIONS)))
