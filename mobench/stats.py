"""From timed blocks to figures: medians, paired ratios, their intervals, doubts. Pure functions.

The model: a campaign restarts every cell's process several times (an incarnation), because two processes with the same
model differ for life, and visits all cells once a round, because the machine changes speed for seconds at a time. A
cell's figure within an incarnation is a median over rounds; its interval is a t-interval over incarnations of the
logarithm of that figure. Pairing by round cancels what hits all cells alike. (Kalibera and Jones, "Rigorous
benchmarking in reasonable time", ISMM 2013, for the levels; benchmarks/README.md for the coverage measured here.)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, median
from typing import Any

import numpy as np

from mobench import gpu_cells, gpu_doubts
from mobench.over_time import drift
from mobench.records import Block, Check, Ready, Run

Interval = tuple[float, float]

CONFIDENCE = 0.95
MIN_INCARNATIONS = 5  # before it a narrow interval is not believed: the t-interval covers too rarely where it may stop
MIN_BLOCKS = 40
P99_SAMPLES = 459  # below it the 99th percentile has no upper bound at 99 % confidence: 0.99 ** 459 < 0.01
TREND_WINDOW = 8
# Kendall's test on 8 values: 22 or more of the 28 pairs descend with p = 0.03 where there is no trend.
TREND_PAIRS = 22
STEAL_SHARE = 0.20

MENDS = {
    "NOISY": "raise --budget, or close what else runs",
    "DRIFT": "its ratio changed too: let the machine cool and run again, longer",
    "UNSTEADY": "the warm-up reached its limit: run again on a quieter machine",
    "FEW_SAMPLES": "raise --budget",
    "ONE_START": "for ratios between models run them without --sustain",
    "THROTTLED": "its figures are of the rounds that count: let the phone cool, off its charger and out of its case",
    "WRONG_OUTPUT": "its latency is that of a wrong computation: try the other precision or runtime, and report it",
    "UNCHECKED": "compare it by hand, or by its accuracy (`mobench eval`)",
    "NO_SPEED": "its GPU is a program: that it runs and what it computes is true, its latency is no real GPU's",
    "PARTIAL_DELEGATE": "the rest runs on slower kernels: look for the operators it does not take",
    **gpu_doubts.MENDS,
    **gpu_cells.MENDS,
}


WRONG_OUTPUT, NO_SPEED = "WRONG_OUTPUT", "NO_SPEED"
IN_SOFTWARE = gpu_cells.IN_SOFTWARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A reason not to take a figure at face value, and its mend."""

    name: str
    why: str

    @property
    def mend(self) -> str:
        """What the user can do about it."""
        return MENDS[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a campaign says of one cell. Latencies in ms.

    ``ratio`` is its latency over that of the baseline cell (below 1: faster). Init, first inference and steady state
    (p50) are three figures; the first two are medians over incarnations.
    ``ratio_cpu`` is the second estimator, from the thread's CPU time, for one-thread cells only. ``batch`` is what the
    model took. ``arena_mb``: the model's own anonymous memory. ``energy_mj`` is what the processor package took an
    inference, on a GPU what its board took, the idle share included; its interval is over starts, so the steps of the
    counter are in it. None where the machine does not tell. ``set_aside`` counts its rounds in which the device
    throttled; they are in no figure. ``check_db``: the signal-to-noise ratio of its outputs against a reference, where
    that was asked. ``providers`` to ``build_ms`` are of desktop GPUs (see `Ready`, `Target`): ``build_ms`` is what
    building an engine took. ``images_per_s``: the throughput of one stream of inferences, where they are a speed.
    """

    cell: str
    name: str
    file: str
    sha256: str
    format: str
    precision: str | None
    network: Mapping[str, Any] | None
    weights: Mapping[str, Any] | None
    device: str
    runtime: str
    provider: str
    threads: int
    batch: int
    p50_ms: float | None
    p50_ci_ms: Interval | None
    p90_ms: float | None
    p99_ms: float | None
    ratio: float | None
    ratio_ci: Interval | None
    ratio_cpu: float | None
    ratio_cpu_ci: Interval | None
    baseline: str
    init_ms: float | None
    first_ms: float | None
    peak_rss_mb: float | None
    runtime_rss_mb: float | None
    arena_mb: float | None
    energy_mj: float | None
    energy_ci_mj: Interval | None
    nodes_delegated: int | None
    nodes_total: int | None
    providers: Mapping[str, int] = field(default_factory=dict)
    io: str = ""
    cuda_graph: bool = False
    tf32: bool = False
    build_ms: float | None = None
    images_per_s: float | None = None
    incarnations: int
    n_blocks: int
    n_inferences: int
    set_aside: int
    check_db: float | None
    doubts: tuple[Doubt, ...]
    failure: str | None


def block_ns(block: Block) -> float:
    """Return a block's figure: the median of its timed inferences."""
    return float(median(block.wall_ns))


def is_trending(values: Sequence[float]) -> bool:
    """Return whether the last 8 values still fall (Kendall's test, one-sided, 3 %); fewer than 8 count as falling.

    >>> is_trending([9, 8, 7, 6, 5, 4, 3, 2]), is_trending([5, 6, 5, 6, 5, 6, 5, 6])
    (True, False)
    """
    window = values[-TREND_WINDOW:]
    if len(window) < TREND_WINDOW:
        return True
    falling = sum(b < a for i, a in enumerate(window) for b in window[i + 1 :])
    return falling >= TREND_PAIRS


def log_interval(
    values: Sequence[float], within: Sequence[float], *, confidence: float = CONFIDENCE
) -> tuple[float, Interval | None]:
    """Return the geometric mean of the incarnations' figures and its interval.

    Args:
        values: one positive figure an incarnation.
        within: the figures that the only incarnation's median was taken of. With one incarnation the interval is that
            of the median by order statistics: it knows nothing of what differs between processes, and is too narrow.
        confidence: the share of such intervals that hold the truth, two-sided.

    Returns:
        The figure, and its interval, or None where nothing can be said.
    """
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / len(logs)
    if len(logs) == 2:
        return math.exp(mean), None  # Student's t with one degree of freedom: an interval that says nothing
    if len(logs) > 2:
        from scipy.special import stdtrit  # imported here: half of this module's users need no interval

        error = math.sqrt(math.fsum((v - mean) ** 2 for v in logs) / (len(logs) - 1) / len(logs))
        half = float(stdtrit(len(logs) - 1, (1 + confidence) / 2)) * error
        return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))
    ordered = sorted(within)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    reach = quantile * math.sqrt(len(ordered)) / 2  # the normal approximation of the binomial's ranks
    low, high = math.floor(len(ordered) / 2 - reach), math.ceil(len(ordered) / 2 + reach)
    if low < 0 or high >= len(ordered):
        return math.exp(mean), None
    return math.exp(mean), (ordered[low], ordered[high])


