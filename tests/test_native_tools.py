"""The user's own tools as sessions: what they are asked, what is refused, and what is kept."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_tools import CLASSIC, LITERT, Desk, Edit, artifact, flags_of, install, start

from mobench.errors import BadInputError, DeathError, SessionError
from mobench.records import Target
from runners.native_tools import open_tool_session
from runners.tool_places import Completed, Here

GPU = ["--graph=m", "--use_gpu=true", "--num_runs=1", "--warmup_runs=1", "--min_secs=0", "--warmup_min_secs=0"]
ARGUMENTS = {
    "classic": [*GPU, "--max_secs=1"],
    "litert": [*GPU, "--max_secs=1"],
    "perf_test": ["-r", "2", "-x", "4", "r"],
}


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "whatever-it-is-called"
    path.write_bytes(b"\x7fELF")
    return path


def refusal(desk: Desk, binary: Path, kind: type[Exception] = SessionError, **target: Any) -> str:
    with pytest.raises(kind) as raised:
        start(desk, binary, **target)
    assert "\n" not in str(raised.value) and desk.closed == 1
    if kind is not BadInputError:
        (log,) = re.findall(r"its output is in (\S+)", str(raised.value))
        assert "--- exit status" in Path(log).read_text()
    return str(raised.value)


# --- what is asked, and what comes back -----------------------------------------------------------------------------


def test_the_classic_tool_is_asked_for_threads_cores_and_delegate(binary: Path) -> None:
    desk = Desk()
    session = start(desk, binary, cores=(6, 7))
    library = ["env", "LD_LIBRARY_PATH=/there", "taskset", "c0", "/there/whatever-it-is-called"]
    assert desk.commands[1][: len(library)] == library
    asked = flags_of(desk.commands[1])
    assert asked | {"max_secs": ""} == {
        "graph": "/there/net.tflite",
        "num_threads": "4",
        "num_runs": "1",
        "min_secs": "0",
        "max_secs": "",
        "warmup_runs": "1",
        "warmup_min_secs": "0.5",
        "use_xnnpack": "true",
    }
    ready = session.ready
    assert (ready.asked, ready.got, ready.nodes_delegated, ready.nodes_total) == ("XNNPACK", "XNNPACK", 66, 66)
    assert (ready.init_ns, ready.first_ns, ready.peak_rss_mb) == (12_750_000, 2_000_000, 29.5)
    assert ready.versions.keys() == {"benchmark_model"} and ready.versions["benchmark_model"].startswith("tflite ")
    assert (ready.threads, ready.cores) == (4, (6, 7))


def test_a_block_is_one_run_that_is_long_enough_for_a_fresh_process_and_gives_its_mean(binary: Path) -> None:
    desk = Desk(mean_us=1000.0)
    session = start(desk, binary)
    timing = session.time(lead_in=4, timed=5, deadline_s=60.0)
    assert (timing.wall_ns, timing.cpu_ns) == ((1_000_000,), 0)
    asked = flags_of(desk.commands[-1])
    assert (asked["warmup_runs"], asked["num_runs"], asked["min_secs"]) == ("500", "250", "0.25")
    session.time(lead_in=9999, timed=400, deadline_s=60.0)
    assert (flags_of(desk.commands[-1])["warmup_runs"], flags_of(desk.commands[-1])["num_runs"]) == ("5000", "400")
    session.close()
    assert desk.closed == 1


@pytest.mark.parametrize(("precision", "lossy"), [("fp16", "true"), ("fp32", "false")])
def test_a_gpu_is_asked_for_alone_and_at_a_precision(binary: Path, precision: str, lossy: str) -> None:
    desk = Desk()
    session = start(desk, binary, provider=f"gpu-{precision}")
    asked = flags_of(desk.commands[1])
    assert asked["use_gpu"] == asked["require_full_delegation"] == "true" and "use_xnnpack" not in asked
    assert asked["gpu_precision_loss_allowed"] == lossy
    assert session.ready.got == session.ready.asked == f"GPU {precision}"
    assert session.ready.versions["interface"] == "OpenCL"


@pytest.mark.parametrize("tool", ["classic", "litert"])
def test_a_gpu_s_own_choice_is_never_the_cpu(binary: Path, tool: str) -> None:
    desk = Desk(tool=tool)
    assert start(desk, binary, device="android-gpu").ready.got == "GPU fp16"
    assert flags_of(desk.commands[1])["use_gpu"] == "true"


def test_a_version_without_the_flag_for_whole_delegation_shows_it_in_its_log(binary: Path) -> None:
    desk = Desk(known=[name for name in CLASSIC if name != "require_full_delegation"])
    assert start(desk, binary, provider="gpu-fp16").ready.got == "GPU fp16"
    assert "require_full_delegation" not in flags_of(desk.commands[1])


def test_built_in_kernels_are_the_classic_tool_without_xnnpack(binary: Path) -> None:
    desk = Desk()
    assert start(desk, binary, provider="builtin").ready.got == "built-in kernels"
    assert flags_of(desk.commands[1])["use_xnnpack"] == "false"


def test_litert_s_program_of_the_same_name_is_known_by_what_it_prints(binary: Path) -> None:
    desk = Desk(tool="litert", mean_us=451.25)
    session = start(desk, binary, provider="gpu-fp16")
    asked = flags_of(desk.commands[1])
    assert {key: asked[key] for key in asked if "gpu" in key or "cpu" in key or "full" in key} == {
        "use_gpu": "true",
        "use_cpu": "false",  # else it adds the CPU, and runs the model there
        "gpu-precision": "fp16",
        "require_full_delegation": "true",
    }
    assert session.ready.versions["benchmark_model"].startswith("litert ") and session.ready.nodes_delegated == 40
    assert session.time(lead_in=4, timed=5).wall_ns == (451_250,)  # the line in microseconds, not 0.45 ms


def test_perf_test_gives_every_inference_without_its_cold_ones(binary: Path) -> None:
    desk = Desk(tool="perf_test", mean_us=2000.0)
    session = start(desk, binary, cores=(0,))
    command = desk.commands[0]
    assert command[3:] == [
        *("1", "/there/whatever-it-is-called", "-e", "cpu", "-m", "times", "-r", "2", "-x", "4", "-I"),
        *("/there/net.onnx", "/there/results.csv"),
    ]
    assert (session.ready.init_ns, session.ready.peak_rss_mb) == (10_200_000, 36696064 / (1 << 20))
    assert session.ready.first_ns == 10_000_000  # it prints 2 ms, and the timed one took 10
    timing = session.time(lead_in=4, timed=30)
    assert timing.wall_ns == (2_000_000,) * 30  # the ten slow ones were the warm-up


def test_perf_test_must_not_leave_nodes_to_the_cpu_unsaid(binary: Path) -> None:
    desk = Desk(tool="perf_test")
    assert start(desk, binary, provider="xnnpack").ready.got == "XnnpackExecutionProvider"
    at = desk.commands[0].index("-C")
    assert desk.commands[0][at + 1] == "session.disable_cpu_ep_fallback|1"


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("STARTING!\n", "STARTING!\nWARN: Unconsumed cmdline flags: --use_xnnpack=true\n", "it does not know --use_x"),
        ("CPU inference: [4]", "CPU inference: [1]", "--num_threads=4 was asked, and it says 1"),
        ("Use xnnpack: [1]", "Use xnnpack: [0]", "--use_xnnpack=true was asked, and it says 0"),
        ("INFO: Use xnnpack: [1]\n", "", "--use_xnnpack=true was asked, and it does not say that it took it"),
        ("Graph: [/there/net", "Graph: [/other/net", "--graph=/there/net.tflite was asked, and it says /other/"),
        ("Min num runs: [1]", "Min num runs: [50]", "--num_runs=1 was asked, and it says 50"),
        (
            "INFO: Memory foot",
            "INFO: Jitter: 12 us\nINFO: Memory foot",
            "a line that is not known: INFO: Jitter: 12 us",
        ),
        ("std=3", "std=3 p99=7us", "a line that is not known: INFO: count="),
        ("Inference (avg): 1000", "Inference (avg): 2000", "two runs' lines are mixed"),
        ("Explicitly applied XNN", "Though XNN", "XNNPACK was asked for, and no delegate ran"),
    ],
)
def test_a_log_that_does_not_bear_out_what_was_asked_is_refused(binary: Path, old: str, new: str, reason: str) -> None:
    quiet: Edit = (lambda text: "") if "Though" in new else (lambda text: text)
    desk = Desk(out=lambda text: text.replace(old, new), err=quiet)
    assert reason in refusal(desk, binary)


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ({"nodes": "29 out of 31"}, "the GPU took 29 of 31 nodes, and the CPU ran the others"),
        (
            {"out": lambda t: t.replace("completely executed by the delegate", "partially executed by the delegate")},
            "the GPU took only a part of the model",
        ),
        (
            {"out": lambda t: re.sub("Explicitly applied.*", "GPU delegate created.", t)},
            "its log does not say that the GPU ran the model",
        ),
        (
            {"out": lambda t: re.sub("INFO: Expl.*", "WARN: GPU acceleration is unsupported on this platform.", t)},
            "it has no GPU here, and ran on the CPU",
        ),
        (
            {
                "out": lambda t: (
                    t.replace("Explicitly applied GPU delegate, and", "Though")
                    .replace("Though the model", "Though GPU delegate is explicitly applied, the model")
                    .replace("will be completely", "will not be")
                )
            },
            "the GPU delegate was asked for and runs nothing",
        ),
        (
            {
                "out": lambda t: re.sub("INFO: Expl.*\n", "", t),
                "err": lambda t: t.replace("TfLiteGpuDelegateV2", "TfLiteXNNPackDelegate"),
            },
            "the GPU was asked for, and the CPU ran (XNNPACK)",
        ),
    ],
)
def test_every_silent_fall_back_to_the_cpu_is_refused(binary: Path, edits: dict[str, Any], reason: str) -> None:
    assert reason in refusal(Desk(**edits), binary, provider="gpu-fp16")


def test_litert_s_program_that_ran_on_the_cpu_after_all_is_refused(binary: Path) -> None:
    fell = Desk(tool="litert", err=lambda text: text.replace("LITERT_CL", "TfLiteXNNPackDelegate"))
    assert "the CPU ran (XNNPACK)" in refusal(fell, binary, provider="gpu-fp32")


def test_xnnpack_where_the_built_in_kernels_were_asked_for_is_refused(binary: Path) -> None:
    applied = (
        "VERBOSE: Replacing 6 out of 6 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions\n"
    )
    desk = Desk(err=lambda text: text + applied)
    assert "built-in kernels were asked for, and the xnnpack" in refusal(desk, binary, provider="builtin")


def test_a_gpu_that_is_reached_otherwise_in_a_later_block_is_refused(binary: Path) -> None:
    desk = Desk()
    session = start(desk, binary, provider="gpu-fp16")
    desk.err = lambda text: text.replace("OpenCL", "OpenGL")
    with pytest.raises(SessionError, match="reached by OpenCL before, and by OpenGL now"):
        session.time(lead_in=4, timed=5)


def test_the_two_programs_are_not_taken_for_each_other(binary: Path) -> None:
    desk = Desk(tool="litert", known=CLASSIC, out=lambda text: text.replace("Loading model", "Loading"))
    assert "its help is that of the tflite one, its output is litert's" in refusal(desk, binary)


def test_a_program_that_is_neither_is_refused_with_what_it_says(binary: Path) -> None:
    assert "does not list the flags of either benchmark_model" in refusal(Desk(known=["verbose", "help"]), binary)


@pytest.mark.parametrize(
    ("target", "tool", "reason"),
    [
        ({"provider": "nnapi"}, "classic", "has no provider nnapi for android-cpu; one of xnnpack, builtin"),
        ({"provider": "builtin"}, "litert", "LiteRT's benchmark_model has no provider builtin"),
        ({"provider": "gpu-fp16"}, "perf_test", "android-gpu: onnxruntime_perf_test has no provider there"),
        (
            {"provider": "xnnpack", "device": "android-gpu"},
            "classic",
            "xnnpack for android-gpu; one of gpu-fp16, gpu-fp32",
        ),
        ({"provider": "gpu-fp16", "device": "android-cpu"}, "litert", "gpu-fp16 for android-cpu; one of xnnpack"),
        ({"batch": 4}, "classic", "times the file as it stands"),
    ],
)
def test_what_a_tool_cannot_do_is_refused_before_it_runs(
    binary: Path, target: dict[str, Any], tool: str, reason: str
) -> None:
    with pytest.raises(BadInputError, match=re.escape(reason)):
        start(Desk(tool=tool), binary, **target)


def test_a_version_that_cannot_be_told_the_precision_is_refused(binary: Path) -> None:
    old = Desk(tool="litert", known=[name for name in LITERT if name != "gpu-precision"])
    assert "cannot be told the GPU's precision" in refusal(old, binary, BadInputError, provider="gpu-fp32")
    desktop = Desk(known=[name for name in CLASSIC if name != "gpu_precision_loss_allowed"])
    assert "has no --gpu_precision_loss_allowed" in refusal(desktop, binary, BadInputError, provider="gpu-fp16")


def test_the_wrong_tool_for_a_format_is_refused(binary: Path) -> None:
    for tool, format_ in (("benchmark_model", "onnx"), ("onnxruntime_perf_test", "tflite")):
        with pytest.raises(BadInputError, match=f"does not read .{format_}"):
            target = Target(runtime=tool)
            open_tool_session(tool, binary, artifact(format_), target, place=Desk(), logs=binary.parent)
    with pytest.raises(BadInputError, match="name your own build"):
        start(Desk(), binary.with_name("missing"))


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ({"rows": lambda t: ""}, "nothing"),
        ({"rows": lambda t: t[: t.index("\n") + 1]}, "2 inferences were asked, 2 said, and 1 are in its file"),
        ({"rows": lambda t: t + t}, "2 inferences were asked, 2 said, and 2, 2 are in its file"),
        ({"rows": lambda t: t.replace(",0.005,", ",0.05,")}, "its output says 5 ms and its result file 50 ms"),
        ({"rows": lambda t: t.replace("models,", "mod\nels,")}, "line 1 is no row"),
        ({"out": lambda t: t.replace("num_threads to 4", "num_threads to 1")}, "-x 4 was asked, and it says 1"),
        (
            {"out": lambda t: t.replace("Setting intra_op_num_threads to 4\n", "")},
            "-x 4 was asked, and it says nothing",
        ),
        ({"out": lambda t: t + "Median: 3 ms\n"}, "a line that is not known: Median: 3 ms"),
        ({"out": lambda t: "", "rows": lambda t: ""}, "-x 4 was asked, and it says nothing"),
    ],
)
def test_a_run_of_perf_test_that_is_not_whole_is_refused(binary: Path, edits: dict[str, Any], reason: str) -> None:
    said = refusal(Desk(tool="perf_test", **edits), binary)
    assert reason in said or (reason == "nothing" and "are in its file" in said)


@pytest.mark.parametrize("tool", ["classic", "litert", "perf_test"])
def test_a_line_lost_doubled_or_cut_is_refused_or_changes_no_figure(binary: Path, tool: str) -> None:
    """Whatever a cable or a buffer does to one line: an error, or the figures of the whole output."""
    provider = "" if tool == "perf_test" else "gpu-fp16"
    whole = start(Desk(tool=tool, mean_us=1234.5), binary, provider=provider)
    count = len(Desk(tool=tool).run(["/there/x", *ARGUMENTS[tool]], deadline_s=1).out.splitlines())
    damages: list[Callable[[str], list[str]]] = [
        lambda line: [],
        lambda line: [line, line],
        lambda line: [line[: len(line) // 2]],
        lambda line: [line[:-1]],
        lambda line: [line + "0"],
        lambda line: [re.sub("[0-9]", "7", line)],
    ]
    refused = 0
    for number in range(count):
        for damage in damages:

            def edit(text: str, number: int = number, damage: Callable[[str], list[str]] = damage) -> str:
                lines = text.splitlines()
                return "\n".join([*lines[:number], *damage(lines[number]), *lines[number + 1 :], ""])

            try:
                session = start(Desk(tool=tool, mean_us=1234.5, out=edit), binary, provider=provider)
            except SessionError:
                refused += 1
                continue
            assert session._mean_s == whole._mean_s and session.ready.got == whole.ready.got
            assert session.ready.nodes_delegated == whole.ready.nodes_delegated
    assert refused > count


# --- ends -----------------------------------------------------------------------------------------------------------


def test_a_tool_that_was_killed_is_a_death_whatever_it_printed(binary: Path) -> None:
    assert "killed by SIGKILL (out of memory?)" in refusal(Desk(status=137), binary, DeathError)
    crashed = Desk(status=134, err=lambda text: text + "FATAL: Don't know how to populate tensor x of type FLOAT16\n")
    assert "killed by SIGABRT: FATAL: Don't know how to populate" in refusal(crashed, binary, DeathError)


@pytest.mark.parametrize("tool", ["classic", "litert", "perf_test"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.8])
def test_an_output_that_ends_early_is_never_a_result(binary: Path, tool: str, share: float) -> None:
    refusal(Desk(tool=tool, out=lambda text: text[: int(share * len(text))]), binary)


def test_a_failure_has_the_tool_s_own_reason(binary: Path) -> None:
    desk = Desk(status=1, err=lambda text: text + "ERROR: Failed to apply GPU delegate.\nERROR: Benchmarking failed.\n")
    assert "exit status 1: ERROR: Failed to apply GPU delegate." in refusal(desk, binary, provider="gpu-fp16")


def test_a_late_run_is_said_to_be_late(binary: Path) -> None:
    assert "not done within its deadline of 120 s" in refusal(Desk(late=True, status=143), binary)


def test_times_that_add_up_to_more_than_the_run_took_are_refused(binary: Path) -> None:
    """A unit that was misread, or a clock that jumped."""
    desk = Desk(wall_s=0.0005)
    assert "its times add up to 0.001 s, and the whole run took 0.0005 s" in refusal(desk, binary)


def test_one_bad_block_does_not_touch_the_others_and_every_output_is_kept(binary: Path) -> None:
    desk = Desk()
    session = start(desk, binary)
    session.time(lead_in=4, timed=5)
    desk.status = 137
    with pytest.raises(DeathError):
        session.time(lead_in=4, timed=5)
    again = start(replace(desk, status=0), binary)  # the next start of the same cell
    assert again.ready.got == "XNNPACK"
    logs = sorted((binary.parent / "logs").iterdir())
    assert [log.name for log in logs] == [f"net.tflite-benchmark_model-{n:05}.log" for n in range(6)]
    first, bad = logs[1].read_text(), logs[3].read_text()
    assert first.startswith("$ env LD_LIBRARY_PATH=/there /there/whatever-it-is-called --graph=/there/net.tflite")
    assert "--- stdout\nINFO: STARTING!" in first and first.endswith("--- exit status 0 after 1000.000 s\n")
    assert "--- exit status 137" in bad


def test_line_ends_of_an_old_phone_s_shell_do_not_matter(binary: Path) -> None:
    """Without shell_v2 both streams are one, and its lines end in CR LF."""
    desk = Desk()
    plain = desk.run

    def merged(command: Sequence[str], *, deadline_s: float) -> Completed:
        done = plain(command, deadline_s=deadline_s)
        return replace(done, out=f"{done.err}{done.out}".replace("\n", "\r\n"), err="")

    desk.run = merged  # type: ignore[method-assign]
    assert start(desk, binary, provider="gpu-fp16").ready.nodes_total == 66


# --- real processes -------------------------------------------------------------------------------------------------


def test_a_real_process_runs_on_the_cores_it_was_given_with_its_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/vendor")
    program = install(tmp_path, "classic")
    session = start(Here(), program, cores=(0,))
    assert session.time(lead_in=4, timed=5).wall_ns == (2_000,)
    session.close()
    log = sorted((tmp_path / "logs").iterdir())[-1].read_text()
    assert f"cores [0], {tmp_path}:/opt/vendor" in log


def test_a_real_result_file_is_read_and_removed(tmp_path: Path) -> None:
    program = install(tmp_path, "perf_test")
    place = Here()
    target = Target(runtime="onnxruntime_perf_test", threads=4)
    session = open_tool_session(
        "onnxruntime_perf_test", program, artifact("onnx"), target, place=place, logs=tmp_path / "logs"
    )
    assert session.time(lead_in=20, timed=5).wall_ns == (2_000,) * 5000
    scratch = Path(place.new_file("x")).parent
    assert list(scratch.iterdir()) == []
    session.close()
    assert not scratch.exists()


def test_a_real_kill_and_a_real_deadline(tmp_path: Path) -> None:
    killed = install(tmp_path, "classic", signal=9)
    with pytest.raises(DeathError, match="killed by SIGKILL"):
        start(Here(), killed)
    slow = install(tmp_path, "classic", sleep_s=60)
    began = time.monotonic()
    with pytest.raises(SessionError, match="not done within its deadline of 1 s"):
        open_tool_session(
            *("benchmark_model", slow, artifact(), Target(runtime="benchmark_model", threads=4)),
            place=Here(),
            logs=tmp_path / "logs",
            start_deadline_s=1,
        )
    assert time.monotonic() - began < 20


def test_a_file_that_is_no_program_is_refused(binary: Path) -> None:
    with pytest.raises(SessionError, match="does not list the flags"):  # env says why
        start(Here(), binary)
