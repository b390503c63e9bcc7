"""What a profile says: operators by kind or by block, their rates, and how near each is to the ceilings. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from mobench.profile.roofline import Ceiling
from mobench.records import Operator, Profile

Grouping = Literal["operator", "block", "layer"]
GROUPINGS: tuple[Grouping, ...] = ("operator", "block", "layer")
OVER_CEILING = 1.05  # above the ceiling by more than this is a doubt about the ceiling
_NUMBERED = re.compile(r"^(.*?(?:^|[a-z_])\d+)(?:_|$)")  # 3, layer1, block_1 of block_1_expand; not MobilenetV2
ADDS_UP = 0.15  # how far the operators' sum may be from the latency before the reader is told to wonder
_OUTSIDE = "(no block)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A group of operators, or a single one.

    ``position`` is that of its first operator among all, in the order they run. ``time_ms`` is the sum of its
    operators' medians and ``share`` its part of all operators' time. ``macs`` is None where an operator's are unknown.
    ``gmacs_per_s`` is their rate, None without any. ``of_ceiling`` is the least time the ceilings allow over the time
    taken: 1 is at the roof, above it the ceiling is in doubt; None where too little is known. ``bound`` names the
    nearer ceiling, that of most of the time.
    """

    name: str
    block: str
    kind: str
    kernel: str
    precision: str
    position: int
    count: int
    time_ms: float
    share: float
    macs: int | None
    moved_bytes: int | None
    gmacs_per_s: float | None
    gbytes_per_s: float | None
    of_ceiling: float | None
    bound: str


def time_ms(operator: Operator) -> float:
    """Return the median of an operator's times."""
    return median(operator.ns) / 1e6 if operator.ns else 0.0


def blocks_of(operators: Sequence[Operator], names: Mapping[str, str] | None = None) -> list[str]:
    """Return each operator's block: the outermost numbered module of its path (``features.3``, ``layer1.0``, ``4``).

    What all paths begin with is left out first. An operator without a path, such as a copy the runtime adds, counts
    with the one before it, or behind it at the beginning.

    Args:
        operators: in the order they run.
        names: what to call blocks, where that is known.
    """
    paths = [operator.path for operator in operators]
    known = [path for path in paths if path]
    common = 0
    while known and all(len(path) > common + 1 and path[: common + 1] == known[0][: common + 1] for path in known):
        common += 1
    blocks = [_block(path[common:]) if path else "" for path in paths]
    last = next((block for block in blocks if block), _OUTSIDE)
    filled = []
    for block in blocks:
        last = block or last
        filled.append((names or {}).get(last, last))
    return filled


def _block(path: Sequence[str]) -> str:
    """Return the part of a path up to the end of its first run of numbered names, or its first name.

    >>> [_block(path.split(".")) for path in ("features.2.conv.0", "blocks.1.0", "layer1.0.conv1", "stem", "4.se")]
    ['features.2', 'blocks.1.0', 'layer1.0', 'stem', '4']
    >>> _block(["net", "block_1_expand"])
    'net.block_1'
    """
    for end, name in enumerate(path):
        numbered = _NUMBERED.match(name)
        if numbered:
            run = list(itertools.takewhile(str.isdigit, path[end + 1 :]))
            return ".".join([*path[:end], numbered[1], *run])
    return path[0]


def lines(
    profile: Profile, by: Grouping, ceiling: Ceiling | None = None, names: Mapping[str, str] | None = None
) -> list[Line]:
    """Return the operators grouped: by kind and single ones the longest first, blocks in the order they run.

    Args:
        profile: what the session said.
        by: ``operator`` (its kind), ``block``, or ``layer`` (every operator by itself).
        ceiling: the machine's; without it nothing is said of ceilings.
        names: what to call blocks.
    """
    operators = profile.operators
    blocks = blocks_of(operators, names)
    total = sum(map(time_ms, operators))
    groups: dict[object, list[int]] = {}
    for index, (operator, block) in enumerate(zip(operators, blocks, strict=True)):
        keys: Mapping[Grouping, object] = {"operator": operator.kind, "block": block, "layer": index}
        groups.setdefault(keys[by], []).append(index)
    found = []
    for members in groups.values():
        chosen = [operators[index] for index in members]
        found.append(_line(chosen, [blocks[index] for index in members], by, members[0], total, ceiling))
    return found if by == "block" else sorted(found, key=lambda line: -line.time_ms)


