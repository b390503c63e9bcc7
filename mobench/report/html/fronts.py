"""The fronts: every timed cell with its standing, a chart a front, and what takes no part, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobench.claims.places import Kind, Place
from mobench.front_probability import FrontFigures, contests, outlook
from mobench.pareto import Contest, Point, Standing, TimedCell, front, points_of
from mobench.records import Accuracy
from mobench.report.front import chance_words
from mobench.report.html import others
from mobench.report.html.evidence import EVIDENCE
from mobench.report.html.markup import badge, chooser, e, folded, items, some
from mobench.report.html.others import Theirs
from mobench.report.style import RUNTIME_NAMES, network_colours, shown
from mobench.report.tables import interval
from mobench.stats import NO_SPEED, WRONG_OUTPUT, Summary

COLUMNS = (
    *("network", "family", "precision", "runtime", "provider", "threads", "batch", "device", "evidence"),
    *("ms", "low", "high", "spread", "top1", "top1_low", "top1_high", "kind", "source"),
    *("front", "p", "standing", "doubts", "campaign", "sha", "colour"),
)
OPEN_CHARTS = 6  # fronts that stand open, ours first; the charts of more are folded
OURS = "95 % interval"
UNTOLD = "not recorded"  # of others' figures: the runtime's threads, or the runtime itself
KINDS: tuple[Kind, ...] = ("ours", "others", "printed")
NAMED = 8  # networks of a front that are named in words
OTHER_FAMILY = "other models"
BORROWED = "an INT8 or FP16 file with a published accuracy stands at FP32's: what its precision costs is not in it"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontOf:
    """One contest: the points that can be compared, by their places among all, with what is said of their front."""

    contest: Contest
    kind: Kind
    places: tuple[int, ...]
    figures: FrontFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Fronts:
    """Every point with its standing and probability, the fronts, and what takes no part and why.

    Ours come first among ``points``, then others' figures, ``theirs``; ``families`` and ``providers`` (with what else
    tells a GPU's cells apart) are each point's. The fronts are ours first, the largest first within a kind.
    """

    points: tuple[Point, ...]
    theirs: tuple[Theirs, ...]
    families: tuple[str, ...]
    providers: tuple[str, ...]
    standings: tuple[Standing, ...]
    chances: tuple[float | None, ...]
    fronts: tuple[FrontOf, ...]
    apart: Mapping[str, tuple[str, ...]]

    @property
    def ours(self) -> tuple[Point, ...]:
        """The points that were measured here."""
        return self.points[: len(self.points) - len(self.theirs)]

    def kind(self, place: int) -> Kind:
        """Return whose figure the latency of a point is."""
        return "ours" if place < len(self.ours) else self.theirs[place - len(self.ours)].kind


def gather(cells: Sequence[TimedCell], accuracies: Sequence[Accuracy], places: Sequence[Place] = ()) -> Fronts:
    """Return the fronts of the newest timing of every cell, and of the public tables among the places."""
    timed = [cell for cell in cells if cell.summary.p50_ms is not None]
    theirs = others.gather(places)
    points = (*points_of(timed, accuracies), *(one.point for one in theirs))
    found = outlook(points)
    fronts = [
        FrontOf(
            contest=contest,
            kind="ours" if own[0] < len(timed) else theirs[own[0] - len(timed)].kind,
            places=tuple(own),
            figures=found.fronts[contest],
        )
        for contest, own in contests(points).items()
    ]
    fronts.sort(key=lambda one: (KINDS.index(one.kind), -len(one.places), one.contest))
    return Fronts(
        points=points,
        theirs=theirs,
        families=(*map(_family, timed), *(one.family for one in theirs)),
        providers=(*(_provider(cell.summary) for cell in timed), *("" for _ in theirs)),
        standings=front(points),
        chances=found.on_front,
        fronts=tuple(fronts),
        apart=_apart(points[: len(timed)], cells),
    )


def _family(cell: TimedCell) -> str:
    family = (cell.summary.network or {}).get("family")
    return str(family) if family and family != "own" else OTHER_FAMILY


def _provider(summary: Summary) -> str:
    """Return the provider, and of a desktop's GPU where its inputs lie and what else it was told."""
    told = [f"inputs on the {summary.io}"] if summary.io else []
    told += [word for word, holds in (("CUDA graph", summary.cuda_graph), ("TF32", summary.tf32)) if holds]
    return ", ".join(part for part in (summary.provider, *told) if part)


def _apart(points: Sequence[Point], cells: Sequence[TimedCell]) -> dict[str, tuple[str, ...]]:
    """Return, by reason, the cells that are on no front."""
    reasons: dict[str, list[str]] = {}
    for point in points:
        for reason, holds in (
            ("outputs were wrong where it was timed", WRONG_OUTPUT in point.doubts),
            ("its GPU is a program: what it computes is true, its latency is no GPU's", NO_SPEED in point.doubts),
            ("no accuracy: measure it with `mobench eval`", point.accuracy is None),
        ):
            if holds:
                reasons.setdefault(reason, []).append(f"{point.full_label} on {point.machine}")
                break
    for cell in cells:
        if cell.summary.p50_ms is None:
            why = cell.summary.failure or "the campaign ended before its first block"
            reasons.setdefault("it has no timing", []).append(f"{cell.summary.cell} on {cell.machine}: {why}")
    return {reason: tuple(names) for reason, names in reasons.items()}


