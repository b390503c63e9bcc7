"""Other tools' output. In golden/foreign the numbers are made up and the lines are those that a parser has to match.

Only litert_benchmark.* were measured: both are that tool's own, of one small network.
"""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobench.errors import BadInputError
from mobench.foreign import outputs
from mobench.records import Imported

GOLDEN = Path(__file__).parent / "golden" / "foreign"
REFUSED = (
    *("tflite_crashed.txt", "tflite_killed.txt", "tflite_invoke_failed.txt", "tflite_disallowed.txt"),
    *("litert_no_gpu.txt", "perf_test_failed.txt"),
)
GOOD = sorted(path.name for path in GOLDEN.iterdir() if path.name not in REFUSED)


def text(name: str) -> str:
    return (GOLDEN / name).read_text()


def parse(content: str, tool: str = "auto") -> Imported:
    (result,) = outputs.parse(content, "a.log", tool)
    return result


def refusal(content: str, tool: str = "auto") -> str:
    with pytest.raises(BadInputError, match=r"^(a\.log|--tool)") as raised:
        outputs.parse(content, "a.log", tool)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def said(result: Imported) -> dict[str, Any]:
    """What a record says beyond nothing."""
    return {key: value for key, value in dataclasses.asdict(result).items() if value not in (None, "", (), {})}


def test_a_log_of_benchmark_model_gives_every_figure_in_milliseconds_and_mebibytes() -> None:
    assert said(parse(text("tflite_cpu.txt"))) == {
        "tool": "benchmark_model",
        "form": "tflite",
        "model": "/data/local/tmp/net_v2.tflite",
        "threads": 4,
        "provider": "xnnpack",
        "nodes_delegated": 66,
        "nodes_total": 66,
        "count": 83,
        "init_ms": 31.207,
        "first_ms": 15.12,
        "warmup_ms": 12.1537,
        "mean_ms": 12.0345,
        "min_ms": 11.85,
        "max_ms": 12.903,
        "std_ms": 0.151,
        "percentiles_ms": {"p5": 11.88, "p50": 12.002, "p95": 12.301},
        "memory_mb": {"init": 17.5, "overall": 28.25, "peak": 60.5},
        "resolution_ms": 0.001,
    }


@pytest.mark.parametrize(
    ("name", "mean"), [("tflite_2020_profiled.txt", 84.2105), ("tflite_2019_profiled.txt", 79.7609)]
)
def test_an_op_profile_s_own_statistics_are_not_taken(name: str, mean: float) -> None:
    """They stand behind the result in newer versions and before it in older ones."""
    result = parse(text(name))
    assert (result.mean_ms, result.count, result.threads) == (mean, 50, 2 if "2020" in name else 1)
    assert "p50" not in result.percentiles_ms  # neither version has them
    assert result.first_ms == (91.0 if "2020" in name else 88.0)  # the older one only says it in its warm-up line
    assert result.memory_mb == ({"init": 4.75, "overall": 20.5} if "2020" in name else {})


def test_the_first_version_of_all_says_three_figures_at_most() -> None:
    result = parse("STARTING!\nAverage inference timings in us: 95012 , Warmup: 99120, \n")
    assert said(result).keys() == {"tool", "form", "mean_ms", "warmup_ms", "resolution_ms"}
    assert (result.mean_ms, result.warmup_ms, result.form) == (95.012, 99.12, "tflite before 2020")


def test_seconds_long_inferences_in_powers_of_ten_and_samples_that_are_all_the_same() -> None:
    result = parse(text("tflite_gpu.txt"))
    assert (result.mean_ms, result.first_ms, result.warmup_ms) == (1240.27, 1357.602, 1357.6)
    assert (result.provider, result.nodes_delegated, result.nodes_total) == ("gpu", 29, 31)  # not XNNPACK's 2 of 3
    assert result.threads is None and result.memory_mb == {"init": 60.0, "overall": 109.5}


def test_one_timed_inference_is_its_own_minimum_and_maximum() -> None:
    one = re.sub(r"count=83 .*", "count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602", text("tflite_cpu.txt"))
    result = parse(one.replace("(avg): 12034.5", "(avg): 1.3576e+06"))
    assert (result.count, result.mean_ms, result.min_ms, result.max_ms) == (1, 1357.602, 1357.602, 1357.602)
    assert result.std_ms is None  # one sample has none


