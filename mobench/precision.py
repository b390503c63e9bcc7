"""How precisely a campaign knows its figures so far: a median a start and cell; the blocks are in the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from mobench.records import Block
from mobench.stats import MIN_INCARNATIONS, block_ns, half_width, log_interval

Figures = Mapping[str, Mapping[int, float]]  # of one start: by cell and round, the block's figure in ns


class Known:
    """What is known after some starts. A campaign of days keeps no more than two numbers a start and cell."""

    def __init__(self, baseline: str) -> None:
        self._baseline = baseline
        self._p50_ns: dict[str, list[float]] = {}
        self._ratio: dict[str, list[float]] = {}

    def add_start(self, figures: Figures) -> None:
        """Add the rounds of one more start of the processes."""
        baseline = figures.get(self._baseline, {})
        for cell, own in figures.items():
            if own:
                self._p50_ns.setdefault(cell, []).append(median(own.values()))
            ratios = [ns / baseline[number] for number, ns in own.items() if baseline.get(number)]
            if ratios:
                self._ratio.setdefault(cell, []).append(median(ratios))

    def add_journaled(self, blocks: Iterable[Block]) -> None:
        """Add the starts of a campaign that is taken up again."""
        starts: dict[int, dict[str, dict[int, float]]] = {}
        for block in blocks:
            if block.phase == "steady":
                own = starts.setdefault(block.incarnation, {}).setdefault(block.cell, {})
                own[block.round] = block_ns(block)
        for figures in starts.values():
            self.add_start(figures)

    def has_run(self, cell: str) -> bool:
        """Return whether the cell was timed in any of the starts."""
        return cell in self._p50_ns

    def is_precise(self, cells: Iterable[str], *, p50_half_width: float, ratio_half_width: float) -> bool:
        """Return whether the intervals of all these cells are as narrow as asked, as shares of their figures."""
        left = set(cells)
        for cell in left:
            p50_ns, ratio = self._p50_ns.get(cell, []), self._ratio.get(cell)
            if len(p50_ns) < MIN_INCARNATIONS or half_width(*log_interval(p50_ns, ())) > p50_half_width:
                return False
            paired = cell != self._baseline and self._baseline in left
            if paired and ratio and half_width(*log_interval(ratio, ())) > ratio_half_width:
                return False
        return True