def data(found: Fronts) -> dict[str, Any]:
    """Return the cells as the page's script reads them: columns and rows."""
    of_front = {place: number for number, one in enumerate(found.fronts) for place in one.places}
    colours = network_colours(point.name for point in found.points)
    rows = []
    every = zip(found.points, found.families, found.providers, found.standings, found.chances, strict=True)
    for place, (point, family, provider, standing, chance) in enumerate(every):
        theirs = found.theirs[place - len(found.ours)] if place >= len(found.ours) else None
        low, high = (theirs.spread_ms if theirs else point.latency_ci_ms) or (None, None)
        threads = UNTOLD if theirs else point.threads
        runtime = point.runtime or UNTOLD
        top1_low, top1_high = point.accuracy_ci or (None, None)
        rows.append(
            (
                *(shown(point.label, point.name), family, point.precision or "unknown", runtime, provider),
                *(threads, point.batch, point.machine, found.kind(place), point.latency_ms, low, high),
                theirs.noise if theirs else OURS,
                *(point.accuracy, top1_low, top1_high, point.accuracy_kind, _source(point)),
                *(of_front.get(place, -1), chance, _words(standing), " ".join(point.doubts)),
                *(point.campaign, point.artifact[:12], colours[point.name]),
            )
        )
    # Front by front, its own points first: what a reader asks first stands on the first page of the table.
    keys = [
        (of_front.get(place, len(found.fronts)), not standing.on_front, standing.point.latency_ms)
        for place, standing in enumerate(found.standings)
    ]
    return {"columns": COLUMNS, "rows": [rows[place] for place in sorted(range(len(rows)), key=keys.__getitem__)]}


def _source(point: Point) -> str:
    return f"{point.accuracy_source}; timed with random weights" if _is_untrained(point) else point.accuracy_source


def _is_untrained(point: Point) -> bool:
    return point.random_weights and point.accuracy_kind == "published"


def _words(standing: Standing) -> str:
    if standing.on_front is None:
        return "takes no part"
    if standing.dominated_by is None:
        return "on the front"
    return f"dominated by {named(standing.dominated_by)}{', within noise' if standing.noise else ''}"


def title(contest: Contest) -> str:
    """Return what a front is of: the machine, whose accuracies, and the batch where it is not one image."""
    machine, kind, images, batch = contest
    accuracy = f"top-1 measured on {images}" if kind == "measured" else "top-1 as published"
    return f"{machine}: {accuracy}{f', batch {batch}' if batch != 1 else ''}"


def sentence(found: Fronts, one: FrontOf, most: int = NAMED) -> str:
    """Return what a front says, in plain words, with at most so many of its networks by name."""
    members = [(found.points[i], found.chances[i]) for i in one.places if found.standings[i].on_front]
    members.sort(key=lambda pair: pair[0].latency_ms)
    names = []
    for point, chance in members:
        figures = [f"{interval(point.latency_ms, point.latency_ci_ms)} ms", f"{point.accuracy or 0.0:.1f} %"]
        figures += [f"P(front) {chance_words(chance)}"] if chance is not None else []
        names.append(f"{named(point)} ({', '.join(figures)})")
    said = f"{len(members)} of {len(one.places)} cells are on the front, fastest first: {'; '.join(some(names, most))}."
    knee, share = one.figures.knee, one.figures.knee_probability
    if knee is not None and share is not None:
        said += f" The knee is {e(named(knee))}{f' (in {share:.0%} of draws)' if one.kind == 'ours' else ''}."
    if one.kind == "ours" and one.figures.hypervolume is not None:
        area = interval(one.figures.hypervolume, one.figures.hypervolume_ci)
        slowest, least = one.figures.reference
        said += f" Hypervolume {area} ms x points, up to {slowest:.3g} ms and above {least:.3g} %."
    return said


def named(point: Point) -> str:
    """Return a point's network as the papers write it, with its precision and how it ran."""
    return point.full_label.replace(point.label, shown(point.label, point.name), 1)


