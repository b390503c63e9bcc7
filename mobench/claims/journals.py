"""Evidence measured by us: campaigns' journals, gathered into places.

A place is a machine with one way to run on its CPU (runtime, provider, threads) and, where it has been timed, one on
its GPU. A ratio is the paired one of the newest campaign that holds both cells and started them often enough for an
interval, else of the newest with both, else that of two campaigns' medians.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from mobench.claims.places import Key, Kind, latency
from mobench.claims.values import MissingError, Need, Value, combine
from mobench.gpu_cells import words
from mobench.records import Accuracy, Block, Run
from mobench.stats import IN_SOFTWARE, Interval, block_ns, estimate, paired_ratio
from mobench.verdicts.comparability import machine_name

MIN_STARTS = 3  # of a cell: from fewer there is no interval over starts, and none is believed
_Config = tuple[str, str, str, int]  # device, runtime, provider and way on a GPU, threads
Timed = Mapping[Key, Sequence[Block]]  # one campaign's steady blocks by cell


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPlace:
    """Campaigns of one machine, newest first. ``accuracies``: by network and precision, all on the same images.

    ``names`` are what to call its CPU and its GPU, each with the way models ran on it.
    """

    name: str
    campaigns: tuple[Timed, ...]
    accuracies: Mapping[tuple[str, str], Value] = field(default_factory=dict)
    latencies: Mapping[Key, Value]
    threads: int
    devices: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = "ours"
    paper: str = ""

    @property
    def ranked(self) -> frozenset[Key]:
        """All of them."""
        return frozenset(self.latencies)

    def ratio(self, one: Key, other: Key) -> Value:
        """Return the paired ratio of the newest campaign with both and an interval, else as the module says."""
        medians = latency(self, one), latency(self, other)
        first: Value | None = None
        for timed in self.campaigns:
            found = paired_ratio(timed[one], timed[other]) if one in timed and other in timed else None
            if found is not None:
                value = _value(*found, starts=len({block.incarnation for block in timed[one]}))
                if value.high < math.inf:
                    return value
                first = first or value
        return first or combine("/", *medians)

    def top1(self, network: str, precision: str) -> Value:
        """Return the accuracy on the images that most files were evaluated on."""
        if (network, precision) not in self.accuracies:
            need = Need(network=network, precision=precision, where="top1")
            raise MissingError((need,), f"top-1 of {network} {precision}")
        return self.accuracies[network, precision]


def journal_places(runs: Iterable[Run], accuracies: Iterable[Accuracy] = ()) -> tuple[JournalPlace, ...]:
    """Gather campaigns into places, machines in the order of their newest campaign."""
    machines: dict[str, dict[_Config, list[Timed]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(runs, key=lambda run: str(run.header.get("started", "")), reverse=True):
        machine = machine_name(run, "desktop-cpu")
        for config, timed in _timed(run).items():
            machines[machine][config].append(timed)
    scores = _accuracies(accuracies)
    places = []
    for machine, configs in machines.items():
        on_gpu = [config for config in configs if config[0].endswith("gpu")]
        on_cpu = [config for config in configs if config not in on_gpu]
        for used in product(*(ways for ways in (on_cpu, on_gpu) if ways)):
            campaigns = [timed for config in used for timed in configs[config]]
            latencies: dict[Key, Value] = {}
            for timed in campaigns:
                for key, blocks in timed.items():
                    known = latencies.get(key)
                    if known is not None and known.high < math.inf:
                        continue
                    if found := estimate((b.incarnation, block_ns(b) / 1e6) for b in blocks):
                        value = _value(*found, starts=len({block.incarnation for block in blocks}))
                        latencies[key] = known if known is not None and value.high == math.inf else value
            places.append(
                JournalPlace(
                    name=", ".join((machine, *map(_describe, used))),
                    campaigns=tuple(campaigns),
                    accuracies=scores,
                    latencies=latencies,
                    threads=used[0][3],
                    devices=tuple(config[0] for config in used),
                    names={_where(config[0]): f"{machine}, {_describe(config)}" for config in used},
                )
            )
    return tuple(places)


def _describe(config: _Config) -> str:
    device, runtime, provider, threads = config
    way = " ".join(part for part in (device.partition("-")[2].upper(), runtime, provider) if part)
    return way if device.endswith("gpu") else f"{way}, {threads} thread{'s' if threads > 1 else ''}"


def _where(device: str) -> str:
    return "gpu" if device.endswith("gpu") else "cpu"


def _value(figure: float, interval: Interval | None, *, starts: int) -> Value:
    if interval is None or starts < MIN_STARTS:
        return Value(figure=figure, low=0.0, high=math.inf)
    return Value(figure=figure, low=interval[0], high=interval[1])


def _timed(run: Run) -> dict[_Config, Timed]:
    """Return a campaign's steady blocks by way to run and cell. What computed wrongly, or had no real GPU, is out."""
    wrong = {check.cell for check in run.checks if check.wrong}
    wrong |= {cell for cell, _, ready in run.sessions if IN_SOFTWARE in ready.got}
    steady: dict[str, list[Block]] = defaultdict(list)
    for block in run.blocks:
        if block.phase == "steady" and block.cell not in wrong:
            steady[block.cell].append(block)
    found: dict[_Config, dict[Key, Sequence[Block]]] = defaultdict(dict)
    for cell in run.header.get("cells", ()):
        artifact, target = cell["artifact"], cell["target"]
        network = artifact["network"] or {}
        # A foreign file's name, or that of a user's own model, proves nothing of what is in it.
        if not steady[cell["id"]] or target["batch"] != 1 or network.get("family", "own") == "own":
            continue
        where = _where(target["device"])
        way = " ".join(filter(None, (target["provider"], words(target))))
        config = (target["device"], target["runtime"], way, target["threads"])
        key = (str(network["label"]), artifact["precision"] or "fp32", where)
        found[config].setdefault(key, steady[cell["id"]])
    return dict(found)


def _accuracies(accuracies: Iterable[Accuracy]) -> dict[tuple[str, str], Value]:
    sets: dict[tuple[str, int], dict[tuple[str, str], Value]] = defaultdict(dict)
    for each in accuracies:
        value = Value(figure=each.top1, low=each.top1_ci[0], high=each.top1_ci[1])
        sets[each.data, each.n][each.name, each.precision or "fp32"] = value
    return max(sets.values(), key=len) if sets else {}
