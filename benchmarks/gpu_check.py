"""Everything that a machine with an NVIDIA GPU is asked, in steps that are taken up again: `make gpu-check`.

The GPU's tests; the zoo with random weights in FP32 and FP16 where it is not exported yet; campaigns on CUDA with batch
1 (outputs checked) and batch 8, each with two copies of one file beside the others, and of the same files on the CPU;
energy; the tables of `gpu.py`; the order of the networks on the CPU against that on the GPU; the report. Journals and
`gpu-check.md` go to `results/<machine>/`, models and what is only half done to `--work`.

It needs no network. A step that is done is not done again; Ctrl-C, or a `--budget` that is spent, loses the step in
flight at most, and of a campaign nothing: the same command goes on. Without a GPU it ends at once, with status 2.

    make gpu-check                                                # or, with less than an hour:
    python benchmarks/gpu_check.py --budget 540 mobilenet_v1 mobilenet_v2 mobilenet_v3_large efficientnet_b0
    python benchmarks/gpu_check.py --device cpu --per-cell 0.5 mobilenet_v1_0.25_32     # tries the script
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu

from mobench import campaign, energy, order, plan, store, zoo
from mobench.claims.journals import journal_places
from mobench.cli.terminal import Progress
from mobench.design import Settings
from mobench.errors import MobenchError
from mobench.files import write_text
from mobench.hosts.opening import open_host
from mobench.records import Artifact, Cell, Run
from mobench.stats import summarize
from mobench.zoo import catalogue
from runners import device_state, gpu_packages, nvidia

ROOT = Path(__file__).resolve().parents[1]
ANCHOR = "mobilenet_v2"  # in every campaign, twice: its second copy tells how well was measured
IN_ONE = 6  # networks in one campaign, beside the anchor
SLACK_S = 60.0  # what a step may take beyond what it was given: starts, reading, writing
SPEED_S, ENERGY_S = 120.0, 3.0
AA_CAMPAIGNS, AA_S = 20, 10.0
TESTS_S = 300.0
FEW = ("mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0")  # for what is not asked of every network
PRECISIONS = ("fp32", "fp16")
ENDED = ("precise", "budget", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the whole check is of, and where it writes; ``per_cell_s`` is a campaign's budget for each of its cells."""

    networks: tuple[str, ...]
    device: str
    results: Path
    work: Path
    per_cell_s: float
    batches: tuple[int, ...] = (1, 8)

    @property
    def models(self) -> Path:
        """Where the model files are."""
        return self.work / "artifacts"

    @property
    def home(self) -> Path:
        """Where this machine's results go."""
        return store.machine_folder(self.results, device_state.machine())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A part of the check. ``run`` returns the Markdown that is kept of it; done is what is kept under its ``key``.

    ``needs_s`` is about how long it takes: with less time left it is not begun.
    """

    name: str
    needs_s: float
    run: Callable[[], str]
    key: str = ""

    def kept(self, asked: Asked) -> Path:
        """Return the file that says what came of it."""
        return asked.work / "steps" / f"{self.name}.md"

    def text(self, asked: Asked) -> str | None:
        """Return what came of it; None where it is still to be done, or was done of something else."""
        try:
            first, _, rest = self.kept(asked).read_text(encoding="utf-8").partition("\n")
        except OSError:
            return None
        return rest if first == f"<!-- {self.key} -->" else None

    def keep(self, asked: Asked, text: str) -> None:
        """Note that it is done."""
        write_text(self.kept(asked), f"<!-- {self.key} -->\n{text}")


def steps(asked: Asked) -> Iterator[Step]:
    """Yield the steps in the order in which they are done."""
    yield Step(name="tests", needs_s=TESTS_S / 2, run=tests)
    groups = [asked.networks[at : at + IN_ONE] for at in range(0, len(asked.networks), IN_ONE)]
    for number, group in enumerate(groups, 1):
        names = tuple(dict.fromkeys((anchor(asked), *group)))
        yield Step(
            name=f"export-{number}", needs_s=SLACK_S, run=_bound(exported, asked, names), key=_key(asked, *names)
        )
        yield _campaign(asked, f"gpu-b{asked.batches[0]}-{number}", asked.device, asked.batches[0], names)
        yield _campaign(asked, f"cpu-b{asked.batches[0]}-{number}", "cpu", asked.batches[0], names)
        yield Step(
            name=f"outputs-{number}", needs_s=SLACK_S, run=_bound(outputs, asked, names), key=_key(asked, *names)
        )
        if number == 1:
            yield from _tables(asked)
    for batch in asked.batches[1:]:
        for number, group in enumerate(groups, 1):
            names = tuple(dict.fromkeys((anchor(asked), *group)))
            yield _campaign(asked, f"gpu-b{batch}-{number}", asked.device, batch, names)


def _tables(asked: Asked) -> Iterator[Step]:
    """Yield what is asked of a few networks."""
    few = tuple(name for name in FEW if name in asked.networks) or asked.networks[:1]
    device, work = asked.device, asked.work
    speed_s = min(SPEED_S, 10 * asked.per_cell_s)
    for name in few:

        def speed(name: str = name) -> str:
            rows = gpu.speed(name, device=device, precision="fp32", folder=work, budget_s=speed_s)
            return _printed(lambda: gpu.print_speed(rows))

        yield Step(name=f"speed-{name}", needs_s=2 * speed_s + SLACK_S, run=speed, key=f"{device} {speed_s}")
    if device == "cuda":  # nothing on a CPU is told this way
        yield _campaign(asked, "gpu-energy", device, 1, few, energy_s=ENERGY_S)
    aa_s = min(AA_S, asked.per_cell_s)

    def aa() -> str:
        found = gpu.aa(few[0], device=device, folder=work, campaigns=AA_CAMPAIGNS, seconds=aa_s)
        return _printed(lambda: gpu.print_aa(few[0], found))

    yield Step(name="aa", needs_s=AA_CAMPAIGNS * (aa_s + 1), run=aa, key=f"{device} {few[0]} {aa_s}")


def anchor(asked: Asked) -> str:
    """Return the network that is in every campaign, and so pairs them all."""
    return ANCHOR if ANCHOR in asked.networks else asked.networks[0]


def files(asked: Asked, names: Sequence[str]) -> list[Artifact]:
    """Return the networks' model files, exported where they are not there yet."""
    return gpu.export(names, PRECISIONS, asked.models, jobs=os.cpu_count())