def _by_incarnation(values: Iterable[tuple[int, float]]) -> dict[int, list[float]]:
    groups: dict[int, list[float]] = defaultdict(list)
    for incarnation, value in values:
        groups[incarnation].append(value)
    return groups


def incarnation_figures(values: Iterable[tuple[int, float]]) -> list[float]:
    """Return the median of each incarnation's values, from (incarnation, value) pairs."""
    return [median(group) for group in _by_incarnation(values).values()]


def estimate(
    values: Iterable[tuple[int, float]], *, confidence: float = CONFIDENCE
) -> tuple[float, Interval | None] | None:
    """Return the figure and interval of (incarnation, value) pairs, or None where there are none."""
    groups = _by_incarnation(values)
    if not groups:
        return None
    figures = [median(group) for group in groups.values()]
    return log_interval(figures, next(iter(groups.values())), confidence=confidence)


def figure_ns(block: Block, *, cpu: bool = False) -> float:
    """Return a block's figure on one of the two clocks: wall, or the thread's CPU time an inference."""
    return block.cpu_ns / len(block.wall_ns) if cpu else block_ns(block)


def paired_values(blocks: Sequence[Block], baseline: Sequence[Block], *, cpu: bool = False) -> list[tuple[int, float]]:
    """Return (incarnation, ratio) for every round that both cells were timed in."""
    base = {(b.incarnation, b.round): figure_ns(b, cpu=cpu) for b in baseline}
    keys = ((b, base.get((b.incarnation, b.round))) for b in blocks)
    pairs = ((b.incarnation, figure_ns(b, cpu=cpu) / other) for b, other in keys if other)
    return [pair for pair in pairs if pair[1] > 0]


def paired_ratio(
    blocks: Sequence[Block], baseline: Sequence[Block], *, cpu: bool = False, confidence: float = CONFIDENCE
) -> tuple[float, Interval | None] | None:
    """Return the ratio of two cells' latencies from the rounds that both were timed in, with its interval.

    Args:
        blocks: steady blocks of the cell.
        baseline: steady blocks of the baseline cell.
        cpu: compare CPU time instead of wall clock.
        confidence: of the interval.
    """
    return estimate(paired_values(blocks, baseline, cpu=cpu), confidence=confidence)


def half_width(figure: float, interval: Interval | None) -> float:
    """Return an interval's larger half-width as a share of its figure; infinite where there is none."""
    return max(interval[1] / figure - 1, 1 - interval[0] / figure) if interval else math.inf


