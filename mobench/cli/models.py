"""`mobench models`: the networks there are, and one of them with its sizes and checkpoints or layer by layer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import click

from mobench.cli.terminal import echo_table
from mobench.report.style import shown
from mobench.report.tables import NO_BREAK, Column
from mobench.zoo import ModelSpec, catalogue, get, layers, pretrained
from mobench.zoo.count import count
from mobench.zoo.layers import BYTES, COUNTED_ROLES, Operator

_COUNTS = (
    Column(key="input_size", title="input", align="right"),
    Column(key="params_m", title="params (M)", digits=2, align="right"),
    Column(key="printed_params", title="printed", align="right"),
    Column(key="macs_m", title="MACs (M)", digits=1, align="right"),
    Column(key="printed_macs", title="printed", align="right"),
    Column(key="note", title="note", align="right"),
    Column(key="published_top1", title="top-1 (%)", digits=1, align="right"),
    Column(key="printed_in", title="printed in"),
    Column(key="weights", title="weights"),
)
LIST_COLUMNS = (Column(key="shown", title="name"), *_COUNTS)
SIZE_COLUMNS = (Column(key="label", title="at width, size, depth"), *_COUNTS)
CHECKPOINT_COLUMNS = (
    Column(key="tag", title="checkpoint"),
    Column(key="layout", title="of"),
    Column(key="padding", title="padding"),
    Column(key="top1", title="its makers' top-1 (%)", digits=2, align="right"),
    Column(key="cached", title="cached"),
)
LAYER_COLUMNS = (
    Column(key="block", title="#", align="right"),
    Column(key="kind", title="block"),
    Column(key="expansion", title="expand", align="right"),
    Column(key="se", title="SE", align="right"),
    Column(key="name", title="operator"),
    Column(key="role", title="role"),
    Column(key="input", title="input", align="right"),
    Column(key="output", title="output", align="right"),
    Column(key="kernel", title="k", align="right"),
    Column(key="stride", title="s", align="right"),
    Column(key="act", title="activation"),
    Column(key="params", title="params", align="right"),
    Column(key="macs_m", title="MACs (M)", digits=2, align="right"),
    Column(key="output_kb", title="output (kB)", digits=1, align="right"),
    Column(key="live_kb", title="live (kB)", digits=1, align="right"),
)
SHARE_COLUMNS = (
    Column(key="role", title="kind"),
    Column(key="operators", title="n", align="right"),
    Column(key="macs_share", title="MACs (%)", digits=2, align="right"),
    Column(key="params_share", title="params (%)", digits=2, align="right"),
)
CONVENTION = (
    "MACs: of convolutions and linear layers for one image; params: batch norm has two a channel. Printed: the papers'"
    " own figures, which they truncate as often as they round; what they call FLOPS or mult-adds are MACs"
)


def record(spec: ModelSpec) -> dict[str, Any]:
    """Return what is known of a network at one width, depth and size: counts, printed figures, published top-1."""
    counts = count(spec)
    return {
        "name": spec.name,
        "label": spec.label,
        "variant_of": base if (base := catalogue.base(spec.name)) != spec.name else None,
        "family": spec.family,
        "paper": spec.paper,
        "source": spec.source,
        "width": spec.width,
        "depth": spec.depth,
        "input_size": spec.input_size,
        "params": counts.params,
        "macs": counts.macs,
        "printed": asdict(spec.printed) if spec.printed else None,
        "agrees": catalogue.agrees(spec, counts),
        "published_top1": spec.published_top1,
        "published_source": spec.published_source,
        "checkpoints": checkpoints(spec),
    }


def checkpoints(spec: ModelSpec) -> list[dict[str, Any]]:
    """Return the published checkpoints of a network, and whether each is in the cache."""
    return [
        {
            "tag": checkpoint.tag,
            "layout": checkpoint.layout,
            "top1": checkpoint.top1,
            "url": checkpoint.url,
            "padding": checkpoint.padding,
            "cached": pretrained.cached(checkpoint) is not None,
        }
        for checkpoint in pretrained.available(spec)
    ]


def card(spec: ModelSpec) -> dict[str, Any]:
    """Return a network's record with its variants, the sizes with printed figures, shares and activation memory."""
    ops = layers.operators(spec)
    most = layers.peak(ops)
    counts = count(spec)
    return record(spec) | {
        "variants": catalogue.variants(spec.name),
        "sizes": [record(each) for each in catalogue.printed_sizes(spec.name)],
        "shares": [
            {
                **asdict(share),
                "macs_share": 100 * share.macs / counts.macs,
                "params_share": 100 * share.params / counts.params,
            }
            for share in layers.shares(ops)
        ],
        "peak_activation_bytes": {precision: size * most.elements for precision, size in BYTES.items()},
        "peak_at": _operator(most.operator, most.elements),
    }