def exported(asked: Asked, names: Sequence[str]) -> str:
    """Export the networks; return the files' names.

    Raises:
        MobenchError: some could not be exported; what follows goes on with the others.
    """
    found, wanted = files(asked, names), len(names) * len(PRECISIONS)
    if len(found) < wanted:
        raise MobenchError(f"{wanted - len(found)} of {wanted} files", "could not be exported", "see the lines above")
    return "".join(f"- {artifact.path.name}, {artifact.size_bytes / 1e6:.1f} MB\n" for artifact in found)


def outputs(asked: Asked, names: Sequence[str]) -> str:
    """Compare the networks' outputs on the device with the CPU's, in FP32 and FP16; return the table."""
    rows = [gpu.output(artifact, asked.device) for artifact in files(asked, names)]
    return _printed(lambda: gpu.print_outputs(rows))


def tests() -> str:
    """Run the tests that are marked `gpu`; return what pytest says at its end."""
    marked = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-rs", "-p", "no:cacheprovider", *marked]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TESTS_S, cwd=ROOT, env=environ, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MobenchError("the GPU's tests", f"not done in {TESTS_S:g} s", " ".join(command)) from error
    said = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode not in (0, 5):  # 5: none was collected
        raise MobenchError("the GPU's tests", said[-1] if said else f"exit status {done.returncode}", " ".join(command))
    return "".join(f"    {line}\n" for line in said[-12:])


def _campaign(asked: Asked, name: str, device: str, batch: int, names: Sequence[str], *, energy_s: float = 0.0) -> Step:
    cells = len(PRECISIONS) * len(names) + 1
    budget_s = cells * (asked.per_cell_s + (5 * (ENERGY_S + energy.LEAD_S) if energy_s else 0.0))
    settings = Settings(budget_s=budget_s, energy_s=energy_s)

    def run() -> str:
        run = measure(asked, name, device, batch, names, settings)
        return _told(run)

    return Step(name=name, needs_s=budget_s + SLACK_S, run=run, key=f"{_key(asked, *names)} {device} {settings}")


