"""The phone's checklist, gone through on the stand-in: real adb, harness and runtimes, so that each check can fall."""

import contextlib
import json
import platform
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from standin import tools

from mobench import checking, selftest
from mobench.cli import cli
from mobench.errors import SessionError
from mobench.records import Operator, Profile, Target, Timing
from runners.android import build, runtimes

README = Path(__file__).resolve().parents[1] / "android_harness" / "README.md"
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the stand-in's phones are x86_64")


def of_a_wheel(pattern):
    found = next((path for entry in sys.path for path in Path(entry).glob(pattern)), None)
    if found is None:
        pytest.skip(f"needs {pattern}, from the runtime's wheel")
    return found


@pytest.fixture
def equipped(harness, tmp_path, monkeypatch):
    """A cache with this machine's harness and runtimes in place of a phone's; Vulkan in software where there is one."""
    monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path / "cache"))
    build.put(harness, "x86_64", how="host", tool="cc")
    vulkan = tools.vulkan()
    for name, value in (vulkan or {}).items():
        monkeypatch.setenv(name, value)
    gpu = [of_a_wheel("ai_edge_litert/libLiteRtWebGpuAccelerator.so")] if vulkan else []
    runtimes.put("x86_64", "litert", of_a_wheel("ai_edge_litert/libLiteRt.so"), gpu, version="2.3.0")
    runtimes.put("x86_64", "ort", of_a_wheel("onnxruntime/capi/libonnxruntime.so.*"), version="1.31.1")


