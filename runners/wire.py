"""The session protocol, both ends: framing, the parent's side of a session, deadlines and deaths.

A session is one live process that holds one model in one runtime. android_harness/PROTOCOL.md describes every message.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from mobench.errors import BadInputError, DeathError, SessionError
from mobench.records import Operator, Profile, Ready, Timing

PROTOCOL = 1
SEPARATOR = b"\x1e"  # RFC 7464: a JSON text a line behind it; any other line is a log
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one for every message
GRACE_S = 5.0  # a child ends itself at its deadline; the parent waits this much longer before it kills


def encode(message: Mapping[str, Any]) -> bytes:
    """Return one framed message."""
    return SEPARATOR + _ENCODER.encode(message).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any] | None:
    """Return the message a line holds, or None where the line is log output.

    What stands before the last separator is log output, or a message that its sender did not live to end (RFC 7464).

    Raises:
        SessionError: the line is framed but its JSON is not whole.
    """
    _, separator, text = line.rpartition(SEPARATOR)
    if not separator:
        return None
    try:
        message = json.loads(text.decode())  # of bytes it would look for the encoding first
    except ValueError as error:
        raise SessionError("session protocol", f"unreadable message {line[:80]!r}", "run again") from error
    if not isinstance(message, dict) or "type" not in message:
        raise SessionError("session protocol", f"message without a type {line[:80]!r}", "run again")
    return message


class Session:
    """The parent's side of one session. Every request has a deadline; a death is a SessionError, never a hang."""

    ready: Ready
    _patience_s = 2.0  # how long a child that was asked to end may take
    _look_s = math.inf  # how long nothing may come before somebody looks

    def __init__(self, command: Sequence[str], *, label: str, env: Mapping[str, str], start_deadline_s: float) -> None:
        """Start the child and wait until its model is loaded and has run once.

        Args:
            command: argument list of the child; no shell is involved.
            label: what errors call this session, for example the model's file name.
            env: the child's whole environment.
            start_deadline_s: seconds for load and first inference.

        Raises:
            SessionError: the model cannot be loaded or run, or the child died or was late.
        """
        self._label = label
        self._buffer = b""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the session)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=dict(env),
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends its children in order
        )
        try:
            hello = self._receive("hello", start_deadline_s)
            if hello.get("protocol") != PROTOCOL:
                raise SessionError(
                    label, f"the harness speaks protocol {hello.get('protocol')}, mobench {PROTOCOL}", "update both"
                )
            self.versions: Mapping[str, str] = hello["versions"]
            self.ready = _ready(self._receive("ready", start_deadline_s), self.versions)
        except BaseException:
            self.close()
            raise

    def time(self, *, lead_in: int, timed: int, deadline_s: float = 60.0) -> Timing:
        """Run ``lead_in`` untimed and ``timed`` timed inferences back to back."""
        answer = self._request({"type": "time", "lead_in": lead_in, "timed": timed}, "timing", deadline_s)
        wall = tuple(answer["wall_ns"])
        if len(wall) != timed:
            raise SessionError(self._label, f"{len(wall)} timings came for {timed} asked", "run again")
        return Timing(wall_ns=wall, cpu_ns=answer["cpu_ns"], involuntary_switches=answer["involuntary_switches"])

    def predict(self, inputs: np.ndarray, *, deadline_s: float = 60.0) -> np.ndarray:
        """Run the model once for each input; return its first output, stacked.

        Args:
            inputs: ``[N, ...]`` where ``...`` is the model's input shape without its batch axis, in the model's dtype.
            deadline_s: seconds for all N.

        Returns:
            ``[N, ...]`` in the output's own dtype (a quantized output is not dequantized).
        """
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="mobench-")
        source, sink = Path(self._scratch.name, "in.npy"), Path(self._scratch.name, "out.npy")
        np.save(source, np.ascontiguousarray(inputs))
        self._request({"type": "predict", "input": str(source), "output": str(sink)}, "predicted", deadline_s)
        outputs: np.ndarray = np.load(sink)
        return outputs

    def profile(self, *, turns: int, lead_in: int, timed: int, deadline_s: float = 600.0) -> Profile:
        """Run turns of inferences without and with the runtime's profiler; return the operators' times.

        Args:
            turns: how often either copy of the model has its turn.
            lead_in: untimed inferences at the beginning of each turn.
            timed: timed ones behind them.
            deadline_s: seconds for everything.

        Raises:
            SessionError: the runtime, or its version, has no operator times; or the child died.
        """
        request = {"type": "profile", "turns": turns, "lead_in": lead_in, "timed": timed}
        return _profile(self._request(request, "profile", deadline_s))

    def stream(self, sizes: Sequence[int], *, deadline_s: float = 120.0) -> tuple[int, ...]:
        """Return how many bytes a second the session's threads copy or read, by bytes of the working set."""
        answer = self._request({"type": "stream", "sizes": list(sizes)}, "rates", deadline_s)
        return tuple(answer["bytes_per_s"])

    def state(self, paths: Sequence[str], *, deadline_s: float = 10.0) -> dict[str, str]:
        """Return the text of the device's files that can be read, by path, as the session's own process sees them.

        It is how clocks are read in the moment in which a block ends, while they are still what they were in it.
        """
        answer = self._request({"type": "state", "paths": list(paths)}, "state", deadline_s)
        return dict(answer["files"])

    @property
    def alive(self) -> bool:
        """Whether its process has not ended."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the child: ask, then close its stdin, then kill. Never raises and never leaves a process behind."""
        process = self._process
        try:
            if process.poll() is None and process.stdin is not None:
                process.stdin.write(encode({"type": "bye"}))
        except OSError:
            pass  # it is already gone
        try:
            if process.stdin is not None:
                process.stdin.close()
        except OSError:
            pass
        try:
            process.wait(timeout=self._patience_s if hasattr(self, "ready") else 0.1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._log.close()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, message: dict[str, Any], answer: str, deadline_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode({**message, "deadline_ms": round(deadline_s * 1000)}))
        except (OSError, ValueError):
            raise self._death(deadline_s) from None
        return self._receive(answer, deadline_s)

    def _receive(self, expected: str, deadline_s: float) -> dict[str, Any]:
        end = time.monotonic() + deadline_s + GRACE_S
        while True:
            message = decode(self._line(end, deadline_s))
            if message is None:
                continue
            if message["type"] == expected:
                return message
            if message["type"] == "error":
                kind = BadInputError if message["kind"] == "bad_input" else SessionError
                raise kind(message["what"], message["why"], message["mend"])
            raise SessionError(self._label, f"{message['type']!r} came where {expected!r} was due", "run again")

    def _line(self, end: float, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()  # select() fails beyond 1,024 descriptors
        poll.register(descriptor, select.POLLIN)
        while b"\n" not in self._buffer:
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise self._late(deadline_s)
            if not poll.poll(min(left_s, self._look_s) * 1000):
                self._look()
                continue
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise self._death(deadline_s)
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _look(self) -> None:
        """Do what is to be done while nothing comes, every so often; a session over a cable looks after its phone."""

    def _late(self, deadline_s: float) -> SessionError:
        """End the child, which did not answer, and say so. A session over a cable says more."""
        self._process.kill()
        return SessionError(self._label, f"no answer in {deadline_s:g} s", "it hangs: try the other runtime")

    def _death(self, deadline_s: float) -> SessionError:
        """Say how the child died, with the last line it printed."""
        try:
            code = self._process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code == -signal.SIGALRM:
            return SessionError(
                self._label, f"not done within its deadline of {deadline_s:g} s", "it hangs: try the other runtime"
            )
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        mend = "the system may be out of memory" if code == -signal.SIGKILL else "try the other runtime"
        last = self._last_words()
        return DeathError(self._label, f"its process ended ({how})" + (f": {last}" if last else ""), mend)

    def _last_words(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else ""


def _profile(message: Mapping[str, Any]) -> Profile:
    """Build the record from a ``profile`` message."""
    try:
        operators = tuple(
            Operator(**{**fields, "path": tuple(fields["path"]), "ns": tuple(fields["ns"])})
            for fields in message["operators"]
        )
        return Profile(
            source=message["source"],
            tick_ns=message["tick_ns"],
            plain_ns=tuple(message["plain_ns"]),
            profiled_ns=tuple(message["profiled_ns"]),
            operators=operators,
            notes=tuple(message["notes"]),
        )
    except (KeyError, TypeError) as error:
        why = f"a profile message that does not fit ({error})"
        raise SessionError("session protocol", why, "update both") from error


def _ready(message: Mapping[str, Any], versions: Mapping[str, str]) -> Ready:
    """Build the record from a ``ready`` message."""
    fields = {key: value for key, value in message.items() if key != "type"}
    try:
        for key in ("cores", "inputs", "outputs", *({"left"} & fields.keys())):
            fields[key] = tuple(fields[key])
        return Ready(**fields, versions=dict(versions))
    except (KeyError, TypeError) as error:
        raise SessionError("session protocol", f"a ready message that does not fit ({error})", "update both") from error
