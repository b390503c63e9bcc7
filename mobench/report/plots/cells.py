"""Plots with a row a cell: ratios as a forest, and how a campaign's blocks spread about each p50."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobench.errors import BadInputError
from mobench.gpu_cells import words
from mobench.records import Run
from mobench.report.plots import canvas
from mobench.report.style import (
    FAINT,
    INK,
    PAGE_IN,
    RUNTIME_NAMES,
    SMALL_IN,
    STEP,
    font_size,
    network_colours,
    plot_style,
    shown,
)
from mobench.report.tables import interval
from mobench.stats import Interval, Summary, block_ns, summarize
from mobench.verdicts.comparability import HeaderCell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 1.7  # height of a row, in heights of the type
LOG_FROM = 2.5  # largest over smallest ratio from which its axis is logarithmic
LEAST_SPREAD = 2.0  # percent that the axis of a spread reaches at least
MOST_SPREAD = (-50.0, 100.0)  # percent: what lies farther off is counted in the caption
TAIL = 0.015  # of the blocks on each side, which may lie beyond that axis
MOST_TICKS = 5  # of a logarithmic axis as narrow as these
STEPS = 240  # places at which a density is computed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A row of a forest. ``network`` gives it its colour; one that is not ``decided`` is drawn hollow."""

    label: str
    network: str
    ratio: float
    ratio_ci: Interval | None
    decided: bool


def cell_names(cells: Sequence[HeaderCell]) -> list[str]:
    """Return what to call cells: network and precision, and what else tells them apart; two that are alike by id."""
    seen: dict[str, set[object]] = defaultdict(set)
    for cell in cells:
        for key, value in cell["target"].items():
            seen[key].add(tuple(value) if isinstance(value, list) else value)
    names = []
    for cell in cells:
        artifact, target = cell["artifact"], cell["target"]
        network = artifact["network"] or {}
        parts = [shown(network["label"], network["name"]) if "label" in network else artifact["name"]]
        parts += [artifact["precision"] or ""]
        others = (
            ("runtime", RUNTIME_NAMES.get(target["runtime"], target["runtime"])),
            ("device", target["device"]),
            ("provider", target["provider"]),
            ("threads", f"{target['threads']} thread{'s' if target['threads'] != 1 else ''}"),
            ("batch", f"batch {target['batch']}"),
        )
        parts += [said for key, said in others if len(seen[key]) > 1]
        parts.append(words(target))
        names.append(" ".join(part for part in parts if part))
    alike: dict[str, set[str]] = defaultdict(set)
    for name, cell in zip(names, cells, strict=True):
        alike[name].add(cell["id"])
    return [name if len(alike[name]) == 1 else cell["id"] for name, cell in zip(names, cells, strict=True)]


def colour_key(cell: HeaderCell) -> str:
    """Return the network that a cell takes its colour from; its file's name where it has none."""
    artifact = cell["artifact"]
    return str((artifact["network"] or {}).get("name") or artifact["name"])


def ratios_figure(
    rows: Sequence[Ratio], *, axis: str, no_difference: float = 0.0, caption: str = "", width_in: float = PAGE_IN
) -> Figure:
    """Return ratios with their intervals, a row each, the first on top.

    Args:
        rows: what is drawn.
        axis: what the ratio is of, for the axis.
        no_difference: shaded about 1: a change up to this share counts as none.
        caption: under the plot.
        width_in: the width it will be printed at.

    Raises:
        BadInputError: there is no row.
    """
    if not rows:
        raise BadInputError("plot", "no ratio is known", "see the table")
    with plot_style(width_in):
        figure = _rows_figure(len(rows), width_in)
        axes = figure.add_subplot()
        _name_rows(axes, [row.label for row in rows], font_size(width_in))
        _draw_ratios(axes, rows, axis, no_difference, width_in)
        return _finished(figure, caption, width_in)