@pytest.mark.parametrize("warmup", ["0", "-nan", "nan"])
def test_without_a_warm_up_its_figures_are_absent(warmup: str) -> None:
    log = re.sub(r"count=41 .*", "count=0", text("tflite_cpu.txt"))
    log = re.sub(r"First inference: 15120, Warmup \(avg\): [\d.]+", f"First inference: 0, Warmup (avg): {warmup}", log)
    result = parse(log)
    assert result.first_ms is None and result.warmup_ms is None and result.mean_ms == 12.0345


def test_a_delegate_that_was_asked_for_and_runs_nothing_is_not_what_ran() -> None:
    result = parse(text("tflite_fell_back.txt"))
    assert (result.provider, result.nodes_delegated, result.nodes_total) == ("xnnpack", 28, 31)
    assert "NNAPI delegate was asked for and runs nothing" in result.notes[0]
    assert "--gpu_presicion_loss_allowed" in result.notes[1]


def test_logcat_s_prefixes_do_not_matter() -> None:
    long = text("tflite_logcat.txt")
    brief = re.sub(r"^.{18}\s*(\d+)\s+\d+ (\w) (\w+)\s*: ", r"\2/\3  (\1): ", long, flags=re.MULTILINE)
    assert "I/tflite  (25289): count=25" in brief
    for log in (long, brief, long.replace("\n", "\r\n")):
        assert (parse(log).count, parse(log).mean_ms, parse(log).first_ms) == (25, 257.131, 237.814)


def test_only_the_line_with_the_result_is_enough() -> None:
    line = next(line for line in text("tflite_cpu.txt").splitlines(keepends=True) if "timings" in line)
    assert parse(line).mean_ms == 12.0345 and parse(line).count is None
    assert "may be cut off" in refusal(line.rstrip())  # 12034.5 may have been 12034.57


def test_several_runs_in_one_log_are_told_apart_by_their_starts() -> None:
    both = text("tflite_cpu.txt") + text("tflite_gpu.txt")
    results = outputs.parse(both, "a.log")
    assert [result.provider for result in results] == ["xnnpack", "gpu"]
    assert [result.mean_ms for result in results] == [12.0345, 1240.27]
    assert "did not reach its result" in refusal(text("tflite_cpu.txt") + text("tflite_killed.txt"))


def test_two_results_of_one_start_are_refused() -> None:
    """benchmark_model_performance_options runs one option after the other."""
    line = next(line for line in text("tflite_cpu.txt").splitlines(keepends=True) if "timings" in line)
    assert "2 results and one start" in refusal(text("tflite_cpu.txt") + line)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tflite_crashed.txt", "did not reach its result: ERROR: Failed to apply GPU delegate."),
        ("tflite_killed.txt", "did not reach its result"),
        ("tflite_invoke_failed.txt", "an inference failed, and its time is in the figures"),
        ("tflite_disallowed.txt", "did not reach its result: ERROR: Disallowed CPU fallback detected."),
        (
            "litert_no_gpu.txt",
            "did not reach its result: ERROR: [benchmark_litert_model.cc:160] Failed to compile model.",
        ),
        ("perf_test_failed.txt", "nothing in it looks like the output of"),
    ],
)
def test_a_run_that_failed_is_refused_with_its_own_reason(name: str, reason: str) -> None:
    assert reason in refusal(text(name))


def test_a_dry_run_is_refused() -> None:
    log = re.sub(r"count=(41|83) .*", "count=0", text("tflite_cpu.txt"))
    log = re.sub(r"First inference: .*", "First inference: 0, Warmup (avg): -nan, Inference (avg): -nan", log)
    assert "no inference was timed" in refusal(log)


@pytest.mark.parametrize(
    ("old", "new"),
    [("(avg): 12034.5", "(avg): 13034.5"), ("min=11850", "min=12850"), ("max=12903", "max=11903")],
)
def test_lines_that_contradict_each_other_are_refused(old: str, new: str) -> None:
    assert "two runs' lines are mixed" in refusal(text("tflite_cpu.txt").replace(old, new))


