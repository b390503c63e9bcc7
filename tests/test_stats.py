"""Figures from blocks: exact on made-up numbers, honest where there are too few."""

import json
import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobench.records import Block
from mobench.stats import estimate, half_width, is_trending, log_interval, paired_ratio


def block(cell: str, incarnation: int, number: int, *wall_ns: int, cpu_ns: int | None = None) -> Block:
    return Block(
        cell=cell,
        incarnation=incarnation,
        round=number,
        position=0,
        phase="steady",
        t_s=0.0,
        wall_ns=wall_ns,
        cpu_ns=sum(wall_ns) if cpu_ns is None else cpu_ns,
        involuntary_switches=0,
        steal_ticks=0,
    )


def test_the_figure_is_the_geometric_mean_of_incarnation_medians() -> None:
    figure, interval = estimate([(0, 1.0), (0, 2.0), (0, 9.0), (1, 8.0), (2, 4.0)]) or (0, None)
    assert figure == pytest.approx(4.0)
    assert interval is not None and interval[0] < 4.0 < interval[1]


def test_a_t_interval_over_incarnations_has_the_textbook_width() -> None:
    logs = [0.0, 0.1, 0.2]  # mean 0.1, s = 0.1, t(2 df, 97.5 %) = 4.30265
    figure, interval = log_interval([math.exp(v) for v in logs], [])
    reach = 4.30265 * 0.1 / math.sqrt(3)
    assert figure == pytest.approx(math.exp(0.1))
    assert interval == pytest.approx((math.exp(0.1 - reach), math.exp(0.1 + reach)), rel=1e-4)


def test_one_incarnation_gives_the_order_statistics_of_the_median_or_nothing() -> None:
    assert log_interval([3.0], [1.0, 2.0, 3.0]) == (pytest.approx(3.0), None)
    values = [float(v) for v in range(1, 101)]
    _, interval = log_interval([median(values)], values)
    assert interval == (41.0, 61.0)


def test_what_slows_a_whole_round_cancels_in_the_ratio() -> None:
    rng = random.Random(1)
    a, b = [], []
    for incarnation in range(5):
        for number in range(20):
            speed = rng.choice([1.0, 1.5, 3.0])
            a.append(block("a", incarnation, number, round(10_000_000 * speed)))
            b.append(block("b", incarnation, number, round(12_000_000 * speed)))
    figure, interval = paired_ratio(b, a) or (0.0, None)
    assert figure == pytest.approx(1.2, rel=1e-6)
    assert half_width(figure, interval) < 1e-6


def test_a_round_that_one_cell_missed_takes_no_part_in_the_ratio() -> None:
    a = [block("a", 0, 0, 100), block("a", 0, 1, 100)]
    b = [block("b", 0, 0, 150), block("b", 0, 2, 900)]
    assert (paired_ratio(b, a) or (0, None))[0] == pytest.approx(1.5)


def test_no_common_round_is_no_ratio() -> None:
    assert paired_ratio([block("b", 0, 0, 150)], []) is None


def test_the_cpu_ratio_uses_cpu_time_an_inference() -> None:
    a = [block("a", 0, n, 100, 100, cpu_ns=100) for n in range(3)]
    b = [block("b", 0, n, 100, cpu_ns=100) for n in range(3)]
    assert (paired_ratio(b, a, cpu=True) or (0, None))[0] == pytest.approx(2.0)


def test_the_trend_test_rarely_fires_without_a_trend_and_always_on_a_fall() -> None:
    rng = random.Random(2)
    alarms = sum(is_trending([rng.random() for _ in range(8)]) for _ in range(4000))
    assert 0.015 < alarms / 4000 < 0.05
    assert is_trending([10 - i + rng.random() * 0.5 for i in range(8)])
    assert not is_trending([float(i) for i in range(8)])


def test_two_incarnations_give_a_figure_without_an_interval() -> None:
    assert log_interval([2.0, 8.0], [2.0, 2.0]) == (pytest.approx(4.0), None)


@given(st.lists(st.floats(0.1, 1e6), min_size=3, max_size=12))
def test_an_interval_holds_its_figure(values: list[float]) -> None:
    figure, interval = log_interval(values, [])
    assert interval is not None
    assert interval[0] <= figure * (1 + 1e-12) and figure <= interval[1] * (1 + 1e-12)
    assert json.loads(json.dumps(interval))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two-level noise as on real machines: processes differ by 1 %, rounds by 5 %; the true ratio is 1."""
    rng = random.Random(3)
    held = 0
    for _ in range(400):
        values = []
        for incarnation in range(5):
            process = rng.gauss(0, 0.01)
            values += [(incarnation, math.exp(process + rng.gauss(0, 0.05))) for _ in range(15)]
        _, interval = estimate(values) or (0, None)
        assert interval is not None
        held += interval[0] <= 1 <= interval[1]
    assert 0.92 <= held / 400 <= 0.98
