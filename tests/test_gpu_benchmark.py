"""`benchmarks/gpu.py` and `gpu_check.py` on the CPU: that they compare the same weights, go on, and end where told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mobench import artifacts, energy, store
from mobench.errors import BadInputError, MobenchError
from mobench.records import Target
from mobench.stats import summarize
from runners import nvidia, wire

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TINY = "mobilenet_v1_0.25_32"
pytest.importorskip("torch", reason="needs the export extra: pip install 'mobench[export]'")
pytest.importorskip("onnxscript", reason="needs the export extra: pip install 'mobench[export]'")


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import gpu

        yield gpu


@pytest.fixture(scope="module")
def check(gpu: ModuleType) -> ModuleType:
    import gpu_check

    return gpu_check


@pytest.fixture(scope="module")
def models(gpu: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny network is exported."""
    folder = tmp_path_factory.mktemp("gpu")
    found = gpu.export([TINY], ["fp32", "fp16"], folder / "artifacts")
    assert [artifact.precision for artifact in found] == ["fp32", "fp16"]
    return folder


def test_all_loops_run_the_same_weights_in_one_campaign(
    gpu: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = gpu.speed(
        TINY, device="cpu", precision="fp32", folder=models, budget_s=1.0, loops=["bare loop", "torch eager"]
    )
    assert [row.loop for row in rows] == ["mobench again", "bare loop", "torch eager"]
    for row in rows:
        assert row.ratio and row.ours_ms and row.other_ms  # of one start, where the machine is slow: no interval
        assert row.verdict in ("kept", "missed", "undecided")
        assert row.snr_db > 80  # another network, or other weights, would be at 0
    monkeypatch.setattr(gpu, "save_module", lambda name, folder: Path())
    again = gpu.speed(
        TINY, device="cpu", precision="fp32", folder=models, budget_s=1.0, loops=["bare loop", "torch eager"]
    )
    assert again == rows  # the campaign ended: its journal is read


def test_other_weights_are_found_out(gpu: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison would be worthless otherwise: a loop over something else must not pass as the same."""
    import torch

    path = gpu.save_module(TINY, models)
    saved = torch.load(path, weights_only=False)
    with torch.no_grad():
        for weight in saved["module"].parameters():
            weight.mul_(1.5)
    torch.save(saved, path)
    monkeypatch.setattr(gpu, "save_module", lambda name, folder: path)
    (models / f"speed-{TINY}-fp32-cpu.jsonl").unlink(missing_ok=True)
    _, eager = gpu.speed(TINY, device="cpu", precision="fp32", folder=models, budget_s=1.0, loops=["torch eager"])
    assert eager.verdict.startswith("other outputs: ")
    (models / f"speed-{TINY}-fp32-cpu.jsonl").unlink()


def test_a_loop_that_fails_is_said_and_costs_only_itself(gpu: ModuleType, models: Path) -> None:
    config = {"subject": "no such", "cores": [], "gpu": False}
    loops = gpu.Loops({"bare loop": config}, check=False, on=["desktop-cpu"])
    artifact = artifacts.read(models / "artifacts" / f"{TINY}-fp32.onnx")
    cells = [gpu.Cell(id=each, artifact=artifact, target=gpu.target("cpu")) for each in ("mobench", "bare loop")]
    run = gpu.measured(cells, loops, gpu.Settings(budget_s=0.5), models / "broken.jsonl")
    (row,) = gpu.against(TINY, run)
    assert row.ratio is None and row.ours_ms
    assert row.verdict == "not timed: the loop no such: KeyError: 'no such'"


def test_its_fp16_file_computes_in_fp16_for_a_gpu(models: Path) -> None:
    """Every operator of it is known to be safe, and its logits are near those of FP32."""
    from runners.half import in_half

    onnxruntime = pytest.importorskip("onnxruntime")
    files = [models / "artifacts" / f"{TINY}-{precision}.onnx" for precision in ("fp32", "fp16")]
    images = np.random.default_rng(1).standard_normal((8, 3, 32, 32)).astype(np.float32)
    expected, got = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": images})[0]
        for model in (files[0].read_bytes(), in_half(files[1].read_bytes()))
    )
    noise = np.square(got - expected).sum() / np.square(expected).sum()
    assert 25 < -10 * np.log10(noise) < 90


def test_a_verdict_is_what_the_interval_tells(gpu: ModuleType) -> None:
    assert gpu.verdict((0.991, 1.009), (0.99, 1.01)) == "kept"
    assert gpu.verdict((0.98, 0.989), (0.99, 1.01)) == "missed"
    assert gpu.verdict((0.98, 1.0), (0.99, 1.01)) == "undecided"
    assert gpu.verdict(None, (0.99, 1.01)) == "undecided"
    assert gpu.verdict((0.5, 0.6), None) == "told"


def test_two_copies_of_a_file(gpu: ModuleType, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = gpu.aa(TINY, device="cpu", folder=models, campaigns=2, seconds=1.5)
    assert len(found) == 2 and all(0.5 < ratio < 2.0 for ratio, _ in found)
    gpu.print_aa(TINY, found)
    assert f"| {TINY} |" in capsys.readouterr().out
    assert gpu.print_aa(TINY, [(1.001, (0.9, 1.1)), (0.999, (0.9, 1.1))])
    assert not gpu.print_aa(TINY, [(1.02, (0.9, 1.1)), (0.999, (0.9, 1.1))])


def test_outputs_against_the_cpu(gpu: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = artifacts.read(models / "artifacts" / f"{TINY}-fp32.onnx")
    row = gpu.output(artifact, "cpu")
    assert (row.largest, row.top1, row.wrong) == (0.0, 1.0, "")
    real = wire.Session.predict

    def off(self: wire.Session, inputs: Any, **more: Any) -> Any:
        outputs = real(self, inputs, **more)
        if calls.append(0) or len(calls) == 2:
            outputs[3] = -outputs[3]
        return outputs

    calls: list[int] = []
    monkeypatch.setattr(wire.Session, "predict", off)
    row = gpu.output(artifact, "cpu")
    assert row.largest > 0.5 and row.top1 == pytest.approx(31 / 32)
    assert "largest error above 0.001; another class" in row.wrong


def test_nodes_that_stay_behind_are_named(gpu: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = wire._ready

    def partial(*arguments: Any) -> Any:
        return replace(real(*arguments), nodes_delegated=40, nodes_total=42, not_delegated={"Resize": 2})

    monkeypatch.setattr(wire, "_ready", partial)
    row = gpu.output(artifacts.read(models / "artifacts" / f"{TINY}-fp32.onnx"), "cpu")
    assert (row.taken, row.total, row.wrong) == (40, 42, "not on the GPU: 2 Resize")


def test_a_file_that_does_not_run_is_a_row(gpu: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "target", lambda device, batch=1: Target(runtime="ort", provider="xnnpack"))
    row = gpu.output(artifacts.read(models / "artifacts" / f"{TINY}-fp32.onnx"), "cpu")
    assert row.total is None and row.wrong


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)


def test_without_a_gpu_both_end_at_once_in_one_line(tmp_path: Path) -> None:
    if not nvidia.Gpu().absent:
        pytest.skip("there is a GPU here")
    for script, arguments in (("gpu.py", ("speed",)), ("gpu_check.py", ())):
        done = run(script, *arguments, cwd=tmp_path)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: no NVIDIA GPU ") and line.endswith("--device cpu")
        assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_network_is_one_line(tmp_path: Path) -> None:
    done = run("gpu_check.py", "--device", "cpu", "mobilenet_v9", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "mobilenet_v9" in done.stderr


@pytest.fixture
def asked(check: ModuleType, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A check of the tiny network on the CPU, its model already exported."""
    work = tmp_path / "work"
    (work / "artifacts").mkdir(parents=True)
    for path in (models / "artifacts").iterdir():
        (work / "artifacts" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(check, "html_report", lambda asked: None)  # mobench report has its own tests
    return check.Asked(networks=(TINY,), device="cpu", results=work / "results", work=work, per_cell_s=0.4)


def test_the_campaigns_of_a_check_are_the_gpus_the_cpus_and_the_larger_batch(check: ModuleType, asked: Any) -> None:
    names = [step.name for step in check.steps(asked)]
    assert names == [
        *("tests", "export-1", "gpu-b1-1", "cpu-b1-1", "outputs-1"),
        *(f"speed-{TINY}", "aa", "gpu-b8-1"),
    ]
    many = replace(asked, networks=check.bases(), device="cuda")
    names = [step.name for step in check.steps(many)]
    assert "gpu-energy" in names and "speed-efficientnet_b0" in names
    assert len([name for name in names if name.startswith("gpu-b8")]) == -(-len(check.bases()) // check.IN_ONE)


def test_a_check_does_each_step_once_and_keeps_to_its_time(
    check: ModuleType, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    todo = [step for step in check.steps(asked) if step.name in ("export-1", "gpu-b1-1", "outputs-1", "gpu-b8-1")]
    assert check.take(asked, todo, budget_s=check.SLACK_S + 1) == 0  # the export fits, a campaign does not
    told = capsys.readouterr()
    assert told.out.startswith("## export-1") and "1 of 4 steps done" in told.out
    assert "to go on, the same command: gpu-b1-1" in told.err
    assert check.take(asked, todo, budget_s=1e9) == 0
    told = capsys.readouterr()
    assert "export-1" not in told.out and "4 of 4 steps done" in told.out
    journals = sorted(asked.home.glob("*-gpu-check-*.jsonl"))
    assert len(journals) == 2
    for path in journals:
        cells = summarize(store.read(path))
        assert [cell.precision for cell in cells] == ["fp32", "fp32", "fp16"]
        assert cells[0].sha256 == cells[1].sha256
    report = (asked.home / "gpu-check.md").read_text()
    assert "## gpu-b1-1" in report and "A/A: " in report and "on the CPU alone" in report
    assert "2 of 2 files keep every bar" in report
    assert check.take(asked, todo, budget_s=1e9) == 0
    assert sorted(asked.home.glob("*-gpu-check-*.jsonl")) == journals  # nothing was measured again


def test_a_campaign_that_was_interrupted_goes_on(
    check: ModuleType, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(asked, per_cell_s=1.0)
    (step,) = [step for step in check.steps(asked) if step.name == "gpu-b1-1"]

    class Impatient(check.Progress):  # type: ignore[misc, name-defined]
        def __call__(self, share: float, text: str | None = None) -> None:
            if text and "round" in text:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(check, "Progress", Impatient)
        with pytest.raises(KeyboardInterrupt):
            check.take(asked, [step], budget_s=1e9)
    (path,) = asked.home.glob("*.jsonl")
    blocks = len(store.read(path).blocks)
    assert store.read(path).end == "interrupted" and blocks
    assert step.text(asked) is None
    assert check.take(asked, [step], budget_s=1e9) == 0
    assert list(asked.home.glob("*.jsonl")) == [path]
    taken_up = store.read(path)
    assert len(taken_up.blocks) > blocks and len(taken_up.resumes) == 1 and taken_up.end in ("budget", "precise")


def test_a_step_that_fails_is_a_line_the_others_go_on_and_it_is_tried_again(
    check: ModuleType, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[int] = []

    def broken() -> str:
        tries.append(1)
        raise MobenchError("it", "broke", "mend it")

    todo = [
        check.Step(name="one", needs_s=1, run=broken),
        check.Step(name="two", needs_s=1, run=lambda: "fine\n"),
    ]
    assert check.take(asked, todo, budget_s=100) == 1
    told = capsys.readouterr()
    assert "error: one: it: broke; mend it" in told.err and "## two\n\nfine" in told.out
    assert check.take(asked, todo, budget_s=100) == 1 and len(tries) == 2


def test_networks_that_cannot_be_exported_are_a_failed_step_each(
    check: ModuleType, asked: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check.gpu, "export", lambda *arguments, **more: [])
    todo = [step for step in check.steps(asked) if step.name in ("export-1", "gpu-b1-1")]
    assert check.take(asked, todo, budget_s=1e9) == 1
    told = capsys.readouterr().err
    assert "error: export-1: 2 of 2 files: could not be exported" in told
    assert f"error: gpu-b1-1: campaign gpu-b1-1: none of {TINY} is exported in FP32" in told


def test_what_was_done_of_other_networks_is_not_taken_for_done(check: ModuleType, asked: Any) -> None:
    step = check.Step(name="x", needs_s=1, run=lambda: "", key="of these")
    step.keep(asked, "text\n")
    assert step.text(asked) == "text\n"
    assert replace(step, key="of those").text(asked) is None


def test_the_ranks_of_a_cpu_and_a_gpu_beside_it(check: ModuleType, tmp_path: Path) -> None:
    """Made-up campaigns of one machine: one network is third on the CPU and first on the GPU."""
    from made_runs import make_run, spread

    names = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
    slow = {"desktop-cpu": (4.0, 3.0, 2.0, 1.0), "desktop-gpu": (4.0, 1.0, 2.0, 3.0)}
    for device, factors in slow.items():
        make_run(
            tmp_path / f"{device}-gpu-check-x.jsonl",
            {f"{name}.onnx": spread(factor) for name, factor in zip(names, factors, strict=True)},
            device=device,
            artifact={
                f"{name}.onnx": {
                    "network": {"name": name, "label": name, "family": "mobilenet"},
                    "weights": {"kind": "random"},
                    "precision": "fp32",
                }
                for name in names
            },
            target={f"{name}.onnx": {"provider": "cuda" if device == "desktop-gpu" else "cpu"} for name in names},
        )
    said = check.ranks(tmp_path)
    assert "fp32, 4 networks" in said and "3 of 6 pairs inverted, 3 beyond noise" in said
    assert "mobilenet_v3_small before mobilenet_v2 on the CPU, behind it on the GPU" in said


def test_on_a_made_up_gpu_campaigns_have_its_state_and_energy(
    check: ModuleType, asked: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CUDA's road with a made-up ONNX Runtime in the sessions and a made-up driver: 120 W, whatever runs."""
    from fake_nvml import fake
    from fake_onnxruntime import write

    watts = fake(nvmlDeviceGetTotalEnergyConsumption=lambda handle: int(time.monotonic() * 120e3))
    monkeypatch.setattr(nvidia, "Gpu", partial(nvidia.Gpu, {}, nvml=watts))
    monkeypatch.setattr(check.gpu_packages, "require", lambda provider: None)
    monkeypatch.setenv("PYTHONPATH", str(write(tmp_path / "site", {"run_s": 0.001})))
    monkeypatch.setattr(check, "ENERGY_S", 0.1)
    monkeypatch.setattr(energy, "LEAD_S", 0.1)
    asked = replace(asked, device="cuda")
    assert check.gpu.machine("cuda") == "NVIDIA H200, driver 580.159.03, CUDA 13.0"
    (step,) = [step for step in check.steps(asked) if step.name == "gpu-energy"]
    assert check.take(asked, [step], budget_s=1e9) == 0
    run = store.read(next(asked.home.glob("*-gpu-check-gpu-energy.jsonl")))
    assert run.header["machine"]["gpu"]["name"] == "NVIDIA H200"
    assert run.states[0].gpu is not None and run.states[0].gpu.power_limit_w == 700.0
    for summary in summarize(run):
        assert summary.energy_mj and 60 < summary.energy_mj / summary.p50_ms < 600  # W, with what a busy machine adds
        assert (summary.device, summary.provider, summary.io) == ("desktop-gpu", "cuda", "device")
        assert summary.nodes_delegated == summary.nodes_total == 2
    settings = {cell: ready.settings for cell, _, ready in run.sessions}
    assert settings[f"{TINY}-fp16.onnx"]["arithmetic"] == "FP16"
    assert "NVIDIA H200" in (asked.home / "gpu-check.md").read_text()


def test_a_gpu_without_onnxruntime_gpu_is_one_line_too(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(check.gpu, "machine", lambda device: "a GPU")

    def lacks(provider: str) -> None:
        why = "onnxruntime 1.31.1 is installed"
        raise BadInputError("--provider cuda needs onnxruntime-gpu", why, "pip install it")

    monkeypatch.setattr(check.gpu_packages, "require", lacks)
    assert check.main(["mobilenet_v2"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --provider cuda needs onnxruntime-gpu: onnxruntime 1.31.1 is installed; pip install it"
    ]
    assert json.dumps(sorted(map(str, tmp_path.iterdir()))) == "[]"
