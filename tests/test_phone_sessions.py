"""Sessions on a phone, against harnesses that misbehave in every way: each end is told apart, and none is left."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_adb import SHELLS, FakeAdb
from test_phone import make
from test_wire import HELLO, READY, TIMING

from mobench.errors import BadInputError, DeathError, LinkError, MobenchError, SessionError
from mobench.records import Artifact, Target
from runners import wire
from runners.android import build, runtimes, sessions
from runners.android.folder import ROOT, Folder
from runners.android.runtimes import Runtime

BOOT = "/proc/sys/kernel/random/boot_id"
# A harness that does what its model's file says, as Python.
HARNESS = f"""#!{sys.executable}
import json, os, signal, sys, time
import numpy as np
config = json.loads(sys.argv[1])
def say(message): os.write(1, b"\\x1e" + json.dumps(message).encode() + b"\\n")
def hear(): return json.loads(sys.stdin.buffer.readline()[1:] or b"{{}}")
HELLO, READY, TIMING = json.loads({json.dumps(json.dumps([HELLO, READY, TIMING]))})
HELLO["versions"] = {{"harness": "1", "abi": "x86_64"}}
READY["cores"] = config["cores"]
ROOT = config["model"].partition("/data/local")[0]  # where this host keeps the phone's folders
def start(): say(HELLO); say(READY)
exec(open(config["model"]).read())
"""
PREDICT = """start()
request = hear()
np.save(ROOT + request["output"], np.load(ROOT + request["input"]) * 2)
say({"type": "predicted"})
hear()"""


HANG = "start(); hear(); os.close(1); time.sleep(60)"


class Bench:
    """A phone with a harness, and models for it."""

    def __init__(self, adb: FakeAdb, folder: Path) -> None:
        self.adb, self.here = adb, folder
        self.folder = Folder(adb)
        self.phone = make([([0, 1], 1)], abis=("x86_64",))

    def model(self, steps: str, name: str = "net") -> Artifact:
        """Write a model that is Python for the harness."""
        path = self.here / f"{name}.onnx"
        path.write_text(steps)
        return Artifact(path=path, sha256="", size_bytes=len(steps), format="onnx", name=name)

    def open(self, steps: str, name: str = "net", **options: Any) -> sessions.AndroidSession:
        """Open a session of it."""
        target = Target(device="android-cpu", runtime="ort", cores=options.pop("cores", ()))
        options = {"start_deadline_s": 20.0, **options}
        return sessions.open_session(self.phone, self.adb, self.folder, self.model(steps, name), target, **options)

    def left(self) -> list[str]:
        """Return what lies in folders of sessions."""
        return [str(path) for path in self.adb.path(f"{ROOT}/run").rglob("*")]


@pytest.fixture(params=[shell for shell in SHELLS if shell != "bash"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    adb = FakeAdb(tmp_path / "phone", shell=request.param)
    adb.write({BOOT: "boot-1", "/data/local/tmp/x": ""})
    for name, text in (("mobench-harness", HARNESS), ("libonnxruntime.so", "ELF")):
        (tmp_path / name).write_text(text)
    runtime = Runtime(
        abi="x86_64",
        runtime="ort",
        library=tmp_path / "libonnxruntime.so",
        accelerators=(),
        version="1.31.1",
        source="",
        sha256={},
    )
    monkeypatch.setattr(runtimes, "find", lambda abi, runtime_: runtime)
    monkeypatch.setattr(build, "harness", lambda abi: tmp_path / "mobench-harness")
    monkeypatch.setattr(sessions.AndroidSession, "_patience_s", 2.0)
    yield Bench(adb, tmp_path)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def harness_of(session: sessions.AndroidSession) -> int:
    (pid,) = session._folder.running[session._place or ""] - {os.getpid()}  # the other one is what adbd is on a phone
    return pid


def test_a_session_times_and_predicts_and_leaves_nothing(bench: Bench) -> None:
    with bench.open("start(); hear(); say(TIMING); hear()", cores=(0, 1)) as session:
        assert session.ready.init_ns == 5 and session.ready.cores == (0, 1)
        assert session.ready.versions["abi"] == "x86_64"
        assert session.time(lead_in=1, timed=2).wall_ns == (3, 4)
        pid = harness_of(session)
        assert bench.left() and bench.folder.processes() == {pid, os.getpid()} and lives(pid)
    assert bench.left() == [] and bench.folder.processes() == frozenset() and not lives(pid)
    inputs = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    with bench.open(PREDICT) as session:
        np.testing.assert_array_equal(session.predict(inputs.transpose(0, 2, 1)), inputs.transpose(0, 2, 1) * 2)
    assert bench.left() == []


def test_the_harness_gets_paths_on_the_phone_and_what_the_target_asks(bench: Bench) -> None:
    steps = "HELLO['versions']['config'] = json.dumps(config); start(); hear()"
    with bench.open(steps, name="a b;$(x)", shape=(1, 3, 8, 8)) as session:
        config = json.loads(session.versions["config"])
    files = f"{bench.adb.root}{ROOT}/files/"
    assert all(config[key].startswith(files) for key in ("library", "model"))
    assert Path(config["model"]).name == "a_b___x_.onnx" and config["accelerators"] == ""
    assert (config["runtime"], config["provider"], config["threads"], config["batch"]) == ("ort", "cpu", 1, 1)
    assert (config["shape"], config["deadline_s"], config["idle_s"]) == ([1, 3, 8, 8], 20.0, sessions.IDLE_S)


def test_sessions_of_several_models_live_side_by_side(bench: Bench) -> None:
    steps = "start()\nfor _ in range(3): hear(); say({{**TIMING, 'cpu_ns': {0}}})\nhear()"
    opened = [bench.open(steps.format(at), name=f"net{at}") for at in range(3)]
    for _ in range(3):
        assert [session.time(lead_in=0, timed=2).cpu_ns for session in opened] == [0, 1, 2]
    opened[1].close()
    assert bench.folder.processes() == {harness_of(opened[0]), harness_of(opened[2]), os.getpid()}
    for session in opened:
        session.close()
        session.close()
    assert bench.left() == [] and bench.folder.processes() == frozenset()


END = {
    "os.kill(os.getpid(), signal.SIGKILL)": (DeathError, "memory"),
    "os.kill(os.getpid(), signal.SIGSEGV)": (DeathError, "signal 11"),
    "sys.stderr.write('bad weights\\n'); sys.exit(3)": (DeathError, "exit status 3.*bad weights"),
    "signal.alarm(1); time.sleep(30)": (SessionError, "deadline of 20 s.*throttled"),
    'os.write(1, b\'\\x1e{"type": "rea\'); os.kill(os.getpid(), signal.SIGKILL)': (DeathError, "memory"),
    "os.write(1, b'INFO no newline'); os.kill(os.getpid(), signal.SIGKILL)": (DeathError, "memory"),
    "os._exit(73)": (SessionError, "nothing can be written"),
    "os._exit(0)": (SessionError, "no request came"),
    "say({**HELLO, 'protocol': 2}); hear()": (SessionError, "protocol 2"),
    "os.write(1, b'\\x1e{\"type\":\\n'); hear()": (SessionError, "unreadable message"),
    "say({'type':'error','kind':'session','what':'w','why':'y','mend':'m'}); hear()": (SessionError, "w: y; m"),
    "say({'type':'error','kind':'bad_input','what':'w','why':'y','mend':'m'}); hear()": (BadInputError, "w: y; m"),
    "HELLO['versions']['harness'] = '0'; start(); hear()": (SessionError, "of version 0, mobench needs 1.*build"),
    "READY['cores'] = [0]; start(); hear()": (SessionError, "cores 0,1 were asked for, it runs on 0"),
}


@pytest.mark.parametrize("steps", END, ids=lambda steps: steps[:30])
def test_every_end_at_the_start_is_told_apart_in_one_line(bench: Bench, steps: str) -> None:
    kind, message = END[steps]
    with pytest.raises(kind, match=message) as raised:
        bench.open(steps, cores=(0, 1))
    assert "\n" not in str(raised.value) and not isinstance(raised.value, LinkError)
    assert bench.left() == [] and bench.folder.processes() == frozenset()


@pytest.mark.parametrize("steps", list(END)[:7], ids=lambda steps: steps[:30])
def test_every_end_in_a_request_is_told_apart(bench: Bench, steps: str) -> None:
    kind, message = END[steps]
    with (
        bench.open(f"start(); hear(); {steps}") as session,
        pytest.raises(kind, match=message),
    ):
        session.time(lead_in=0, timed=2, deadline_s=20.0)
    assert bench.left() == []


def unplug(bench: Bench, session: sessions.AndroidSession) -> None:
    """End adb and the phone's shell, and leave the harness: the worst that a cut cable does."""
    bench.adb.unplugged = True
    session._process.kill()


