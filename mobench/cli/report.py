"""`mobench report`: all results as one HTML file that can be mailed, published or printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from mobench.cli.terminal import Progress
from mobench.errors import BadInputError
from mobench.files import write_text
from mobench.report.html.evidence import read

DEFAULT = Path("results")


@click.command()
@click.option("--results", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
              help="Journals, or folders of them. Repeatable; default: the folder results.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True,
              metavar="FILE")  # fmt: skip
@click.option("--claims", "claims_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Other claims than the papers', of the same form.")  # fmt: skip
@click.option("--json", "json_out", is_flag=True, help="The file that was written and what it holds, as JSON.")
def command(results: tuple[Path, ...], output: Path, claims_file: Path | None, json_out: bool) -> int:
    """All results as one HTML file: fronts, claims, CPU against GPU, devices, doubts, and the data itself.

    The file needs no network and no server: it can be opened from a disk, mailed or published. Every figure says whose
    it is: measured here, measured by others, or printed in a paper. A journal or claim that cannot be read is a line
    on stderr and in the report, and the rest is there.
    """
    if not results and not DEFAULT.is_dir():
        raise BadInputError("no results", "there is no folder results here", "make some with `mobench run`")
    if output.suffix.lower() not in (".html", ".htm"):
        raise BadInputError(f"cannot write {output}", "a report is HTML", "name it .html")
    with Progress("reading") as show:
        evidence = read(list(results) or [DEFAULT], lambda share: show(share / 2, "reading"))
        # The readers' own imports take a second: only now, so that --help and a wrong path are answered at once.
        from mobench.report.html import page

        made = page.gather(
            evidence,
            claims_file=claims_file,
            command=_command(results, output, claims_file),
            progress=lambda share, text: show(0.5 + share / 2, text),
        )
        text = page.render(made)
    found = page.counts(made)
    for fault in found["faults"]:
        click.echo(f"note: {fault}", err=True)
    write_text(output, text)
    if json_out:
        document = {"file": str(output), "bytes": len(text.encode()), **found}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        click.echo(
            f"{output}: {found['timed']} cells, {found['fronts']} fronts, {sum(found['claims'].values())} claims"
        )
    return 1 if made.claims.faults else 0


def _command(results: tuple[Path, ...], output: Path, claims_file: Path | None) -> str:
    """Return the command as it was given, of absolute paths only the names."""
    parts = ["mobench", "report"]
    for option, paths in (("--results", results), ("--claims", [claims_file] if claims_file else []), ("-o", [output])):
        for path in paths:
            parts += [option, path.name if path.is_absolute() else str(path)]
    return shlex.join(parts)
