"""The claims: each with its verdict, whose evidence that rests on, and all the evidence where it is unfolded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobench.claims import book, check
from mobench.claims.places import Place
from mobench.errors import BadInputError
from mobench.report.html.evidence import EVIDENCE
from mobench.report.html.markup import badge, chooser, e, folded, items, verdict

# What the papers say of CPU against GPU in one sentence each: the verdicts that a reader wants first.
HEADLINES = ("moga.c_gpu_aware", "moga.v2_beats_v3_on_gpu")
VERDICTS = (*check.VERDICTS.values(), "not testable")
FINDINGS = 8  # of one kind that are shown; `mobench claims ID` has all
PHONES = "The claims are about phones' GPUs: another GPU's order illustrates them and decides nothing."


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims of a file as they are judged, the two headlines of our own, and what could not be read."""

    judged: tuple[check.Judged, ...]
    headlines: tuple[check.Judged, ...]
    faults: tuple[str, ...]


def gather(places: Sequence[Place], file: Path | None) -> Claims:
    """Judge the project's claims, or those of a file; a file that cannot be read becomes a fault."""
    own = book.own()
    faults: tuple[str, ...] = ()
    claims: Sequence[book.Claim] = own.claims
    if file is not None:
        try:
            other = book.open_book(file)
            claims, faults = other.claims, other.faults
        except BadInputError as error:
            claims, faults = (), (str(error),)
    judged = tuple(check.judge(claim, places) for claim in claims)
    known = {one.claim: one for one in judged}
    headlines = [claim for name in HEADLINES for claim in own.claims if claim.id == name]
    return Claims(
        judged=judged,
        headlines=tuple(known.get(claim) or check.judge(claim, places) for claim in headlines),
        faults=faults,
    )


def counts(judged: Sequence[check.Judged]) -> dict[str, int]:
    """Return how many claims have which verdict, in the order of VERDICTS."""
    found = Counter(one.verdict for one in judged)
    return {word: found[word] for word in VERDICTS if found[word]}


def sentence(judged: Sequence[check.Judged]) -> str:
    """Return the counts in words, and what the verdicts rest on."""
    if not judged:
        return "No claim could be read."
    said = ", ".join(f"{count} {word}" for word, count in counts(judged).items())
    by = Counter(one.by for one in judged)
    rests = ", ".join(f"{by[kind]} {EVIDENCE[kind]}" for kind in check.ORDER if by[kind])
    return f"{len(judged)} claims: {said}" + (f" (decided by what is: {rests})." if rests else ".")


def headline(judged: check.Judged) -> str:
    """Return a card: what is claimed, the verdict, and what each kind of evidence says of it."""
    claim = judged.claim
    lines = [
        f"{badge(kind)} {verdict(judged.verdict_by(kind) or 'not measured')}" for kind in ("ours", "others", "printed")
    ]
    return (
        f'<div class="card" data-headline="{e(claim.id)}"><h3>{e(claim.says)}</h3>'
        f'<p class="marks">{verdict(judged.verdict)} {badge(judged.by)}</p>'
        f"<p>{e(judged.why)}</p>{items(lines)}"
        f"<p><small>{e(book.PAPERS[claim.paper])}, {e(claim.table)} ({e(claim.basis)}). {PHONES}</small></p></div>"
    )


def section(found: Claims) -> str:
    """Return the section: filters, and a line a claim that unfolds."""
    faults = "".join(f'<p class="fault">{e(fault)}</p>' for fault in found.faults)
    if not found.judged:
        return f"{faults}<p>No claim could be read.</p>"
    papers = [key for key in book.PAPERS if any(one.claim.paper == key for one in found.judged)]
    clear = '<button type="button" data-action="clear">Show all</button>'
    return (
        f"{faults}<p>{e(sentence(found.judged))} Kinds of evidence are never mixed: a verdict is that of the first kind"
        f" that has one, {', '.join(badge(kind) for kind in check.ORDER)}.</p>"
        '<div class="filters" role="group" aria-label="Filter the claims">'
        f"{chooser('verdict', 'verdict', counts(found.judged))}"
        f"{chooser('paper', 'paper', [(key, book.PAPERS[key]) for key in papers])}"
        f'<label>text <input type="search" data-filter="text"></label>{clear}</div>'
        '<p id="claims-count" aria-live="polite"></p>' + "".join(map(_claim, found.judged))
    )


def _claim(judged: check.Judged) -> str:
    claim = judged.claim
    summary = (
        f"<code>{e(claim.id)}</code><span>{e(claim.says)}</span>"
        f'<span class="marks">{verdict(judged.verdict)} {badge(judged.by)}</span>'
    )
    lines = [
        f"<p>{e(book.PAPERS[claim.paper])}, {e(claim.table)} ({e(claim.basis)}). {e(judged.why)}</p>",
        "".join(f"<p>Holds where <code>{e(test.text)}</code></p>" for test in claim.tests),
        *(_findings(judged.findings, kind) for kind in check.ORDER),
        "<p>Also shown, deciding nothing:</p>" if judged.also else "",
        *(_findings(judged.also, kind) for kind in check.ORDER),
    ]
    if claim.note:
        lines.append(f"<p>Note: {e(claim.note)}</p>")
    if judged.command:
        lines.append(f"<p>Measure it:</p><pre tabindex=0><code>{e(judged.command)}</code></pre>")
    lines.append(f"<p><code>mobench claims {e(claim.id)}</code> tells the same.</p>")
    marks = f'class="claim" data-claim="{e(claim.id)}" data-verdict="{e(judged.verdict)}" data-paper="{e(claim.paper)}"'
    return folded(summary, f'<div class="evidence">{"".join(lines)}</div>', attributes=marks)


def _findings(findings: Sequence[check.Finding], kind: str) -> str:
    """Return what one kind of evidence says, a box a place, those that decide first."""
    own = sorted((one for one in findings if one.by == kind), key=lambda one: VERDICTS.index(one.verdict))
    boxes = [
        f'<div class="finding">{badge(kind)} {verdict(one.verdict)} {e(one.place)}'
        f"{''.join(f'<br>{e(seen)}' for seen in one.truth.seen or (one.truth.why,))}</div>"
        for one in own[:FINDINGS]
    ]
    left = len(own) - FINDINGS
    return "".join(boxes) + (f"<p>and {left} more places</p>" if left > 0 else "")
