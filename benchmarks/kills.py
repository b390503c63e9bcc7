"""What is lost when a campaign is killed: hit at random moments by six kinds of events, and taken up again each time.

A campaign is begun, hit, taken up again, hit by the next kind, and so on; its last resumption runs to its end. What was
measured is known from an observer in the parent process, which writes each answer of a child to a file of its own
before the campaign sees it. A block of it that the journal lacks is lost; one may be, the block in flight.

    mobench export mobilenet_v1 --width 0.25 --size 32 --weights random -o /tmp/tiny
    python benchmarks/kills.py /tmp/tiny/*fp32.tflite /tmp/tiny/*fp32.onnx --kills 200
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mobench import store
from mobench.errors import BadInputError

LATEST_S = 2.5  # an event comes at most this long after the campaign began: in a start, a warm-up, the rounds
BUDGET_S = 8.0  # about 1.5 s for each of five starts
DEADLINE_S = 60.0
ORPHAN_S = 5.0
# `mobench`, whose every answer of a session goes to a second file first. One write a line: it is there or it is not.
OBSERVED = """
import os, sys
from mobench.cli import main
from runners import wire
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
time = wire.Session.time
def observed(self, **asked):
    timing = time(self, **asked)
    os.write(log, " ".join(map(str, (timing.cpu_ns, *timing.wall_ns))).encode() + b"\\n")
    return timing
