"""`mobench claims`: what the papers say, judged by what was counted and measured."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mobench import store
from mobench.claims import book, check, plan
from mobench.claims.journals import journal_places
from mobench.claims.places import Place, table_places
from mobench.cli import terminal
from mobench.errors import BadInputError
from mobench.records import Accuracy, Run
from mobench.report.tables import TABLE_FORMATS, Column, TableFormat, render

DEFAULT = Path("results")
COLUMNS = (
    Column(key="id", title="claim"),
    Column(key="verdict", title="verdict"),
    Column(key="by", title="by"),
    Column(key="ours", title="measured here"),
    Column(key="others", title="measured by others"),
    Column(key="printed", title="printed"),
    Column(key="short", title="why", display_only=True),
    Column(key="why"),
)
# A document has room for the sentence and the whole reason.
DOCUMENT_COLUMNS = (
    COLUMNS[0],
    Column(key="says", title="it says", display_only=True),
    *(column for column in COLUMNS[1:] if not column.display_only and column.key != "why"),
    Column(key="why", title="why"),
)
LONGEST_WHY = 100  # characters of a reason in the table; all of it stands where a claim is asked for by its id
PLAN_COLUMNS = (
    Column(key="claim", title="claim"),
    Column(key="new", title="files it adds"),
)


def load(paths: Sequence[Path], threads: int | None = None) -> tuple[list[Place], list[str]]:
    """Return every place there is evidence from, ours first, and notes on journals that were left out.

    ``threads``: of our CPUs, only with so many.
    """
    runs: list[Run] = []
    accuracies: list[Accuracy] = []
    notes: list[str] = []
    found: list[Path] = []
    if paths:
        found = store.find(paths)
    elif DEFAULT.is_dir():
        try:
            found = store.find([DEFAULT])
        except BadInputError as error:
            notes.append(str(error))
    for journal in found:
        try:
            run = store.read(journal)
        except BadInputError as error:
            notes.append(f"left out: {error}")
            continue
        accuracies += run.accuracies
        if run.blocks:
            runs.append(run)
    ours = [place for place in journal_places(runs, accuracies) if threads is None or place.threads == threads]
    return [*ours, *table_places()], notes


def chosen(claims: Sequence[book.Claim], ids: Sequence[str], papers: Sequence[str]) -> list[book.Claim]:
    """Return the claims of these ids and papers, in the file's order; without any, all.

    Raises:
        BadInputError: an id that no claim has, with the nearest ones.
    """
    import difflib

    known = [claim.id for claim in claims]
    for asked in ids:
        if asked not in known:
            near = difflib.get_close_matches(asked, known, n=3, cutoff=0.4)
            mend = f"did you mean {' or '.join(near)}?" if near else "`mobench claims` lists all"
            raise BadInputError(f"no claim has the id {asked!r}", mend=mend)
    return [
        claim for claim in claims if (not ids and not papers) or claim.id in ids or (claim.paper in papers and not ids)
    ]


def row(judged: check.Judged) -> dict[str, Any]:
    """Return a claim's row."""
    return {
        "id": judged.claim.id,
        "says": judged.claim.says,
        "verdict": judged.verdict,
        "by": judged.by,
        "ours": judged.verdict_by("ours"),
        "others": judged.verdict_by("others"),
        "printed": judged.verdict_by("printed"),
        "short": textwrap.shorten(judged.why, LONGEST_WHY, placeholder=" ..."),
        "why": judged.why,
    }


def as_json(judged: check.Judged) -> dict[str, Any]:
    """Return all that is known of a claim."""
    claim = judged.claim
    fields = row(judged)
    del fields["short"]
    return {
        **fields,
        "counted": judged.verdict_by("counted"),
        "paper": book.PAPERS[claim.paper],
        "table": claim.table,
        "basis": claim.basis,
        "kind": list(claim.kind),
        "note": claim.note,
        "test": [test.text for test in claim.tests],
        "findings": [_finding(finding) for finding in judged.findings],
        "also": [_finding(finding) for finding in judged.also],
        "needs": [{"network": n.network, "precision": n.precision, "where": n.where} for n in judged.needs],
        "command": judged.command,
        "reproduce": f"mobench claims {claim.id}",
    }


def _finding(finding: check.Finding) -> dict[str, Any]:
    more = finding.truth.more
    return {
        "by": finding.by,
        "place": finding.place,
        "verdict": finding.verdict,
        "seen": list(finding.truth.seen),
        "times_more": more if more is not None and more < float("inf") else None,
    }


def details(judged: check.Judged) -> list[str]:
    """Return a claim in words, with all its evidence, a line each."""
    claim = judged.claim
    lines = [f"{claim.id}: {claim.says}", f"  {book.PAPERS[claim.paper]}, {claim.table} ({claim.basis})"]
    lines += [f"  holds where {test.text}" for test in claim.tests]
    for title, findings in (("", judged.findings), ("also, ", judged.also)):
        for finding in findings:
            where = f"{finding.by}, {finding.place}" if finding.place else finding.by
            seen = "; ".join(finding.truth.seen) or finding.truth.why
            lines.append(f"  {title}{finding.verdict} ({where}): {seen}")
    if claim.note:
        lines.append(f"  note: {claim.note}")
    if judged.command:
        lines.append(f"  measure it: {judged.command}")
    return lines


