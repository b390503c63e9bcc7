"""Two sides of a comparison: open what a user named, pair it up, and measure now what can be measured now."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobench import artifacts, campaign, plan, store
from mobench.design import Settings
from mobench.errors import BadInputError
from mobench.records import RUNTIME_FORMATS, Artifact, Run, Target
from mobench.results import open_run
from mobench.verdicts.comparability import HeaderCell
from mobench.verdicts.matching import Match, matching_cells, pair_up
from runners import desktop

PAIR_S = 20.0  # a budget that finds a slowdown of 3 % (benchmarks/gate.py)
_SHOWN = 4  # files or cells that an error names
Side = tuple[Artifact, ...] | Run  # model files, or a campaign that was measured
Wanted = tuple[Artifact, Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """How to time model files that are compared: the ratios' half-width at which to stop, and ``budget_s`` of all.

    A budget of None is 20 s for each pair.
    """

    half_width: float
    budget_s: float | None = None
    threads: int = 1
    runtimes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    seed: int = 0
    results: Path = Path("results")
    progress: Callable[[float, str], None] = lambda share, text: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """Two sides, paired up. ``gone`` and ``new`` have no counterpart on the other side; ``measured`` was timed now.

    ``unchanged`` are files that are the same on both sides and were not timed for that reason; ``interrupted`` says
    that Ctrl-C ended the timing.
    """

    matches: tuple[Match, ...]
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    measured: Run | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A campaign that was just run, and its cells' ids in the order in which they were wanted."""

    run: Run | None
    ids: tuple[str, ...]
    interrupted: bool

    def match(self, a: int, b: int) -> Match:
        """Return two wanted cells, by their places, as a match."""
        assert self.run is not None
        return Match(one=self.run, a=self.ids[a], other=self.run, b=self.ids[b])


def open_side(things: Sequence[str], results: Path = Path("results")) -> Side:
    """Open what a user named: model files, folders of them or exported names; or one campaign. Nothing: artifacts/.

    A campaign is a journal, its name under ``results``, ``REV:PATH``, or a folder, of which the newest that timed
    something counts.

    Raises:
        BadInputError: nothing like that is there, or several campaigns or both kinds were named.
    """
    if not things:
        return tuple(map(artifacts.read, artifacts.resolve(())))
    models: list[Artifact] = []
    runs: list[Run] = []
    for thing in things:
        opened = _open(thing, results)
        if isinstance(opened, Run):
            runs.append(opened)
        else:
            models += opened
    if len(runs) > 1 or (runs and models):
        raise BadInputError(
            ", ".join(things), "more than one campaign, or campaigns and models", "name one kind, one campaign"
        )
    return runs[0] if runs else tuple(models)


def _open(thing: str, results: Path) -> Side:
    path = Path(thing)
    if path.is_dir():
        models = artifacts.find(path)
        return tuple(map(artifacts.read, models)) if models else newest(path)
    if path.suffix.lower() in artifacts.SUFFIXES and ":" not in thing:
        return (artifacts.read(path),)
    if path.is_file() or ":" in thing:
        return open_run(thing, results)
    try:
        return tuple(map(artifacts.read, artifacts.resolve([thing])))
    except BadInputError as no_export:
        try:
            return open_run(thing, results)
        except BadInputError as no_run:
            why = f"no file; {no_export.why}; {no_run.why}"
            raise BadInputError(thing, why, f"{no_export.mend}, or {no_run.mend}") from no_run


def newest(folder: Path) -> Run:
    """Return the newest campaign in a folder that timed something.

    Raises:
        BadInputError: there is none.
    """
    runs = [run for path in store.find([folder]) if (run := store.read(path)).blocks]
    if not runs:
        raise BadInputError(str(folder), "no campaign in it timed anything", "make one with `mobench run`")
    return max(runs, key=lambda run: (str(run.header.get("started", "")), run.path.name))


