"""Energy an inference on a GPU whose counter moves ten times a second, on scripted sessions of known power."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import pytest
from fake_nvml import fake

from mobench import energy, store
from mobench.design import Settings
from mobench.errors import SessionError
from mobench.measure import Campaign
from mobench.records import Artifact, Cell, Energy, Run, Target, Timing
from mobench.stats import summarize
from runners.fake import FakeClock, FakeHost, FakeSession, FakeWatch, replay
from runners.nvidia import Gpu

IDLE_W = 75.0
PERIOD_S = 0.1
POWERS = {"a.onnx": (2_000_000, 120.0), "b.onnx": (1_000_000, 400.0)}  # ns an inference, watts while it runs


class Board:
    """Takes IDLE_W, and more while a session runs; its counter has what was taken until its last update."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.until_s, self.joules = [0.0], [0.0]

    def took(self, began_s: float, watts: float) -> None:
        """Note what was taken since a moment, and idly before it."""
        for until_s, power in ((began_s, IDLE_W), (self.clock.now_s, watts)):
            self.joules.append(self.joules[-1] + (until_s - self.until_s[-1]) * power)
            self.until_s.append(until_s)

    def counter(self, handle: object) -> int:
        """Return mJ, as NVML does."""
        moved_s = self.clock.now_s // PERIOD_S * PERIOD_S
        at = bisect_right(self.until_s, moved_s) - 1
        before, joules = self.until_s[at], self.joules[at]
        power = IDLE_W
        if at + 1 < len(self.until_s):
            power = (self.joules[at + 1] - joules) / (self.until_s[at + 1] - before)
        return round((joules + (moved_s - before) * power) * 1e3)


class Powered(FakeSession):
    """A session that takes its power while it runs, and may die where it runs for long."""

    __slots__ = ("board", "dies", "watts")

    def time(self, *, lead_in: int, timed: int, deadline_s: float) -> Timing:
        """Run, and take power meanwhile."""
        if self.dies and lead_in > 100:
            raise SessionError(self.cell.id, "its process ended (killed by SIGKILL)", "")
        began_s = self.clock.now_s
        timing = super().time(lead_in=lead_in, timed=timed, deadline_s=deadline_s)
        self.board.took(began_s, self.watts)
        return timing


def measure(
    tmp_path: Path,
    *,
    energy_s: float,
    budget_s: float = 60.0,
    dies: bool = False,
    mute: bool = False,
    energy_uj: Callable[[], int | None] = lambda: None,
) -> Run:
    clock = FakeClock()
    board = Board(clock)

    def wait(seconds: float) -> None:
        clock.now_s += seconds

    def open_session(cell: Cell) -> FakeSession:
        latency_ns, watts = POWERS[cell.id]
        session = Powered(cell, clock, replay(repeat(latency_ns)))
        session.board, session.watts, session.dies = board, watts, dies and cell.id == "b.onnx"
        return session

    nvml = fake(nvmlDeviceGetTotalEnergyConsumption=board.counter)
    meter = None if mute else Gpu({}, nvml=nvml, clock=clock, sleep=wait)
    target = Target(device="desktop-gpu", runtime="ort", provider="cuda")
    cells = [
        Cell(
            id=name,
            artifact=Artifact(path=Path(name), sha256=name, size_bytes=1, format="onnx", name=name),
            target=target,
        )
        for name in POWERS
    ]
    path = tmp_path / "campaign.jsonl"
    with store.Journal(path) as journal:
        host = FakeHost(open_session, FakeWatch(energy=energy_uj), meter=meter)
        settings = Settings(budget_s=budget_s, energy_s=energy_s, seed=3)
        Campaign(cells, "a.onnx", settings, journal, host=host, clock=clock).run()
    return store.read(path)


