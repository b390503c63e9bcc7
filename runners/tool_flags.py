"""What the user's own benchmark tools are asked, and how their logs show that they did it. Pure: text in, verdict out.

A tool that does not know a flag says so in one line and runs on; a delegate that cannot run leaves the work to the CPU.
Flags, labels and lines are those of the tools' sources from 2019 to 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mobench.errors import BadInputError
from mobench.records import Imported, Target
from mobench.tool_outputs import RefusedError

Kind = Literal["tflite", "litert", "ort"]

# The providers each tool can be asked for; on a device, the first of its processor's is its own choice.
PROVIDERS: Mapping[Kind, tuple[str, ...]] = {
    "tflite": ("xnnpack", "builtin", "gpu-fp16", "gpu-fp32"),
    "litert": ("xnnpack", "gpu-fp16", "gpu-fp32"),
    "ort": ("cpu", "xnnpack"),
}
WARMUP_S = 0.5  # the tool's own default: every block is a fresh process, with cold caches and clocks still low
BLOCK_S = 0.25  # timed at least this long: a process was started for it
_PRECISION_FLAGS = ("gpu-precision", "gpu_precision")  # LiteRT's, by version; older ones cannot be told

# Under which labels the versions of `benchmark_model` repeat what they were asked.
_ECHOES = {
    "graph": ("Graph",),
    "num_threads": ("#threads used for CPU inference", "Num threads"),
    "num_runs": ("Min num runs", "Num runs"),
    "min_secs": ("Min runs duration (seconds)",),
    "max_secs": ("Max runs duration (seconds)",),
    "warmup_runs": ("Min warmup runs", "Warmup runs"),
    "warmup_min_secs": ("Min warmup runs duration (seconds)",),
    "report_peak_memory_footprint": ("Report the peak memory footprint",),
    "use_xnnpack": ("Use xnnpack",),
    "use_gpu": ("Use gpu",),
    "gpu_precision_loss_allowed": ("Allow lower precision in gpu",),
    "require_full_delegation": ("Require full delegation",),
}
# LiteRT's program repeats only those that it shares with the classic one.
_SHARED = {"num_threads", "num_runs", "min_secs", "max_secs", "warmup_runs", "warmup_min_secs"}

_N = r"[-+]?(?:[\d.]+(?:[eE][-+]?\d+)?|nan|inf)"
_PREFIX = re.compile(r"^(?:INFO|WARN|WARNING|ERROR|VERBOSE|DEBUG): (?:\[benchmark_litert_model\.\w+:\d+\] ?)?")
_BEGIN = re.compile(r"Running benchmark for at least|BENCHMARK RESULTS")
# Every line that may come from the first phase on: what else is there may be a figure in a form that is not known.
_RESULT_LINES = (
    rf"Running benchmark for at least \d+ iterations?(?: and at least {_N} seconds)?"
    rf"(?: but terminate if exceeding {_N} seconds)?\.?",
    rf"count=\d+(?: (?:first|curr|min|max|avg|std|median|p\d+)={_N}(?:\(all same\))?)*",
    rf"Inference timings in us: Init: {_N}, First inference: {_N}, Warmup \(avg\): {_N}, Inference \(avg\): {_N}",
    rf"Average inference timings in us: Warmup: {_N}, Init: {_N}, (?:no stats|Inference): {_N}",
    r"Note: as the benchmark tool itself affects memory footprint, .*",
    rf"(?:Peak m|M)emory footprint (?:delta from the start of the tool )?\(MB\): init={_N} overall={_N}",
    rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_N}",
    r"Memory status at the end of exec?ution:",
    rf"[-+] (?:VmRSS|RssAnno?n|RssFile \+ RssShmem) *: {_N} MB",
    r"=+(?: BENCHMARK RESULTS =+)?",
    r"Signature name: .*",
    rf"Model initialization: +{_N} ms",
    rf"(?:Warmup|Inference) \((?:first|avg|min|max|std|median|p5|p95)\): +{_N}(?: ms)?(?: \(\d+ runs\))?",
    rf"Throughput: +{_N} MB/s|No throughput data available \(throughput <= 0\)\.",
    r"Memory Usage:",
    rf"(?:Init footprint|Overall footprint|Peak memory): +{_N} MB|Peak memory usage not available\. .*",
    # of the runtime below, not of the tool
    r"(?:INFO|WARNING|VERBOSE|DEBUG): \[(?!benchmark_litert_model)[\w./-]+:\d+\].*",
    r"(?:INFO|VERBOSE): (?:Created|Initialized|Replacing|Loaded|Applying|Successfully applied) .*",
)
_PERF_TEST_LINES = (
    r"(?:Setting|Disabling|Overriding) .*|using \w+ExecutionProvider",
    rf"Session creation time cost: ?{_N} s|First inference time cost: ?\d+ ms",
    rf"Total inference (?:run time|time cost): ?{_N} s|Total inference requests: ?\d+",
    rf"Average inference time cost(?: total)?: ?{_N} ms|Number of inferences per second: ?{_N}",
    rf"Avg CPU usage: ?{_N}(?: %)?|Peak working set size: ?\d+(?: bytes)?|Runs:\d+",
    rf"(?:Min|Max|P\d+) Latency(?::| is) ?{_N} ?s(?:ec)?",
    r"(?:\x1b\[[\d;]*m)*\d{4}-\d\d-\d\d [\d:.]+ \[[VIWEF]:.*",  # ONNX Runtime's own log
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How much one run of a tool is to time: ``warmup`` untimed inferences at least, then ``timed`` at least."""

    warmup: int
    timed: int
    min_s: float = BLOCK_S
    max_s: float = 60.0


