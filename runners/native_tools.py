"""The user's own `benchmark_model` or `onnxruntime_perf_test` behind the session interface: a block is a run of it.

What it prints is kept, held against what it was asked, and read; a run that is not whole is never a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from mobench import tool_outputs
from mobench.errors import BadInputError, DeathError, SessionError
from mobench.records import TOOL_FORMATS, Artifact, Imported, Ready, Target, Timing
from mobench.tool_outputs import RefusedError
from runners import tool_flags
from runners.tool_flags import BLOCK_S, WARMUP_S, Block
from runners.tool_places import Completed, Place

START_DEADLINE_S = 120.0
MAX_TIMED = 5000  # inferences a run: their result file stays small
_EXECUTION_PROVIDERS = {"cpu": "CPUExecutionProvider", "xnnpack": "XnnpackExecutionProvider"}
_SLACK = 1.02  # a mean is printed with six digits, and two clocks agree to less than this


def open_tool_session(
    tool: str,
    binary: Path,
    artifact: Artifact,
    target: Target,
    *,
    place: Place,
    logs: Path,
    start_deadline_s: float = START_DEADLINE_S,
) -> ToolSession:
    """Bring a tool and a model to where they are to run, and run it once.

    Args:
        tool: ``benchmark_model``, the classic one or LiteRT's, which is told by what it prints, or
            ``onnxruntime_perf_test``.
        binary: the user's own build of it, for the place; libraries that it needs lie beside it.
        artifact: the model.
        target: provider, threads and cores.
        place: this machine or a phone.
        logs: folder for the output of every run, a file each.
        start_deadline_s: seconds for load and first inference.

    Raises:
        BadInputError: the tool does not read this format, or cannot be asked for this target.
        SessionError: it failed, was late, or did otherwise than it was asked; the message names the log.
    """
    if tool not in TOOL_FORMATS:
        raise BadInputError(tool, "no such tool", f"one of {', '.join(TOOL_FORMATS)}")
    if TOOL_FORMATS[tool] != artifact.format:
        raise BadInputError(artifact.path.name, f"{tool} does not read .{artifact.format}", "pick the other tool")
    if target.batch != 1:
        raise BadInputError(f"--batch {target.batch}", f"{tool} times the file as it stands", "leave it at 1")
    try:
        digest = hashlib.sha256(binary.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise BadInputError(str(binary), error.strerror or str(error), f"name your own build of {tool}") from error
    runs = _Runs(tool, artifact, target, place, place.program(binary), logs)
    driver = _BenchmarkModel if tool == "benchmark_model" else _PerfTest
    try:
        one: _Tool = driver(runs, place.file(artifact.path), target)
        return ToolSession(one, runs, target, {tool: f"{one.version} {digest}"}, deadline_s=start_deadline_s)
    except BaseException:
        place.close()
        raise


class ToolSession:
    """A tool, a model and a target. Every block is one run of the tool; every run's output is kept.

    `benchmark_model` tells the mean of a run, so that a block has one figure; `onnxruntime_perf_test` tells every
    inference. Neither tells its CPU time: ``cpu_ns`` is 0.
    """

    def __init__(
        self, tool: _Tool, runs: _Runs, target: Target, versions: Mapping[str, str], *, deadline_s: float
    ) -> None:
        """Run the tool once; what it says of load and first inference is ``ready``.

        Raises:
            SessionError: it failed, was late, or did otherwise than it was asked.
        """
        self._tool, self._runs = tool, runs
        said, self._interface = tool.time(Block(warmup=1, timed=1, min_s=0.0, max_s=deadline_s), deadline_s)
        self._mean_s = said.mean_ms / 1000
        self._start_s = 2 * (said.init_ms or 0.0) / 1000 + WARMUP_S + BLOCK_S  # what every run has beside its timing
        first_ms = max(said.first_ms or 0.0, said.mean_ms)  # perf_test tells whole milliseconds, 0 for a small network
        self.ready = Ready(
            init_ns=round((said.init_ms or 0.0) * 1e6),
            first_ns=round(first_ms * 1e6),
            rss_before_mb=0.0,  # no tool tells it
            peak_rss_mb=said.memory_mb.get("peak", said.memory_mb.get("overall", 0.0)),
            asked=tool.asked,
            got=tool.asked,  # or it would have been refused
            nodes_delegated=said.nodes_delegated,
            nodes_total=said.nodes_total,
            threads=target.threads,
            cores=target.cores,
            inputs=(),
            outputs=(),
            versions={**versions, **({"interface": self._interface} if self._interface else {})},
        )

    def time(self, *, lead_in: int, timed: int, deadline_s: float = 60.0) -> Timing:
        """Run the tool once; it times at least ``timed`` inferences after at least ``lead_in`` untimed ones.

        A fresh process needs more of both than a live one: ``WARMUP_S`` seconds at least, and ``BLOCK_S``.

        Raises:
            SessionError: it failed, was late, or did otherwise than it was asked.
            DeathError: it ended without its result.
        """
        warmup = max(lead_in, math.ceil(WARMUP_S / self._mean_s))
        count = max(timed, math.ceil(BLOCK_S / self._mean_s))
        block = Block(warmup=min(warmup, MAX_TIMED), timed=min(count, MAX_TIMED), max_s=deadline_s)
        said, interface = self._tool.time(block, deadline_s + self._start_s)
        if interface != self._interface:
            raise self._runs.error(f"the GPU was reached by {self._interface} before, and by {interface} now")
        wall_ns = said.samples_ns[block.warmup :] or (round(said.mean_ms * 1e6),)
        self._mean_s = sum(wall_ns) / len(wall_ns) / 1e9  # the first inference of all was a cold one
        return Timing(wall_ns=wall_ns, cpu_ns=0, involuntary_switches=0)

    def close(self) -> None:
        """End the session: nothing of it runs between blocks."""
        self._runs.place.close()


class _Tool(Protocol):
    """One tool with one model: asked, run, held against what it was asked, and read."""

    version: str
    asked: str

    def time(self, block: Block, deadline_s: float) -> tuple[Imported, str]:
        """Run it once; return what it says, and by which interface the GPU was reached, where it says so."""
        ...


class _Runs:
    """Runs of one tool in one place, whose output is kept."""

    def __init__(self, tool: str, artifact: Artifact, target: Target, place: Place, program: str, logs: Path) -> None:
        self.place, self.tool, self.program = place, tool, program
        self._label, self._logs = f"{tool} on {artifact.path.name}", logs
        self._stem = f"{artifact.path.name}-{tool}"
        # taskset's mask is hexadecimal, for toybox without 0x.
        mask = f"{sum(1 << core for core in target.cores):x}"
        libraries = [program.rpartition("/")[0], *filter(None, [place.libraries])]
        self._prefix = ["env", f"LD_LIBRARY_PATH={':'.join(libraries)}"]
        self._prefix += ["taskset", mask] if target.cores else []
        self._log = logs

    def error(self, why: str, *, died: bool = False) -> SessionError:
        """Return the error that names the last run's log."""
        return (DeathError if died else SessionError)(self._label, why, f"its output is in {self._log}")

    def run(self, arguments: list[str], deadline_s: float) -> Completed:
        """Run the tool, whatever its exit status; keep what it prints."""
        command = [*self._prefix, self.program, *arguments]
        done = self.place.run(command, deadline_s=deadline_s)
        done = Completed(
            status=done.status,
            out=done.out.replace("\r\n", "\n"),
            err=done.err.replace("\r\n", "\n"),
            wall_s=done.wall_s,
            late=done.late,
        )
        self._keep(command, done)
        return done

    def read(
        self, arguments: list[str], deadline_s: float, parse: Callable[[Completed], tuple[Imported, str]]
    ) -> tuple[Imported, str]:
        """Run the tool and read what it prints.

        Raises:
            SessionError: it was late, failed, or ``parse`` refuses its output.
            DeathError: it was killed or crashed, or its output ends before its result.
        """
        done = self.run(arguments, deadline_s)
        if done.late:
            raise self.error(f"not done within its deadline of {deadline_s:g} s")
        if done.status:
            said = tool_outputs.reason(f"{done.out}\n{done.err}")
            how = _how(done.status)
            raise self.error(f"{how}: {said}" if said else how, died=how.startswith("killed"))
        try:
            figures, interface = parse(done)
            total_s = figures.mean_ms * (figures.count or 1) / 1000
            if total_s > done.wall_s * _SLACK:
                raise RefusedError(f"its times add up to {total_s:.3g} s, and the whole run took {done.wall_s:.3g} s")
        except RefusedError as error:
            why = str(error)
            raise self.error(why, died="did not reach its result" in why or "cut off" in why) from error
        return figures, interface

    def _keep(self, command: list[str], done: Completed) -> None:
        parts = (f"$ {shlex.join(command)}", "--- stdout", done.out, "--- stderr", done.err)
        end = f"--- exit status {done.status} after {done.wall_s:.3f} s{', ended at its deadline' if done.late else ''}"
        self._logs.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(len(list(self._logs.glob(f"{self._stem}-*.log")))):
            self._log = self._logs / f"{self._stem}-{number:05}.log"
            try:
                with self._log.open("x", encoding="utf-8") as file:
                    file.write("\n".join((*parts, end, "")))
            except FileExistsError:  # of another session: no output is ever written over
                continue
            return


