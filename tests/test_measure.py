"""The campaign on scripted sessions and a clock of its own: exact numbers, and nothing lost to a fault."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mobench import store
from mobench.errors import MobenchError, SessionError
from mobench.measure import Campaign, Settings
from mobench.plan import choose_baseline, make_cells
from mobench.records import Artifact, Cell, Run, Target
from mobench.stats import summarize
from runners.fake import FakeClock, FakeSession, replay


def artifact(name: str) -> Artifact:
    return Artifact(path=Path(name), sha256=name, size_bytes=1, format="tflite", name=Path(name).stem)


def cells(*names: str) -> tuple[Cell, ...]:
    return make_cells([artifact(name) for name in names], [Target(runtime="litert")])


def constant(latency_ns: int) -> Callable[[], int]:
    return replay(itertools.repeat(latency_ns))


def run(
    tmp_path: Path,
    latencies: dict[str, Callable[[], int]],
    *,
    budget_s: float = 20.0,
    fault: dict[str, Callable[[], bool]] | None = None,
    refuse: str = "",
) -> tuple[Run, list[FakeSession]]:
    clock, opened = FakeClock(), []
    swept = cells(*latencies)

    def open_session(cell: Cell) -> FakeSession:
        if cell.id == refuse:
            raise SessionError(cell.id, "it does not load", "try another")
        session = FakeSession(cell, clock, latencies[cell.id], (fault or {}).get(cell.id, lambda: False))
        opened.append(session)
        return session

    path = tmp_path / "campaign.jsonl"
    with store.Journal(path) as journal:
        campaign = Campaign(
            swept,
            swept[0].id,
            Settings(budget_s=budget_s, seed=7),
            journal,
            open_session=open_session,
            clock=clock,
        )
        campaign.run({"cpu": "fake", "cores": 1}, dict)
    return store.read(path), opened


def test_exact_latencies_come_out_exactly_and_end_early(tmp_path: Path) -> None:
    result, opened = run(tmp_path, {"a.tflite": constant(10_000_000), "b.tflite": constant(7_000_000)})
    a, b = summarize(result)
    assert (a.p50_ms, b.p50_ms) == (pytest.approx(10.0), pytest.approx(7.0))
    assert (a.ratio, b.ratio) == (pytest.approx(1.0), pytest.approx(0.7))
    assert a.ratio_ci is None and b.ratio_ci == pytest.approx((0.7, 0.7))
    assert (b.init_ms, b.first_ms, b.peak_rss_mb) == (150.0, pytest.approx(14.0), 60.0)
    assert result.end == "precise"
    assert b.incarnations == 5 and not b.doubts
    assert all(session.closed for session in opened)


def test_every_round_visits_every_cell_once_in_changing_order(tmp_path: Path) -> None:
    names = {f"{n}.tflite": constant(9_000_000) for n in "abcd"}
    result, _ = run(tmp_path, names)
    rounds: dict[tuple[int, int], list[str]] = {}
    for block in result.blocks:
        if block.phase == "steady":
            rounds.setdefault((block.incarnation, block.round), []).append(block.cell)
    assert all(sorted(order) == sorted(names) for order in rounds.values())
    assert len({tuple(order) for order in rounds.values()}) > 5


def test_a_block_is_about_five_milliseconds_of_a_small_net_and_one_inference_of_a_large_one(tmp_path: Path) -> None:
    result, _ = run(tmp_path, {"small.tflite": constant(40_000), "large.tflite": constant(80_000_000)})
    sizes = {block.cell: len(block.wall_ns) for block in result.blocks if block.phase == "steady"}
    assert sizes == {"small.tflite": 125, "large.tflite": 1}


def test_warm_up_goes_on_while_latency_falls_and_is_kept_apart(tmp_path: Path) -> None:
    latencies = itertools.chain(range(30_000_000, 10_000_000, -1_000_000), itertools.repeat(10_000_000))
    result, _ = run(tmp_path, {"a.tflite": replay(latencies)})
    warmup = [block for block in result.blocks if block.phase == "warmup" and block.incarnation == 0]
    assert len(warmup) > 15
    assert all(b.wall_ns == (10_000_000,) for b in result.blocks if b.phase == "steady")
    assert "UNSTEADY" not in [doubt.name for doubt in summarize(result)[0].doubts]


def test_latency_that_never_settles_is_a_doubt_with_its_mend(tmp_path: Path) -> None:
    falling = (round(30_000_000 * 0.999**n) for n in itertools.count())
    result, _ = run(tmp_path, {"a.tflite": replay(falling)})
    doubts = {doubt.name: doubt for doubt in summarize(result)[0].doubts}
    assert {"UNSTEADY", "DRIFT"} <= set(doubts)
    assert doubts["UNSTEADY"].mend


def test_a_noisy_cell_uses_its_budget_and_says_how_wide_its_interval_is(tmp_path: Path) -> None:
    rng = random.Random(5)
    noisy = (round(10_000_000 * rng.lognormvariate(0, 0.5)) for _ in itertools.count())
    result, _ = run(tmp_path, {"a.tflite": constant(10_000_000), "b.tflite": replay(noisy)}, budget_s=6.0)
    _, b = summarize(result)
    assert result.end == "budget"
    assert "NOISY" in [doubt.name for doubt in b.doubts]
    assert b.ratio_ci is not None and b.ratio_ci[0] < 1 < b.ratio_ci[1]


def test_a_model_that_does_not_load_is_a_failure_and_the_rest_goes_on(tmp_path: Path) -> None:
    latencies = {"a.tflite": constant(10_000_000), "bad.tflite": constant(1)}
    result, _ = run(tmp_path, latencies, refuse="bad.tflite")
    a, bad = summarize(result)
    assert a.p50_ms == pytest.approx(10.0)
    assert bad.p50_ms is None and bad.failure == "bad.tflite: it does not load"
    assert [failure.mend for failure in result.failures] == ["try another"]


def test_a_session_that_dies_once_comes_back_in_the_next_incarnation(tmp_path: Path) -> None:
    deaths = itertools.chain([False] * 30, [True], itertools.repeat(False))
    result, opened = run(
        tmp_path,
        {"a.tflite": constant(10_000_000), "b.tflite": constant(10_000_000)},
        fault={"b.tflite": lambda: next(deaths)},
    )
    _, b = summarize(result)
    assert len(result.failures) == 1 and b.failure
    assert b.p50_ms == pytest.approx(10.0) and b.incarnations >= 3
    assert all(session.closed for session in opened)


def test_a_session_that_dies_twice_is_given_up(tmp_path: Path) -> None:
    result, opened = run(
        tmp_path,
        {"a.tflite": constant(10_000_000), "b.tflite": constant(10_000_000)},
        fault={"b.tflite": lambda: True},
    )
    assert len(result.failures) == 2
    assert len([session for session in opened if session.cell.id == "b.tflite"]) == 2
    assert summarize(result)[0].p50_ms == pytest.approx(10.0)


def test_one_death_of_the_only_session_does_not_end_the_campaign(tmp_path: Path) -> None:
    deaths = itertools.chain([True], itertools.repeat(False))
    result, _ = run(tmp_path, {"a.tflite": constant(10_000_000)}, fault={"a.tflite": lambda: next(deaths)})
    assert result.end == "precise" and len(result.failures) == 1
    assert summarize(result)[0].incarnations == 5


def test_precise_means_that_every_cell_has_its_incarnations(tmp_path: Path) -> None:
    """A cell that sat out two starts is not called precise on the three it has."""
    deaths = itertools.chain([False] * 30, [True], itertools.repeat(False))
    result, _ = run(
        tmp_path,
        {"a.tflite": constant(10_000_000), "b.tflite": constant(10_000_000)},
        fault={"b.tflite": lambda: next(deaths)},
    )
    assert result.end == "precise"
    assert summarize(result)[1].incarnations >= 5


def test_a_slow_network_is_not_called_unsteady_for_its_few_warm_up_blocks(tmp_path: Path) -> None:
    result, _ = run(tmp_path, {"a.tflite": constant(300_000_000)}, budget_s=60.0)
    assert "UNSTEADY" not in [doubt.name for doubt in summarize(result)[0].doubts]


def test_a_ratio_wider_than_asked_is_a_doubt(tmp_path: Path) -> None:
    """Processes that differ for life: p50 may be narrow enough while the ratio is not."""
    rng = random.Random(11)

    def lives() -> Callable[[], int]:
        state = {"left": 0, "latency": 10_000_000}

        def latency() -> int:
            if state["left"] == 0:
                state.update(left=40, latency=round(10_000_000 * rng.gauss(1, 0.02)))
            state["left"] -= 1
            return state["latency"]

        return latency

    result, _ = run(tmp_path, {"a.tflite": constant(10_000_000), "b.tflite": lives()}, budget_s=8.0)
    doubts = {doubt.name: doubt.why for doubt in summarize(result)[1].doubts}
    assert "the ratio is known to" in doubts["NOISY"]


def test_nothing_left_to_time_ends_the_campaign(tmp_path: Path) -> None:
    result, _ = run(tmp_path, {"a.tflite": constant(1)}, fault={"a.tflite": lambda: True})
    assert result.end == "failed" and not result.blocks


def test_ctrl_c_keeps_what_was_measured_and_closes_every_session(tmp_path: Path) -> None:
    count, opened = itertools.count(), []
    clock, swept, path = FakeClock(), cells("a.tflite"), tmp_path / "c.jsonl"

    def interrupt() -> int:
        if next(count) == 40:
            raise KeyboardInterrupt
        return 10_000_000

    def open_session(cell: Cell) -> FakeSession:
        opened.append(FakeSession(cell, clock, interrupt))
        return opened[-1]

    with store.Journal(path) as journal, pytest.raises(KeyboardInterrupt):
        Campaign(swept, swept[0].id, Settings(budget_s=20), journal, open_session=open_session, clock=clock).run(
            {"cpu": "fake", "cores": 1}, dict
        )
    result = store.read(path)
    assert result.end == "interrupted"
    assert summarize(result)[0].p50_ms == pytest.approx(10.0)
    assert all(session.closed for session in opened)


def test_the_same_seed_gives_the_same_orders(tmp_path: Path) -> None:
    latencies = ["a.tflite", "b.tflite", "c.tflite"]
    first, _ = run(tmp_path / "1", {n: constant(9_000_000) for n in latencies})
    second, _ = run(tmp_path / "2", {n: constant(9_000_000) for n in latencies})
    assert [b.cell for b in first.blocks] == [b.cell for b in second.blocks]


def test_cells_are_named_as_shortly_as_tells_them_apart() -> None:
    litert = Target(runtime="litert")
    assert [c.id for c in cells("x/a.tflite", "x/b.tflite")] == ["a.tflite", "b.tflite"]
    assert [c.id for c in cells("x/a.tflite", "y/a.tflite")] == ["x/a.tflite", "y/a.tflite"]
    assert [c.id for c in cells("a.tflite", "a.tflite")] == ["a.tflite", "a.tflite #2"]
    four = make_cells([artifact("a.tflite")], [litert, Target(runtime="litert", threads=4)])
    assert [c.id for c in four] == ["a.tflite x1", "a.tflite x4"]


def test_a_baseline_is_found_by_any_of_its_names_or_refused_with_the_choice() -> None:
    swept = cells("x/net-fp32.tflite", "x/net-int8.tflite")
    assert choose_baseline(swept, None) == "net-fp32.tflite"
    assert choose_baseline(swept, "net-int8") == "net-int8.tflite"
    with pytest.raises(MobenchError, match=r"net-int8\.tflite"):
        choose_baseline(swept, "net-int9")


def test_a_file_no_asked_runtime_reads_is_refused_with_the_one_that_does() -> None:
    with pytest.raises(MobenchError, match="--runtime litert"):
        make_cells([artifact("a.tflite")], [Target(runtime="ort")])
