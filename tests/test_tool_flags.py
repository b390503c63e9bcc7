"""Logs of the user's own tools, held against what was asked, over the collection in golden/foreign."""

import re
from pathlib import Path
from typing import Any

import pytest
from fake_tools import CLASSIC

from mobench.records import Target
from mobench.tool_outputs import RefusedError, benchmark_model
from runners import tool_flags
from runners.tool_flags import Block

GOLDEN = Path(__file__).parent / "golden" / "foreign"
# Recorded in the real formats; those with an operator profile are not what a driven run prints.
PRINTED = sorted(
    path.name for path in GOLDEN.glob("*.txt") if re.match("tflite|litert_(?!benchmark)", path.name)
    if "profiled" not in path.name and "logcat" not in path.name
)  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_every_recorded_line_from_the_first_phase_on_is_known(name: str) -> None:
    kind: Any = "litert" if name.startswith("litert") else "tflite"
    text = (GOLDEN / name).read_text()
    if "killed" in name:
        with pytest.raises(
            RefusedError, match="not known: INFO: Running benchmark for at least 50 iterations and at le"
        ):
            tool_flags.check_lines(kind, text)
    else:
        tool_flags.check_lines(kind, text)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("perf_test*.txt")))
def test_every_recorded_line_of_perf_test_is_known(name: str) -> None:
    if "failed" in name:
        with pytest.raises(RefusedError, match="XNNPACK is not supported in this build"):
            tool_flags.check_lines("ort", (GOLDEN / name).read_text())
    else:
        tool_flags.check_lines("ort", (GOLDEN / name).read_text())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tflite_gpu_whole.txt", None),
        ("tflite_2021.txt", None),
        ("litert_gpu.txt", None),
        ("litert.txt", None),
        ("tflite_gpu.txt", "29 of 31 nodes"),
        ("tflite_gpu_absent.txt", "it has no GPU here"),
        ("tflite_fell_back.txt", "runs nothing"),
        ("tflite_cpu.txt", "the CPU ran"),
    ],
)
def test_recorded_runs_on_a_gpu_are_told_from_those_that_fell_back(name: str, reason: str | None) -> None:
    text = (GOLDEN / name).read_text()
    kind: Any = "litert" if name.startswith("litert") else "tflite"
    (said,) = benchmark_model(text)
    if reason is None:
        tool_flags.check_delegate(kind, "gpu-fp16", said, text)
        return
    with pytest.raises(RefusedError, match=reason):
        tool_flags.check_delegate(kind, "gpu-fp16", said, text)


@pytest.mark.parametrize(
    "name", ["tflite_gpu_whole.txt", "litert_gpu.txt", "tflite_2021.txt", "tflite_xnnpack_part.txt"]
)
def test_both_phases_are_looked_for(name: str) -> None:
    text = (GOLDEN / name).read_text()
    tool_flags.check_phases(text)
    for lost in (r".*count=.*\n", r".*Running benchmark.*\n"):
        with pytest.raises(RefusedError, match="instead of a warm-up and a timed one"):
            tool_flags.check_phases(re.sub(lost, "", text, count=1))


def test_a_flag_may_be_repeated_under_the_label_of_any_version() -> None:
    flags = {"num_threads": "1", "num_runs": "600", "min_secs": "0", "warmup_runs": "20", "use_gpu": "true"}
    tool_flags.check_echoes("tflite", flags, (GOLDEN / "tflite_2021.txt").read_text())
    with pytest.raises(RefusedError, match="--num_threads=2 was asked, and it says 1"):
        tool_flags.check_echoes("tflite", flags | {"num_threads": "2"}, (GOLDEN / "tflite_2021.txt").read_text())


def test_a_block_s_flags_are_those_of_the_block() -> None:
    block = Block(warmup=0, timed=7, min_s=0.5, max_s=12.5)
    flags = tool_flags.benchmark_flags("tflite", frozenset(CLASSIC), "m", Target(runtime="benchmark_model"), block)
    assert (flags["warmup_runs"], flags["num_runs"], flags["min_secs"], flags["max_secs"]) == ("1", "7", "0.5", "12.5")
