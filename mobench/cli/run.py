"""`mobench run`: time model files against one another."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mobench import campaign, gpu_cells, plan, store
from mobench.cli import phones
from mobench.cli.terminal import Progress, colour, echo_table, width
from mobench.design import Settings
from mobench.errors import BadInputError
from mobench.gpu_cells import GpuWays
from mobench.hosts.conditions import Limits, Tool
from mobench.hosts.opening import open_host
from mobench.over_time import drift, sustained
from mobench.records import DEVICES, IOS, PRECISIONS, PROVIDER_NAMES, READS, TOOL_FORMATS, Run
from mobench.report import sustained as report_sustained
from mobench.report.style import PLOT_SUFFIXES
from mobench.report.tables import Column
from mobench.results import open_run
from mobench.stats import Summary, summarize

COLUMNS = (
    Column(key="cell", title="model"),
    Column(key="device", title="device"),
    Column(key="runtime", title="runtime"),
    Column(key="provider", title="provider"),
    Column(key="threads", title="threads", align="right"),
    Column(key="batch", title="batch", align="right"),
    Column(key="way", title="way"),
    Column(key="p50_ms", title="p50 ms [95 %]", ci="p50_ci_ms", align="right"),
    Column(key="ratio", title="ratio [95 %]", ci="ratio_ci", align="right"),
    Column(key="images_per_s", title="images/s", align="right"),
    Column(key="build_ms", title="build ms", digits=0, align="right"),
    Column(key="init_ms", title="init ms", align="right"),
    Column(key="first_ms", title="first ms", align="right"),
    Column(key="peak_rss_mb", title="peak MiB", digits=0, align="right"),
    Column(key="arena_mb", title="own MiB", digits=0, align="right"),
    Column(key="energy_mj", title="mJ [95 %]", ci="energy_ci_mj", align="right"),
    Column(key="check_db", title="SNR dB", digits=1, align="right"),
    Column(key="nodes", title="nodes", align="right"),
    Column(key="doubt_names", title="doubts"),
)
_USUAL = {
    "device": "desktop-cpu",
    "provider": "",
    "batch": 1,
    "way": "",
    "images_per_s": None,
    "build_ms": None,
    "energy_mj": None,
    "check_db": None,
    "nodes": "",
}  # a column in which nothing else stands is left out
OTHERS_SHARE = 0.05  # of the machine's CPU time, from which others' load is worth a line
_SHOWN = 3  # cells named under a doubt
_SWITCH = {"off": False, "on": True}


def as_json(run: Run, summaries: Sequence[Summary]) -> str:
    """Return the summaries as a JSON list, one object a cell; what is the whole campaign's stands in each."""
    shared: dict[str, Any] = {"campaign": run.header["campaign"], "journal": str(run.path), "end": run.end}
    shared["machine_speed"] = drift.as_fields(drift.find(run))
    if sustained.is_sustained(run) and _was_timed(run):
        shared["sustained"] = sustained.as_fields(sustained.series(run))
    cells = []
    for summary in summaries:
        fields = dataclasses.asdict(summary)
        fields["doubts"] = [{"name": d.name, "why": d.why, "mend": d.mend} for d in summary.doubts]
        cells.append({**fields, **shared})
    return json.dumps(cells, indent=1, allow_nan=False) + "\n"


