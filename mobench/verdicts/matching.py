"""Which cell of one campaign is the counterpart of which of another, and which one a user means. Pure functions."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mobench.errors import BadInputError
from mobench.gpu_cells import way
from mobench.records import DEVICES, Run
from mobench.verdicts.comparability import HeaderCell

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A cell of one campaign and its counterpart of another, or of the same: campaigns and ids."""

    one: Run
    a: str
    other: Run
    b: str

    @property
    def cell_a(self) -> HeaderCell:
        """A as its campaign's header describes it."""
        return _cell_of(self.one, self.a)

    @property
    def cell_b(self) -> HeaderCell:
        """B as its campaign's header describes it."""
        return _cell_of(self.other, self.b)


def _cell_of(run: Run, cell_id: str) -> HeaderCell:
    cell: HeaderCell = next(cell for cell in run.header["cells"] if cell["id"] == cell_id)
    return cell


def find_cell(run: Run, asked: str) -> str:
    """Return the id of the cell of a campaign that a user names by id, file, file stem or network.

    Raises:
        BadInputError: no cell, or more than one, answers to the name.
    """
    cells: Sequence[HeaderCell] = run.header.get("cells", ())
    for level in range(4):
        matches = [cell["id"] for cell in cells if asked in _answers(cell)[level]]
        if len(matches) == 1:
            return str(matches[0])
        if matches:
            raise BadInputError(asked, f"it names several cells of {run.path}", f"say which: {', '.join(matches)}")
    ids = [cell["id"] for cell in cells]
    near = difflib.get_close_matches(asked, ids, n=1)
    raise BadInputError(asked, f"no such cell in {run.path}", f"one of: {', '.join(near or ids)}")


def _answers(cell: HeaderCell) -> tuple[set[str], ...]:
    """Return what a recorded cell answers to, the most exact names first."""
    artifact: Mapping[str, Any] = cell["artifact"]
    path, network = Path(artifact["path"]), artifact["network"] or {}
    return {cell["id"]}, {str(path)}, {path.name, path.stem}, {artifact["name"], str(network.get("name"))}


def pair_up(
    one: Sequence[T], other: Sequence[T], keys: Sequence[Callable[[T], object]]
) -> tuple[list[tuple[T, T]], list[T], list[T]]:
    """Pair the things of two lists by the first of the keys, the strictest, on which they agree.

    Returns:
        The pairs in the order of ``one``, and what is left of either.
    """
    partner: dict[int, int] = {}
    for key in keys:
        free = {j: key(thing) for j, thing in enumerate(other) if j not in partner.values()}
        for i, thing in enumerate(one):
            match = next((j for j, value in free.items() if value == key(thing)), None) if i not in partner else None
            if match is not None:
                partner[i] = match
                del free[match]
    pairs = [(one[i], other[partner[i]]) for i in sorted(partner)]
    left = [thing for i, thing in enumerate(one) if i not in partner]
    return pairs, left, [thing for j, thing in enumerate(other) if j not in partner.values()]


def matching_cells(one: Run, other: Run) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Pair the cells of two campaigns: the same network, precision, format and target; of several, the same id first.

    Returns:
        Pairs of ids, and the ids of either that have no counterpart.
    """

    mixed = any(len({cell["target"]["device"] for cell in run.header.get("cells", ())}) > 1 for run in (one, other))

    def target(cell: HeaderCell) -> tuple[object, ...]:
        asked = cell["target"]
        default = DEVICES.get(asked["device"], {}).get(asked["runtime"], ("",))[0]  # its own choice: nothing was asked
        # Of one device each, two campaigns may be compared across devices; of several, like is paired with like.
        device = asked["device"] if mixed else ""
        named = device, asked["runtime"], asked["provider"] or default, asked["threads"], asked["batch"]
        return *named, *way(asked)

    def network(cell: HeaderCell) -> tuple[object, ...]:
        artifact: Mapping[str, Any] = cell["artifact"]
        return (*target(cell), artifact["name"], artifact["precision"], artifact["format"])

    def with_id(cell: HeaderCell) -> tuple[object, ...]:
        return (*network(cell), cell["id"])

    cells = one.header.get("cells", ()), other.header.get("cells", ())
    pairs, left, right = pair_up(*cells, (with_id, network))
    return [(a["id"], b["id"]) for a, b in pairs], [c["id"] for c in left], [c["id"] for c in right]
