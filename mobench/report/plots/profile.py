"""A profile drawn: the roofline (rates against the machine's ceilings), and a flame chart (where the time goes)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobench.errors import BadInputError
from mobench.profile.operators import Line, blocks_of, lines, overhead, time_ms
from mobench.profile.roofline import Ceiling, shown
from mobench.records import Profile
from mobench.report.labels import Box, Label, place
from mobench.report.plots import canvas
from mobench.report.style import COLOURS, FAINT, INK, PAGE_IN, STEP, font_size, plot_style, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Segment = tuple[tuple[float, float], tuple[float, float]]

ROOFLINE_ASPECT, FLAME_ASPECT = 0.62, 0.4  # height over width
ROOM = 2.5  # factor by which an axis reaches beyond what it shows
APART = 1.3  # bandwidths nearer to each other than this are one line
TITLE_CHARS = 70
CAPTION_CHARS = 17  # an inch, at the widest type
ROOF_SPOTS = 12  # places along a line that are tried for its name
_SHARE_NAMED = 0.005  # of the time, from which the legend names a kind


def roofline_plot(
    profile: Profile, ceiling: Ceiling, path: Path, *, title: str = "", threads: int = 1, width_in: float = PAGE_IN
) -> None:
    """Draw the roofline and write it to ``path``, svg, png or pdf by its suffix; the file appears whole or not at all.

    Raises BadInputError where no operator's MACs and bytes are known.
    """
    canvas.write(
        roofline_figure(profile, ceiling, title=title, threads=threads, width_in=width_in),
        path, title=title, width_in=width_in,
    )  # fmt: skip


def flame_plot(
    profile: Profile, path: Path, *, title: str = "", names: Mapping[str, str] | None = None, width_in: float = PAGE_IN
) -> None:
    """Draw the flame chart and write it to ``path``, svg, png or pdf by its suffix. ``names``: what to call blocks.

    Raises BadInputError where no operator took any time.
    """
    canvas.write(
        flame_figure(profile, title=title, names=names, width_in=width_in),
        path, title=title, width_in=width_in,
    )  # fmt: skip


def _colours(kinds: Sequence[str]) -> dict[str, str]:
    """Return a colour a kind, the longest first; those beyond the palette are grey."""
    return {kind: COLOURS[index] if index < len(COLOURS) else FAINT for index, kind in enumerate(kinds)}


def roofline_figure(
    profile: Profile, ceiling: Ceiling, *, title: str = "", threads: int = 1, width_in: float = PAGE_IN
) -> Figure:
    """Return the figure that `roofline_plot` writes; the kinds' labels are its axes' texts with gid ``label``."""
    kinds = [line for line in lines(profile, "operator", ceiling) if _drawable(line)]
    layers = [line for line in lines(profile, "layer", ceiling) if _drawable(line)]
    if not kinds:
        raise BadInputError("roofline", "no operator's MACs and bytes are known", "see the table")
    from matplotlib.ticker import FuncFormatter

    with plot_style(width_in):
        figure, axes = _canvas(width_in, ROOFLINE_ASPECT)
        base = font_size(width_in)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel("MACs per byte of inputs, weights and outputs")
        axes.set_ylabel("GMAC/s")
        peaks = {p: ceiling.macs_per_s[p] / 1e9 for p in sorted({line.precision for line in layers})
                 if p in ceiling.macs_per_s}  # fmt: skip
        places = [_place(line) for line in layers]
        low_x, high_x = min(x for x, _ in places), max(x for x, _ in places)
        low_y = min(y for _, y in places)
        high_y = max([y for _, y in places] + list(peaks.values()))
        roofs = _bandwidths(ceiling)
        # The knee, where memory ends to be the limit, belongs to the picture wherever the operators lie.
        knee_x = max(peaks.values(), default=high_y) / max(rate for _, rate in roofs)
        axes.set_xlim(min(low_x, knee_x) / ROOM, max(high_x, knee_x) * ROOM)
        axes.set_ylim(low_y / ROOM, high_y * ROOM)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        colours = _colours([line.kind for line in kinds])
        for line, (x, y) in zip(layers, places, strict=True):
            axes.plot(x, y, "o", color=colours.get(line.kind, FAINT), markersize=0.3 * base, alpha=0.45,
                      markeredgewidth=0, zorder=2.5, gid="layer")  # fmt: skip
        for line in kinds:
            axes.plot(*_place(line), "o", color=colours[line.kind], markersize=0.75 * base, markeredgecolor="white",
                      markeredgewidth=0.08 * base, zorder=3, gid="kind")  # fmt: skip
        segments = _draw_roofs(axes, peaks, roofs, base)
        axes.set_title(textwrap.shorten(title, TITLE_CHARS, placeholder="…"), loc="left", weight="bold", size=base + 1)
        within = " and ".join(_size(size) for size, _ in roofs)
        caption = (
            "Large: all operators of a kind, with their part of the time; small: each of them. Lines: what this machine"
            f" was measured to do with {threads} thread{'s' if threads > 1 else ''}; bandwidth for data of {within}."
        )
        wrapped = textwrap.fill(caption, int(CAPTION_CHARS * width_in * 9 / base))
        figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=base - 1, color="#555555")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        roof_texts = _name_roofs(axes, peaks, roofs, [*places, *map(_place, kinds)], base)
        _name_kinds(figure, axes, kinds, layers, colours, segments, roof_texts, base)
    return figure


def _canvas(width_in: float, aspect: float) -> tuple[Figure, Axes]:
    figure = canvas.new_figure(width_in, aspect * width_in)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _drawable(line: Line) -> bool:
    return bool(line.macs and line.moved_bytes and line.gmacs_per_s)


def _place(line: Line) -> tuple[float, float]:
    """Return a line's MACs a byte and GMAC/s."""
    return (line.macs or 0) / (line.moved_bytes or 1), line.gmacs_per_s or 0.0


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def _bandwidths(ceiling: Ceiling) -> list[tuple[int, float]]:
    """Return the working sets that are drawn, smallest and largest, with their GB/s; one where they are alike."""
    sizes = [ceiling.bytes_per_s[0][0], ceiling.bytes_per_s[-1][0]]
    found = [(size, ceiling.bandwidth(size) / 1e9) for size in sizes]
    return found if found[0][1] / found[1][1] > APART else found[:1]


