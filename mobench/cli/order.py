"""`mobench order`: do two devices put networks in the same order, and what tells the order beforehand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mobench import order
from mobench.claims.places import Place
from mobench.claims.ranks import MIN_NETWORKS
from mobench.claims.values import Value
from mobench.cli import terminal
from mobench.cli.claims import load
from mobench.cli.plotting import plot_options, write_plots
from mobench.errors import BadInputError
from mobench.order import EVIDENCE, Contrast, Device, Order, Predictor
from mobench.report.tables import TABLE_FORMATS, Column, Row, TableFormat, render

DEVICE_COLUMNS = (
    Column(key="device", title="device"),
    Column(key="precision", title="prec."),
    Column(key="networks", title="networks", align="right"),
    Column(key="evidence", title="evidence"),
    Column(key="noise"),
    Column(key="source"),
)
FACING_COLUMNS = (
    Column(key="cpu", title="CPU"),
    Column(key="gpu", title="GPU"),
    Column(key="networks", title="networks", align="right"),
    Column(key="correlation", title="rank correlation [95 %]", ci="correlation_ci", digits=2, align="right"),
    Column(key="inverted", title="inverted pairs", align="right"),
    Column(key="beyond_noise", title="beyond noise", align="right"),
    Column(key="evidence", title="evidence"),
)
CONTRAST_COLUMNS = (
    Column(key="what", title="latency of"),
    Column(key="on_cpu", title="on the CPU", ci="on_cpu_ci", align="right"),
    Column(key="on_gpu", title="on the GPU", ci="on_gpu_ci", align="right"),
    Column(key="turned"),
    Column(key="turned_words", title="opposite", display_only=True),
    Column(key="cpu", title="CPU"),
    Column(key="gpu", title="GPU"),
    Column(key="evidence", title="evidence"),
)
INVERSION_COLUMNS = (
    Column(key="first", title="faster on A"),
    Column(key="second", title="faster on B"),
    Column(key="ratio_a", title="second over first on A", ci="ratio_a_ci", align="right"),
    Column(key="ratio_b", title="on B", ci="ratio_b_ci", align="right"),
    Column(key="beyond_noise", title="beyond noise"),
)
PREDICTOR_COLUMNS = (
    Column(key="device", title="latency on"),
    Column(key="by", title="told by"),
    Column(key="networks", title="networks", align="right"),
    Column(key="correlation", title="rank correlation [95 %]", ci="correlation_ci", digits=2, align="right"),
    Column(key="pairs_right", title="pairs in order", align="right"),
    Column(key="right"),
    Column(key="pairs"),
    Column(key="evidence", title="evidence"),
)


def network_columns(found: Order) -> tuple[Column, ...]:
    """Return the columns of the networks that two devices share."""
    return (
        Column(key="network", title="network"),
        Column(key="rank_a", title="# on A", align="right"),
        Column(key="p50_a_ms", title="A, p50 ms", ci="p50_a_ci_ms", align="right"),
        Column(key="rank_b", title="# on B", align="right"),
        Column(key="p50_b_ms", title="B, p50 ms", ci="p50_b_ci_ms", align="right"),
    )


def network_rows(found: Order) -> list[Row]:
    """Return the networks, the fastest on A first, with place and p50 on either device."""
    on_b = sorted(found.networks, key=lambda network: found.b.latency(network).figure)
    return [
        {
            "network": network,
            "rank_a": number,
            **_figure("p50_a_ms", "p50_a_ci_ms", found.a.latency(network), bare=found.a.is_bare(network)),
            "rank_b": on_b.index(network) + 1,
            **_figure("p50_b_ms", "p50_b_ci_ms", found.b.latency(network), bare=found.b.is_bare(network)),
        }
        for number, network in enumerate(found.networks, 1)
    ]


def inversion_rows(found: Order) -> list[Row]:
    """Return the pairs that change places, those beyond noise first."""
    return [
        {
            "first": pair.first,
            "second": pair.second,
            **_figure("ratio_a", "ratio_a_ci", pair.ratio_a),
            **_figure("ratio_b", "ratio_b_ci", pair.ratio_b),
            "beyond_noise": pair.beyond_noise,
            "style": "bold" if pair.beyond_noise else None,
        }
        for pair in found.inversions
    ]


def predictor_rows(device: Device, predictors: Sequence[Predictor]) -> list[Row]:
    """Return how well each predictor orders a device's latencies."""
    return [
        {
            "device": device.full_name,
            "by": one.name,
            "networks": len(one.networks),
            **_figure("correlation", "correlation_ci", one.correlation),
            "pairs_right": f"{one.right:g} of {one.pairs} ({_percent(one)})",
            "right": one.right,
            "pairs": one.pairs,
            "evidence": EVIDENCE[device.kind],
        }
        for one in predictors
    ]


