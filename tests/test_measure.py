"""The campaign on scripted sessions and a clock of its own: exact numbers, and nothing lost to a fault."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mobench import store
from mobench.design import Settings
from mobench.errors import MobenchError, SessionError
from mobench.measure import Campaign
from mobench.plan import choose_baseline, make_cells
from mobench.records import Artifact, Cell, Run, Target
from mobench.stats import summarize
from runners.fake import FakeClock, FakeHost, FakeSession, FakeWatch, replay


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
    watch: FakeWatch | None = None,
    settings: Settings | None = None,
) -> tuple[Run, list[FakeSession]]:
    """Run a campaign on the journal ``campaign.jsonl``; where that is there already, take it up again."""
    clock, opened = FakeClock(), []
    swept = cells(*latencies)

    def open_session(cell: Cell) -> FakeSession:
        if cell.id == refuse:
            raise SessionError(cell.id, "it does not load", "try another")
        session = FakeSession(cell, clock, latencies[cell.id], (fault or {}).get(cell.id, lambda: False))
        opened.append(session)
        return session

    path = tmp_path / "campaign.jsonl"
    resumed = store.read(path) if path.exists() else None
    with store.Journal(path) as journal:
        campaign = Campaign(
            swept,
            swept[0].id,
            settings or Settings(budget_s=budget_s, seed=7),
            journal,
            host=FakeHost(open_session, watch or FakeWatch()),
            resumed=resumed,
            clock=clock,
        )
        campaign.run()
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
    falling = (round(30_000_000 * 0.9995**n) for n in itertools.count())
    result, _ = run(tmp_path, {"a.tflite": replay(falling)}, budget_s=30.0)
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


def test_deaths_in_starts_that_are_not_in_a_row_do_not_give_a_cell_up(tmp_path: Path) -> None:
    calls = itertools.count()
    result, _ = run(
        tmp_path,
        {"a.tflite": constant(10_000_000), "b.tflite": constant(10_000_000)},
        fault={"b.tflite": lambda: next(calls) in (20, 60, 100)},
        settings=Settings(budget_s=20, ratio_half_width=0, p50_half_width=0),
    )
    assert len(result.failures) == 3
    last = max(block.incarnation for block in result.blocks)
    assert last in {block.incarnation for block in result.blocks if block.cell == "b.tflite"}


def test_a_session_that_dies_twice_in_a_row_is_given_up(tmp_path: Path) -> None:
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
        campaign = Campaign(
            swept,
            swept[0].id,
            Settings(budget_s=20),
            journal,
            host=FakeHost(open_session),
            clock=clock,
        )
        campaign.run()
    result = store.read(path)
    assert result.end == "interrupted"
    assert summarize(result)[0].p50_ms == pytest.approx(10.0)
    assert all(session.closed for session in opened)


def test_a_resumed_campaign_goes_on_where_it_stopped_and_counts_as_one(tmp_path: Path) -> None:
    rng = random.Random(3)

    def noisy(latency_ns: int) -> Callable[[], int]:
        return lambda: round(latency_ns * rng.lognormvariate(0, 0.01))

    def measure(budget_s: float) -> Run:
        settings = Settings(budget_s=budget_s, ratio_half_width=0, p50_half_width=0)
        return run(tmp_path, {"a.tflite": noisy(10_000_000), "b.tflite": noisy(7_000_000)}, settings=settings)[0]

    first, both = measure(4), measure(12)
    assert both.header == first.header and len(both.resumes) == 1
    assert both.blocks[: len(first.blocks)] == first.blocks
    later = both.blocks[len(first.blocks) :]
    assert {b.incarnation for b in later}.isdisjoint({b.incarnation for b in first.blocks})
    assert min(b.t_s for b in later) >= max(b.t_s for b in first.blocks)
    assert 11 < max(b.t_s for b in later) < 13
    assert summarize(both)[1].ratio == pytest.approx(0.7, rel=0.01)


def test_a_campaign_is_not_resumed_with_another_version_of_the_runtime(tmp_path: Path) -> None:
    first, _ = run(tmp_path, {"a.tflite": constant(10_000_000)})
    text = first.path.read_text()
    first.path.write_text(text.replace('"versions":{"fake":"1"}', '"versions":{"fake":"0"}'))
    with pytest.raises(MobenchError, match="fake 0 then, 1 now; start a new campaign"):
        run(tmp_path, {"a.tflite": constant(10_000_000)}, budget_s=60)
    assert store.read(first.path).blocks == first.blocks


def test_cells_that_memory_cannot_hold_together_take_turns_each_with_the_baseline(tmp_path: Path) -> None:
    names = [f"{letter}.tflite" for letter in "abcdefg"]
    swept: list[FakeSession] = []

    def free_mb() -> int:  # each session of 60 MiB leaves less
        return 900 - 100 * sum(not session.closed for session in swept)

    def watched(cell: Cell) -> FakeSession:
        swept.append(FakeSession(cell, clock, constant(10_000_000)))
        return swept[-1]

    clock, these, path = FakeClock(), cells(*names), tmp_path / "c.jsonl"
    with store.Journal(path) as journal:
        campaign = Campaign(
            these,
            "a.tflite",
            Settings(budget_s=60),
            journal,
            host=FakeHost(watched, FakeWatch(memory_mb=free_mb)),
            clock=clock,
        )
        assert campaign.run() == "precise"
    result = store.read(path)
    together: dict[int, set[str]] = {}
    for block in result.blocks:
        together.setdefault(block.incarnation, set()).add(block.cell)
    assert all("a.tflite" in group and len(group) < len(names) for group in together.values())
    assert set.union(*together.values()) == set(names)
    assert all(summary.ratio == pytest.approx(1.0) and summary.incarnations >= 5 for summary in summarize(result))


def test_a_sustained_load_is_one_start_and_rounds_for_the_whole_time(tmp_path: Path) -> None:
    latencies = {"a.tflite": constant(10_000_000), "b.tflite": constant(20_000_000)}
    result, opened = run(tmp_path, latencies, settings=Settings(sustain_s=120))
    assert result.end == "sustained" and len(opened) == 2
    assert {block.incarnation for block in result.blocks} == {0}
    assert 119 < max(block.t_s for block in result.blocks) < 121
    assert len([state for state in result.states if state.when == "during"]) == pytest.approx(12, abs=1)
    assert (result.states[0].when, result.states[-1].when) == ("before", "after")


def test_energy_is_that_of_every_inference_of_a_block(tmp_path: Path) -> None:
    counter = itertools.count(0, 500)  # microjoules, read before and after each block
    result, _ = run(tmp_path, {"a.tflite": constant(10_000_000)}, watch=FakeWatch(energy=lambda: next(counter)))
    steady = [block for block in result.blocks if block.phase == "steady"]
    assert {block.energy_uj for block in steady} == {500} and {block.lead_in for block in steady} == {4}
    assert summarize(result)[0].energy_mj == pytest.approx(0.1)


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


def test_cells_of_one_file_are_told_apart_by_provider_and_batch() -> None:
    targets = [Target(runtime="litert", provider=p, batch=b) for p in ("", "builtin") for b in (1, 8)]
    names = [c.id for c in make_cells([artifact("a.tflite")], targets)]
    assert names == ["a.tflite b1", "a.tflite b8", "a.tflite builtin b1", "a.tflite builtin b8"]


def test_a_baseline_is_found_by_any_of_its_names_or_refused_with_the_choice() -> None:
    swept = cells("x/net-fp32.tflite", "x/net-int8.tflite")
    assert choose_baseline(swept, None) == "net-fp32.tflite"
    assert choose_baseline(swept, "net-int8") == "net-int8.tflite"
    with pytest.raises(MobenchError, match=r"net-int8\.tflite"):
        choose_baseline(swept, "net-int9")


def test_a_file_no_asked_runtime_reads_is_refused_with_the_one_that_does() -> None:
    with pytest.raises(MobenchError, match="--runtime litert"):
        make_cells([artifact("a.tflite")], [Target(runtime="ort")])


@pytest.mark.parametrize("values", [{"budget_s": float("inf")}, {"budget_s": 0}, {"ratio_half_width": float("nan")}])
def test_times_and_widths_no_campaign_could_keep_to_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(MobenchError, match="not a finite, positive number"):
        Settings(**values)  # type: ignore[arg-type]


def test_a_campaign_whose_last_session_dies_in_its_rounds_has_failed(tmp_path: Path) -> None:
    calls = itertools.count()
    result, _ = run(tmp_path, {"a.tflite": constant(10_000_000)}, fault={"a.tflite": lambda: next(calls) % 20 == 19})
    assert result.end == "failed"


def test_a_refused_resumption_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    first, _ = run(tmp_path, {"a.tflite": constant(10_000_000)})
    text = first.path.read_text().replace('"versions":{"fake":"1"}', '"versions":{"fake":"0"}')
    first.path.write_text(text)
    with pytest.raises(MobenchError, match="start a new campaign"):
        run(tmp_path, {"a.tflite": constant(10_000_000)}, budget_s=60)
    assert first.path.read_text() == text


def test_two_cells_of_one_file_are_told_apart_by_their_ids() -> None:
    swept = cells("a.tflite", "a.tflite")
    assert choose_baseline(swept, "a.tflite") == "a.tflite"
    assert choose_baseline(swept, "a.tflite #2") == "a.tflite #2"
