"""Changes of the machine's speed: found where they are, nowhere else, and shown to cancel."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobench.over_time import change_points, drift, pace
from mobench.records import Block, Run

Speed = Callable[[str, float], float]  # a cell's latency at a time, over its usual one

CELLS = {"a": 10.0, "b": 6.0, "c": 14.0, "d": 8.0}  # ms


def steady(cell: str, t_s: float) -> float:
    return 1.0


def bursts(rng: np.random.Generator, count: int, noise: float) -> np.ndarray:
    """Logarithms of a virtual machine's common speed a round: correlated noise, and bursts of up to 20 rounds."""
    values = np.zeros(count)
    for index in range(1, count):
        values[index] = 0.7 * values[index - 1] + rng.normal(0, noise)
    for _ in range(rng.poisson(count / 100)):
        start = int(rng.integers(count))
        values[start : start + int(rng.integers(1, 20))] += rng.exponential(10 * noise)
    return values


def campaign(
    seed: int,
    speed: Speed = steady,
    *,
    cells: dict[str, float] = CELLS,
    starts: int = 6,
    seconds: float = 10.0,
    noise: float = 0.01,
    luck: float = 0.005,
) -> Run:
    """A campaign of rounds of 0.1 s: common noise, 1 % of each block's own, and each process's luck for life."""
    rng = np.random.default_rng(seed)
    rounds = round(seconds / 0.1)
    blocks = []
    for incarnation in range(starts):
        lucky = {cell: rng.normal(0, luck) for cell in cells}
        for number, common in enumerate(bursts(rng, rounds, noise)):
            t_s = incarnation * (seconds + 1) + number * 0.1
            for position, cell in enumerate(rng.permutation(list(cells))):
                figure = math.exp(lucky[cell] + common + rng.normal(0, 0.01)) * speed(cell, t_s)
                wall_ns = round(cells[cell] * 1e6 * figure)
                blocks.append(
                    Block(
                        cell=str(cell), incarnation=incarnation, round=number, position=position, phase="steady",
                        t_s=t_s + position * 0.02, wall_ns=(wall_ns,), cpu_ns=wall_ns, involuntary_switches=0,
                        steal_ticks=0,
                    )
                )  # fmt: skip
    header = {"baseline": next(iter(cells))}
    return Run(
        path=Path("fake"), header=header, sessions=(), blocks=tuple(blocks), failures=(), accuracies=(), end="budget"
    )


def test_a_step_that_hits_all_cells_is_found_measured_and_shown_to_cancel() -> None:
    found = drift.find(campaign(1, lambda cell, t_s: 1.12 if t_s >= 30 else 1.0))
    (change,) = found.changes
    assert change.kind == "step"
    assert change.t_s == pytest.approx(30, abs=2)
    assert change.factor_ci is not None and change.factor_ci[0] < 1.12 < change.factor_ci[1]
    assert change.factor == pytest.approx(1.12, abs=0.03)
    assert (change.followed, change.cells) == (4, 4)
    assert {shift.cell for shift in change.ratios} == {"b", "c", "d"}
    assert change.cancels is True
    assert change.worst is not None and change.worst.bound is not None
    assert change.worst.bound[0] <= 1 <= change.worst.bound[1]
    (line,) = drift.lines(found)
    assert line.startswith(f"at about {change.t_s:.0f} s the machine became 1") and "slower" in line
    assert "it cancels in the ratios" in line and f"{change.worst.cell}'s to a: " in line


def test_a_passing_change_is_two_steps_there_and_back() -> None:
    found = drift.find(campaign(2, lambda cell, t_s: 0.8 if 20 <= t_s < 32 else 1.0))
    assert [change.factor < 1 for change in found.changes] == [True, False]
    assert [change.t_s for change in found.changes] == [pytest.approx(20, abs=2), pytest.approx(32, abs=2)]


def test_five_percent_for_six_seconds_is_found_on_a_quiet_machine() -> None:
    hits = 0
    for seed in range(20):
        run = campaign(seed, lambda cell, t_s: 1.05 if 23.5 <= t_s < 29.5 else 1.0, noise=0.002)
        hits += [round(change.t_s / 3) for change in drift.find(run).changes] == [8, 10]
    assert hits >= 18


def test_slow_heating_is_one_trend() -> None:
    found = drift.find(campaign(3, lambda cell, t_s: 1 + 0.10 * t_s / 66))
    (change,) = found.changes
    assert change.kind == "trend"
    assert change.factor_ci is not None and change.factor_ci[0] < 1.10 < change.factor_ci[1]
    assert change.cancels is True
    assert "became steadily" in drift.lines(found)[0]


def test_stationary_noise_is_left_alone() -> None:
    """At most 2 % of campaigns; 150 seeds with 7 alarms would be as rare as 1 in 100 at that rate."""
    runs = [campaign(seed, noise=(0.005, 0.01, 0.03)[seed % 3], starts=4) for seed in range(150)]
    assert sum(drift.find(run).verdict == "changed" for run in runs) <= 6
    assert sum(bool(drift.moved(run.blocks)) for run in runs) <= 6


def test_a_single_cell_s_luck_from_start_to_start_is_no_change_of_the_machine() -> None:
    runs = [campaign(seed, cells={"a": 10.0}, luck=0.0075, starts=6, seconds=6.0) for seed in range(60)]
    assert sum(drift.find(run).verdict == "changed" for run in runs) <= 4


