"""Profiles on a phone: the harness's account beside the Python child's, and `mobench profile --device android-*`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_tflite
from click.testing import CliRunner, Result
from harness_parts import argument, library, messages, request, session
from standin import tools
from standin.device import StandIn
from test_op_profile import TINY_MACS, tiny_onnx  # noqa: F401 (a fixture)
from test_selftest import equipped  # noqa: F401 (a fixture)

from mobench import artifacts
from mobench.cli import profile as verb
from mobench.errors import BadInputError, SessionError
from mobench.profile import ceilings
from mobench.records import Operator, Profile, Ready, Target
from runners import adb, desktop, litert
from runners.android.sessions import AndroidSession
from runners.profile import matmul_files, phone_profile

ASKED = {"turns": 2, "lead_in": 1, "timed": 3}


def profiled(harness: Path, model: Path, folder: Path, *, batch: int = 1, **changes: Any) -> Profile:
    """A profile by the harness, read as a phone's."""
    with session(harness, model, batch=batch, **changes) as one:
        answer = one._request({"type": "profile", **ASKED, "folder": str(folder)}, "profile", 60)
        assert len(one.time(lead_in=0, timed=2).wall_ns) == 2, "the session goes on"
        return phone_profile.read(answer, model, one.ready, **ASKED, batch=batch, shape=(), fetch=Path)


def known(operators: tuple[Operator, ...]) -> list[tuple[object, ...]]:
    """All of operators but their times, and the numbers that ONNX Runtime puts behind names."""
    return [
        (re.sub(r"_token_\d+", "", o.name), o.kind, o.kernel, o.path, o.precision, o.macs, o.moved_bytes)
        for o in operators
    ]