def _draw_roofs(
    axes: Axes, peaks: Mapping[str, float], roofs: Sequence[tuple[int, float]], base: float
) -> list[Segment]:
    """Draw the ceilings; return them as straight pieces, in data coordinates."""
    (left, right), top = axes.get_xlim(), max(peaks.values(), default=axes.get_ylim()[1])
    fastest = max(rate for _, rate in roofs)
    segments: list[Segment] = [((left, left * rate), (top / rate, top)) for _, rate in roofs]
    segments += [((peak / fastest, peak), (right, peak)) for peak in peaks.values()]
    for (x0, y0), (x1, y1) in segments:
        axes.plot([x0, x1], [y0, y1], color=STEP, linewidth=0.11 * base, zorder=1.5, gid="roof")
    return segments


def _name_roofs(
    axes: Axes,
    peaks: Mapping[str, float],
    roofs: Sequence[tuple[int, float]],
    points: Sequence[tuple[float, float]],
    base: float,
) -> list[Text]:
    """Write each ceiling's figure along its line, where the fewest points are under it."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    common: dict[str, Any] = {"fontsize": base - 1, "color": STEP, "zorder": 4, "gid": "roof", "parse_math": False}
    texts = []
    under = axes.transData.transform(points)
    reach = 0.5 * base * axes.figure.dpi / 72
    for size, rate in roofs:
        start, end = 1.15 * max(left, bottom / rate), min(right, top / rate)
        if start >= end:
            continue
        (xa, ya), (xb, yb) = axes.transData.transform([(start, start * rate), (end, end * rate)]).tolist()
        text = axes.text(
            start, start * rate, f"{shown(1e9 * rate)} GB/s, {_size(size)}", ha="left", va="bottom", **common
        )
        extent = text.get_window_extent()
        length = math.hypot(xb - xa, yb - ya)
        along, across = ((xb - xa) / length, (yb - ya) / length), ((ya - yb) / length, (xb - xa) / length)
        text.set(rotation=math.degrees(math.atan2(yb - ya, xb - xa)), rotation_mode="anchor")
        spots = []
        for step in range(ROOF_SPOTS):
            x = start * (end / start) ** (0.7 * step / ROOF_SPOTS)
            x0, y0 = axes.transData.transform((x, 1.06 * x * rate)).tolist()
            # Each point as the text sees it: how far along it, and how far above its foot.
            seen = [
                ((px - x0) * along[0] + (py - y0) * along[1], (px - x0) * across[0] + (py - y0) * across[1])
                for px, py in under.tolist()
            ]
            covered = sum(-reach < u < extent.width + reach and -reach < v < extent.height + reach for u, v in seen)
            spots.append((covered, x))
        x = min(spots)[1]
        text.set_position((x, 1.06 * x * rate))
        texts.append(text)
    for precision, peak in peaks.items():
        texts.append(
            axes.text(right, 1.03 * peak, f"{precision} {shown(1e9 * peak)} GMAC/s ", ha="right", va="bottom", **common)
        )
    return texts


def _name_kinds(
    figure: Figure,
    axes: Axes,
    kinds: Sequence[Line],
    layers: Sequence[Line],
    colours: Mapping[str, str],
    segments: Sequence[Segment],
    others: Sequence[Text],
    base: float,
) -> None:
    """Name each kind in its colour, with its share of the time, where it covers nothing."""
    pixel = figure.dpi / 72
    texts = [
        axes.text(0, 0, f"{line.kind}, {100 * line.share:.0f} %", color=readable(colours[line.kind]), fontsize=base,
                  ha="left", va="bottom", transform=axes.transAxes, parse_math=False, zorder=4, gid="label")
        for line in kinds
    ]  # fmt: skip

    def pixels(x: float, y: float) -> tuple[float, float]:
        there = axes.transData.transform((x, y))
        return float(there[0]), float(there[1])

    labels = []
    for line, text in zip(kinds, texts, strict=True):
        extent = text.get_window_extent()
        labels.append(Label(width=extent.width, height=extent.height, anchors=(pixels(*_place(line)),)))
    small, frame = 0.25 * base * pixel, axes.get_window_extent()
    dots = [pixels(*_place(line)) for line in layers]
    taken = [Box(x0=e.x0, y0=e.y0, x1=e.x1, y1=e.y1) for e in (text.get_window_extent() for text in others)]
    found = place(
        labels,
        marker_radius=0.5 * base * pixel,
        markers=[pixels(*_place(line)) for line in kinds],
        obstacles=taken,
        # Small dots may be covered where there is no other place, and so may lines.
        lines=[Box(x0=x - small, y0=y - small, x1=x + small, y1=y + small) for x, y in dots]
        + [piece for start, end in segments for piece in canvas.pieces(pixels(*start), pixels(*end))],
        frame=Box(x0=frame.x0, y0=frame.y0, x1=frame.x1, y1=frame.y1),
    )
    to_axes = axes.transAxes.inverted()
    for text, spot in zip(texts, found, strict=True):
        if spot is None:
            text.remove()
            continue
        x, y = to_axes.transform((spot.box.x0, spot.box.y0))
        text.set_position((float(x), float(y)))
        if spot.leader:
            near = (
                min(max(spot.anchor[0], spot.box.x0), spot.box.x1),
                min(max(spot.anchor[1], spot.box.y0), spot.box.y1),
            )
            ends = to_axes.transform([spot.anchor, near])
            axes.plot(ends[:, 0], ends[:, 1], transform=axes.transAxes, color=text.get_color(), linewidth=0.5,
                      zorder=2, gid="leader")  # fmt: skip


def flame_figure(
    profile: Profile, *, title: str = "", names: Mapping[str, str] | None = None, width_in: float = PAGE_IN
) -> Figure:
    """Return the figure that `flame_plot` writes; what is named are its axes' texts with gid ``label``."""
    total = overhead(profile).operators_ms
    if not total:
        raise BadInputError("flame chart", "no operator took any time", "see the table")
    kinds = [line for line in lines(profile, "operator") if line.time_ms]
    colours = _colours([line.kind for line in kinds])
    blocks: dict[str, list[int]] = {}
    for index, block in enumerate(blocks_of(profile.operators, names)):
        blocks.setdefault(block, []).append(index)
    with plot_style(width_in):
        figure, axes = _canvas(width_in, FLAME_ASPECT)
        base = font_size(width_in)
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.set_xlim(0, total)
        axes.set_ylim(0, 2.4)
        axes.set_xlabel("ms, the medians of the operators, in the order they run")
        named = [line for line in kinds[: len(COLOURS)] if line.share >= _SHARE_NAMED]
        axes.set_title(textwrap.shorten(title, TITLE_CHARS, placeholder="…"), loc="left", weight="bold", size=base + 1)
        _kind_legend(figure, named, colours, base)
        bars: list[tuple[float, float, float, float, str, str]] = [
            (0.0, total, 2.0, 0.4, f"operators together: {total:.2f} ms", "#dddddd")
        ]
        at = 0.0
        for block, members in blocks.items():
            taken = sum(time_ms(profile.operators[index]) for index in members)
            bars.append((at, taken, 1.0, 1.0, block, "#efefef"))
            for index in members:
                operator = profile.operators[index]
                bars.append((at, time_ms(operator), 0.0, 1.0, operator.kind, colours.get(operator.kind, FAINT)))
                at += time_ms(operator)
        for x, wide, y, high, _, colour in bars:
            axes.bar(x, high, width=wide, bottom=y, align="edge", color=colour, edgecolor="white", linewidth=0.4)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for x, wide, y, high, name, colour in bars:
            # A block is known by its number; half an operator's name is another operator's.
            short = [name.split(" ")[0]] if y == 1.0 else []
            _name_bar(axes, (x, wide, y, high), [name, *short], colour, base - 2)
    return figure