wire.Session.time = observed
main()
"""


@dataclass(slots=True)
class Tally:
    """What came of the events of one kind. All but the first two should be 0."""

    kills: int = 0
    blocks: int = 0  # measured in the campaigns that were hit
    lost: int = 0  # blocks beyond the one in flight that the journal lacks
    changed: int = 0  # journals in which a line of before is not the same afterwards
    unreadable: int = 0
    second_writers: int = 0  # let in beside the first
    orphans: int = 0  # processes left running
    failed_resumes: int = 0
    wrong_ends: int = 0  # another exit status than the event's, or a traceback


class Victim:
    """A campaign of real processes that can be begun, hit and taken up again in a folder of its own."""

    def __init__(self, folder: Path, models: Sequence[Path], rng: random.Random, *, latest_s: float = LATEST_S) -> None:
        self.folder, self.rng, self.latest_s = folder, rng, latest_s
        self.models = [Path(shutil.copy(model, folder / f"{at}-{model.name}")) for at, model in enumerate(models)]
        self.log = folder / "answers.txt"
        self.process: subprocess.Popen[str] | None = None
        self.must: list[tuple[int, ...]] = []  # the blocks that the journal held after the event before
        self.bytes = b""  # and its whole lines

    def journal(self) -> Path | None:
        """Return the campaign's journal, or None where it has no header yet."""
        try:
            return store.find([self.folder / "results"])[-1]
        except BadInputError:
            return None

    def launch(self, budget_s: float = BUDGET_S) -> subprocess.Popen[str]:
        """Begin the campaign, or take it up again where there is one."""
        self.log.write_bytes(b"")
        journal = self.journal()
        what = ["--resume", str(journal)] if journal else [*map(str, self.models), "--precise", "0.01"]
        command = [sys.executable, "-c", OBSERVED, str(self.log), "run", *what, "--budget", str(budget_s)]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self.process

    def wait_until_begun(self) -> None:
        """Return once the journal has a new line."""
        assert self.process is not None
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            journal = self.journal()
            if journal and b"\n" in journal.read_bytes()[len(self.bytes) :]:
                return
            if self.process.poll() is not None:
                raise RuntimeError(f"mobench ended before its campaign began: {self.process.communicate()[1]}")
            time.sleep(0.002)
        raise RuntimeError("no campaign began in a minute")

    def end(self) -> tuple[int, str]:
        """Wait for the parent's end; return its exit status and what it said on stderr."""
        assert self.process is not None
        err = self.process.communicate(timeout=DEADLINE_S)[1]
        return self.process.returncode, err

    def workers(self) -> list[int]:
        """Return the processes that hold one of our models, whoever their parent is."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = path.read_bytes()
            except OSError:
                continue
            if b"runners.worker" in arguments and str(self.folder).encode() in arguments:
                found.append(int(path.parent.name))
        return found

    def orphans(self) -> int:
        """Return how many processes outlive their parent, and end them."""
        until = time.monotonic() + ORPHAN_S
        while (left := self.workers()) and time.monotonic() < until:
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return len(left)

    def check(self, tally: Tally) -> None:
        """Compare the journal with what was there before and with what the observer saw since."""
        tally.orphans += self.orphans()
        answers = [tuple(map(int, line.split())) for line in self.log.read_text().splitlines()]
        tally.blocks += len(answers)
        self.must += answers
        journal = self.journal()
        if journal is None:
            tally.lost += max(0, len(self.must) - 1)
            return
        data = journal.read_bytes()
        tally.changed += not data.startswith(self.bytes)
        self.bytes = data[: data.rfind(b"\n") + 1]
        have = self._read(journal, tally)
        missing = sum((Counter(self.must) - Counter(have)).values())
        tally.lost += max(0, missing - 1)
        self.must = have

    def _read(self, journal: Path, tally: Tally) -> list[tuple[int, ...]]:
        try:
            blocks = store.read(journal).blocks
        except BadInputError as error:
            print(f"unreadable: {error}", file=sys.stderr)
            tally.unreadable += 1
            return []
        return [(block.cpu_ns, *block.wall_ns) for block in blocks]

    def cut(self, tally: Tally) -> None:
        """Cut the journal at a random byte behind its header, as a power cut may; all lines before it must stay."""
        journal = self.journal()
        if journal is None:
            return
        data = journal.read_bytes()
        size = self.rng.randint(data.index(b"\n") + 1, len(data))
        os.truncate(journal, size)
        self.bytes = data[: data[:size].rfind(b"\n") + 1]
        whole = self.bytes.count(b'{"event":"block"')
        self.must = self._read(journal, tally)
        tally.lost += max(0, whole - len(self.must))


def _wait(victim: Victim) -> None:
    victim.wait_until_begun()
    time.sleep(victim.rng.uniform(0, victim.latest_s))


def _signal(number: int) -> Callable[[Victim], set[int]]:
    def hit(victim: Victim) -> set[int]:
        _wait(victim)
        assert victim.process is not None
        victim.process.send_signal(number)
        return {130}

    return hit


def kill_parent(victim: Victim) -> set[int]:
    """SIGKILL the parent, every other time at any moment from its own start on, also while it imports."""
    assert victim.process is not None
    if victim.rng.random() < 0.5:
        time.sleep(victim.rng.uniform(0, 2))
    else:
        _wait(victim)
    victim.process.kill()
    return {-signal.SIGKILL}


def kill_child(victim: Victim) -> set[int]:
    """SIGKILL one of the children; the campaign must go on, and is ended a little later."""
    assert victim.process is not None
    _wait(victim)
    until = time.monotonic() + DEADLINE_S
    while not (workers := victim.workers()) and time.monotonic() < until:
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(victim.rng.choice(workers), signal.SIGKILL)
    time.sleep(victim.rng.uniform(0.2, 1))
    victim.process.terminate()
    return {130}


def fill_disk(victim: Victim) -> set[int]:
    """Let the files of the parent grow by at most some bytes from now on: the rest of a line no longer fits."""
    assert victim.process is not None
    _wait(victim)
    journal = victim.journal()
    assert journal is not None
    room = journal.stat().st_size + victim.rng.randint(0, 2000)
    resource.prlimit(victim.process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    return {1}


KINDS: dict[str, Callable[[Victim], set[int]]] = {
    "SIGINT": _signal(signal.SIGINT),
    "SIGTERM": _signal(signal.SIGTERM),
    "SIGKILL parent": kill_parent,
    "SIGKILL child": kill_child,
    "full disk": fill_disk,
    "truncation": kill_parent,  # and then `Victim.cut`
}


def hit(victim: Victim, kind: str, tally: Tally) -> None:
    """Begin or take up the campaign, hit it, and check what is left of it."""
    resumed = victim.journal() is not None
    process = victim.launch()
    try:
        expected = KINDS[kind](victim)
        status, err = victim.end()
    except RuntimeError as error:
        print(f"{kind}: {error}", file=sys.stderr)
        tally.failed_resumes += resumed
        tally.wrong_ends += 1
    else:
        if status not in expected or "Traceback" in err:
            print(f"{kind}: exit {status}: {err}", file=sys.stderr)
            tally.wrong_ends += 1
    finally:
        process.kill()
        process.wait()
    tally.kills += 1
    victim.check(tally)
    if kind == "truncation":
        victim.cut(tally)


def second_writer_is_refused(victim: Victim) -> bool:
    """Return whether the journal of a running campaign is closed to others."""
    victim.wait_until_begun()
    journal = victim.journal()
    assert journal is not None
    try:
        store.Journal(journal, wait=False).close()
    except BadInputError:
        return True
    return False


def finish(victim: Victim, tally: Tally, budget_s: float = 1.0) -> None:
    """Take the campaign up a last time and let it run to its end: rounds must go on."""
    before = len(victim.must)
    victim.launch(budget_s)
    tally.second_writers += not second_writer_is_refused(victim)
    status, err = victim.end()
    victim.check(tally)
    journal = victim.journal()
    run = store.read(journal) if journal else None
    went_on = run and run.end == "budget" and any(block.phase == "steady" for block in run.blocks[before:])
    if status not in (0, 1) or "Traceback" in err or not went_on:  # 1: a child once killed stays in the record
        print(f"failed resume: exit {status}: {err}", file=sys.stderr)
        tally.failed_resumes += 1


def chain(
    folder: Path,
    models: Sequence[Path],
    kinds: Iterable[str],
    tallies: dict[str, Tally],
    seed: int,
    *,
    latest_s: float = LATEST_S,
) -> None:
    """Begin one campaign, hit it by these kinds one after the other, and run it to its end."""
    victim = Victim(folder, models, random.Random(seed), latest_s=latest_s)
    last = ""
    for last in kinds:
        hit(victim, last, tallies[last])
    finish(victim, tallies[last])


def main() -> None:
    """Print a row a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tallies = {kind: Tally() for kind in KINDS}
    rng = random.Random(arguments.seed)
    left, number = arguments.kills, 0
    while left > 0:
        kinds = rng.sample(list(KINDS), len(KINDS))[:left]
        with tempfile.TemporaryDirectory(prefix="mobench-kills-") as folder:
            chain(Path(folder), arguments.models, kinds, tallies, arguments.seed * 1000 + number)
        left, number = left - len(kinds), number + 1
        print(f"{arguments.kills - left} of {arguments.kills}", file=sys.stderr)
    columns = [field.name for field in fields(Tally)]
    print("| kind | " + " | ".join(name.replace("_", " ") for name in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for kind, tally in tallies.items():
        print(f"| {kind} | " + " | ".join(str(getattr(tally, name)) for name in columns) + " |")
    total = [sum(getattr(tally, name) for tally in tallies.values()) for name in columns]
    print("| all | " + " | ".join(map(str, total)) + " |")


if __name__ == "__main__":
    main()