def campaign_figure(run: Run, cells: Collection[str], *, caption: str = "", width_in: float = PAGE_IN) -> Figure:
    """Return how the blocks of a campaign's cells spread about their p50 and, beside it, their ratios to the baseline.

    ``cells`` are ids; those that were never timed are left out. Raises BadInputError where none is left.
    """
    summaries = [summary for summary in summarize(run) if summary.cell in cells and summary.p50_ms is not None]
    if not summaries:
        raise BadInputError(f"plot of {run.path}", "no cell of it was timed", "`mobench results` lists campaigns")
    described = {cell["id"]: cell for cell in run.header["cells"]}
    names = cell_names([described[summary.cell] for summary in summaries])
    networks = [colour_key(described[summary.cell]) for summary in summaries]
    ratios = [
        Ratio(label=name, network=network, ratio=summary.ratio, ratio_ci=summary.ratio_ci,
              decided=summary.cell == run.header["baseline"] or _leaves_out_1(summary.ratio_ci))
        for summary, name, network in zip(summaries, names, networks, strict=True)
        if summary.ratio is not None
    ]  # fmt: skip
    with plot_style(width_in):
        figure = _rows_figure(len(summaries), width_in)
        both = len(ratios) == len(summaries) > 1
        panels = figure.subplots(1, 2 if both else 1, squeeze=False)[0]
        _name_rows(panels[0], names, font_size(width_in))
        beyond, count = _draw_spreads(panels[0], run, summaries, networks, width_in)
        if both:
            _name_rows(panels[1], [""] * len(names), font_size(width_in))
            _draw_ratios(panels[1], ratios, "ratio to baseline", 0.0, width_in)
        said = "Shapes: blocks about their cell's p50; dots: medians of its starts; bars: 95\u00a0% intervals."
        if beyond:
            said += f" {beyond} of {count} blocks lie beyond the axis."
        return _finished(figure, f"{said} {caption}".strip(), width_in)


def _leaves_out_1(ci: Interval | None) -> bool:
    return ci is not None and (ci[1] < 1 or ci[0] > 1)


def _rows_figure(rows: int, width_in: float) -> Figure:
    base = font_size(width_in)
    return canvas.new_figure(width_in, ((rows + 0.6) * ROW + 4.5) * base / 72)


def _finished(figure: Figure, caption: str, width_in: float) -> Figure:
    """Add the caption and the room for it, and let the layout settle."""
    base = font_size(width_in)
    if caption:
        figure.set_figheight(figure.get_figheight() + canvas.caption(figure, caption, base - 1))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _name_rows(axes: Axes, names: Sequence[str], base: float) -> None:
    """Give each row its name, the first on top, and a faint line."""
    canvas.plain_axes(axes)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, fontsize=base - 1, parse_math=False)
    axes.tick_params(axis="y", length=0)


def _write_figures(axes: Axes, texts: Sequence[str], title: str, base: float) -> None:
    """Write a figure behind each row."""
    side = axes.secondary_yaxis("right")
    side.set_yticks(range(len(texts)), texts, fontsize=base - 2)
    side.tick_params(axis="y", length=0)
    side.spines["right"].set_visible(False)
    axes.annotate(title, (1, 1), (4, 2), xycoords="axes fraction", textcoords="offset points", fontsize=base - 2,
                  color=STEP, ha="left", va="bottom")  # fmt: skip


