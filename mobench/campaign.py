"""Campaigns: what to time from what a user named, begun, or taken up again where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobench import artifacts, gpu_cells, plan, store
from mobench.design import Settings
from mobench.errors import BadInputError
from mobench.gpu_cells import GpuWays
from mobench.hosts import Host
from mobench.hosts.conditions import as_before
from mobench.hosts.desktop import DesktopHost
from mobench.hosts.opening import open_host
from mobench.measure import Campaign
from mobench.records import DEVICES, READS, RUNTIME_FORMATS, TOOL_FORMATS, Artifact, Cell, Run, Target
from runners import desktop

# What must not have changed when a campaign is taken up again; the runtimes' versions are compared at their start.
_SAME_MACHINE = ("cpu", "arch", "cores", "phone_id")


def make_targets(
    *,
    on: Sequence[str] = ("desktop-cpu",),
    runtimes: Sequence[str] = (),
    providers: Sequence[str] = (),
    threads: Sequence[int] = (),
    batches: Sequence[int] = (),
    gpu: GpuWays | None = None,
    choose_cores: Callable[[int], tuple[int, ...]] = desktop.choose_cores,
) -> list[Target]:
    """Return every combination of what was asked; nothing asked means each runtime's own choice, one thread, batch 1.

    Args:
        on: devices, all of one machine.
        runtimes: or the user's own tools (`mobench.records.TOOL_FORMATS`).
        providers: execution providers and delegates.
        threads: counts of them.
        batches: images an inference.
        gpu: how to run on a desktop's GPU.
        choose_cores: gives the affinity mask for so many threads.

    Raises:
        BadInputError: a runtime that none of the devices has, a provider that none of the runtimes has, or a way to run
            on a GPU that none of the providers has.
    """
    chosen = []
    for device in on:
        for runtime in runtimes or tuple(DEVICES[device]):
            has = _providers(device, runtime)
            # What is installed decides, and a record says it.
            usual = desktop.default_provider(runtime) if has and device == gpu_cells.GPU else ""
            chosen += [(device, runtime, name) for name in providers or (usual,) if has and name in ("", *has)]
    for runtime in runtimes:
        if not any(_providers(device, runtime) for device in on):
            known = "; ".join(f"{device}: {', '.join(DEVICES[device])}" for device in on)
            raise BadInputError(f"--runtime {runtime}", f"there is none for {' and '.join(on)}", known)
    lost = sorted({*providers} - {provider for _, _, provider in chosen})
    if lost:
        known = "; ".join(f"{name}: {', '.join(has)}" for device in on for name, has in DEVICES[device].items())
        raise BadInputError(f"--provider {lost[0]}", "no asked runtime has it", known)
    ways = gpu or GpuWays()
    ways.check({(device, provider) for device, _, provider in chosen})
    return [
        Target(
            device=device,
            runtime=runtime,
            provider=provider,
            threads=count,
            batch=batch,
            cores=choose_cores(count),
            **way,
        )
        for device, runtime, provider in chosen
        for way in ways.of(device, provider)
        for count in threads or (1,)
        for batch in batches or (1,)
    ]


def _providers(device: str, runtime: str) -> tuple[str, ...]:
    """Return a runtime's providers on a device; a native tool has those of the runtime in it, but for desktop GPUs."""
    if device == gpu_cells.GPU and runtime in TOOL_FORMATS:
        return ()
    inside = next((name for name, form in RUNTIME_FORMATS.items() if form == TOOL_FORMATS.get(runtime)), runtime)
    return DEVICES[device].get(inside, ())


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
    formats = {READS[target.runtime] for target in targets}
    named = {Path(thing) for thing in things}
    for path in artifacts.resolve(things):
        try:
            artifact = artifacts.read(path)
        except BadInputError as error:
            refused.append(str(error))
            continue
        if artifact.format not in formats:
            if path in named:
                refused.append(str(plan.unread(artifact, targets)))
        elif not precisions or artifact.precision in precisions:
            usable.append(artifact)
    return usable, refused