def test_a_cut_cable_is_a_link_error_and_what_it_leaves_is_ended_when_it_is_back(bench: Bench) -> None:
    session = bench.open(HANG)
    pid = harness_of(session)
    unplug(bench, session)
    with pytest.raises(LinkError, match="not found"):
        session.time(lead_in=0, timed=2)
    session.close()
    bench.adb.unplugged = False
    assert lives(pid)
    with bench.open("start(); hear(); say(TIMING); hear()") as session:
        assert not lives(pid)  # before anything is timed beside it
        assert session.time(lead_in=0, timed=2).wall_ns == (3, 4)
    assert bench.left() == []


def test_a_link_that_broke_for_a_moment_is_a_link_error_too(bench: Bench) -> None:
    with bench.open(HANG) as session:
        session._process.kill()
        with pytest.raises(LinkError, match="the link broke"):
            session.time(lead_in=0, timed=2)
    assert bench.left() == []


@pytest.mark.parametrize(
    ("cut", "kind", "why"), [(True, LinkError, "the link broke"), (False, SessionError, "No such")]
)
def test_a_file_that_went_with_a_cut_session_is_a_lost_link(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, cut: bool, kind: type[MobenchError], why: str
) -> None:
    """The cable is back before adb's second try, which finds the session's folder gone."""
    with bench.open(PREDICT) as session:

        def pull(source: str, target: Path, **_: object) -> None:
            if cut:
                session._process.kill()
            raise SessionError("phone", "No such file or directory", "")

        monkeypatch.setattr(bench.adb, "pull", pull)
        with pytest.raises(kind, match=why) as raised:
            session.predict(np.ones((1, 2), np.float32))
    assert isinstance(raised.value, LinkError) is cut