def echo_summaries(run: Run, summaries: Sequence[Summary]) -> None:
    """Print the summaries with notes: the baseline, how the campaign ended, doubts and their mends, the journal."""
    rows: list[dict[str, Any]] = []
    notes = [f"ratio: latency over that of {run.header['baseline']}, paired by round; init, first: medians over starts"]
    for summary in summaries:
        row = dataclasses.asdict(summary) | {"doubt_names": " ".join(d.name for d in summary.doubts)}
        nodes = f"{summary.nodes_delegated}/{summary.nodes_total}" if summary.providers else ""
        row |= {"way": gpu_cells.words(row), "nodes": nodes}
        if summary.failure:
            row["doubt_names"] = " ".join(filter(None, [row["doubt_names"], "FAILED"]))
        rows.append(row)
    if all(row["batch"] == 1 and row["device"] != gpu_cells.GPU for row in rows):
        rows = [row | {"images_per_s": None} for row in rows]  # it says what p50 does
    if len(run.header["cells"]) > 1:
        notes.append("p50: of models that take turns, a few percent above a loop of one alone")
    settings = (run.resumes[-1] if run.resumes else run.header)["settings"]
    seconds = settings.get("sustain_s") or settings["budget_s"]
    ends = {
        "sustained": f"ended: {seconds:g} s of sustained load",
        "precise": "ended: every interval is as narrow as asked",
        "budget": f"ended: the budget of {seconds:g} s is spent (see the intervals)",
        "interrupted": "interrupted: the figures are of what was measured until then",
        "failed": "ended: no model is left that runs",
        "unplugged": "ended: the phone is out of reach; when it is back: mobench run --resume CAMPAIGN",
        "not_ready": "ended: the phone must rest; then: mobench run --resume CAMPAIGN",
    }
    notes.append(ends.get(run.end or "", "cut off: the figures are of what was measured until then"))
    by_doubt: dict[str, list[str]] = {}
    for summary in summaries:
        for doubt in summary.doubts:
            by_doubt.setdefault(f"{doubt.name} ({doubt.mend})", []).append(f"{summary.cell}: {doubt.why}")
    for doubt_and_mend, cells in by_doubt.items():
        more = [f"and {len(cells) - _SHOWN} more (--json has all)"] if len(cells) > _SHOWN else []
        notes += [doubt_and_mend, *(f"  {text}" for text in (*cells[:_SHOWN], *more))]
    notes += [f"FAILED {f.cell}: {': '.join(filter(None, (f.what, f.why)))}; {f.mend}" for f in run.failures]
    notes += drift.lines(drift.find(run)) + state_notes(run)
    if any(row["check_db"] is not None for row in rows):
        references = sorted({check.reference for check in run.checks if check.n})
        notes.append(f"SNR: the timed session's outputs against {', '.join(references)}")
    if any(row["energy_mj"] is not None for row in rows):
        of = "GPU board" if any(row["device"] == gpu_cells.GPU for row in rows) else "processor package"
        notes.append(f"mJ an inference are the whole {of}'s, its idle share included")
    notes += gpu_cells.notes(run)
    notes.append(f"journal: {run.path}")
    echo_table(columns(rows), rows, notes)
    if sustained.is_sustained(run) and _was_timed(run):
        shown = report_sustained.show(sustained.series(run), width=width(), colour=colour())
        click.echo("\n" + shown.rstrip("\n"))


def _was_timed(run: Run) -> bool:
    return any(block.phase == "steady" for block in run.blocks)


def columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns to show: without those in which every row has what is usual."""
    return [
        column
        for column in COLUMNS
        if column.key not in _USUAL or any(row.get(column.key) != _USUAL[column.key] for row in rows)
    ]


def state_notes(run: Run) -> list[str]:
    """Return a line for each thing about the machine's state that a reader of latencies has to know."""
    notes = []
    capped = sorted({
        f"cores {','.join(map(str, cluster.cores))} to {cluster.cap_khz / cluster.max_khz:.0%}"
        for state in run.states
        for cluster in state.clusters
        if cluster.cap_khz and cluster.max_khz and cluster.cap_khz < cluster.max_khz
    })  # fmt: skip
    if capped:
        notes.append(f"clocks were capped below the hardware's maximum: {'; '.join(capped)}")
    others = max((state.others_share or 0.0 for state in run.states), default=0.0)
    if others > OTHERS_SHARE:
        notes.append(f"other processes took up to {others:.0%} of the machine's CPU time")
    stolen = max((state.steal_share or 0.0 for state in run.states), default=0.0)
    if stolen > OTHERS_SHARE:
        notes.append(f"the hypervisor gave up to {stolen:.0%} of the machine's CPU time to others")
    if any(state.power == "battery" for state in run.states):
        notes.append("the device ran on its battery")
    for pause in run.pauses:
        if "waited_s" in pause:
            boot = ", after a reboot" if pause.get("boot") == "new" else ""
            notes.append(f"paused for {pause['waited_s']:.0f} s{boot}: {pause['why']}")
        else:
            notes.append(f"stopped at {pause['t_s']:.0f} s: {pause['why']}")
    throttled = sorted({state.thermal_status for state in run.states if state.thermal_status} - {"none"})
    if throttled:
        notes.append(f"the device said that it throttled: {', '.join(throttled)}")
    return notes


def parse_shape(text: str | None) -> tuple[int, ...]:
    """Turn ``1,3,224,224`` into a shape.

    Raises:
        BadInputError: not positive integers.
    """
    if not text:
        return ()
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = (0,)
    if any(d < 1 for d in shape):
        raise BadInputError(f"--shape {text}", "not a list of positive integers", "for example --shape 1,3,224,224")
    return shape


