"""Fronts, dominance under uncertainty, and how points are made from campaigns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobench.pareto import Point, dominance_noise, dominates, front, front_points, pareto_points
from mobench.records import Accuracy, Block, Ready, Run
from mobench.report.front import caption, show


def point(latency: float, accuracy: float | None, label: str = "net", **changes: Any) -> Point:
    kind = changes.pop("accuracy_kind", "published" if accuracy is not None else None)
    fields: dict[str, Any] = {
        "label": label,
        "name": label,
        "precision": "fp32",
        "runtime": "ort",
        "latency_ms": latency,
        "latency_ci_ms": (latency * 0.99, latency * 1.01),
        "accuracy": accuracy,
        "accuracy_kind": kind,
        "accuracy_set": "ImageNet" if kind else "",
    }
    return Point(**fields | changes)


def drawn_point(latency: int, accuracy: int | None, share: float | None, half: float | None, **fields: Any) -> Point:
    """Return a point whose intervals lie around its values, narrow or wide, so that some overlap and some do not."""
    return point(
        float(latency),
        accuracy,
        latency_ci_ms=None if share is None else (latency * (1 - share), latency * (1 + share)),
        accuracy_ci=None if half is None or accuracy is None else (accuracy - half, accuracy + half),
        **fields,
    )


# Few distinct values, so that ties in one and in both happen all the time.
some_points = st.lists(
    st.builds(
        drawn_point,
        st.integers(1, 6),
        st.none() | st.integers(60, 65),
        st.sampled_from([None, 0.01, 0.4]),
        st.sampled_from([None, 0.1, 2.0]),
        label=st.sampled_from("abc"),
        runtime=st.sampled_from(["ort", "litert"]),
        machine=st.sampled_from(["here", "here", "there"]),
        artifact=st.sampled_from(["", "1", "2"]),
    ),
    max_size=14,
)


@given(some_points)
def test_no_front_point_is_dominated_and_every_other_is_by_a_front_point(points: list[Point]) -> None:
    on_front = front_points(points)
    for standing in front(points):
        if standing.on_front is None:
            assert standing.point.accuracy is None
        elif standing.on_front:
            assert not any(dominates(other, standing.point) for other in points)
            assert standing.dominated_by is None
        else:
            assert standing.dominated_by in on_front
            assert dominates(standing.dominated_by, standing.point)
            assert standing.noise == dominance_noise(standing.dominated_by, standing.point)


@given(some_points)
def test_a_dominance_beyond_the_intervals_is_named_when_the_front_has_one(points: list[Point]) -> None:
    on_front = front_points(points)
    for standing in front(points):
        sure = [p for p in on_front if dominates(p, standing.point) and not dominance_noise(p, standing.point)]
        if sure:
            assert standing.noise == ()
            assert standing.dominated_by.latency_ms == min(p.latency_ms for p in sure)


@given(some_points, st.randoms(use_true_random=False))
def test_the_order_of_the_points_changes_nothing(points: list[Point], random: Any) -> None:
    shuffled = random.sample(points, len(points))
    assert [s.point for s in front(shuffled)] == shuffled
    # Equal points are interchangeable; for each, the same verdict.
    assert {(s.point, s.on_front, s.dominated_by, s.noise) for s in front(points)} == {
        (s.point, s.on_front, s.dominated_by, s.noise) for s in front(shuffled)
    }


def test_points_that_differ_only_in_an_interval_are_named_in_any_order_alike() -> None:
    """Found by Hypothesis: which of two equal dominators was named hung on which came first."""
    slow, one, two = point(2, 60), point(1, 60, "b", latency_ci_ms=None), point(1, 60, "b", latency_ci_ms=(0.1, 9.0))
    assert front([slow, one, two])[0] == front([slow, two, one])[0]


@given(some_points)
def test_the_front_of_the_front_is_the_front(points: list[Point]) -> None:
    assert front_points(front_points(points)) == front_points(points)


def test_equal_in_both_stand_together_and_equal_in_one_does_not_save() -> None:
    twin, other_twin = point(5, 70, "a"), point(5, 70, "b")
    slower, less_accurate = point(6, 70, "c"), point(5, 69, "d")
    verdicts = {s.point.label: (s.on_front, s.dominated_by) for s in front([slower, twin, less_accurate, other_twin])}
    assert verdicts == {"a": (True, None), "b": (True, None), "c": (False, twin), "d": (False, twin)}


def test_a_dominance_beyond_the_intervals_is_named_before_a_faster_one_within_noise() -> None:
    unsure, sure, beaten = point(5, 70, "a", latency_ci_ms=None), point(6, 71, "b"), point(7, 69, "c")
    standing = front([unsure, sure, beaten])[2]
    assert (standing.dominated_by, standing.noise) == (sure, ())


def test_of_two_equal_points_the_one_with_an_interval_is_named() -> None:
    unsure, sure, beaten = point(5, 70, "a", latency_ci_ms=None), point(5, 70, "b"), point(7, 69, "c")
    standing = front([unsure, sure, beaten])[2]
    assert (standing.dominated_by, standing.noise) == (sure, ())


def test_a_point_off_the_front_is_never_named_even_when_only_it_dominates_surely() -> None:
    on_front, off_front, beaten = point(5, 70, "a", latency_ci_ms=None), point(6, 70, "b"), point(7, 69, "c")
    standing = front([on_front, off_front, beaten])[2]
    assert (standing.dominated_by, standing.noise) == (on_front, ("latency",))


def test_overlapping_latency_intervals_make_a_dominance_noise() -> None:
    fast, near, far = point(10.0, 70), point(10.1, 69), point(12.0, 69)
    noise = {s.point: s.noise for s in front([fast, near, far])}
    assert noise == {fast: (), near: ("latency",), far: ()}


def test_a_missing_latency_interval_can_prove_nothing() -> None:
    fast, slow = point(1.0, 70, latency_ci_ms=None), point(100.0, 60)
    assert front([fast, slow])[1].noise == ("latency",)


def test_overlapping_measured_accuracies_are_noise_but_not_for_one_file_in_two_ways() -> None:
    measured = {"accuracy_kind": "measured", "accuracy_ci": (66.0, 74.0)}
    one_thread = point(10, 70, artifact="f", threads=1, **measured)
    two_threads = point(6, 70, artifact="f", threads=2, **measured)
    another = point(12, 69, artifact="g", **measured | {"accuracy_ci": (65.0, 73.0)})
    noise = {s.point: s.noise for s in front([one_thread, two_threads, another])}
    assert noise == {two_threads: (), one_thread: (), another: ("accuracy",)}


@pytest.mark.parametrize(
    "unlike",
    [
        {"accuracy_kind": "measured"},
        {"accuracy_set": "other photographs, n = 500"},
        {"machine": "a phone"},
    ],
)
def test_what_cannot_be_compared_never_dominates(unlike: dict[str, Any]) -> None:
    best, worst = point(1, 99), point(50, 10, **unlike)
    assert [s.on_front for s in front([best, worst])] == [True, True]


def test_a_point_without_accuracy_takes_no_part() -> None:
    unknown, known = point(1, None), point(10, 50)
    assert [s.on_front for s in front([unknown, known])] == [None, True]


@pytest.mark.parametrize("latency", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_that_is_none_is_refused(latency: float) -> None:
    with pytest.raises(ValueError, match="latency_ms"):
        point(latency, 70)


def test_an_accuracy_without_its_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        point(1, 70, accuracy_kind=None)
    with pytest.raises(ValueError, match="percentage"):
        point(1, 0.7e4)


# From campaigns to points.

READY = Ready(
    init_ns=1, first_ns=1, rss_before_mb=1.0, peak_rss_mb=2.0, asked="cpu", got="cpu", nodes_delegated=None,
    nodes_total=None, threads=1, cores=(), inputs=(), outputs=(), versions={},
)  # fmt: skip
V2 = {"name": "mobilenet_v2", "label": "mobilenet_v2", "width": 1.0, "input_size": 224}
ODD = {"name": "mobilenet_v2", "label": "mobilenet_v2_0.9_224", "width": 0.9, "input_size": 224}


def cell(
    sha: str, *, runtime: str = "ort", precision: str | None = "fp32", network: Any = V2, weights: Any = None
) -> dict[str, Any]:
    return {
        "id": f"{sha}-{runtime}",
        "artifact": {
            "path": f"artifacts/{sha}",
            "sha256": sha,
            "format": "onnx",
            "name": network["label"] if network else "stem",
            "precision": precision,
            "network": network,
            "weights": weights,
        },
        "target": {"device": "desktop-cpu", "runtime": runtime, "provider": "", "threads": 1, "batch": 1, "cores": []},
    }


def campaign(
    name: str, cells: dict[str, float | None], described: list[dict[str, Any]], cpu: str = "Some CPU", **changes: Any
) -> Run:
    """Return a campaign in which each cell (by id) took so many ms, in every block of four incarnations."""
    blocks = tuple(
        Block(
            cell=cell_id, incarnation=i, round=r, position=0, phase="steady", t_s=0.1 * (10 * i + r),
            wall_ns=(round(ms * 1e6),), cpu_ns=round(ms * 1e6), involuntary_switches=0, steal_ticks=0,
        )
        for cell_id, ms in cells.items() if ms is not None for i in range(4) for r in range(10)
    )  # fmt: skip
    run = Run(
        path=Path(f"{name}.jsonl"),
        header={
            "campaign": name, "started": name, "device": "desktop-cpu", "machine": {"cpu": cpu, "cores": 2},
            "baseline": described[0]["id"], "cells": described,
        },
        sessions=tuple((one["id"], 0, READY) for one in described), blocks=blocks,
        failures=(), accuracies=(), end="precise",
    )  # fmt: skip
    return dataclasses.replace(run, **changes)


def accuracy(sha: str, runtime: str = "ort", *, data: str = "photos", n: int = 500, top1: float = 80.0) -> Accuracy:
    return Accuracy(
        sha256=sha, name="x", precision="fp32", runtime=runtime, data=data, n=n,
        top1=top1, top1_ci=(top1 - 3, top1 + 3), top5=95.0, top5_ci=(93.0, 97.0),
    )  # fmt: skip


def test_published_accuracy_stands_in_and_says_whose_it_is() -> None:
    run = campaign("1", {"a-ort": 10.0, "b-ort": 5.0}, [cell("a"), cell("b", precision="int8")])
    fp32, int8 = pareto_points([run], [])
    assert (fp32.accuracy, fp32.accuracy_kind, fp32.accuracy_source) == (72.0, "published", "arXiv:1801.04381 table 4")
    assert int8.accuracy_source == "arXiv:1801.04381 table 4, for FP32"
    assert (fp32.latency_ms, int8.latency_ms) == (pytest.approx(10), pytest.approx(5))
    assert fp32.contest == int8.contest


def test_a_published_checkpoint_has_its_own_figure_and_random_weights_are_said() -> None:
    pretrained = {"kind": "pretrained", "source": "file.pth", "published_top1": 72.15}
    described = [cell("a", weights=pretrained), cell("b", weights={"kind": "random", "seed": 0})]
    ours, drawn = pareto_points([campaign("1", {"a-ort": 10.0, "b-ort": 5.0}, described)], [])
    assert (ours.accuracy, ours.accuracy_source, ours.random_weights) == (72.15, "file.pth", False)
    assert (drawn.accuracy, drawn.random_weights) == (72.0, True)
    assert "trained network" in show([ours, drawn], "table") and "random weights" in caption([ours, drawn])
    assert "random" not in show([ours], "table") + caption([ours])


def test_an_evaluation_that_knew_the_pre_processing_goes_before_one_that_assumed_it() -> None:
    run = campaign("1", {"a-ort": 10.0}, [cell("a")])
    assumed = dataclasses.replace(accuracy("a", top1=68.0), assumed=("ImageNet mean",))
    assert pareto_points([run], [accuracy("a", top1=84.0), assumed])[0].accuracy == 84.0
    assert pareto_points([run], [assumed])[0].accuracy == 68.0


def test_a_checkpoint_at_another_size_has_no_published_accuracy_and_a_users_file_has_the_papers() -> None:
    elsewhere = {"kind": "pretrained", "source": "file.pth", "published_top1": None}
    described = [cell("a", weights=elsewhere), cell("b", weights={"kind": "file", "source": "mine.pth"})]
    other, mine = pareto_points([campaign("1", {"a-ort": 10.0, "b-ort": 5.0}, described)], [])
    assert other.accuracy is None
    assert mine.accuracy == 72.0 and "not of these weights" in mine.accuracy_source


def test_a_width_the_paper_does_not_print_has_no_accuracy() -> None:
    assert pareto_points([campaign("1", {"a-ort": 10.0}, [cell("a", network=ODD)])], [])[0].accuracy is None


def test_a_foreign_file_has_no_accuracy_whatever_its_name() -> None:
    foreign = cell("a", network=None)
    foreign["artifact"]["name"] = "mobilenet_v2"
    assert pareto_points([campaign("1", {"a-ort": 10.0}, [foreign])], [])[0].accuracy is None


def test_measured_accuracy_belongs_to_the_very_file_and_runtime() -> None:
    described = [cell("a"), cell("a", runtime="litert"), cell("b")]
    run = campaign("1", {"a-ort": 10.0, "a-litert": 9.0, "b-ort": 8.0}, described)
    points = pareto_points([run], [accuracy("a"), accuracy("elsewhere")])
    assert [p.accuracy_kind for p in points] == ["measured", "published", "published"]
    assert points[0].accuracy_source == "photos, n = 500"
    assert points[0].accuracy_ci == (77.0, 83.0)
    points = pareto_points([run], [accuracy("a", "litert")])
    assert [p.accuracy_kind for p in points] == ["published", "measured", "published"]


def test_the_user_chooses_which_accuracy_counts() -> None:
    run = campaign("1", {"a-ort": 10.0, "b-ort": 8.0}, [cell("a"), cell("b")])
    assert [p.accuracy for p in pareto_points([run], [accuracy("a")], "measured")] == [80.0, None]
    assert [p.accuracy for p in pareto_points([run], [accuracy("a")], "published")] == [72.0, 72.0]


def test_accuracies_on_the_images_most_models_share_are_taken() -> None:
    run = campaign("1", {"a-ort": 10.0, "b-ort": 8.0}, [cell("a"), cell("b")])
    few = [accuracy("a", n=100), accuracy("b", n=100)]
    assert {p.accuracy_set for p in pareto_points([run], [accuracy("a", n=5000), *few])} == {"photos, n = 100"}


def test_of_two_accuracies_on_the_same_images_the_later_counts() -> None:
    run = campaign("1", {"a-ort": 10.0}, [cell("a")])
    assert pareto_points([run], [accuracy("a", top1=70), accuracy("a", top1=71)])[0].accuracy == 71


def test_of_a_cell_timed_twice_the_newest_counts_and_a_failure_does_not() -> None:
    old = campaign("2026-01", {"a-ort": 10.0, "b-ort": 5.0, "c-ort": 3.0}, [cell("a"), cell("b"), cell("c")])
    new = campaign("2026-02", {"a-ort": 11.0, "b-ort": None}, [cell("a"), cell("b")])
    for order in ([old, new], [new, old]):
        points = pareto_points(order, [])
        assert {(p.artifact, round(p.latency_ms), p.campaign) for p in points} == {
            ("a", 11, "2026-02"), ("b", 5, "2026-01"), ("c", 3, "2026-01"),
        }  # fmt: skip


def test_a_newer_timing_without_an_interval_does_not_replace_one_that_has_it() -> None:
    old = campaign("2026-01", {"a-ort": 10.0, "b-ort": 5.0}, [cell("a"), cell("b")])
    whole = campaign("2026-02", {"a-ort": 11.0, "c-ort": 3.0}, [cell("a"), cell("c")])
    once = [block for block in whole.blocks if (block.incarnation, block.round) == (0, 0)]
    thin = dataclasses.replace(whole, blocks=tuple(once))
    points = pareto_points([old, thin], [])
    assert {(p.artifact, p.campaign, p.latency_ci_ms is None) for p in points} == {
        ("a", "2026-01", False), ("b", "2026-01", False), ("c", "2026-02", True),
    }  # fmt: skip


def test_another_machine_is_another_cell() -> None:
    runs = [campaign("1", {"a-ort": 10.0}, [cell("a")], cpu) for cpu in ("One", "Two")]
    assert {p.machine for p in pareto_points(runs, [])} == {"One, 2 cores", "Two, 2 cores"}


def test_a_file_timed_twice_in_one_campaign_stays_twice() -> None:
    again = cell("a") | {"id": "a-ort-2"}
    assert len(pareto_points([campaign("1", {"a-ort": 10.0, "a-ort-2": 10.0}, [cell("a"), again])], [])) == 2