def face(one: Side, other: Side, how: Measuring, *, skip_unchanged: bool = False) -> Versus:
    """Pair the cells of two sides, timing model files now, in one campaign, paired by round.

    Model files against a campaign: the files it timed are timed again with the new ones where they still lie there
    unchanged; else one of its other files is, for both campaigns to share.

    Args:
        one: the first side, A: the old one.
        other: the second, B: the new one.
        how: budget and precision, for model files.
        skip_unchanged: do not time a file that is the same on both sides.

    Raises:
        BadInputError: nothing on one side has a counterpart on the other, or B is a campaign and A is not.
    """
    for side in (one, other):
        if isinstance(side, Run) and not side.blocks and not side.failures:
            why = "nothing was timed in it (imported figures have no rounds to compare)"
            raise BadInputError(str(side.path), why, "name another campaign")
    if isinstance(other, Run):
        if not isinstance(one, Run):
            why = "model files cannot be timed with a campaign that is over"
            raise BadInputError(f"models against campaign {other.path}", why, "name files or campaigns on both sides")
        pairs, gone, new = matching_cells(one, other)
        _need_some(pairs, gone, new)
        matches = tuple(Match(one=one, a=a, other=other, b=b) for a, b in pairs)
        return Versus(matches=matches, gone=tuple(gone), new=tuple(new))
    if isinstance(one, Run):
        return _against_campaign(one, other, how, skip_unchanged)
    return _files(one, other, how, skip_unchanged)


def _need_some(pairs: Sequence[object], gone: Sequence[str], new: Sequence[str]) -> None:
    if not pairs:
        names = " against ".join(_few(side) for side in (gone, new))
        mend = "name one file a side, or cells of the same network, precision, runtime and threads"
        raise BadInputError(names, "nothing on one side has a counterpart on the other", mend)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN]) or 'nothing'}{more}"


def pair_artifacts(
    one: Sequence[Artifact], other: Sequence[Artifact]
) -> tuple[list[tuple[Artifact, Artifact]], list[Artifact], list[Artifact]]:
    """Pair model files of the same network, precision and format; one file on each side is a pair whatever it is."""
    if len(one) == len(other) == 1:
        return [(one[0], other[0])], [], []
    return pair_up(one, other, (lambda file: (*_network(file), file.path.name), _network))


def _network(artifact: Artifact) -> tuple[object, ...]:
    return artifact.name, artifact.precision, artifact.format


def _files(one: Sequence[Artifact], other: Sequence[Artifact], how: Measuring, skip_unchanged: bool) -> Versus:
    targets = campaign.make_targets(runtimes=how.runtimes, threads=(how.threads,))
    formats = {RUNTIME_FORMATS[target.runtime] for target in targets}
    one, other = ([file for file in side if file.format in formats] for side in (one, other))
    pairs, gone, new = pair_artifacts(one, other)
    names = [str(file.path) for file in gone], [str(file.path) for file in new]
    _need_some(pairs, *names)
    unchanged = [b for a, b in pairs if skip_unchanged and a.sha256 == b.sha256]
    changed = [(a, b) for a, b in pairs if b not in unchanged]
    wanted = [
        (file, next(target for target in targets if RUNTIME_FORMATS[target.runtime] == file.format))
        for pair in changed
        for file in pair
    ]
    timed = _measure(wanted, how)
    return Versus(
        matches=tuple(timed.match(at, at + 1) for at in range(0, len(wanted), 2)),
        gone=tuple(names[0]),
        new=tuple(names[1]),
        unchanged=tuple(str(file.path) for file in unchanged),
        measured=timed.run,
        interrupted=timed.interrupted,
    )


def _measure(wanted: Sequence[Wanted], how: Measuring) -> _Measured:
    """Time the wanted cells in one campaign."""
    if not wanted:
        return _Measured(run=None, ids=(), interrupted=False)
    cells = plan.name_cells(wanted)
    # Only ratios are asked for: the campaign need not go on until every p50 is known.
    budget_s = how.budget_s or PAIR_S * math.ceil(len(wanted) / 2)
    settings = Settings(budget_s=budget_s, ratio_half_width=how.half_width, p50_half_width=1.0, seed=how.seed)
    interrupted = False
    try:
        run = campaign.run_cells(cells, settings=settings, results=how.results, shape=how.shape, progress=how.progress)
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:
            raise
        interrupted, run = True, store.read(Path(interrupt.args[0]))
    return _Measured(run=run, ids=tuple(cell.id for cell in cells), interrupted=interrupted)