@pytest.mark.parametrize("fixture", ["tiny_onnx", "tflite_model"])
def test_it_tells_the_operators_that_the_python_child_tells(
    fixture: str, harness: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(fixture)
    ours = profiled(harness, path, tmp_path)
    target = Target(runtime="ort" if path.suffix == ".onnx" else "litert")
    with desktop.open_session(artifacts.read(path), target) as child:
        theirs = child.profile(**ASKED)
    assert known(ours.operators) == known(theirs.operators) and ours.notes == theirs.notes == ()
    assert (ours.source, ours.tick_ns) == (theirs.source, theirs.tick_ns)
    assert [o.macs for o in ours.operators if o.macs] == (
        TINY_MACS if path.suffix == ".onnx" else [6 * 6 * 8 * 27, 8 * 1000]
    )
    assert len(ours.plain_ns) == len(ours.profiled_ns) == 6 and min(ours.plain_ns) > 0
    for run, whole in enumerate(ours.profiled_ns):
        together = sum(operator.ns[run] for operator in ours.operators)
        assert together <= whole + ours.tick_ns * len(ours.operators)


def test_a_real_quantized_network_is_told_inside_xnnpack_and_outside(
    harness: Path, shared: Path, tmp_path: Path
) -> None:
    path = shared / "data" / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    profile = profiled(harness, path, tmp_path)
    assert 290e6 < sum(operator.macs or 0 for operator in profile.operators) < 310e6
    kernels = {operator.kernel for operator in profile.operators}
    assert "built-in kernel" in kernels and any("IGEMM" in kernel for kernel in kernels)
    spent = sum(sum(operator.ns) for operator in profile.operators)
    assert 0.5 < spent / sum(profile.profiled_ns) <= 1.05


def test_a_batch_is_counted(harness: Path, open_batch_onnx_model: Path, tflite_model: Path, tmp_path: Path) -> None:
    counted = profiled(harness, open_batch_onnx_model, tmp_path, batch=5).operators
    assert [operator.macs for operator in counted if operator.macs] == [5 * 3 * 1000]
    counted = profiled(harness, tflite_model, tmp_path, batch=3).operators
    assert sum(operator.macs or 0 for operator in counted) == 3 * (6 * 6 * 8 * 27 + 8000)


def test_a_split_graph_is_put_together(harness: Path, tmp_path: Path) -> None:
    profile = profiled(harness, tiny_tflite.matrix_diag(tmp_path / "split.tflite"), tmp_path)
    assert [(o.kind, o.kernel == "built-in kernel") for o in profile.operators][-1] == ("MATRIX_DIAG", True)


def test_a_folder_that_cannot_be_written_is_one_error_and_the_session_goes_on(
    harness: Path, onnx_model: Path, tmp_path: Path
) -> None:
    for folder in (tmp_path / "none", Path("x" * 1000)):
        sent = request("profile", **ASKED, folder=str(folder)) + request("time", lead_in=0, timed=1)
        said, status, _ = messages(harness, json.dumps(argument(onnx_model)), sent=sent)
        assert [message["type"] for message in said] == ["hello", "ready", "error", "timing"] and status == 0


LYING = """
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
// LiteRT with events of another size, or without any function for them.
int LiteRtGetNumProfilerEvents(void *profiler, int *count) { (void)profiler; *count = 3; return 0; }
int LiteRtGetProfilerEvents(void *profiler, int count, void *events) {
    (void)profiler;
    struct { const char *label; int type; uint64_t start, elapsed; int64_t memory[SIZE]; uint64_t index, graph; int source; }
        *event = events;
    for (int i = 0; i < count; i++)
        memset(event + i, 0, sizeof *event), event[i].label = "A", event[i].type = TYPE, event[i].elapsed = i + 1;
    return 0;
}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("size", "kind", "fine"), [(6, 2, True), (7, 2, False), (5, 2, False), (6, 3, False), (6, 1 << 9, False)]
)
def test_events_that_are_laid_out_otherwise_are_refused(
    size: int, kind: int, fine: bool, harness: Path, tflite_model: Path, tmp_path: Path
) -> None:
    source, preload = tmp_path / "lying.c", tmp_path / "lying.so"
    source.write_text(LYING.replace("SIZE", str(size)).replace("TYPE", str(kind)))
    real = library("litert")
    linked = ["-Wl,--no-as-needed", str(real), f"-Wl,-rpath,{real.parent}"]
    command = ["cc", "-shared", "-fPIC", str(source), "-o", str(preload), *linked]
    subprocess.run(command, check=True, timeout=60)
    # A library that has these two of its own and all others from the real one, on which it depends.
    with session(harness, tflite_model, library=str(preload)) as one:
        ask = {"type": "profile", **ASKED, "folder": str(tmp_path)}
        if fine:
            events = one._request(ask, "profile", 60)["events"]
            assert [event["ns"] for event in events] == [[1000] * 6, [2000] * 6, [3000] * 6]
        else:
            with pytest.raises(SessionError, match=r"events are laid out otherwise; take LiteRT 2\.3\.0"):
                one._request(ask, "profile", 60)
        assert len(one.time(lead_in=0, timed=1).wall_ns) == 1


def test_memory_rates_are_measured_in_c_too(harness: Path, onnx_model: Path) -> None:
    for threads in (1, 2):
        with session(harness, onnx_model, threads=threads) as one:
            rates = one.stream([1, 1 << 14, 1 << 22])
            assert len(rates) == 3 and all(1e8 < rate < 1e13 for rate in rates[1:])
            with pytest.raises(SessionError, match="sizes that cannot be"):
                one.stream([1 << 50])
            with pytest.raises(SessionError, match="no memory or no threads"):
                one.stream([900 << 30])


# What the host makes of an account, without a phone.


def ready(**changes: Any) -> Ready:
    fields: dict[str, Any] = {
        "init_ns": 1, "first_ns": 1, "rss_before_mb": 1.0, "peak_rss_mb": 1.0, "asked": "XNNPACK", "got": "XNNPACK",
        "nodes_delegated": 3, "nodes_total": 3, "threads": 1, "cores": (), "inputs": (), "outputs": (), "versions": {},
    }  # fmt: skip
    return Ready(**{**fields, **changes})


def account(**changes: Any) -> dict[str, Any]:
    events = [
        {"label": label, "index": index, "inside": True, "ns": [1000, 2000]}
        for index, label in enumerate(
            ["Convolution (NHWC, F32) IGEMM", "Mean (ND) Reduce2", "Fully Connected (NC, F32) GEMM"]
        )
    ]
    return {"plain_ns": [9, 9], "profiled_ns": [9000, 9000], "warm_up": 5, "events": events, **changes}


def read(message: Mapping[str, Any], path: Path, said: Ready) -> Profile:
    asked = {"turns": 1, "lead_in": 0, "timed": 2}
    return phone_profile.read(message, path, said, **asked, batch=1, shape=(), fetch=Path)


def test_where_the_phones_xnnpack_takes_other_nodes_no_operator_is_guessed(tflite_model: Path) -> None:
    nodes, _ = litert.load(tflite_model, threads=1, provider="", batch=1, shape=()).graph()
    here, total, _ = litert.count_delegated(nodes)
    same = read(account(), tflite_model, ready(nodes_delegated=here, nodes_total=total))
    assert [operator.macs for operator in same.operators] == [6 * 6 * 8 * 27, 0, 8000] and same.notes == ()
    other = read(account(), tflite_model, ready(nodes_delegated=here - 1, nodes_total=total))
    assert [operator.macs for operator in other.operators] == [None, 0, None]
    assert other.notes[0] == f"XNNPACK takes {here - 1} of {total} nodes there, {here} of {total} here"
    assert "could not be told apart" in other.notes[1]


def test_a_gpus_operators_and_those_of_a_file_nobody_here_reads_keep_their_names(
    tflite_model: Path, tmp_path: Path
) -> None:
    gpu = read(account(), tflite_model, ready(asked="GPU fp16"))
    whole = {"label": "LITERT_CL", "index": 3, "inside": False, "ns": [8000, 8000]}
    with pytest.raises(SessionError, match="tells no times inside it; profile it on the CPU"):
        read(account(events=[whole]), tflite_model, ready(asked="GPU fp16"))
    (tmp_path / "odd.tflite").write_bytes(b"odd")
    odd = read(account(), tmp_path / "odd.tflite", ready())
    for profile in (gpu, odd):
        assert [operator.kind for operator in profile.operators] == ["Convolution", "Mean", "Fully Connected"]
        assert {(o.macs, o.moved_bytes, o.path) for o in profile.operators} == {(None, None, ())}
    assert "GPU accelerator" in gpu.source and "bear its own names" in gpu.notes[0]
    assert "the graph cannot be read on this machine" in odd.notes[0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"plain_ns": [9]}, "inferences came"),
        ({"events": [{"label": "A"}]}, "does not fit"),
        ({"events": [{"label": "A", "index": 0, "inside": True, "ns": [1]}]}, "other inferences"),
        ({"events": [{"label": "A", "index": 99, "inside": False, "ns": [1, 2]}]}, "nodes that the file has not"),
        ({"trace": "none.json", "optimised": "none.onnx"}, "make room on the phone"),
    ],
)
def test_an_account_that_does_not_fit_is_refused(changes: dict[str, Any], why: str, tflite_model: Path) -> None:
    with pytest.raises(SessionError, match=why):
        read(account(**changes), tflite_model, ready())


# The whole way, on a stand-in phone.


@pytest.fixture
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_files, "SIZES", (64,))
    monkeypatch.setattr(ceilings, "WORKING_SETS", (1 << 14, 1 << 16))


def profile(*arguments: str | Path) -> Result:
    arguments = (*arguments, "--budget", "0.2")
    return CliRunner().invoke(verb.command, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.mark.usefixtures("equipped", "small_ceilings")
def test_both_runtimes_are_profiled_on_a_phone_under_its_own_ceilings(
    phone: StandIn,
    tflite_model: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    network = request.getfixturevalue("tiny_onnx")
    result = profile(network, tflite_model, "--device", "android-cpu", "--json", "--by", "layer")
    if result.exception:
        raise result.exception
    assert result.return_value == 0 and "measuring the phone's ceilings with 1 thread, once" in result.stderr
    by_format = {Path(found["file"]).suffix: found for found in json.loads(result.stdout)}
    counted = [line["macs"] for line in sorted(by_format[".onnx"]["layer"], key=lambda each: each["position"])]
    assert [macs for macs in counted if macs] == TINY_MACS
    assert sum(line["macs"] for line in by_format[".tflite"]["layer"]) == 6 * 6 * 8 * 27 + 8000
    for found in by_format.values():
        assert found["target"]["device"] == "android-cpu" and len(found["target"]["cores"]) == 1
        assert found["plain_ms"] > 0 and found["ceiling"]["macs_per_s"].keys() == {"fp32", "int8"}
        assert phone.profile.serialno not in json.dumps(found) and "Pixel" in found["machine"]
    assert phone.processes() == [] and not list(phone.path("/data/local/tmp/mobench/run").iterdir())
    large = matmul_files.write(tmp_path, "litert", "fp32", 256)  # it takes many microseconds
    again = profile(large, "--device", "android-cpu", "--plot", tmp_path / "roof.svg")
    if again.exception:
        raise again.exception
    assert "measuring" not in again.stderr, "a phone's ceilings are kept"
    head = again.stdout.splitlines()[0]
    assert head.startswith("matmul-256-fp32.tflite, LiteRT on the CPU of Google Pixel") and "of ceiling" in again.stdout
    assert (tmp_path / "roof.svg").is_file()


@pytest.mark.usefixtures("equipped", "small_ceilings")
def test_a_cable_pulled_before_the_trace_is_here_is_one_line_and_nothing_stays_on_the_phone(
    phone: StandIn, onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = AndroidSession._fetch

    def cut(session: AndroidSession, path: str, folder: Path) -> Path:
        phone.cut()
        return fetch(session, path, folder)

    with monkeypatch.context() as patch:
        patch.setattr(AndroidSession, "_fetch", cut)
        patch.setattr(adb, "RETRY_WAIT_S", 0.5)
        result = profile(onnx_model, "--device", "android-cpu")
    assert result.return_value == 1 and not result.stdout.strip()
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: phone {phone.serial}")
    phone.plug_in()
    assert profile(onnx_model, "--device", "android-cpu").return_value == 0
    assert phone.processes() == [] and not list(phone.path("/data/local/tmp/mobench/run").iterdir())


@pytest.mark.usefixtures("equipped")
def test_a_gpu_without_a_profiler_is_one_line(phone: StandIn, tflite_model: Path, onnx_model: Path) -> None:
    if tools.vulkan() is None:
        pytest.skip(tools.HOW_TO_GET_VULKAN)
    result = profile(tflite_model, onnx_model, "--device", "android-gpu", "--json")
    assert result.return_value == 1 and json.loads(result.stdout) == []
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "tiny.onnx" in errors[0]
    assert "Profile is not implemented" in errors[1] and errors[1].endswith("profile it on the CPU")
    assert "ceilings" not in result.stderr and phone.processes() == []


def test_what_a_gpu_or_this_machine_has_not_is_refused_before_anything_runs(tflite_model: Path) -> None:
    for arguments, why in (
        (["--device", "android-gpu", "--plot", "roof.svg"], "nobody has measured a GPU's ceilings"),
        (["--serial", "X"], "it names a phone"),
    ):
        result = profile(tflite_model, *arguments)
        assert isinstance(result.exception, BadInputError) and why in str(result.exception)


def test_without_ceilings_nothing_is_said_of_them(tflite_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = Target(device="android-gpu", runtime="litert", provider="gpu-fp16")
    one = verb.Profiled(
        artifact=artifacts.read(tflite_model), target=target, block_names={}, ceiling=None, machine="A Phone",
        profile=read(account(), tflite_model, ready(asked="GPU fp16")),
    )  # fmt: skip
    verb.echo_profiled(one, ("operator",), 5)
    out = capsys.readouterr().out
    assert out.startswith("tiny.tflite, LiteRT (gpu-fp16) on the GPU of A Phone, 1 thread")
    assert "of ceiling" not in out and "no ceilings: nobody has measured a GPU's yet" in out
    (found,) = json.loads(verb.as_json([one], ("operator",)))
    assert found["ceiling"] is None and found["machine"] == "A Phone"
    assert len(verb.as_csv([one]).splitlines()) == 4
