"""A slope chart: the same networks on two devices, each side on its own scale; lines that cross are inverted pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mobench.order import EVIDENCE, Device, Order
from mobench.report.labels import spread
from mobench.report.plots import canvas
from mobench.report.style import (
    DPI,
    FAINT,
    INK,
    PAGE_IN,
    SMALL_IN,
    font_size,
    plot_style,
    readable,
    shown,
)
from mobench.report.tables import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_STEP = 1.3  # between two names, in heights of their type
ASPECT = 0.62  # the least height of the slopes over the width
GAP_IN = 0.22  # between a side and its names: the thin line that joins them
EDGE_IN = 0.06  # free at the edges
LANE_IN = 0.05  # between two bars that stand beside each other
LINE = 1.35  # between two lines of text, in heights of their type
HEAD_SHARE = 0.46  # of the width: what a device's name above its side may take


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One device's end of the slopes: where each network lies between 0 and 1, fastest at the top, and its bar."""

    places: tuple[float, ...]
    bars: tuple[tuple[float, float] | None, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """The part of the figure that holds the slopes, in inches from the lower left: slowest at ``low``."""

    bottom: float
    top: float
    low: float
    high: float

    def at(self, place: float) -> float:
        """Return where a place between 0 and 1 lies."""
        return self.low + place * (self.high - self.low)


def slope_figure(found: Order, *, caption: str = "", width_in: float = PAGE_IN) -> Figure:
    """Return the slope chart of two devices, in inches on bare axes; names are its axes' texts with gid ``label``.

    Networks of an inversion beyond noise have a thick line in their colour; the others a thin one.
    """
    with plot_style(width_in):
        base = font_size(width_in)
        sides = _side(found.a, found.networks), _side(found.b, found.networks)
        colours = canvas.colours_of(found.networks)
        figure, axes, body = _page(found, caption, width_in)
        left, right = _name(axes, found.networks, sides, colours, body, width_in)
        _draw_slopes(axes, found, sides, colours, body, (left, right), base)
        for x, side in zip((left, right), sides, strict=True):
            _draw_side(axes, x, side, [colours[name] for name in found.networks], body, base)
        return figure


def _page(found: Order, caption: str, width_in: float) -> tuple[Figure, Axes, _Body]:
    """Return a figure, axes in inches with both devices' names and the caption, and what is left between them."""
    base = font_size(width_in)
    step = LABEL_STEP * base / 72
    tall = max(ASPECT * width_in, (len(found.networks) + 1) * step)
    figure = canvas.new_figure(width_in, tall, laid_out=False)
    heads = [
        canvas.wrapped(figure, f"{device.full_name} ({EVIDENCE[device.kind]})", base, HEAD_SHARE * width_in, bold=True)
        for device in (found.a, found.b)
    ]
    under = canvas.wrapped(figure, caption, base - 1, width_in - 2 * EDGE_IN) if caption else []
    line, small = LINE * base / 72, LINE * (base - 1) / 72
    foot = (len(under) + 0.8) * small
    height = foot + tall + (max(map(len, heads)) + 0.8) * line
    figure.set_figheight(height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width_in)
    axes.set_ylim(0, height)
    common: dict[str, Any] = {"linespacing": LINE, "parse_math": False}
    for x, ha, lines in ((EDGE_IN, "left", heads[0]), (width_in - EDGE_IN, "right", heads[1])):
        axes.text(x, height - 0.4 * line, "\n".join(lines), ha=ha, va="top", fontsize=base, weight="bold", color=INK,
                  gid="head", **common)  # fmt: skip
    if under:
        axes.text(EDGE_IN, 0.3 * small, "\n".join(under), ha="left", va="bottom", fontsize=base - 1,
                  color=canvas.CAPTION_INK, gid="caption", **common)  # fmt: skip
    return (
        figure,
        axes,
        _Body(bottom=foot + step / 2, top=foot + tall - step / 2, low=foot + step, high=foot + tall - step),
    )


def _name(
    axes: Axes,
    names: Sequence[str],
    sides: tuple[_Side, _Side],
    colours: Mapping[str, str],
    body: _Body,
    width_in: float,
) -> tuple[float, float]:
    """Write names and latencies on both sides, apart from each other; return where the slopes begin and end."""
    base = font_size(width_in)
    columns = []
    for first, side in zip((True, False), sides, strict=True):
        rows = spread([body.at(place) for place in side.places], LABEL_STEP * base / 72, body.bottom, body.top)
        columns.append([
            axes.text(
                0, y, _label(name, text, named=first or width_in >= SMALL_IN, first=first), va="center",
                ha="right" if first else "left", fontsize=base, color=readable(colours[name]), parse_math=False,
                gid="label",
            )
            for name, text, y in zip(names, side.texts, rows, strict=True)
        ])  # fmt: skip
    wide = [max(text.get_window_extent().width for text in column) / DPI for column in columns]
    ends = EDGE_IN + wide[0] + GAP_IN, width_in - EDGE_IN - wide[1] - GAP_IN
    for column, side, end, way in zip(columns, sides, ends, (-1, 1), strict=True):
        for name, text, place in zip(names, column, side.places, strict=True):
            text.set_x(end + way * GAP_IN)
            y = text.get_position()[1]
            axes.plot(
                [end + way * share * GAP_IN for share in (0.92, 0.8, 0.15)], [y, y, body.at(place)],
                color=colours[name], linewidth=0.5, gid="leader",
            )  # fmt: skip
    return ends


def _draw_slopes(
    axes: Axes,
    found: Order,
    sides: tuple[_Side, _Side],
    colours: Mapping[str, str],
    body: _Body,
    ends: tuple[float, float],
    base: float,
) -> None:
    sure = {name for pair in found.beyond_noise for name in (pair.first, pair.second)}
    for x in ends:
        axes.plot([x, x], [body.bottom, body.top], color=FAINT, linewidth=0.6, zorder=1)
    for i, name in enumerate(found.networks):
        beyond = name in sure
        axes.plot(
            ends, [body.at(side.places[i]) for side in sides], color=colours[name],
            linewidth=(0.18 if beyond else 0.06) * base, alpha=1.0 if beyond else 0.7, zorder=2.5 if beyond else 2,
            solid_capstyle="round", gid="slope",
        )  # fmt: skip


def _draw_side(axes: Axes, x: float, side: _Side, colours: Sequence[str], body: _Body, base: float) -> None:
    lanes: list[float] = []  # the foot of the last bar in each: bars stand beside each other where they would overlap
    inward = 1 if x < axes.get_xlim()[1] / 2 else -1
    for place, bar, colour in sorted(zip(side.places, side.bars, colours, strict=True), key=lambda row: -row[0]):
        y = body.at(place)
        if bar is not None:
            low, high = (min(max(body.at(end), body.bottom), body.top) for end in bar)
            lane = next((i for i, foot in enumerate(lanes) if foot > high), len(lanes))
            lanes[lane : lane + 1] = [low]
            axes.errorbar(
                x + inward * lane * LANE_IN, y, yerr=canvas.reach(y, (low, high)), fmt="none", ecolor=colour,
                elinewidth=0.09 * base, capsize=0.2 * base, capthick=0.09 * base, alpha=0.7, zorder=2.8,
            )  # fmt: skip
        axes.plot(x, y, "o", color=colour, markersize=0.5 * base, markeredgewidth=0, zorder=3, gid="point")


def _side(device: Device, names: Sequence[str]) -> _Side:
    """Return where networks lie on a logarithmic scale from the slowest (0) to the fastest (1) of them."""
    values = [device.latency(name) for name in names]
    logs = [math.log(value.figure) for value in values]
    slowest, width = max(logs), (max(logs) - min(logs)) or 1.0
    return _Side(
        places=tuple((slowest - log) / width for log in logs),
        bars=tuple(
            ((slowest - math.log(value.high)) / width, (slowest - math.log(value.low)) / width)
            if not device.is_bare(name) and 0 < value.low < value.high < math.inf
            else None
            for name, value in zip(names, values, strict=True)
        ),
        texts=tuple(f"{interval(value.figure)} ms" for value in values),
    )


def _label(name: str, text: str, *, named: bool, first: bool) -> str:
    if not named:
        return text
    paper = shown(name, canvas.network_of(name))
    return f"{paper}  {text}" if first else f"{text}  {paper}"
