"""A sustained load as tables (cells by minute, the ranking then and now) and as a plot of latency over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobench.errors import BadInputError
from mobench.files import replacing
from mobench.over_time.sustained import SLICE_S, Minute, Slowdown, Sustained, clock, lines
from mobench.report.style import (
    COLOURS,
    DPI,
    FAINT,
    INK,
    MAX_LABEL_CHARS,
    PAGE_IN,
    PLOT_SUFFIXES,
    SMALL_IN,
    STEP,
    font_size,
    metadata,
    plot_style,
    readable,
)
from mobench.report.tables import Column, Row, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SHOWN_MINUTES = 8  # of a long load, in the terminal: the first, the last and some between; JSON has all
ASPECT, NARROW_ASPECT = 0.5, 0.62  # height over width
LINE_STYLES = ("-", "--", ":", "-.")  # when there are more cells than colours
LABEL_STEP = 1.25  # between two labels, in heights of their type
NARROW_LABEL_CHARS = 20

RANKING_COLUMNS = (
    Column(key="first_rank", title="#", align="right"),
    Column(key="cell", title="model"),
    Column(key="first_ms", title="first minute ms [95 %]", ci="first_ci_ms", align="right"),
    Column(key="last_rank", title="# last", align="right"),
    Column(key="last_ms", title="last minute ms [95 %]", ci="last_ci_ms", align="right"),
    Column(key="change", title="last / first [95 %]", ci="change_ci", digits=3, align="right"),
    Column(key="overtaken_by", title="overtaken by"),
)


def show(sustained: Sustained, *, width: int | None = None, colour: bool = False) -> str:
    """Return both tables and what is to be said of them as text for a terminal."""
    columns, rows = series_table(sustained)
    text = render(columns, rows, "table", notes=_series_notes(sustained), width=width, colour=colour)
    if max(minute.minute for minute in sustained.minutes) < 2:
        return text
    ranking = render(
        RANKING_COLUMNS, ranking_rows(sustained), "table", notes=lines(sustained), width=width, colour=colour
    )
    return f"{text}\n{ranking}"


def series_table(sustained: Sustained) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """Return columns and rows, one a cell: p50 in the first minute, then each shown minute's over it, in percent."""
    chosen = _chosen(max(minute.minute for minute in sustained.minutes))
    columns = (
        Column(key="cell", title="model"),
        Column(key="first_ms", title="minute 1, ms", align="right"),
        *(Column(key=f"minute_{number}", title=f"{number}, %", align="right") for number in chosen),
    )
    rows: list[dict[str, Any]] = []
    for cell in sustained.cells:
        minutes = {minute.minute: minute for minute in sustained.of(cell)}
        row: dict[str, Any] = {"cell": cell, "first_ms": minutes[1].p50_ms if 1 in minutes else None}
        for number in chosen:
            row[f"minute_{number}"] = f"{100 * (minutes[number].to_first - 1):+.1f}" if number in minutes else "-"
        rows.append(row)
    return columns, tuple(rows)


def ranking_rows(sustained: Sustained) -> tuple[Row, ...]:
    """Return RANKING_COLUMNS' rows, the fastest of the first minute first: rank and p50 then and in the last minute.

    ``overtaken_by`` names who was slower at first and is not any more, with a question mark where that is within noise.
    """
    last = max(minute.minute for minute in sustained.minutes)
    ranks = {number: _ranks([m for m in sustained.minutes if m.minute == number]) for number in (1, last)}
    rows: list[Row] = []
    for cell in sorted(sustained.cells, key=lambda cell: ranks[1].get(cell, len(sustained.cells))):
        minutes = {minute.minute: minute for minute in sustained.of(cell)}
        first, end = minutes.get(1), minutes.get(last)
        rows.append(
            {
                "cell": cell,
                "first_rank": ranks[1].get(cell),
                "first_ms": first.p50_ms if first else None,
                "first_ci_ms": first.p50_ci_ms if first else None,
                "last_rank": ranks[last].get(cell),
                "last_ms": end.p50_ms if end else None,
                "last_ci_ms": end.p50_ci_ms if end else None,
                "change": end.to_first if end else None,
                "change_ci": end.to_first_ci if end else None,
                "overtaken_by": " ".join(
                    swap.other if swap.is_certain else f"{swap.other}?"
                    for swap in sustained.swaps
                    if swap.overtaken == cell
                ),
            }
        )
    return tuple(rows)


