"""The phone's harness, built for this machine, with the wheels' libraries: the Python child's equal, and strict."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from conftest import build_harness
from harness_parts import argument, library, messages, request, session

from mobench import artifacts
from mobench.errors import DeathError, SessionError
from mobench.records import Target
from runners import desktop
from runners.wire import SEPARATOR, Session, encode

ORT_MODEL, LITERT_MODEL = "onnx_model", "tflite_model"
BOTH = pytest.mark.parametrize("fixture", [ORT_MODEL, LITERT_MODEL])


# As the Python child.


@BOTH
def test_it_says_and_computes_what_the_python_child_does(
    fixture: str, harness: Path, request: pytest.FixtureRequest
) -> None:
    artifact = artifacts.read(request.getfixturevalue(fixture))
    target = Target(runtime="ort" if fixture == ORT_MODEL else "litert")
    samples = np.random.default_rng(3).standard_normal((5, *artifact_shape(artifact.path)[1:])).astype(np.float32)
    with desktop.open_session(artifact, target) as child, session(harness, artifact.path) as ours:
        for name in ("inputs", "outputs", "asked", "got", "nodes_delegated", "nodes_total", "threads", "cores"):
            assert getattr(ours.ready, name) == getattr(child.ready, name), name
        assert ours.ready.init_ns > 0 and ours.ready.first_ns > 0
        assert ours.ready.peak_rss_mb > ours.ready.rss_before_mb > 1
        assert ours.ready.arena_mb is not None and 0 < ours.ready.arena_mb < 100
        np.testing.assert_array_equal(ours.predict(samples), child.predict(samples))
        timing = ours.time(lead_in=3, timed=200)
        assert len(timing.wall_ns) == 200 and min(timing.wall_ns) > 0
        assert 0 < timing.cpu_ns < 3 * sum(timing.wall_ns) + 1_000_000


def artifact_shape(model: Path) -> tuple[int, ...]:
    return (1, 3, 8, 8) if model.suffix == ".onnx" else (1, 8, 8, 3)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.5_160_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_real_quantized_networks_give_the_same_bytes_and_counts_of_nodes(
    name: str, harness: Path, shared: Path
) -> None:
    artifact = artifacts.read(shared / "data" / "models" / f"{name}.tflite")
    with desktop.open_session(artifact, Target(runtime="litert")) as child, session(harness, artifact.path) as ours:
        assert child.ready.nodes_delegated is not None and child.ready.nodes_total is not None
        assert 0 < child.ready.nodes_delegated < child.ready.nodes_total
        assert (ours.ready.nodes_delegated, ours.ready.nodes_total) == (
            child.ready.nodes_delegated,
            child.ready.nodes_total,
        )
        assert ours.ready.inputs == child.ready.inputs and ours.ready.outputs == child.ready.outputs
        first = ours.ready.inputs[0]
        limits = np.iinfo(first["dtype"]) if first["dtype"] != "float32" else None
        samples = np.random.default_rng(4).random((4, *first["shape"][1:]))
        samples = samples * (limits.max - limits.min) + limits.min if limits else samples
        samples = samples.astype(first["dtype"])
        np.testing.assert_array_equal(ours.predict(samples), child.predict(samples))


def test_nodes_left_to_the_cpu_are_counted(harness: Path, tmp_path: Path) -> None:
    with session(harness, tiny_tflite.matrix_diag(tmp_path / "split.tflite")) as split:
        assert (split.ready.nodes_delegated, split.ready.nodes_total, split.ready.got) == (1, 2, "XNNPACK")
        sample = np.array([[1, -2, 3, -4]], np.float32)
        np.testing.assert_array_equal(split.predict(sample)[0], np.diag([1, 2, 3, 4]))


def test_open_axes_are_settled_as_on_the_desktop(harness: Path, open_batch_onnx_model: Path, tmp_path: Path) -> None:
    with session(harness, open_batch_onnx_model, batch=4) as four:
        assert four.ready.inputs[0]["shape"] == [4, 3, 8, 8] and four.ready.outputs[0]["shape"] == [4, 1000]
    path = tiny_tflite.open_axes(tmp_path / "open.tflite")
    with session(harness, path, shape=[1, 5, 3], batch=2) as two:
        assert two.ready.inputs[0]["shape"] == [2, 5, 3] and two.ready.outputs[0]["shape"] == [2, 5, 3]
    with pytest.raises(SessionError, match=r"shape \[\?, \?, 3\] is open; give one, as --shape"):
        session(harness, path)
    with pytest.raises(SessionError, match=r"\[\?, \?, 3\] does not fit the given \[1, 5, 4\]"):
        session(harness, path, shape=[1, 5, 4])


def test_a_fixed_batch_is_named(harness: Path, onnx_model: Path) -> None:
    with pytest.raises(SessionError, match="its batch is fixed at 1, 4 asked"):
        session(harness, onnx_model, batch=4)


@BOTH
def test_cores_and_threads_are_kept_to(fixture: str, harness: Path, request: pytest.FixtureRequest) -> None:
    model, core = request.getfixturevalue(fixture), max(os.sched_getaffinity(0))
    with session(harness, model, cores=[core], threads=2) as pinned:
        assert pinned.ready.cores == (core,) and pinned.ready.threads == 2
        with session(harness, model) as one:
            assert threads_of(pinned) > threads_of(one), "a number of threads that has no effect"
    with pytest.raises(SessionError, match="cores 255"):
        session(harness, model, cores=[255])


def threads_of(live: Session) -> int:
    return len(list(Path(f"/proc/{live._process.pid}/task").iterdir()))


def test_the_devices_state_is_told(harness: Path, onnx_model: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'ä "odd" name'
    odd.write_bytes(b" \n one\x00\xff\xc3\xa4 line \n\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "long").write_text("x" * 10_000)
    asked = [str(odd), str(tmp_path / "empty"), str(tmp_path / "long"), str(tmp_path), "/proc/no/such/file"]
    with session(harness, onnx_model) as one:
        files = one.state(asked)
    assert files == {asked[0]: "one\x00?ä line", asked[1]: "", asked[2]: "x" * 4096}


# What goes wrong in a session is one error, and the session goes on.


def test_requests_that_cannot_be_answered_are_refused_in_one_line(
    harness: Path, onnx_model: Path, tmp_path: Path
) -> None:
    sample = np.zeros((2, 3, 8, 8), np.float32)
    np.save(tmp_path / "good.npy", sample)
    np.save(tmp_path / "double.npy", sample.astype(np.float64))
    np.save(tmp_path / "small.npy", sample[:, :, :4])
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((2, 3, 8, 8), np.float32)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-1])
    (tmp_path / "no.npy").write_bytes(b"PK\x03\x04" * 100)
    wrong = {
        "double.npy": "do not fit", "small.npy": "do not fit", "fortran.npy": "not a .npy file", "cut.npy": "cut",
        "no.npy": "not a .npy file", "missing.npy": "No such file",
    }  # fmt: skip
    sent = [request("predict", input=str(tmp_path / name), output=str(tmp_path / "out.npy")) for name in wrong]
    sent += [request("predict", input=str(tmp_path / "good.npy"), output=str(tmp_path / "no/folder/out.npy"))]
    sent += [request("profile", turns=1, lead_in=1, timed=1), request("stream", sizes=[0]), request("dance")]
    sent += [request("time", lead_in=-1, timed=1), request("time"), encode({"type": "time", "lead_in": 1, "timed": 1})]
    said, status, _ = messages(harness, json.dumps(argument(onnx_model)), sent=b"".join(sent) + request("bye"))
    errors = said[2:]
    assert status == 0 and len(errors) == len(sent) and {error["type"] for error in errors} == {"error"}
    whys = [*wrong.values(), "No such file", "folder", "sizes that cannot be", "'dance'"]
    whys += ["lead_in", "lead_in", "deadline_ms"]
    for error, why in zip(errors, whys, strict=True):
        assert why in error["why"] and "\n" not in json.dumps(error) and error["kind"] == "session"


def test_what_fails_when_invoked_is_named(harness: Path, tmp_path: Path) -> None:
    path = tiny_tflite.segment_sum(tmp_path / "dynamic.tflite")
    with pytest.raises(SessionError, match="the shape of an output is only known when the model runs"):
        session(harness, path)


# Bad files, libraries and arguments: hello, one error, exit status 1.


def bad_starts(folder: Path, onnx: Path, tflite: Path) -> dict[str, tuple[dict[str, Any], str]]:
    cut = folder / "cut.onnx"
    cut.write_bytes(onnx.read_bytes()[:2000])
    short = folder / "short.tflite"
    short.write_bytes(tflite.read_bytes()[:200])
    text = folder / "text.tflite"
    text.write_text("not a model\n")
    other = folder / "no_library.so"
    other.write_text("text")
    return {
        "no file": (argument(folder / "none.onnx", library=library("ort")), "No such file"),
        "cut ONNX": (argument(cut), "ort cannot load or run cut.onnx"),
        "cut TFLite": (argument(short), "litert cannot load or run short.tflite"),
        "text": (argument(text), "litert cannot load or run text.tflite"),
        "no library": (argument(onnx, library=folder / "lib.so"), "ONNX Runtime cannot be loaded"),
        "text as library": (argument(tflite, library=other), "LiteRT cannot be loaded"),
        "libraries exchanged": (argument(onnx, library=library("litert")), "no OrtGetApiBase"),
        "exchanged again": (argument(tflite, library=library("ort")), "take LiteRT 2.3.0 or newer"),
        "runtime": (argument(onnx, runtime="tvm"), "no such runtime"),
        "delegate": (argument(tflite, provider="npu"), "no such delegate"),
        "precision": (argument(tflite, provider="gpu-fp64"), "no such delegate"),
        "GPU of ONNX Runtime": (argument(onnx, provider="gpu-fp16"), "no such execution provider"),
        "provider not built in": (argument(onnx, provider="xnnpack"), "has no XnnpackExecutionProvider"),
        "no GPU accelerator": (argument(tflite, provider="gpu-fp16", accelerators=str(folder)), "finds no GPU"),
        "threads": (argument(onnx, threads=0), "threads is missing or no value it can have"),
        "shape": (argument(onnx, shape=[1, -3]), "shape is missing"),
        "cores": (argument(onnx, cores=[10_000]), "cores is missing"),
    }


def test_every_bad_start_is_one_error_line(harness: Path, onnx_model: Path, tflite_model: Path, tmp_path: Path) -> None:
    for name, (config, why) in bad_starts(tmp_path, onnx_model, tflite_model).items():
        config = {key: str(value) if isinstance(value, Path) else value for key, value in config.items()}
        said, status, _ = messages(harness, json.dumps(config))
        assert [message["type"] for message in said] == ["hello", "error"] and status == 1, name
        assert why in " ".join((said[1]["what"], said[1]["why"], said[1]["mend"])), (name, said[1])
        assert "\n" not in said[1]["why"] and set(said[1]) == {"type", "kind", "what", "why", "mend"}


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"runtime": 3}', '{"runtime": "ort"}', "[" * 5000, "\xff"])
def test_an_argument_that_is_none_is_one_error_line(text: str, harness: Path) -> None:
    said, status, _ = messages(harness, text)
    assert [message["type"] for message in said] == ["hello", "error"] and status == 1
    assert [message["type"] for message in messages(harness)[0]] == ["hello", "error"]


FAKE = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static const void *none(unsigned version) { (void)version; return 0; }
static const char *version(void) { return "1.9.0"; }
struct { const void *(*api)(unsigned); const char *(*version)(void); } base = {none, version};
const void *OrtGetApiBase(void) { return &base; }
int LiteRtCreateEnvironment(int n, const void *options, void **environment) {
    (void)n, (void)options, (void)environment;
    puts("this runtime has had enough"), fflush(stdout);
    if (getenv("HANG")) for (;;) pause();
    abort();
}
"""


