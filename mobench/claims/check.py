"""Claims against the evidence there is: a verdict for each kind of evidence, and what it rests on. Pure functions.

Kinds are never mixed: every expression that needs latencies is evaluated within one place. A claim's verdict is that of
the first kind that has one, in this order: counted from the layer tables or printed figures, where the claim needs no
latency; measured by us; measured by others; printed in the paper itself, which shows only that the paper agrees with
itself. Where places of that kind disagree, it is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mobench.claims.book import Claim, Test
from mobench.claims.functions import cells as cells_of
from mobench.claims.functions import is_counted, is_placed, truth
from mobench.claims.networks import in_zoo
from mobench.claims.places import Place, kind_for
from mobench.claims.values import Holds, Need, Truth, both
from mobench.zoo.pretrained import available
from mobench.zoo.spec import get

Verdict = Literal["confirmed", "refuted", "undecided", "not measured", "not testable"]
By = Literal["counted", "ours", "others", "printed", ""]
ORDER: tuple[Literal["counted", "ours", "others", "printed"], ...] = ("counted", "ours", "others", "printed")
VERDICTS: Mapping[Holds, Verdict] = {
    "yes": "confirmed",
    "no": "refuted",
    "open": "undecided",
    "missing": "not measured",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one kind of evidence in one place says of a claim; ``place`` is empty for what needs none."""

    by: By
    place: str
    truth: Truth

    @property
    def verdict(self) -> Verdict:
        """Its verdict."""
        return VERDICTS[self.truth.holds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim, its verdict, the kind of evidence it rests on, why, and every finding.

    ``needs`` are the cells that would have to be measured for a verdict of ours; ``command`` measures them, and is
    empty where the zoo does not have them all or none is needed.
    """

    claim: Claim
    verdict: Verdict
    by: By
    why: str
    findings: tuple[Finding, ...]
    also: tuple[Finding, ...] = ()
    needs: tuple[Need, ...] = ()
    command: str = ""

    def verdict_by(self, kind: By) -> str:
        """Return the verdict of one kind of evidence alone, or nothing where it has none."""
        return _combined([finding for finding in self.findings if finding.by == kind])[0] or ""


def judge(claim: Claim, places: Sequence[Place]) -> Judged:
    """Judge one claim by all places."""
    if claim.untestable:
        return Judged(claim=claim, verdict="not testable", by="", why=claim.untestable, findings=())
    if claim.lacking:
        return Judged(claim=claim, verdict="not measured", by="", why=claim.lacking, findings=())
    plain = [truth(test.tree, None) for test in claim.tests if not is_placed(test.tree)]
    placed = [test for test in claim.tests if is_placed(test.tree)]
    findings: list[Finding] = []
    if plain:
        counted = any(is_counted(test.tree) for test in claim.tests)
        findings.append(Finding(by="counted" if counted else "printed", place="", truth=both(plain)))
    found = _in_places(claim, placed, places)
    absent = [finding for finding in found if finding.truth.holds == "missing"]
    findings += [finding for finding in found if finding.truth.holds != "missing"]
    also = tuple(_also(claim, places))
    needs = tuple(dict.fromkeys(need for test in placed for need in cells_of(test.tree)))
    verdict, by, why = _verdict(findings, bool(placed))
    why = why or _nearest(absent, needs)
    ours = any(finding.by == "ours" for finding in findings)
    return Judged(
        claim=claim,
        verdict=verdict,
        by=by,
        why=why,
        findings=tuple(findings),
        also=also,
        needs=() if ours else needs,
        command="" if ours else command(needs),
    )


def _in_places(claim: Claim, tests: Sequence[Test], places: Sequence[Place]) -> list[Finding]:
    found: list[Finding] = []
    for place in places if tests else ():
        kind = kind_for(place, claim.paper)
        if kind is not None:
            said = both([truth(test.tree, place) for test in tests])
            # A table with two GPUs is two places, which say the same of its CPU.
            if not any(other.by == kind != "ours" and other.truth == said for other in found):
                found.append(Finding(by=kind, place=place.name, truth=said))
    return found


def _also(claim: Claim, places: Sequence[Place]) -> list[Finding]:
    found = []
    for test in claim.also:
        if is_placed(test.tree):
            found += [one for one in _in_places(claim, [test], places) if one.truth.holds != "missing"]
        else:
            by: By = "counted" if is_counted(test.tree) else "printed"
            found.append(Finding(by=by, place="", truth=truth(test.tree, None)))
    return found


def _verdict(findings: Sequence[Finding], placed: bool) -> tuple[Verdict, By, str]:
    """Return a claim's verdict, the evidence it rests on, and why."""
    plain = [finding for finding in findings if not finding.place]
    measured = [finding for finding in findings if finding.place]
    # A claim that needs latencies falls with its counts, but does not stand by them alone.
    if plain and (not placed or plain[0].truth.holds != "yes"):
        return plain[0].verdict, plain[0].by, "; ".join(plain[0].truth.seen) or plain[0].truth.why
    for kind in ORDER:
        of_kind = [finding for finding in measured if finding.by == kind]
        verdict, why = _combined(of_kind)
        if verdict:
            return verdict, kind, why
    return "not measured", "", ""


def _nearest(absent: Sequence[Finding], needs: Sequence[Need]) -> str:
    """Return what the place of ours that lacks least is short of; what is needed where there is none of ours."""
    ours = [finding for finding in absent if finding.by == "ours"]
    if ours:
        best = min(ours, key=lambda finding: len(finding.truth.needs))
        return f"{best.place}: {best.truth.why}"
    if needs:
        return f"no place has all of {', '.join(map(_cell, needs))}"
    return "no campaign of ours, and " + (absent[0].truth.why if absent else "no figures of others")


def _cell(need: Need) -> str:
    precision = "" if need.precision == "fp32" else f" {need.precision}"
    return f"{need.network}{precision}" + ("" if need.where == "top1" else f" on {need.where}")


def _combined(findings: Sequence[Finding]) -> tuple[Verdict | None, str]:
    """Return the verdict of findings of one kind, and why: undecided where places disagree."""
    said = [finding.truth.holds for finding in findings]
    if not said:
        return None, ""
    if "yes" in said and "no" in said:
        words = [f"{finding.verdict} on {finding.place}" for finding in findings if finding.truth.holds != "open"]
        return "undecided", f"places disagree: {'; '.join(words)}"
    holds: Holds = "yes" if "yes" in said else "no" if "no" in said else "open"
    which = [finding for finding in findings if finding.truth.holds == holds]
    others = f" (and {len(which) - 1} more)" if len(which) > 1 else ""
    open_too = sum(one.truth.holds == "open" for one in findings) if holds != "open" else 0
    straddles = f"; undecided in {open_too} more" if open_too else ""
    seen = "; ".join(which[0].truth.seen) + (f"; {which[0].truth.why}" if which[0].truth.why else "")
    text = f"{which[0].place}: {seen}" if which[0].place else seen
    return VERDICTS[holds], f"{text}{others}{straddles}{_more(which[0]) if holds == 'open' else ''}"


def _more(finding: Finding) -> str:
    """Return how much more measuring would decide; for figures of others there is none to be had."""
    more = finding.truth.more
    if finding.by != "ours" or more is None:
        return ""
    if math.isinf(more):
        return "; it lies on the threshold, or has no interval yet: measure from five starts on"
    return f"; about {math.ceil(max(more, 1.01) * 10) / 10:.1f} times the starts would decide it, if it stays"


def command(needs: Sequence[Need]) -> str:
    """Return the commands that would measure cells; nothing where the zoo does not have them all."""
    if not needs or not all(in_zoo(need.network) and need.where != "gpu_other" for need in needs):
        return ""
    networks = tuple(dict.fromkeys(need.network for need in needs))
    precisions = tuple(dict.fromkeys(need.precision for need in needs))
    if any(need.where == "top1" for need in needs):
        return f"{' && '.join(exports(networks, precisions))} && mobench eval {' '.join(networks)} --data FOLDER"
    gpu = any(need.where == "gpu" for need in needs)
    devices = " --device android-cpu --device android-gpu" if gpu else ""
    wanted = _asked(precisions)
    return " && ".join((*exports(networks, precisions), f"mobench run {' '.join(networks)}{wanted}{devices}"))


def exports(networks: Sequence[str], precisions: Sequence[str], *, random: bool = False) -> list[str]:
    """Return the commands that export networks: trained where weights are published, else random, which is as fast.

    ``random``: all of them, so that nothing is downloaded.
    """
    trained = [network for network in networks if not random and available(get(network))]
    lines = []
    for group, weights in ((trained, ""), ([each for each in networks if each not in trained], " --weights random")):
        if group:
            lines.append(f"mobench export {' '.join(group)}{_asked(precisions)}{weights}")
    return lines


def _asked(precisions: Sequence[str]) -> str:
    return "".join(f" --precision {precision}" for precision in precisions) if tuple(precisions) != ("fp32",) else ""
