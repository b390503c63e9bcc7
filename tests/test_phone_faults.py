"""Random faults over whole campaigns: nothing measured is lost, nothing is invented, nothing is left on the phone."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from standin import StandIn, sequence
from standin.faults import LOSES_LINK, until
from test_selftest import equipped  # noqa: F401 (a fixture)

from mobench import campaign, store
from mobench.design import Settings
from mobench.errors import MobenchError
from mobench.hosts.opening import open_host
from mobench.plan import make_cells
from mobench.records import Artifact, Run, Target, Timing
from runners import adb, wire
from runners.android import care, sessions, source
from runners.android.folder import ROOT, Folder

SEEDS = range(*map(int, os.environ.get("MOBENCH_FAULT_SEEDS", "8").split("-")))  # how many, or FIRST-END
BUDGET_S = 3.0
DEADLINE_S = 120.0  # for a campaign with all that happens to it
ENDS = {"precise", "budget", "failed", "unplugged", "not_ready"}
# After these a campaign that has begun goes on to its end, and no cell is given up.
RECOVERED = {*LOSES_LINK, "hang", "clock", "stutter", "slow"}
# A campaign of nothing but its least pushes 38 MB, moves 450 kB more, and of these 145 kB are what dumpsys prints.
REACH = {"": 50_000, "sync:": 30_000_000, "shell": 30_000, "mobench-harness": 20_000, "dumpsys": 8_000}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what only waits: the faults here last under a second."""
    for module, name, seconds in (
        (adb, "RECONNECT_AFTER_S", 0.3),
        (adb, "PING_S", 1.5),
        (adb, "LOOK_S", 1.0),
        (sessions.AndroidSession, "_look_s", 1.0),
        (sessions, "ANSWER_S", 3.0),
        (adb, "POLL_S", 0.05),
        (wire, "GRACE_S", 1.0),
        (source, "DEADLINE_S", 5.0),
        (care, "RECONNECT_S", 30.0),
        (care, "ANSWER_S", 3.0),
        (care, "SETTLE_S", 0.1),
        (care, "POLL_S", 0.2),
    ):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setitem(adb.Adb.shell.__kwdefaults__, "deadline_s", 5.0)
    monkeypatch.setitem(Folder._shell.__kwdefaults__, "deadline_s", 5.0)
    monkeypatch.setitem(sessions.open_session.__kwdefaults__, "start_deadline_s", 15.0)


class Heard:
    """The timings that the campaign was given, as they came out of the harness's pipe and session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[tuple[int, ...]] = []
        real = wire.Session.time

        def time(session: wire.Session, **asked: object) -> Timing:
            timing = real(session, **asked)  # type: ignore[arg-type]
            self.given.append(timing.wall_ns)
            return timing

        monkeypatch.setattr(wire.Session, "time", time)


def said_by_harness(device: StandIn) -> set[tuple[int, ...]]:
    """Return the timings that left a harness on the device, before any fault touched them."""
    messages = (json.loads(line) for line in device.said if line.startswith('{"type":"timing"'))
    return {tuple(message["wall_ns"]) for message in messages}


def artifact(path: Path) -> Artifact:
    data = path.read_bytes()
    form = "onnx" if path.suffix == ".onnx" else "tflite"
    return Artifact(
        path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), format=form, name=path.name
    )


def measure(device: StandIn, files: list[Path], journal: Path, seed: int) -> Run | MobenchError:
    """Measure a campaign, or return why it did not begin."""
    try:
        with open_host(["android-cpu"], serials=[device.serial]) as host:
            targets = [
                Target(device="android-cpu", runtime=runtime, cores=host.choose_cores(1))
                for runtime in ("litert", "ort")
            ]
            cells = make_cells([artifact(path) for path in files], targets)
            settings = Settings(budget_s=BUDGET_S, ratio_half_width=0.0001, seed=seed, deadline_s=4.0)
            return campaign.run_cells(cells, host=host, settings=settings, journal=journal)
    except MobenchError as error:
        return error


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_at_random_moments(
    seed: int,
    equipped: None,  # noqa: F811
    standin: Callable[..., StandIn],
    onnx_model: Path,
    tflite_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    device = standin(("pixel", "samsung", "android9")[seed % 3], faults=sequence(seed, reach=REACH))
    heard, journal = Heard(monkeypatch), tmp_path / "campaign.jsonl"
    ended: list[Run | MobenchError] = []
    thread = threading.Thread(
        target=lambda: ended.append(measure(device, [onnx_model, tflite_model], journal, seed)), daemon=True
    )
    thread.start()
    thread.join(DEADLINE_S)
    struck = [fault.kind for fault in device.faults.happened]
    record_property("struck", " ".join(struck))
    if not ended:
        faulthandler.dump_traceback(sys.__stderr__)
    assert ended, f"it hangs; so far: {device.faults.happened}"
    assert struck, "a sequence that never strikes tries nothing"
    if isinstance(ended[0], MobenchError):
        record_property("end", "one line before it began")
        assert "\n" not in str(ended[0]) and ended[0].why, ended[0]
    timed = []
    if journal.exists() and journal.stat().st_size:
        run = store.read(journal)
        timed = [block.wall_ns for block in run.blocks]
        record_property("blocks", len(timed))
        record_property("pauses", len(run.pauses))
        if isinstance(ended[0], Run):
            record_property("end", run.end)
            assert run.end in ENDS
            if set(struck) <= RECOVERED:
                assert run.end in ("precise", "budget") and not run.failures, (run.failures, run.pauses)
        for failure in run.failures:
            assert "\n" not in failure.why and failure.mend, failure
        for pause in run.pauses:
            assert "\n" not in pause["why"], pause
    assert timed == heard.given, "each timing that came is in the journal, once"
    assert set(timed) <= said_by_harness(device), "and each was measured"
    # The phone may be away at the end: mobench cleans it when it meets it next.
    device.faults.clear()
    device.plug_in()
    assert adb.Adb(device.serial).wait(20)
    with open_host(["android-cpu"], serials=[device.serial]):
        pass
    left = [*device.processes(), *device.path(f"{ROOT}/run").glob("*")]
    assert until(lambda: not [*device.processes(), *device.path(f"{ROOT}/run").glob("*")]), (
        left,
        device.faults.happened,
    )
    assert device.setting("fixed_performance") in ("", "false")