def measure(asked: Asked, name: str, device: str, batch: int, names: Sequence[str], settings: Settings) -> Run:
    """Run a campaign of the networks' files, the anchor's FP32 file twice, or take it up where it was left."""
    found = files(asked, names)
    first = next((artifact for artifact in found if artifact.precision == "fp32"), None)
    if first is None:
        raise MobenchError(f"campaign {name}", f"none of {', '.join(names)} is exported in FP32", "export one first")
    cells = plan.make_cells([first, first, *(each for each in found if each is not first)], [gpu.target(device, batch)])
    for path in sorted(asked.home.glob(f"*-gpu-check-{name}.jsonl")):
        begun = store.read(path)
        if not _same(begun, cells):
            continue
        if begun.end in ENDED:
            return begun
        with Progress(name) as bar:
            return campaign.resume(begun, progress=bar)
    check = batch == 1 and device == "cuda"  # outputs are compared of one image at a time
    with open_host((cells[0].target.device,), check=check) as host, Progress(name) as bar:
        journal = store.fresh_path(asked.home, f"gpu-check-{name}")
        return campaign.run_cells(cells, host=host, settings=settings, journal=journal, progress=bar)


def _same(begun: Run, cells: Sequence[Cell]) -> bool:
    then = [(cell["id"], cell["artifact"]["sha256"]) for cell in begun.header.get("cells", ())]
    return then == [(cell.id, cell.artifact.sha256) for cell in cells]


def _told(run: Run) -> str:
    """Return a campaign's cells as a table in Markdown."""
    lines = ["| cell | p50, ms [95 %] | nodes | SNR dB | mJ [95 %] | doubts |", "|---|---|---|---|---|---|"]
    for summary in summarize(run):
        nodes = f"{summary.nodes_delegated} of {summary.nodes_total}" if summary.nodes_total is not None else ""
        snr = f"{summary.check_db:.1f}" if summary.check_db is not None else ""
        doubts = summary.failure or " ".join(doubt.name for doubt in summary.doubts)
        shown = [_interval(summary.p50_ms, summary.p50_ci_ms), nodes, snr]
        shown += [_interval(summary.energy_mj, summary.energy_ci_mj), doubts]
        lines.append(f"| {summary.cell} | {' | '.join(shown)} |")
    twin = summarize(run)[1]
    lines += ["", f"A/A: {_interval(twin.ratio, twin.ratio_ci)}; ended: {run.end}; journal: {run.path.name}", ""]
    return "\n".join(lines)


def _interval(value: float | None, ci: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g} [{ci[0]:.4g}, {ci[1]:.4g}]" if ci else f"{value:.4g}"


def ranks(home: Path) -> str:
    """Return how the networks' order on this machine's CPU and on its GPU agree, in Markdown."""
    runs = []
    for path in sorted(home.glob("*-gpu-check-*.jsonl")):
        with contextlib.suppress(MobenchError):  # one that was cut off in its first line
            runs.append(store.read(path))
    places = journal_places(runs)
    lines = []
    for precision in PRECISIONS:
        for one, other in order.facing(places, precision):
            try:
                said = order.order(one, other)
            except MobenchError as error:
                lines.append(f"- {precision}: {error}")
                continue
            value = said.correlation
            ends = f" [{value.low:.2f}, {value.high:.2f}]" if math.isfinite(value.low) else ""
            lines.append(
                f"- {precision}, {len(said.networks)} networks, {one.name} against {other.name}: rank correlation"
                f" {value.figure:.2f}{ends}; {len(said.inversions)} of {said.pairs} pairs inverted,"
                f" {len(said.beyond_noise)} beyond noise"
            )
            lines += [f"  - {pair.first} before {pair.second} on the CPU, behind it on the GPU"
                      for pair in said.beyond_noise]  # fmt: skip
    return "\n".join(lines or ["- no CPU beside a GPU yet"]) + "\n"


def write_report(asked: Asked, done: Sequence[tuple[Step, str]]) -> Path:
    """Write what came of the steps, with the machine; return the file's path."""
    described = {"gpu": nvidia.Gpu().describe()} if asked.device == "cuda" else {"dry run": "on the CPU alone"}
    machine = json.dumps({**device_state.machine(), **described}, indent=1, default=str)
    order_text = ranks(asked.home) if asked.home.is_dir() else ""
    text = f"# GPU check\n\n```json\n{machine}\n```\n\n## CPU against GPU\n\n{order_text}"
    text += "".join(f"\n## {step.name}\n\n{said}" for step, said in done if not step.name.startswith("export"))
    path = asked.home / "gpu-check.md"
    write_text(path, text)
    return path


