"""`mobench profile`: which operators a model's time goes to, and how far each is from the device's ceilings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mobench import campaign
from mobench.cli.run import parse_shape
from mobench.cli.terminal import echo_table
from mobench.downloads import cache_folder
from mobench.errors import BadInputError, MobenchError
from mobench.files import write_text
from mobench.hosts.opening import open_host
from mobench.profile.ceilings import PROCESSORS, ceiling_for
from mobench.profile.operators import GROUPINGS, Grouping, Line, doubts, lines, overhead
from mobench.profile.roofline import Ceiling, shown
from mobench.profile.session import profile_file
from mobench.records import DEVICES, RUNTIME_FORMATS, Artifact, Profile, Target
from mobench.report.style import PLOT_SUFFIXES, RUNTIME_NAMES
from mobench.report.tables import Column, render
from mobench.zoo import spec as zoo

_FIGURES = (
    Column(key="time_ms", title="ms", digits=3, align="right"),
    Column(key="percent", title="share %", digits=1, align="right"),
    Column(key="mmacs", title="MACs (M)", digits=1, align="right"),
    Column(key="gmacs_per_s", title="GMAC/s", digits=1, align="right"),
    Column(key="gbytes_per_s", title="GB/s", digits=1, align="right"),
    Column(key="percent_of_ceiling", title="of ceiling %", digits=0, align="right"),
    Column(key="bound", title="bound by"),
)
_COUNT = Column(key="count", title="n", align="right")
COLUMNS: Mapping[Grouping, tuple[Column, ...]] = {
    "operator": (Column(key="name", title="operator"), _COUNT, *_FIGURES),
    "block": (Column(key="name", title="block"), _COUNT, *_FIGURES),
    "layer": (
        Column(key="name", title="layer"),
        Column(key="kind", title="operator"),
        Column(key="block", title="block"),
        *_FIGURES,
    ),
}
# A file keeps every operator, in the order they run, and units that need no title.
CSV_COLUMNS = tuple(
    Column(key=key)
    for key in (
        *("file", "runtime", "threads", "batch", "position", "name", "kind", "kernel", "block", "precision"),
        *("time_ms", "share", "macs", "moved_bytes", "gmacs_per_s", "gbytes_per_s", "of_ceiling", "bound"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """A model file's profile, and all that its figures are read with."""

    artifact: Artifact
    target: Target
    profile: Profile
    ceiling: Ceiling | None
    block_names: Mapping[str, str]
    machine: str = ""  # the processor's name, or the phone's

    def lines(self, by: Grouping) -> list[Line]:
        """Return the operators grouped."""
        return lines(self.profile, by, self.ceiling, self.block_names)

    @property
    def title(self) -> str:
        """Name the file and what ran it."""
        target = self.target
        provider = f" ({target.provider})" if target.provider else ""
        batch = f", batch {target.batch}" if target.batch != 1 else ""
        processor = target.device.removeprefix("android-").upper()
        on = f" on the {processor} of {self.machine}" if target.device != "desktop-cpu" else ""
        runtime = RUNTIME_NAMES[target.runtime]
        return f"{self.artifact.path.name}, {runtime}{provider}{on}, {_threads(target.threads)}{batch}"


def block_names(artifact: Artifact) -> dict[str, str]:
    """Return what the blocks of one of our networks are: its modules are numbered like its layers in the table."""
    network = artifact.manifest.get("network") or {}
    try:
        layers = zoo.get(
            network["name"], width=network["width"], depth=network.get("depth"), input_size=network["input_size"]
        ).layers
    except (KeyError, TypeError, BadInputError):
        return {}
    names = {}
    for index, layer in enumerate(layers):
        stride = f" /{layer.stride}" if layer.stride > 1 and layer.kind != "pool" else ""
        channels = f" {layer.inp}-{layer.out}" if layer.kind != "pool" else ""
        names[str(index)] = f"{index} {layer.kind}{channels}{stride}"
    return names


def echo_profiled(profiled: Profiled, groupings: Sequence[Grouping], top: int) -> None:
    """Print the tables, and under the last what the figures are."""
    click.echo(profiled.title)
    for by in groupings:
        found = profiled.lines(by)
        first = found[:top] if by == "layer" else found
        notes = [f"the {top} longest of {len(found)}"] if len(first) < len(found) else []
        if by == groupings[-1]:
            notes += _notes(profiled)
        told = [each for each in COLUMNS[by] if profiled.ceiling or each.key not in ("percent_of_ceiling", "bound")]
        echo_table(told, [_row(line) for line in first], notes)
        if by != groupings[-1]:
            click.echo()