def _draw_ratios(axes: Axes, rows: Sequence[Ratio], title: str, no_difference: float, width_in: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    base = font_size(width_in)
    size = 0.55 * base
    colours = network_colours(row.network for row in rows)
    ends = [1.0, *(end for row in rows for end in (row.ratio, *(_known(row.ratio_ci) or ())))]
    low, high = min(ends), max(ends)
    if high / low >= LOG_FROM:
        pad = (high / low) ** 0.06
        axes.set_xscale("log")
        axes.set_xlim(low / pad, high * pad)
        axes.xaxis.set_major_locator(FixedLocator(canvas.log_ticks(low / pad, high * pad, MOST_TICKS)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        pad = 0.08 * ((high - low) or 0.1)
        axes.set_xlim(low - pad, high + pad)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(title)
    axes.axvline(1.0, color=FAINT, linewidth=0.11 * base, zorder=1.2, gid="one")
    if no_difference:
        axes.axvspan(1 / (1 + no_difference), 1 + no_difference, color=STEP, alpha=0.12, linewidth=0, zorder=1)
    for y, row in enumerate(rows):
        colour = colours[row.network]
        axes.errorbar(
            row.ratio, y, xerr=canvas.reach(row.ratio, _known(row.ratio_ci)), fmt="none", ecolor=colour, zorder=2,
            elinewidth=0.2 * size, capsize=0.35 * size, capthick=0.2 * size,
        )  # fmt: skip
        axes.plot(
            row.ratio, y, "s", markersize=size, markerfacecolor=colour if row.decided else "white",
            markeredgecolor=colour, markeredgewidth=0.17 * size, zorder=3, gid="point",
        )  # fmt: skip
    if width_in >= SMALL_IN:
        _write_figures(axes, [interval(row.ratio, _known(row.ratio_ci)) for row in rows], "ratio [95 %]", base)


def _known(ci: Interval | None) -> Interval | None:
    """Return an interval unless it reaches what no axis holds."""
    return ci if ci is not None and ci[0] > 0 and np.isfinite(ci[1]) else None


def _draw_spreads(
    axes: Axes, run: Run, summaries: Sequence[Summary], networks: Sequence[str], width_in: float
) -> tuple[int, int]:
    """Draw each cell's blocks about its p50, in percent; return how many lie beyond the axis, and of how many."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    base = font_size(width_in)
    blocks: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    p50_ns = {summary.cell: 1e6 * (summary.p50_ms or 0.0) for summary in summaries}
    for block in run.blocks:
        if block.phase == "steady" and block.cell in p50_ns:
            blocks[block.cell][block.incarnation].append(100 * (block_ns(block) / p50_ns[block.cell] - 1))
    every = np.array([value for starts in blocks.values() for values in starts.values() for value in values])
    low = max(MOST_SPREAD[0], min(-LEAST_SPREAD, float(np.quantile(every, TAIL))))
    high = min(MOST_SPREAD[1], max(LEAST_SPREAD, float(np.quantile(every, 1 - TAIL))))
    places = np.linspace(low, high, STEPS)
    colours = network_colours(networks)
    for y, (summary, network) in enumerate(zip(summaries, networks, strict=True)):
        starts, colour = blocks[summary.cell], colours[network]
        shape = 0.4 * _density(np.array([value for values in starts.values() for value in values]), places)
        axes.fill_between(places, y - shape, y + shape, color=colour, alpha=0.45, linewidth=0, zorder=2, gid="spread")
        ci = _known(summary.p50_ci_ms)
        if ci is not None and summary.p50_ms:
            ends = [100 * (end / summary.p50_ms - 1) for end in ci]
            axes.errorbar(
                0.0, y, xerr=[[max(-ends[0], 0.0)], [max(ends[1], 0.0)]], fmt="none", ecolor=INK, zorder=3,
                elinewidth=0.11 * base, capsize=0.22 * base, capthick=0.11 * base,
            )  # fmt: skip
        axes.plot(
            [median(values) for values in starts.values()], [y] * len(starts), "o", color=INK, alpha=0.6,
            markersize=0.22 * base, markeredgewidth=0, zorder=3, gid="start",
        )  # fmt: skip
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.set_xlabel("blocks about p50 (%)")
    if width_in >= SMALL_IN:
        _write_figures(axes, [interval(s.p50_ms, _known(s.p50_ci_ms)) for s in summaries], "p50 ms [95 %]", base)
    return int(((every < low) | (every > high)).sum()), len(every)


def _density(values: npt.NDArray[np.float64], places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a Gaussian kernel's density with Silverman's width, its highest 1; the width is a pixel's at least."""
    spread = min(float(values.std()), float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.34 or np.inf)
    width = max(0.9 * spread * len(values) ** -0.2, float(places[1] - places[0]))
    found: npt.NDArray[np.float64] = np.exp(-0.5 * ((places[:, None] - values[None, :]) / width) ** 2).sum(axis=1)
    return found / max(float(found.max()), 1e-12)
