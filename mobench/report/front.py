"""The Pareto table, its notes and the plot's caption, from points; on the terminal or in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobench.errors import BadInputError
from mobench.files import write_text
from mobench.front_probability import FrontFigures, Outlook, outlook
from mobench.pareto import Contest, Point, Standing, front
from mobench.report.style import PAGE_IN, PLOT_SUFFIXES
from mobench.report.tables import Column, Row, TableFormat, interval, render
from mobench.stats import MENDS

TABLE_SUFFIXES: Mapping[str, TableFormat] = {
    ".md": "md",
    ".tex": "latex",
    ".csv": "csv",
    ".json": "json",
    ".txt": "table",
}

_COLUMNS = (
    Column(key="number", title="#", align="right", display_only=True),
    Column(key="network", title="network"),
    Column(key="precision", title="prec."),
    Column(key="runtime", title="runtime"),
    Column(key="threads", title="threads", align="right"),
    Column(key="p50_ms", title="p50 ms [95 %]", ci="p50_ci_ms", align="right"),
    Column(key="top1", title="top-1 %", ci="top1_ci", digits=1, align="right"),
    Column(key="accuracy_words", title="accuracy", display_only=True),
    Column(key="chance_words", title="P(front)", align="right", display_only=True),
    Column(key="standing", title="dominated by", display_only=True),
    Column(key="accuracy_kind"),
    Column(key="accuracy_source"),
    Column(key="random_weights"),
    Column(key="on_front"),
    Column(key="p_front"),
    Column(key="knee"),
    Column(key="hypervolume", ci="hypervolume_ci"),
    Column(key="reference_ms"),
    Column(key="reference_top1"),
    Column(key="dominated_by"),
    Column(key="within_noise"),
    Column(key="doubts", title="doubts"),
    Column(key="file"),
    Column(key="sha256"),
    Column(key="machine", title="machine"),
    Column(key="campaign"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns, rows and notes, ready for `mobench.report.tables.render`."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def pareto_table(points: Sequence[Point], *, reference: tuple[float, float] | None = None) -> Table:
    """Return the points, fastest first within those that can be compared, each with its standing and probability.

    ``reference`` (ms, top-1 in percent) is the hypervolume's; see `mobench.front_probability.outlook`.
    """
    found = outlook(points, reference=reference)
    placed = sorted(zip(front(points), found.on_front, strict=True), key=lambda pair: _order(pair[0]))
    standings = [standing for standing, _ in placed]
    numbers = {standing.point: number for number, standing in enumerate(standings, 1)}
    rows = tuple(
        _row(number, standing, numbers) | _likely(standing.point, chance, found.fronts)
        for number, (standing, chance) in enumerate(placed, 1)
    )
    # A column that would say the same in every line says nothing to people; CSV and JSON keep it.
    silent = {
        key
        for key, dull in (
            ("threads", len({point.threads for point in points}) < 2),
            ("machine", len({point.machine for point in points}) < 2),
            ("doubts", not any(point.doubts for point in points)),
            ("chance_words", all(chance is None for chance in found.on_front)),
        )
        if dull
    }
    columns = tuple(Column(key=column.key, ci=column.ci) if column.key in silent else column for column in _COLUMNS)
    return Table(columns=columns, rows=rows, notes=_notes(standings, found))


def show(
    points: Sequence[Point],
    fmt: TableFormat,
    *,
    width: int | None = None,
    colour: bool = False,
    reference: tuple[float, float] | None = None,
) -> str:
    """Return the Pareto table of the points as text in one of TABLE_FORMATS; ``reference`` as in `pareto_table`."""
    table = pareto_table(points, reference=reference)
    return render(table.columns, table.rows, fmt, notes=table.notes, width=width, colour=colour)


def check_path(path: Path) -> None:
    """Raise BadInputError unless `write` knows the file's suffix."""
    if path.suffix.lower() not in (*PLOT_SUFFIXES, *TABLE_SUFFIXES):
        kinds = " ".join((*PLOT_SUFFIXES, *TABLE_SUFFIXES))
        raise BadInputError(f"cannot write {path}", "its suffix names no known format", f"use one of {kinds}")