def _how(status: int) -> str:
    """Return how a process ended, from a shell's status: 137 is what is left of one that was killed for its memory."""
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return f"exit status {status}"
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


class _BenchmarkModel:
    """Either program called `benchmark_model`: its help says which of the two it is, its heading confirms it."""

    def __init__(self, runs: _Runs, model: str, target: Target) -> None:
        self._runs, self._model, self._target = runs, model, target
        done = runs.run(["--help"], START_DEADLINE_S)
        self._known = tool_flags.known_flags(f"{done.out}\n{done.err}")
        kind = tool_flags.kind_of(self._known)
        if kind is None:
            said = tool_outputs.reason(f"{done.out}\n{done.err}") or _how(done.status)
            raise runs.error(f"its --help does not list the flags of either benchmark_model ({said})")
        self._kind, self._provider = kind, tool_flags.check_provider(kind, target)
        self.version: str = kind
        self.asked = tool_flags.describe(self._provider)

    def time(self, block: Block, deadline_s: float) -> tuple[Imported, str]:
        flags = tool_flags.benchmark_flags(self._kind, self._known, self._model, self._target, block)

        def parse(done: Completed) -> tuple[Imported, str]:
            text = f"{done.out}\n{done.err}"
            results = tool_outputs.benchmark_model(text)
            if len(results) != 1:
                raise RefusedError(f"{len(results)} runs are in its output")
            (said,) = results
            if said.form != self._kind:
                raise RefusedError(f"its help is that of the {self._kind} one, its output is {said.form}'s")
            tool_flags.check_echoes(self._kind, flags, text)
            tool_flags.check_lines(self._kind, done.out, done.err)
            tool_flags.check_phases(text)
            tool_flags.check_delegate(self._kind, self._provider, said, text)
            if said.count is None or said.count < block.timed:
                raise RefusedError(f"{said.count} inferences were timed, and {block.timed} asked")
            return said, tool_flags.interface(text)

        return self._runs.read([f"--{name}={value}" for name, value in flags.items()], deadline_s, parse)


