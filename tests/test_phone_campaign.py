"""Campaigns on a scripted phone: unplugged, hot, wrong. Exact numbers on a clock of its own."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobench import checking, store
from mobench.design import Settings
from mobench.errors import LinkError, NotReadyError
from mobench.measure import Campaign
from mobench.pareto import Point, front
from mobench.plan import make_cells
from mobench.records import Artifact, Cell, Check, DeviceState, Run, Target
from mobench.stats import summarize
from runners.fake import FakeClock, FakeHost, FakeSession, replay

A, B = "a.tflite", "b.tflite"


def artifact(name: str) -> Artifact:
    return Artifact(path=Path(name), sha256=name, size_bytes=1, format="tflite", name=Path(name).stem)


class ScriptedCare:
    """Waits as long, finds wrong and comes back as scripted."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.waits: Iterator[float] = itertools.repeat(0.0)
        self.verdicts: Iterator[str | None] = itertools.repeat(None)
        self.back: Callable[[], dict[str, Any]] = lambda: {"waited_s": 30.0, "boot": "same"}

    def ready(self, tell: Callable[[str], None]) -> float:  # noqa: D102
        seconds = next(self.waits)
        if seconds < 0:
            raise NotReadyError("phone", "12 % of charge are left", "charge it")
        self.clock.now_s += seconds
        return seconds

    def verdict(self, before: DeviceState, after: DeviceState) -> str | None:  # noqa: D102
        return next(self.verdicts)

    def reconnect(self, error: LinkError, tell: Callable[[str], None]) -> dict[str, Any]:  # noqa: D102
        self.clock.now_s += 30.0
        return self.back()


def measure(
    tmp_path: Path,
    *,
    script: Callable[[ScriptedCare], None] = lambda care: None,
    lose_at: set[int] = frozenset(),  # type: ignore[assignment]
    checks: Callable[[Cell], Check | None] = lambda cell: None,
    **settings: Any,
) -> tuple[Run, list[FakeSession], str]:
    """Time two files; the requests numbered in ``lose_at`` meet a pulled cable."""
    clock, opened, requests = FakeClock(), [], itertools.count()
    care = ScriptedCare(clock)
    script(care)
    cells = make_cells([artifact(A), artifact(B)], [Target(device="android-cpu", runtime="litert")])

    def cable() -> bool:
        if next(requests) in lose_at:
            raise LinkError("phone", "unplugged", "plug it in")
        return False

    def open_session(cell: Cell) -> FakeSession:
        latency = {A: 10_000_000, B: 20_000_000}[cell.id]
        opened.append(FakeSession(cell, clock, replay(itertools.repeat(latency)), cable))
        return opened[-1]

    path = tmp_path / "campaign.jsonl"
    before = store.read(path) if path.exists() else None
    with store.Journal(path) as journal:
        host = FakeHost(open_session, care=care, checks=checks)
        asked = Settings(**{"budget_s": 60.0, "seed": 7, **settings})
        ended = Campaign(cells, A, asked, journal, host=host, clock=clock, resumed=before).run()
    return store.read(path), opened, ended


def test_a_pulled_cable_pauses_the_campaign_and_nothing_is_lost(tmp_path: Path) -> None:
    run, opened, ended = measure(tmp_path, lose_at={100, 230})
    assert ended == run.end == "precise"
    assert [(pause["waited_s"], pause["boot"]) for pause in run.pauses] == [(30.0, "same"), (30.0, "same")]
    assert all("unplugged" in pause["why"] for pause in run.pauses)
    assert max(block.t_s for block in run.blocks) < 60, "the wait is not the campaign's time"
    times = [block.t_s for block in run.blocks]
    assert times == sorted(times)
    one, two = summarize(run)
    assert one.p50_ms == pytest.approx(10.0) and two.ratio == pytest.approx(2.0)
    assert not run.failures, "the phone was away: no model failed"
    assert all(session.closed for session in opened)


