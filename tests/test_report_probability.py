"""What the Pareto table and the plot say of how sure the front is, and devices side by side."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from typing import Any

import pytest
from test_report import demo

from mobench.report import front
from mobench.report.plots.pareto import pareto_figure
from mobench.report.style import COLUMN_IN, PAGE_IN


def test_the_table_says_how_likely_each_point_is_on_the_front_and_what_the_front_is_worth() -> None:
    near = dataclasses.replace(demo()[0], label="near", latency_ms=4.0, latency_ci_ms=(3.5, 4.6))
    rows = json.loads(front.show([*demo(), near], "json", reference=(20.0, 60.0)))
    chance = {(row["network"], row["precision"], row["runtime"]): row["p_front"] for row in rows}
    assert chance["mobilenet_v3_large", "int8", "litert"] == 1.0
    assert chance["mobilenet_v1", "fp32", "ort"] == 0.0
    assert {(row["reference_ms"], row["reference_top1"]) for row in rows} == {(20.0, 60.0)}
    small, large = 2.4 * 0.55 * 0.86, 8.1 * 0.55 * 0.86
    assert rows[0]["hypervolume"] == pytest.approx((large - small) * 7.4 + (20 - large) * 15.2)
    assert rows[0]["hypervolume_ci"][0] < rows[0]["hypervolume"] < rows[0]["hypervolume_ci"][1]
    text = front.show([*demo(), near], "md", reference=(20.0, 60.0))
    assert "| P(front) |" in text and "| >0.99 | front |" in text
    assert "ms x points, up to 20 ms and above 60 %" in text and "P(front): the share of draws" in text
    assert "knee" not in text  # two points on the front
    blind = [dataclasses.replace(p, accuracy=None, accuracy_kind=None) for p in demo()]
    assert "P(front)" not in front.show(blind, "md")


def test_the_band_holds_the_front_and_is_absent_where_nothing_is_uncertain() -> None:
    (band,) = bands_of(pareto_figure(demo("measured")))
    inside = [band.get_paths()[0].contains_point((p.latency_ms * 1.05, p.accuracy)) for p in demo("measured")]
    assert inside[12]  # MobileNetV3-Small FP32 of ONNX Runtime, on the front
    assert not inside[0]  # MobileNetV1 FP32, far off it
    certain = [dataclasses.replace(p, latency_ci_ms=None) for p in demo()]
    assert not bands_of(pareto_figure(certain))


def bands_of(figure: Any) -> list[Any]:
    return [c for axes in figure.axes for c in axes.collections if c.get_gid() == "band"]


@pytest.mark.parametrize(("width_in", "columns"), [(COLUMN_IN, 1), (PAGE_IN, 2)])
def test_devices_stand_side_by_side_on_one_scale_of_accuracy(width_in: float, columns: int) -> None:
    there = [
        dataclasses.replace(p, machine="A phone, android-gpu", latency_ms=4 * p.latency_ms, latency_ci_ms=None)
        for p in demo("measured")
    ]
    figure = pareto_figure([*demo("measured"), *there], caption="said", width_in=width_in)
    one, other = figure.axes
    assert [axes.get_title(loc="left") for axes in (one, other)] == ["A phone, android-gpu", "Some CPU, 2 cores"]
    assert one.get_ylim() == other.get_ylim()
    assert one.get_xlim() != other.get_xlim()
    frames = [axes.get_window_extent() for axes in figure.axes]
    assert (frames[0].y0 == pytest.approx(frames[1].y0)) == (columns == 2)
    extents = [artist.get_window_extent() for artist in (*figure.texts, *figure.legends, one._left_title)]
    extents += [*frames, other._left_title.get_window_extent()]
    assert not any(a.overlaps(b) for a, b in combinations(extents, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in extents)
    for axes, frame in zip(figure.axes, frames, strict=True):
        labels = [text.get_window_extent() for text in axes.texts if text.get_gid() == "label"]
        assert len(labels) == 4
        assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 for b in labels)
    assert [text.get_text() for text in figure.legends[0].get_texts()].count("Pareto front") == 1
