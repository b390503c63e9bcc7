"""`mobench quickstart`: the whole road on this machine, from the papers' tables to a Pareto plot, without a network."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mobench import artifacts, plan, store
from mobench.campaign import run_cells
from mobench.cli import terminal
from mobench.cli.terminal import Progress
from mobench.design import Settings
from mobench.errors import MobenchError
from mobench.exporting import export_networks
from mobench.pareto import pareto_points
from mobench.records import RUNTIME_FORMATS, Target
from mobench.report import front
from runners import desktop, device_state

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
PRECISIONS = ("fp32", "int8")
# Random weights have no accuracy to keep: these images only have to make the activations lifelike.
CALIBRATION_COUNT = 16


@click.command()
@click.option("--budget", "budget_s", type=click.FloatRange(1), default=60.0, show_default=True, metavar="SECONDS",
              help="How long to measure.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("quickstart"), show_default=True)
def command(budget_s: float, out: Path) -> int:
    """Export MobileNetV1, V2, V3-Large and V3-Small in FP32 and INT8, time them in both runtimes, draw the front.

    The weights are random, with a fixed seed, so that nothing is downloaded: latency is real, accuracy is the
    published one.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - began:4.0f} s] {text}", err=True)

    say("random weights (seed 0): latency is real, accuracy is the published one (FP32)")
    outcomes = export_networks(
        NETWORKS,
        precisions=PRECISIONS,
        weights="random:0",
        calibration_count=CALIBRATION_COUNT,
        out=out / "artifacts",
        say=lambda outcome: say(
            f"{outcome.status} {outcome.path.name}" + (f": {outcome.error}" if outcome.error else "")
        ),
    )
    failed = [outcome for outcome in outcomes if outcome.error]
    files = [artifacts.read(outcome.path) for outcome in outcomes if not outcome.error]
    if not files:
        raise MobenchError("quickstart", "not one export succeeded", "see the lines above, and `mobench doctor`")
    cores = desktop.choose_cores(1)
    cells = plan.make_cells(files, [Target(runtime=runtime, cores=cores) for runtime in RUNTIME_FORMATS])
    say(f"timing {len(cells)} cells, one thread, {budget_s:g} s")
    journal = store.new_path(out / "results", "desktop-cpu", device_state.machine())
    with Progress() as bar:
        run = run_cells(
            cells,
            settings=Settings(budget_s=budget_s),
            journal=journal,
            progress=bar,
        )
    points = pareto_points([run], run.accuracies)
    if not points:
        raise MobenchError("quickstart", "not one model could be timed", f"see {run.path}, and `mobench doctor`")
    click.echo(front.show(points, "table", width=terminal.width(), colour=terminal.colour()))
    for suffix in ("svg", "png"):
        front.write(points, out / f"pareto.{suffix}")
    click.echo(f"plots:     {out / 'pareto.svg'}  {out / 'pareto.png'}")
    click.echo(f"results:   {run.path}")
    click.echo(f"artifacts: {out / 'artifacts'}")
    say("done")
    return int(bool(failed or run.failures))
