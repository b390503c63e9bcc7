"""What every plot is drawn with: the figure, its file, its caption, ticks, and names that cover nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobench.claims.networks import in_zoo
from mobench.errors import BadInputError
from mobench.files import replacing
from mobench.report.labels import Box, Label, Placement, place
from mobench.report.style import DPI, PAGE_IN, PLOT_SUFFIXES, metadata, network_colours, plot_style, readable
from mobench.zoo.spec import get

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

Ends = tuple[tuple[float, float], tuple[float, float]]

GRID = "#e6e6e6"
FARTHEST = 2.2  # heights of its type from its point to a name that need not be there
CAPTION_INK = "#555555"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A name in a colour, and the points it may stand beside, in data coordinates.

    One that finds no place within ``farthest`` heights of its type from such a point is left out.
    """

    text: str
    colour: str
    anchors: tuple[tuple[float, float], ...]
    farthest: float = math.inf


def check_suffix(path: Path) -> None:
    """Raise BadInputError unless a plot can be written to ``path``."""
    suffix = path.suffix.lower()
    if suffix not in PLOT_SUFFIXES:
        raise BadInputError(
            f"plot {path}", f"cannot write {suffix or 'a file without suffix'}", "name it .svg, .png or .pdf"
        )


def write(figure: Figure, path: Path, *, title: str = "", width_in: float = PAGE_IN) -> None:
    """Write a figure, svg, png or pdf by the suffix; the file appears whole or not at all.

    ``width_in`` is that of the figure. Raises BadInputError for another suffix.
    """
    check_suffix(path)
    suffix = path.suffix.lower()
    with plot_style(width_in), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DPI, metadata=metadata(suffix, title))


def new_figure(width_in: float, height_in: float, *, laid_out: bool = True) -> Figure:
    """Return an empty figure whose texts can be measured; unless ``laid_out``, its axes stay where they are put."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained" if laid_out else None)
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes) -> None:
    """Leave of a frame the left and the lower side, and a grid behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)


def log_ticks(low: float, high: float, most: int = 10) -> list[float]:
    """Return 1-2-5 ticks; fewer a decade where these would be more than ``most``, more where fewer than three."""

    def ticks(steps: Sequence[float]) -> list[float]:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = (float(f"{step}e{decade}") for decade in decades for step in steps)
        return [tick for tick in every if low <= tick <= high]

    for steps in ((1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 1.2, 1.5, *map(float, range(2, 10)))):
        if len(found := ticks(steps)) >= 3:
            break
    for steps in ((1.0, 3.0), (1.0,)):
        if len(found) > most:
            found = ticks(steps)
    return found


def caption(figure: Figure, text: str, size: float) -> float:
    """Put a caption under a figure of constrained layout, wrapped to its width as rendered; return its height, in."""
    artist = figure.supxlabel(text, x=0.01, ha="left", fontsize=size, color=CAPTION_INK)
    lines = wrapped(figure, text, size, 0.98 * figure.get_figwidth())
    artist.set_text("\n".join(lines))
    return (1.4 * len(lines) + 0.6) * size / 72


def wrapped(figure: Figure, text: str, size: float, room_in: float, *, bold: bool = False) -> list[str]:
    """Return a text in lines that fit ``room_in`` inches at ``size`` points; no line ends at a no-break space."""
    artist = figure.text(0, 0, "", fontsize=size, weight="bold" if bold else "normal", parse_math=False)
    lines = [""]
    for word in text.split(" "):
        artist.set_text(f"{lines[-1]} {word}".strip())
        if lines[-1] and artist.get_window_extent().width > room_in * DPI:
            lines.append(word)
        else:
            lines[-1] = artist.get_text()
    artist.remove()
    return lines


def reach(value: float, ci: tuple[float, float] | None) -> list[list[float]] | None:
    """Return an interval as matplotlib's error bars want it: how far it reaches below and above."""
    return [[max(value - ci[0], 0.0)], [max(ci[1] - value, 0.0)]] if ci else None


def moved(transform: Transform, x: float, y: float) -> tuple[float, float]:
    """Return a point transformed, as plain floats."""
    there = transform.transform((x, y))
    return float(there[0]), float(there[1])


