"""MACs against latency on one device: how far a count tells the time, with the fit on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mobench.claims.values import Value
from mobench.errors import BadInputError
from mobench.order import MIN_COMMON, Device, counts
from mobench.report.plots import canvas
from mobench.report.plots.canvas import Ends, Tag
from mobench.report.style import PAGE_IN, STEP, font_size, plot_style, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ASPECT = 0.62  # height over width
PAD = 1.18  # the factor by which an axis reaches beyond what it shows
MARKER_SIZE = 0.55  # of the type's
MAX_LABELS = 24  # networks that are named: the farthest from the fit first


def macs_figure(device: Device, *, title: str = "", caption: str = "", width_in: float = PAGE_IN) -> Figure:
    """Return MACs against p50 on a device; names are its axes' texts with gid ``label``, the fit a line ``fit``.

    Raises BadInputError where the MACs of fewer than MIN_COMMON networks are known.
    """
    macs = {name: value.figure / 1e6 for name, value in counts(device, "macs").items()}
    if len(macs) < MIN_COMMON:
        why = f"the MACs of {len(macs)} of its networks are known, {MIN_COMMON} are needed"
        raise BadInputError(f"plot of {device.full_name}", why, "choose another of `mobench order`")
    with plot_style(width_in):
        return _draw(device, macs, title, caption, width_in)


def _draw(device: Device, macs: Mapping[str, float], title: str, caption: str, width_in: float) -> Figure:
    base = font_size(width_in)
    size = MARKER_SIZE * base
    figure = canvas.new_figure(width_in, ASPECT * width_in)
    axes = figure.add_subplot()
    canvas.plain_axes(axes)
    latencies = {name: device.latency(name) for name in macs}
    _scale(axes, macs, latencies)
    power, factor = _fit(macs, latencies)
    left, right = axes.get_xlim()
    axes.plot(
        [left, right], [factor * left**power, factor * right**power],
        color=STEP, linestyle="--", linewidth=0.11 * base, zorder=1.5, gid="fit",
    )  # fmt: skip
    colours = canvas.colours_of(macs)
    bars: list[Ends] = []
    for name, x in macs.items():
        value = latencies[name]
        known = not device.is_bare(name) and 0 < value.low < value.high < math.inf
        if known:
            bars.append(((x, value.low), (x, value.high)))
        axes.errorbar(
            x, value.figure, yerr=canvas.reach(value.figure, (value.low, value.high) if known else None), fmt="none",
            ecolor=colours[name], alpha=0.6, zorder=2, elinewidth=0.13 * size, capsize=0.25 * size,
            capthick=0.13 * size,
        )  # fmt: skip
        axes.plot(x, value.figure, "o", color=colours[name], markersize=size, markeredgewidth=0, zorder=3, gid="point")
    if title:
        lines = canvas.wrapped(figure, title, base + 1, 0.85 * width_in, bold=True)
        axes.set_title("\n".join(lines), loc="left", weight="bold", fontsize=base + 1, parse_math=False)
    words = f"Dashed: the fit, latency in proportion to MACs to the power of {power:.2f}."
    under = canvas.caption(figure, f"{caption} {words}".strip(), base - 1)
    figure.set_figheight(figure.get_figheight() + under)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    fit = [canvas.moved(axes.transData, x, factor * x**power) for x in (left, right)]
    off = {name: abs(math.log(latencies[name].figure / (factor * macs[name] ** power))) for name in macs}
    named = sorted(macs, key=lambda name: (-off[name], name))[:MAX_LABELS]
    canvas.name_points(
        axes,
        [
            Tag(text=shown(name, canvas.network_of(name)), colour=colours[name],
                anchors=((macs[name], latencies[name].figure),), farthest=canvas.FARTHEST)
            for name in named
        ],
        points=[(macs[name], latencies[name].figure) for name in macs],
        bars=bars,
        lines=canvas.pieces(fit[0], fit[1]),
        size=size,
        base=base,
    )  # fmt: skip
    return figure


def _scale(axes: Axes, macs: Mapping[str, float], latencies: Mapping[str, Value]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figures = [value.figure for value in latencies.values()]
    # An interval may reach zero, a logarithm may not.
    low = min(max(value.low, value.figure / 3) for value in latencies.values())
    high = max(min(value.high, value.figure * 3) for value in latencies.values())
    spans = (
        (axes.xaxis, axes.set_xlim, min(macs.values()), max(macs.values())),
        (axes.yaxis, axes.set_ylim, min(low, *figures), max(high, *figures)),
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, set_limits, least, most in spans:
        pad = PAD * (most / least) ** 0.06
        set_limits(least / pad, most * pad)
        axis.set_major_locator(FixedLocator(canvas.log_ticks(least / pad, most * pad)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("MACs (millions)")
    axes.set_ylabel("p50 latency (ms)")


def _fit(macs: Mapping[str, float], latencies: Mapping[str, Value]) -> tuple[float, float]:
    """Return power and factor of the least squares on logarithms: ms = factor * millions of MACs ** power."""
    x = np.log([macs[name] for name in macs])
    y = np.log([latencies[name].figure for name in macs])
    spread = float(((x - x.mean()) ** 2).sum())
    power = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread else 0.0
    return power, math.exp(float(y.mean()) - power * float(x.mean()))
