"""Tables in four formats and the Pareto plot: same data everywhere, nothing covers anything, same bytes again."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobench.errors import BadInputError
from mobench.files import replacing, write_text
from mobench.pareto import Point
from mobench.report import front
from mobench.report.labels import Box, Label, place
from mobench.report.plots.pareto import pareto_figure, pareto_plot
from mobench.report.style import COLUMN_IN, PAGE_IN, readable
from mobench.report.tables import TABLE_FORMATS, Column, interval, render

COLUMNS = (
    Column(key="name", title="model"),
    Column(key="p50_ms", title="p50 ms", ci="p50_ci_ms", align="right"),
    Column(key="doubts", title="doubts"),
    Column(key="sha256"),
    Column(key="words", title="in words", display_only=True),
)
ROWS = (
    {"name": "a|b", "p50_ms": 9.21344, "p50_ci_ms": (9.131, 9.2978), "doubts": ("NOISY", "DRIFT"), "sha256": "f0"},
    {"name": "c", "p50_ms": None, "p50_ci_ms": None, "doubts": (), "sha256": None, "words": "failed"},
)


@pytest.mark.parametrize(
    ("value", "ci", "text"),
    [
        (9.2134, (9.1311, 9.2978), "9.21 [9.13, 9.30]"),
        (0.04123, (0.0409, 0.0416), "0.0412 [0.0409, 0.0416]"),
        (1234.5, (1200.1, 1270.9), "1234 [1200, 1271]"),
        (152.71, (152.64, 152.77), "152.71 [152.64, 152.77]"),  # whole numbers would hide the interval
        (9.21, (9.21, 9.21), "9.21 [9.21, 9.21]"),
        (9.21, None, "9.21"),
        (0.0, None, "0.00"),
        (None, None, "-"),
        (float("inf"), None, "inf"),
    ],
)
def test_a_figure_is_shown_with_the_decimals_its_interval_needs(value: Any, ci: Any, text: str) -> None:
    assert interval(value, ci) == text


def test_the_terminal_table_shows_what_people_read() -> None:
    text = render(COLUMNS, ROWS, "table", notes=["from one campaign"])
    assert text.splitlines()[2].split() == ["a|b", "9.21", "[9.13,", "9.30]", "NOISY", "DRIFT"]
    assert text.splitlines()[3].split() == ["c", "-", "failed"]
    assert text.endswith("from one campaign\n")
    assert "sha256" not in text and "\x1b" not in text


def test_a_narrow_terminal_never_tears_a_number() -> None:
    text = render(COLUMNS, ROWS, "table", width=40)
    assert "9.21 [9.13, 9.30]" in text
    assert max(map(len, text.splitlines())) <= 40


def test_a_pipe_wraps_nothing_and_a_terminal_has_colours() -> None:
    long = ({"name": "x" * 300, "p50_ms": 1.0},)
    assert "x" * 300 in render(COLUMNS, long, "table")
    assert "\x1b[1m" in render(COLUMNS, ROWS, "table", width=80, colour=True)


def test_markdown_keeps_its_cells_apart() -> None:
    lines = render(COLUMNS, ROWS, "md", notes=["said"]).splitlines()
    assert lines[:3] == [
        "| model | p50 ms | doubts | in words |",
        "| --- | ---: | --- | --- |",
        "| a\\|b | 9.21 [9.13, 9.30] | NOISY DRIFT |  |",
    ]
    assert lines[-1] == "- said"


def test_csv_and_json_hold_the_same_full_figures() -> None:
    as_csv = list(csv.DictReader(io.StringIO(render(COLUMNS, ROWS, "csv", notes=["not data"]))))
    as_json = json.loads(render(COLUMNS, ROWS, "json", notes=["not data"]))
    assert as_json[0] == {
        "name": "a|b", "p50_ms": 9.21344, "p50_ci_ms": [9.131, 9.2978], "doubts": ["NOISY", "DRIFT"], "sha256": "f0"
    }  # fmt: skip
    assert as_csv[0] == {
        "name": "a|b", "p50_ms": "9.21344", "p50_ci_ms_low": "9.131", "p50_ci_ms_high": "9.2978",
        "doubts": "NOISY DRIFT", "sha256": "f0",
    }  # fmt: skip
    assert as_json[1]["p50_ms"] is None
    assert as_csv[1]["p50_ms"] == as_csv[1]["p50_ci_ms_low"] == ""


def test_json_has_no_infinity() -> None:
    assert json.loads(render(COLUMNS, [{"p50_ms": float("nan"), "p50_ci_ms": (0.0, float("inf"))}], "json")) == [
        {"name": None, "p50_ms": None, "p50_ci_ms": [0.0, None], "doubts": None, "sha256": None}
    ]


def test_an_unknown_format_is_one_line() -> None:
    with pytest.raises(BadInputError, match="choose one of table, md, latex, csv, json"):
        render(COLUMNS, ROWS, "xml")  # type: ignore[arg-type]


@pytest.mark.parametrize("fmt", TABLE_FORMATS)
def test_an_empty_table_still_renders(fmt: Any) -> None:
    assert render(COLUMNS, [], fmt).endswith("\n")


# The demo: four networks, two precisions, two runtimes; INT8 shares FP32's published accuracy.
NETWORKS = (
    ("mobilenet_v1", 70.6, 15.2),
    ("mobilenet_v2", 72.0, 9.2),
    ("mobilenet_v3_large", 75.2, 8.1),
    ("mobilenet_v3_small", 67.4, 2.4),
)


def demo(kind: str = "published", squeeze: float = 1.0) -> list[Point]:
    points = []
    for name, top1, ms in NETWORKS:
        for precision, share in (("fp32", 1.0), ("int8", 0.55)):
            for runtime, factor in (("ort", 1.0), ("litert", 1.08 if precision == "fp32" else 0.86)):
                latency = (ms * share * factor) ** squeeze
                accuracy, ci = top1, None
                if kind == "measured":
                    accuracy = top1 + 14 - (0.9 if precision == "int8" else 0.0) + (0.2 if runtime == "ort" else 0.0)
                    ci = (accuracy - 2.9, accuracy + 2.4)
                points.append(
                    Point(
                        label=name, name=name, precision=precision, runtime=runtime, latency_ms=latency,
                        latency_ci_ms=(latency * 0.985, latency * 1.02), accuracy=accuracy, accuracy_ci=ci,
                        accuracy_kind=kind, accuracy_set="set", artifact=f"{name}{precision}{runtime}",  # type: ignore[arg-type]
                        accuracy_source="photos, n = 500" if ci else f"the paper's table{', for FP32' * (share < 1)}",
                        machine="Some CPU, 2 cores", campaign="20260712T141503Z-desktop",
                    )
                )  # fmt: skip
    return points


def boxes_of(figure: Any, gid: str) -> list[Any]:
    axes = figure.axes[0]
    artists = [a for a in (*axes.texts, *axes.lines) if a.get_gid() == gid]
    return [artist.get_window_extent(figure.canvas.get_renderer()) for artist in artists]


def marker_boxes(figure: Any) -> list[Any]:
    """The square around each marker, in pixels: a line's own extent knows only its path."""
    from matplotlib.transforms import Bbox

    axes = figure.axes[0]
    boxes = []
    for line in axes.lines:
        if line.get_gid() == "point":
            (x, y), half = axes.transData.transform(line.get_xydata())[0], line.get_markersize() / 2 * figure.dpi / 72
            boxes.append(Bbox.from_extents(x - half, y - half, x + half, y + half))
    return boxes


