"""Plots besides the front: no text covers another, intervals are drawn, the same data gives the same bytes; LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run, spread

from mobench.claims.places import table_places
from mobench.cli.compare import command as compare
from mobench.cli.results import command as results
from mobench.errors import BadInputError
from mobench.order import Device, devices, find, order
from mobench.records import Run
from mobench.report import front, labels
from mobench.report.plots import canvas
from mobench.report.plots.cells import Ratio, campaign_figure, cell_names, ratios_figure
from mobench.report.plots.macs import macs_figure
from mobench.report.plots.slope import slope_figure
from mobench.report.style import COLUMN_IN, NETWORKS, PAGE_IN
from mobench.report.tables import Column, render

LOGS = (0.0, 0.01, -0.008, 0.006, -0.01)
WIDTHS = pytest.mark.parametrize("width_in", [COLUMN_IN, PAGE_IN])


def device(words: str) -> Device:
    return find(devices(table_places()), words)


def texts(figure: Any, gid: str = "") -> list[Any]:
    return [t for axes in figure.axes for t in axes.texts if t.get_text() and (not gid or t.get_gid() == gid)]


def boxes(figure: Any, artists: Sequence[Any]) -> list[Any]:
    return [artist.get_window_extent(figure.canvas.get_renderer()) for artist in artists]


def bars(axes: Any) -> list[Any]:
    """The pieces of error bars: a collection of lines each."""
    return [piece for bar in axes.collections for piece in getattr(bar, "get_segments", list)()]


def inside(figure: Any, found: Sequence[Any]) -> bool:
    edge = figure.bbox
    return all(edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1 for box in found)


def campaign(path: Path) -> Run:
    cells = {
        f"{network}-{precision}.{suffix}": (network, precision)
        for network in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
        for precision in ("fp32", "int8")
        for suffix in ("onnx", "tflite")
    }
    artifact = {
        cell: {"name": network, "precision": precision,
               "network": {"name": network, "label": network, "family": "a paper's"}}
        for cell, (network, precision) in cells.items()
    }  # fmt: skip
    factors = {cell: 1.0 + 0.13 * number for number, cell in enumerate(cells)}
    turned = {cell: LOGS[number % 5 :] + LOGS[: number % 5] for number, cell in enumerate(cells)}
    return make_run(path, {cell: spread(f, turned[cell]) for cell, f in factors.items()}, artifact=artifact)


# The slope chart.


@WIDTHS
@pytest.mark.parametrize("pair", [("pixel 9 cpu", "pixel 9 gpu"), ("moga cpu", "moga snpe"), ("mac cpu", "galaxy gpu")])
def test_slopes_name_every_network_and_no_text_covers_another(width_in: float, pair: tuple[str, str]) -> None:
    found = order(device(pair[0]), device(pair[1]))
    caption = "A caption that goes on for some time, so that it needs more than one line at any width. " * 2
    figure = slope_figure(found, caption=caption.strip(), width_in=width_in)
    named = texts(figure, "label")
    assert len(named) == 2 * len(found.networks)
    assert all(" ms" in text.get_text() for text in named)
    every = boxes(figure, texts(figure))
    assert not any(one.overlaps(other) for one, other in combinations(every, 2))
    assert inside(figure, every)
    assert len(texts(figure, "head")) == 2 and len(texts(figure, "caption")) == 1


def test_slopes_cross_where_pairs_are_inverted_and_are_thick_beyond_noise() -> None:
    found = order(device("mac cpu"), device("mac gpu"))
    axes = slope_figure(found).axes[0]
    slopes = dict(zip(found.networks, [x for x in axes.lines if x.get_gid() == "slope"], strict=True))
    crossing = set()
    for one, other in combinations(found.networks, 2):
        (left, right), (other_left, other_right) = slopes[one].get_ydata(), slopes[other].get_ydata()
        if (left - other_left) * (right - other_right) < 0:
            crossing.add(frozenset((one, other)))
    assert crossing == {frozenset((pair.first, pair.second)) for pair in found.inversions}
    thick = max(line.get_linewidth() for line in slopes.values())
    sure = {name for pair in found.beyond_noise for name in (pair.first, pair.second)}
    assert {name for name, line in slopes.items() if line.get_linewidth() == thick} == sure
    # The faster one is higher up, on either side.
    tops = [slopes[name].get_ydata()[0] for name in found.networks]
    assert all(upper > lower for upper, lower in pairwise(tops))


def test_slopes_have_bars_where_a_spread_is_known_and_none_where_no_spread_is_printed() -> None:
    leaderboard = slope_figure(order(device("pixel 9 cpu"), device("pixel 9 gpu"))).axes[0]
    count = len(order(device("pixel 9 cpu"), device("pixel 9 gpu")).networks)
    assert len(bars(leaderboard)) == 2 * count
    assert bars(slope_figure(order(device("moga cpu"), device("moga snpe"))).axes[0]) == []


def test_a_network_has_its_familys_colour_in_every_plot(tmp_path: Path) -> None:
    from matplotlib.colors import to_hex

    wanted = NETWORKS["mobilenet_v2"][1].lower()
    found = order(device("moga cpu"), device("moga snpe"))
    slopes = [line for line in slope_figure(found).axes[0].lines if line.get_gid() == "slope"]
    assert to_hex(slopes[found.networks.index("mobilenet_v2")].get_color()) == wanted
    rows = [Ratio(label="V2", network="mobilenet_v2", ratio=0.9, ratio_ci=(0.8, 1.0), decided=True)]
    (point,) = [x for x in ratios_figure(rows, axis="ratio").axes[0].lines if x.get_gid() == "point"]
    assert to_hex(point.get_markerfacecolor()) == wanted
    shapes = [x for x in campaign_figure(campaign(tmp_path / "a.jsonl"), ["mobilenet_v2-fp32.onnx"]).axes[0].collections
              if x.get_gid() == "spread"]  # fmt: skip
    assert to_hex(shapes[0].get_facecolor()[0]) == wanted


# MACs against latency.


@WIDTHS
@pytest.mark.parametrize("words", ["mobilenetv2 code page", "pixel 9 cpu", "moga snpe"])
def test_macs_against_latency_labels_cover_nothing(width_in: float, words: str) -> None:
    figure = macs_figure(device(words), title=words, caption="Whose figures these are.", width_in=width_in)
    axes = figure.axes[0]
    named = boxes(figure, texts(figure, "label"))
    assert len(named) >= 4
    assert not any(one.overlaps(other) for one, other in combinations(named, 2))
    frame = axes.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in named)
    centres = [axes.transData.transform(p.get_xydata())[0] for p in axes.lines if p.get_gid() == "point"]
    assert not any(b.x0 < x < b.x1 and b.y0 < y < b.y1 for b in named for x, y in centres)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert inside(figure, boxes(figure, [axes.xaxis.label, axes.yaxis.label, axes.title, *figure.texts]))


def test_the_fit_is_that_of_least_squares_on_logarithms() -> None:
    import numpy as np

    from mobench.order import counts

    chosen = device("mobilenetv2 code page")
    macs = counts(chosen, "macs")
    figure = macs_figure(chosen)
    (line,) = [line for line in figure.axes[0].lines if line.get_gid() == "fit"]
    (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
    power = math.log(y1 / y0) / math.log(x1 / x0)
    logs = np.log([[value.figure, chosen.latency(name).figure] for name, value in macs.items()])
    assert power == pytest.approx(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    assert f"to the power of {power:.2f}" in " ".join(figure.texts[-1].get_text().split())


def test_macs_of_too_few_networks_are_one_line() -> None:
    with pytest.raises(BadInputError, match="3 are needed"):
        macs_figure(device("pixel 9 cpu int8"))


# Rows: ratios, and how blocks spread.


@WIDTHS
def test_a_campaigns_plot_names_each_cell_and_draws_every_interval(tmp_path: Path, width_in: float) -> None:
    run = campaign(tmp_path / "a.jsonl")
    figure = campaign_figure(run, [cell["id"] for cell in run.header["cells"]], caption="A caption.", width_in=width_in)
    left, right = figure.axes[:2]
    names = [label for label in left.get_yticklabels() if label.get_text()]
    assert [label.get_text() for label in names][:2] == [
        "MobileNetV2 fp32 ONNX Runtime",
        "MobileNetV2 fp32 LiteRT",
    ]
    assert len(names) == 12
    every = boxes(figure, names)
    assert not any(one.overlaps(other) for one, other in combinations(every, 2))
    assert inside(figure, every)
    assert len([x for x in left.collections if x.get_gid() == "spread"]) == 12
    assert len(bars(left)) == 12  # of p50
    assert len(bars(right)) == 11  # of each ratio; the baseline's is 1
    starts = [line for line in left.lines if line.get_gid() == "start"]
    assert [len(line.get_xdata()) for line in starts] == [5] * 12
    around = boxes(figure, [left.xaxis.label, right.xaxis.label, *figure.texts])
    assert inside(figure, around)
    assert not any(one.overlaps(other) for one, other in combinations(around, 2))


def test_blocks_far_off_are_counted_in_the_caption(tmp_path: Path) -> None:
    wild = {"a.tflite": lambda i, n: 1e7 * (5 if n == 8 and i == 0 else 1), "b.tflite": spread(1.0)}
    run = make_run(tmp_path / "a.jsonl", wild, rounds=9)
    words = " ".join(campaign_figure(run, ["a.tflite", "b.tflite"]).texts[-1].get_text().split())
    beyond = re.search(r"(\d+) of 90 blocks lie beyond the axis", words)
    assert beyond and int(beyond[1]) >= 1


@WIDTHS
def test_ratios_have_their_intervals_and_what_is_undecided_is_hollow(width_in: float) -> None:
    rows = [
        Ratio(label="one", network="mobilenet_v2", ratio=0.8, ratio_ci=(0.78, 0.83), decided=True),
        Ratio(label="two", network="mobilenet_v2", ratio=1.01, ratio_ci=(0.97, 1.05), decided=False),
        Ratio(label="three", network="mobilenet_v3_large", ratio=3.0, ratio_ci=None, decided=False),
        Ratio(label="four", network="odd", ratio=1.0, ratio_ci=(0.0, math.inf), decided=False),
    ]
    figure = ratios_figure(rows, axis="latency, B over A", no_difference=0.01, caption="Said.", width_in=width_in)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two", "three", "four"]
    points = [line for line in axes.lines if line.get_gid() == "point"]
    assert [line.get_markerfacecolor() == "white" for line in points] == [False, True, True, True]
    assert sorted(tuple(piece[:, 0]) for piece in bars(axes)) == [
        pytest.approx((0.78, 0.83)),
        pytest.approx((0.97, 1.05)),
    ]
    assert axes.get_xscale() == "log"
    with pytest.raises(BadInputError, match="no ratio is known"):
        ratios_figure([], axis="x")


def test_cells_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    run = campaign(tmp_path / "a.jsonl")
    cells = run.header["cells"]
    assert cell_names(cells[:1]) == ["MobileNetV2 fp32"]
    assert cell_names(cells[:4])[2] == "MobileNetV2 int8 ONNX Runtime"
    twice = [cells[0], cells[0] | {"target": cells[0]["target"] | {"threads": 2}}]
    assert cell_names(twice) == ["MobileNetV2 fp32 1 thread", "MobileNetV2 fp32 2 threads"]
    alike = [cells[0], cells[0] | {"id": "other.onnx"}]
    assert cell_names(alike) == ["mobilenet_v2-fp32.onnx", "other.onnx"]
    assert cell_names([cells[0], cells[0]]) == ["MobileNetV2 fp32"] * 2  # one cell of two campaigns


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_data_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    run = campaign(tmp_path / "a.jsonl")
    found = order(device("moga cpu"), device("moga snpe"))
    for number in range(2):
        for kind, figure in (
            ("slope", slope_figure(found, width_in=COLUMN_IN)),
            ("macs", macs_figure(device("moga snpe"), width_in=COLUMN_IN)),
            ("cells", campaign_figure(run, [run.header["cells"][0]["id"]], width_in=COLUMN_IN)),
        ):
            canvas.write(figure, tmp_path / f"{kind}{number}{suffix}", width_in=COLUMN_IN)
    for kind in ("slope", "macs", "cells"):
        assert (tmp_path / f"{kind}0{suffix}").read_bytes() == (tmp_path / f"{kind}1{suffix}").read_bytes()


def test_verbs_draw_what_they_print(tmp_path: Path) -> None:
    run = campaign(tmp_path / "results" / "m" / "20261122T000000Z-desktop-cpu.jsonl")
    plot = tmp_path / "spread.svg"
    done = CliRunner().invoke(results, ["show", str(run.path), "--precision", "int8", "--plot", str(plot)])
    assert done.exit_code == 0 and plot.is_file()
    plot = tmp_path / "ratio.svg"
    cells = [cell["id"] for cell in run.header["cells"][:2]]
    done = CliRunner().invoke(compare, [*cells, "--in", str(run.path), "--plot", str(plot)], standalone_mode=False)
    assert done.exception is None and plot.is_file()
    done = CliRunner().invoke(results, ["show", str(run.path), "--plot", str(tmp_path / "plot.gif")])
    assert isinstance(done.exception, BadInputError)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0.1, 3))
def test_places_on_a_line_keep_their_order_and_distance(wanted: list[float], step: float) -> None:
    found = labels.spread(wanted, step, 0.0, 100.0)
    ordered = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    rows = [found[i] for i in ordered]
    assert all(b - a >= step - 1e-9 for a, b in pairwise(rows))
    assert min(rows) >= -1e-9 and max(rows) <= 100 + 1e-9
    if all(b - a >= step for a, b in pairwise(sorted(wanted))):
        assert rows == pytest.approx(sorted(wanted), abs=1e-6)


# LaTeX.

COLUMNS = (
    Column(key="name", title="model & more"),
    Column(key="p50_ms", title="p50 ms [95 %]", ci="p50_ci_ms", align="right"),
    Column(key="sha256"),
)


def test_latex_has_booktabs_rules_units_and_notes() -> None:
    rows = ({"name": "net", "p50_ms": 9.21344, "p50_ci_ms": (9.131, 9.2978)}, {"name": "best", "style": "bold"})
    lines = render(COLUMNS, rows, "latex", notes=["top-1 measured: 50 % of C:\\x"]).splitlines()
    assert lines == [
        "% needs booktabs",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"model \& more & p50 ms [95 \%] \\",
        r"\midrule",
        r"net & 9.21 [9.13, 9.30] \\",
        r"\textbf{best} & \textbf{-} \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"{\footnotesize\noindent",
        r"top-1 measured: 50 \% of C:\textbackslash{}x\par",
        "}",
    ]


@given(st.text(max_size=40))
def test_nothing_in_a_name_is_a_command_to_latex(name: str) -> None:
    (line,) = [
        line
        for line in render(COLUMNS[:1], [{"name": name}], "latex").splitlines()[5:-2]
        if not line.startswith(r"\bottomrule")
    ]
    text = line.removesuffix(r" \\")
    for command in ("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar",
                    "textasciigrave", "ldots"):  # fmt: skip
        text = text.replace(f"\\{command}{{}}", "")
    for symbol in ("times", "geq", "leq"):
        text = text.replace(f"$\\{symbol}$", "")
    text = re.sub(r"\\[&%$#_{}]", "", text).replace("-{}-", "--").removeprefix("{}")
    assert not set(text) & set('\\&%$#_^{}~<>|"`') - {"~"}


def test_latex_breaks_a_long_table_over_pages_and_a_long_cell_over_lines() -> None:
    text = render(COLUMNS, [{"name": "x " * 40, "p50_ms": 1.0}] * 60, "latex")
    assert text.startswith("% needs booktabs and longtable\n\\begin{longtable}{p{0.6\\linewidth}r}")
    assert r"\endhead" in text and text.rstrip().endswith(r"\end{longtable}")


def test_latex_does_not_take_a_bracket_for_its_own() -> None:
    text = render(COLUMNS[:1], [{"name": "[x]"}, {"name": "*"}], "latex")
    assert r"{}[x] \\" in text and r"{}* \\" in text


def test_a_front_is_written_as_latex_too(tmp_path: Path) -> None:
    from test_report import demo

    front.write(demo(), tmp_path / "front.tex")
    text = (tmp_path / "front.tex").read_text()
    assert r"\begin{tabular}" in text and "published" in text and r"top-1 \%" in text
