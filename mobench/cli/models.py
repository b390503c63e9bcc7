"""`mobench models`: the networks that can be exported, with their papers, sizes and published accuracy."""

from __future__ import annotations

import json
from typing import Any

import click

from mobench.cli.terminal import echo_table
from mobench.errors import BadInputError
from mobench.report.tables import Column
from mobench.zoo import ModelSpec, get, names
from mobench.zoo.count import count

COLUMNS = (
    Column(key="name", title="name"),
    Column(key="paper", title="paper"),
    Column(key="input_size", title="input", align="right"),
    Column(key="params_m", title="params (M)", digits=2, align="right"),
    Column(key="macs_m", title="MACs (M)", digits=1, align="right"),
    Column(key="published_top1", title="published top-1 (%)", digits=1, align="right"),
    Column(key="published_source", title="from"),
)


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


@click.command()
@click.option("--family", metavar="NAME", help="Only this family, e.g. mobilenet_v3.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of the table.")
def command(family: str | None, as_json: bool) -> None:
    """List the networks: paper, params, MACs and published top-1 (ImageNet, single crop)."""
    records = [_record(spec) for spec in models(family)]
    if as_json:
        click.echo(json.dumps(records, indent=2))
    else:
        rows = [{**r, "params_m": r["params"] / 1e6, "macs_m": r["macs"] / 1e6} for r in records]
        echo_table(COLUMNS, rows)