def _operator(op: Operator, live: int) -> dict[str, Any]:
    return {
        "block": op.block,
        "kind": op.kind,
        "name": op.name,
        "role": op.role,
        "input": " + ".join(str(tensor) for tensor in op.reads),
        "output": str(op.writes),
        "kernel": op.kernel,
        "stride": op.stride,
        "expansion": op.expansion,
        "se": op.se,
        "act": op.act,
        "params": op.params,
        "macs": op.macs,
        "output_bytes": {precision: size * op.writes.elements for precision, size in BYTES.items()},
        "live_bytes": {precision: size * live for precision, size in BYTES.items()},
    }


def layer_records(spec: ModelSpec) -> list[dict[str, Any]]:
    """Return a network's operators in the order in which they run; bytes are those of one image's activations."""
    ops = layers.operators(spec)
    return [_operator(op, live) for op, live in zip(ops, layers.live_elements(ops), strict=True)]


def _counted(records: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return records as rows of a table, and the numbered notes to what is printed."""
    rows, numbers = [], dict[str, int]()
    for each in records:
        printed = each["printed"] or {"params": "", "macs": "", "note": ""}
        number = numbers.setdefault(printed["note"], len(numbers) + 1) if printed["note"] else None
        rows.append(
            {
                **each,
                "params_m": each["params"] / 1e6,
                "macs_m": each["macs"] / 1e6,
                "printed_params": printed["params"],
                "printed_macs": printed["macs"],
                "note": f"[{number}]" if number else "",
                "printed_in": _sources(each),
                "weights": _weights(each["checkpoints"]),
            }
        )
    return rows, [f"[{number}] {note}" for note, number in numbers.items()]


def _sources(found: dict[str, Any]) -> str:
    """Name the table that prints the counts and, where another one prints it, that of the accuracy."""
    counts, top1 = found["printed"] and found["printed"]["source"], found["published_source"]
    return f"{counts}; top-1: {top1}" if counts and top1 and counts != top1 else counts or top1


def _weights(found: Sequence[dict[str, Any]]) -> str:
    """Say in a word whether a network has checkpoints, and whether one is here."""
    if not found:
        return ""
    return "cached" if any(each["cached"] for each in found) else "published"


def echo_list(records: Sequence[dict[str, Any]]) -> None:
    """Print the networks, each with its variants under it."""
    rows, notes = _counted(records)
    for row in rows:
        # No-break spaces, so that a narrow terminal does not tear a name either, which people copy.
        row["shown"] = f"{2 * NO_BREAK}{row['name']}" if row["variant_of"] else row["name"]
    last = (
        "weights: published checkpoints, which `mobench export` downloads, and whether one is cached;"
        " `mobench models NAME` shows a network's widths, sizes and checkpoints, `--layers` its layers"
    )
    echo_table(LIST_COLUMNS, rows, [*notes, CONVENTION, last])


def echo_card(found: dict[str, Any]) -> None:
    """Print one network: what it is, its printed sizes, its checkpoints."""
    printed = found["printed"]
    top1 = f"{found['published_top1']:.1f} %, {found['published_source']}" if found["published_top1"] else "none"
    facts = {
        "name": found["name"] + (f", a variant of {found['variant_of']}" if found["variant_of"] else ""),
        "paper": f"{found['paper']}, {found['source']}",
        "input": f"{found['input_size']}x{found['input_size']}x3",
        "params": _beside(found["params"], printed and printed["params"]),
        "MACs": _beside(found["macs"], printed and printed["macs"]),
        "printed in": printed["source"] if printed else "",
        "note": printed["note"] if printed else "",
        "published top-1": top1,
        "MACs by kind": ", ".join(
            f"{COUNTED_ROLES[share['role']]} {share['macs_share']:.1f} %" for share in found["shares"]
        ),
        "activations": _peak(found),
        "variants": ", ".join(found["variants"]) or "none",
    }
    title = shown(found["label"], found["name"])
    columns = (Column(key="what", title=title), Column(key="is", title=found["label"]))
    echo_table(columns, [{"what": what, "is": text} for what, text in facts.items() if text])
    if len(found["sizes"]) > 1:
        click.echo()
        rows, notes = _counted(found["sizes"])
        echo_table(SIZE_COLUMNS, rows, notes)
    click.echo()
    if found["checkpoints"]:
        echo_table(CHECKPOINT_COLUMNS, found["checkpoints"])
    else:
        elsewhere = pretrained.elsewhere(found["name"])
        click.echo("no published checkpoint of it is known" + (f": {elsewhere}" if elsewhere else ""))


def _beside(counted: int, printed: str | None) -> str:
    return f"{counted:,}" + (f" (printed: {printed})" if printed else "")


def _peak(found: dict[str, Any]) -> str:
    at, size = found["peak_at"], found["peak_activation_bytes"]
    where = f"block {at['block']}, {at['name'] or at['role']}, {at['input']} to {at['output']}"
    return f"at most {size['fp32'] / 1e6:.2f} MB live in FP32, {size['int8'] / 1e6:.2f} MB in INT8: {where}"


def echo_layers(found: dict[str, Any]) -> None:
    """Print one network's operators, the shares by kind and the activation memory."""
    rows, before = [], None
    for each in found["layers"]:
        first = each["block"] != before  # what is the block's own stands once
        before = each["block"]
        rows.append(
            {
                **each,
                "block": each["block"] if first else None,
                "kind": each["kind"] if first else None,
                "expansion": f"{each['expansion']:.3g}" if first and each["kind"] == "inverted" else None,
                "se": (each["se"] or None) if first else None,
                "act": "" if each["act"] == "none" else each["act"],
                "params": f"{each['params']:,}" if each["params"] else None,
                "macs_m": each["macs"] / 1e6 if each["macs"] else "",
                "output_kb": each["output_bytes"]["fp32"] / 1e3,
                "live_kb": each["live_bytes"]["fp32"] / 1e3,
            }
        )
    echo_table(LAYER_COLUMNS, rows)
    click.echo()
    shares = [{**share, "role": COUNTED_ROLES[share["role"]]} for share in found["shares"]]
    rule = (
        "kB and live: FP32, one image, INT8 is a quarter; operators run in this order, each with its inputs, its output"
        " and what is read later live, activations in place"
    )
    total = f"{found['label']}: {found['params']:,} params, {found['macs']:,} MACs"
    echo_table(SHARE_COLUMNS, shares, [total, f"activations: {_peak(found)}", rule])


@click.command()
@click.argument("name", required=False)
@click.option("--family", metavar="FAMILY", help="Only this family, e.g. mobilenet_v3.")
@click.option("--width", type=float, metavar="X", help="Width multiplier.")
@click.option("--depth", type=float, metavar="X", help="Depth multiplier.")
@click.option("--size", type=int, metavar="PIXELS", help="Side of the input.")
@click.option("--layers", "by_layer", is_flag=True, help="Every layer: shapes, params, MACs, activation memory.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list instead of the table; of NAME, an object.")
def command(
    name: str | None,
    family: str | None,
    width: float | None,
    depth: float | None,
    size: int | None,
    by_layer: bool,
    as_json: bool,
) -> None:
    """List the networks with their params and MACs beside the printed ones, or show the one called NAME.

    NAME may hold width, size and depth: mobilenet_v1_0.5_160. Top-1 is on ImageNet, single crop.
    """
    if name is None:
        if by_layer or (width, depth, size) != (None, None, None):
            raise click.UsageError("--layers, --width, --depth and --size are of one network: give its name")
        records = [record(spec) for spec in catalogue.of_family(family)]
        if as_json:
            click.echo(json.dumps(records, indent=2))
        else:
            echo_list(records)
        return
    if family is not None:
        raise click.UsageError("give a name or --family, not both")
    spec = get(name, width=width, depth=depth, input_size=size)
    found = card(spec)
    if by_layer:
        found["layers"] = layer_records(spec)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif by_layer:
        echo_layers(found)
    else:
        echo_card(found)