def _notes(profiled: Profiled) -> list[str]:
    profile = profiled.profile
    return [
        overhead(profile).sentence(),
        f"times: {profile.source}, in steps of {profile.tick_ns / 1000:g} us, medians of {len(profile.profiled_ns)}"
        " inferences; they are never a model's latency, which `mobench run` measures",
        *_of_ceilings(profiled.ceiling, profiled.target.threads),
        *profile.notes,
        *doubts(profiled.lines("operator"), overhead(profile)),
    ]


def _of_ceilings(ceiling: Ceiling | None, threads: int) -> list[str]:
    if ceiling is None:
        return ["no ceilings: nobody has measured a GPU's yet"]
    peaks = ", ".join(
        f"{precision} {shown(rate)} GMAC/s ({RUNTIME_NAMES[ceiling.reached_by[precision]]})"
        for precision, rate in ceiling.macs_per_s.items()
    )
    (small, fast), (large, slow) = ceiling.bytes_per_s[0], ceiling.bytes_per_s[-1]
    fast = ceiling.bandwidth(small)
    return [
        f"ceilings with {_threads(threads)}: {peaks}; {shown(fast)} GB/s within {_size(small)}"
        f" to {shown(slow)} GB/s within {_size(large)} (measured {ceiling.measured[:10]}, kept; --remeasure)",
        "of ceiling: the least time they allow for MACs and bytes (inputs, weights, outputs), over the time taken",
    ]


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB" if size_bytes >= 1 << 20 else f"{size_bytes >> 10} KiB"


def _row(line: Line) -> dict[str, Any]:
    return {
        **dataclasses.asdict(line),
        "percent": 100 * line.share,
        "mmacs": line.macs / 1e6 if line.macs is not None else None,
        "percent_of_ceiling": 100 * line.of_ceiling if line.of_ceiling is not None else None,
    }


def as_json(profiled: Sequence[Profiled], groupings: Sequence[Grouping]) -> str:
    """Return a list, one object a file, with its lines by each grouping."""
    found: list[dict[str, Any]] = []
    for one in profiled:
        grouped: dict[str, Any] = {by: [dataclasses.asdict(line) for line in one.lines(by)] for by in groupings}
        related = overhead(one.profile)
        ceiling = one.ceiling
        found.append(
            {
                "file": str(one.artifact.path),
                "sha256": one.artifact.sha256,
                "target": dataclasses.asdict(one.target),
                "machine": one.machine,
                "source": one.profile.source,
                "tick_ns": one.profile.tick_ns,
                "inferences": len(one.profile.profiled_ns),
                **dataclasses.asdict(related),
                "ceiling": ceiling
                and {
                    **dataclasses.asdict(ceiling),
                    "bytes_per_s": [{"working_set_bytes": size, "rate": rate} for size, rate in ceiling.bytes_per_s],
                },
                "notes": [*one.profile.notes, *doubts(one.lines("operator"), related)],
                **grouped,
            }
        )
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def as_csv(profiled: Sequence[Profiled]) -> str:
    """Return every operator of every file, in the order they run."""
    rows = []
    for one in profiled:
        of_file = {"file": str(one.artifact.path), "runtime": one.target.runtime, "threads": one.target.threads,
                   "batch": one.target.batch}  # fmt: skip
        found = sorted(one.lines("layer"), key=lambda line: line.position)
        rows += [{**of_file, **dataclasses.asdict(line)} for line in found]
    return render(CSV_COLUMNS, rows, "csv")


def _check_plots(plots: Sequence[Path], files: int) -> None:
    for plot in plots:
        if plot.suffix.lower() not in PLOT_SUFFIXES:
            raise BadInputError(f"cannot draw {plot}", "its suffix names no format", f"use {' '.join(PLOT_SUFFIXES)}")
    if plots and files != 1:
        raise BadInputError(f"cannot draw {files} models in one plot", "a plot shows one model", "name one FILE")


