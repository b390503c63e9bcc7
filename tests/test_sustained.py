"""Sustained load: minutes, throttling with its signs, and a ranking that turns round, on campaigns of known truth."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobench.errors import BadInputError
from mobench.over_time import sustained
from mobench.records import Block, Cluster, DeviceState, Run
from mobench.report.sustained import (
    RANKING_COLUMNS,
    ranking_rows,
    series_table,
    show,
    sustained_figure,
    sustained_plot,
)
from mobench.report.tables import render

CELLS = {"a.onnx": 10.0, "b.onnx": 11.0, "c.tflite": 6.0}  # ms


def steady(cell: str, t_s: float) -> float:
    return 1.0


def load(
    seed: int = 0,
    speed: Callable[[str, float], float] = steady,
    *,
    seconds: float = 300.0,
    cells: dict[str, float] = CELLS,
    states: tuple[DeviceState, ...] = (),
    noise: float = 0.01,
) -> Run:
    """A load of one start that begins 2 s into the campaign: rounds of 0.25 s, common noise with a memory of 1 s."""
    rng = np.random.default_rng(seed)
    blocks, common = [], 0.0
    for number in range(round(seconds / 0.25)):
        common = 0.7 * common + rng.normal(0, noise)
        t_s = number * 0.25
        for position, cell in enumerate(cells):
            figure = math.exp(common + rng.normal(0, 0.01)) * speed(cell, t_s)
            wall_ns = round(cells[cell] * 1e6 * figure)
            blocks.append(
                Block(
                    cell=cell, incarnation=0, round=number, position=position, phase="steady",
                    t_s=2.0 + t_s + 0.05 * position, wall_ns=(wall_ns,), cpu_ns=wall_ns, involuntary_switches=0,
                    steal_ticks=0,
                )
            )  # fmt: skip
    return Run(
        path=Path("fake.jsonl"),
        header={
            "campaign": "fake", "baseline": "a.onnx", "settings": {"sustain_s": seconds},
            "cells": [{"id": cell} for cell in cells],
        },
        sessions=(), blocks=tuple(blocks), failures=(), accuracies=(), end="sustained", states=states,
    )  # fmt: skip


def state(t_s: float, *, khz: int = 2_000_000, temp_c: float = 50.0, others: float = 0.01) -> DeviceState:
    return DeviceState(
        when="during",
        t_s=t_s,
        clusters=(Cluster(cores=(0, 1), freq_khz=khz, cap_khz=2_000_000, max_khz=2_000_000),),
        temps_c={"cpu": temp_c, "skin": 30.0},
        others_share=others,
    )


def throttled(cell: str, t_s: float) -> float:
    return 1.3 if t_s >= 180 else 1.0


def test_a_minute_is_the_mean_of_its_slices_and_its_interval_holds_the_truth() -> None:
    held, count = 0, 0
    for seed in range(40):
        found = sustained.series(load(seed, seconds=120.0))
        for minute in found.minutes:
            assert minute.p50_ci_ms is not None
            held += minute.p50_ci_ms[0] <= CELLS[minute.cell] <= minute.p50_ci_ms[1]
            count += 1
    # Cells of one campaign share its noise, so these are fewer independent trials than they look.
    assert count == 40 * 6 and 0.86 <= held / count <= 0.995


def test_a_minute_s_figure_and_its_quotient_are_exact_without_noise() -> None:
    def slower_each_minute(cell: str, t_s: float) -> float:
        return 1.0 + 0.01 * (t_s // 60)

    (one,) = {"only.onnx"}
    run = load(0, slower_each_minute, cells={one: 10.0}, seconds=200.0, noise=0.0)
    minutes = sustained.series(run).of(one)
    assert [minute.minute for minute in minutes] == [1, 2, 3]  # the 20 s at the end are too short
    assert minutes[2].to_first == pytest.approx(1.02, abs=0.002)
    assert minutes[2].to_first_ci is not None
    assert minutes[2].to_first_ci[0] < 1.02 < minutes[2].to_first_ci[1]
    assert [minute.n_blocks for minute in minutes] == [240, 240, 240]
    assert minutes[0].to_first == 1.0 and minutes[0].to_first_ci is None


def test_half_a_minute_at_the_end_counts() -> None:
    assert max(m.minute for m in sustained.series(load(seconds=155.0)).minutes) == 3
    assert max(m.minute for m in sustained.series(load(seconds=145.0)).minutes) == 2
    assert max(m.minute for m in sustained.series(load(seconds=20.0)).minutes) == 1


def test_throttling_is_found_with_its_time_its_size_and_what_the_machine_says() -> None:
    states = tuple(
        state(t, khz=2_000_000 if t < 182 else 1_400_000, temp_c=50 + min(t, 180) / 6) for t in range(12, 300, 10)
    )
    found = sustained.series(load(1, throttled, states=states))
    slow = found.slowdown
    assert slow is not None
    assert slow.t_s == pytest.approx(180, abs=4)
    assert slow.factor_ci is not None and slow.factor_ci[0] < 1.3 < slow.factor_ci[1]
    assert slow.factor == pytest.approx(1.3, abs=0.03)
    assert slow.cause == "throttling"
    assert "the clock of core 0-1 fell from 2,000 to 1,400 MHz" in slow.signs
    assert any(sign.startswith("cpu rose from 52 to 80") for sign in slow.signs)
    told = sustained.lines(found)[0]
    assert told.startswith(f"from {sustained.clock(slow.t_s)} to the end the machine was ") and "it throttled" in told


def test_a_slowdown_by_others_is_not_called_throttling() -> None:
    states = tuple(state(t, others=0.02 if t < 182 else 0.45, temp_c=50 + t / 10) for t in range(12, 300, 10))
    slow = sustained.series(load(2, throttled, states=states)).slowdown
    assert slow is not None and slow.cause == "others"
    assert "other programs took 2% of the CPU before, 45% after" in slow.signs


def test_without_states_the_cause_is_unknown() -> None:
    found = sustained.series(load(3, throttled))
    assert found.slowdown is not None
    assert (found.slowdown.cause, found.slowdown.signs) == ("unknown", ())


def test_gradual_throttling_is_found_too() -> None:
    slow = sustained.series(load(4, lambda cell, t_s: 1 + 0.25 * t_s / 300)).slowdown
    assert slow is not None and 30 <= slow.t_s <= 150


def test_a_slowdown_that_passes_or_is_one_cell_s_or_is_small_is_no_throttling() -> None:
    def passing(cell: str, t_s: float) -> float:
        return 1.3 if 90 <= t_s < 180 else 1.0

    def alone(cell: str, t_s: float) -> float:
        return throttled(cell, t_s) if cell == "b.onnx" else 1.0

    for speed in (passing, alone, lambda cell, t_s: 1.03 if t_s > 60 else 1.0):
        assert sustained.series(load(5, speed)).slowdown is None


def test_stationary_load_is_not_called_throttled() -> None:
    found = [sustained.series(load(seed, noise=(0.005, 0.02, 0.04)[seed % 3])) for seed in range(60)]
    assert sum(one.slowdown is not None for one in found) <= 2
    assert sustained.lines(found[0]) == ["no lasting slowdown of the machine beyond 5%"]


def test_a_ranking_that_turns_round_is_shown_beyond_noise() -> None:
    """a is 10 % faster than b at first; hot, it loses 40 % and b only 10 %."""
    loss = {"a.onnx": 1.4, "b.onnx": 1.1, "c.tflite": 1.2}
    found = sustained.series(load(6, lambda cell, t_s: loss[cell] if t_s >= 150 else 1.0))
    (swap,) = found.swaps
    assert (swap.overtaken, swap.other, swap.is_certain) == ("a.onnx", "b.onnx", True)
    assert swap.first == pytest.approx(10 / 11, rel=0.01)
    assert swap.last == pytest.approx(14 / 12.1, rel=0.01)
    assert any(line.startswith("b.onnx overtook a.onnx (beyond noise)") for line in sustained.lines(found))
    rows = ranking_rows(found)
    assert [(row["cell"], row["first_rank"], row["last_rank"]) for row in rows] == [
        ("c.tflite", 1, 1), ("a.onnx", 2, 3), ("b.onnx", 3, 2),
    ]  # fmt: skip
    assert rows[1]["overtaken_by"] == "b.onnx"


def test_a_swap_of_equals_is_within_noise() -> None:
    swaps = [swap for seed in range(20) for swap in sustained.series(
        load(seed, cells={"a.onnx": 10.0, "b.onnx": 10.0}, seconds=120.0)
    ).swaps]  # fmt: skip
    assert swaps  # of equal cells about half change places
    assert sum(swap.is_certain for swap in swaps) <= 1


def test_a_cell_that_died_has_the_minutes_it_lived(tmp_path: Path) -> None:
    run = load(7, seconds=180.0)
    blocks = tuple(b for b in run.blocks if b.cell != "b.onnx" or b.t_s < 100)
    found = sustained.series(Run(**{**{f: getattr(run, f) for f in run.__slots__}, "blocks": blocks}))
    assert [minute.minute for minute in found.of("b.onnx")] == [1, 2]
    assert "b.onnx ended early" in show(found)
    assert {row["cell"]: row["last_rank"] for row in ranking_rows(found)} == {
        "a.onnx": 2, "b.onnx": None, "c.tflite": 1,
    }  # fmt: skip
    sustained_plot(found, tmp_path / "died.svg")


def test_the_tables_have_the_first_the_last_and_no_more_minutes_than_fit() -> None:
    found = sustained.series(load(8, seconds=1200.0, cells={"a.onnx": 10.0}, noise=0.0))
    columns, rows = series_table(found)
    assert [column.title for column in columns][:3] == ["model", "minute 1, ms", "3, %"]
    assert columns[-1].title == "20, %" and len(columns) == 10
    assert rows[0]["first_ms"] == pytest.approx(10, rel=0.01)
    assert "of 20 minutes 9 are shown" in show(found)
    assert "last minute ms [95 %]" in render(RANKING_COLUMNS, ranking_rows(found), "md")


def test_the_record_is_json() -> None:
    fields = json.loads(json.dumps(sustained.as_fields(sustained.series(load(9, throttled))), allow_nan=False))
    assert fields["slowdown"]["factor"] == pytest.approx(1.3, abs=0.03)
    assert len(fields["minutes"]) == 15 and len(fields["slices"]) == 90


def test_another_campaign_is_refused() -> None:
    run = load(10, seconds=30.0)
    other = Run(**{**{f: getattr(run, f) for f in run.__slots__}, "header": {"campaign": "x", "settings": {}}})
    assert not sustained.is_sustained(other)
    with pytest.raises(BadInputError, match="x is no sustained load"):
        sustained.series(other)
    empty = Run(**{**{f: getattr(run, f) for f in run.__slots__}, "blocks": ()})
    with pytest.raises(BadInputError, match="no round was timed"):
        sustained.series(empty)


def test_the_plot_names_every_line_apart_and_is_the_same_each_time(tmp_path: Path) -> None:
    cells = {f"network_{number}-fp32.onnx": 5.0 + number for number in range(9)}
    found = sustained.series(load(11, throttled, cells=cells))
    figure = sustained_figure(found, title="ten minutes")
    labels = [text for text in figure.axes[0].texts if text.get_gid() == "label"]
    assert {label.get_text() for label in labels} == set(cells)
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    for name in ("one.svg", "two.svg"):
        sustained_plot(found, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    with pytest.raises(BadInputError, match="name it"):
        sustained_plot(found, tmp_path / "plot.bmp")
