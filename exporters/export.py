"""Runs export requests in worker processes and verifies each file; only then is it given its name and a manifest."""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from exporters.recipe import Request
from exporters.verify import check, compare, manifest_entry, tolerance
from exporters.worker import Converted, Done, Failed, Message, Reference, temporary_path
from mobench import artifacts
from mobench.errors import ExportError, MobenchError
from mobench.records import Format

# Runs a model file on inputs [N, ...] in the file's own layout; returns logits [N, classes], and what the manifest says
# of the runtime. It must survive a runtime that aborts, so it does its work in another process.
Predict = Callable[[Path, npt.NDArray[np.float32]], tuple[npt.NDArray[Any], Mapping[str, Any]]]

# EfficientNet-B7 takes two minutes; what takes ten times as long hangs.
REQUEST_DEADLINE_S = 1800.0
# A worker holds torch, a converter and a network: about 1.5 GB. More of them only swap on an ordinary machine.
MOST_JOBS = 4
_COMMAND = "import sys; from exporters.worker import main; sys.exit(main())"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one file. ``seconds`` is its share of its request's wall clock; ``log`` what libraries printed."""

    label: str
    format: Format
    precision: str
    path: Path
    status: Literal["exported", "unchanged", "failed"]
    seconds: float
    manifest: Mapping[str, Any] = field(default_factory=dict)
    error: MobenchError | None = None
    log: str = ""