@click.command()
@click.argument("things", nargs=-1, required=True, metavar="FILE...")
@click.option("--by", "groupings", multiple=True, type=click.Choice(GROUPINGS),
              help="What to add up; repeatable. Default: operator, then block.")  # fmt: skip
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="How many layers are shown.")
@click.option("--device", type=click.Choice(list(DEVICES)), default="desktop-cpu", show_default=True)
@click.option("--serial", metavar="SERIAL", help="Which phone (`mobench devices`).")
@click.option("--provider", default="", metavar="NAME", help="As `mobench run` takes it.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option("--shape", metavar="1,3,H,W", help="First input's shape, for models that leave it open.")
@click.option("--budget", "budget_s", type=click.FloatRange(0.1), default=10.0, show_default=True, metavar="SECONDS",
              help="Of each file, about.")  # fmt: skip
@click.option("--remeasure", is_flag=True, help="Measure the device's ceilings again.")
@click.option("--csv", "csv_out", type=click.Path(path_type=Path), metavar="FILE", help="Every operator, in order.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw the roofline: rates against the ceilings. .svg, .png or .pdf")  # fmt: skip
@click.option("--flame", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw where the time goes: network, blocks, operators.")  # fmt: skip
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a file.")
@click.pass_context
def command(
    context: click.Context,
    things: tuple[str, ...],
    groupings: tuple[Grouping, ...],
    top: int,
    device: str,
    serial: str | None,
    provider: str,
    threads: int,
    batch: int,
    shape: str | None,
    budget_s: float,
    remeasure: bool,
    csv_out: Path | None,
    plot: Path | None,
    flame: Path | None,
    json_out: bool,
) -> int:
    """Time each operator of a model, and say how far it is from what this machine, or a phone, can do.

    FILEs are .onnx or .tflite, or names of networks exported under artifacts/. The profiler slows a model down: what
    it shows is where the time goes, never how long the model takes.
    """
    targets = campaign.make_targets(
        on=[device],
        providers=[provider] if provider else [],
        threads=[threads],
        batches=[batch],
        choose_cores=lambda count: (),  # the host's, once it is there
    )
    usable, refused = campaign.find_artifacts(things, targets)
    for line in refused:
        click.echo(f"error: {line}", err=True)
    if not usable:
        raise BadInputError("nothing to profile", "no usable model among those named", "see `mobench doctor`")
    plots = [path for path in (plot, flame) if path is not None]
    _check_plots(plots, len(usable))
    if plot is not None and device not in PROCESSORS:
        raise BadInputError(f"--plot {plot}", "nobody has measured a GPU's ceilings yet", "--flame draws without them")
    host = context.with_resource(open_host([device], serials=[serial] if serial else [], shape=parse_shape(shape)))
    machine = str(host.machine()["cpu"])

    def tell(text: str) -> None:
        click.echo(text, err=True)

    done: list[Profiled] = []
    failed = bool(refused)
    ceiling = None
    if device in PROCESSORS:
        ceiling = ceiling_for(host, threads, device=device, cache=cache_folder(), remeasure=remeasure, tell=tell)
    for artifact in usable:
        target = next(t for t in targets if RUNTIME_FORMATS[t.runtime] == artifact.format)
        target = dataclasses.replace(target, cores=host.choose_cores(threads))
        tell(f"profiling {artifact.path.name}")
        try:
            if host.care:
                host.care.ready(tell)
            profile = profile_file(artifact, target, host=host, budget_s=budget_s)
        except MobenchError as error:
            click.echo(f"error: {error}", err=True)
            failed = True
            continue
        found = Profiled(
            artifact=artifact,
            target=target,
            profile=profile,
            ceiling=ceiling,
            block_names=block_names(artifact),
            machine=machine,
        )
        if not json_out:
            if done:
                click.echo()
            echo_profiled(found, groupings or ("operator", "block"), top)
        done.append(found)
    if json_out:
        click.echo(as_json(done, groupings or ("operator", "block")), nl=False)
    if csv_out is not None and done:
        write_text(csv_out, as_csv(done))
        tell(f"table: {csv_out}")
    if plots and done:
        from mobench.report.plots.profile import flame_plot, roofline_plot

        if plot is not None and done[0].ceiling is not None:
            roofline_plot(done[0].profile, done[0].ceiling, plot, title=done[0].title, threads=threads)
            tell(f"plot: {plot}")
        if flame is not None:
            flame_plot(done[0].profile, flame, title=done[0].title, names=done[0].block_names)
            tell(f"plot: {flame}")
    return int(failed)