def test_a_restart_of_the_phone_is_named(bench: Bench) -> None:
    with bench.open(HANG) as session:
        session._process.kill()
        bench.adb.write({BOOT: "boot-2"})
        with pytest.raises(LinkError, match="it has restarted"):
            session.time(lead_in=0, timed=2)


@pytest.mark.parametrize("unplugged", [False, True])
def test_silence_ends_at_the_deadline_and_asks_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, unplugged: bool
) -> None:
    monkeypatch.setattr(wire, "GRACE_S", 0.2)
    session = bench.open("start(); hear(); time.sleep(60)")
    pid = harness_of(session)
    bench.adb.unplugged = unplugged
    with pytest.raises(LinkError if unplugged else SessionError, match="not found" if unplugged else "no answer"):
        session.time(lead_in=0, timed=2, deadline_s=0.3)
    bench.adb.unplugged = False
    session.close()
    assert not lives(pid) and bench.left() == []


def test_a_session_that_starts_for_minutes_is_waited_for_while_its_phone_answers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions.AndroidSession, "_look_s", 0.1)
    with bench.open("time.sleep(1); start(); hear(); time.sleep(0.5); say(TIMING); hear()") as session:
        looks = bench.adb.scripts.count(f"cat {BOOT}")
        assert looks
        session.time(lead_in=0, timed=2)
        assert bench.adb.scripts.count(f"cat {BOOT}") == looks, "nobody looks while something is timed"
    began = time.monotonic()

    def unplug_at_the_start() -> None:
        while not bench.folder.processes():
            time.sleep(0.01)
        bench.adb.unplugged = True

    threading.Thread(target=unplug_at_the_start, daemon=True).start()
    with pytest.raises(LinkError, match="not found"):
        bench.open("time.sleep(300)", start_deadline_s=300.0)
    assert time.monotonic() - began < 30
    bench.adb.unplugged = False
    with bench.open("start(); hear()"):
        assert len(bench.left()) == 3, "its own folder, its owner and its process: what was left is gone"
    assert bench.left() == []