@pytest.mark.parametrize("width_in", [COLUMN_IN, PAGE_IN])
@pytest.mark.parametrize("kind", ["published", "measured"])
@pytest.mark.parametrize("squeeze", [1.0, 0.4])  # over a logarithmic and a linear axis
def test_every_network_is_named_and_no_label_covers_a_label_a_point_or_the_frame(
    width_in: float, kind: str, squeeze: float
) -> None:
    points = demo(kind, squeeze)
    figure = pareto_figure(points, title="A title", caption=front.caption(points), width_in=width_in)
    axes = figure.axes[0]
    assert axes.get_xscale() == ("log" if squeeze == 1.0 else "linear")
    labels, markers = boxes_of(figure, "label"), marker_boxes(figure)
    names = {text.get_text() for text in axes.texts if text.get_gid() == "label"}
    assert names == {"MobileNetV1", "MobileNetV2", "MobileNetV3-Large", "MobileNetV3-Small"}
    assert len(markers) == 16
    assert not any(one.overlaps(other) for one, other in combinations(labels, 2))
    assert not any(label.overlaps(marker) for label in labels for marker in markers)
    frame = axes.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in labels)
    inside = figure.bbox
    around = [*figure.texts, *figure.legends, axes.xaxis.label, axes.yaxis.label]
    extents = [artist.get_window_extent(figure.canvas.get_renderer()) for artist in around]
    assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in extents)
    assert not any(one.overlaps(other) for one, other in combinations([*extents, frame], 2))