def summarize(run: Run) -> list[Summary]:
    """Return what a campaign says of each of its cells, in the order they were asked for."""
    steady: dict[str, list[Block]] = defaultdict(list)
    warmup: dict[str, list[Block]] = defaultdict(list)
    aside: dict[str, int] = defaultdict(int)
    for block in run.blocks:
        if block.phase == "set_aside":
            aside[block.cell] += 1
        else:
            (steady if block.phase == "steady" else warmup)[block.cell].append(block)
    sessions: dict[str, list[Ready]] = defaultdict(list)
    for cell_id, _, said in run.sessions:
        sessions[cell_id].append(said)
    failures = {failure.cell: failure for failure in run.failures}
    wrong = {check.cell: check for check in run.checks if check.wrong}
    checks = {check.cell: check for check in run.checks} | wrong
    baseline = run.header.get("baseline", "")
    settings = run.header.get("settings", {})
    asked = settings.get("p50_half_width", 0.02), settings.get("ratio_half_width", 0.01)
    moved = drift.moved(run.blocks)
    on_gpu = tuple(gpu_doubts.doubts(run.states))
    summaries = []
    for cell in run.header.get("cells", ()):
        failure = failures.get(cell["id"])
        own, ready = steady[cell["id"]], sessions[cell["id"]]
        p50 = estimate((b.incarnation, block_ns(b) / 1e6) for b in own)
        same = cell["id"] == baseline
        one_thread = cell["target"]["threads"] == 1
        ratio = paired_ratio(own, steady[baseline])
        cpu = paired_ratio(own, steady[baseline], cpu=True) if one_thread else None
        energy = _energy(run, cell, own)
        every = [ns / 1e6 for block in own for ns in block.wall_ns]
        artifact = cell["artifact"]
        summaries.append(
            Summary(
                cell=cell["id"],
                name=artifact["name"],
                file=artifact["path"],
                sha256=artifact["sha256"],
                format=artifact["format"],
                precision=artifact["precision"],
                network=artifact["network"],
                weights=artifact["weights"],
                device=cell["target"]["device"],
                runtime=cell["target"]["runtime"],
                provider=cell["target"]["provider"],
                threads=cell["target"]["threads"],
                batch=_batch(ready, cell["target"]["batch"]),
                p50_ms=p50[0] if p50 else None,
                p50_ci_ms=p50[1] if p50 else None,
                p90_ms=float(np.quantile(every, 0.9)) if every else None,
                p99_ms=float(np.quantile(every, 0.99)) if len(every) >= P99_SAMPLES else None,
                ratio=ratio[0] if ratio else None,
                ratio_ci=None if same or not ratio else ratio[1],
                ratio_cpu=cpu[0] if cpu else None,
                ratio_cpu_ci=None if same or not cpu else cpu[1],
                baseline=baseline,
                init_ms=median(r.init_ns for r in ready) / 1e6 if ready else None,
                first_ms=median(r.first_ns for r in ready) / 1e6 if ready else None,
                peak_rss_mb=max(r.peak_rss_mb for r in ready) if ready else None,
                runtime_rss_mb=median(r.rss_before_mb for r in ready) if ready else None,
                arena_mb=median(arenas) if (arenas := [r.arena_mb for r in ready if r.arena_mb is not None]) else None,
                energy_mj=energy[0] if energy else None,
                energy_ci_mj=energy[1] if energy else None,
                nodes_delegated=ready[-1].nodes_delegated if ready else None,
                nodes_total=ready[-1].nodes_total if ready else None,
                **gpu_cells.figures(cell, ready, _batch(ready, cell["target"]["batch"]), p50[0] if p50 else None),
                incarnations=len({b.incarnation for b in own}),
                n_blocks=len(own),
                n_inferences=len(every),
                set_aside=aside[cell["id"]],
                check_db=checks[cell["id"]].snr_db if cell["id"] in checks else None,
                doubts=(
                    *_device_doubts(aside[cell["id"]], len(own), run.set_aside, checks.get(cell["id"]), ready),
                    *(Doubt(name=name, why=why) for name, why in on_gpu if cell["target"]["device"] == gpu_cells.GPU),
                    *(Doubt(name=name, why=why) for name, why in gpu_cells.doubts(ready)),
                    *_doubts(
                        own,
                        warmup[cell["id"]],
                        ready,
                        p50,
                        None if same else ratio,
                        asked,
                        moved.get(cell["id"]),
                        bool(settings.get("sustain_s")),
                    ),
                )
                if own or aside[cell["id"]]
                else (),
                failure=": ".join(p for p in (failure.what, failure.why) if p) if failure else None,
            )
        )
    return summaries


def _batch(ready: Sequence[Ready], asked: int) -> int:
    """Return the batch a session took: a model whose batch is fixed has its own, whatever was asked."""
    shape = ready[-1].inputs[0]["shape"] if ready and ready[-1].inputs else []
    return int(shape[0]) if len(shape) > 1 else asked