def test_the_readme_lists_every_check():
    listed = re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\| (`.*?) \|", README.read_text(), re.MULTILINE)))
    assert set(selftest.CHECKS) <= set(listed)


def go(*arguments):
    return CliRunner().invoke(cli, ["android", "selftest", *map(str, arguments)], standalone_mode=False)


@pytest.mark.slow
def test_every_check_holds_on_a_stand_in(equipped, phone, tflite_model, onnx_model, tmp_path):
    report = tmp_path / "report.json"
    done = go(tflite_model, onnx_model, "-o", report, "--json")
    if done.exception:
        raise done.exception
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert list(rows) == list(selftest.CHECKS)
    assert {name: row["said"] for name, row in rows.items() if row["status"] == "no"} == {} and done.return_value == 0
    gpu = {"litert-gpu-fp32", "litert-gpu-fp16", "waits"} if tools.vulkan() is None else set()
    assert {name for name, row in rows.items() if row["status"] == "skipped"} == {"threads", "gpu-profile", *gpu}
    assert rows["litert-profile"]["figures"]["kernels"] and " operators sum to " in rows["ort-profile"]["said"]
    assert gpu or "Profile is not implemented" in rows["gpu-profile"]["said"], "software Vulkan is WebGPU's"
    assert "less than 1 ms" in rows["threads"]["said"]
    loader = rows["loader"]
    assert loader["figures"]["hello"]["versions"]["abi"] == "x86_64" and "pages of 4 KiB" in loader["said"]
    assert loader["figures"]["selinux"] == "Enforcing"
    assert 60 < rows["litert-cpu"]["figures"]["snr_db"] <= 200 and rows["ort-cpu"]["figures"]["got"]
    if not gpu:
        exact, half = (rows[f"litert-gpu-fp{bits}"]["figures"]["snr_db"] for bits in (32, 16))
        assert exact > 60 and half > 20
    assert rows["pushed-once"]["figures"]["pushes"] >= 4 and "not done within its deadline" in rows["deadline"]["said"]
    assert phone.processes() == [] and not list(phone.path("/data/local/tmp/mobench/run").iterdir())
    written = json.loads(report.read_text())
    assert [each["check"] for each in written["checks"]] == list(rows)
    assert [each["runtime"] for each in written["runtimes"]] == ["ort", "litert"]
    text = report.read_text()
    assert phone.serial not in text and phone.profile.serialno not in text, "serial numbers are personal"
    assert str(tmp_path) not in text, "the user's folders are nobody's business"


def test_a_check_that_is_skipped_or_falls_does_not_keep_the_others_from_running(
    equipped, phone, onnx_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(checking, "LEAST_DB", {"fp32": 300.0})
    chosen = {name: selftest.CHECKS[name] for name in ("loader", "litert-cpu", "ort-cpu", "waits")}
    monkeypatch.setattr(selftest, "CHECKS", chosen)
    done = go(onnx_model, "-o", tmp_path / "r.json")
    if done.exception:
        raise done.exception
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert done.return_value == 1
    assert " skipped " in lines["litert-cpu"] and "needs a .tflite file" in lines["litert-cpu"]
    assert " no " in lines["ort-cpu"] and "at least 300 dB" in lines["ort-cpu"] and " ok " in lines["loader"]


class _Scripted:
    """A bench whose sessions take as long as they say and keep as many cores busy as they say."""

    def __init__(
        self, *, latency_ms=10.0, true_ms=None, told_ms=9.0, busy=lambda threads: threads, cores=None, late=True
    ):
        self.phone = SimpleNamespace(cores=(0, 1), android="9", has_fixed_performance=False)
        self.latency_ns = round(latency_ms * 1e6)
        self.true_ns = round((true_ms or latency_ms) * 1e6)
        self.told_ns = round(told_ms * 1e6)
        self.busy, self.cores, self.late = busy, cores, late
        self.now_ns = 0
        self.left = []

    def target(self, device, runtime, provider="", threads=1):
        return Target(device=device, runtime=runtime, provider=provider, threads=threads, cores=(1,))

    def any_cpu(self, threads=1):
        return self.target("android-cpu", "litert", threads=threads)

    def open(self, target):
        self.now_ns += 7_000_000
        bench = self

        class Session:
            ready = SimpleNamespace(cores=bench.cores or target.cores)

            def time(self, *, lead_in, timed, deadline_s):
                if deadline_s < 1 and bench.late:
                    raise SessionError("m.tflite", "not done within its deadline")
                bench.now_ns += bench.true_ns * timed + 3_000_000
                wall_ns = (bench.latency_ns,) * timed
                cpu_ns = round(sum(wall_ns) * bench.busy(target.threads))
                return Timing(wall_ns=wall_ns, cpu_ns=cpu_ns, involuntary_switches=0)

            def profile(self, *, turns, lead_in, timed, deadline_s):
                whole, told = (bench.latency_ns,) * turns * timed, (bench.told_ns,) * turns * timed
                one = Operator(name="a", kind="A", kernel="k", path=(), precision="", macs=0, moved_bytes=0, ns=told)
                return Profile(source="s", tick_ns=1000, plain_ns=whole, profiled_ns=whole, operators=(one,))

            def state(self, paths):
                return dict.fromkeys(paths, "1800000")

        return contextlib.nullcontext(Session())

    def harnesses(self):
        return {77}

    def must_be_gone(self):
        return 0.5


def check(name, monkeypatch, **script):
    bench = _Scripted(**script)
    monkeypatch.setattr(selftest.time, "monotonic_ns", lambda: bench.now_ns)
    return selftest._run(name, selftest.CHECKS[name], bench, lambda text: None)


@pytest.mark.parametrize(
    ("name", "script", "status", "says"),
    [
        ("waits", {}, "ok", "100 more inferences took 1000 ms here and 1000 ms by the phone's clock"),
        ("waits", {"latency_ms": 0.3, "true_ms": 17}, "no", "not those of finished work"),  # as LiteRT#9521
        ("litert-profile", {}, "ok", "1 operators sum to 9.000 of 10.000 ms"),
        ("ort-profile", {"told_ms": 12}, "no", "1 operators sum to 12.000 of 10.000 ms"),
        ("threads", {}, "ok", "one thread keeps 1.00 cores busy, 2 threads 2.00"),
        ("threads", {"busy": lambda threads: 1}, "no", "2 threads 1.00"),  # as LiteRT#3360
        ("threads", {"busy": lambda threads: 2}, "no", "one thread keeps 2.00"),
        ("threads", {"latency_ms": 0.5}, "skipped", "give a bigger model"),
        ("cores", {}, "ok", "cores 1, 1800 MHz"),
        ("cores", {"cores": (0, 1)}, "no", "(1,) was asked for, (0, 1) is kept"),
        ("deadline", {}, "ok", "not done within its deadline"),
        ("deadline", {"late": False}, "no", "were done within 0.2 s"),
        ("steady-mode", {}, "skipped", "Android 9 does not offer it"),
    ],
)
def test_a_phone_that_behaves_and_one_that_does_not(monkeypatch, name, script, status, says):
    outcome = check(name, monkeypatch, **script)
    assert outcome.status == status and says in outcome.said


def test_a_process_that_stays_is_found(monkeypatch):
    class Phone:
        def shell(self, script, *, idempotent):
            assert "pidof mobench-harness" in script
            return SimpleNamespace(out="12 77\n")

    bench = object.__new__(selftest._Bench)
    bench.adb, bench.folder = Phone(), SimpleNamespace(processes=lambda: frozenset({77, 5}))
    monkeypatch.setattr(selftest, "_GONE_S", 0.0)
    assert bench.harnesses() == {77}, "others' harnesses, and ours that are adb's, do not count"
    with pytest.raises(SessionError, match="process 77 still runs"):
        bench.must_be_gone()