@pytest.mark.parametrize("cells", [CELLS, {"a": 10.0, "c": 14.0, "b": 7.0}])
def test_one_cell_that_drifts_is_named_and_the_machine_is_not(cells: dict[str, float]) -> None:
    run = campaign(4, lambda cell, t_s: 1 + 0.3 * t_s / 66 if cell == "c" else 1.0, cells=cells)
    assert drift.find(run).verdict == "steady"
    assert list(moved := drift.moved(run.blocks)) == ["c"]
    assert moved["c"] == pytest.approx(0.2, abs=0.04)  # of 0.3, from third to third


def test_of_two_cells_the_one_is_named_that_changed_itself() -> None:
    run = campaign(5, lambda cell, t_s: 1.2 if cell == "b" and t_s > 33 else 1.0, cells={"a": 10.0, "b": 6.0})
    assert drift.find(run).verdict == "steady"
    assert list(drift.moved(run.blocks)) == ["b"]


def test_a_change_that_one_cell_does_not_share_is_said_not_to_cancel() -> None:
    run = campaign(6, lambda cell, t_s: 1.3 if t_s >= 30 and cell != "d" else 1.0)
    found = drift.find(run)
    (change,) = found.changes
    assert (change.followed, change.cells) == (3, 4)
    assert change.cancels is False
    assert change.worst is not None and change.worst.cell == "d"
    assert change.worst.quotient == pytest.approx(1 / 1.3, abs=0.03)
    assert "it does not cancel: d's ratio to a changed by -2" in drift.lines(found)[0]
    assert list(drift.moved(run.blocks)) == ["d"]


def test_a_change_common_to_all_is_no_cell_s_doubt() -> None:
    run = campaign(7, lambda cell, t_s: 1.3 if t_s >= 30 else 1.0)
    assert drift.moved(run.blocks) == {}


def test_cells_that_memory_keeps_apart_are_followed_together() -> None:
    """The baseline is in every start, b and c only in the even ones, d only in the odd ones."""
    run = campaign(8, lambda cell, t_s: 1.15 if t_s >= 33 else 1.0, starts=8)
    kept = tuple(b for b in run.blocks if b.cell == "a" or (b.cell == "d") == (b.incarnation % 2 == 1))
    (change,) = drift.find(replace(run, blocks=kept)).changes
    assert change.t_s == pytest.approx(33, abs=2)
    assert change.factor == pytest.approx(1.15, abs=0.03)
    assert change.cells == 4 and change.cancels is True


def test_what_is_too_short_says_so_and_finds_nothing() -> None:
    assert drift.find(campaign(9, starts=1, seconds=3.0)).verdict == "too short"
    assert drift.find(replace(campaign(9), blocks=())).verdict == "too short"
    assert drift.moved(()) == {}


def test_a_short_campaign_compares_its_thirds() -> None:
    halfway = drift.find(campaign(10, lambda cell, t_s: 1.3 if t_s >= 9 else 1.0, starts=5, seconds=3.0))
    assert [change.kind for change in halfway.changes] == ["trend"]
    runs = [campaign(seed, starts=5, seconds=3.0) for seed in range(60)]
    assert sum(drift.find(run).verdict == "changed" for run in runs) <= 4


def test_the_pace_of_every_window_is_in_the_record_and_json_takes_it() -> None:
    found = drift.find(campaign(11, lambda cell, t_s: 1.5 if t_s >= 33 else 1.0))
    fields = json.loads(json.dumps(drift.as_fields(found), allow_nan=False))
    assert len(fields["windows"]) == pytest.approx(60, abs=6)
    late = [window["pace"] for window in fields["windows"] if window["t_s"] > 34]
    early = [window["pace"] for window in fields["windows"] if window["t_s"] < 32]
    assert np.median(late) / np.median(early) == pytest.approx(1.5, rel=0.03)
    assert fields["changes"][0]["cancels"] is True and fields["changes"][0]["worst"] in CELLS


def test_windows_are_whole_rounds_of_one_start_about_a_second_long() -> None:
    figures = pace.read(campaign(12, starts=2, seconds=5.0).blocks, "a")
    assert figures is not None
    assert set(figures.rounds) <= {9, 10, 11, 12, 13}
    assert sum(figures.rounds) == 100
    assert list(figures.incarnations) == sorted(figures.incarnations)


def test_a_series_without_any_noise_has_exactly_its_steps() -> None:
    values = np.concatenate([np.zeros(20), np.full(15, 0.1), np.full(20, 0.04)])
    assert change_points.find(values, 0.02) == [20, 35]
    assert change_points.find(values, 0.12) == []
    assert change_points.find(np.zeros(50), 0.02) == []


def test_a_burst_of_three_values_is_no_change_and_one_of_six_is() -> None:
    rng = np.random.default_rng(13)
    for length, expected in ((3, 0), (6, 2)):
        values = rng.normal(0, 0.01, 60)
        values[30 : 30 + length] += 0.5
        assert len(change_points.find(values, 0.02)) == expected


def test_the_contrast_s_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Six groups with a common offset each, the change at the boundary in the middle, or inside a group."""
    rng = np.random.default_rng(14)
    groups = np.repeat(np.arange(6), 5)
    for after in (groups >= 3, np.arange(30) >= 18):
        held = 0
        for _ in range(400):
            values = rng.normal(0, 0.02, 6)[groups] + rng.normal(0, 0.02, 30) + 0.1 * after
            _, interval = change_points.contrast(values, list(groups), after)
            assert interval is not None
            held += interval[0] <= 0.1 <= interval[1]
        assert 0.92 <= held / 400 <= 0.99


def test_one_group_on_each_side_gives_no_interval() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.3])
    difference, interval = change_points.contrast(values, [0, 0, 1, 1], np.array([False, False, True, True]))
    assert difference == pytest.approx(0.2) and interval is None