def known_flags(help_text: str) -> frozenset[str]:
    """Return the flags that `benchmark_model --help` lists."""
    return frozenset(re.findall(r"^\s*--([\w-]+)=\S*\s+(?:bool|int32|int64|float|string)\s", help_text, re.MULTILINE))


def kind_of(flags: frozenset[str]) -> Kind | None:
    """Tell LiteRT's program from the classic one of the same name by the flags they list; None: it is neither."""
    if not {"graph", "num_runs", "num_threads"} <= flags:
        return None
    return "litert" if {"use_cpu", "use_npu"} <= flags else "tflite"


def check_provider(kind: Kind, target: Target) -> str:
    """Return the provider a target asks for by its name; where it asks for none, the tool's first for its device.

    Raises:
        BadInputError: the tool cannot be asked for it, or the device has another processor than the provider.
    """
    on_gpu = target.device.endswith("-gpu")
    here = [name for name in PROVIDERS[kind] if name.startswith("gpu-") == on_gpu]
    if not here:
        raise BadInputError(
            f"--device {target.device}", f"{_TOOL_NAMES[kind]} has no provider there", "use another tool"
        )
    provider = target.provider or here[0]
    if provider not in here:
        why = f"{_TOOL_NAMES[kind]} has no provider {provider} for {target.device}"
        raise BadInputError(f"--provider {provider}", why, f"one of {', '.join(here)}")
    return provider


_TOOL_NAMES: Mapping[Kind, str] = {
    "tflite": "TFLite's benchmark_model",
    "litert": "LiteRT's benchmark_model",
    "ort": "onnxruntime_perf_test",
}


def benchmark_flags(kind: Kind, known: frozenset[str], model: str, target: Target, block: Block) -> dict[str, str]:
    """Return the flags of one run of `benchmark_model`, by name.

    Raises:
        BadInputError: this version of the tool has no such provider, or cannot be told the GPU's precision.
    """
    provider = check_provider(kind, target)
    flags = {
        "graph": model,
        "num_threads": str(target.threads),
        "num_runs": str(block.timed),
        "min_secs": f"{block.min_s:g}",
        "max_secs": f"{block.max_s:g}",
        "warmup_runs": str(max(1, block.warmup)),
        "warmup_min_secs": f"{WARMUP_S:g}",
    }
    precision = provider.removeprefix("gpu-") if provider.startswith("gpu-") else ""
    if kind == "tflite":
        if precision:
            flags |= {"use_gpu": "true", "gpu_precision_loss_allowed": "true" if precision == "fp16" else "false"}
        else:
            flags["use_xnnpack"] = "true" if provider == "xnnpack" else "false"
    elif precision:
        flag = next((name for name in _PRECISION_FLAGS if name in known), None)
        if flag is None:
            why = "this version of LiteRT's benchmark_model cannot be told the GPU's precision"
            raise BadInputError(f"--provider {provider}", why, "use a newer one")
        # With the CPU allowed beside the GPU it would run the whole model there, and say nothing.
        flags |= {"use_gpu": "true", "use_cpu": "false", flag: precision}
    else:
        flags["use_cpu"] = "true"
    if precision and ("require_full_delegation" in known or kind == "litert"):
        flags["require_full_delegation"] = "true"
    if unknown := sorted(flags.keys() - known):
        why = f"this version of {_TOOL_NAMES[kind]} has no --{unknown[0]}"
        raise BadInputError(f"--provider {provider}", why, "use a newer one, or another provider")
    return flags


def check_echoes(kind: Kind, flags: Mapping[str, str], text: str) -> None:
    """Compare what `benchmark_model` says it was asked with what it was asked.

    Raises:
        RefusedError: it did not know a flag, or repeats another value, or none.
    """
    if unconsumed := re.search(r"Unconsumed cmdline flags: *(.+)", text):
        raise RefusedError(f"it does not know {unconsumed[1].strip()}")
    said: dict[str, list[str]] = {}
    for label, value in re.findall(r"^(?:INFO: )?([^\[\]\n]+?) ?: \[(.*)\]\s*$", text, re.MULTILINE):
        said.setdefault(label, []).append(value)
    for name, asked in flags.items():
        values = [value for label in _ECHOES.get(name, ()) for value in said.get(label, ())]
        if wrong := next((value for value in values if not _same(asked, value)), None):
            raise RefusedError(f"--{name}={asked} was asked, and it says {wrong}")
        if not values and name in _ECHOES and (kind == "tflite" or name in _SHARED):
            raise RefusedError(f"--{name}={asked} was asked, and it does not say that it took it")


