"""What other tools print, and its figures: text in, records out. A figure that the text does not have is absent.

Read are the logs of TFLite's `benchmark_model` (every style since 2018) and of LiteRT's program of that name, the
output and the result files of `onnxruntime_perf_test`, and the output and JSON of `litert-benchmark`. What is not
whole, or failed, is refused with the reason it gives itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mobench.records import Imported

MIB = 1 << 20
_NUMBER = r"(?:[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"  # C++ prints 1240270 as 1.24027e+06 and 0 / 0 as nan
_AGREE = 0.002  # two prints of one figure: six digits at most, so they are equal to a share far below this

Figures = dict[str, float]


class RefusedError(Exception):
    """Why a text cannot be used, in a few words; who reads it says whose text it was."""


def _figure(name: str) -> str:
    return f"(?P<{name}>{_NUMBER})"


def _record(tool: str, form: str, figures: Mapping[str, float], ms: float, **facts: Any) -> Imported:
    """Make the record from figures in units of ``ms`` milliseconds; one that is absent, nan or inf is left out."""
    known = {key: round(value * ms, 9) for key, value in figures.items() if math.isfinite(value)}
    mean = known.get("mean", 0.0)
    if mean <= 0:
        raise RefusedError("its mean is 0: shorter than it can print")
    if not known.get("min", mean) * (1 - _AGREE) <= mean <= known.get("max", mean) * (1 + _AGREE):
        raise RefusedError("its mean is not between its minimum and its maximum: two runs' lines are mixed in it")
    return Imported(
        tool=tool,
        form=form,
        init_ms=known.get("init"),
        first_ms=known.get("first"),
        warmup_ms=known.get("warmup"),
        mean_ms=mean,
        min_ms=known.get("min"),
        max_ms=known.get("max"),
        std_ms=known.get("std"),
        percentiles_ms={key: value for key, value in known.items() if re.fullmatch(r"p[\d.]+", key)},
        **facts,
    )


def _agree(one: float | None, other: float, slack: float = 0.0) -> None:
    if one is not None and abs(one - other) > slack + _AGREE * abs(other):
        raise RefusedError(f"it says {one:g} and {other:g} of one mean: two runs' lines are mixed in it")


# --- benchmark_model ------------------------------------------------------------------------------------------------

_TIMINGS = re.compile(
    "|".join((
        rf"\bInference timings in us: Init: {_figure('init')}, First inference: {_figure('first')},"
        rf" Warmup \(avg\): {_figure('warmup')}, Inference \(avg\): {_figure('mean')}",
        # until 2019
        rf"Average inference timings in us: Warmup: {_figure('warmup2')}, Init: {_figure('init2')},"
        rf" (?:no stats|Inference): {_figure('mean2')}",
        # the first of all
        rf"Average inference timings in us: {_figure('mean3')} ?, Warmup: {_figure('warmup3')}",
    ))
)  # fmt: skip
# An op profile has a `Timings (microseconds): count=...` of its own, before or after the result by version.
_COUNT = re.compile(r"(?<!\(microseconds\): )(?<!\(bytes\): )\bcount=(\d+)([^\n]*)")
_STAT_NAMES = {"avg": "mean", "median": "p50"}
_REASON = re.compile(r"fail|error|abort|fatal|disallowed|killed|denied|segmentation|no such file", re.IGNORECASE)
_REPLACED = re.compile(
    r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\) node, yielding \d+ partitions"
    r"(?! for subgraph [1-9])"
)
_RESULT = re.compile(
    r"(Model initialization|Warmup \(first\)|(?:Warmup|Inference) \((?:avg|min|max|median|std|p5|p95)\)): +"
    rf"({_NUMBER})(?: ([^\s(]+))?(?: \((\d+) runs\))?(?=\s)"
)
_NOT_ALL = "not fully accelerated"
_RESULT_NAMES = {
    "Model initialization": "init",
    "Warmup (first)": "first",
    "Warmup (avg)": "warmup",
    "Inference (avg)": "mean",
    "Inference (median)": "p50",
}


def _runs(text: str) -> list[str]:
    """Cut a log into runs. Each begins with `STARTING!`; what stands before the first belongs to it."""
    starts = [match.start() for match in re.finditer(r"^.*\bSTARTING!", text, re.MULTILINE)][1:]
    return [text[a:b] for a, b in pairwise((0, *starts, len(text)))]


def benchmark_model(text: str) -> list[Imported]:
    """Read a log of either program called `benchmark_model`: a result for each run in it, told apart by its heading.

    Raises:
        RefusedError: a run in it failed, was cut off, timed nothing, or contradicts itself. So do the others.
    """
    return [_litert(run) if "BENCHMARK RESULTS" in run else _classic(run) for run in _runs(text)]


def _classic(text: str) -> Imported:
    end = _only(list(_TIMINGS.finditer(text)), text)
    figures = {name.rstrip("23"): float(value) for name, value in end.groupdict().items() if value is not None}
    phases = _phases(text[: end.start()])
    if figures["warmup"] > 0:  # else 0 or nan: no warm-up, and then no first inference apart from the timed ones
        figures = {"first": phases[-2].get("first", math.nan) if len(phases) > 1 else math.nan} | figures
    else:
        figures = {key: value for key, value in figures.items() if key not in ("warmup", "first")}
    timed = phases[-1] if phases else {}
    if timed.get("count") == 0 or math.isnan(figures["mean"]):
        raise RefusedError("no inference was timed (a dry run?)")
    if not timed and end.end() == len(text):
        raise RefusedError("its last line may be cut off")
    _agree(timed.get("mean"), figures["mean"])
    figures |= {key: timed[key] for key in ("mean", "min", "max", "std", "p5", "p50", "p95") if key in timed}
    return _record(
        "benchmark_model",
        "tflite" if end["mean"] else "tflite before 2020",
        figures,
        ms=0.001,
        count=int(timed["count"]) if timed else None,
        resolution_ms=0.001,
        memory_mb=_memory(text),
        **_circumstances(text),
    )


def reason(text: str) -> str:
    """Return the last line of a log that says why a run failed, empty where none does."""
    reasons = [line.strip() for line in text.splitlines() if _REASON.search(line) and "Benchmarking" not in line]
    return reasons[-1][:200] if reasons else ""


def _only(ends: Sequence[re.Match[str]], text: str) -> re.Match[str]:
    """Return the only result of a run; a failing inference does not keep the tool from printing one."""
    if len(ends) > 1:
        raise RefusedError(f"{len(ends)} results and one start: give one file a run")
    if not ends:
        said = reason(text)
        raise RefusedError(f"the run did not reach its result{f': {said}' if said else ''}")
    failed = re.search(r"benchmark(?:ing)? failed|\bRun failed", text, re.IGNORECASE)
    if failed:
        raise RefusedError(f"an inference failed, and its time is in the figures: {failed[0]}")
    return ends[0]


def _phases(text: str) -> list[Figures]:
    """Return the statistics of each phase of a run: warm-up, then the timed one.

    One sample, or equal ones, come as `curr` alone, which then is the mean and every other figure too.
    """
    phases: list[Figures] = []
    for count, rest in _COUNT.findall(text):
        figures: Figures = {key: float(value) for key, value in re.findall(rf"(\w+)=({_NUMBER})", rest)}
        if "curr" not in figures and int(count):
            continue  # somebody else's line in a device's log
        if "avg" not in figures and "curr" in figures:
            figures = dict.fromkeys(("first", "min", "max", "avg"), figures["curr"]) | figures
        renamed = {_STAT_NAMES[key]: figures.pop(key) for key in _STAT_NAMES if key in figures}
        phases.append(figures | renamed | {"count": float(count)})
    return phases


def _memory(text: str) -> Figures:
    """Return MiB: `init` and `overall` grow from the tool's start, `peak` is the process's resident set at its most."""
    grown = re.search(rf"emory footprint[^\n]*\(MB\): init={_figure('init')} overall={_figure('overall')}\s", text)
    peak = re.search(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_figure('peak')}\s", text)
    return {key: float(value) for match in (grown, peak) if match for key, value in match.groupdict().items()}


def _circumstances(text: str) -> dict[str, Any]:
    """Return what a log echoes of the model, the threads and the delegates, and what went otherwise than asked."""
    graph = re.search(r"Graph: \[(.+?)\]|(?:Loaded model|Loading model from:) (\S.*)|\bModel: +(\S.*)", text)
    threads = re.search(r"(?:#threads used for CPU inference|Num threads): +\[?(\d+)\b", text)
    taken = re.findall(r"Explicitly applied (\w+) delegate, and the model graph will be", text)
    refused = re.findall(r"(\w+) delegate is explicitly applied, the model graph will not be executed", text)
    # A delegate may take nodes and then not be used after all.
    unused = [name.lower() for name in refused]
    replaced = [
        (int(a), int(b), re.sub("^TfLite|Delegate(V2)?$", "", n).lower()) for a, b, n in _REPLACED.findall(text)
    ]
    named = [name.lower() for name in taken] or [name for _, _, name in replaced if name not in unused]
    provider = named[0] if named else "xnnpack" if "XNNPACK delegate for CPU" in text else ""
    nodes = next(((a, b) for a, b, name in replaced if provider and name == provider), (None, None))
    notes = [f"the {name} delegate was asked for and runs nothing" for name in refused]
    notes += [f"flags the tool did not know: {flags}" for flags in re.findall(r"Unconsumed cmdline flags: *(.+)", text)]
    return {
        "model": next((part.strip() for part in graph.groups() if part), "") if graph else "",
        "threads": int(threads[1]) if threads else None,
        "provider": provider,
        "nodes_delegated": nodes[0],
        "nodes_total": nodes[1],
        "notes": tuple(notes),
    }


def _litert(text: str) -> Imported:
    """Read LiteRT's own program, and `litert-benchmark`, whose lines are the same and some more."""
    if "No inference runs were performed" in text:
        raise RefusedError("no inference was timed")
    heading = _only(list(re.finditer("(= )?BENCHMARK RESULTS", text)), text)
    before, after = text[: heading.start()], text[heading.end() :]
    figures: Figures = {}
    runs: dict[str, int] = {}
    for label, value, unit, count in _RESULT.findall(after):
        key = _RESULT_NAMES.get(label) or re.sub(r".*\((.*)\)", r"\1", label)
        if unit != "ms" and not (key == "std" and not unit):  # std comes without a unit from the C++ program; it is ms
            raise RefusedError(f"its unit of {label} is {unit or 'not given'}, not ms")
        figures[key] = float(value)
        runs |= {key: int(count)} if count else {}
    if "mean" not in figures:
        raise RefusedError("the run did not reach its result")
    if runs.get("warmup") == 0:
        figures = {key: value for key, value in figures.items() if key not in ("warmup", "first")}
    phases, fine = _phases(before), False
    if phases:  # two decimals of a millisecond are coarse: the line above them has microseconds
        _agree(phases[-1].get("mean", math.nan) / 1000, figures["mean"], slack=0.01)
        if phases[-1]["count"] != runs.get("mean"):
            raise RefusedError("its two counts of the timed inferences differ: two runs' lines are mixed in it")
        finer = {key: value / 1000 for key, value in phases[-1].items() if key in figures or re.match(r"p\d", key)}
        fine, figures = True, figures | {key: value for key, value in finer.items() if key not in ("first", "init")}
    said = re.findall(rf"(Init footprint|Overall footprint|Peak memory): +({_NUMBER}) MB", after)
    facts = _circumstances(text)
    if re.search("Fully accelerated: +False", after):
        facts["notes"] += (_NOT_ALL,)
    names = re.search(r"Accelerators: +([A-Z |]+)", before)
    return _record(
        "benchmark_model" if heading[1] else "litert-benchmark",
        "litert" if heading[1] else "output",
        figures,
        ms=1,
        count=runs.get("mean"),
        resolution_ms=0.001 if fine else 0.01,
        memory_mb={label.split()[0].lower(): float(value) for label, value in said},
        **facts | ({"provider": "+".join(names[1].lower().split(" | ")).strip()} if names else {}),
    )


