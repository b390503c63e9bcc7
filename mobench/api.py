"""mobench in Python: ``from mobench import export, run, compare``. What they return are pandas DataFrames.

A notebook shows them as tables. Where something was timed now, ``frame.attrs`` has the journal's path and why the
campaign ended. Nothing here prints; a failed export or cell is a row with its ``error`` or ``failure``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobench import campaign, plan
from mobench.design import Settings
from mobench.errors import BadInputError
from mobench.exporting import export_networks, record
from mobench.gpu_cells import GpuWays
from mobench.hosts.opening import open_host
from mobench.records import Format, Run
from mobench.stats import summarize
from mobench.verdicts import comparison
from mobench.verdicts.comparability import refuse
from mobench.verdicts.comparison import NO_DIFFERENCE
from mobench.verdicts.sides import Measuring, face, open_side

if TYPE_CHECKING:
    import pandas as pd

Names = str | Path | Sequence[str | Path]


def export(
    models: Names, *, precisions: Sequence[str] = (), formats: Sequence[Format] = (), **options: Any
) -> pd.DataFrame:
    """Export models; return a row a file, as `mobench export --json` prints them.

    Args:
        models: a name, or several, of `mobench models`; `timm:NAME`, `torchvision:NAME`, `FILE.py:FACTORY`; or float
            .onnx and .tflite files, which are quantized.
        precisions: of fp32, fp16, int8, int8-dynamic; where empty FP32, and INT8 of files.
        formats: of onnx, tflite; both where empty.
        options: as `mobench.exporting.export_networks` takes them: weights, calibration_dir, width, input_size, out ...

    Raises:
        MobenchError: as export_networks.
    """
    import pandas as pd

    outcomes = export_networks(_texts(models), precisions=precisions, formats=formats, **options)
    return pd.DataFrame([record(outcome) for outcome in outcomes])


def run(
    files: Names = (),
    *,
    devices: Sequence[str] = ("desktop-cpu",),
    serial: str = "",
    check: bool = False,
    runtimes: Sequence[str] = (),
    providers: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    batches: Sequence[int] = (1,),
    gpu: GpuWays | None = None,
    budget_s: float = 60.0,
    precise: float = 0.01,
    sustain_s: float = 0.0,
    baseline: str | None = None,
    shape: Sequence[int] = (),
    seed: int = 0,
    results: str | Path = "results",
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> pd.DataFrame:
    """Time models against one another, here or on a phone; return a row a cell with the fields of `mobench run --json`.

    Args:
        files: model files, or names of networks exported under artifacts/; all of those where empty.
        devices: of desktop-cpu and desktop-gpu, or of android-cpu and android-gpu, which take turns.
        serial: which phone; the only one attached where empty.
        check: compare every timed session's outputs with this machine's CPU.
        runtimes: of ort, litert; those that read the files where empty.
        providers: execution providers and delegates; each runtime's own choice where empty.
        precisions: only files of these; all where empty.
        threads: every file at every count.
        batches: images an inference, every file at every one.
        gpu: how to run on a desktop's GPU; inputs and outputs in its memory, no CUDA graph, no TF32 where None.
        budget_s: seconds to measure at most.
        precise: half-width of the ratios' intervals, as a share, at which it stops early; twice that for p50.
        sustain_s: a sustained load of this length instead.
        baseline: the cell that ratios are to; the first where None.
        shape: first input's shape for models that leave it open.
        seed: of the random order.
        results: folder for the journal.
        progress: told the share of the budget that is spent, and what goes on.

    Raises:
        BadInputError: a file is no usable model, or there is none.
    """
    with open_host(devices, serials=[serial] if serial else [], shape=tuple(shape), check=check) as host:
        targets = campaign.make_targets(
            on=devices,
            runtimes=runtimes,
            providers=providers,
            threads=threads,
            batches=batches,
            gpu=gpu,
            choose_cores=host.choose_cores,
        )
        usable, refused = campaign.find_artifacts(_texts(files), targets, precisions)
        if refused or not usable:
            raise BadInputError(refused[0] if refused else "no usable model among those named", "", "")
        settings = Settings(
            budget_s=budget_s, ratio_half_width=precise, p50_half_width=2 * precise, seed=seed, sustain_s=sustain_s
        )
        measured = campaign.run_cells(
            plan.make_cells(usable, targets),
            host=host,
            baseline=baseline,
            settings=settings,
            results=Path(results),
            shape=tuple(shape),
            progress=progress,
        )
        return frame(measured)


def compare(
    a: str | Path,
    b: str | Path,
    *,
    same: float = NO_DIFFERENCE,
    runtimes: Sequence[str] = (),
    threads: int = 1,
    budget_s: float = 30.0,
    shape: Sequence[int] = (),
    seed: int = 0,
    results: str | Path = "results",
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> pd.DataFrame:
    """Compare the latency of B with that of A; return a row a pair: ratio, interval, basis, verdict.

    Args:
        a: a model file or an exported network, timed now; or a campaign.
        b: another of the same kind.
        same: a change up to this share counts as no difference.
        runtimes: of ort, litert; those that read the files where empty.
        threads: for model files, as the next ones.
        budget_s: seconds to measure at most.
        shape: first input's shape for models that leave it open.
        seed: of the random order.
        results: folder of the campaigns.
        progress: told the share of the budget that is spent, and what goes on.

    Raises:
        BadInputError: one of the two is not there, or the two are not comparable.
    """
    import pandas as pd

    how = Measuring(
        half_width=same / 2,
        budget_s=budget_s,
        threads=threads,
        runtimes=tuple(runtimes),
        shape=tuple(shape),
        seed=seed,
        results=Path(results),
        progress=progress,
    )
    versus = face(open_side([str(a)], Path(results)), open_side([str(b)], Path(results)), how)
    if versus.interrupted and versus.measured is not None:
        raise KeyboardInterrupt(str(versus.measured.path))
    rows: list[dict[str, Any]] = []
    for match in versus.matches:
        found = comparison.compare(match, no_difference=same)
        if found is None:
            unknown = {field.name: None for field in dataclasses.fields(comparison.Comparison)}
            rows.append(unknown | {"a": match.a, "b": match.b, "verdict": "not timed"})
            continue
        refuse(found.differences, f"{match.a} and {match.b}")
        rows.append(dataclasses.asdict(found))
    result = pd.DataFrame(rows)
    if versus.measured is not None:
        result.attrs |= {"journal": str(versus.measured.path), "end": versus.measured.end}
    return result


def frame(measured: Run) -> pd.DataFrame:
    """Return what a campaign says of its cells, a row each."""
    import pandas as pd

    summaries = summarize(measured)
    rows = [dataclasses.asdict(s) | {"doubts": [doubt.name for doubt in s.doubts]} for s in summaries]
    result = pd.DataFrame(rows)
    result.attrs |= {"journal": str(measured.path), "end": measured.end}
    return result


def _texts(names: Names) -> list[str]:
    return [str(names)] if isinstance(names, (str, Path)) else [str(name) for name in names]