def test_no_label_lies_on_an_error_bar() -> None:
    points = demo("measured")
    figure = pareto_figure(points)
    transform = figure.axes[0].transData.transform
    for label in boxes_of(figure, "label"):
        for p in points:
            (x, low), (_, high) = transform([(p.latency_ms, p.accuracy_ci[0]), (p.latency_ms, p.accuracy_ci[1])])
            assert not (label.x0 < x < label.x1 and label.y0 < high and low < label.y1)


def test_the_front_is_drawn_as_the_best_accuracy_within_a_latency() -> None:
    figure = pareto_figure(demo())
    (line,) = [line for line in figure.axes[0].lines if line.get_gid() == "front"]
    assert line.get_drawstyle() == "steps-post"
    fastest_small, fastest_large = 2.4 * 0.55 * 0.86, 8.1 * 0.55 * 0.86
    assert list(line.get_xdata())[:3] == pytest.approx([fastest_small, fastest_small, fastest_large])
    assert list(line.get_ydata())[1:] == [67.4, 75.2, 75.2]


def test_measured_and_published_have_a_front_each_and_say_so() -> None:
    figure = pareto_figure([*demo("measured"), *demo()])
    lines = [line for line in figure.axes[0].lines if line.get_gid() == "front"]
    assert len({line.get_linestyle() for line in lines}) == 2
    assert {"front, measured", "front, published"} <= {text.get_text() for text in figure.legends[0].get_texts()}
    assert len(boxes_of(figure, "label")) == 8


@pytest.mark.parametrize("width_in", [COLUMN_IN, PAGE_IN])
def test_a_long_legend_stays_inside_the_figure(width_in: float) -> None:
    others = [dataclasses.replace(p, machine="A processor of quite another make @ 2.7 GHz, 64 cores") for p in demo()]
    figure = pareto_figure([*demo("measured"), *demo(), *others], width_in=width_in)
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert not legend.overlaps(figure.axes[0].get_window_extent())


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_points_in_any_order_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    pareto_plot(demo(), tmp_path / f"a{suffix}", caption="x", width_in=COLUMN_IN)
    pareto_plot(demo()[::-1], tmp_path / f"b{suffix}", caption="x", width_in=COLUMN_IN)
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"b{suffix}").read_bytes()
    assert first.startswith({".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


def test_a_user_s_matplotlib_settings_change_nothing_and_are_not_changed(tmp_path: Path) -> None:
    pareto_plot(demo(), tmp_path / "a.svg")
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "lines.linewidth": 9}):
        pareto_plot(demo(), tmp_path / "b.svg")
        assert mpl.rcParams["font.size"] == 20
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    "points",
    [
        demo()[:1],
        [*demo()[:1]] * 2,
        [p for p in demo() if p.precision == "fp32" and p.runtime == "ort"],
    ],
)
def test_few_or_equal_points_draw(tmp_path: Path, points: list[Point]) -> None:
    pareto_plot(points, tmp_path / "few.png")
    assert (tmp_path / "few.png").stat().st_size > 1000


