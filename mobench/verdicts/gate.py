"""The gate: did a cell get slower by more than is tolerated? A status a cell, a verdict for all. Pure functions.

A cell falls when the interval of its ratio lies above 1 + tolerance as a whole. The intervals are so wide that, where
every true ratio is at most 1 + tolerance, the chance that any of the cells falls is at most ``false_alarms``: each gets
an equal part of it (Bonferroni), on one side.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mobench.errors import BadInputError
from mobench.records import Run
from mobench.stats import MIN_INCARNATIONS
from mobench.verdicts.comparability import refuse
from mobench.verdicts.comparison import Comparison, basis, compare, longer, more_s, percent, was_timed
from mobench.verdicts.matching import Match

Status = Literal["regression", "failed", "undecided", "gone", "new", "passed", "unchanged"]
TOLERANCE = 0.03
FALSE_ALARMS = 0.01
FELL: tuple[Status, ...] = ("regression", "failed")
FELL_STRICT: tuple[Status, ...] = (*FELL, "undecided", "gone")
# What XML 1.0 cannot hold, and a file's name may.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One cell before the gate. ``comparison`` is of the new (B) over the old (A), None where there is none."""

    name: str
    status: Status
    why: str
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """All cells' cases, and the terms. ``strict``: what is undecided or gone makes it fall too."""

    cases: tuple[Case, ...]
    tolerance: float
    false_alarms: float
    strict: bool = False

    def falls(self, case: Case) -> bool:
        """Whether this case makes the gate fall."""
        return case.status in (FELL_STRICT if self.strict else FELL)

    @property
    def fell(self) -> bool:
        """Whether the gate fell."""
        return any(map(self.falls, self.cases))

    @property
    def rate(self) -> str:
        """State the false-alarm rate."""
        text = (
            f"where no cell is slower by more than {percent(self.tolerance)}, at most {percent(self.false_alarms)} of"
        )
        text += " gates fall by chance"
        if any(case.comparison and case.comparison.basis != "paired" for case in self.cases):
            text += "; what changed between campaigns (basis not paired) is not in that rate"
        return text

    @property
    def headline(self) -> str:
        """One line: the verdict, and how many cells are in each status."""
        counts = Counter(case.status for case in self.cases)
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        return f"gate {'fell' if self.fell else 'holds'}: {listed} (tolerance {percent(self.tolerance)})"


def confidence(false_alarms: float, cells: int) -> float:
    """Return the two-sided confidence of each of ``cells`` intervals, for this share of false alarms of them all.

    >>> confidence(0.01, 1), confidence(0.01, 4)
    (0.98, 0.995)
    """
    return 1 - 2 * false_alarms / max(1, cells)


def judge(name: str, comparison: Comparison, tolerance: float = TOLERANCE) -> Case:
    """Return a compared cell's case: slower than tolerated, within tolerance, or undecided and for how much longer."""
    limit = 1 + tolerance
    ci = comparison.ratio_ci
    if comparison.incarnations < MIN_INCARNATIONS or ci is None:
        more = comparison.measured_s * (MIN_INCARNATIONS / comparison.incarnations - 1)
        why = f"{comparison.incarnations} starts are too few to decide; {longer(more)}"
        return Case(name=name, status="undecided", why=why, comparison=comparison)
    if ci[0] > limit:
        return Case(
            name=name, status="regression", why=f"slower by more than {percent(tolerance)}", comparison=comparison
        )
    if ci[1] < limit:
        return Case(name=name, status="passed", why="", comparison=comparison)
    away = abs(math.log(comparison.ratio / limit))
    why = longer(more_s(ci, away, comparison.measured_s))
    return Case(name=name, status="undecided", why=why, comparison=comparison)


