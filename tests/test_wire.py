"""The session protocol from the parent's side, against children that misbehave in every way a process can."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from mobench.errors import MobenchError, SessionError
from runners import wire

GOLDEN = Path(__file__).parent / "golden" / "session_protocol1.txt"
HELLO = {"type": "hello", "protocol": 1, "harness": "script", "versions": {"script": "1"}}
READY = {
    "type": "ready",
    "init_ns": 5,
    "first_ns": 7,
    "rss_before_mb": 1.0,
    "peak_rss_mb": 2.0,
    "asked": "X",
    "got": "X",
    "nodes_delegated": None,
    "nodes_total": None,
    "threads": 1,
    "cores": [0],
    "inputs": [{"name": "i", "shape": [1, 2], "dtype": "float32"}],
    "outputs": [{"name": "o", "shape": [1, 3], "dtype": "float32"}],
}
TIMING = {"type": "timing", "wall_ns": [3, 4], "cpu_ns": 6, "involuntary_switches": 0}


def child(*steps: str, start_deadline_s: float = 20.0) -> wire.Session:
    """Start a script whose ``say(message)`` and ``hear()`` speak the protocol."""
    script = (
        "import sys, os, json, time, signal\n"
        "def say(m): os.write(1, b'\\x1e' + json.dumps(m).encode() + b'\\n')\n"
        "def hear(): return sys.stdin.buffer.readline()\n"
        f"HELLO, READY, TIMING = json.loads({json.dumps(json.dumps([HELLO, READY, TIMING]))})\n"
    )
    command = [sys.executable, "-c", script + "\n".join(steps)]
    return wire.Session(command, label="net.onnx", env=os.environ, start_deadline_s=start_deadline_s)


def test_a_session_answers_and_ends_when_it_is_closed() -> None:
    with child("say(HELLO); say(READY); hear(); say(TIMING); hear()") as session:
        assert session.ready.init_ns == 5 and session.ready.cores == (0,)
        assert session.time(lead_in=1, timed=2).wall_ns == (3, 4)
        process = session._process
    assert process.returncode == 0


def test_what_a_runtime_prints_is_log_and_not_an_answer() -> None:
    with child("say(HELLO); os.write(1, b'INFO: loading\\n'); say(READY); hear(); say(TIMING); hear()") as session:
        assert session.time(lead_in=0, timed=2).cpu_ns == 6


def test_a_message_behind_half_a_line_is_read_and_the_half_is_not() -> None:
    halves = 'os.write(1, b\'INFO: no end \\x1e{"type":"rea\')'
    with child(f"say(HELLO); {halves}; say(READY); hear()") as session:
        assert session.ready.init_ns == 5


def test_messages_that_come_in_pieces_or_together_are_told_apart() -> None:
    pieces = (
        "text = b'\\x1e' + json.dumps(HELLO).encode() + b'\\n\\x1e' + json.dumps(READY).encode() + b'\\n'",
        "for i in range(0, len(text), 7): os.write(1, text[i:i+7]); time.sleep(0.001)",
        "hear()",
    )
    with child(*pieces) as session:
        assert session.ready.first_ns == 7


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL.*out of memory"),
        ("sys.stderr.write('bad weights\\n'); sys.exit(3)", "exit status 3.*bad weights"),
        ("os.abort()", "killed by SIGABRT"),
        ("say({**HELLO, 'protocol': 9})", "protocol 9"),
        ("os.write(1, b'\\x1e{\"type\":\\n'); hear()", "unreadable message"),
        ("os.write(1, b'\\x1e[1]\\n'); hear()", "without a type"),
        ("say(HELLO); say({'type': 'ready'}); hear()", "does not fit"),
        ("say(HELLO); say(TIMING); hear()", "'timing' came where 'ready' was due"),
        ("say(HELLO); say({'type':'error','kind':'session','what':'w','why':'y','mend':'m'})", "w: y; m"),
        ("signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.alarm(1); time.sleep(9)", "deadline of"),
    ],
)
def test_a_child_that_fails_at_the_start_is_one_line(steps: str, message: str) -> None:
    with pytest.raises(MobenchError, match=message) as raised:
        child(steps)
    assert "\n" not in str(raised.value)


def test_a_child_that_dies_in_a_request_is_an_error_and_not_a_hang() -> None:
    with (
        child("say(HELLO); say(READY); hear(); os.kill(os.getpid(), signal.SIGSEGV)") as session,
        pytest.raises(SessionError, match="SIGSEGV"),
    ):
        session.time(lead_in=0, timed=2)


def test_fewer_timings_than_asked_are_refused() -> None:
    with (
        child("say(HELLO); say(READY); hear(); say(TIMING); hear()") as session,
        pytest.raises(SessionError, match="2 timings came for 3"),
    ):
        session.time(lead_in=0, timed=3)


def test_silence_ends_at_the_deadline_and_the_child_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "GRACE_S", 0.2)
    began = time.monotonic()
    with (
        child("say(HELLO); say(READY); hear(); time.sleep(60)") as session,
        pytest.raises(SessionError, match=r"no answer in 0\.2 s"),
    ):
        session.time(lead_in=0, timed=1, deadline_s=0.2)
    assert session._process.returncode is not None
    assert time.monotonic() - began < 20


def test_a_child_that_ignores_the_end_is_killed() -> None:
    session = child("say(HELLO); say(READY); hear(); time.sleep(60)")
    session.close()
    assert session._process.returncode == -9


def test_every_message_of_the_golden_transcript_survives_the_wire() -> None:
    lines = GOLDEN.read_bytes().splitlines(keepends=True)
    messages = [wire.decode(line) for line in lines]
    assert [m["type"] for m in messages if m] == [
        "hello", "ready", "time", "timing", "predict", "predicted", "error", "profile", "profile", "stream", "rates",
        "state", "state", "bye",
    ]  # fmt: skip
    assert [wire.encode(m) for m in messages if m] == [line for line in lines if line.startswith(wire.SEPARATOR)]


def test_the_golden_profile_becomes_a_record() -> None:
    messages = [m for line in GOLDEN.read_bytes().splitlines() if (m := wire.decode(line))]
    answer = next(m for m in messages if m["type"] == "profile" and "operators" in m)
    steps = f"say(HELLO); say(READY); hear(); say(json.loads({json.dumps(json.dumps(answer))})); hear()"
    with child(steps) as session:
        profile = session.profile(turns=1, lead_in=2, timed=2)
    first, second = profile.operators
    assert (first.path, first.macs, first.ns) == (("0",), 10838016, (242000, 239000))
    assert (second.path, second.macs, second.moved_bytes) == ((), 0, None)
    assert profile.plain_ns == (4180123, 4176001) and profile.tick_ns == 1000


def test_a_profile_that_does_not_fit_is_refused() -> None:
    with (
        child(
            "say(HELLO); say(READY); hear(); say({'type': 'profile', 'operators': [{'name': 'x'}]}); hear()"
        ) as session,
        pytest.raises(SessionError, match="a profile message that does not fit"),
    ):
        session.profile(turns=1, lead_in=0, timed=1)


def test_a_child_that_knows_no_profile_says_so_and_lives() -> None:
    error = "{'type': 'error', 'kind': 'session', 'what': 'net', 'why': 'unknown request', 'mend': ''}"
    with child(f"say(HELLO); say(READY); hear(); say({error}); hear(); say(TIMING); hear()") as session:
        with pytest.raises(SessionError, match="unknown request"):
            session.profile(turns=1, lead_in=0, timed=1)
        assert session.time(lead_in=0, timed=2).cpu_ns == 6