def html_report(asked: Asked) -> None:
    """Make the report of all results that are beside this machine's."""
    command = [sys.executable, "-P", "-m", "mobench", "report", "--results", str(asked.results), "-o",
               str(asked.home / "report.html")]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    made = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environ, check=False)
    gpu.say((made.stderr.strip().splitlines() or ["?"])[-1] if made.returncode else made.stdout.strip())


def take(asked: Asked, todo: Sequence[Step], budget_s: float, clock: Callable[[], float] = time.monotonic) -> int:
    """Do what is not done yet, as far as the time reaches; print what came of it, and return the exit status."""
    began = clock()
    failed: list[Step] = []
    left: list[Step] = []
    done: list[tuple[Step, str]] = []
    for number, step in enumerate(todo, 1):
        text = step.text(asked)
        if text is None:
            if left or clock() - began + step.needs_s > budget_s:
                left.append(step)
                continue
            gpu.say(f"{number} of {len(todo)}: {step.name}, about {step.needs_s:.0f} s")
            try:
                text = step.run()
            except MobenchError as error:
                gpu.say(f"error: {step.name}: {error}")
                failed.append(step)
                continue
            step.keep(asked, text)
            print(f"## {step.name}\n\n{text}", flush=True)
        done.append((step, text))
    path = write_report(asked, done)
    print(f"{len(done)} of {len(todo)} steps done; {path}")
    if asked.home.is_dir():
        print(ranks(asked.home), end="")
    if not left:
        html_report(asked)
    else:
        gpu.say(f"the time is spent; to go on, the same command: {', '.join(step.name for step in left[:4])} ...")
    return int(bool(failed))


def _bound(function: Callable[..., str], *arguments: Any) -> Callable[[], str]:
    return lambda: function(*arguments)


def _key(asked: Asked, *names: str) -> str:
    """Return what stands for the networks and the files that they are exported to."""
    return hashlib.sha256(json.dumps([gpu.WEIGHTS, asked.device, asked.per_cell_s, *names]).encode()).hexdigest()[:12]


def _printed(print_it: Callable[[], Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_it()
    return out.getvalue()


def bases() -> tuple[str, ...]:
    """Return the zoo's networks without their variants."""
    return tuple(name for name in catalogue.ordered() if catalogue.base(name) == name)


def main(argv: Sequence[str] | None = None) -> int:
    """Check the GPU of this machine; return 0 where nothing failed, 1 where something did, 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="default: the zoo without variants; --all is with them")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--budget", type=float, default=math.inf, metavar="SECONDS", help="of this call")
    parser.add_argument("--per-cell", type=float, default=12.0, metavar="SECONDS", help="of campaigns: a cell's share")
    parser.add_argument("--part", metavar="PREFIX", default="", help="only steps whose name begins so")
    parser.add_argument("--list", action="store_true", help="the steps, and which are done")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: tries the script")
    parser.add_argument("--results", type=Path, help="default: results; with --device cpu WORK/results")
    parser.add_argument("--work", type=Path, default=Path("gpu-check"))
    arguments = parser.parse_args(argv)
    asked = Asked(
        networks=tuple(dict.fromkeys(arguments.networks)) or (zoo.names() if arguments.all else bases()),
        device=arguments.device,
        results=arguments.results or (arguments.work / "results" if arguments.device == "cpu" else Path("results")),
        work=arguments.work,
        per_cell_s=arguments.per_cell,
    )
    try:
        for name in asked.networks:
            zoo.get(name)
        said = gpu.machine(asked.device)
        if asked.device == "cuda":
            gpu_packages.require("cuda")
        todo = [step for step in steps(asked) if step.name.startswith(arguments.part)]
        if arguments.list:
            for step in todo:
                print(f"{'done' if step.text(asked) is not None else '-':5} {step.name}")
            return 0
        gpu.say(said)
        return take(asked, todo, arguments.budget)
    except MobenchError as error:
        gpu.say(f"error: {error}")
        return 2 if error.kind in ("bad_input", "missing_extra") else 1
    except KeyboardInterrupt:
        gpu.say("interrupted; what was finished is kept, and the same command goes on")
        return 130


if __name__ == "__main__":
    sys.exit(main())