def sustained_plot(sustained: Sustained, path: Path, *, title: str = "", width_in: float = PAGE_IN) -> None:
    """Draw latency over that of the first minute against time and write it to ``path``: svg, png or pdf by its suffix.

    Raises BadInputError for another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in PLOT_SUFFIXES:
        raise BadInputError(
            f"plot {path}", f"cannot write {suffix or 'a file without suffix'}", "name it .svg, .png or .pdf"
        )
    figure = sustained_figure(sustained, title=title, width_in=width_in)
    with plot_style(width_in), replacing(path) as temporary:
        figure.savefig(temporary, format=suffix[1:], dpi=DPI, metadata=metadata(suffix, title))


def sustained_figure(sustained: Sustained, *, title: str = "", width_in: float = PAGE_IN) -> Figure:
    """Return the figure that `sustained_plot` writes: a line a cell of slices of 10 s, its minutes as dots.

    The names beside the lines are the axes' texts with gid ``label``.
    """
    with plot_style(width_in):
        return _draw(sustained, title, width_in)


def _draw(sustained: Sustained, title: str, width_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    base = font_size(width_in)
    figure = Figure(
        figsize=(width_in, (ASPECT if width_in >= SMALL_IN else NARROW_ASPECT) * width_in),
        dpi=DPI,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xlabel("time under load (minutes)")
    axes.set_ylabel("latency to first minute")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.0f} %" if value else "0"))
    if title:
        axes.set_title(title, loc="left", fontsize=base + 1)
    ends: dict[str, tuple[float, float]] = {}
    labels: dict[str, Text] = {}
    minutes = max(0.1, round(sustained.seconds / 60, 1))  # the last round ends a moment before the asked time
    longest = MAX_LABEL_CHARS if width_in >= SMALL_IN else NARROW_LABEL_CHARS
    for index, cell in enumerate(sustained.cells):
        colour = COLOURS[index % len(COLOURS)]
        ends[cell] = _draw_cell(axes, sustained, cell, colour, LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)])
        name = cell if len(cell) <= longest else cell[: longest - 1] + "…"
        labels[cell] = axes.text(
            1.04 * minutes, ends[cell][1], name, va="center", fontsize=base - 1, color=readable(colour), gid="label"
        )
    axes.set_xlim(0, minutes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=minutes > 4))
    axes.margins(y=0.08)
    if sustained.slowdown:
        _mark(axes, sustained.slowdown, minutes, base)
    figure.draw_without_rendering()  # labels are kept apart in pixels, so the layout has to have settled
    figure.set_layout_engine("none")
    _part(axes, ends, labels, minutes, base)
    return figure


def _draw_cell(axes: Axes, sustained: Sustained, cell: str, colour: str, style: str) -> tuple[float, float]:
    """Draw one cell's slices as a line and its minutes as dots; return where the line ends."""
    minutes = sustained.of(cell)
    slices = [one for one in sustained.slices if one.cell == cell]
    x = [(one.t_s + SLICE_S / 2) / 60 for one in slices]
    y = [100 * (one.p50_ms / minutes[0].p50_ms - 1) for one in slices]
    axes.plot(x, y, color=colour, linewidth=1.0, linestyle=style)
    middles = [(minute.minute - 1 + min(minute.minute, sustained.seconds / 60)) / 2 for minute in minutes]
    axes.plot(middles, [100 * (minute.to_first - 1) for minute in minutes], "o", color=colour, markersize=3)
    return x[-1], y[-1]


def _mark(axes: Axes, slowdown: Slowdown, minutes: float, base: float) -> None:
    """Draw where the lasting slowdown began; its words stand at the foot, where no line is from then on."""
    at = slowdown.t_s / 60
    left = at > 0.7 * minutes
    axes.axvline(at, color=STEP, linewidth=0.8, linestyle="--")
    axes.text(
        at + (-0.01 if left else 0.01) * minutes,
        0.02,
        f"{'throttles' if slowdown.cause == 'throttling' else 'slower'} from {clock(slowdown.t_s)}",
        transform=axes.get_xaxis_transform(),
        ha="right" if left else "left",
        va="bottom",
        fontsize=base - 1,
        color=INK,
    )


def _part(
    axes: Axes, ends: Mapping[str, tuple[float, float]], labels: Mapping[str, Text], minutes: float, base: float
) -> None:
    """Move the names beside the lines apart, and lead a thin line to each."""
    low, high = axes.get_ylim()
    step = LABEL_STEP * base / 72 * DPI * (high - low) / axes.get_window_extent().height
    order = sorted(ends, key=lambda cell: ends[cell][1])
    places: list[float] = []
    for cell in order:
        places.append(max(ends[cell][1], places[-1] + step) if places else ends[cell][1])
    # Pushing up from the lowest alone would shift a crowd upwards: back to its middle, and below the top.
    middle = sum(place - ends[cell][1] for cell, place in zip(order, places, strict=True)) / len(order)
    back = middle + max(0.0, places[-1] - middle + step / 2 - high)
    for cell, place in zip(order, places, strict=True):
        labels[cell].set_y(place - back)
        axes.plot(
            [ends[cell][0], 1.03 * minutes], [ends[cell][1], place - back],
            color=labels[cell].get_color(), linewidth=0.4, clip_on=False, scalex=False, scaley=False,
        )  # fmt: skip


def _chosen(last: int) -> list[int]:
    """Return the minutes after the first that the terminal shows: all of a short load, else some and the last."""
    if last - 1 <= SHOWN_MINUTES:
        return list(range(2, last + 1))
    return sorted({round(1 + step * (last - 1) / SHOWN_MINUTES) for step in range(1, SHOWN_MINUTES + 1)})


def _series_notes(sustained: Sustained) -> list[str]:
    last = max(minute.minute for minute in sustained.minutes)
    notes = ["p50 of each minute over that of the first; one start of each model"]
    if last - 1 > SHOWN_MINUTES:
        notes.append(f"of {last} minutes {1 + SHOWN_MINUTES} are shown (--json has all)")
    gone = [cell for cell in sustained.cells if sustained.of(cell)[-1].minute < last]
    notes += [f"{cell} ended early" for cell in gone]
    return notes


def _ranks(minutes: Sequence[Minute]) -> dict[str, int]:
    ordered = sorted(minutes, key=lambda minute: minute.p50_ms)
    return {minute.cell: rank for rank, minute in enumerate(ordered, 1)}
