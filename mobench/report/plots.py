"""Plots as a paper prints them: direct labels, error bars, colour-blind-safe, the same bytes for the same data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobench.errors import BadInputError
from mobench.pareto import Point, front_points
from mobench.report import replacing
from mobench.report.labels import Box, Label, Placement, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_SUFFIXES = (".svg", ".png", ".pdf")
COLUMN_IN = 3.5  # a paper's column
PAGE_IN = 7.0  # its full width
DPI = 300

# Okabe and Ito's palette (2008, "Color Universal Design") without its yellow, which does not read on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# These keep their colour in every plot; other networks take the rest in the order of their names.
NETWORK_COLOURS: Mapping[str, str] = {
    "mobilenet_v1": COLOURS[3],
    "mobilenet_v2": COLOURS[1],
    "mobilenet_v3_large": COLOURS[0],
    "mobilenet_v3_small": COLOURS[2],
}
RUNTIME_NAMES: Mapping[str, str] = {"ort": "ONNX Runtime", "litert": "LiteRT"}
MARKERS: Mapping[str, str] = {"ort": "o", "litert": "s"}
OTHER_MARKERS = ("D", "^", "v", "P")
FILLS: Mapping[str | None, str] = {"fp32": "full", "int8": "none", "fp16": "left"}
OTHER_FILL = "bottom"
FRONT_STYLES = ("-", "--", ":", "-.")
INK, FAINT = "#333333", "#8a8a8a"
LOG_FROM = 5.0  # slowest over fastest from which the latency axis is logarithmic
MAX_LABELS = 24  # more networks than this: only those on the front are named
MAX_LABEL_CHARS = 30  # a foreign file's stem may be any length


def pareto_plot(
    points: Sequence[Point], path: Path, *, title: str = "", caption: str = "", width_in: float = PAGE_IN
) -> None:
    """Draw accuracy against p50 latency with the front and write it to ``path``, svg, png or pdf by its suffix.

    ``width_in`` is the width it will be printed at: text stays readable at COLUMN_IN and at PAGE_IN. Points without
    accuracy are left out. Raises BadInputError for another suffix or when no point has an accuracy.
    """
    suffix = path.suffix.lower()
    if suffix not in PLOT_SUFFIXES:
        raise BadInputError(f"plot {path}", f"cannot write {suffix or 'a file without suffix'}", "name it .svg, .png or .pdf")
    figure = pareto_figure(points, title=title, caption=caption, width_in=width_in)
    with _style(width_in), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DPI, metadata=_metadata(suffix, title))


def pareto_figure(
    points: Sequence[Point], *, title: str = "", caption: str = "", width_in: float = PAGE_IN
) -> Figure:
    """Return the matplotlib figure that `pareto_plot` writes; the labels are its axes' texts with gid ``label``."""
    drawn = sorted((point for point in points if point.accuracy is not None), key=_drawing_order)
    if not drawn:
        raise BadInputError("plot", "no point has an accuracy", "measure it with `mobench eval FILES --data DIR`")
    with _style(width_in):
        return _draw(drawn, title, caption, width_in)