def test_odd_points_draw(tmp_path: Path) -> None:
    """A foreign file with a long name that is markup to matplotlib, no interval, an unknown runtime and precision."""
    odd = dataclasses.replace(
        demo()[0], label="$x_" + "y" * 80, name="odd", precision=None, runtime="tvm", latency_ci_ms=(0.0, 900.0)
    )
    bare = dataclasses.replace(demo()[1], latency_ci_ms=None, accuracy_ci=(0.0, 100.0), accuracy=0.0)
    figure = pareto_figure([odd, bare, *demo()])
    assert any(text.get_text().startswith("$x_yyy") for text in figure.axes[0].texts)
    pareto_plot([odd, bare, *demo()], tmp_path / "odd.svg")


def test_hundreds_of_networks_draw_with_some_labels_and_no_overlap() -> None:
    points = [
        Point(
            label=f"net{i}", name=f"net{i}", precision="fp32", runtime="ort", latency_ms=1 + (i * 37 % 300) / 10,
            latency_ci_ms=None, accuracy=50 + (i * 61 % 300) / 10, accuracy_kind="published",
        )
        for i in range(300)
    ]  # fmt: skip
    labels = boxes_of(pareto_figure(points), "label")
    assert 0 < len(labels) <= 24
    assert not any(one.overlaps(other) for one, other in combinations(labels, 2))


def test_a_plot_without_any_accuracy_or_with_an_unknown_suffix_is_one_line(tmp_path: Path) -> None:
    blind = [dataclasses.replace(demo()[0], accuracy=None, accuracy_kind=None)]
    with pytest.raises(BadInputError, match="mobench eval"):
        front.write(blind, tmp_path / "plot.svg")
    with pytest.raises(BadInputError, match="use one of"):
        front.write(demo(), tmp_path / "plot.gif")
    with pytest.raises(BadInputError, match=r"name it \.svg, \.png or \.pdf"):
        pareto_plot(demo(), tmp_path / "plot")
    assert not list(tmp_path.iterdir())


def test_label_colours_can_be_read_on_white() -> None:
    for colour in ("#E69F00", "#56B4E9", "#CC79A7"):
        light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in readable(colour)]
        luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
        assert 1.05 / (luminance + 0.05) >= 4.4


@given(
    st.lists(st.tuples(st.floats(0, 400), st.floats(0, 200)), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(10, 90), st.integers(0, 29)), max_size=12),
)
def test_placed_labels_never_overlap(points: list[tuple[float, float]], sizes: list[tuple[int, int]]) -> None:
    labels = [Label(width=w, height=12, anchors=(points[i % len(points)],)) for w, i in sizes]
    frame = Box(x0=0, y0=0, x1=400, y1=200)
    placed = place(labels, marker_radius=4, markers=points, obstacles=[], lines=[], frame=frame)
    boxes = [spot.box for spot in placed if spot]
    markers = [Box(x0=x - 4, y0=y - 4, x1=x + 4, y1=y + 4) for x, y in points]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert not any(box.overlaps(marker) for box in boxes for marker in markers)
    assert all(min(b.x0, b.y0) >= 0 and b.x1 <= 400 and b.y1 <= 200 for b in boxes)


def test_a_lone_label_stands_close_above_its_point() -> None:
    (spot,) = place(
        [Label(width=40, height=10, anchors=((100, 100),))],
        marker_radius=4, markers=[(100, 100)], obstacles=[], lines=[], frame=Box(x0=0, y0=0, x1=200, y1=200),
    )  # fmt: skip
    assert spot is not None
    assert not spot.leader
    assert (spot.box.x0, spot.box.x1) == (80, 120)
    assert 104 <= spot.box.y0 <= 108


