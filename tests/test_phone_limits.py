"""What bounds a campaign on a phone that restarts, loses its link or does not answer, for ever."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from standin import StandIn

from mobench import campaign, store
from mobench.cli import cli
from mobench.design import Settings
from mobench.errors import BadInputError, LinkError, SessionError
from mobench.hosts.conditions import Limits, Tool, as_before
from mobench.hosts.opening import open_host
from mobench.hosts.phone import PhoneHost
from mobench.measure import FRUITLESS, Campaign
from mobench.plan import make_cells
from mobench.records import Artifact, Cell, DeviceState, Run, Target
from mobench.stats import summarize
from runners.fake import FakeClock, FakeHost, FakeSession, FakeWatch, replay

A, B = "a.tflite", "b.tflite"


class Back:
    """Care of a phone that is always cool and always comes back, restarted or not."""

    def __init__(self, clock: FakeClock, boot: str) -> None:
        self.clock, self.boot, self.times = clock, boot, 0
        self.why: str | None = None

    def ready(self, tell: Callable[[str], None]) -> float:  # noqa: D102
        return 0.0

    def verdict(self, before: DeviceState, after: DeviceState) -> str | None:  # noqa: D102
        return self.why

    def reconnect(self, error: LinkError, tell: Callable[[str], None]) -> dict[str, object]:  # noqa: D102
        self.times += 1
        assert self.times < 100, "for ever"
        self.clock.now_s += 30.0
        return {"waited_s": 30.0, "boot": self.boot}


def measure(
    tmp_path: Path,
    lost: Callable[[Cell], bool],
    *,
    boot: str = "same",
    budget_s: float = 5.0,
    watch: FakeWatch | None = None,
    why: str | None = None,
) -> tuple[Run, Back]:
    """Time two files; ``lost`` says before each request to a cell's session whether the link goes there."""
    clock = FakeClock()
    care = Back(clock, boot)
    care.why = why
    files = [Artifact(path=Path(name), sha256=name, size_bytes=1, format="tflite", name=name[:1]) for name in (A, B)]
    rng = np.random.default_rng(0)  # figures that are equal are precise at once
    cells = make_cells(files, [Target(device="android-cpu", runtime="litert")])

    def open_session(cell: Cell) -> FakeSession:
        def fault() -> bool:
            if lost(cell):
                raise LinkError("phone", "it has restarted", "wait")
            return False

        return FakeSession(cell, clock, replay(map(round, rng.normal(1e7, 1e5, 100_000))), fault)

    path = tmp_path / "campaign.jsonl"
    with store.Journal(path) as journal:
        host = FakeHost(open_session, care=care, watch=watch or FakeWatch())
        asked = Settings(budget_s=budget_s, ratio_half_width=0.0, p50_half_width=0.0)
        Campaign(cells, A, asked, journal, host=host, clock=clock).run()
    return store.read(path), care


def test_a_model_that_restarts_the_phone_each_time_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    run, care = measure(tmp_path, lambda cell: cell.id == B, boot="new")
    (failure,) = run.failures
    assert failure.cell == B and "restarted again" in failure.why
    assert care.times == 2 and run.end == "budget"
    one, two = summarize(run)
    assert one.p50_ms is not None and two.p50_ms is None


def test_two_restarts_with_whole_starts_between_them_are_nobodys_fault(tmp_path: Path) -> None:
    requests = itertools.count()
    run, care = measure(tmp_path, lambda cell: next(requests) in (40, 400), boot="new", budget_s=30.0)
    assert care.times == 2 and not run.failures and run.end == "budget"


def test_a_link_that_goes_before_anything_is_timed_is_not_waited_for_without_end(tmp_path: Path) -> None:
    run, care = measure(tmp_path, lambda cell: True)
    assert care.times == FRUITLESS - 1 and run.end == "unplugged" and not run.failures


def test_a_link_that_goes_in_every_start_does_not_outlast_the_budget(tmp_path: Path) -> None:
    requests = itertools.count(1)
    run, _ = measure(tmp_path, lambda cell: next(requests) % 60 == 0)
    assert run.end == "budget" and run.blocks[-1].t_s < 6.0


