"""The doubts, a group each with its mend: what no reader should take at face value, and what would settle it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mobench.pareto import TimedCell
from mobench.records import Run
from mobench.report.html.markup import e, folded, items, some
from mobench.verdicts.comparability import differences, machine_name

SHOWN = 30  # reasons, or campaigns, of a group that are told where it unfolds
_FIGURES = re.compile(r"\d+([.,]\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One kind of doubt: what it is, how to mend it, how many cells (or campaigns) it is about, and its reasons."""

    name: str
    mend: str
    count: int
    reasons: tuple[str, ...]
    of: str = "cells"


def gather(cells: Sequence[TimedCell], runs: Sequence[Run], faults: Sequence[str]) -> tuple[Group, ...]:
    """Return the groups, the largest first within cells, then what is in doubt of whole campaigns and journals."""
    found: dict[str, list[tuple[str, str]]] = {}
    mends: dict[str, str] = {}
    for cell in cells:
        where = f"{cell.summary.cell} in {cell.campaign}"
        for doubt in cell.summary.doubts:
            mends[doubt.name] = doubt.mend
            found.setdefault(doubt.name, []).append((where, doubt.why))
        if cell.summary.failure:
            mends["did not run"] = "each says why"
            found.setdefault("did not run", []).append((where, cell.summary.failure))
    groups = [
        Group(name=name, mend=mends[name], count=len(about), reasons=_reasons(about)) for name, about in found.items()
    ]
    groups.sort(key=lambda group: (-group.count, group.name))
    cut = [str(run.header.get("campaign", run.path.stem)) for run in runs if run.end is None]
    resume = "what was measured counts; `mobench run --resume CAMPAIGN` takes it up again"
    apart, together = _apart(runs), "to compare models closely, time them in one `mobench run`"
    others = (
        Group(name="cut off", mend=resume, count=len(cut), reasons=tuple(cut), of="campaigns"),
        Group(
            name="not interleaved",
            mend=together,
            count=len(apart),
            reasons=tuple(apart),
            of="differences between campaigns of one machine",
        ),
        Group(
            name="left out",
            mend="restore the file, or move it away",
            count=len(faults),
            reasons=tuple(faults),
            of="journals",
        ),
    )
    return (*groups, *(group for group in others if group.count))


def _reasons(about: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the reasons that differ in more than their figures, the commonest first, each with one cell in full."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for where, why in about:
        kinds.setdefault(_FIGURES.sub("", why), []).append((where, why))
    ordered = sorted(kinds.values(), key=len, reverse=True)
    return tuple(
        f"{own[0][0]}: {own[0][1]}" if len(own) == 1 else f"{len(own)} cells, such as {own[0][0]}: {own[0][1]}"
        for own in ordered
    )


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
            f"<strong>{e(group.name)}</strong>: {group.count} {e(group.of)}. Mend: {e(group.mend)}.",
            items(some(group.reasons, SHOWN)),
            attributes=f'class="doubt" data-doubt="{e(group.name)}"',
        )
        for group in groups
    )