def test_a_phone_that_reboots_is_noted(tmp_path: Path) -> None:
    def reboots(care: ScriptedCare) -> None:
        care.back = lambda: {"waited_s": 30.0, "boot": "new"}

    run, _, _ = measure(tmp_path, lose_at={50}, script=reboots)
    assert [pause["boot"] for pause in run.pauses] == ["new"]


def test_a_phone_that_stays_away_ends_the_campaign_which_can_be_resumed(tmp_path: Path) -> None:
    def stays_away(care: ScriptedCare) -> None:
        def never() -> dict[str, Any]:
            raise LinkError("phone", "not back after 900 s", "plug it in")

        care.back = never

    run, opened, ended = measure(tmp_path, lose_at={100}, script=stays_away)
    assert ended == run.end == "unplugged" and all(session.closed for session in opened)
    assert summarize(run)[0].p50_ms == pytest.approx(10.0), "what was measured until then stands"
    again, _, ended = measure(tmp_path)
    assert ended == again.end == "precise"
    assert again.blocks[: len(run.blocks)] == run.blocks


def test_a_cable_pulled_while_sessions_start_or_warm_up_costs_no_cell(tmp_path: Path) -> None:
    run, _, ended = measure(tmp_path, lose_at={0, 1, 7, 9})
    assert ended == "precise" and len(run.pauses) == 4 and not run.failures


def test_cooling_down_is_not_the_campaigns_time(tmp_path: Path) -> None:
    def warm(care: ScriptedCare) -> None:
        care.waits = itertools.cycle((40.0, 0.0, 0.0))

    run, _, ended = measure(tmp_path, script=warm)
    assert ended == "precise" and max(block.t_s for block in run.blocks) < 60


def test_a_round_costs_one_reading_of_the_phone(tmp_path: Path) -> None:
    """The state after a round is that before the next, unless it was waited for: a reading is a trip over the cable."""
    run, _, _ = measure(tmp_path)
    rounds = {(block.incarnation, block.round) for block in run.blocks if block.phase == "steady"}
    starts = {block.incarnation for block in run.blocks}
    assert len(rounds) <= len(run.states) <= len(rounds) + 2 * len(starts) + 2


def test_rounds_in_which_it_throttled_are_set_aside_counted_and_repeated(tmp_path: Path) -> None:
    def throttles(care: ScriptedCare) -> None:
        care.verdicts = itertools.cycle(("thermal status light after the round", None, None))

    run, _, ended = measure(tmp_path, script=throttles)
    aside = [block for block in run.blocks if block.phase == "set_aside"]
    steady = [block for block in run.blocks if block.phase == "steady"]
    assert ended == "precise" and aside and len(steady) > len(aside)
    assert {(block.incarnation, block.round) for block in aside} == set(run.set_aside)
    assert not {(b.incarnation, b.round) for b in steady} & set(run.set_aside)
    one, two = summarize(run)
    assert one.set_aside + two.set_aside == len(aside)
    throttled = next(doubt for doubt in one.doubts if doubt.name == "THROTTLED")
    assert "thermal status light" in throttled.why and throttled.mend
    assert one.n_blocks == sum(block.cell == A for block in steady)


def test_one_that_always_throttles_ends_with_its_budget(tmp_path: Path) -> None:
    def throttles(care: ScriptedCare) -> None:
        care.verdicts = itertools.repeat("thermal status severe after the round")

    run, _, ended = measure(tmp_path, script=throttles, budget_s=10.0)
    assert ended == "budget" and not [block for block in run.blocks if block.phase == "steady"]
    assert summarize(run)[0].p50_ms is None


def test_a_battery_that_runs_low_ends_the_campaign_with_what_it_has(tmp_path: Path) -> None:
    def runs_low(care: ScriptedCare) -> None:
        care.waits = itertools.chain(itertools.repeat(0.0, 30), itertools.repeat(-1.0))

    run, opened, ended = measure(tmp_path, script=runs_low)
    assert ended == run.end == "not_ready" and all(session.closed for session in opened)
    assert "12 %" in run.pauses[-1]["why"] and summarize(run)[0].p50_ms == pytest.approx(10.0)