class Shy(FakeWatch):
    """A phone that goes while it is asked for its state before the first session."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def state(self, when: str, t_s: float) -> DeviceState:
        """Tell it after ``times`` times."""
        self.times -= when == "before"
        if when == "before" and self.times >= 0:
            raise LinkError("phone", "its answer broke off", "another cable")
        return DeviceState(when="before", t_s=t_s)


def test_a_link_that_goes_before_the_first_session_is_waited_for_too(tmp_path: Path) -> None:
    run, care = measure(tmp_path, lambda cell: False, watch=Shy(2))
    assert run.end == "budget" and care.times == 2 and len(run.pauses) == 2 and not run.failures
    assert run.states[0].when == "before" and run.states[0].t_s < 1, "the wait is not the campaign's time"
    (tmp_path / "campaign.jsonl").unlink()
    again, care = measure(tmp_path, lambda cell: False, watch=Shy(1000))
    assert again.end == "unplugged" and care.times == FRUITLESS - 1 and not again.blocks


class Mute(FakeWatch):
    """A phone that is there, but does not tell its state in time any more."""

    def state(self, when: str, t_s: float) -> DeviceState:
        """Tell it for a while."""
        if t_s > 1.0:
            raise SessionError("phone", "shell: not done in 30 s, though the phone answers", "run again")
        return DeviceState(when="during", t_s=t_s)


def test_a_phone_that_does_not_tell_its_state_ends_the_campaign_with_what_it_has(tmp_path: Path) -> None:
    run, _ = measure(tmp_path, lambda cell: False, watch=Mute())
    assert run.end == "not_ready" and "not done in 30 s" in run.pauses[-1]["why"]
    assert summarize(run)[0].p50_ms is not None


def test_a_cell_whose_every_round_was_set_aside_says_why_it_has_no_figure(tmp_path: Path) -> None:
    run, _ = measure(tmp_path, lambda cell: False, why="thermal status severe after the round")
    one, _ = summarize(run)
    assert one.p50_ms is None and one.set_aside > 0
    assert [(doubt.name, "thermal status severe" in doubt.why) for doubt in one.doubts] == [("THROTTLED", True)]


@pytest.mark.parametrize("on", ["desktop-cpu", "android-cpu"])
def test_a_campaign_is_taken_up_under_the_conditions_it_began_with(on: str, tmp_path: Path) -> None:
    tool = Tool(binary=tmp_path / "benchmark_model", logs=tmp_path / "logs")
    limits = Limits(cool_to_c=35.0, min_battery=40) if on == "android-cpu" else None
    for asked in ({"check": True, "tool": None, "limits": limits}, {"check": False, "tool": tool, "limits": limits}):
        written = json.loads(json.dumps(open_host([on], **asked).conditions()))
        assert as_before(written) == asked
    assert as_before({}) == {"check": False, "tool": None, "limits": None}


def test_what_ctrl_c_cut_short_on_the_phone_is_removed_when_it_is_given_back(phone: StandIn) -> None:
    with PhoneHost([phone.serial]) as host:
        left = phone.path(host._folder.scratch("push"))
        assert left.is_dir()
    assert not left.exists() and phone.processes() == []


def test_a_phone_that_goes_before_a_campaign_begins_leaves_no_empty_journal(tmp_path: Path) -> None:
    class Gone(FakeHost):
        def __init__(self) -> None:
            super().__init__(lambda cell: None)
            self.answers = iter([{"cpu": "phone", "cores": 8}])

        def machine(self) -> dict[str, object]:
            for answer in self.answers:
                return answer
            raise LinkError("phone", "unplugged", "plug it in")

    file = Artifact(path=Path(A), sha256=A, size_bytes=1, format="tflite", name="a")
    cells = make_cells([file], [Target(device="android-cpu", runtime="litert")])
    with pytest.raises(LinkError):
        campaign.run_cells(cells, host=Gone(), results=tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_desktop_is_not_cooled_and_says_so() -> None:
    with pytest.raises(BadInputError, match="they are for phones"):
        open_host(["desktop-cpu"], limits=Limits(cool_to_c=35.0))


def test_outputs_are_not_compared_at_another_batch(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").touch()
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "a.tflite"), "--check", "--batch", "1", "--batch", "4"])
    assert isinstance(done.exception, BadInputError) and "one image at a time" in str(done.exception)
