"""The doubts, a group each with its mend: what no reader should take at face value, and what would settle it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mobench.pareto import TimedCell
from mobench.records import Run
from mobench.report.html.markup import e, folded, items, some
from mobench.verdicts.comparability import differences, machine_name

SHOWN = 100  # cells of a group that are named where it unfolds


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One kind of doubt: what it is, how to mend it, and whom it is about, a line each."""

    name: str
    mend: str
    about: tuple[str, ...]
    of: str = "cells"


def gather(cells: Sequence[TimedCell], runs: Sequence[Run], faults: Sequence[str]) -> tuple[Group, ...]:
    """Return the groups, the largest first within cells, then what is in doubt of whole campaigns and journals."""
    found: dict[str, list[str]] = {}
    mends: dict[str, str] = {}
    for cell in cells:
        for doubt in cell.summary.doubts:
            mends[doubt.name] = doubt.mend
            found.setdefault(doubt.name, []).append(f"{cell.summary.cell}, {cell.campaign}: {doubt.why}")
    groups = [Group(name=name, mend=mends[name], about=tuple(about)) for name, about in found.items()]
    groups.sort(key=lambda group: (-len(group.about), group.name))
    failed = [f"{cell.summary.cell}, {cell.campaign}: {cell.summary.failure}" for cell in cells if cell.summary.failure]
    candidates = (
        Group(name="did not run", mend="each says why", about=tuple(failed)),
        Group(
            name="cut off",
            mend="what was measured counts; `mobench run --resume CAMPAIGN` takes it up again",
            about=tuple(str(run.header.get("campaign", run.path.stem)) for run in runs if run.end is None),
            of="campaigns",
        ),
        Group(
            name="not interleaved",
            mend="to compare models closely, time them in one `mobench run`",
            about=tuple(_apart(runs)),
            of="differences between campaigns of one machine",
        ),
        Group(name="left out", mend="restore the file, or move it away", about=tuple(faults), of="journals"),
    )
    return (*groups, *(group for group in candidates if group.about))


def _apart(runs: Sequence[Run]) -> list[str]:
    """Return in what campaigns of one machine differ from its newest, with how many do."""
    newest: dict[str, Run] = {}
    found: Counter[tuple[str, str]] = Counter()
    for run in runs:  # newest first
        name = machine_name(run)
        if name in newest:
            found.update((name, str(difference)) for difference in differences(run, newest[name]))
        newest.setdefault(name, run)
    return [f"{name}: {said} ({count} campaigns)" for (name, said), count in found.most_common()]


def section(groups: Sequence[Group]) -> str:
    """Return the section, a group a block."""
    if not groups:
        return "<p>None: no cell gave a reason not to take its figure at face value.</p>"
    return "".join(
        folded(
            f"<strong>{e(group.name)}</strong>: {len(group.about)} {e(group.of)}. Mend: {e(group.mend)}.",
            items(some(group.about, SHOWN)),
            attributes=f'class="doubt" data-doubt="{e(group.name)}"',
        )
        for group in groups
    )