def test_a_harness_that_ignores_its_end_is_ended(bench: Bench) -> None:
    session = bench.open("signal.signal(signal.SIGHUP, signal.SIG_IGN); start(); time.sleep(60)")
    pid = harness_of(session)
    assert lives(pid)
    session.close()
    assert not lives(pid) and bench.left() == []


def test_files_that_somebody_removed_from_the_phone_are_pushed_again(bench: Bench) -> None:
    bench.open("start(); hear()").close()
    for path in bench.adb.path(f"{ROOT}/files").rglob("*.onnx"):
        path.unlink()
    before = bench.adb.pushed
    bench.open("start(); hear()").close()
    assert bench.adb.pushed - before == len("start(); hear()")


def test_a_phone_on_which_nothing_may_run_says_so(bench: Bench) -> None:
    there = bench.folder.put(build.harness("x86_64"), executable=True)
    bench.adb.path(there).chmod(0o644)
    if os.access(bench.adb.path(there), os.X_OK):
        pytest.skip("this user may run what is not executable")
    with pytest.raises(SessionError, match="does not let it run"):
        bench.open("start()")
    assert bench.left() == []


def test_outputs_that_change_on_their_way_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(source: str, target: Path, *, deadline_s: float = 300.0) -> None:
        outputs = np.load(bench.adb.path(source))
        np.save(target, outputs + 1)

    monkeypatch.setattr(bench.adb, "pull", pull)
    with bench.open(PREDICT) as session, pytest.raises(SessionError, match="not on the phone as they are here"):
        session.predict(np.ones((1, 2), np.float32))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(device="android-gpu", runtime="ort"), "ort: there is none for android-gpu; litert: gpu-fp16"),
        (Target(device="android-cpu", runtime="ort", provider="nnapi"), "ort nnapi: there is none"),
        (Target(device="android-cpu", runtime="litert"), r"litert does not read \.onnx"),
        (Target(device="watch", runtime="ort"), "none for watch"),
    ],
)
def test_what_a_phone_cannot_run_is_refused_before_anything_is_pushed(
    bench: Bench, target: Target, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        sessions.open_session(bench.phone, bench.adb, bench.folder, bench.model(""), target)
    assert bench.adb.pushed == 0


def test_a_gpu_without_its_library_is_refused(bench: Bench) -> None:
    artifact = Artifact(path=bench.here / "net.tflite", sha256="", size_bytes=0, format="tflite", name="net")
    with pytest.raises(BadInputError, match=r"no GPU accelerator for x86_64.*setup"):
        sessions.open_session(
            bench.phone, bench.adb, bench.folder, artifact, Target(device="android-gpu", runtime="litert")
        )


def test_an_unplugged_phone_is_a_link_error_from_the_start(bench: Bench) -> None:
    bench.adb.unplugged = True
    began = time.monotonic()
    with pytest.raises(LinkError):
        bench.open("start()")
    assert time.monotonic() - began < 5 and issubclass(LinkError, MobenchError)


def test_an_end_that_is_not_whole_is_one_line_too(bench: Bench) -> None:
    with (
        bench.open("""start(); hear(); os.write(1, b'\\x1e{"type":"end","st\\n'); hear()""") as session,
        pytest.raises(SessionError, match="unreadable message"),
    ):
        session.time(lead_in=0, timed=3)
    assert bench.left() == []