def write(points: Sequence[Point], path: Path, *, title: str = "", width_in: float = PAGE_IN) -> None:
    """Write the plot or the table of the points, by the suffix: svg, png, pdf; md, tex, csv, json, txt.

    The file appears whole or not at all. Raises BadInputError for another suffix, and for a plot without any accuracy.
    """
    check_path(path)
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        write_text(path, show(points, TABLE_SUFFIXES[suffix]))
        return
    from mobench.report.plots.pareto import pareto_plot

    pareto_plot(points, path, title=title, caption=caption(points), width_in=width_in)


def caption(points: Sequence[Point]) -> str:
    """Return what a reader of the plot must know: whose accuracies, which machine, which campaign."""
    drawn = [point for point in points if point.accuracy is not None]
    sentences = []
    measured = _distinct(point.accuracy_source for point in drawn if point.accuracy_kind == "measured")
    if measured:
        sentences.append(f"Top-1 measured on {'; '.join(measured)}.")
    published = [point for point in drawn if point.accuracy_kind == "published"]
    if published:
        others = _distinct(point.precision or "other" for point in published if point.precision != "fp32")
        borrowed = f"; {' and '.join(others)} drawn at its network's FP32 figure" if others else ""
        untrained = "; timed with random weights" if any(point.random_weights for point in published) else ""
        sentences.append(f"Top-1 as published for ImageNet{borrowed}{untrained}.")
    threads = sorted({point.threads for point in drawn})
    sentences.append(f"Bars: 95\u00a0% intervals. {_counted(threads)}.")
    machines = _distinct(point.machine for point in drawn)
    campaigns = _distinct(point.campaign for point in drawn)
    where = "; ".join([*machines, f"campaign{'s' if len(campaigns) > 1 else ''} {', '.join(campaigns)}"])
    sentences.append(f"{where}.")
    return " ".join(sentences)


def _counted(threads: Sequence[int]) -> str:
    return f"{', '.join(map(str, threads))} thread{'s' if list(threads) != [1] else ''}"


def _distinct(texts: Iterable[str]) -> list[str]:
    return sorted({text for text in texts if text})


def _order(standing: Standing) -> tuple[Any, ...]:
    point = standing.point
    # Points without accuracy come last: they take no part.
    return (point.accuracy is None, *point.contest, point.latency_ms, point.full_label, repr(point))


def _row(number: int, standing: Standing, numbers: Mapping[Point, int]) -> dict[str, Any]:
    point, better = standing.point, standing.dominated_by
    if better is not None:
        words = f"#{numbers[better]}{', within noise' if standing.noise else ''}"
    else:
        words = "front" if standing.on_front else "-"
    kind = point.accuracy_kind
    borrowed = kind == "published" and point.precision != "fp32"
    return {
        "number": number,
        "network": point.label,
        "precision": point.precision,
        "runtime": point.runtime,
        "threads": point.threads,
        "p50_ms": point.latency_ms,
        "p50_ci_ms": point.latency_ci_ms,
        "top1": point.accuracy,
        "top1_ci": point.accuracy_ci,
        "accuracy_words": "published for FP32" if borrowed else kind or "none",
        "accuracy_kind": kind,
        "accuracy_source": point.accuracy_source or None,
        "random_weights": point.random_weights,
        "standing": words,
        "on_front": standing.on_front,
        "dominated_by": better.full_label if better else None,
        "within_noise": standing.noise,
        "doubts": point.doubts,
        "file": point.file,
        "sha256": point.artifact,
        "machine": point.machine,
        "campaign": point.campaign,
        "style": "bold" if standing.on_front else None,
    }


def chance_words(chance: float | None) -> str:
    """Return a probability as a share of draws can be trusted.

    >>> [chance_words(p) for p in (None, 0.0, 0.004, 0.5, 0.996, 1.0)]
    ['-', '<0.01', '<0.01', '0.50', '>0.99', '>0.99']
    """
    if chance is None:
        return "-"
    if chance < 0.01 or chance > 0.99:
        return "<0.01" if chance < 0.5 else ">0.99"
    return f"{chance:.2f}"