def device_rows(devices: Sequence[Device]) -> list[Row]:
    """Return the devices there are results of."""
    return [
        {
            "device": device.name,
            "precision": device.precision,
            "networks": len(device.networks),
            "evidence": EVIDENCE[device.kind],
            "noise": device.noise,
            "source": device.source or None,
        }
        for device in devices
    ]


def facing_rows(places: Sequence[Place]) -> list[Row]:
    """Return what each CPU and the GPU beside it make of the networks that both have."""
    rows: list[Row] = []
    for cpu, gpu in order.facing(places):
        if len(set(cpu.networks) & set(gpu.networks)) >= order.MIN_COMMON:
            found = order.order(cpu, gpu)
            rows.append({
                "cpu": cpu.name,
                "gpu": gpu.name,
                "networks": len(found.networks),
                **_figure("correlation", "correlation_ci", found.correlation),
                "inverted": f"{len(found.inversions)} of {found.pairs}",
                "beyond_noise": len(found.beyond_noise),
                "evidence": EVIDENCE[cpu.kind],
            })  # fmt: skip
    return rows


def contrast_rows(contrasts: Sequence[Contrast]) -> list[Row]:
    """Return V3-Large against V2 and INT8 against FP32, CPU beside GPU."""
    return [
        {
            "what": f"{_cell(contrast.one)} over {_cell(contrast.other)}",
            **_figure("on_cpu", "on_cpu_ci", contrast.on_cpu),
            **_figure("on_gpu", "on_gpu_ci", contrast.on_gpu),
            "turned": contrast.turned,
            "turned_words": _turned(contrast),
            "cpu": contrast.cpu.name,
            "gpu": contrast.gpu.name if contrast.gpu else None,
            "evidence": EVIDENCE[contrast.cpu.kind],
        }
        for contrast in contrasts
    ]


def headline(found: Order) -> str:
    """Return what two devices make of the order, in a sentence."""
    networks = len(found.networks)
    rho = _spoken(found.correlation)
    return (
        f"Rank correlation {rho} over {networks} networks; {len(found.inversions)} of {found.pairs} pairs inverted,"
        f" {len(found.beyond_noise)} of them beyond noise."
    )


def origins(devices: Sequence[Device]) -> list[str]:
    """Return whose figures these are, and what counts as noise, a line a device."""
    lines = []
    for letter, device in zip("AB", devices, strict=False):
        name = f"{letter}: " if len(devices) > 1 else ""
        lines.append(f"{name}{device.full_name}, {_evidence(device)}; noise: {device.noise}")
    return lines


def _figure(key: str, ci: str, value: Value | None, *, bare: bool = False) -> dict[str, Any]:
    """Return a figure and its interval; None where it has none, or only that of its last printed digit."""
    if value is None or math.isnan(value.figure):
        return {key: None, ci: None}
    known = not bare and math.isfinite(value.low) and math.isfinite(value.high)
    return {key: value.figure, ci: (value.low, value.high) if known else None}


def _spoken(value: Value) -> str:
    if math.isnan(value.figure):
        return "unknown"
    few = f" (no interval below {MIN_NETWORKS} networks)"
    return f"{value.figure:.2f}" + (f" [{value.low:.2f}, {value.high:.2f}]" if math.isfinite(value.low) else few)


def _percent(one: Predictor) -> str:
    return f"{100 * one.right / one.pairs:.0f} %"


def _turned(contrast: Contrast) -> str:
    if contrast.on_cpu is None or contrast.on_gpu is None:
        return "-"
    return {True: "yes", False: "no", None: "within noise"}[contrast.turned]


def _cell(cell: tuple[str, str]) -> str:
    return cell[0] if cell[1] == "fp32" else f"{cell[0]} {cell[1]}"


Table = tuple[str, Sequence[Column], Sequence[Row], Sequence[str]]


def _echo(tables: Sequence[Table], fmt: TableFormat) -> None:
    """Print tables with their headings; CSV has room for the first alone, JSON for all of them by name."""
    if fmt == "csv":
        click.echo(render(tables[0][1], tables[0][2], fmt), nl=False)
        return
    if fmt == "json":
        document = {name.replace(" ", "_"): json.loads(render(c, rows, fmt)) for name, c, rows, _ in tables}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
        return
    heads = {"md": "## {}\n", "latex": "% {}", "table": "{}:"}
    for number, (name, columns, rows, notes) in enumerate(table for table in tables if table[2] or table[3]):
        if number:
            click.echo()
        click.echo(heads[fmt].format(name))
        text = render(columns, rows, fmt, notes=notes, width=terminal.width(), colour=terminal.colour())
        click.echo(text, nl=False)


