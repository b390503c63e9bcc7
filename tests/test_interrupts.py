"""Nothing is lost: campaigns of real processes are hit at random moments, and what they had measured is all there.

The hits and the observer that knows what was measured are those of benchmarks/kills.py, which does 200 of them.
"""

import dataclasses
import importlib.util
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from mobench import campaign, store
from mobench.design import Settings
from mobench.errors import BadInputError, DeathError
from mobench.measure import Campaign
from mobench.plan import make_cells
from mobench.records import Artifact, Cell, Target
from runners.fake import FakeClock, FakeHost, FakeSession


def _load_kills() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # where dataclasses look for the types that a class names
    spec.loader.exec_module(module)
    return module


kills = _load_kills()


@pytest.fixture
def victim(onnx_model: Path, tmp_path: Path) -> "kills.Victim":
    return kills.Victim(tmp_path, [onnx_model, onnx_model], random.Random(tmp_path.name), latest_s=1.0)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_campaign_hit_by_every_kind_of_event_loses_at_most_the_block_in_flight(
    onnx_model: Path, tmp_path: Path, seed: int
) -> None:
    """Six events one after the other, each time taken up again, and the last time run to its end."""
    order = random.Random(seed).sample(list(kills.KINDS), len(kills.KINDS))
    tallies = {kind: kills.Tally() for kind in order}
    kills.chain(tmp_path, [onnx_model, onnx_model], order, tallies, seed, latest_s=1.0)
    for kind, tally in tallies.items():
        found = {name: value for name, value in dataclasses.asdict(tally).items() if name != "blocks" and value}
        assert found == {"kills": 1}, kind
    assert sum(tally.blocks for tally in tallies.values()) > 20


def test_the_observer_sees_a_loss_a_change_and_damage(onnx_model: Path, tmp_path: Path) -> None:
    """What the test before relies on: two answers that the journal lacks are a loss, one is the block in flight."""
    victim = kills.Victim(tmp_path, [], random.Random(0))
    journal = tmp_path / "results" / "m" / "20260101-a.jsonl"
    fields = {"incarnation": 0, "round": 0, "position": 0, "phase": "steady", "t_s": 0.5}
    with store.Journal(journal) as log:
        log.append("run", schema=store.SCHEMA, cells=[])
        for cpu_ns in (7, 8):
            log.append("block", cell="a", wall_ns=[9], cpu_ns=cpu_ns, involuntary_switches=0, steal_ticks=0, **fields)
    for answers, lost in (("7 9\n8 9\n", 0), ("7 9\n8 9\n5 9\n", 0), ("7 9\n8 9\n5 9\n6 9\n", 1), ("1 1\n2 2\n", 1)):
        victim.log.write_text(answers)
        victim.must, tally = [], kills.Tally()
        victim.check(tally)
        assert (tally.lost, tally.changed, tally.unreadable) == (lost, 0, 0), answers
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b'"cpu_ns":7', b'"cpu_ns":6'))
    victim.must, tally = [], kills.Tally()
    victim.check(tally)
    assert tally.changed == 1
    journal.write_bytes(whole.replace(b'"cpu_ns":7', b"cpu_ns:7"))
    victim.check(tally)
    assert tally.unreadable == 1


def test_ctrl_c_twice_is_an_orderly_end(victim: "kills.Victim") -> None:
    for _ in range(4):
        process = victim.launch()
        victim.wait_until_begun()
        time.sleep(victim.rng.uniform(0, 1))
        process.send_signal(signal.SIGINT)
        time.sleep(victim.rng.uniform(0, 0.1))
        process.send_signal(signal.SIGINT)
        _ended_in_order(victim)


def test_sigterm_while_sessions_start_is_an_orderly_end(victim: "kills.Victim") -> None:
    for _ in range(2):
        process = victim.launch()
        victim.wait_until_begun()  # the header is there; the first session takes longer than this
        process.terminate()
        run = _ended_in_order(victim)
        assert not run.blocks and run.end == "interrupted"