def _same(asked: str, said: str) -> bool:
    if asked in ("true", "false"):
        return said in (asked, "1" if asked == "true" else "0")
    try:
        return float(asked) == float(said)
    except ValueError:
        return asked == said


def check_lines(kind: Kind, *streams: str) -> None:
    """Look for lines that are not known where figures are: in all of `onnxruntime_perf_test`'s, else behind the start.

    Raises:
        RefusedError: there is one.
    """
    known = re.compile("|".join(f"(?:{pattern})" for pattern in (_PERF_TEST_LINES if kind == "ort" else _RESULT_LINES)))
    for stream in streams:
        begin = _BEGIN.search(stream)
        if begin is None and kind != "ort":
            continue
        start = stream.rfind("\n", 0, begin.start()) + 1 if begin and kind != "ort" else 0
        for line in stream[start:].splitlines():
            text = line.strip()
            bare = _PREFIX.sub("", text).strip()
            if bare and not known.fullmatch(bare) and not known.fullmatch(text):
                raise RefusedError(f"it printed a line that is not known: {text[:120]}")


def check_phases(text: str) -> None:
    """Look for the warm-up and the timed phase in a log of `benchmark_model`, each begun and ended.

    Raises:
        RefusedError: a line is missing, so that one phase's figures could be taken for the other's.
    """
    begun = len(re.findall("Running benchmark for at least", text))
    ended = len(re.findall(r"^(?:INFO: )?count=\d", text, re.MULTILINE))
    if (begun, ended) != (2, 2):
        raise RefusedError(f"{begun} phases began and {ended} ended in it, instead of a warm-up and a timed one")


def check_delegate(kind: Kind, provider: str, said: Imported, text: str) -> None:
    """Look in a log of `benchmark_model` for the delegate that was asked for.

    XNNPACK may leave operators to the built-in kernels, as everywhere in mobench; a GPU has to run the whole model.

    Raises:
        RefusedError: another one ran, or only a part of the model did, or the log does not say.
    """
    for note in said.notes:
        if "runs nothing" in note:
            raise RefusedError(note)
    if "GPU acceleration is unsupported on this platform" in text:
        raise RefusedError("it has no GPU here, and ran on the CPU")
    wanted = "gpu" if provider.startswith("gpu-") else provider
    if wanted == "builtin":
        if said.provider:
            raise RefusedError(f"the built-in kernels were asked for, and the {said.provider} delegate ran")
    elif wanted == "xnnpack":
        if said.provider != "xnnpack" and (said.provider or kind == "tflite"):
            raise RefusedError(f"XNNPACK was asked for, and {said.provider or 'no delegate'} ran")
    else:
        taken, total = said.nodes_delegated, said.nodes_total
        if said.provider == "xnnpack":
            raise RefusedError("the GPU was asked for, and the CPU ran (XNNPACK)")
        if taken is not None and total is not None and taken < total:
            raise RefusedError(f"the GPU took {taken} of {total} nodes, and the CPU ran the others")
        if re.search("GPU delegate, and the model graph will be partially executed", text):
            raise RefusedError("the GPU took only a part of the model, and the CPU ran the rest")
        # LiteRT's program does not load a model that does not fit whole on the GPU, where it is asked for that alone.
        whole = re.search("Explicitly applied GPU delegate, and the model graph will be completely executed", text)
        if kind == "tflite" and not whole:
            raise RefusedError("its log does not say that the GPU ran the model")


def describe(provider: str) -> str:
    """Return a provider of `benchmark_model` in words."""
    words = {"xnnpack": "XNNPACK", "builtin": "built-in kernels"}
    return words.get(provider) or f"GPU {provider.removeprefix('gpu-')}"


def interface(text: str) -> str:
    """Return the interface by which `benchmark_model` reached the GPU, as its log says it; empty where it does not."""
    found = re.search(r"Initialized (\w+)-based API|delegate \(LITERT_(\w+)\)", text)
    return next(filter(None, found.groups())) if found else ""


def perf_test_flags(model: str, results: str, target: Target, count: int) -> list[str]:
    """Return the arguments of one run of `onnxruntime_perf_test`: its own warm-up run, then ``count`` timed ones."""
    provider = check_provider("ort", target)
    flags = ["-e", provider, "-m", "times", "-r", str(count), "-x", str(target.threads), "-I"]
    if provider != "cpu":  # what it does not take would otherwise run on the CPU provider, unsaid
        flags += ["-C", "session.disable_cpu_ep_fallback|1"]
    return [*flags, model, results]


def check_threads(target: Target, text: str) -> None:
    """Compare the threads that `onnxruntime_perf_test` says it uses with what it was asked.

    Raises:
        RefusedError: it says another number, or none.
    """
    said: Sequence[str] = re.findall(r"Setting intra_op_num_threads to (\d+)", text)
    if said != [str(target.threads)]:
        raise RefusedError(f"-x {target.threads} was asked, and it says {', '.join(said) or 'nothing'}")