def _line(
    operators: Sequence[Operator], blocks: Sequence[str], by: Grouping, position: int, total_ms: float,
    ceiling: Ceiling | None,
) -> Line:  # fmt: skip
    taken_ms = sum(map(time_ms, operators))
    macs = _sum(operator.macs for operator in operators)
    moved = _sum(operator.moved_bytes for operator in operators)
    least = [ceiling.least_s(operator) if ceiling else None for operator in operators]
    known = [(s, time_ms(operator)) for s, operator in zip(least, operators, strict=True) if s is not None]
    # What is unknown of little time does not hide the rest.
    told_ms = sum(ms for _, ms in known)
    of_ceiling = 1000 * sum(s for s, _ in known) / told_ms if told_ms > 0.9 * taken_ms > 0 else None
    first = operators[0]
    name = {"operator": first.kind, "block": blocks[0], "layer": first.name}[by]
    return Line(
        name=name,
        block=_one(blocks),
        kind=_one(operator.kind for operator in operators),
        kernel=_one(operator.kernel for operator in operators),
        precision=_one(operator.precision for operator in operators),
        position=position,
        count=len(operators),
        time_ms=taken_ms,
        share=taken_ms / total_ms if total_ms else 0.0,
        macs=macs,
        moved_bytes=moved,
        gmacs_per_s=macs / taken_ms / 1e6 if macs and taken_ms else None,
        gbytes_per_s=moved / taken_ms / 1e6 if moved and taken_ms else None,
        of_ceiling=of_ceiling,
        bound=_most(operators, ceiling.bound) if ceiling else "",
    )


def _sum(values: Iterable[int | None]) -> int | None:
    listed = list(values)
    return None if any(value is None for value in listed) else sum(value or 0 for value in listed)


def _one(texts: Iterable[str]) -> str:
    distinct = set(texts)
    return distinct.pop() if len(distinct) == 1 else ""


def _most(operators: Sequence[Operator], word: Callable[[Operator], str]) -> str:
    """Return the word that most of the time goes by."""
    spent: dict[str, float] = {}
    for operator in operators:
        spent[word(operator)] = spent.get(word(operator), 0.0) + time_ms(operator)
    return max(spent, key=lambda key: spent[key])


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """How a profile relates to the model's latency: medians, ms, of whole inferences and of the operators together."""

    plain_ms: float
    profiled_ms: float
    operators_ms: float

    def sentence(self) -> str:
        """Say it in one line.

        >>> Overhead(plain_ms=5.0, profiled_ms=5.5, operators_ms=5.25).sentence()
        'p50 5.00 ms without the profiler, 5.50 ms (+10 %) with it; the operators sum to 5.25 ms (105 % of 5.00)'
        """
        slower, part = self.profiled_ms / self.plain_ms - 1, self.operators_ms / self.plain_ms
        return (
            f"p50 {self.plain_ms:.2f} ms without the profiler, {self.profiled_ms:.2f} ms ({slower:+.0%}) with it;"
            f" the operators sum to {self.operators_ms:.2f} ms ({part:.0%} of {self.plain_ms:.2f})"
        ).replace("%", " %")


def overhead(profile: Profile) -> Overhead:
    """Return how a profile relates to the model's latency, taken in turns in the same session."""
    return Overhead(
        plain_ms=median(profile.plain_ns) / 1e6,
        profiled_ms=median(profile.profiled_ns) / 1e6,
        operators_ms=sum(map(time_ms, profile.operators)),
    )


def doubts(found: Sequence[Line], related: Overhead) -> list[str]:
    """Return what the reader should wonder at: lines above the ceiling, operators that do not add up to the latency."""
    said = []
    if abs(related.operators_ms / related.plain_ms - 1) > ADDS_UP:
        said.append(
            "the operators do not add up to the latency: other work disturbed the runs (medians leave that out), or the"
            " runtime spends time between operators; close what else runs, or raise --budget"
        )
    over = [line for line in found if line.of_ceiling is not None and line.of_ceiling > OVER_CEILING]
    if not over:
        return said
    names = ", ".join(f"{line.name} {100 * (line.of_ceiling or 0):.0f} %" for line in over[:3])
    more = f" and {len(over) - 3} more" if len(over) > 3 else ""
    said.append(
        f"above the ceiling: {names}{more}: the ceiling is too low, or such short times too coarse; --remeasure"
    )
    return said
