"""One lane of exports: a thread with a worker process of its own, which converts while the thread verifies."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters import memory
from exporters.finish import Outcome, Predict, finish, outcome, run
from exporters.recipe import Request
from exporters.schedule import Schedule
from exporters.worker import EXPLAINED, Converted, Done, Explained, Failed, Message, Reference, temporary_path
from mobench.errors import ExportError, MobenchError

# EfficientNet-B7 takes two minutes; what takes ten times as long hangs.
REQUEST_DEADLINE_S = 1800.0
_COMMAND = "import sys; from exporters.worker import main; sys.exit(main())"


class Lane:
    """Takes requests from the schedule until none is left, and settles each of their files."""

    def __init__(
        self,
        number: int,
        schedule: Schedule,
        settled: queue.SimpleQueue[Outcome | BaseException],
        predict: Predict,
        threads: int,
    ) -> None:
        self._number, self._schedule, self._settled = number, schedule, settled
        self._predict, self._threads = predict, threads
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self.thread = threading.Thread(target=self._run, name="mobench-export", daemon=True)

    def stop(self) -> None:
        """End the worker now; the thread ends when it notices."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _run(self) -> None:
        # Appending, so that reading here does not move where the child writes.
        with tempfile.TemporaryFile("a+b", buffering=0) as log:
            try:
                while not self._stopped and (taken := self._schedule.take(self._number, self._end)):
                    self._export(*taken, log)
            except BaseException as error:
                self._settled.put(error)
            finally:
                self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what it still held was for a dead process
                        pipe.close()

    def _worker(self, log: Any) -> subprocess.Popen[bytes]:
        """Return the lane's worker, started afresh when there is none or the last one died."""
        if self._process is None or self._process.poll() is not None:
            self._end()
            env = {**os.environ, "OMP_NUM_THREADS": str(self._threads), "TF_CPP_MIN_LOG_LEVEL": "1"}
            with self._lock:
                if self._stopped:
                    raise _Stopped
                self._process = subprocess.Popen(
                    # -P: a folder called `exporters` where the user stands must not shadow ours.
                    [sys.executable, "-P", "-c", _COMMAND, str(self._threads)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=env,
                    start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends its workers in order
                )
        return self._process

    def _export(self, request: Request, alone: bool, log: Any) -> None:
        """Have one request converted, and settle each of its precisions or put it back."""
        start = log.seek(0, os.SEEK_END)
        left = list(request.precisions)
        again: list[str] = []
        began_s = last_s = time.monotonic()
        kills = memory.kills()

        def settle(precision: str, **more: Any) -> None:
            nonlocal last_s
            left.remove(precision)
            now_s = time.monotonic()
            status = "failed" if "error" in more else "exported"
            self._settled.put(outcome(request, precision, status, now_s - last_s, **more))  # type: ignore[arg-type]
            last_s = now_s

        reference: _Checked | MobenchError | None = None
        explained: Explained | None = None
        deadline: threading.Timer | None = None
        try:
            process = self._worker(log)
            deadline = threading.Timer(REQUEST_DEADLINE_S, process.kill)
            deadline.daemon = True
            deadline.start()
            assert process.stdin is not None and process.stdout is not None
            pickle.dump(request, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            while True:
                message: Message = pickle.load(process.stdout)
                match message:
                    case Done():
                        return
                    case Reference():
                        reference = self._reference(request, message)
                    case Explained():
                        explained = message
                    case Failed(precision=precision, out_of_memory=True) if not alone:
                        left.remove(precision)
                        again.append(precision)
                    case Failed(precision=precision, error=error, trace=trace):
                        settle(precision, error=error, log=_read(log, start) + trace)
                    case Converted(precision=precision, path=path, kept=kept) if reference is not None:
                        of_int8 = precision == "int8"
                        more: dict[str, Any] = {"keep_float": kept} if of_int8 else {}
                        try:
                            if isinstance(reference, MobenchError):
                                path.unlink(missing_ok=True)
                                raise reference
                            manifest = finish(
                                request,
                                precision,
                                path,
                                reference.images,
                                reference.logits,
                                self._predict,
                                explained=explained if of_int8 else None,
                                more=more,
                            )
                        except MobenchError as error:
                            told = more.get("explanation", {})
                            settle(precision, error=error, log=_read(log, start), explanation=told)
                        else:
                            settle(precision, manifest=manifest, explanation=manifest.get("explanation", {}))
        except _Stopped:
            return
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            if self._stopped:
                return
            why, out_of_memory = self._death(time.monotonic() - began_s, kills)
            if out_of_memory and not alone:
                again, left = again + left, []
            for precision in tuple(left):
                what = f"{request.path(precision).name} could not be exported"
                mend = "close what else runs, or export at a smaller --size" if out_of_memory else ""
                died = ExportError(what, why, mend or "see --verbose for the libraries' words")
                settle(precision, error=died, log=_read(log, start))
        finally:
            if deadline is not None:
                deadline.cancel()
            self._remove_temporaries(request)
            if again and not self._stopped:
                self._end()  # what it held is what the others lacked
                self._schedule.again_alone(replace(request, precisions=tuple(again)))

    def _reference(self, request: Request, message: Reference) -> _Checked | MobenchError:
        """Return what the files are verified against, or why the file that was given cannot say it."""
        if message.logits is not None:
            return _Checked(message.images, message.logits)
        assert request.given is not None
        try:
            path = request.given.path
            return _Checked(message.images, run(request, path, message.images, self._predict, path.name)[0])
        except MobenchError as error:
            return error

    def _death(self, waited_s: float, kills_before: int | None) -> tuple[str, bool]:
        """Say how the worker ended, and whether that was for want of memory, as far as one can know."""
        process = self._process
        assert process is not None
        process.kill()
        code = process.wait()
        if waited_s >= REQUEST_DEADLINE_S:
            return f"the converter was not done within {REQUEST_DEADLINE_S:g} s", False
        if code == -signal.SIGKILL:
            kills = memory.kills()
            if kills is not None and kills_before is not None and kills > kills_before:
                return "the kernel killed the converter's process: out of memory", True
            return "the converter's process was killed by SIGKILL, as systems do when memory runs out", True
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"the converter's process ended ({how})", False

    def _remove_temporaries(self, request: Request) -> None:
        if self._process is not None:
            for precision in (*request.precisions, EXPLAINED):
                temporary_path(request.path(precision), self._process.pid).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Checked:
    """Images [N, S, S, 3] and what a file's logits for them should be, [N, classes]."""

    images: npt.NDArray[np.float32]
    logits: npt.NDArray[Any]


class _Stopped(Exception):  # noqa: N818 (not an error: the caller wants no more)
    """The lane was told to stop before its worker started."""


def _read(log: Any, start: int) -> str:
    log.seek(start)
    text: str = log.read().decode(errors="replace")
    return text
