"""From a file of another tool's output to a journal that says whose figures they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mobench import artifacts, store
from mobench.errors import BadInputError
from mobench.foreign import outputs
from mobench.records import RUNTIME_FORMATS, Artifact, Imported

HOME = "imported"  # the folder under the results


def import_file(
    path: Path,
    results: Path = Path("results"),
    *,
    tool: str = "auto",
    model: Path | None = None,
    machine: str = "",
    device: str = "unknown",
) -> Path:
    """Journal what another tool measured under ``results/imported`` and return the journal: a cell for each run.

    Args:
        path: the tool's log or result file.
        results: the results folder.
        tool: one of ``outputs.TOOLS``, or ``auto``.
        model: the file that was timed; the output has its name at most.
        machine: where it ran, in words; the output does not say.
        device: and on what, as `mobench run --device` names it.

    Raises:
        BadInputError: not an output of such a tool or not a whole one, not a model that it could have timed, or
            imported before.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(str(path), error.strerror or str(error), "name a tool's log or result file") from error
    digest = hashlib.sha256(content).hexdigest()
    known = _imported_before(results / HOME, digest)
    if known:
        raise BadInputError(str(path), f"imported before, as {known}", "remove that journal to import it again")
    runs = outputs.parse(content.decode(errors="replace"), str(path), tool)
    runtime = outputs.TOOLS[runs[0].tool]
    artifact, needed = artifacts.read(model) if model else None, RUNTIME_FORMATS[runtime]
    if artifact and artifact.format != needed:
        raise BadInputError(str(model), f"{runs[0].tool} does not read it", f"give the .{needed} file")
    runs = _name_cells(runs, artifact.path.name if artifact else "", path.stem)
    journal = store.fresh_path(results / HOME, runs[0].tool)
    now = store.now()
    with store.Journal(journal) as log:
        log.append(
            "run",
            schema=store.SCHEMA,
            campaign=journal.stem,
            started=now,
            device=device,
            machine={"cpu": machine} if machine else {},
            source={
                "tool": runs[0].tool,
                "form": runs[0].form,
                "file": str(path),
                "sha256": digest,
                "imported": now,
            },
            cells=[_describe(run, artifact, runtime, device) for run in runs],
        )
        for run in runs:
            log.append("imported", run)
        log.append("end", reason="imported", t_s=0.0)
    return journal


def _imported_before(home: Path, digest: str) -> Path | None:
    for journal in sorted(home.glob("*.jsonl")):
        try:
            source = store.glance(journal)[0].get("source", {})
        except BadInputError:  # not a journal: `mobench results` says so
            continue
        if source.get("sha256") == digest:
            return journal
    return None


def _name_cells(runs: Sequence[Imported], model: str, fallback: str) -> tuple[Imported, ...]:
    """Give each run a cell: the model's file name, as given or as the tool says it, and a number from the second on."""
    named: list[Imported] = []
    seen: dict[str, int] = {}
    for run in runs:
        name = model or PurePosixPath(run.model.replace("\\", "/")).name or fallback
        seen[name] = seen.get(name, 0) + 1
        named.append(replace(run, cell=name if seen[name] == 1 else f"{name} #{seen[name]}"))
    return tuple(named)


def _describe(run: Imported, artifact: Artifact | None, runtime: str, device: str) -> dict[str, Any]:
    """Return the header's description of a cell. What neither the output nor a model file tells is null, or empty."""
    name = run.cell.rsplit(" #", 1)[0]
    return {
        "id": run.cell,
        "artifact": {
            "path": str(artifact.path) if artifact else run.model,
            "sha256": artifact.sha256 if artifact else "",
            "size_bytes": artifact.size_bytes if artifact else None,
            "format": RUNTIME_FORMATS[runtime],
            "name": artifact.name if artifact else PurePosixPath(name).stem,
            "precision": artifact.precision if artifact else None,
            "network": artifact.manifest.get("network") if artifact else None,
            "weights": artifact.manifest.get("weights") if artifact else None,
        },
        "target": {
            "device": device,
            "runtime": runtime,
            "provider": run.provider,
            "threads": run.threads,
            "cores": [],
            "batch": None,
        },
    }