def _style(width_in: float) -> AbstractContextManager[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says: drawing and saving both read them."""
    from matplotlib import style

    return style.context(
        [
            "default",
            {
                "font.size": _font_size(width_in),
                "text.color": INK,
                "axes.edgecolor": FAINT,
                "axes.labelcolor": INK,
                "xtick.color": INK,
                "ytick.color": INK,
                "svg.hashsalt": "mobench",  # element ids of an SVG are random without it
            },
        ]
    )


def _font_size(width_in: float) -> float:
    """In points; journals ask for at least 6."""
    return 7.0 if width_in < 5 else 9.0


def _draw(drawn: Sequence[Point], title: str, caption: str, width_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    base = _font_size(width_in)
    figure = Figure(figsize=(width_in, 0.52 * width_in + 1.15), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("p50 latency (ms)")
    axes.set_ylabel(_accuracy_title(drawn))
    _scale(axes, drawn)
    colours = _colours(drawn)
    markers = _markers(drawn)
    size = 0.62 * base
    fronts = _draw_fronts(axes, drawn, base)
    _draw_points(axes, drawn, colours, markers, size)
    _legend(figure, drawn, markers, fronts, size, width_in)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=base + 1, fontweight="bold")
    if caption:
        _caption(figure, caption, base)
    # Labels are placed on the final layout, in pixels: let it settle, then hold it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    _label(figure, axes, drawn, colours, size, base)
    return figure


def _drawing_order(point: Point) -> tuple[Any, ...]:
    return (point.contest, point.name, point.full_label, point.latency_ms, point.accuracy, point.campaign)


def _metadata(suffix: str, title: str) -> dict[str, Any]:
    """Without dates and versions the same data gives the same bytes."""
    if suffix == ".png":
        return {"Software": None, "Title": title}
    if suffix == ".pdf":
        return {"CreationDate": None, "Producer": None, "Creator": "mobench", "Title": title}
    return {"Date": None, "Creator": "mobench", "Title": title}


def _accuracy_title(points: Sequence[Point]) -> str:
    kinds = {point.accuracy_kind for point in points}
    return f"top-1 accuracy (%), {kinds.pop()}" if len(kinds) == 1 else "top-1 accuracy (%)"


def _scale(axes: Axes, points: Sequence[Point]) -> None:
    """Set limits that hold every interval with room for labels, and plain round ticks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low = min(min(p.latency_ms, *(p.latency_ci_ms or ())) if p.latency_ci_ms else p.latency_ms for p in points)
    high = max(max(p.latency_ms, *(p.latency_ci_ms or ())) if p.latency_ci_ms else p.latency_ms for p in points)
    low = max(low, min(p.latency_ms for p in points) / 10)  # an interval may reach zero, a logarithm may not
    if high / low >= LOG_FROM:
        pad = (high / low) ** 0.09
        axes.set_xscale("log")
        axes.set_xlim(low / pad, high * pad)
        axes.xaxis.set_major_locator(FixedLocator(_log_ticks(low / pad, high * pad)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        pad = 0.1 * ((high - low) or high)
        axes.set_xlim(low - pad, high + pad)
    bounds = [b for p in points for b in (p.accuracy or 0.0, *(p.accuracy_ci or ()))]
    room = 0.12 * max(max(bounds) - min(bounds), 1.0)
    axes.set_ylim(min(bounds) - room, max(bounds) + room)


def _log_ticks(low: float, high: float) -> list[float]:
    """1-2-5 ticks, or more a decade when these would be fewer than three."""
    for steps in ((1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks


def _colours(points: Sequence[Point]) -> dict[str, str]:
    names = sorted({point.name for point in points})
    known = {name: colour for name in names if (colour := _pinned(name))}
    rest = [colour for colour in COLOURS if colour not in known.values()] or list(COLOURS)
    others = [name for name in names if name not in known]
    return known | {name: rest[index % len(rest)] for index, name in enumerate(others)}


def _pinned(name: str) -> str | None:
    near = [network for network in NETWORK_COLOURS if name.startswith(network)]
    return NETWORK_COLOURS[max(near, key=len)] if near else None


def _markers(points: Sequence[Point]) -> dict[str, str]:
    others = [runtime for runtime in sorted({point.runtime for point in points}) if runtime not in MARKERS]
    return dict(MARKERS) | {runtime: OTHER_MARKERS[i % len(OTHER_MARKERS)] for i, runtime in enumerate(others)}


def _draw_fronts(axes: Axes, points: Sequence[Point], base: float) -> list[tuple[str, str]]:
    """Draw a front a contest as the best accuracy within a latency; return each one's name and line style."""
    fronts: dict[tuple[str, str, str], list[Point]] = {}
    for point in front_points(points):
        fronts.setdefault(point.contest, []).append(point)
    floor, end = axes.get_ylim()[0], axes.get_xlim()[1]
    named = []
    for index, (contest, members) in enumerate(sorted(fronts.items())):
        members.sort(key=lambda member: member.latency_ms)
        xs = [members[0].latency_ms, *(member.latency_ms for member in members), end]
        ys = [floor, *(member.accuracy or 0.0 for member in members), members[-1].accuracy or 0.0]
        style = FRONT_STYLES[index % len(FRONT_STYLES)]
        axes.plot(
            xs, ys, style, drawstyle="steps-post", color=FAINT, linewidth=0.1 * base, zorder=1.5, gid="front"
        )
        machine, kind, data = contest
        several = len({other[0] for other in fronts}) > 1
        what = "Pareto front" if len(fronts) == 1 else f"front, {kind}{f' on {data}' if data and kind == 'measured' else ''}"
        named.append((f"{what}, {machine}" if several else what, style))
    return named


def _draw_points(
    axes: Axes, points: Sequence[Point], colours: Mapping[str, str], markers: Mapping[str, str], size: float
) -> None:
    for point in points:
        colour = colours[point.name]
        x, y = point.latency_ms, point.accuracy or 0.0
        for axis, ci, centre in (("xerr", point.latency_ci_ms, x), ("yerr", point.accuracy_ci, y)):
            if ci is not None:
                reach = [[max(centre - ci[0], 0.0)], [max(ci[1] - centre, 0.0)]]
                axes.errorbar(
                    x, y, **{axis: reach}, fmt="none", ecolor=colour, elinewidth=0.8, capsize=0.28 * size, zorder=2
                )
        axes.plot(x, y, color=colour, gid="point", zorder=3, **_marker(point.runtime, point.precision, colour, markers, size))


def _marker(
    runtime: str, precision: str | None, colour: str, markers: Mapping[str, str], size: float
) -> dict[str, Any]:
    fill = FILLS.get(precision, OTHER_FILL)
    hollow = fill == "none"  # white rather than transparent, so that lines do not show through
    return {
        "marker": markers[runtime],
        "markersize": size,
        "fillstyle": "full" if hollow else fill,
        "markerfacecolor": "white" if hollow else colour,
        "markerfacecoloralt": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.17 * size,
        "linestyle": "none",
    }


def _legend(
    figure: Figure,
    points: Sequence[Point],
    markers: Mapping[str, str],
    fronts: Sequence[tuple[str, str]],
    size: float,
    width_in: float,
) -> None:
    """Say what markers and lines mean, above the axes where it covers nothing; colours are named by the labels."""
    from matplotlib.lines import Line2D

    order = [*FILLS]
    kinds = sorted(
        {(p.runtime, p.precision) for p in points},
        key=lambda kind: (
            list(markers).index(kind[0]), order.index(kind[1]) if kind[1] in order else len(order), kind[1] or ""
        ),
    )  # fmt: skip
    handles = [
        Line2D(
            [], [], label=f"{RUNTIME_NAMES.get(runtime, runtime)} {precision or 'other'}",
            **_marker(runtime, precision, INK, markers, size),
        )
        for runtime, precision in kinds
    ]  # fmt: skip
    handles += [Line2D([], [], color=FAINT, linestyle=style, label=name) for name, style in fronts]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=min(len(handles), 3 if width_in < 5 else 5),
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _caption(figure: Figure, caption: str, base: float) -> None:
    """Put the caption under the plot, wrapped to its width as rendered."""
    size = base - 1
    text = figure.supxlabel(caption, x=0.01, ha="left", fontsize=size, color="#555555")
    limit = 0.98 * figure.bbox.width
    lines = [""]
    for word in caption.split():
        text.set_text(f"{lines[-1]} {word}".strip())
        if lines[-1] and text.get_window_extent().width > limit:
            lines.append(word)
        else:
            lines[-1] = text.get_text()
    text.set_text("\n".join(lines))


def _label(
    figure: Figure, axes: Axes, points: Sequence[Point], colours: Mapping[str, str], size: float, base: float
) -> None:
    """Name each network once, in its colour, beside one of its points, where it covers nothing."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.label, point.name), []).append(point)
    leading = {(point.label, point.name) for point in front_points(points)}
    # Networks on a front choose their places first; the most accurate of them before the others.
    names = sorted(groups, key=lambda group: (group not in leading, -(groups[group][0].accuracy or 0.0), group))
    names = names[:MAX_LABELS] if len(names) > MAX_LABELS else names
    texts = []
    for name in names:
        shown = name[0] if len(name[0]) <= MAX_LABEL_CHARS else name[0][: MAX_LABEL_CHARS - 1] + "…"
        texts.append(
            axes.text(
                0, 0, shown, color=colours[name[1]], fontsize=base, ha="left", va="bottom", gid="label",
                transform=axes.transAxes, parse_math=False, zorder=4,
            )
        )  # fmt: skip
    pixel = figure.dpi / 72  # of a typographic point
    in_pixels = {point: tuple(map(float, axes.transData.transform((point.latency_ms, point.accuracy)))) for point in points}
    labels = []
    for name, text in zip(names, texts, strict=True):
        extent = text.get_window_extent()
        anchors = tuple(in_pixels[point] for point in groups[name])
        labels.append(Label(width=extent.width, height=extent.height, anchors=anchors))
    frame = axes.get_window_extent()
    places = place(
        labels,
        marker_radius=(0.6 * size + 0.5) * pixel,
        markers=list(in_pixels.values()),
        obstacles=[_thin(axes, ends, pixel) for point in points for ends in _error_bars(point)],
        lines=_steps(axes, pixel),
        frame=Box(x0=frame.x0 + 2 * pixel, y0=frame.y0 + 2 * pixel, x1=frame.x1, y1=frame.y1),
    )
    to_axes = axes.transAxes.inverted().transform
    for text, spot in zip(texts, places, strict=True):
        if spot is None:
            text.remove()
            continue
        # In parts of the axes, not in pixels: SVG and PDF are drawn at another resolution.
        text.set_position(to_axes((spot.box.x0, spot.box.y0)))
        if spot.leader:
            _leader(axes, spot, (0.5 * size + 1) * pixel, text.get_color())


def _error_bars(point: Point) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The two ends of each interval, in data coordinates."""
    bars = []
    accuracy = point.accuracy or 0.0
    if point.latency_ci_ms:
        bars.append(((point.latency_ci_ms[0], accuracy), (point.latency_ci_ms[1], accuracy)))
    if point.accuracy_ci:
        bars.append(((point.latency_ms, point.accuracy_ci[0]), (point.latency_ms, point.accuracy_ci[1])))
    return bars


def _thin(axes: Axes, ends: tuple[tuple[float, float], tuple[float, float]], pixel: float) -> Box:
    """The box around an upright or level line, two typographic points on each side of it."""
    low, high = axes.transAxes.transform(((-1, -1), (2, 2)))  # an interval that reaches 0 ms lies at minus infinity
    (xa, ya), (xb, yb) = (
        (min(max(x, low[0]), high[0]), min(max(y, low[1]), high[1])) for x, y in axes.transData.transform(ends)
    )
    pad = 2 * pixel
    return Box(x0=min(xa, xb) - pad, y0=min(ya, yb) - pad, x1=max(xa, xb) + pad, y1=max(ya, yb) + pad)


def _steps(axes: Axes, pixel: float) -> list[Box]:
    """The level and upright pieces of the fronts' step lines."""
    pieces = []
    for line in axes.lines:
        if line.get_gid() == "front":
            corners = [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]
            for (xa, ya), (xb, yb) in pairwise(corners):
                pieces += [_thin(axes, ((xa, ya), (xb, ya)), pixel), _thin(axes, ((xb, ya), (xb, yb)), pixel)]
    return pieces


def _leader(axes: Axes, spot: Placement, radius: float, colour: Any) -> None:
    """Draw a thin line from a label that lies far off to the edge of its marker."""
    x, y = spot.anchor
    near_x, near_y = min(max(x, spot.box.x0), spot.box.x1), min(max(y, spot.box.y0), spot.box.y1)
    share = radius / math.hypot(near_x - x, near_y - y)
    ends = [(x + share * (near_x - x), y + share * (near_y - y)), (near_x, near_y)]
    xs, ys = zip(*axes.transAxes.inverted().transform(ends), strict=True)
    axes.plot(xs, ys, transform=axes.transAxes, color=colour, linewidth=0.5, zorder=2.5, gid="leader")