def parse_duration(text: str) -> float:
    """Turn ``90``, ``90s``, ``10m`` or ``1h`` into seconds.

    >>> parse_duration("10m"), parse_duration("1.5h"), parse_duration("90")
    (600.0, 5400.0, 90.0)

    Raises:
        BadInputError: not a positive time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"] if match else 0.0
    if seconds <= 0:
        raise BadInputError(f"time {text!r}", "not a positive time", "for example 90s, 10m or 1h")
    return seconds


@click.command()
@click.argument("things", nargs=-1, metavar="[FILES or NAMES]...")
@click.option("--device", "on", multiple=True, type=click.Choice(list(DEVICES)),
              help="Repeatable: a machine's CPU and GPU take turns. Default: desktop-cpu.")  # fmt: skip
@click.option("--serial", "serials", multiple=True, metavar="SERIAL",
              help="Which phone (`mobench devices`). Repeatable: side by side, a campaign each.")  # fmt: skip
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(list(READS)), help="Repeatable.")
@click.option("--tool", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Your benchmark_model or onnxruntime_perf_test, for the --runtime of that name.")  # fmt: skip
@click.option("--provider", "providers", multiple=True,
              type=click.Choice(PROVIDER_NAMES),
              help="Execution provider or delegate. Repeatable; default: the runtime's own choice.")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS),
              help="Only files of this precision. Repeatable.")  # fmt: skip
@click.option("--threads", "threads", multiple=True, type=click.IntRange(1, 256), help="Repeatable; default 1.")
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1, 4096),
              help="Images an inference. Repeatable; default 1.")  # fmt: skip
@click.option("--io", "ios", multiple=True, type=click.Choice(IOS),
              help="Desktop GPU: inputs, outputs stay in its memory (default), or are copied. Repeatable.")  # fmt: skip
@click.option("--cuda-graph", "cuda_graphs", multiple=True, type=click.Choice(_SWITCH),
              help="CUDA, TensorRT: replay an inference as one launch. Repeatable; default off.")  # fmt: skip
@click.option("--tf32", "tf32s", multiple=True, type=click.Choice(_SWITCH),
              help="CUDA, TensorRT: FP32 products of 10-bit inputs. Repeatable; default off.")  # fmt: skip
@click.option("--allow-partial", is_flag=True, help="Desktop GPU: what it does not take may run on the CPU, labelled.")
@click.option("--energy", "energy_s", type=click.FloatRange(0.1), metavar="SECONDS",
              help="NVIDIA GPU: in each start every model also runs alone for so long, for its energy.")  # fmt: skip
@click.option("--budget", "budget_s", type=click.FloatRange(0.1), metavar="SECONDS",
              help="Default 60; with --resume, what is left of the campaign's.")  # fmt: skip
@click.option("--precise", type=click.FloatRange(0.01, 50), default=1.0, show_default=True, metavar="PERCENT",
              help="Stop early when ratios are known to this half-width, and p50 to twice it.")  # fmt: skip
@click.option("--check", is_flag=True, help="Compare every timed session's outputs with this machine's CPU.")
@click.option("--cool-to", type=click.FloatRange(0, 60), metavar="CELSIUS",
              help="Phones: wait before each round until skin, or battery, is this cool.")  # fmt: skip
@click.option("--min-battery", type=click.IntRange(0, 100), default=20, show_default=True, metavar="PERCENT",
              help="Phones: stop below it.")  # fmt: skip
@click.option("--sustain", metavar="TIME", help="A sustained load instead: no pause for 10m, minute by minute.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="With --sustain: latency against time, .svg, .png or .pdf.")  # fmt: skip
@click.option("--resume", "resumed", metavar="CAMPAIGN", help="Take a campaign up again where it stopped.")
@click.option("--baseline", metavar="NAME", help="The cell that ratios are to; default: the first.")
@click.option("--shape", metavar="1,3,H,W", help="First input's shape, for models that leave it open.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--dry-run", is_flag=True, help="Print the cells and stop.")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout, one object a cell.")
@click.pass_context
def command(
    context: click.Context,
    things: tuple[str, ...],
    on: tuple[str, ...],
    serials: tuple[str, ...],
    runtimes: tuple[str, ...],
    tool: Path | None,
    providers: tuple[str, ...],
    precisions: tuple[str, ...],
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    ios: tuple[str, ...],
    cuda_graphs: tuple[str, ...],
    tf32s: tuple[str, ...],
    allow_partial: bool,
    energy_s: float | None,
    budget_s: float | None,
    precise: float,
    check: bool,
    cool_to: float | None,
    min_battery: int,
    sustain: str | None,
    plot: Path | None,
    resumed: str | None,
    baseline: str | None,
    shape: str | None,
    seed: int,
    results: Path,
    dry_run: bool,
    json_out: bool,
) -> int:
    """Time models against one another: p50 and ratio to a baseline, each with a 95 % interval.

    FILES are .onnx or .tflite, ours or anybody's; NAMES are networks exported under artifacts/. Without any, all of
    artifacts/. The same file may be named twice to see how far apart two equal cells come out. Options that repeat
    make a sweep: every file at every value.
    """
    if plot is not None and (not sustain or plot.suffix.lower() not in PLOT_SUFFIXES):
        raise BadInputError(f"--plot {plot}", f"needs --sustain, and one of {', '.join(PLOT_SUFFIXES)}", "")
    if len(serials) > 1:
        return phones.side_by_side(context, serials, json_out=json_out)
    if resumed is not None:
        _only_resume(context)
        run = open_run(resumed, results)
        return _measure(lambda bar: campaign.resume(run, more_s=budget_s, serials=serials, progress=bar), [], json_out)
    if bool(tool) != bool({*runtimes} & {*TOOL_FORMATS}):
        raise BadInputError(
            "--tool", "it names the program of --runtime benchmark_model or onnxruntime_perf_test", "give both"
        )
    if energy_s and gpu_cells.GPU not in on:
        why = "it is for a desktop's GPU; what processors take is in every block, where the machine tells it"
        raise BadInputError("--energy", why, "with --device desktop-gpu")
    if check and {*batches} - {1}:
        raise BadInputError("--check", "it compares outputs of one image at a time", "leave --batch out")
    size = parse_shape(shape)
    host = open_host(
        on or ("desktop-cpu",),
        serials=serials,
        shape=size,
        check=check,
        tool=Tool(binary=tool, logs=results / "logs") if tool else None,
        limits=Limits(cool_to_c=cool_to, min_battery=min_battery),
        tell=lambda line: click.echo(line, err=True),
    )
    if not dry_run:  # which only asks a phone for its cores
        context.with_resource(host)
    targets = campaign.make_targets(
        on=on or ("desktop-cpu",),
        runtimes=runtimes,
        providers=providers,
        threads=threads,
        batches=batches,
        gpu=GpuWays(
            ios=ios,
            cuda_graphs=tuple(_SWITCH[word] for word in cuda_graphs),
            tf32s=tuple(_SWITCH[word] for word in tf32s),
            partial=allow_partial,
        ),
        choose_cores=host.choose_cores,
    )
    usable, refused = campaign.find_artifacts(things, targets, precisions)
    for line in refused:
        click.echo(f"error: {line}", err=True)
    if not usable:
        raise BadInputError("nothing to time", "no usable model among those named", "see `mobench doctor`")
    cells = plan.make_cells(usable, targets)
    if dry_run:
        shown = [
            [c.id, c.target.device, c.target.runtime, c.target.provider, f"threads {c.target.threads}"] for c in cells
        ]
        click.echo("\n".join("  ".join(filter(None, line)) for line in shown))
        return int(bool(refused))
    settings = Settings(
        budget_s=budget_s or 60.0,
        ratio_half_width=precise / 100,
        p50_half_width=2 * precise / 100,
        seed=seed,
        sustain_s=parse_duration(sustain) if sustain else 0.0,
        energy_s=energy_s or 0.0,
    )
    return _measure(
        lambda bar: campaign.run_cells(
            cells, host=host, baseline=baseline, settings=settings, results=results, shape=size, progress=bar
        ),
        refused,
        json_out,
        plot,
    )


def _only_resume(context: click.Context) -> None:
    """A campaign goes on as it began: what would change it is refused, not ignored."""
    allowed = {"resumed", "budget_s", "serials", "results", "json_out"}
    for name in context.params:
        if name not in allowed and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise BadInputError(
                "--resume",
                "it goes on as it began and takes only --budget, --serial, --results and --json",
                "leave others",
            )


def _measure(
    measure: Callable[[Progress], Run], refused: Sequence[str], json_out: bool, plot: Path | None = None
) -> int:
    """Run a campaign under a progress bar and show what came out, also of one that was interrupted."""
    interrupted = False
    try:
        with Progress() as bar:
            run = measure(bar)
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:
            raise
        interrupted, run = True, store.read(Path(interrupt.args[0]))
    summaries = summarize(run)
    if json_out:
        click.echo(as_json(run, summaries), nl=False)
        for failure in run.failures:
            click.echo(f"error: {': '.join(filter(None, (failure.what, failure.why)))}; {failure.mend}", err=True)
    else:
        echo_summaries(run, summaries)
    if plot is not None and _was_timed(run):
        report_sustained.sustained_plot(sustained.series(run), plot)
        click.echo(f"plot: {plot}", err=True)
    if interrupted:
        raise KeyboardInterrupt
    return int(bool(refused) or bool(run.failures) or run.end in ("unplugged", "not_ready"))