@pytest.mark.parametrize("energy_s", [1.0, 3.0])
def test_each_models_energy_is_its_own_within_the_counters_error(tmp_path: Path, energy_s: float) -> None:
    """A block between two others' would be given their power: 5 ms of a counter that moves every 100 ms."""
    run = measure(tmp_path, energy_s=energy_s)
    assert {(each.cell, each.incarnation) for each in run.energies} == {(c, i) for c in POWERS for i in range(5)}
    for each in run.energies:
        latency_ns, watts = POWERS[each.cell]
        assert each.n == energy_s * 1e9 / latency_ns
        assert abs(each.energy_mj - watts * energy_s * 1e3) <= each.error_mj
        assert each.error_mj / each.energy_mj == pytest.approx(PERIOD_S / (energy_s - PERIOD_S), rel=0.1)
    for summary, truth_mj in zip(summarize(run), (240.0, 400.0), strict=True):
        assert summary.energy_mj == pytest.approx(truth_mj, rel=PERIOD_S / energy_s)
        assert summary.energy_ci_mj is not None


def test_latencies_are_measured_as_without(tmp_path: Path) -> None:
    run = measure(tmp_path, energy_s=1.0)
    a, b = summarize(run)
    assert (a.p50_ms, b.ratio) == (pytest.approx(2.0), pytest.approx(0.5))
    assert run.end == "precise" and a.incarnations == 5
    assert all(block.phase in ("warmup", "steady") for block in run.blocks)


def test_a_budget_holds_the_spans_too(tmp_path: Path) -> None:
    """Two cells of a second's lead and two of span take 6 s of each start."""
    run = measure(tmp_path, energy_s=2.0, budget_s=20.0)
    last = max(each.t_s for each in run.energies)
    assert last <= 20.0 + 6.5
    assert 2 <= len({each.incarnation for each in run.energies}) <= 4


@pytest.mark.parametrize(("energy_s", "mute"), [(0.0, False), (2.0, True)])
def test_nothing_is_weighed_where_nobody_asked_or_nothing_tells(tmp_path: Path, energy_s: float, mute: bool) -> None:
    run = measure(tmp_path, energy_s=energy_s, mute=mute, energy_uj=lambda: 1_000)
    assert run.energies == ()
    # What the processor's packages took is not the GPU's energy, and is not shown as such.
    assert [summary.energy_mj for summary in summarize(run)] == [None, None]


def test_a_session_that_dies_while_it_is_weighed_is_a_failure_and_the_others_stay(tmp_path: Path) -> None:
    run = measure(tmp_path, energy_s=1.0, dies=True)
    assert [(failure.cell, failure.incarnation) for failure in run.failures] == [("b.onnx", i) for i in range(5)]
    assert {each.cell for each in run.energies} == {"a.onnx"}
    a, b = summarize(run)
    assert a.energy_mj == pytest.approx(240.0, rel=PERIOD_S) and b.energy_mj is None
    assert b.p50_ms == pytest.approx(1.0)  # what was timed before counts


def test_of_one_start_the_interval_is_what_the_counter_leaves_open(tmp_path: Path) -> None:
    run = measure(tmp_path, energy_s=2.0, budget_s=4.0)
    assert {each.incarnation for each in run.energies} == {0}
    summary = summarize(run)[0]
    assert summary.energy_mj is not None and summary.energy_ci_mj is not None
    low, high = summary.energy_ci_mj
    assert high - low == pytest.approx(2 * summary.energy_mj * PERIOD_S / 2.0, rel=0.1)
    assert low <= 240.0 <= high


def test_weighing_leads_in_for_a_second() -> None:
    """On some GPUs a power reading is an average over the second before."""
    asked: list[object] = []

    class Session:
        def time(self, *, lead_in: int, timed: int, deadline_s: float) -> None:
            asked.append((lead_in, timed))

    class Meter:
        def begin(self) -> bool:
            asked.append("begin")
            return True

        def end(self) -> Energy:
            return Energy(seconds=2.0, energy_mj=1.0, error_mj=0.1, source="counter")

    found = energy.weigh(Session(), 2.0, Meter(), latency_ns=1e6)
    assert asked == ["begin", (999, 1), "begin", (1999, 1)]
    assert found == Energy(n=2000, seconds=2.0, energy_mj=1.0, error_mj=0.1, source="counter")