def test_ctrl_c_during_warm_up_is_an_orderly_end(victim: "kills.Victim") -> None:
    process = victim.launch()
    while b'"warmup"' not in (path.read_bytes() if (path := victim.journal()) else b""):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    run = _ended_in_order(victim)
    assert run.blocks and run.end == "interrupted"


def _ended_in_order(victim: "kills.Victim") -> store.Run:
    status, err = victim.end()
    assert status == 130 and "Traceback" not in err, err
    tally = kills.Tally()
    victim.check(tally)
    assert (tally.lost, tally.changed, tally.unreadable, tally.orphans) == (0, 0, 0, 0)
    return store.read(victim.journal())


def test_two_resumptions_at_once_the_second_is_refused_in_one_line(victim: "kills.Victim") -> None:
    process = victim.launch()
    victim.wait_until_begun()
    command = [sys.executable, "-m", "mobench", "run", "--resume", str(victim.journal())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "another mobench is writing" in done.stderr
    process.terminate()
    _ended_in_order(victim)


def cells(*names: str) -> tuple[Cell, ...]:
    files = [Artifact(path=Path(n), sha256=n, size_bytes=1, format="tflite", name=n) for n in names]
    return make_cells(files, [Target(runtime="litert")])


def test_a_child_that_is_killed_in_its_first_start_gets_another(tmp_path: Path) -> None:
    clock, swept, killed = FakeClock(), cells("a.tflite", "b.tflite"), ["b.tflite"]

    def open_session(cell: Cell) -> FakeSession:
        if cell.id in killed:
            killed.remove(cell.id)
            raise DeathError(cell.id, "its process ended (killed by SIGKILL)", "the system may be out of memory")
        return FakeSession(cell, clock, lambda: 10_000_000)

    with store.Journal(tmp_path / "c.jsonl") as journal:
        settings = Settings(budget_s=20)
        Campaign(swept, "a.tflite", settings, journal, host=FakeHost(open_session), clock=clock).run()
    run = store.read(tmp_path / "c.jsonl")
    assert len(run.failures) == 1 and run.end == "precise"
    assert {block.incarnation for block in run.blocks if block.cell == "b.tflite"} == {1, 2, 3, 4, 5}


def test_what_is_no_file_or_has_another_budget_left_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last resumption's budget counts; a journal out of git's history cannot be written to."""
    path = tmp_path / "c.jsonl"
    settings = dataclasses.asdict(Settings(budget_s=1))
    machine = {"cpu": "x", "arch": "y", "cores": 1}
    monkeypatch.setattr("mobench.hosts.desktop.device_state.machine", lambda: machine)
    monkeypatch.setattr("mobench.campaign.run_cells", lambda cells, **asked: asked)
    block = {"cell": "a", "incarnation": 0, "round": 0, "position": 0, "phase": "steady", "wall_ns": [1], "cpu_ns": 1}
    cell = {"target": {"device": "desktop-cpu"}}
    with store.Journal(path) as log:
        log.append("run", schema=store.SCHEMA, cells=[cell], settings=settings, machine=machine, baseline="a")
        log.append("block", **block, t_s=1.5, involuntary_switches=0, steal_ticks=0)
    monkeypatch.setattr("mobench.campaign._again", lambda name, cell: cell)
    run = store.read(path)
    with pytest.raises(BadInputError, match="its budget is spent"):
        campaign.resume(run)
    with pytest.raises(BadInputError, match="is no file"):
        campaign.resume(dataclasses.replace(run, path=Path("HEAD:c.jsonl")), more_s=5)
    with store.Journal(path) as log:
        log.append("resume", t_s=1.5, settings=settings | {"budget_s": 4.0}, machine=machine)
    taken_up = campaign.resume(store.read(path))
    assert taken_up["settings"].budget_s == 4.0 and taken_up["resumed"]
