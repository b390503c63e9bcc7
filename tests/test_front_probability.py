"""P(front): exact where it can be worked out by hand, calibrated where the truth is simulated."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from scipy import stats
from test_pareto import campaign, cell, point, some_points

from mobench.accuracy import wilson
from mobench.front_draws import DRAWS, SAME_IMAGES, Draws, draw, trials
from mobench.front_probability import band, contests, hypervolume, knees, on_front, outlook
from mobench.pareto import Point, front, pareto_points
from mobench.stats import NO_SPEED, WRONG_OUTPUT, log_interval

NEAR = 3.5 * 0.5 / math.sqrt(DRAWS)  # of a share of DRAWS draws


def timed(label: str, accuracy: float, starts_ms: list[float], **changes: Any) -> Point:
    """Return a point as a campaign whose starts took these times gives it."""
    p50, ci = log_interval(starts_ms, [])
    fields = {"starts_ms": tuple(enumerate(starts_ms)), "latency_ci_ms": ci, "campaign": "c"}
    return point(p50, accuracy, label, **fields | changes)


def judged(label: str, latency: float, hits: int, n: int = 500, **changes: Any) -> Point:
    """Return a point of exact latency whose accuracy was measured."""
    fields = {"accuracy_kind": "measured", "accuracy_ci": wilson(hits, n), "accuracy_set": f"photos, n = {n}"}
    fields |= {"artifact": label, "latency_ci_ms": (latency, latency)}
    return point(latency, 100 * hits / n, label, **fields | changes)


def chances(*points: Point) -> list[float | None]:
    return list(outlook(points).on_front)


def test_of_two_equally_accurate_cells_of_one_campaign_the_probability_is_the_paired_t_test_s() -> None:
    a = [10.0, 11.0, 10.5, 12.0, 10.2]
    b = [10.3, 11.1, 10.9, 12.1, 10.1]
    found = chances(timed("a", 70, a), timed("b", 70, b))
    slower = stats.ttest_rel(np.log(b), np.log(a), alternative="less").pvalue
    assert found[1] == pytest.approx(1 - slower, abs=NEAR)
    assert found[0] == pytest.approx(slower, abs=NEAR)


def test_what_slows_all_cells_of_a_campaign_alike_says_nothing_of_which_is_faster() -> None:
    shared = [10.0, 14.0, 9.0, 12.0, 11.0]
    slower = [1.001 * ms for ms in shared]
    assert chances(timed("a", 70, shared), timed("b", 70, slower)) == [1.0, 0.0]
    apart = chances(timed("a", 70, shared), timed("b", 70, slower, campaign="another day"))
    assert apart[1] == pytest.approx(0.5, abs=0.05)


def test_without_starts_latency_is_log_normal_with_its_interval() -> None:
    a, b = point(10, 70, "a", latency_ci_ms=(9.0, 100 / 9)), point(10.5, 70, "b", latency_ci_ms=(9.5, 10.5**2 / 9.5))
    sd = math.hypot(math.log(10 / 9), math.log(10.5 / 9.5)) / 1.959964
    assert chances(a, b)[1] == pytest.approx(NormalDist().cdf(-math.log(1.05) / sd), abs=NEAR)


def test_the_same_file_at_two_counts_of_threads_shares_its_accuracy() -> None:
    one, two = judged("a", 10.0, 350, threads=1), judged("a", 6.0, 350, threads=2)
    assert chances(one, two) == [0.0, 1.0]


def test_two_networks_on_the_same_images_are_as_uncertain_as_their_paired_difference() -> None:
    fast, slow = judged("a", 5.0, 350), judged("b", 10.0, 356)
    variance = (0.7 * 0.3 + 0.712 * 0.288) / 500 - 2 * SAME_IMAGES * math.sqrt(0.7 * 0.3 * 0.712 * 0.288) / 500
    assert chances(fast, slow)[1] == pytest.approx(NormalDist().cdf(0.012 / math.sqrt(variance)), abs=NEAR)
    other = dataclasses.replace(slow, accuracy_set="others, n = 500")
    assert chances(fast, other) == [1.0, 1.0]  # never compared


def test_published_accuracies_are_exact() -> None:
    fast, slow = point(5.0, 70.0, "a"), point(10.0, 70.1, "b")
    assert chances(fast, slow) == [1.0, 1.0]


def test_a_measured_accuracy_is_drawn_from_its_binomial_s_posterior() -> None:
    drawn = draw([judged("a", 5.0, 350)]).accuracy[:, 0]
    expected = stats.beta(350.5, 150.5)
    assert drawn.mean() / 100 == pytest.approx(expected.mean(), abs=4 * expected.std() / math.sqrt(DRAWS))
    assert np.quantile(drawn, 0.975) / 100 == pytest.approx(expected.ppf(0.975), abs=0.003)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (20, 20), (442, 500), (7, 50_000)])
def test_the_number_of_images_is_read_off_the_interval(hits: int, n: int) -> None:
    assert trials(100 * hits / n, wilson(hits, n)) == pytest.approx(n)


@pytest.mark.parametrize("doubt", [WRONG_OUTPUT, NO_SPEED])
def test_what_was_wrong_where_it_was_timed_takes_no_part(doubt: str) -> None:
    wrong, slow = point(1.0, 90, "a", doubts=(doubt,)), point(10.0, 60, "b")
    assert chances(wrong, slow) == [None, 1.0]


def test_without_an_interval_of_latency_there_is_no_probability_but_a_part() -> None:
    assert chances(point(1.0, 70, "a", latency_ci_ms=None), point(10.0, 60, "b")) == [None, 0.0]


@given(some_points)
def test_each_draw_s_front_is_the_front_of_its_points(points: list[Point]) -> None:
    standings = front(points)
    for places in contests(points).values():
        members = [points[i] for i in places]
        latency = np.array([[p.latency_ms for p in members]])
        accuracy = np.array([[p.accuracy for p in members]], dtype=float)
        found = on_front(Draws(latency_ms=latency, accuracy=accuracy))[0]
        assert found.tolist() == [standings[i].on_front for i in places]


@given(some_points)
def test_the_order_of_the_points_changes_nothing(points: list[Point]) -> None:
    forth, back = outlook(points, draws=50), outlook(points[::-1], draws=50)
    assert forth.on_front == back.on_front[::-1]
    assert forth.fronts == {contest: back.fronts[contest] for contest in forth.fronts}


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    points = [timed("a", 70, [10.0, 11.0, 10.5]), timed("b", 70, [10.3, 10.8, 10.6])]
    assert outlook(points) == outlook(points)
    assert outlook(points).on_front != outlook(points, seed=1).on_front


def one_draw(*points: tuple[float, float]) -> Draws:
    return Draws(latency_ms=np.array([[p[0] for p in points]]), accuracy=np.array([[p[1] for p in points]]))


def test_the_hypervolume_is_the_area_between_front_and_reference() -> None:
    # From 1 to 2 ms ten points above 50, from 2 to 4 ms twenty; what is dominated or slower adds nothing.
    drawn = one_draw((2.0, 70.0), (1.0, 60.0), (3.0, 65.0), (9.0, 90.0))
    assert hypervolume(drawn, (4.0, 50.0)).tolist() == [50.0]
    assert hypervolume(drawn, (0.5, 50.0)).tolist() == [0.0]
    assert hypervolume(drawn, (4.0, 95.0)).tolist() == [0.0]


def test_the_hypervolume_has_an_interval_against_a_named_reference() -> None:
    points = [
        timed("a", 60, [1.0, 1.1, 0.9, 1.0]),
        timed("b", 70, [2.0, 2.1, 1.9, 2.0]),
        timed("c", 50, [4.0, 4, 4, 4]),
    ]
    (figures,) = outlook(points).fronts.values()
    assert figures.reference == (points[2].latency_ms, 50)
    low, high = figures.hypervolume_ci or (0, 0)
    assert low < (figures.hypervolume or 0) < high
    (given_one,) = outlook(points, reference=(10.0, 40.0)).fronts.values()
    a, b = points[0].latency_ms, points[1].latency_ms
    assert given_one.hypervolume == pytest.approx((b - a) * 20 + (10 - b) * 30)
    (alone,) = outlook(points[:1]).fronts.values()
    assert (alone.hypervolume, alone.knee) == (None, None)


def test_the_knee_is_farthest_from_the_line_between_the_ends() -> None:
    assert knees(one_draw((1.0, 60.0), (2.0, 70.0), (4.0, 72.0), (3.0, 50.0))).tolist() == [1]
    assert knees(one_draw((1.0, 60.0), (2.0, 61.0), (4.0, 72.0), (8.0, 73.0))).tolist() == [2]
    assert knees(one_draw((1.0, 60.0), (2.0, 70.0))).tolist() == [-1]


def test_the_knee_is_named_with_its_probability() -> None:
    points = [point(1.0, 60, "a"), point(2.0, 70, "b"), point(4.0, 72, "c")]
    (figures,) = outlook(points).fronts.values()
    assert (figures.size, figures.knee, figures.knee_probability) == (3, points[1], 1.0)


def test_the_band_holds_the_front_and_is_as_wide_as_the_accuracies_are_uncertain() -> None:
    low, high = band([judged("a", 5.0, 350)], [1.0, 6.0])
    assert low[0] == -math.inf
    assert 65 < low[1] < 67 and 73 < high[1] < 75


def test_few_images_pull_networks_together_and_many_do_not() -> None:
    few = [judged(f"n{i}", 2.0**i, hits, 100) for i, hits in enumerate((70, 60, 74, 66, 71, 62))]
    many = [judged(f"n{i}", 2.0**i, 1000 * hits, 100_000) for i, hits in enumerate((70, 60, 74, 66, 71, 62))]
    spread = [float(np.std(draw(points).accuracy.mean(axis=0))) for points in (few, many, few[:2])]
    assert spread[0] < 0.8 * float(np.std([p.accuracy for p in few]))
    assert spread[1] == pytest.approx(float(np.std([p.accuracy for p in many])), rel=0.02)
    # Through two networks there is a line: each stands for itself.
    assert spread[2] == pytest.approx(float(np.std([p.accuracy for p in few[:2]])), rel=0.05)


def of_noise(rng: np.random.Generator, label: str, noise: float, starts: int = 5) -> Point:
    return timed(label, 70, (10 * np.exp(rng.normal(0, noise, starts))).tolist())


def spreads(points: list[Point]) -> np.ndarray:
    """Standard deviation of each point's drawn latency about the campaign's, as a logarithm."""
    logs = np.log(draw(points).latency_ms)
    return np.asarray(np.std(logs - logs.mean(axis=1, keepdims=True), axis=0))


def test_a_cell_whose_few_starts_agree_by_luck_is_not_taken_for_exact_among_noisy_ones() -> None:
    rng = np.random.default_rng(1)
    noisy = [of_noise(rng, f"n{i}", 0.05) for i in range(20)]
    lucky = timed("lucky", 70, [10.0, 10.001, 9.999, 10.0, 10.0])
    found = spreads([*noisy, lucky])
    assert found[-1] > 0.2 * np.median(found[:-1])
    # Its own starts alone would have it: the others' noise is then not known.
    assert 10 * np.std([math.log(ms) for _, ms in lucky.starts_ms]) < found[-1]


def test_a_noisy_cell_stays_noisy_and_makes_no_other_noisy() -> None:
    rng = np.random.default_rng(2)
    quiet = [of_noise(rng, f"q{i}", 0.005, 8) for i in range(6)]
    loud = of_noise(rng, "loud", 0.2, 8)
    alone, beside = spreads(quiet), spreads([*quiet, loud])
    logs = np.log(draw([*quiet, loud]).latency_ms)
    assert np.std(logs[:, 0] - logs[:, 1]) < 2 * math.sqrt(2) * np.median(alone)
    assert beside[-1] > 0.5 * 0.2 / math.sqrt(8)


def test_cells_that_missed_a_start_are_drawn_all_the_same() -> None:
    rng = np.random.default_rng(3)
    points = [of_noise(rng, f"n{i}", 0.01) for i in range(6)]
    points[0] = dataclasses.replace(points[0], starts_ms=points[0].starts_ms[:3])
    points[1] = dataclasses.replace(points[1], starts_ms=points[1].starts_ms[2:])
    found = spreads(points)
    assert np.isfinite(found).all() and found.min() > 0.001 and found.max() < 0.05


def test_what_int8_costs_every_network_is_known_better_than_of_one() -> None:
    def pair(i: int) -> list[Point]:
        fp32 = judged(f"n{i}", 10.0 + i, 360, artifact=f"n{i}-fp32")
        return [fp32, judged(f"n{i}", 6.0 + i, 356, artifact=f"n{i}-int8", precision="int8")]

    def p_loses(points: list[Point]) -> float:
        accuracy = draw(points).accuracy
        return float(np.mean(accuracy[:, 0] > accuracy[:, 1]))

    one, twelve = pair(0), [point for i in range(12) for point in pair(i)]
    assert 0.7 < p_loses(one) < 0.9 < p_loses(twelve)


def test_of_the_points_said_to_be_on_the_front_with_p_as_many_are() -> None:
    """Eight starts, 20 % of noise; accuracies exact. A share of 200 points is known to 3.5 points."""
    rng = np.random.default_rng(7)
    said, true = [], []
    for _ in range(300):
        real = [point(float(np.exp(rng.uniform(0, 1.2))), float(rng.uniform(60, 75)), f"n{i}") for i in range(10)]
        shared = rng.normal(0, 0.1, 8)
        seen = [
            timed(p.label, p.accuracy or 0.0, (p.latency_ms * np.exp(shared + rng.normal(0, 0.2, 8))).tolist())
            for p in real
        ]
        said += [p or 0.0 for p in outlook(seen, draws=400).on_front]
        true += [bool(standing.on_front) for standing in front(real)]
    p, is_on = np.array(said), np.array(true)
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.01)):
        inside = (p >= low) & (p < high)
        assert np.count_nonzero(inside) > 150
        assert abs(p[inside].mean() - is_on[inside].mean()) < 0.06


def test_points_of_campaigns_carry_the_median_of_each_start() -> None:
    run = campaign("1", {"a-ort": 10.0}, [cell("a")])
    (found,) = pareto_points([run], [])
    assert found.starts_ms == tuple((i, 10.0) for i in range(4))
    assert found.device == "desktop-cpu"
