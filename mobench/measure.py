"""The campaign: a randomised block design over sessions. Knows sessions, not runtimes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mobench import __version__
from mobench.errors import MobenchError, SessionError
from mobench.records import Block, Cell, Failure, Ready, Timing
from mobench.stats import MIN_INCARNATIONS, block_ns, estimate, half_width, is_trending, paired_ratio
from mobench.store import SCHEMA, Journal, now

BLOCK_NS = 5_000_000  # a block is as short as this allows: one inference of a 10 ms net, 125 of a 40 us one
MAX_TIMED = 500
# Untimed inferences before the timed ones. While others have their turn a model's weights leave the caches, and it
# takes several passes to bring them back. After one, MobileNetV2 INT8 in ONNX Runtime is 18 % above a loop of its own
# and its ratio to FP32 11 % off; after four, 6 % and 3 %; eight gain 1 % and cost half of the rounds
# (benchmarks/lead_in.py).
LEAD_IN = 4
# Rounds an incarnation should have: with fewer the median over them is too rough, with many more a further start would
# have been the better use of the time (benchmarks/coverage.py).
ROUNDS = 20
MAX_INCARNATIONS = 12
DEADLINE_FACTOR = 10  # a block may take this many times as long as its inferences would at the first one's pace
WARMUP_BLOCKS = 60
WARMUP_S = 1.0


class Session(Protocol):
    """What a campaign needs of a session."""

    ready: Ready

    def time(self, *, lead_in: int, timed: int, deadline_s: float) -> Timing:
        """Run untimed, then timed inferences."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """When a campaign ends: at the asked interval half-widths (shares of the figure), or when the budget is spent."""

    budget_s: float = 60.0
    ratio_half_width: float = 0.01
    p50_half_width: float = 0.02
    seed: int = 0
    deadline_s: float = 60.0


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
        steal_ticks: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
        progress: Callable[[float, str], None] = lambda share, text: None,
    ) -> None:
        self._cells, self._baseline, self._settings, self._journal = tuple(cells), baseline, settings, journal
        self._open, self._steal, self._clock, self._progress = open_session, steal_ticks, clock, progress
        self._random = random.Random(settings.seed)
        self._blocks: dict[str, list[Block]] = {cell.id: [] for cell in self._cells}
        self._strikes: dict[str, int] = {}
        self._timed: dict[str, int] = {}
        self._start = 0.0

    def run(self, machine: dict[str, Any], snapshot: Callable[[], dict[str, Any]]) -> str:
        """Run the campaign; return why it ended: ``precise``, ``budget`` or ``failed``.

        Raises:
            KeyboardInterrupt: after the journal has its end.
            MobenchError: the journal cannot be written (a full disk); all blocks before are in it.
        """
        self._start = self._clock()
        self._journal.append("run", **self._header(machine))
        self._journal.append("state", t_s=0.0, **snapshot())
        try:
            reason = self._incarnations()
        except KeyboardInterrupt:
            self._end("interrupted", snapshot)
            raise
        self._end(reason, snapshot)
        return reason

    def _end(self, reason: str, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._journal.append("state", t_s=self._elapsed(), **snapshot())
        self._journal.append("end", reason=reason, t_s=self._elapsed())

    def _header(self, machine: dict[str, Any]) -> dict[str, Any]:
        cells = []
        for cell in self._cells:
            artifact = cell.artifact
            described = {
                "path": str(artifact.path),
                "sha256": artifact.sha256,
                "size_bytes": artifact.size_bytes,
                "format": artifact.format,
                "name": artifact.name,
                "precision": artifact.precision,
                "network": artifact.manifest.get("network"),
                "weights": artifact.manifest.get("weights"),
            }
            cells.append({"id": cell.id, "artifact": described, "target": asdict(cell.target)})
        return {
            "schema": SCHEMA,
            "campaign": self._journal.path.stem,
            "started": now(),
            "device": self._cells[0].target.device,
            "machine": machine,
            "versions": {"mobench": __version__},
            "settings": asdict(self._settings),
            "baseline": self._baseline,
            "cells": cells,
        }

    def _elapsed(self) -> float:
        return round(self._clock() - self._start, 6)

    def _incarnations(self) -> str:
        """Start all sessions afresh, time rounds, close; again until precise or out of budget."""
        budget, planned, incarnation = self._settings.budget_s, 0, 0
        while True:
            began = self._elapsed()
            live = self._start_sessions(incarnation)
            try:
                starting = self._elapsed() - began
                if not live:
                    if not self._left():
                        return "failed"
                    continue  # every session died in this start; each gets another
                if not planned:
                    incarnation_s = starting + ROUNDS * sum(one.block_s() for one in live)
                    planned = min(MAX_INCARNATIONS, max(MIN_INCARNATIONS, int(budget / incarnation_s)))
                # What is left goes evenly to the incarnations to come; past the plan, each is as long as one of those.
                share = (budget - began) / max(1, planned - incarnation) if incarnation < planned else budget / planned
                until = min(budget, began + max(share, starting))
                self._rounds(incarnation, live, until)
            finally:
                for one in live:
                    one.session.close()
            incarnation += 1
            if incarnation >= MIN_INCARNATIONS and self._is_precise():
                return "precise"
            if self._elapsed() + starting >= budget:
                return "budget"

    def _start_sessions(self, incarnation: int) -> list[_Live]:
        cells = self._left()
        self._random.shuffle(cells)
        live: list[_Live] = []
        try:
            for cell in cells:
                self._tell(f"start {incarnation + 1}: {cell.id}")
                try:
                    session = self._open(cell)
                except MobenchError as error:
                    # What has never loaded will not load later; what has run before may have met a full memory.
                    self._fail(cell, incarnation, error, strikes=1 if self._blocks[cell.id] else 2)
                    continue
                live.append(_Live(cell, session))
                self._journal.append(
                    "session", cell=cell.id, incarnation=incarnation, t_s=self._elapsed(), ready=asdict(session.ready)
                )
                try:
                    self._warm_up(live[-1], incarnation)
                except SessionError as error:
                    self._drop(live, live[-1], incarnation, error)
        except BaseException:
            for one in live:
                one.session.close()
            raise
        return live

    def _warm_up(self, one: _Live, incarnation: int) -> None:
        """Time blocks until they stop falling or the limit is reached; then fix how large this cell's blocks are."""
        timed = self._timed.get(one.cell.id) or _timed(one.session.ready.first_ns)
        figures: list[float] = []
        began = self._clock()
        while is_trending(figures) and len(figures) < WARMUP_BLOCKS and self._clock() - began < WARMUP_S:
            block = self._block(one, incarnation, -1, len(figures), "warmup", lead_in=0, timed=timed)
            figures.append(block_ns(block))
        one.latency_ns = min(figures[-8:])
        one.timed = self._timed.setdefault(one.cell.id, _timed(one.latency_ns))
        one.lead_in = max(LEAD_IN, one.timed // 2)

    def _rounds(self, incarnation: int, live: list[_Live], until: float) -> None:
        number = 0
        while live and (number == 0 or self._elapsed() < until):
            self._tell(f"start {incarnation + 1}, round {number + 1}, {len(live)} cells")
            order = list(live)
            self._random.shuffle(order)
            for position, one in enumerate(order):
                try:
                    block = self._block(
                        one, incarnation, number, position, "steady", lead_in=one.lead_in, timed=one.timed
                    )
                except SessionError as error:
                    self._drop(live, one, incarnation, error)
                else:
                    self._blocks[one.cell.id].append(block)
            number += 1

    def _block(
        self, one: _Live, incarnation: int, number: int, position: int, phase: Any, *, lead_in: int, timed: int
    ) -> Block:
        stolen, t_s = self._steal(), self._elapsed()
        expected_s = (lead_in + timed) * one.session.ready.first_ns / 1e9
        deadline_s = max(self._settings.deadline_s, DEADLINE_FACTOR * expected_s)
        timing = one.session.time(lead_in=lead_in, timed=timed, deadline_s=deadline_s)
        block = Block(
            cell=one.cell.id,
            incarnation=incarnation,
            round=number,
            position=position,
            phase=phase,
            t_s=t_s,
            wall_ns=timing.wall_ns,
            cpu_ns=timing.cpu_ns,
            involuntary_switches=timing.involuntary_switches,
            steal_ticks=self._steal() - stolen,
        )
        self._journal.append("block", block)
        return block

    def _drop(self, live: list[_Live], one: _Live, incarnation: int, error: MobenchError) -> None:
        """A session died: its cell sits this incarnation out, and is given up when it dies again."""
        live.remove(one)
        one.session.close()
        self._fail(one.cell, incarnation, error, strikes=1)

    def _fail(self, cell: Cell, incarnation: int, error: MobenchError, *, strikes: int) -> None:
        self._strikes[cell.id] = self._strikes.get(cell.id, 0) + strikes
        failure = Failure(
            cell=cell.id, incarnation=incarnation, kind=error.kind, what=error.what, why=error.why, mend=error.mend
        )
        self._journal.append("failure", failure)

    def _is_precise(self) -> bool:
        """Return whether every interval is as narrow as asked."""
        left = {cell.id for cell in self._left()}
        for cell in left:
            blocks = self._blocks[cell]
            if len({block.incarnation for block in blocks}) < MIN_INCARNATIONS:
                return False
            p50 = estimate((b.incarnation, block_ns(b)) for b in blocks)
            if p50 is None or half_width(*p50) > self._settings.p50_half_width:
                return False
            ratio = paired_ratio(blocks, self._blocks[self._baseline])
            paired = cell != self._baseline and self._baseline in left
            if paired and ratio and half_width(*ratio) > self._settings.ratio_half_width:
                return False
        return True

    def _left(self) -> list[Cell]:
        """Return the cells that are not given up."""
        return [cell for cell in self._cells if self._strikes.get(cell.id, 0) < 2]

    def _tell(self, text: str) -> None:
        self._progress(min(1.0, self._elapsed() / self._settings.budget_s), text)


def _timed(latency_ns: float) -> int:
    return max(1, min(MAX_TIMED, round(BLOCK_NS / max(latency_ns, 1))))