class _PerfTest:
    """`onnxruntime_perf_test`: its result file has every inference, its output everything else."""

    version = "perf_test"

    def __init__(self, runs: _Runs, model: str, target: Target) -> None:
        self._runs, self._model, self._target = runs, model, target
        self._results = runs.place.new_file("results.csv")
        self.asked = _EXECUTION_PROVIDERS[tool_flags.check_provider("ort", target)]

    def time(self, block: Block, deadline_s: float) -> tuple[Imported, str]:
        count = block.warmup + block.timed
        runs, place = self._runs, self._runs.place

        def parse(done: Completed) -> tuple[Imported, str]:
            tool_flags.check_lines("ort", done.out)
            tool_flags.check_threads(self._target, done.out)
            (said,) = tool_outputs.perf_test(done.out)
            results = tool_outputs.perf_test_rows(place.take(self._results))
            if len(results) != 1 or not said.count == results[0].count == count:
                found = ", ".join(str(result.count) for result in results) or "none"
                raise RefusedError(f"{count} inferences were asked, {said.count} said, and {found} are in its file")
            return _join(said, results[0]), ""

        place.take(self._results)  # a run that failed may have left some
        return runs.read(tool_flags.perf_test_flags(self._model, self._results, self._target, count), deadline_s, parse)


def _join(printed: Imported, rows: Imported) -> Imported:
    """Return the result file's figures, with those that only the output has.

    Raises:
        RefusedError: the two do not tell of the same run.
    """
    if abs(printed.mean_ms - rows.mean_ms) > 0.01 * rows.mean_ms:
        raise RefusedError(f"its output says {printed.mean_ms:g} ms and its result file {rows.mean_ms:g} ms")
    return dataclasses.replace(rows, init_ms=printed.init_ms, first_ms=printed.first_ms)