# --- litert-benchmark's JSON ----------------------------------------------------------------------------------------


def litert_json(text: str) -> list[Imported]:
    """Read the JSON of `litert-benchmark`."""
    try:
        said = json.loads(text)
        latency = {key: value for key, value in said["latency"].items() if isinstance(value, int | float)}
        count, mean, model = int(latency["num_runs"]), latency["avg_ms"], str(said["model"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"not litert-benchmark's JSON ({error!r})") from error
    if count < 1:
        raise RefusedError("no inference was timed")
    names = {"warmup_first_ms": "first", "warmup_avg_ms": "warmup", "median_ms": "p50"}
    figures = {names.get(key, key.removesuffix("_ms")): float(v) for key, v in latency.items() if key.endswith("_ms")}
    if not latency.get("num_warmup_runs"):  # it writes 0 for what did not happen
        figures = {key: value for key, value in figures.items() if key not in ("first", "warmup")}
    threads = said.get("num_threads")
    return [
        _record(
            "litert-benchmark",
            "json",
            {**figures, "mean": float(mean)},
            ms=1,
            count=count,
            resolution_ms=0.01,
            model=model,
            threads=threads if isinstance(threads, int) else None,
            provider="+".join(said.get("accelerators", ())).lower(),
            notes=() if said.get("fully_accelerated", True) else (_NOT_ALL,),
        )
    ]


# --- onnxruntime_perf_test ------------------------------------------------------------------------------------------

# Since 2025 a row also has the time of the submission alone, before that of the whole inference.
ROW = re.compile(
    rf"^(?P<model>.*?)(?:,{_figure('submitted_s')})?,{_figure('time_s')},(?P<peak>\d+),-?\d+,(?P<run>\d+)$"
)
_LATENCY = re.compile(rf"^(?:.*[ \t])?(Min|Max|P\d+) Latency(?::| is) *({_NUMBER}) *s(?:ec)?\b", re.MULTILINE)
_P999 = {"p999": "p99.9"}


def perf_test(text: str) -> list[Imported]:
    """Read what `onnxruntime_perf_test` prints, seconds and milliseconds mixed."""
    ends = list(re.finditer(rf"Average (?:inference )?time cost(?: total)?: *{_figure('mean')} ms", text))
    mean = float(_only(ends, text)["mean"])
    count = re.search(r"Total (?:inference requests|iterations): *(\d+)", text)
    if not count or count[1] == "0":
        raise RefusedError("no inference was timed")
    init = re.search(rf"Session creation time cost: *({_NUMBER}) s", text)
    first = re.search(rf"First inference time cost: *({_NUMBER}) ms", text)
    peak = re.search(r"Peak working set size: *(\d+)(?: bytes|\n)", text)
    threads = re.search(r"Setting intra_op_num_threads to (\d+)", text)
    provider = re.search(r"using (\w+)ExecutionProvider", text)
    spent = re.search(
        rf"Total inference time cost: *({_NUMBER}) s[\s\S]*Total inference run time: *({_NUMBER}) s", text
    )
    figures = {key.lower(): float(value) * 1000 for key, value in _LATENCY.findall(text)}
    figures = {_P999.get(key, key): value for key, value in figures.items()} | {"mean": mean}
    figures |= {"init": float(init[1]) * 1000} if init else {}
    figures |= {"first": float(first[1])} if first else {}
    # Requests that overlap (-c) wait for one another: their sum is more than the time that passed.
    parallel = spent is not None and float(spent[1]) > 1.05 * float(spent[2])
    return [
        _record(
            "onnxruntime_perf_test",
            "output",
            figures,
            ms=1,
            count=int(count[1]),
            threads=int(threads[1]) if threads else None,
            provider=provider[1].lower() if provider else "",
            memory_mb={"peak": int(peak[1]) / MIB} if peak else {},
            notes=("its requests ran in parallel, each is slower for it",) if parallel else (),
        )
    ]


def perf_test_rows(text: str) -> list[Imported]:
    """Read a result file: a row an inference, `model,seconds,peak working set,CPU %,number`; a run appends its own."""
    runs: list[list[re.Match[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or _LATENCY.match(line):  # -s appends statistics
            continue
        row = ROW.match(line.strip())
        if not row:
            raise RefusedError(f"line {number} is no row of a result file")
        if row["run"] == "0":
            runs.append([])
        if not runs or int(row["run"]) != len(runs[-1]):
            raise RefusedError(f"line {number} is inference {row['run']}, out of order: rows are missing")
        runs[-1].append(row)
    return [_of_rows(rows) for rows in runs]


def _of_rows(rows: Sequence[re.Match[str]]) -> Imported:
    seconds = [float(row["time_s"]) for row in rows]
    if min(seconds) > 1000:  # a build with MLPerf's loadgen wrote nanoseconds
        raise RefusedError("its times are over 1000 s an inference: they are not seconds")
    if not min(seconds) > 0:
        raise RefusedError("a time in it is not positive")
    return _record(
        "onnxruntime_perf_test",
        "result file",
        {"mean": math.fsum(seconds) / len(seconds), "min": min(seconds), "max": max(seconds)},
        ms=1000,
        count=len(rows),
        model=_model(rows[0]),
        samples_ns=tuple(round(s * 1e9) for s in seconds),
        memory_mb={"peak": int(rows[-1]["peak"]) / MIB},
    )


def _model(row: re.Match[str]) -> str:
    """Return the model's name, which may itself end in a comma and a number: a submission takes no longer than all."""
    submitted = row["submitted_s"]
    return (
        row["model"] if submitted is None or float(submitted) <= float(row["time_s"]) else f"{row['model']},{submitted}"
    )
