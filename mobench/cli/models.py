"""`mobench models`: the networks that can be exported, with their papers, sizes and published accuracy."""

from __future__ import annotations

import json
from typing import Any

import click

from mobench.errors import BadInputError
from mobench.zoo import ModelSpec, get, names
from mobench.zoo.count import count

_PIPED_COLUMNS = 140  # rich assumes 80 columns where there is no terminal and would break the lines of a pipe


def models(family: str | None = None) -> list[ModelSpec]:
    """Return every network at its paper's width and size, or those of one family.

    Raises BadInputError for an unknown family.
    """
    specs = [get(name) for name in names()]
    families = list(dict.fromkeys(spec.family for spec in specs))
    if family is not None and family not in families:
        raise BadInputError(f"no family is named {family!r}", mend=f"choose one of {', '.join(families)}")
    return [spec for spec in specs if family in (None, spec.family)]


def _record(spec: ModelSpec) -> dict[str, Any]:
    counts = count(spec)
    return {
        "name": spec.name,
        "family": spec.family,
        "paper": spec.paper,
        "source": spec.source,
        "params": counts.params,
        "macs": counts.macs,
        "published_top1": spec.published_top1,
        "published_source": spec.published_source,
        "input_size": spec.input_size,
    }


def _print_table(records: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("name", "paper"):
        table.add_column(title)
    for title in ("input", "params (M)", "MACs (M)", "published top-1 (%)"):
        table.add_column(title, justify="right")
    table.add_column("from")
    for record in records:
        top1 = record["published_top1"]
        table.add_row(
            record["name"],
            record["paper"],
            str(record["input_size"]),
            f"{record['params'] / 1e6:.2f}",
            f"{record['macs'] / 1e6:.1f}",
            "-" if top1 is None else f"{top1:.1f}",
            record["published_source"],
        )
    console = Console()
    console.print(table) if console.is_terminal else Console(width=_PIPED_COLUMNS).print(table)


@click.command()
@click.option("--family", metavar="NAME", help="Only this family, e.g. mobilenet_v3.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of the table.")
def command(family: str | None, as_json: bool) -> None:
    """List the networks: paper, params, MACs and published top-1 (ImageNet, single crop)."""
    records = [_record(spec) for spec in models(family)]
    if as_json:
        click.echo(json.dumps(records, indent=2))
    else:
        _print_table(records)