def default_jobs() -> int:
    """Return how many exports run side by side: one a core this process may use, up to a few."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_JOBS, cores))


def export_all(
    requests: Sequence[Request],
    *,
    predict: Predict,
    jobs: int | None = None,
    talk: Callable[[str], None] | None = None,
) -> Iterator[Outcome]:
    """Export, yielding each file's outcome as it is settled; files that are there and unchanged come first.

    A failed export is an outcome and does not stop the others. Closing the iterator, as Ctrl-C does, ends the workers
    and removes what they had begun; every file that was yielded stays.

    Args:
        requests: what to export; those that take longest should come first.
        predict: runs a file for its verification.
        jobs: worker processes side by side.
        talk: told how many files there are to make, when there are any.

    Raises:
        OSError: a folder cannot be made.
    """
    work: queue.SimpleQueue[Request] = queue.SimpleQueue()
    due = 0
    for request in requests:
        needed = []
        for precision in request.precisions:
            manifest = request.unchanged(precision)
            if manifest is None:
                needed.append(precision)
            else:
                yield _outcome(request, precision, "unchanged", 0.0, manifest=manifest)
        if needed:
            request.folder.mkdir(parents=True, exist_ok=True)
            work.put(replace(request, precisions=tuple(needed)))
            due += len(needed)
    if due:
        jobs = min(jobs or default_jobs(), work.qsize())
        if talk is not None:
            talk(f"exporting {due} file{'s' if due > 1 else ''}, {jobs} side by side")
        yield from _in_workers(work, due, predict, jobs)


def _in_workers(work: queue.SimpleQueue[Request], due: int, predict: Predict, jobs: int) -> Iterator[Outcome]:
    threads = max(1, default_jobs() // jobs)
    settled: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
    lanes = [_Lane(work, settled, predict, threads) for _ in range(jobs)]
    try:
        for lane in lanes:
            lane.thread.start()
        for _ in range(due):
            outcome = settled.get()
            if isinstance(outcome, BaseException):
                raise outcome  # our bug, in a lane's thread: it keeps its traceback
            yield outcome
    finally:
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            if lane.thread.ident is not None:
                lane.thread.join()


def _outcome(
    request: Request, precision: str, status: Literal["exported", "unchanged", "failed"], seconds: float, **more: Any
) -> Outcome:
    return Outcome(
        label=request.network["label"],
        format=request.format,
        precision=precision,
        path=request.path(precision),
        status=status,
        seconds=round(seconds, 3),
        **more,
    )


class _Lane:
    """A thread with a worker process of its own: takes requests until none is left, verifies what the worker makes."""

    def __init__(
        self,
        work: queue.SimpleQueue[Request],
        settled: queue.SimpleQueue[Outcome | BaseException],
        predict: Predict,
        threads: int,
    ) -> None:
        self._work, self._settled, self._predict, self._threads = work, settled, predict, threads
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
                while not self._stopped:
                    try:
                        request = self._work.get_nowait()
                    except queue.Empty:
                        break
                    self._export(request, log)
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

    def _export(self, request: Request, log: Any) -> None:
        """Have one request converted, and settle each of its precisions."""
        start = log.seek(0, os.SEEK_END)
        left = list(request.precisions)
        start_s = began = time.monotonic()

        def settle(precision: str, **more: Any) -> None:
            nonlocal began
            left.remove(precision)
            now = time.monotonic()
            status = "failed" if "error" in more else "exported"
            self._settled.put(_outcome(request, precision, status, now - began, **more))  # type: ignore[arg-type]
            began = now

        reference: Reference | None = None
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
                        reference = message
                    case Failed(precision=precision, error=error, trace=trace):
                        settle(precision, error=error, log=_read(log, start) + trace)
                    case Converted(precision=precision, path=path) if reference is not None:
                        try:
                            manifest = _finish(request, precision, path, reference, self._predict)
                        except MobenchError as error:
                            settle(precision, error=error, log=_read(log, start))
                        else:
                            settle(precision, manifest=manifest)
        except _Stopped:
            return
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            if self._stopped:
                return
            why = self._death(time.monotonic() - start_s)
            for precision in tuple(left):
                what = f"{request.path(precision).name} could not be exported"
                died = ExportError(what, why, "see --verbose for the libraries' words")
                settle(precision, error=died, log=_read(log, start))
        finally:
            if deadline is not None:
                deadline.cancel()
            self._remove_temporaries(request)

    def _death(self, waited_s: float) -> str:
        process = self._process
        assert process is not None
        process.kill()
        code = process.wait()
        if waited_s >= REQUEST_DEADLINE_S:
            return f"the converter was not done within {REQUEST_DEADLINE_S:g} s"
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"the converter's process ended ({how})"

    def _remove_temporaries(self, request: Request) -> None:
        if self._process is not None:
            for precision in request.precisions:
                temporary_path(request.path(precision), self._process.pid).unlink(missing_ok=True)


class _Stopped(Exception):  # noqa: N818 (not an error: the caller wants no more)
    """The lane was told to stop before its worker started."""


def _read(log: Any, start: int) -> str:
    log.seek(start)
    text: str = log.read().decode(errors="replace")
    return text


def _finish(request: Request, precision: str, path: Path, reference: Reference, predict: Predict) -> dict[str, Any]:
    """Verify the file at its temporary ``path``, then give it its name and its manifest. Returns the manifest."""
    final = request.path(precision)
    try:
        inputs = reference.images if request.format == "tflite" else reference.images.transpose(0, 3, 1, 2)
        try:
            logits, runtime = predict(path, np.ascontiguousarray(inputs))
        except MobenchError as error:
            raise ExportError(f"{final.name} does not run", str(error), "no file was kept") from error
        allowed = tolerance(precision, trained=request.weights.origin.get("kind") != "random")
        comparison = compare(reference.logits, logits)
        check(comparison, allowed, final.name)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        manifest = request.manifest(precision, path, manifest_entry(comparison, allowed), runtime, created)
        # In this order a reader finds the old pair, a file without a manifest, or the new pair; never a false pair.
        artifacts.manifest_path(final).unlink(missing_ok=True)
        path.replace(final)
        try:
            artifacts.write_manifest(final, manifest)
        except OSError:
            final.unlink(missing_ok=True)
            raise
    except OSError as error:
        mend = "free some space, or name another folder with -o"
        raise ExportError(f"cannot write {final}", error.strerror or str(error), mend) from error
    finally:
        path.unlink(missing_ok=True)
    return manifest