def summary(judged: Sequence[check.Judged]) -> str:
    """Return how many claims have which verdict, and what the verdicts rest on."""
    verdicts = Counter(each.verdict for each in judged)
    said = ", ".join(f"{verdicts[v]} {v}" for v in (*check.VERDICTS.values(), "not testable") if verdicts[v])
    by = Counter(each.by for each in judged)
    words = {
        "counted": "counts",
        "ours": "our measurements",
        "others": "others' measurements",
        "printed": "print alone",
    }
    rests = ", ".join(f"{by[kind]} by {words[kind]}" for kind in check.ORDER if by[kind])
    return f"{len(judged)} claims: {said}" + (f" ({rests})" if rests else "")


def _show_plan(made: plan.Plan, device: str, fmt: TableFormat) -> None:
    if fmt == "json":
        document = {
            "device": device,
            "claims": [{"claim": step.claim, "new": list(step.new)} for step in made.steps],
            "commands": list(made.commands),
            "not_decided": [{"claim": claim, "why": why} for claim, why in made.out],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    rows = [{"claim": step.claim, "new": ", ".join(step.new) or "none"} for step in made.steps]
    notes = [f"one campaign on {device} would have a say on {len(made.steps)} claims that ours have not decided"]
    notes += [f"not {claim}: {why}" for claim, why in made.out]
    click.echo(render(PLAN_COLUMNS, rows, fmt, notes=notes, width=terminal.width(), colour=terminal.colour()), nl=False)
    for line in made.commands:
        click.echo(line)


def _run(commands: Sequence[str]) -> int:
    """Run the plan's commands here, one after the other; the first that fails ends it, with its status."""
    from mobench.cli import cli

    for line in commands:
        click.echo(f"$ {line}", err=True)
        status = cli.main(shlex.split(line)[1:], standalone_mode=False)
        if status:
            return int(status)
    return 0


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--paper", "papers", multiple=True, type=click.Choice(list(book.PAPERS)),
              help="Only this paper's. Repeatable.")  # fmt: skip
@click.option("--results", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
              help="Journals, or folders of them. Repeatable; default: the folder results.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Of our measurements on a CPU, those with so many; the papers have one.")  # fmt: skip
@click.option("--claims", "file", type=click.Path(path_type=Path), metavar="FILE",
              help="Other claims, of the same form.")  # fmt: skip
@click.option("--plan", "planned", is_flag=True, help="Print the campaign that would decide the most claims.")
@click.option("--run", "run", is_flag=True, help="With --plan: run it, too; then `mobench claims` has its figures.")
@click.option("--device", type=click.Choice(list(plan.WHERE)), default="desktop-cpu", show_default=True,
              help="With --plan.")  # fmt: skip
@click.option("--most", type=click.IntRange(1), metavar="N", help="With --plan: no more than N files.")
@click.option("--random", is_flag=True, help="With --plan: random weights for all, nothing is downloaded.")
@click.option("--budget", type=click.FloatRange(0.1), metavar="SECONDS",
              help="With --plan: of the campaign; default 20 s for each file and device.")  # fmt: skip
@click.option("--format", "fmt", type=click.Choice(TABLE_FORMATS), default="table", show_default=True)
@click.option("--json", "json_out", is_flag=True, help="All that is known of each claim, as a JSON list.")
def command(
    ids: tuple[str, ...],
    papers: tuple[str, ...],
    results: tuple[Path, ...],
    threads: int,
    file: Path | None,
    planned: bool,
    run: bool,
    device: str,
    most: int | None,
    random: bool,
    budget: float | None,
    fmt: TableFormat,
    json_out: bool,
) -> int:
    """What the papers claim, judged: confirmed, refuted, undecided, not measured, not testable.

    Three kinds of evidence are never mixed: measured here (the journals), measured by others (public figures of real
    phones), and printed in the paper itself. Counts are exact, from the layer tables. With IDs, each claim is told in
    full, with its evidence and the command that would measure what is missing.
    """
    if not planned and (run or random or most or budget):
        raise click.UsageError("--run, --most, --random and --budget go with --plan")
    read = book.open_book(file) if file else book.own()
    places, notes = load(results, threads)
    for note in (*notes, *read.faults):
        click.echo(f"note: {note}", err=True)
    judged = [check.judge(claim, places) for claim in chosen(read.claims, ids, papers)]
    failed = 1 if read.faults else 0
    if planned:
        made = plan.plan(judged, device, most_files=most, random=random, budget_s=budget)
        _show_plan(made, device, "json" if json_out else fmt)
        return _run(made.commands) if run else failed
    if json_out or fmt == "json":
        click.echo(json.dumps([as_json(each) for each in judged], indent=2, ensure_ascii=False, allow_nan=False))
        return failed
    rows = [row(each) for each in judged]
    columns = DOCUMENT_COLUMNS if fmt in ("md", "latex") else COLUMNS
    text = render(columns, rows, fmt, notes=[summary(judged)], width=terminal.width(), colour=terminal.colour())
    click.echo(text, nl=False)
    for each in judged if ids and fmt in ("table", "md") else ():
        click.echo("\n" + "\n".join(details(each)))
    return failed
