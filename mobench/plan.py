"""From what was asked to an ordered tuple of cells: artifacts x runtimes x providers x threads x batches."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from mobench.errors import BadInputError
from mobench.gpu_cells import words
from mobench.records import DEVICES, READS, RUNTIME_FORMATS, Artifact, Cell, Target


def make_cells(artifacts: Sequence[Artifact], targets: Sequence[Target]) -> tuple[Cell, ...]:
    """Pair every artifact with every target whose runtime reads its format.

    A cell's id is the file's name; where that is not unique, its folder, device, runtime, provider, way on a GPU,
    threads and batch are added as needed.

    Raises:
        BadInputError: an artifact that none of the targets reads.
    """
    pairs = []
    for artifact in artifacts:
        fitting = [target for target in targets if READS[target.runtime] == artifact.format]
        if not fitting:
            raise unread(artifact, targets)
        pairs += [(artifact, target) for target in fitting]
    return name_cells(pairs)


def unread(artifact: Artifact, targets: Sequence[Target]) -> BadInputError:
    """Return the error of a file that no target reads: the runtime to ask for, or that the device has none."""
    runtimes = ", ".join(sorted({target.runtime for target in targets}))
    needed = next(runtime for runtime, form in RUNTIME_FORMATS.items() if form == artifact.format)
    devices = sorted({target.device for target in targets})
    if not any(needed in DEVICES[device] for device in devices):
        other = "tflite" if artifact.format == "onnx" else "onnx"
        why = f"{needed} has nothing for {' and '.join(devices)}"
        return BadInputError(str(artifact.path), why, f"give the .{other} file, or another --device")
    return BadInputError(str(artifact.path), f"no asked runtime ({runtimes}) reads it", f"--runtime {needed}")


def name_cells(pairs: Sequence[tuple[Artifact, Target]]) -> tuple[Cell, ...]:
    """Make a cell of every pair of a file and a target, in that order, with an id as ``make_cells`` gives."""
    cells = [Cell(id=artifact.path.name, artifact=artifact, target=target) for artifact, target in pairs]
    cells = _tell_apart(cells, lambda cell: str(cell.artifact.path))
    cells = _tell_apart(cells, lambda cell: f"{cell.id} {cell.target.device}")
    cells = _tell_apart(cells, lambda cell: f"{cell.id} {cell.target.runtime}")
    cells = _tell_apart(cells, lambda cell: f"{cell.id} {cell.target.provider}".strip())
    cells = _tell_apart(cells, lambda cell: f"{cell.id} {words(asdict(cell.target))}".strip())
    cells = _tell_apart(cells, lambda cell: f"{cell.id} x{cell.target.threads}")
    cells = _tell_apart(cells, lambda cell: f"{cell.id} b{cell.target.batch}")
    seen: dict[str, int] = {}
    unique = []
    for cell in cells:  # one file named twice: an A/A comparison
        seen[cell.id] = seen.get(cell.id, 0) + 1
        unique.append(replace(cell, id=f"{cell.id} #{seen[cell.id]}") if seen[cell.id] > 1 else cell)
    return tuple(unique)


def _tell_apart(cells: list[Cell], longer: Callable[[Cell], str]) -> list[Cell]:
    """Give cells that share an id the longer one, where that does tell them apart."""
    groups: dict[str, set[str]] = {}
    for cell in cells:
        groups.setdefault(cell.id, set()).add(longer(cell))
    return [replace(cell, id=longer(cell)) if len(groups[cell.id]) > 1 else cell for cell in cells]


def choose_baseline(cells: Sequence[Cell], asked: str | None) -> str:
    """Return the id of the cell the ratios are to: the one asked for by id, file stem or name, else the first.

    Raises:
        BadInputError: no cell, or more than one, answers to the name.
    """
    if asked is None:
        return cells[0].id
    for level in range(4):
        matches = [cell.id for cell in cells if asked in _answers(cell)[level]]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise BadInputError(f"--baseline {asked}", "it names several cells", f"say which: {', '.join(matches)}")
    near = difflib.get_close_matches(asked, [cell.id for cell in cells], n=1)
    raise BadInputError(f"--baseline {asked}", "no such cell", f"one of: {', '.join(near or [c.id for c in cells])}")


def _answers(cell: Cell) -> tuple[set[str], ...]:
    """Return what a cell answers to, the most exact names first."""
    artifact = cell.artifact
    network = artifact.manifest.get("network") or {}
    return (
        {cell.id},
        {str(artifact.path)},
        {artifact.path.name, artifact.path.stem},
        {artifact.name, str(network.get("name"))},
    )


def describe(cell: Cell) -> dict[str, Any]:
    """Return a cell as a campaign's header has it."""
    artifact = cell.artifact
    described = {
        "path": str(artifact.path),
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "format": artifact.format,
        "name": artifact.name,
        "precision": artifact.precision,
        "network": artifact.manifest.get("network"),
        "weights": artifact.manifest.get("weights"),
    }
    return {"id": cell.id, "artifact": described, "target": asdict(cell.target)}