# The Pareto table.


def test_the_table_says_what_dominates_each_point_and_whose_accuracy_it_is() -> None:
    text = front.show(demo(), "md")
    rows = [line.split(" | ") for line in text.splitlines()[2:18]]
    assert [row[0] for row in rows] == [f"| {i}" for i in range(1, 17)]
    best = next(row for row in rows if row[1:4] == ["mobilenet_v3_large", "int8", "litert"])
    assert best[-1] == "front |"
    assert best[6] == "published for FP32"
    v1 = next(row for row in rows if row[1:4] == ["mobilenet_v1", "fp32", "ort"])
    assert v1[-1] == f"#{best[0].removeprefix('| ')} |"
    assert v1[6] == "published"
    assert "published figures are FP32's" in text
    assert "threads |" not in text  # all have one: a note says so
    assert "1 thread" in text


def test_json_names_the_dominating_model_and_the_noise() -> None:
    near = dataclasses.replace(demo()[0], latency_ms=4.0, latency_ci_ms=(3.5, 4.5))
    rows = json.loads(front.show([*demo(), near], "json"))
    (row,) = [row for row in rows if row["p50_ms"] == 4.0]
    assert row["dominated_by"] == "mobilenet_v3_large int8 litert"
    assert row["within_noise"] == ["latency"]
    assert row["on_front"] is False
    assert row["accuracy_source"] == "the paper's table"
    assert {"p50_ci_ms", "top1", "top1_ci", "accuracy_kind", "threads", "machine", "file", "sha256"} <= row.keys()
    assert not {"number", "standing", "accuracy_words"} & row.keys()


def test_points_without_accuracy_come_last_and_unnumbered_verdicts_say_why() -> None:
    blind = dataclasses.replace(demo()[0], accuracy=None, accuracy_kind=None, accuracy_set="", latency_ms=0.1)
    text = front.show([blind, *demo()], "md")
    last = next(line for line in text.splitlines() if line.startswith("| 17 |"))
    assert last.endswith("| - | none | - | - |")
    assert "measure it with `mobench eval`" in text


def test_accuracies_on_other_images_say_how_to_make_them_comparable() -> None:
    points = demo("measured")
    other = dataclasses.replace(points[0], accuracy_set="photos#0f, n = 400", accuracy_source="photos#0f, n = 400")
    assert "one `mobench eval`" not in front.show(points, "md")
    text = front.show([other, *points[1:]], "md")
    assert "2 fronts" in text
    assert "one `mobench eval`" in text


def test_doubts_are_shown_with_their_mends() -> None:
    text = front.show([dataclasses.replace(demo()[0], doubts=("NOISY", "FEW_SAMPLES"))], "table")
    assert "NOISY FEW_SAMPLES" in text
    assert "FEW_SAMPLES: raise --budget" in text


def test_the_caption_tells_measured_from_published_and_the_machine() -> None:
    assert front.caption(demo()) == (
        "Top-1 as published for ImageNet; int8 drawn at its network's FP32 figure. Bars: 95\u00a0% intervals. 1 thread."
        " Some CPU, 2 cores; campaign 20260712T141503Z-desktop."
    )
    assert front.caption(demo("measured")).startswith("Top-1 measured on photos, n = 500. Bars")


@pytest.mark.parametrize(
    ("name", "start"), [("t.md", "| # |"), ("t.csv", "network,"), ("t.json", "[\n"), ("t.txt", " #")]
)
def test_tables_are_written_by_their_suffix(tmp_path: Path, name: str, start: str) -> None:
    front.write(demo(), tmp_path / "new" / name)
    assert (tmp_path / "new" / name).read_text().startswith(start)


# Files.


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is a folder"):
        write_text(tmp_path, "x")