def _kind_legend(figure: Figure, kinds: Sequence[Line], colours: Mapping[str, str], base: float) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colours[line.kind], label=f"{line.kind} {100 * line.share:.0f} %") for line in kinds]
    rest = 1 - sum(line.share for line in kinds)
    if rest > _SHARE_NAMED:
        handles.append(Patch(color=FAINT, label=f"other {100 * rest:.0f} %"))
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower left", ncols=columns, frameon=False,
                               handlelength=1.0, handletextpad=0.4, columnspacing=1.2, borderaxespad=0.2,
                               fontsize=base - 1)  # fmt: skip
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def _name_bar(
    axes: Axes, bar: tuple[float, float, float, float], names: Sequence[str], colour: str, size: float
) -> None:
    """Write the first of the names that fits into a bar, lying or upright; nothing where none does."""
    from matplotlib.colors import to_rgb

    x, wide, y, high = bar
    (left, bottom), (right, top) = axes.transData.transform([(x, y), (x + wide, y + high)]).tolist()
    red, green, blue = (channel**2.2 for channel in to_rgb(colour))
    # WCAG's contrast: dark ink from the luminance at which it reads better than white.
    ink = INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.24 else "white"
    for words in names:
        for rotation in (0, 90):
            text = axes.text(x + wide / 2, y + high / 2, words, ha="center", va="center", fontsize=size, color=ink,
                             rotation=rotation, parse_math=False, gid="label")  # fmt: skip
            extent = text.get_window_extent()
            if extent.width < 0.94 * (right - left) and extent.height < 0.94 * (top - bottom):
                return
            text.remove()