def _against_campaign(old: Run, files: Sequence[Artifact], how: Measuring, skip_unchanged: bool) -> Versus:
    """Time new files, with those that the old campaign timed where they are still there, on its cells' targets."""
    had_figures = {block.cell for block in old.blocks if block.phase == "steady"}
    cells: dict[tuple[str, Target], HeaderCell] = {}  # by path and target: one timed as two copies counts once
    for cell in old.header["cells"]:
        if cell["id"] in had_figures:
            cells.setdefault((cell["artifact"]["path"], _target(old, cell)), cell)
    described = {path: _described(cell["artifact"]) for (path, _), cell in cells.items()}
    pairs, gone, new = pair_artifacts(tuple(described.values()), files)
    names = [file.path.name for file in gone], [str(file.path) for file in new]
    _need_some(pairs, *names)
    partner = {str(a.path): b for a, b in pairs}
    unchanged: list[str] = []
    wanted: list[Wanted] = []
    places: list[tuple[HeaderCell, int, int | None]] = []  # a cell, where its new file is wanted, and where the old one
    for (path, target), cell in cells.items():
        file = partner.get(str(Path(path)))
        if file is None:
            continue
        if skip_unchanged and file.sha256 == cell["artifact"]["sha256"]:
            unchanged.append(cell["id"])
            continue
        before = _still_there(cell)
        if before:
            wanted.append((before, target))
        wanted.append((file, target))
        places.append((cell, len(wanted) - 1, len(wanted) - 2 if before else None))
    if any(old_place is None for _, _, old_place in places):
        wanted += _anchor(old, cells, wanted)
    timed = _measure(wanted, how)
    matches = []
    for cell, place, old_place in places:
        if old_place is not None:
            matches.append(timed.match(old_place, place))
        else:
            matches.append(replace(timed.match(place, place), one=old, a=cell["id"]))
    return Versus(
        matches=tuple(matches),
        gone=tuple(names[0]),
        new=tuple(names[1]),
        unchanged=tuple(unchanged),
        measured=timed.run,
        interrupted=timed.interrupted,
    )


def _anchor(old: Run, cells: Mapping[tuple[str, Target], HeaderCell], wanted: Sequence[Wanted]) -> list[Wanted]:
    """Return a cell of the old campaign to time again, its baseline first, unless one is among the wanted anyway."""
    known = {(cell["artifact"]["sha256"], target) for (_, target), cell in cells.items()}
    if any((file.sha256, target) in known for file, target in wanted):
        return []
    baseline = old.header.get("baseline")
    for (_, target), cell in sorted(cells.items(), key=lambda item: item[1]["id"] != baseline):
        file = _still_there(cell)
        if file:
            return [(file, target)]
    return []


def _still_there(cell: HeaderCell) -> Artifact | None:
    """Return the file that a campaign timed if it still lies where it did, unchanged."""
    try:
        file = artifacts.read(Path(cell["artifact"]["path"]))
    except BadInputError:
        return None
    return file if file.sha256 == cell["artifact"]["sha256"] else None


def _described(artifact: Mapping[str, Any]) -> Artifact:
    """Return a recorded file's identity; it need no longer exist."""
    return Artifact(
        path=Path(artifact["path"]),
        sha256=artifact["sha256"],
        size_bytes=artifact["size_bytes"],
        format=artifact["format"],
        name=artifact["name"],
        precision=artifact["precision"],
    )


def _target(run: Run, cell: HeaderCell) -> Target:
    """Return a recorded target as it is here: as many threads, on the cores that this machine has for them."""
    target = Target(**{**cell["target"], "cores": ()})
    if target.device != "desktop-cpu":
        mend = "time the new files there with `mobench run` and name that campaign"
        raise BadInputError(f"{run.path}", f"it was measured on {target.device}, not on this machine", mend)
    return replace(target, cores=desktop.choose_cores(target.threads))