def test_litert_s_own_program_is_read_by_its_heading_and_in_its_milliseconds() -> None:
    result = parse(text("litert.txt"))
    assert (result.tool, result.form, result.count) == ("benchmark_model", "litert", 1010)
    assert (result.init_ms, result.first_ms, result.warmup_ms, result.mean_ms) == (744.73, 41.04, 2.04, 0.45)
    assert (result.std_ms, result.percentiles_ms, result.resolution_ms) == (0.02, {}, 0.01)
    assert result.memory_mb == {"init": 91.74, "overall": 95.5}
    assert (result.provider, result.nodes_delegated, result.nodes_total) == ("litert_cl", 40, 40)


def test_without_a_warm_up_litert_s_program_prints_zeros_which_are_absent() -> None:
    log = re.sub(r"Warmup (\(first\): +)41.04", r"Warmup \g<1>0.00", text("litert.txt"))
    result = parse(re.sub(r"(Warmup \(avg\): +)2.04 ms \(220", r"\g<1>0.00 ms (0", log))
    assert result.first_ms is None and result.warmup_ms is None and result.mean_ms == 0.45


def test_its_line_in_microseconds_is_finer_where_there_is_one() -> None:
    result = parse(text("litert_with_counts.txt"))
    assert (result.mean_ms, result.percentiles_ms["p50"], result.resolution_ms) == (0.451374, 0.449, 0.001)
    assert result.init_ms == 744.73 and result.memory_mb == {"peak": 427.64}
    other = text("litert_with_counts.txt").replace("avg=451.374", "avg=551.374")
    assert "two runs' lines are mixed" in refusal(other)
    assert "two counts of the timed inferences" in refusal(
        text("litert_with_counts.txt").replace("count=1010", "count=9")
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.45 ms (1010", "450 us (1010", "its unit of Inference (avg) is us, not ms"),
        ("Inference (avg):      0.45 ms (1010 runs)", "No inference runs were performed.", "no inference was timed"),
        ("Inference (avg)", "Average", "did not reach its result"),
        ("Inference (avg):      0.45 ms", "Inference (avg):      0.00 ms", "shorter than it can print"),
    ],
)
def test_what_a_later_version_may_print_is_refused_not_misread(old: str, new: str, reason: str) -> None:
    assert old in text("litert.txt")
    assert reason in refusal(text("litert.txt").replace(old, new))


def test_litert_benchmark_gives_the_same_in_json_and_on_its_output() -> None:
    written, printed = parse(text("litert_benchmark.json")), parse(text("litert_benchmark.txt"))
    assert (written.tool, printed.tool) == ("litert-benchmark", "litert-benchmark")
    assert (written.form, printed.form, written.count, printed.count) == ("json", "output", 20, 20)
    assert (written.model, written.threads, written.provider) == ("tiny.tflite", 1, "cpu")
    assert said(written).keys() - said(printed).keys() == {"model", "threads", "provider"}  # those go to its log
    assert written.percentiles_ms.keys() == {"p5", "p50", "p95"} and (written.init_ms, written.first_ms) == (2.24, 0.23)


def test_json_s_zero_for_a_warm_up_that_never_was_is_absent() -> None:
    values = json.loads(text("litert_benchmark.json"))
    values["latency"] |= {"num_warmup_runs": 0, "warmup_first_ms": 0, "warmup_avg_ms": 0}
    values["fully_accelerated"] = False
    result = parse(json.dumps(values))
    assert result.first_ms is None and result.warmup_ms is None and result.notes == ("not fully accelerated",)


@pytest.mark.parametrize("broken", ['{"a": 1}', "{", '{"latency": [1]}', '{"latency": {"num_runs": 3}, "model": "m"}'])
def test_other_json_is_refused(broken: str) -> None:
    assert "not litert-benchmark's JSON" in refusal(broken)


def test_perf_test_s_output_mixes_seconds_and_milliseconds() -> None:
    result = parse(text("perf_test.txt"))
    assert (result.init_ms, result.first_ms, result.mean_ms) == (10.2016, 2.0, 2.085)
    assert (result.min_ms, result.max_ms, result.percentiles_ms["p50"]) == (1.99, 2.42, 2.07)
    assert result.percentiles_ms.keys() == {"p50", "p90", "p95", "p99", "p99.9"}
    assert (result.count, result.threads, result.memory_mb) == (100, 4, {"peak": 35.0})
    assert not result.notes and not result.samples_ns


def test_an_older_perf_test_is_read_too_and_overlapping_requests_are_said() -> None:
    result = parse(text("perf_test_old.txt"))
    assert (result.init_ms, result.mean_ms, result.min_ms, result.count) == (512.0, 58.8, 55.9, 1000)
    assert result.first_ms is None and result.provider == "xnnpack"
    assert "in parallel" in result.notes[0]
    oldest = parse("Total time cost:0.5\nTotal iterations:100\nAverage time cost:5 ms\n")
    assert said(oldest).keys() == {"tool", "form", "mean_ms", "count"} and (oldest.mean_ms, oldest.count) == (5.0, 100)


def test_a_result_file_has_every_sample_and_a_result_for_each_run_appended_to_it() -> None:
    one, two = outputs.parse(text("perf_test_rows.csv"), "a.log")
    assert one.samples_ns == (4310000, 4100000, 4000000) and two.samples_ns == (8100000, 8000000)
    assert (one.model, one.count, one.memory_mb, two.memory_mb) == ("net_v2", 3, {"peak": 48.0}, {"peak": 49.0})
    assert one.mean_ms == pytest.approx(4.13667) and one.init_ms is None and one.first_ms is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("99,1\n", "99,2\n", "line 2 is inference 2, out of order"),
        ("99,0\n", "99,1\n", "line 1 is inference 1, out of order"),
        ("0.0041,50331648,99,1", "0.0041,5033", "line 2 is no row"),
        ("8e-03,51380224,198,1", "8e-03,51380", "line 9 is no row"),
        ("0.0041,", "0,", "not positive"),
    ],
)
def test_a_damaged_result_file_names_its_line(old: str, new: str, reason: str) -> None:
    assert reason in refusal(text("perf_test_rows.csv").replace(old, new))