def _energy(run: Run, cell: Mapping[str, Any], blocks: Sequence[Block]) -> tuple[float, Interval | None] | None:
    """Return the energy an inference, mJ, of what the cell ran on: the packages', or a GPU's while it ran alone there.

    Of one or two starts of a GPU's the interval is what the counter's updates leave open.
    """
    if cell["target"]["device"] != gpu_cells.GPU:
        return estimate(_energies_mj(blocks))
    alone = [energy for energy in run.energies if energy.cell == cell["id"]]
    found = estimate((energy.incarnation, energy.energy_mj / energy.n) for energy in alone)
    if found is None or found[1] is not None:
        return found
    error = max(energy.error_mj / energy.energy_mj for energy in alone)
    return found[0], (found[0] * (1 - error), found[0] * (1 + error))


def _energies_mj(blocks: Sequence[Block]) -> Iterable[tuple[int, float]]:
    """Return (incarnation, energy an inference): summed over each, for a counter steps too coarsely for one block."""
    groups: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        if block.energy_uj is not None:
            groups[block.incarnation].append(block)
    for incarnation, group in groups.items():
        inferences = sum(block.lead_in + len(block.wall_ns) for block in group)
        if total := sum(block.energy_uj or 0 for block in group):
            yield incarnation, total / 1e3 / inferences


def _device_doubts(
    aside: int,
    counted: int,
    rounds: Mapping[tuple[int, int], str],
    check: Check | None,
    ready: Sequence[Ready],
) -> tuple[Doubt, ...]:
    found = [Doubt(name=NO_SPEED, why=f"it ran on {last.got}") for last in ready[-1:] if IN_SOFTWARE in last.got]
    if check and check.wrong:
        found.append(Doubt(name=WRONG_OUTPUT, why=check.wrong))
    elif check and check.unchecked:
        found.append(Doubt(name="UNCHECKED", why=check.unchecked))
    if aside:
        reasons = ", ".join(dict.fromkeys(rounds.values()))
        found.append(Doubt(name="THROTTLED", why=f"{aside} of {aside + counted} rounds set aside: {reasons}"))
    return tuple(found)


def _doubts(
    steady: Sequence[Block],
    warmup: Sequence[Block],
    ready: Sequence[Ready],
    p50: tuple[float, Interval | None] | None,
    ratio: tuple[float, Interval | None] | None,
    asked: tuple[float, float],
    moved: float | None,
    sustained: bool,
) -> tuple[Doubt, ...]:
    if not steady:
        return ()  # no figure, nothing to doubt: why there is none, the device's doubts say
    found = []
    noise = []
    for name, estimated, wanted in (("p50", p50, asked[0]), ("the ratio", ratio, asked[1])):
        width = half_width(*estimated) if estimated else 0.0
        if width > wanted:
            noise.append(
                f"{name} is known to {'nothing' if math.isinf(width) else f'±{width:.1%}'}, ±{wanted:.1%} asked"
            )
    stolen = sum(b.steal_ticks > 0 for b in steady) / len(steady)
    if stolen > STEAL_SHARE:
        noise.append(f"the hypervisor stole time in {stolen:.0%} of the blocks")
    if noise:
        found.append(Doubt(name="NOISY", why="; ".join(noise)))
    if moved is not None:
        why = f"it changed by {moved:+.0%} of its own accord from the first third to the last"
        found.append(Doubt(name="DRIFT", why=why))
    warm = _by_incarnation((b.incarnation, block_ns(b)) for b in warmup)
    # A slow model's warm-up ends by time before there are enough blocks to tell.
    unsteady = sum(len(values) >= TREND_WINDOW and is_trending(values) for values in warm.values())
    if unsteady:
        found.append(Doubt(name="UNSTEADY", why=f"still falling after warm-up in {unsteady} of {len(warm)} starts"))
    incarnations = len({b.incarnation for b in steady})
    if sustained:
        found.append(Doubt(name="ONE_START", why="a sustained load is one start: how starts differ is in no interval"))
    elif incarnations < MIN_INCARNATIONS or len(steady) < MIN_BLOCKS:
        found.append(Doubt(name="FEW_SAMPLES", why=f"{len(steady)} blocks in {incarnations} starts of the process"))
    for last in ready[-1:]:
        delegated, total = last.nodes_delegated, last.nodes_total
        # A QUANTIZE or DEQUANTIZE at either end of a quantized graph stays outside by design and costs next to nothing.
        wanted = (delegated or last.got != last.asked) and not last.providers  # asked for none and got none; PARTIAL
        if wanted and delegated is not None and total is not None and total - delegated > 4:
            found.append(Doubt(name="PARTIAL_DELEGATE", why=f"{last.asked} runs {delegated} of {total} nodes"))
    return tuple(found)