def section(found: Fronts) -> str:
    """Return the section: filters, a chart a front, all cells as a table, and what takes no part."""
    charts = [_chart(found, number, one) for number, one in enumerate(found.fronts)]
    more = charts[OPEN_CHARTS:]
    inner = f'<div class="charts">{"".join(more)}</div>'
    folds = folded(f"<span>{len(more)}</span> more fronts", inner, attributes='id="more-fronts"') if more else ""
    empty = not any(one.kind == "ours" for one in found.fronts)
    none = "<p>No cell of ours has an accuracy that counts: there is no front of ours.</p>" if empty else ""
    return (
        f"<p>Accuracy against p50 latency: up and left is better. Latencies are {badge('ours')} with their 95 %"
        f" interval, or those of public tables, {badge('others')} or {badge('printed')};"
        " an accuracy is <em>measured</em> (data, n, interval) on the very file that was timed, or"
        " <em>published</em> (paper and table). Machines, and accuracies of different kinds or images, are never put"
        " into one front. P(front) is the share of draws of latency and accuracy in which a cell is on its front; the"
        " line joins the best of what the filters leave.</p>"
        f"{_filters(found)}{_legend(found.points)}{none}"
        f'<div class="charts">{"".join(charts[:OPEN_CHARTS])}</div>{folds}'
        '<h3>All cells</h3><p id="cells-count" aria-live="polite"></p>'
        '<div class="scroll" role="region" tabindex="0" aria-label="All timed cells"><table id="cells"></table></div>'
        f'<div id="cells-pager" class="pager"></div>{_hints(found.points)}{_left_out(found)}'
    )


def _chart(found: Fronts, number: int, one: FrontOf) -> str:
    said = sentence(found, one)
    zooms = "".join(
        f'<button type="button" data-zoom="{how}">{text}</button>'
        for how, text in (("in", "Zoom in"), ("out", "Zoom out"), ("reset", "Reset"))
    )
    kind = one.contest[1]
    return (
        f'<figure data-chart="front" data-front="{number}"><h3>{e(title(one.contest))}</h3>'
        f'<p class="marks">{badge(one.kind)} <span class="kind {kind}">top-1 {kind}</span></p>'
        f'<div class="plot" role="img" aria-label="{e(title(one.contest))}; the table below has the same cells"></div>'
        f'<div class="tools">{zooms}</div><figcaption>{said}</figcaption></figure>'
    )


def _filters(found: Fronts) -> str:
    points = found.points
    threads = [str(number) for number in sorted({point.threads for point in found.ours})]
    kinds = [(kind, EVIDENCE[kind]) for kind in KINDS if any(one.kind == kind for one in found.fronts)]
    choices: tuple[tuple[str, str, Iterable[str | tuple[str, str]]], ...] = (
        ("evidence", "whose latencies", kinds),
        ("device", "device", sorted({point.machine for point in points})),
        ("precision", "precision", sorted({point.precision or "unknown" for point in points})),
        ("family", "family", sorted(set(found.families))),
        ("runtime", "runtime", sorted({point.runtime or UNTOLD for point in points})),
        ("threads", "threads", [*threads, *([UNTOLD] if found.theirs else [])]),
    )
    inner = "".join(chooser(name, label, values) for name, label, values in choices)
    clear = '<button type="button" data-action="clear">Show all</button>'
    return f'<div class="filters" role="group" aria-label="Filter the cells">{inner}{clear}</div>'


def _legend(points: Sequence[Point]) -> str:
    """Return what colours and marks mean; a family shares its colour, the names beside the points tell them apart."""
    colours = network_colours(point.name for point in points)
    names: dict[str, list[str]] = {}
    for name in sorted({point.name for point in points}):
        names.setdefault(colours[name], []).append(shown(name, name))
    chips = []
    for colour, own in sorted(names.items(), key=lambda pair: pair[1]):
        first, *rest = sorted(own, key=lambda name: (len(name), name))
        more = f" and {len(rest)} more" if rest else ""
        chips.append(f'<i data-colour="{colour}" style="background:{colour}"></i>{e(first)}{more}')
    runtimes = ", ".join(f"{mark} {RUNTIME_NAMES[key]}" for key, mark in (("ort", "●"), ("litert", "■")))
    chips.append(f"{runtimes}, ◆ other; filled FP32, open INT8, with a dot FP16")
    return f'<ul class="legend">{"".join(f"<li>{chip}</li>" for chip in chips)}</ul>'


def _hints(points: Sequence[Point]) -> str:
    hints = []
    if any(point.accuracy_kind == "published" and point.precision != "fp32" for point in points):
        hints.append(BORROWED)
    if any(_is_untrained(point) for point in points):
        hints.append("random weights: the latency is real, the published accuracy is that of the trained network")
    if any(point.latency_ci_ms is None for point in points):
        hints.append("a latency without a 95 % interval has no P(front), and stands in the others' at its figure")
    return f'<div class="hint">{items(hints)}</div>' if hints else ""


def _left_out(found: Fronts) -> str:
    if not found.apart:
        return ""
    counts = Counter({reason: len(names) for reason, names in found.apart.items()})
    blocks = [
        folded(f"{count} {'cell' if count == 1 else 'cells'}: {e(reason)}", items(some(found.apart[reason], 200)))
        for reason, count in counts.most_common()
    ]
    return f'<h3 id="apart">On no front</h3>{"".join(blocks)}'