def test_a_wrong_output_is_a_doubt_and_stays_off_the_front(tmp_path: Path) -> None:
    outputs = np.random.default_rng(0).standard_normal((4, 10))

    def check(cell: Cell) -> Check:
        return checking.compare(cell, outputs, outputs[::-1] if cell.id == B else outputs, named="the CPU")

    run, _, _ = measure(tmp_path, checks=check)
    right, wrong = summarize(run)
    assert right.check_db == checking.MOST_DB and [doubt.name for doubt in right.doubts] == []
    assert wrong.check_db is not None and wrong.check_db < 3 and wrong.doubts[0].name == "WRONG_OUTPUT"
    assert len(run.checks) == len(run.sessions), "every session that was timed was checked"
    points = [
        Point(
            label=summary.cell,
            name=summary.name,
            precision="fp32",
            runtime="litert",
            latency_ms=10.0,
            latency_ci_ms=None,
            accuracy=accuracy,
            accuracy_kind="measured",
            doubts=tuple(doubt.name for doubt in summary.doubts),
        )
        for summary, accuracy in ((right, 70.0), (wrong, 80.0))
    ]
    assert [standing.on_front for standing in front(points)] == [True, None]


@pytest.mark.parametrize(
    ("precision", "provider", "noise", "wrong"),
    [
        ("fp32", "xnnpack", 1e-4, False),
        ("fp32", "xnnpack", 0.05, True),
        ("fp32", "gpu-fp16", 0.05, False),
        ("fp16", "gpu-fp32", 0.05, False),
        ("fp32", "gpu-fp16", 0.5, True),
        ("int8", "gpu-fp16", 0.3, False),
        ("int8", "xnnpack", 1.0, True),
    ],
)
def test_how_wrong_is_wrong_depends_on_the_arithmetic(precision: str, provider: str, noise: float, wrong: bool) -> None:
    rng = np.random.default_rng(0)
    expected = rng.standard_normal((4, 100))
    file = Artifact(path=Path(A), sha256=A, size_bytes=1, format="tflite", name="a", precision=precision)
    cell = Cell(id=A, artifact=file, target=Target(runtime="litert", provider=provider))
    found = checking.compare(cell, expected, expected + noise * rng.standard_normal((4, 100)), named="the CPU")
    assert bool(found.wrong) is wrong and found.n == 4


def test_nan_is_wrong_and_so_is_another_shape() -> None:
    cell = Cell(id=A, artifact=artifact(A), target=Target(runtime="litert"))
    expected = np.ones((4, 10))
    broken = expected.copy()
    broken[2, 3] = np.nan
    assert "NaN" in checking.compare(cell, expected, broken, named="the CPU").wrong
    for value in (np.nan, np.inf):
        broken[2, 3] = value
        found = checking.compare(cell, broken, expected, named="the CPU")
        assert "the CPU gives NaN or infinity itself" in found.wrong and found.largest == 1.0
    assert "[9]" in checking.compare(cell, expected, np.ones((4, 9)), named="the CPU").wrong
    assert not checking.compare(cell, np.zeros((4, 10)), np.zeros((4, 10)), named="the CPU").wrong


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int8", "bool", "int32", "int64"])
def test_inputs_of_every_type_are_in_its_range(dtype: str) -> None:
    ready = FakeSession(Cell(id=A, artifact=artifact(A), target=Target(runtime="litert")), FakeClock(), lambda: 1).ready
    ready = dataclasses.replace(ready, inputs=({"name": "x", "shape": [1, 64], "dtype": dtype},))
    made = checking.inputs(ready)
    assert made.shape == (4, 64) and made.dtype == dtype
    if dtype in ("bool", "int32", "int64"):  # an index into a table: any other may be out of its range
        assert set(np.unique(made)) == {0, 1}