def decide(
    matches: Sequence[Match],
    *,
    gone: Sequence[str] = (),
    new: Sequence[str] = (),
    unchanged: Sequence[str] = (),
    tolerance: float = TOLERANCE,
    false_alarms: float = FALSE_ALARMS,
    strict: bool = False,
    cpu: bool = False,
    unpaired: bool = False,
    anyway: bool = False,
) -> Gate:
    """Judge every match, the new cell (``b``) against the old (``a``), and all of them together.

    Args:
        matches: the cells that are on both sides.
        gone: names of cells that only the old side has.
        new: names of cells that only the new side has.
        unchanged: names of files that are the same on both sides.
        tolerance: the slowdown that is let pass, as a share.
        false_alarms: the chance that the gate falls where no cell is slower than tolerated.
        strict: what is undecided or gone makes the gate fall.
        cpu: compare CPU time instead of wall clock.
        unpaired: accept p50 against p50, whose rate of false alarms is not known.
        anyway: accept cells that are not comparable.

    Raises:
        BadInputError: cells that are not comparable, or only unpaired.
    """
    judged = [match for match in matches if was_timed(match.one, match.a) and was_timed(match.other, match.b)]
    level = confidence(false_alarms, len(judged))
    cases = []
    for match in matches:
        comparison = compare(match, confidence=level, cpu=cpu)
        if comparison is None:
            cases.append(_untimed(match))
            continue
        if not anyway:
            refuse(comparison.differences, f"{match.b} and {match.a}")
        if comparison.basis == "unpaired" and not unpaired:
            why = "no other cell is in both campaigns, and p50 against p50 has no known rate of false alarms"
            raise BadInputError(f"{match.b} against {match.a}", why, "time old and new in one campaign, or --unpaired")
        case = judge(match.b, comparison, tolerance)
        if case.status == "undecided" and any(failure.cell == match.b for failure in match.other.failures):
            case = replace(case, status="failed", why=f"it dies: {_failure(match.other, match.b)}")
        cases.append(case)
    cases += [Case(name=name, status="unchanged", why="the same file on both sides") for name in unchanged]
    cases += [Case(name=name, status="new", why="it has no counterpart that was timed") for name in new]
    cases += [Case(name=name, status="gone", why="it has no counterpart among the new") for name in gone]
    return Gate(cases=tuple(cases), tolerance=tolerance, false_alarms=false_alarms, strict=strict)


def _untimed(match: Match) -> Case:
    """A cell that one side has no figure of: it failed, or the campaign ended before its turn."""
    if was_timed(match.one, match.a):
        return Case(name=match.b, status="failed", why=f"it ran before; now {_failure(match.other, match.b)}")
    before = _failure(match.one, match.a)
    if not was_timed(match.other, match.b):
        why = f"it does not run: {_failure(match.other, match.b)}; nor did it before: {before}"
        return Case(name=match.b, status="failed", why=why)
    return Case(name=match.b, status="new", why=f"nothing to compare with: before, {before}")


def _failure(run: Run, cell: str) -> str:
    failure = next((failure for failure in run.failures if failure.cell == cell), None)
    return ": ".join(filter(None, (failure.what, failure.why))) if failure else "it was not timed"


def rows(gate: Gate) -> list[dict[str, object]]:
    """Return a row a case: ratio and interval of new over old, and all that a machine may want to know beside."""
    return [
        {
            "cell": case.name,
            "status": case.status,
            "fell": gate.falls(case),
            "ratio": case.comparison.ratio if case.comparison else None,
            "ratio_ci": case.comparison.ratio_ci if case.comparison else None,
            "confidence": case.comparison.confidence if case.comparison else None,
            "basis": basis(case.comparison) if case.comparison else "",
            "incarnations": case.comparison.incarnations if case.comparison else None,
            "why": case.why,
        }
        for case in gate.cases
    ]


def junit(gate: Gate) -> str:
    """Return the gate as JUnit XML, a test case a cell.

    A regression is a failure, a cell that no longer runs an error; what is undecided, gone or new is skipped, or a
    failure where the gate is strict about it.
    """
    skipped = [case for case in gate.cases if not gate.falls(case) and case.status in ("undecided", "gone", "new")]
    counts = {
        "tests": len(gate.cases),
        "failures": sum(gate.falls(case) and case.status != "failed" for case in gate.cases),
        "errors": sum(case.status == "failed" for case in gate.cases),
        "skipped": len(skipped),
    }
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", {"name": "mobench gate"} | {key: str(n) for key, n in counts.items()})
    properties = ET.SubElement(suite, "properties")
    for name, value in (("tolerance", gate.tolerance), ("false_alarms", gate.false_alarms), ("strict", gate.strict)):
        ET.SubElement(properties, "property", name=name, value=str(value))
    for case in gate.cases:
        element = ET.SubElement(suite, "testcase", classname="mobench.gate", name=_xml(case.name))
        message = _xml(f"{case.status}: {case.why}" if case.why else case.status)
        if gate.falls(case):
            tag = "error" if case.status == "failed" else "failure"
            ET.SubElement(element, tag, message=message, type=case.status)
        elif case in skipped:
            ET.SubElement(element, "skipped", message=message)
        if case.comparison:
            ET.SubElement(element, "system-out").text = _xml(figures(case.comparison))
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def figures(comparison: Comparison) -> str:
    """Return a comparison's figures on one line."""
    ci = comparison.ratio_ci
    interval = f" [{ci[0]:.4f}, {ci[1]:.4f}] at {100 * comparison.confidence:.4g} %" if ci else ""
    return (
        f"ratio of latencies, {comparison.b} over {comparison.a}: {comparison.ratio:.4f}{interval},"
        f" {basis(comparison)}, {comparison.incarnations} starts"
    )


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)