def test_a_result_file_in_nanoseconds_is_not_taken_for_seconds() -> None:
    assert "they are not seconds" in refusal("net,4310000,50331648,99,0\nnet,4100000,50331648,99,1\n")


def test_a_model_s_name_in_a_result_file_may_have_commas() -> None:
    assert parse("a,1,b,0.004,50331648,99,0\n").model == "a,1,b"
    assert parse("a,1,0.004,50331648,99,0\n").model == "a,1"  # no submission takes longer than the whole


def test_since_2025_a_row_has_the_time_of_the_submission_before_that_of_the_inference() -> None:
    result = parse(text("perf_test_rows_2025.csv"))
    assert (result.model, result.samples_ns) == ("squeezenet", (4310000, 4100000, 4000000))


def test_what_ran_is_told_in_every_style_of_delegates() -> None:
    told = {name: parse(text(name)) for name in GOOD if name != "perf_test_rows.csv"}
    assert {name: result.provider for name, result in told.items() if "gpu" in name or "part" in name} == {
        "tflite_gpu.txt": "gpu",
        "tflite_gpu_whole.txt": "gpu",
        "tflite_gpu_absent.txt": "xnnpack",  # it says so in a warning, and runs
        "tflite_xnnpack_part.txt": "xnnpack",
        "litert_gpu.txt": "litert_cl",
    }
    whole, litert = told["tflite_gpu_whole.txt"], told["litert_gpu.txt"]
    assert (whole.nodes_delegated, whole.nodes_total, whole.mean_ms) == (66, 66, 5.0962)
    assert (litert.model, litert.mean_ms, litert.memory_mb["peak"]) == (
        "/data/local/tmp/net_v2.tflite",
        1.45137,
        427.64,
    )
    assert told["tflite_2021.txt"].mean_ms == 28.34 and told["tflite_2021.txt"].provider == "gpu"
    assert told["tflite_xnnpack_part.txt"].first_ms == 633.43  # one warm-up run, and no percentiles in this version