@pytest.fixture
def fake_library(tmp_path: Path) -> Callable[[str], Path]:
    """A maker of a library that is an old ONNX Runtime, and with all of LiteRT's names a LiteRT that dies at once."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")

    def make(symbols: str = "") -> Path:
        source, target = tmp_path / "fake.c", tmp_path / "fake.so"
        source.write_text(FAKE + symbols)
        subprocess.run([compiler, "-shared", "-fPIC", str(source), "-o", str(target)], check=True, timeout=60)
        return target

    return make


def lite_names() -> list[str]:
    """The LiteRT functions that the harness uses, read from its source."""
    source = (Path(__file__).resolve().parents[1] / "android_harness" / "litert_api.h").read_text()
    names = [line.split("F(")[1].split(",")[0] for line in source.splitlines() if line.startswith("    F(")]
    assert len(names) > 30
    return [f"LiteRt{name}" for name in names if name != "CreateEnvironment"]


def test_old_runtimes_are_refused(
    fake_library: Callable[[str], Path], harness: Path, onnx_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(SessionError, match=r"too old: version 1\.9\.0; take 1\.12\.0 or newer"):
        session(harness, onnx_model, library=str(fake_library("")))
    model = tiny_tflite.open_axes(tmp_path / "net.tflite")
    names = [name for name in lite_names() if name != "LiteRtCompiledModelIsNonCpuFullyAccelerated"]
    old = fake_library("".join(f"void {name}(void) {{}}\n" for name in names))
    with pytest.raises(SessionError, match=r"has no LiteRtCompiledModelIsNonCpuFullyAccelerated; take LiteRT 2\.3\.0"):
        session(harness, model, library=str(old))


def test_a_runtime_that_dies_or_hangs_while_it_loads_leaves_its_last_words(
    fake_library: Callable[[str], Path], harness: Path, tmp_path: Path
) -> None:
    model = tiny_tflite.open_axes(tmp_path / "net.tflite")
    dying = str(fake_library("".join(f"void {name}(void) {{}}\n" for name in lite_names())))
    with pytest.raises(DeathError, match=r"SIGABRT.*this runtime has had enough"):
        session(harness, model, library=dying)
    with pytest.raises(SessionError, match="not done within its deadline"):
        session(harness, model, {**os.environ, "HANG": "1"}, library=dying, deadline_s=0.3)


# It always ends.


def test_a_deadline_ends_it_inside_native_code(harness: Path, onnx_model: Path) -> None:
    with session(harness, onnx_model) as hanging:
        hanging.time(lead_in=1, timed=1, deadline_s=0.5)
        time.sleep(0.7)  # a deadline that was kept is over
        hanging.time(lead_in=1, timed=1)
        with pytest.raises(SessionError, match=r"not done within its deadline of 0\.3 s"):
            hanging.time(lead_in=10_000_000, timed=10_000_000, deadline_s=0.3)


def test_it_ends_when_its_stdin_closes_and_when_nothing_comes(harness: Path, onnx_model: Path) -> None:
    said, status, _ = messages(harness, json.dumps(argument(onnx_model)), sent=encode({"type": "time"})[:9])
    assert status == 0 and [message["type"] for message in said] == ["hello", "ready"]
    idle = subprocess.Popen(
        [str(harness), json.dumps(argument(onnx_model, idle_s=0.2))],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert idle.wait(timeout=30) == 0 and idle.stderr is not None and idle.stdin is not None
    assert b"no request came" in idle.stderr.read()
    idle.stdin.close()
    idle.stderr.close()


# Hostile input, under the sanitizers.


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The harness that stops at the first access, overflow or shift that C leaves undefined."""
    folder = tmp_path_factory.mktemp("sanitized")
    return build_harness(folder, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def hostile(rng: random.Random) -> bytes:
    """One line that no parent would send."""
    kinds = ["time", "predict", "state", "stream", "profile"]
    good = request(rng.choice(kinds), lead_in=0, timed=1, turns=1, folder=7, paths=["/proc/uptime"])
    kind = rng.randrange(9)
    if kind == 0:
        return good[: rng.randrange(len(good))] + b"\n"
    if kind == 1:
        return SEPARATOR + rng.randbytes(rng.randrange(200)).replace(b"\n", b"") + b"\n"
    if kind == 2:
        return SEPARATOR + rng.choice([b"[", b'{"a":', b'[{"type":']) * rng.randrange(1, 30_000) + b"\n"
    if kind == 3:
        return SEPARATOR + b'{"type":"' + b"x" * rng.choice([31, 32, 100_000]) + b'","deadline_ms":9}\n'
    if kind == 4:
        changed = bytearray(good)
        for _ in range(3):
            changed[rng.randrange(1, len(changed) - 1)] = rng.choice(b'{}[]",:\\0u9e\x00\x1e\xff')
        return bytes(changed)
    if kind == 5:
        number = rng.choice(["1e999", "-1e999", "1e-999", "9" * 400, "-0", "1.5", "null", "true", '"7"', "[7]", "{}"])
        key = rng.choice(["lead_in", "timed", "deadline_ms"])
        return good.replace(b'"%s":' % key.encode(), b'"%s":%s,"x":' % (key.encode(), number.encode()))
    if kind == 6:
        paths = rng.choice(["[[]]", '["\\u0000"]', '["\\ud800\\u0041"]', "7", '["' + "a/" * 2000 + '"]', '[""]'])
        return SEPARATOR + b'{"type":"state","deadline_ms":9000,"paths":%s}\n' % paths.encode()
    if kind == 7:
        return rng.randbytes(500) + b"\n"
    return SEPARATOR + b'{"type":"time","lead_in":0,"timed":1,"deadline_ms":9000,"pad":"' + b"y" * (1 << 20) + b'"}\n'


def test_hostile_input_neither_breaks_nor_ends_it(sanitized: Path, onnx_model: Path) -> None:
    for seed in range(4):
        rng = random.Random(seed)
        lines = [hostile(rng) for _ in range(150)]
        lines = [b"" if b'"bye"' in line else line for line in lines]
        sent = b"".join(
            line for pair in zip(lines, [request("time", lead_in=0, timed=2)] * 150, strict=True) for line in pair
        )
        said, status, log = messages(sanitized, json.dumps(argument(onnx_model)), sent=sent + request("bye"))
        assert "Sanitizer" not in log and "runtime error" not in log, log[-3000:]
        assert status == 0 and {message["type"] for message in said} <= {"hello", "ready", "timing", "state", "error"}
        assert sum(message["type"] == "timing" and len(message["wall_ns"]) == 2 for message in said) == 150


def test_hostile_sample_files_are_refused(sanitized: Path, onnx_model: Path, tmp_path: Path) -> None:
    good, rng = tmp_path / "good.npy", random.Random(0)
    np.save(good, np.zeros((1, 3, 8, 8), np.float32))
    whole = good.read_bytes()
    shapes = [
        b"(1, 3, 8, 8)",
        b"(-1, 3, 8, 8)",
        b"(99999999999999999999, 3, 8, 8)",
        b"()",
        b"(" + b"1," * 40,
        b"(1e3,)",
        b"",
    ]
    sent, files = [], []
    for number in range(300):
        bad = bytearray(whole.replace(b"(1, 3, 8, 8)", rng.choice(shapes)))
        for _ in range(rng.randrange(4)):
            bad[rng.randrange(128)] = rng.randrange(256)
        files.append(tmp_path / f"{number}.npy")
        files[-1].write_bytes(bad[: rng.choice([len(bad), rng.randrange(len(bad))])])
        sent.append(request("predict", input=str(files[-1]), output=str(tmp_path / "out.npy")))
    said, status, log = messages(sanitized, json.dumps(argument(onnx_model)), sent=b"".join(sent))
    assert status == 0 and len(said) == 302 and "Sanitizer" not in log and "runtime error" not in log, log[-3000:]
    assert {message["type"] for message in said[2:]} == {"error", "predicted"}


def test_the_sanitizers_find_nothing_in_an_ordinary_session(
    sanitized: Path, onnx_model: Path, tflite_model: Path, tmp_path: Path
) -> None:
    for model in (onnx_model, tflite_model, tiny_tflite.matrix_diag(tmp_path / "split.tflite")):
        with session(sanitized, model) as one:
            one.time(lead_in=1, timed=3)
            first = one.ready.inputs[0]
            assert len(one.predict(np.ones((3, *first["shape"][1:]), first["dtype"]))) == 3
            assert one.state(["/proc/uptime"])
            ask = {"type": "profile", "turns": 1, "lead_in": 0, "timed": 2, "folder": str(tmp_path)}
            for _ in range(2):
                assert len(one._request(ask, "profile", 60)["profiled_ns"]) == 2
            assert min(one.stream([1, 1 << 16])) > 0
    for config, _ in bad_starts(tmp_path, onnx_model, tflite_model).values():
        config = {key: str(value) if isinstance(value, Path) else value for key, value in config.items()}
        said, status, log = messages(sanitized, json.dumps(config))
        assert status == 1 and said[-1]["type"] == "error" and "Sanitizer" not in log, log[-3000:]


def test_it_is_small(harness: Path, tmp_path: Path) -> None:
    strip = shutil.which("strip")
    if strip is None:
        pytest.skip("needs strip, as Debian's package binutils")
    small = tmp_path / "small"
    subprocess.run([strip, "-o", str(small), str(harness)], check=True, timeout=60)
    assert small.stat().st_size <= 100_000
