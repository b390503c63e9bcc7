"""Accuracy against p50 latency, with the front and where it lies in 95 % of draws: a panel a machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mobench.errors import BadInputError
from mobench.front_probability import band, contests, has_spread
from mobench.pareto import Contest, Point, front_points
from mobench.report.labels import Box
from mobench.report.plots import canvas
from mobench.report.plots.canvas import Ends, Tag
from mobench.report.style import (
    FILLS,
    FRONT_STYLES,
    INK,
    PAGE_IN,
    RUNTIME_NAMES,
    STEP,
    font_size,
    marker,
    network_colours,
    plot_style,
    runtime_markers,
    shown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LineStyle = Literal["-", "--", ":", "-."]

ASPECT = 0.54  # the axes' height and ticks over the width
PANEL_ASPECT = 0.44  # of those that stand side by side, over the width of the whole
PANEL_IN = 3.0  # the least width of one
BAND_STEPS = 240  # latencies at which the band is computed
MARKER_SIZE = 0.62  # of the type's
LOG_FROM = 5.0  # slowest over fastest from which the latency axis is logarithmic
MAX_FRONT_CHARS = 60  # in the legend, which the narrowest plot must hold
MAX_LABELS = 24  # networks that are named; those on a front come first
FEW_LABELS = 12  # so many are named wherever there is a place; of more, those off the front only near their points


def pareto_plot(
    points: Sequence[Point], path: Path, *, title: str = "", caption: str = "", width_in: float = PAGE_IN
) -> None:
    """Draw accuracy against p50 latency with the front and write it to ``path``, svg, png or pdf by its suffix.

    ``width_in`` is the width it will be printed at: text stays readable at COLUMN_IN and at PAGE_IN. Points without
    accuracy are left out. Raises BadInputError for another suffix or when no point has an accuracy.
    """
    canvas.check_suffix(path)
    canvas.write(pareto_figure(points, title=title, caption=caption, width_in=width_in), path, title=title,
                 width_in=width_in)  # fmt: skip


def pareto_figure(points: Sequence[Point], *, title: str = "", caption: str = "", width_in: float = PAGE_IN) -> Figure:
    """Return the matplotlib figure that `pareto_plot` writes; the labels are its axes' texts with gid ``label``."""
    drawn = sorted((point for point in points if point.accuracy is not None), key=_drawing_order)
    if not drawn:
        raise BadInputError("plot", "no point has an accuracy", "measure it with `mobench eval FILES --data DIR`")
    with plot_style(width_in):
        return _draw(drawn, title, caption, width_in)


def _draw(drawn: Sequence[Point], title: str, caption: str, width_in: float) -> Figure:
    base = font_size(width_in)
    figure = canvas.new_figure(width_in, width_in)
    colours = network_colours(point.name for point in drawn)
    markers = runtime_markers(point.runtime for point in drawn)
    size = MARKER_SIZE * base
    panels = _panels(figure, drawn, base, width_in)
    styles = _front_styles(drawn)
    banded = False
    for axes, points in panels:
        _scale(axes, points, drawn)
        banded |= _draw_bands(axes, points)
        _draw_fronts(axes, points, styles, base)
        _draw_points(axes, points, colours, markers, size)
    _legend(figure, drawn, markers, list(dict.fromkeys(styles.values())), banded, title, width_in)
    if caption:
        canvas.caption(figure, caption, base - 1)
    # The axes keep their shape however many lines stand around them.
    around = sum(text.get_window_extent().height for text in (*figure.legends, *figure.texts)) / figure.dpi
    columns = _columns(len(panels), width_in)
    rows = math.ceil(len(panels) / columns)
    lines = [axes.get_title(loc="left").count("\n") + 1 for axes, _ in panels if axes.get_title(loc="left")]
    titles = rows * max(lines, default=0) * 1.5 * base / 72
    tall = (ASPECT if columns == 1 else PANEL_ASPECT) * width_in
    figure.set_figheight(rows * (tall + 4 * base / 72) + titles + around)
    # Labels are placed on the final layout, in pixels: let it settle, then hold it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, points in panels:
        _label(axes, points, colours, size, base)
    return figure


def _panels(figure: Figure, drawn: Sequence[Point], base: float, width_in: float) -> list[tuple[Axes, list[Point]]]:
    """Return axes a machine or device, side by side on one accuracy scale as far as the width allows."""
    machines = sorted({point.machine for point in drawn})
    columns = _columns(len(machines), width_in)
    panels: list[tuple[Axes, list[Point]]] = []
    for i, machine in enumerate(machines):
        axes = figure.add_subplot(math.ceil(len(machines) / columns), columns, i + 1)
        canvas.plain_axes(axes)
        if i + columns >= len(machines):
            axes.set_xlabel("p50 latency (ms)")
        if i % columns == 0:
            axes.set_ylabel(_accuracy_title(drawn))
        else:
            axes.tick_params(labelleft=False)
        if len(machines) > 1:
            room = int(110 * width_in / columns / base)  # characters: a letter is about two thirds of its height
            axes.set_title(fill(machine or "unknown machine", room), loc="left", fontsize=base, parse_math=False)
        panels.append((axes, [point for point in drawn if point.machine == machine]))
    return panels


