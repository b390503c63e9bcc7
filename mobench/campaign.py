"""Campaigns on this machine: what to time from what a user named, begun, or taken up again where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobench import artifacts, plan, store
from mobench.errors import BadInputError
from mobench.measure import Campaign, Settings
from mobench.records import PROVIDERS, RUNTIME_FORMATS, Artifact, Cell, Run, Target
from runners import desktop, device_state

# What must not have changed when a campaign is taken up again; the runtimes' versions are compared at their start.
_SAME_MACHINE = ("cpu", "arch", "cores")


def make_targets(
    *,
    device: str = "desktop-cpu",
    runtimes: Sequence[str] = (),
    providers: Sequence[str] = (),
    threads: Sequence[int] = (),
    batches: Sequence[int] = (),
) -> list[Target]:
    """Return every combination of what was asked; nothing asked means each runtime's own choice, one thread, batch 1.

    Raises:
        BadInputError: a provider that none of the runtimes has.
    """
    chosen = [
        (runtime, provider)
        for runtime in runtimes or tuple(RUNTIME_FORMATS)
        for provider in (providers or ("",))
        if provider == "" or provider in PROVIDERS[runtime]
    ]
    lost = sorted({*providers} - {provider for _, provider in chosen})
    if lost:
        known = "; ".join(f"{runtime}: {', '.join(names)}" for runtime, names in PROVIDERS.items())
        raise BadInputError(f"--provider {lost[0]}", "no asked runtime has it", known)
    return [
        Target(
            device=device,
            runtime=runtime,
            provider=provider,
            threads=count,
            batch=batch,
            cores=desktop.choose_cores(count),
        )
        for runtime, provider in chosen
        for count in threads or (1,)
        for batch in batches or (1,)
    ]


def find_artifacts(
    things: Sequence[str], targets: Sequence[Target], precisions: Sequence[str] = ()
) -> tuple[list[Artifact], list[str]]:
    """Return the usable model files among those named, and a line for each that is not.

    Args:
        things: files, or names of networks exported under artifacts/; all of them where empty.
        targets: a file that was named and that none of these reads is one of those lines.
        precisions: keep only files of these; all where empty.
    """
    usable, refused = [], []
    formats = {RUNTIME_FORMATS[target.runtime] for target in targets}
    named = {Path(thing) for thing in things}
    for path in artifacts.resolve(things):
        try:
            artifact = artifacts.read(path)
        except BadInputError as error:
            refused.append(str(error))
            continue
        if artifact.format not in formats:
            if path in named:
                runtime = next(r for r, f in RUNTIME_FORMATS.items() if f == artifact.format)
                refused.append(f"{path}: no asked runtime reads it; --runtime {runtime}")
        elif not precisions or artifact.precision in precisions:
            usable.append(artifact)
    return usable, refused


def run_cells(
    cells: Sequence[Cell],
    *,
    baseline: str | None = None,
    settings: Settings | None = None,
    results: Path = Path("results"),
    journal: Path | None = None,
    shape: tuple[int, ...] = (),
    progress: Callable[[float, str], None] = lambda share, text: None,
    resumed: bool = False,
) -> Run:
    """Time cells on this machine, journal the campaign under ``results``, and return it.

    Args:
        cells: what to time, from ``plan.make_cells``.
        baseline: the cell that ratios are to, as ``plan.choose_baseline`` takes it.
        settings: budget, asked precision and seed.
        results: folder for the journal.
        journal: the journal's own path, instead of a new one under ``results``.
        shape: first input's shape for models that leave it open.
        progress: told the share of the budget that is spent, and what goes on.
        resumed: the campaign that ``journal`` holds is taken up again (see `resume`).

    Raises:
        BadInputError: no such baseline, or another process is writing the journal.
        KeyboardInterrupt: after the journal is closed; read it with ``store.read``.
    """
    watch = device_state.Watch()  # first, so that the first state has a span behind it to tell the others' load of
    machine = device_state.machine()
    chosen = plan.choose_baseline(cells, baseline)
    path = journal or store.new_path(results, cells[0].target.device, machine)
    measured = {core for cell in cells for core in cell.target.cores}
    with store.Journal(path, wait=False) as log, desktop.keep_off(measured):
        campaign = Campaign(
            cells,
            chosen,
            settings or Settings(),
            log,
            open_session=lambda cell: desktop.open_session(cell.artifact, cell.target, shape=shape),
            watch=watch,
            resumed=store.read(path) if resumed else None,  # only now is nobody else writing to it
            shape=shape,
            progress=progress,
        )
        try:
            campaign.run(machine)
        except KeyboardInterrupt as interrupt:
            if not path.stat().st_size:
                raise  # it came before the header: there is nothing to read
            raise KeyboardInterrupt(str(path)) from interrupt
    return store.read(path)


def resume(
    run: Run, *, more_s: float | None = None, progress: Callable[[float, str], None] = lambda share, text: None
) -> Run:
    """Take a campaign up again on this machine: the same cells, further starts, in the same journal.

    Args:
        run: the campaign.
        more_s: seconds to measure; what is left of its budget where None.
        progress: as in `run_cells`.

    Raises:
        BadInputError: it is a sustained load, its budget is spent, it was measured on another machine, or a file has
            changed since.
    """
    header = run.header
    name = f"campaign {header.get('campaign', run.path.stem)}"
    settings = (run.resumes[-1] if run.resumes else header).get("settings")
    if not run.path.is_file():
        raise BadInputError(name, f"{run.path} is no file that can be written to", "check it out, or copy it, first")
    if not settings or not header.get("cells"):
        raise BadInputError(name, "it was not measured by `mobench run`", "start a new campaign")
    if settings.get("sustain_s"):
        raise BadInputError(name, "a sustained load has cooled since: it has no second half", "run it again")
    now = device_state.machine()
    for key in _SAME_MACHINE:
        then = header.get("machine", {}).get(key)
        if then != now.get(key):
            raise BadInputError(name, f"measured on another machine ({key}: {then}, here {now.get(key)})", "go there")
    spent_s = max((block.t_s for block in run.blocks), default=0.0)
    left_s = settings["budget_s"] - spent_s if more_s is None else more_s
    if left_s <= 0 or (more_s is None and run.end in ("precise", "budget")):
        why = "it is as precise as asked" if run.end == "precise" else "its budget is spent"
        raise BadInputError(name, why, "measure on with --budget SECONDS")
    cells = [_again(name, cell) for cell in header["cells"]]
    shape = tuple(header.get("shape", ()))
    taken_up = Settings(**{**settings, "budget_s": spent_s + left_s})
    if run.end == "precise":  # it would stop at once: who asks for more seconds wants them spent
        taken_up = replace(taken_up, ratio_half_width=0.0, p50_half_width=0.0)
    return run_cells(
        cells,
        baseline=header["baseline"],
        settings=taken_up,
        journal=run.path,
        shape=shape,
        progress=progress,
        resumed=True,
    )


def _again(campaign: str, described: Mapping[str, Any]) -> Cell:
    """Rebuild a cell from a campaign's header."""
    path = Path(described["artifact"]["path"])
    mend = f"put the file back, or start a new campaign (its SHA-256 was {described['artifact']['sha256']})"
    try:
        artifact = artifacts.read(path)
    except BadInputError as error:
        raise BadInputError(campaign, f"{error.what}: {error.why}", mend) from error
    if artifact.sha256 != described["artifact"]["sha256"]:
        raise BadInputError(campaign, f"{path} has changed since", mend)
    target = {**described["target"], "cores": tuple(described["target"]["cores"])}
    return Cell(id=described["id"], artifact=artifact, target=Target(**target))