@pytest.mark.parametrize("junk", ["", "hello\n", "count=3 curr=4\n", "a,b,c\n1,2,3\n", "\x00\x01\x02"])
def test_what_no_tool_wrote_is_refused(junk: str) -> None:
    assert "looks like the output of benchmark_model" in refusal(junk)


def test_tensorflow_s_tool_of_the_same_name_is_refused() -> None:
    assert "did not reach" in refusal(
        "Average inference timings in us: Warmup: 293039, no stats: 43366, with stats: 4\n"
    )


def test_a_named_tool_has_to_be_the_one_that_wrote_it() -> None:
    for name, tool in (("litert.txt", "benchmark_model"), ("perf_test.txt", "onnxruntime_perf_test")):
        assert parse(text(name), tool) == parse(text(name))
    assert "is the output of litert-benchmark" in refusal(text("litert_benchmark.txt"), "benchmark_model")
    assert "no such tool" in refusal(text("litert.txt"), "nonsense")


@pytest.mark.parametrize("name", [name for name in GOOD if not name.endswith(".csv")])
def test_a_log_cut_at_any_byte_is_refused_or_says_less_and_never_something_else(name: str) -> None:
    whole = text(name)
    full = parse(whole)
    for cut in range(len(whole)):
        try:
            part = said(parse(whole[:cut]))
        except BadInputError:
            continue
        for key, value in part.items():
            if isinstance(value, dict):
                assert value.items() <= getattr(full, key).items(), cut
            elif isinstance(value, tuple):
                assert set(value) <= set(getattr(full, key)), cut
            elif key != "resolution_ms":
                assert value == getattr(full, key), (cut, key)


times = st.lists(st.integers(1, 10**8), min_size=1, max_size=30)


def statistics(us: list[int]) -> str:
    """A phase's line as the tool prints it: six digits, an integer standard deviation, no mean of equal samples."""
    count, mean = len(us), sum(us) / len(us)
    ranks = "".join(f" {name}={sorted(us)[int(share * (count - 1))]}" for name, share in PERCENTILES.items())
    if min(us) == max(us):
        return f"count={count} curr={us[-1]}{'(all same)' if count > 1 else ''}{ranks}"
    std = math.sqrt(sum((t - mean) ** 2 for t in us) / count)
    return f"count={count} first={us[0]} curr={us[-1]} min={min(us)} max={max(us)} avg={mean:g} std={std:.0f}{ranks}"


PERCENTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95}
PREFIXES = st.sampled_from(["", "INFO: ", "07-14 13:23:15.443  1  1 I tflite  : ", "I/tflite  (25289): "])


@given(warmup=times, timed=times, init=st.integers(1, 10**7), prefix=PREFIXES)
def test_what_the_tool_prints_of_any_samples_comes_back(
    warmup: list[int], timed: list[int], init: int, prefix: str
) -> None:
    mean = sum(timed) / len(timed)
    lines = [
        "STARTING!",
        statistics(warmup),
        statistics(timed),
        f"Inference timings in us: Init: {init}, First inference: {warmup[0]},"
        f" Warmup (avg): {sum(warmup) / len(warmup):g}, Inference (avg): {mean:g}",
    ]
    result = parse("".join(f"{prefix}{line}\n" for line in lines))
    assert result.count == len(timed) and result.init_ms == init / 1000 and result.first_ms == warmup[0] / 1000
    assert result.mean_ms == pytest.approx(mean / 1000, rel=1e-5)
    assert (result.min_ms, result.max_ms) == (min(timed) / 1000, max(timed) / 1000)
    assert result.percentiles_ms["p50"] == sorted(timed)[int(0.5 * (len(timed) - 1))] / 1000


@given(runs=st.lists(times, min_size=1, max_size=4))
def test_every_sample_of_a_result_file_comes_back(runs: list[list[int]]) -> None:
    rows = [f"net,{t / 1e6!r},1048576,99,{i}" for run in runs for i, t in enumerate(run)]
    results = outputs.parse("\n".join(rows) + "\n", "a.csv")
    assert [result.samples_ns for result in results] == [tuple(t * 1000 for t in run) for run in runs]
    assert all(result.memory_mb == {"peak": 1.0} for result in results)