def _columns(panels: int, width_in: float) -> int:
    return max(1, min(panels, int(width_in // PANEL_IN)))


def _drawing_order(point: Point) -> tuple[Any, ...]:
    return (point.contest, point.name, point.full_label, point.latency_ms, point.accuracy, repr(point))


def _accuracy_title(points: Sequence[Point]) -> str:
    kinds = {point.accuracy_kind for point in points}
    return f"top-1 accuracy (%), {kinds.pop()}" if len(kinds) == 1 else "top-1 accuracy (%)"


def _scale(axes: Axes, points: Sequence[Point], drawn: Sequence[Point]) -> None:
    """Set limits that hold every interval with room for labels, and plain round ticks; accuracy as all panels have it.

    ``points`` are the panel's, ``drawn`` those of all.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    bounds = [bound for p in points for bound in (p.latency_ms, *(p.latency_ci_ms or ()))]
    low, high = min(bounds), max(bounds)
    low = max(low, min(p.latency_ms for p in points) / 10)  # an interval may reach zero, a logarithm may not
    if high / low >= LOG_FROM:
        pad = (high / low) ** 0.09
        axes.set_xscale("log")
        axes.set_xlim(low / pad, high * pad)
        axes.xaxis.set_major_locator(FixedLocator(canvas.log_ticks(low / pad, high * pad)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        pad = 0.1 * ((high - low) or high)
        axes.set_xlim(low - pad, high + pad)
    bounds = [b for p in drawn for b in (p.accuracy or 0.0, *(p.accuracy_ci or ()))]
    room = 0.12 * max(max(bounds) - min(bounds), 1.0)
    axes.set_ylim(min(bounds) - room, max(bounds) + room)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _front_styles(points: Sequence[Point]) -> dict[Contest, tuple[str, LineStyle]]:
    """Return name and line style of each front; the machine does not count, for it has its own panel."""
    found = sorted({point.contest for point in front_points(points)})
    names = {contest: _front_name(contest, found) for contest in found}
    styles = {name: FRONT_STYLES[i % len(FRONT_STYLES)] for i, name in enumerate(dict.fromkeys(names.values()))}
    return {contest: (name, styles[name]) for contest, name in names.items()}


def _draw_bands(axes: Axes, points: Sequence[Point]) -> bool:
    """Shade where each front lies in 95 % of draws; return whether there is anything to shade."""
    left, right = axes.get_xlim()
    scale = np.geomspace if axes.get_xscale() == "log" else np.linspace
    latencies = [float(ms) for ms in scale(max(left, 1e-9), right, BAND_STEPS)]
    floor, drawn = axes.get_ylim()[0], False
    for _, places in sorted(contests(points).items()):
        members = [points[i] for i in places]
        if any(has_spread(point) or point.accuracy_ci for point in members):
            low, high = (np.maximum(side, floor) for side in band(members, latencies))
            axes.fill_between(latencies, low, high, color=STEP, alpha=0.14, linewidth=0, zorder=1.2, gid="band")
            drawn = True
    return drawn


def _draw_fronts(
    axes: Axes, points: Sequence[Point], styles: Mapping[Contest, tuple[str, LineStyle]], base: float
) -> None:
    """Draw a front a contest as the best accuracy within a latency."""
    fronts: dict[Contest, list[Point]] = {}
    for point in front_points(points):
        fronts.setdefault(point.contest, []).append(point)
    floor, end = axes.get_ylim()[0], axes.get_xlim()[1]
    for contest, members in sorted(fronts.items()):
        members.sort(key=lambda member: member.latency_ms)
        xs = [members[0].latency_ms, *(member.latency_ms for member in members), end]
        ys = [floor, *(member.accuracy or 0.0 for member in members), members[-1].accuracy or 0.0]
        line = styles[contest][1]
        axes.plot(xs, ys, line, drawstyle="steps-post", color=STEP, linewidth=0.11 * base, zorder=1.5, gid="front")


def _front_name(contest: Contest, all_contests: Sequence[Contest]) -> str:
    """Say of a front only what tells it from the others of a panel."""
    _, kind, images, batch = contest
    if len({other[1:] for other in all_contests}) == 1:
        return "Pareto front"
    parts = [f"front, {kind}"]
    if kind == "measured" and len({other[2] for other in all_contests if other[1] == kind}) > 1:
        parts.append(f"on {images}")
    if len({other[3] for other in all_contests}) > 1:
        parts.append(f"batch {batch}")
    return shorten(" ".join(parts), MAX_FRONT_CHARS, placeholder="…")


def _draw_points(
    axes: Axes, points: Sequence[Point], colours: Mapping[str, str], markers: Mapping[str, str], size: float
) -> None:
    for point in points:
        colour = colours[point.name]
        x, y = point.latency_ms, point.accuracy or 0.0
        axes.errorbar(
            x, y,
            xerr=canvas.reach(x, point.latency_ci_ms), yerr=canvas.reach(y, point.accuracy_ci),
            fmt="none", ecolor=colour, alpha=0.6, zorder=2,
            elinewidth=0.13 * size, capsize=0.25 * size, capthick=0.13 * size,
        )  # fmt: skip
        axes.plot(
            x, y, color=colour, gid="point", zorder=3, **marker(point.runtime, point.precision, colour, markers, size)
        )


def _legend(
    figure: Figure,
    points: Sequence[Point],
    markers: Mapping[str, str],
    fronts: Sequence[tuple[str, LineStyle]],
    banded: bool,
    title: str,
    width_in: float,
) -> None:
    """Say what markers and lines mean, above the axes where it covers nothing; colours are named by the labels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    base = font_size(width_in)
    size = MARKER_SIZE * base

    order = [*FILLS]
    kinds = sorted(
        {(p.runtime, p.precision) for p in points},
        key=lambda kind: (
            list(markers).index(kind[0]), order.index(kind[1]) if kind[1] in order else len(order), kind[1] or ""
        ),
    )  # fmt: skip
    handles: list[Line2D | Patch] = [
        Line2D(
            [], [], label=f"{RUNTIME_NAMES.get(runtime, runtime)} {precision or 'other'}",
            **marker(runtime, precision, INK, markers, size),
        )
        for runtime, precision in kinds
    ]  # fmt: skip
    handles += [Line2D([], [], color=STEP, linewidth=0.18 * size, linestyle=line, label=name) for name, line in fronts]
    if banded:
        handles.append(Patch(facecolor=STEP, alpha=0.14, linewidth=0, label="front in 95 % of draws"))
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=columns,
            frameon=False,
            handletextpad=0.4,
            columnspacing=1.2,
            borderaxespad=0.2,
            title=title or None,  # here, because a figure's own title would lie on a legend outside the axes
            alignment="left",
            title_fontproperties={"weight": "bold", "size": base + 1},
        )
        if columns == 1 or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            break
        legend.remove()


def _label(axes: Axes, points: Sequence[Point], colours: Mapping[str, str], size: float, base: float) -> None:
    """Name each network once a front, in its colour, beside one of its points, where it covers nothing."""
    groups: dict[tuple[str, str, Contest], list[Point]] = {}
    for point in points:
        groups.setdefault((point.label, point.name, point.contest), []).append(point)
    leading = {(point.label, point.name, point.contest) for point in front_points(points)}
    # Networks on a front choose their places first; the most accurate of them before the others.
    names = sorted(groups, key=lambda group: (group not in leading, -(groups[group][0].accuracy or 0.0), group))
    names = names[:MAX_LABELS]
    tags = []
    for name in names:
        anchors = tuple((point.latency_ms, point.accuracy or 0.0) for point in groups[name])
        farthest = math.inf if name in leading or len(names) <= FEW_LABELS else canvas.FARTHEST
        tags.append(Tag(text=shown(name[0], name[1]), colour=colours[name[1]], anchors=anchors, farthest=farthest))
    canvas.name_points(
        axes,
        tags,
        points=list(dict.fromkeys((point.latency_ms, point.accuracy or 0.0) for point in points)),
        bars=[ends for point in points for ends in _error_bars(point)],
        lines=_steps(axes),
        size=size,
        base=base,
    )


def _error_bars(point: Point) -> list[Ends]:
    """The two ends of each interval, in data coordinates."""
    bars: list[Ends] = []
    accuracy = point.accuracy or 0.0
    if point.latency_ci_ms:
        bars.append(((point.latency_ci_ms[0], accuracy), (point.latency_ci_ms[1], accuracy)))
    if point.accuracy_ci:
        bars.append(((point.latency_ms, point.accuracy_ci[0]), (point.latency_ms, point.accuracy_ci[1])))
    return bars


def _steps(axes: Axes) -> list[Box]:
    """The level and upright pieces of the fronts' step lines."""
    pieces = []
    for line in axes.lines:
        if line.get_gid() == "front":
            for (xa, ya), (xb, yb) in pairwise(np.asarray(line.get_xydata(), dtype=float).tolist()):
                pieces += [canvas.thin(axes, ((xa, ya), (xb, ya))), canvas.thin(axes, ((xb, ya), (xb, yb)))]
    return pieces