def run_cells(
    cells: Sequence[Cell],
    *,
    host: Host | None = None,
    baseline: str | None = None,
    settings: Settings | None = None,
    results: Path = Path("results"),
    journal: Path | None = None,
    shape: tuple[int, ...] = (),
    progress: Callable[[float, str], None] = lambda share, text: None,
    resumed: bool = False,
) -> Run:
    """Time cells, journal the campaign under ``results``, and return it.

    Args:
        cells: what to time, from ``plan.make_cells``.
        host: the device they run on, entered; this machine where None.
        baseline: the cell that ratios are to, as ``plan.choose_baseline`` takes it.
        settings: budget, asked precision and seed.
        results: folder for the journal.
        journal: the journal's own path, instead of a new one under ``results``.
        shape: first input's shape for models that leave it open; a given host has its own.
        progress: told the share of the budget that is spent, and what goes on.
        resumed: the campaign that ``journal`` holds is taken up again (see `resume`).

    Raises:
        BadInputError: no such baseline, or another process is writing the journal.
        LinkError: the phone is out of reach before anything was measured.
        KeyboardInterrupt: after the journal is closed; read it with ``store.read``.
    """
    chosen = plan.choose_baseline(cells, baseline)
    host = host or DesktopHost(shape=shape, on={cell.target.device for cell in cells})
    measured = {core for cell in cells if cell.target.device.startswith("desktop") for core in cell.target.cores}
    with desktop.keep_off(measured):
        path = journal or store.new_path(results, _kind(cells), host.machine())
        with store.Journal(path, wait=False, private=host.private()) as log:
            campaign = Campaign(
                cells,
                chosen,
                settings or Settings(),
                log,
                host=host,
                resumed=store.read(path) if resumed else None,  # only now is nobody else writing to it
                shape=shape,
                progress=progress,
            )
            try:
                campaign.run()
            except BaseException as error:
                if not path.stat().st_size:
                    path.unlink()  # it came before the header: there is nothing to read
                    raise
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt(str(path)) from error
                raise
    return store.read(path)


def _kind(cells: Sequence[Cell]) -> str:
    """Name a journal by its device, or by what several have in common."""
    on = sorted({cell.target.device for cell in cells})
    return on[0] if len(on) == 1 else on[0].partition("-")[0]


def resume(
    run: Run,
    *,
    more_s: float | None = None,
    serials: Sequence[str] = (),
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> Run:
    """Take a campaign up again on the machine it was measured on: the same cells, further starts, the same journal.

    Args:
        run: the campaign.
        more_s: seconds to measure; what is left of its budget where None.
        serials: the phone's, for adb; where empty the one attached.
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
    shape = tuple(header.get("shape", ()))
    on = {cell["target"]["device"] for cell in header["cells"]}
    asked = as_before(header.get("conditions", {}))
    with open_host(on, serials=serials, shape=shape, **asked) as host:
        return _take_up(run, host, name, settings, more_s, shape, progress)


def _take_up(
    run: Run,
    host: Host,
    name: str,
    settings: Mapping[str, Any],
    more_s: float | None,
    shape: tuple[int, ...],
    progress: Callable[[float, str], None],
) -> Run:
    header, now = run.header, host.machine()
    for key in _SAME_MACHINE:
        then = header.get("machine", {}).get(key)
        if then != now.get(key):
            raise BadInputError(name, f"measured on another machine ({key}: {then}, here {now.get(key)})", "go there")
    gpus = [gpu_cells.describe(machine) for machine in (header.get("machine", {}), now)]
    if gpus[0] != gpus[1]:
        raise BadInputError(name, f"measured on another GPU ({gpus[0] or None}, here {gpus[1] or None})", "go there")
    spent_s = max((block.t_s for block in run.blocks), default=0.0)
    left_s = settings["budget_s"] - spent_s if more_s is None else more_s
    if left_s <= 0 or (more_s is None and run.end in ("precise", "budget")):
        why = "it is as precise as asked" if run.end == "precise" else "its budget is spent"
        raise BadInputError(name, why, "measure on with --budget SECONDS")
    cells = [_again(name, cell) for cell in header["cells"]]
    taken_up = Settings(**{**settings, "budget_s": spent_s + left_s})
    if run.end == "precise":  # it would stop at once: who asks for more seconds wants them spent
        taken_up = replace(taken_up, ratio_half_width=0.0, p50_half_width=0.0)
    return run_cells(
        cells,
        host=host,
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