def overview(places: Sequence[Place]) -> list[Table]:
    """Return the tables of `mobench order` alone: the devices, CPU against GPU, and the contrasts."""
    noise = (
        f"beyond noise: both ratios' intervals leave out 1; where no spread is printed, a ratio within"
        f" {100 * order.TOLERANCE:.0f} % of 1 counts as noise"
    )
    few = f"fewer than {MIN_NETWORKS} networks have no interval"
    opposite = "opposite: one is faster on the CPU, the other on the GPU, both beyond noise"
    return [
        ("devices", DEVICE_COLUMNS, device_rows(order.devices(places)), ["name two by words of their names"]),
        ("CPU against GPU", FACING_COLUMNS, facing_rows(places), [noise, few]),
        ("contrasts", CONTRAST_COLUMNS, contrast_rows(order.contrasts(places)), [opposite]),
    ]


@click.command()
@click.argument("names", nargs=-1, metavar="[DEVICE [DEVICE]]")
@click.option("--results", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
              help="Journals, or folders of them. Repeatable; default: the folder results.")  # fmt: skip
@click.option("--format", "fmt", type=click.Choice(TABLE_FORMATS), default="table", show_default=True)
@click.option("--json", "json_out", is_flag=True, help="The same as --format json.")
@plot_options("two devices as slopes, one as its latency against MACs")
def command(
    names: tuple[str, ...],
    results: tuple[Path, ...],
    fmt: TableFormat,
    json_out: bool,
    plots: tuple[Path, ...],
    width_in: float,
) -> None:
    """Do two devices put networks in the same order? Rank correlation, inverted pairs, and what tells the order.

    A DEVICE is named by words of its name: "pixel 9 gpu", "moga cpu", "xeon litert 2 threads int8". With two, their
    networks are compared; with one, MACs and params as predictors of its latency; without any, what there is: our
    journals, public figures of others, and what papers print, each marked as such. Latencies of different devices are
    never set against each other, only orders.
    """
    if len(names) > 2:
        raise BadInputError(f"{len(names)} devices", "an order is of two", 'put each in quotes: "pixel 9 gpu"')
    places, notes = load(results)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    fmt = "json" if json_out else fmt
    known = order.devices(places)
    chosen = [order.find(known, name) for name in names]
    if len(chosen) == 2:
        _two(chosen[0], chosen[1], fmt, plots, width_in)
    elif chosen:
        _one(chosen[0], fmt, plots, width_in)
    elif plots:
        raise BadInputError("--plot", "nothing to draw without a device", "name one or two; `mobench order` lists them")
    else:
        _echo(overview(places), fmt)


def _two(a: Device, b: Device, fmt: TableFormat, plots: Sequence[Path], width_in: float) -> None:
    if a == b:
        raise BadInputError(a.full_name, "both names mean this device", "`mobench order` lists the others")
    found = order.order(a, b)
    predictors = [*predictor_rows(a, found.predictors_a), *predictor_rows(b, found.predictors_b)]
    tables: list[Table] = [
        ("networks", network_columns(found), network_rows(found), [headline(found), *origins([a, b])]),
        ("inverted pairs", INVERSION_COLUMNS, inversion_rows(found), []),
        ("predictors", PREDICTOR_COLUMNS, predictors, []),
    ]
    if fmt == "json":
        summary = {
            "a": device_rows([a])[0],
            "b": device_rows([b])[0],
            **_figure("correlation", "correlation_ci", found.correlation),
            "inverted": len(found.inversions),
            "beyond_noise": len(found.beyond_noise),
            "pairs": found.pairs,
        }
        document = {name.replace(" ", "_"): json.loads(render(c, rows, "json")) for name, c, rows, _ in tables}
        click.echo(json.dumps(summary | document, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _echo(tables, fmt)
    if plots:
        from mobench.report.plots.slope import slope_figure

        thick = " Thick: networks of these." if found.beyond_noise else ""
        caption = _caption(headline(found) + thick, [a, b])
        write_plots(slope_figure(found, caption=caption, width_in=width_in), plots, width_in)


def _one(device: Device, fmt: TableFormat, plots: Sequence[Path], width_in: float) -> None:
    found = order.predictors(device)
    _echo([("predictors", PREDICTOR_COLUMNS, predictor_rows(device, found), origins([device]))], fmt)
    if plots:
        from mobench.report.plots.macs import macs_figure

        told = "".join(
            f"Rank correlation {_spoken(one.correlation)} over {len(one.networks)} networks; MACs order"
            f" {_percent(one)} of {one.pairs} pairs right."
            for one in found
            if one.of == "macs"
        )
        figure = macs_figure(device, title=device.full_name, caption=_caption(told, [device]), width_in=width_in)
        write_plots(figure, plots, width_in)


def _caption(said: str, devices: Sequence[Device]) -> str:
    """Return a plot's caption: what it says, whose figures these are, and what its bars are."""
    whose = "; ".join(dict.fromkeys(map(_evidence, devices)))
    noise = "; ".join(dict.fromkeys(device.noise for device in devices))
    return f"{said} {whose[:1].upper()}{whose[1:]}. Noise: {noise}.".strip()


def _evidence(device: Device) -> str:
    return f"{EVIDENCE[device.kind]}{f': {device.source}' if device.source else ''}"