def thin(axes: Axes, ends: Ends) -> Box:
    """Return the box in pixels around an upright or level line, two typographic points on each side of it."""
    # Cut at twice the axes: on a logarithmic axis an interval that reaches 0 ms ends at minus infinity.
    low, high = moved(axes.transAxes, -1, -1), moved(axes.transAxes, 2, 2)
    there = [moved(axes.transData, *end) for end in ends]
    xs = [min(max(x, low[0]), high[0]) for x, _ in there]
    ys = [min(max(y, low[1]), high[1]) for _, y in there]
    pad = 2 * DPI / 72
    return Box(x0=min(xs) - pad, y0=min(ys) - pad, x1=max(xs) + pad, y1=max(ys) + pad)


def pieces(start: tuple[float, float], end: tuple[float, float], count: int = 60) -> list[Box]:
    """Return a slanted line as small boxes, in pixels."""
    steps = [(start[0] + (end[0] - start[0]) * i / count, start[1] + (end[1] - start[1]) * i / count)
             for i in range(count + 1)]  # fmt: skip
    return [Box(x0=min(a[0], b[0]) - 1, y0=min(a[1], b[1]) - 1, x1=max(a[0], b[0]) + 1, y1=max(a[1], b[1]) + 1)
            for a, b in pairwise(steps)]  # fmt: skip


def name_points(
    axes: Axes,
    tags: Sequence[Tag],
    *,
    points: Sequence[tuple[float, float]],
    bars: Sequence[Ends],
    lines: Sequence[Box],
    size: float,
    base: float,
) -> None:
    """Write each tag beside one of its points, where it covers nothing; who finds no place is left out.

    The layout must have settled. Texts have the gid ``label``, the lines to those that lie far off ``leader``.

    Args:
        axes: where they go.
        tags: the first chooses first.
        points: all points there are, in data coordinates, drawn ``size`` typographic points wide.
        bars: the ends of error bars, which are never covered.
        lines: boxes in pixels, which are avoided.
        size: of a marker.
        base: of the type.
    """
    pixel = DPI / 72  # of a typographic point
    texts = [
        axes.text(
            0, 0, tag.text, color=readable(tag.colour), fontsize=base, ha="left", va="bottom",
            transform=axes.transAxes, parse_math=False, zorder=4, gid="label",
        )
        for tag in tags
    ]  # fmt: skip
    labels = []
    for tag, text in zip(tags, texts, strict=True):
        extent = text.get_window_extent()
        anchors = tuple(moved(axes.transData, *anchor) for anchor in tag.anchors)
        labels.append(Label(width=extent.width, height=extent.height, anchors=anchors))
    frame = axes.get_window_extent()
    places = place(
        labels,
        marker_radius=(0.6 * size + 0.5) * pixel,
        markers=[moved(axes.transData, *point) for point in points],
        obstacles=[thin(axes, ends) for ends in bars],
        lines=lines,
        frame=Box(x0=frame.x0 + 2 * pixel, y0=frame.y0 + 2 * pixel, x1=frame.x1, y1=frame.y1),
    )
    to_axes = axes.transAxes.inverted()
    for tag, text, spot in zip(tags, texts, places, strict=True):
        if spot is None or spot.away > tag.farthest:
            text.remove()
            continue
        # In parts of the axes, not in pixels: SVG and PDF are drawn at another resolution.
        text.set_position(moved(to_axes, spot.box.x0, spot.box.y0))
        if spot.leader:
            _leader(axes, spot, (0.5 * size + 1) * pixel, text.get_color())


def _leader(axes: Axes, spot: Placement, radius: float, colour: Any) -> None:
    """Draw a thin line from a label that lies far off to the edge of its marker."""
    x, y = spot.anchor
    near_x, near_y = min(max(x, spot.box.x0), spot.box.x1), min(max(y, spot.box.y0), spot.box.y1)
    share = radius / math.hypot(near_x - x, near_y - y)
    to_axes = axes.transAxes.inverted()
    ends = [
        moved(to_axes, x + share * (near_x - x), y + share * (near_y - y)),
        moved(to_axes, near_x, near_y),
    ]
    axes.plot(
        [end[0] for end in ends], [end[1] for end in ends],
        transform=axes.transAxes, color=colour, linewidth=0.5, zorder=2.5, gid="leader",
    )  # fmt: skip


def network_of(label: str) -> str:
    """Return the network that a label with width and size belongs to; the label itself where the zoo has none such."""
    return get(label).name if in_zoo(label) else label


def colours_of(labels: Iterable[str]) -> dict[str, str]:
    """Return the colour of each label's network."""
    networks = {label: network_of(label) for label in labels}
    by_network = network_colours(networks.values())
    return {label: by_network[network] for label, network in networks.items()}
