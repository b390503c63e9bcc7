"""What scheduling costs: a campaign of 100 cells, its rounds' time beyond the inferences, and the parent's memory.

The model files are repeated, in turn, until there are enough cells. Each session is asked to time its untimed
inferences too, and these timings are taken out again before the campaign sees them: so the time that children spent in
inferences is known, not estimated, and all else of a round is scheduling: pipes, wake-ups, JSON, counters, the journal.

    mobench export mobilenet_v1 --width 0.25 --size 128 --weights random --fp32 -o /tmp/hundred
    python benchmarks/hundred_cells.py /tmp/hundred/*fp32.tflite /tmp/hundred/*fp32.onnx
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from mobench import artifacts, campaign, store
from mobench.design import Settings
from mobench.measure import Campaign
from mobench.plan import make_cells
from mobench.records import Cell, Timing
from runners import desktop, device_state
from runners.fake import FakeHost


class Counted:
    """A session whose untimed inferences are timed as well, and counted with the time that asking for them takes."""

    asking_ns: list[int] = []  # noqa: RUF012 (of all sessions) a steady block: request to answer, less its inferences
    inside_ns = 0  # in the inferences of steady blocks
    timed_ns = 0  # in the timed ones of these

    def __init__(self, cell: Cell) -> None:
        self._session = desktop.open_session(cell.artifact, cell.target)
        self.ready = self._session.ready

    def time(self, *, lead_in: int, timed: int, deadline_s: float) -> Timing:
        """Run untimed, then timed inferences."""
        began = time.perf_counter_ns()
        timing = self._session.time(lead_in=0, timed=lead_in + timed, deadline_s=deadline_s)
        took_ns, inside_ns = time.perf_counter_ns() - began, sum(timing.wall_ns)
        if lead_in:  # a warm-up block has none
            Counted.asking_ns.append(took_ns - inside_ns)
            Counted.inside_ns += inside_ns
            Counted.timed_ns += sum(timing.wall_ns[lead_in:])
        return Timing(
            wall_ns=timing.wall_ns[lead_in:],
            cpu_ns=timing.cpu_ns * timed // (lead_in + timed),
            involuntary_switches=timing.involuntary_switches,
        )

    def close(self) -> None:
        """End the session."""
        self._session.close()


class Clocked(Campaign):
    """A campaign that is timed as a whole, and its rounds apart."""

    all_ns = rounds_ns = 0

    def run(self) -> str:
        """Run the campaign."""
        began = time.perf_counter_ns()
        reason = super().run()
        self.all_ns = time.perf_counter_ns() - began
        return reason

    def _rounds(self, *arguments: Any) -> None:
        began = time.perf_counter_ns()
        super()._rounds(*arguments)
        self.rounds_ns += time.perf_counter_ns() - began


def memory_kib(key: str) -> int:
    """Return a value of this process's memory, in KiB: VmRSS now, VmHWM at its most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    """Print the overhead, the memory, and how many starts and rounds they are of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--budget", type=float, default=600.0, metavar="SECONDS")
    arguments = parser.parse_args()
    files = [artifacts.read(path) for path in itertools.islice(itertools.cycle(arguments.models), arguments.cells)]
    cells = make_cells(files, campaign.make_targets())
    settings = Settings(budget_s=arguments.budget, ratio_half_width=0, p50_half_width=0)
    watch = device_state.Watch()
    cores = {core for cell in cells for core in cell.target.cores}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hundred.jsonl"
        before_kib = memory_kib("VmRSS")  # SciPy comes later, with the fifth start: 20 MiB, however many cells
        with store.Journal(path) as journal, desktop.keep_off(cores):
            timed = Clocked(cells, cells[0].id, settings, journal, host=FakeHost(Counted, watch))
            reason = timed.run()
        memory = {"at its end": memory_kib("VmRSS"), "at most": memory_kib("VmHWM")}
        run = store.read(path)
        memory["at most, with the journal read"] = memory_kib("VmHWM")
        journal_mib = path.stat().st_size / (1 << 20)
    steady = [block for block in run.blocks if block.phase == "steady"]
    if not steady:
        raise SystemExit(f"nothing was timed: {run.failures[0] if run.failures else reason}")
    starts, rounds = {b.incarnation for b in steady}, {(b.incarnation, b.round) for b in steady}
    lead_in, inferences = median(b.lead_in for b in steady), median(len(b.wall_ns) for b in steady)
    scheduling_ns = timed.rounds_ns - Counted.inside_ns
    asking_us = sum(Counted.asking_ns) / len(steady) / 1e3
    own_us = (scheduling_ns - sum(Counted.asking_ns)) / len(steady) / 1e3
    print(
        f"{len(cells)} cells, {len(starts)} starts, {len(rounds)} rounds, {len(steady)} blocks of {lead_in:g} untimed"
    )
    print(f"and {inferences:g} timed inferences (medians); ended: {reason}, {len(run.failures)} failures")
    print(f"rounds: {timed.rounds_ns / 1e9:.2f} s, in inferences {Counted.inside_ns / 1e9:.2f} s, in timed ones")
    print(f"{Counted.timed_ns / 1e9:.2f} s; starts, warm-ups, ends: {(timed.all_ns - timed.rounds_ns) / 1e9:.1f} s")
    print(f"scheduling: {scheduling_ns / Counted.inside_ns:.2%} of the inferences; a block: asking its child")
    print(f"{asking_us:.0f} us (median {median(Counted.asking_ns) / 1e3:.0f}), the campaign's own {own_us:.0f} us")
    for when, kib in memory.items():
        print(f"parent's memory {when}: +{(kib - before_kib) / 1024 / len(cells):.3f} MiB a cell")
    print(f"journal: {journal_mib:.2f} MiB")


if __name__ == "__main__":
    main()