def _likely(point: Point, chance: float | None, fronts: Mapping[Contest, FrontFigures]) -> dict[str, Any]:
    figures = fronts.get(point.contest) if point.competes else None
    return {
        "chance_words": chance_words(chance),
        "p_front": chance,
        "knee": figures.knee == point if figures else None,
        "hypervolume": figures.hypervolume if figures else None,
        "hypervolume_ci": figures.hypervolume_ci if figures else None,
        "reference_ms": figures.reference[0] if figures else None,
        "reference_top1": figures.reference[1] if figures else None,
    }


def _figures_notes(found: Outlook, standings: Sequence[Standing]) -> list[str]:
    """Say of each front its knee and its hypervolume, and what P(front) rests on."""
    notes = []
    for contest, figures in sorted(found.fronts.items()):
        said = []
        if figures.knee is not None and figures.knee_probability is not None:
            said.append(f"knee {figures.knee.full_label} (in {figures.knee_probability:.0%} of draws)")
        if figures.hypervolume is not None:
            slowest, least = figures.reference
            area = interval(figures.hypervolume, figures.hypervolume_ci)
            said.append(f"hypervolume {area} ms x points, up to {slowest:.3g} ms and above {least:.3g} %")
        if said:
            which = f"front of {contest[0]}, {contest[1]}: " if len(found.fronts) > 1 else ""
            notes.append(which + "; ".join(said))
    if any(chance is not None for chance in found.on_front):
        notes.append(
            "P(front): the share of draws of latency and accuracy in which it is on the front; cells of one campaign"
            " share their starts, and files evaluated on the same images a part of their luck"
        )
    if any(s.point.competes and chance is None for s, chance in zip(standings, found.on_front, strict=True)):
        notes.append("without an interval of latency a model has no P(front), and stands in the others' at its figure")
    return notes


def _notes(standings: Sequence[Standing], found: Outlook) -> tuple[str, ...]:
    """Say where the figures come from and what they cannot be compared with."""
    points = [standing.point for standing in standings]
    notes = _figures_notes(found, standings)
    for kind in ("measured", "published"):
        sources = _distinct(
            # one line a network, not one a precision
            f"{point.label} {point.accuracy_source.removesuffix(', for FP32')}" if kind == "published"
            else point.accuracy_source
            for point in points if point.accuracy_kind == kind
        )  # fmt: skip
        if sources:
            notes.append(f"top-1 {kind}: {'; '.join(sources)}")
    if any(point.accuracy_kind == "published" and point.precision != "fp32" for point in points):
        notes.append(
            "published figures are FP32's: what quantization costs is not in them; measure it with `mobench eval`"
        )
    if any(point.accuracy_kind == "published" and point.random_weights for point in points):
        notes.append("random weights: latency is real, the published accuracy is that of the trained network")
    contests = {point.contest for point in points if point.accuracy is not None}
    if len(contests) > 1:
        notes.append(
            f"{len(contests)} fronts: accuracies measured on different images, published ones, and latencies of"
            " different machines or batches are not compared with each other"
        )
    if len({point.accuracy_set for point in points if point.accuracy_kind == "measured"}) > 1:
        notes.append("to judge models on the same images, name them all in one `mobench eval`")
    if any(point.accuracy is None for point in points):
        notes.append("a model without accuracy takes no part in the front: measure it with `mobench eval`")
    if any(standing.noise for standing in standings):
        notes.append(
            "within noise: the intervals of latency or of accuracy overlap, so more measuring could turn it round"
        )
    notes += [f"{name}: {MENDS[name]}" for name in _distinct(d for p in points for d in p.doubts) if name in MENDS]
    machines, campaigns = _distinct(p.machine for p in points), _distinct(p.campaign for p in points)
    origin = [*machines, _counted(sorted({p.threads for p in points})), ", ".join(campaigns)]
    notes.append("; ".join(part for part in origin if part))
    return tuple(notes)
