"""A desktop's GPU without one: ONNX Runtime's GPU builds as they behave and fail, in real sessions and campaigns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_onnxruntime import CPU, CUDA, NODES, TENSORRT, WEBGPU, write

from mobench import artifacts, gpu_cells, plan, store
from mobench.campaign import make_targets
from mobench.errors import BadInputError, MissingExtraError, MobenchError, SessionError
from mobench.gpu_cells import GpuWays
from mobench.records import Artifact, Ready, Target
from mobench.stats import summarize
from runners import desktop, gpu_libraries, gpu_packages
from runners.android import elf
from runners.gpu_failures import bring, explain
from runners.gpu_session import refuse_broken
from runners.wire import Session

GOLDEN = Path(__file__).parent / "golden"
IMAGES = np.random.default_rng(3).random((2, 3, 8, 8), dtype=np.float32)
Open = Callable[..., Session]


def cuda(**fields: Any) -> Target:
    return Target(**{"device": "desktop-gpu", "runtime": "ort", "provider": "cuda", "io": "device", **fields})


@pytest.fixture
def model(onnx_model: Path) -> Artifact:
    return artifacts.read(onnx_model)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a made-up onnxruntime before the real one, here and in sessions."""

    def make(packages: Mapping[str, str] | None = None, **plan: Any) -> Path:
        folder = write(tmp_path / "site", plan, packages)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path / "cache"))
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return make


def mobench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mobench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_gpu_session_tells_what_it_got_and_how_it_is_timed(fake: Callable[..., Path], model: Artifact) -> None:
    fake()
    with desktop.open_session(model, cuda()) as session:
        ready = session.ready
        assert (ready.asked, ready.got, ready.io) == (CUDA, CUDA, "device")
        assert (ready.nodes_delegated, ready.nodes_total, ready.providers) == (2, 2, {CUDA: 2})
        assert "synchronised" in ready.waits and ready.build_ns is None and ready.as_float == ""
        assert ready.settings["use_tf32"] == "0" and ready.settings["NVIDIA_TF32_OVERRIDE"] == "0"
        assert dict(session.versions).items() >= {"build": "onnxruntime-gpu", "cuda": "13.0"}.items()
        np.testing.assert_allclose(session.predict(IMAGES), IMAGES.mean((2, 3)), rtol=1e-5)
    with desktop.open_session(model, cuda(tf32=True)) as session:
        assert session.ready.settings["use_tf32"] == "1" and "NVIDIA_TF32_OVERRIDE" not in session.ready.settings
        np.testing.assert_allclose(session.predict(IMAGES), 2 * IMAGES.mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize("fields", [{}, {"cuda_graph": True}, {"io": "host"}, {"batch": 4}])
def test_a_timed_inference_ends_when_the_gpu_has_done_it(
    fields: dict[str, Any], fake: Callable[..., Path], model: Artifact, open_batch_onnx_model: Path
) -> None:
    """The made-up run returns at once, as a real one that fills a queue; the GPU computes for 20 ms."""
    fake(run_s=0.02)
    with desktop.open_session(artifacts.read(open_batch_onnx_model), cuda(**fields)) as session:
        assert min(session.time(lead_in=1, timed=3).wall_ns) >= 20_000_000
        assert session.ready.inputs[0]["shape"][0] == session.ready.outputs[0]["shape"][0] == fields.get("batch", 1)


# What onnxruntime-gpu 1.31.1 printed and raised on a machine without a GPU, 2026-11-22: with nothing of NVIDIA's there;
# with CUDA's and cuDNN's wheels; and with these and a libcuda.so.1 that says it is old, or that there is no GPU.
NO_LIBRARY = (
    "\x1b[0;93m2026-11-22 23:44:49.978928375 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:856 operator()] No "
    "registered plugin EP device found for 'CUDAExecutionProvider' with device_id=0\x1b[m\n"
    "\x1b[1;31m2026-11-22 23:44:49.990116210 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& "
    "onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library /site/onnxruntime/capi/"
    "libonnxruntime_providers_{provider}.so with error: {library}: cannot open shared object file: No such file or "
    "directory\n\x1b[m\n\x1b[0;93m2026-11-22 23:44:49.990150277 [W:onnxruntime:Default, onnxruntime_pybind_"
    "state.cc:1295 CreateExecutionProviderFactoryInstance] Failed to create CUDAExecutionProvider. Require cuDNN 9.* "
    "and CUDA 13.*. Please install all dependencies as mentioned in the GPU requirements page, make sure they're in "
    "the PATH, and that your GPU is supported.\x1b[m\n"
)
NO_TENSORRT = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
    "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) Please install "
    "TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the PATH or LD_LIBRARY_PATH, "
    "and that your GPU is supported.\n"
)
NO_DEVICE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider_info.cc:63 static onnxruntime::"
    "CUDAExecutionProviderInfo onnxruntime::CUDAExecutionProviderInfo::FromProviderOptions(const onnxruntime::"
    "ProviderOptions&) [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed to parse provider "
    'option "device_id": {failure} ; GPU=-1 ; hostname=vm ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/'
    "cuda_execution_provider_info.cc ; line=70 ; expr=cudaGetDeviceCount(&num_devices); \n"
)
PRELOAD = (
    "Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open shared object file: No such file or directory\n"
    "Failed to load libcublas.so.13: libcublas.so.13: cannot open shared object file: No such file or directory\n"
    "Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA."
)
OLD = "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"
NONE = "CUDA failure 100: no CUDA-capable device is detected"


def no_library(provider: str, library: str) -> str:
    return NO_LIBRARY.replace("{provider}", provider).replace("{library}", library)


WHEELS = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
RECORDED = [
    (CUDA, {"prints": no_library("cuda", "libcublasLt.so.13")}, "libcublasLt.so.13 is not here, which libonnxruntime_"
     "providers_cuda.so needs", WHEELS),
    (CUDA, {"prints": no_library("cuda", "libcuda.so.1"), "preload": PRELOAD}, "libcublasLt.so.13 is not here", WHEELS),
    (CUDA, {"prints": no_library("cuda", "libcuda.so.1")}, "libcuda.so.1 is not here", "install NVIDIA's driver"),
    (CUDA, {"raises": NO_DEVICE.replace("{failure}", OLD)}, OLD, "update NVIDIA's driver"),
    (CUDA, {"raises": NO_DEVICE.replace("{failure}", NONE)}, NONE, "install NVIDIA's driver"),
    (TENSORRT, {"prints": no_library("tensorrt", "libnvinfer.so.10"), "raises": NO_TENSORRT},
     "libnvinfer.so.10 is not here, which libonnxruntime_providers_tensorrt.so needs",
     "pip install 'tensorrt-cu13==10.*'"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "says", "why", "mend"), RECORDED)
@pytest.mark.parametrize("partial", [False, True])
def test_a_provider_that_does_not_come_up_is_one_line_and_never_the_cpu(
    provider: str, says: dict[str, str], why: str, mend: str, partial: bool, fake: Callable[..., Path], model: Artifact
) -> None:
    name = next(key for key, (ours, _) in gpu_packages.PROVIDERS.items() if ours == provider)
    fake(**says, nodes=[[provider, "Flatten", "flat"]])
    with pytest.raises(SessionError) as raised:
        desktop.open_session(model, cuda(provider=name, partial=partial))
    assert raised.value.what == f"tiny.onnx on {provider}"
    assert why in raised.value.why and mend in raised.value.mend and "\n" not in str(raised.value)


def test_what_preloading_prints_names_the_missing_library() -> None:
    printed = "Failed to load libcudnn.so.9: libcudnn.so.9: cannot open shared object file: No such file or directory"
    error = explain("net.onnx", "", printed)
    assert error is not None and error.why == "libcudnn.so.9 is not here"
    assert bring("libnvonnxparser.so.10", "12.8") == "pip install 'tensorrt-cu12==10.*'"
    assert "driver" in bring("libcuda.so.1")
    assert explain("net.onnx", "Load model failed: protobuf parsing failed", "") is None


def test_what_webgpu_prints_of_work_it_threw_away_is_an_error() -> None:
    litert = (
        "E0000 00:00:1795392660.692266   26720 environment.cc:105] Validation error: Error while parsing WGSL: :12:25 "
        "error: 'f16' type used without 'f16' extension enabled\nconst Bt_buffer = array<f16, 36>(\n"
    )
    with pytest.raises(SessionError, match=r"no call failed: Validation error: .* enabled; run it") as raised:
        refuse_broken("net", litert, "run it on the CPU")
    assert "Bt_buffer" not in str(raised.value)
    with pytest.raises(SessionError, match=r"WebGPU device error\(3\): out of memory"):
        refuse_broken("net", "2026-11-23 [E:onnxruntime:Default, x.cc:1] WebGPU device error(3): out of memory\n", "")
    refuse_broken("net", "INFO: [delegate_webgpu.cc:363] Created a WebGPU environment.\n", "")


LEFT = [*NODES, [CPU, "Resize", "up"], [CPU, "NonZero", ""]]


def test_nodes_that_the_gpu_does_not_take_are_named_and_refused(fake: Callable[..., Path], model: Artifact) -> None:
    fake(nodes=LEFT)
    with pytest.raises(SessionError) as raised:
        desktop.open_session(model, cuda())
    line = f"{CUDA} takes 2 of the 4 nodes of tiny.onnx: it leaves Resize 'up' ({CPU}), NonZero ({CPU}); "
    assert str(raised.value).startswith(f"{line}--allow-partial")


def test_none_of_the_nodes_on_the_gpu_is_refused_also_where_some_may_be_left(
    fake: Callable[..., Path], model: Artifact
) -> None:
    fake(nodes=LEFT[2:])
    with pytest.raises(SessionError, match="takes 0 of the 2 nodes"):
        desktop.open_session(model, cuda(partial=True))


def test_a_campaign_that_may_be_partial_labels_it_everywhere(
    fake: Callable[..., Path], onnx_model: Path, tmp_path: Path
) -> None:
    fake(nodes=LEFT)
    asked = ("run", onnx_model, "--device", "desktop-gpu", "--runtime", "ort", "--budget", "1")
    refused = mobench(*asked)
    assert refused.returncode == 1 and "FAILED" in refused.stdout and "--allow-partial" in refused.stdout
    done = mobench(*asked, "--allow-partial", "--json")
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout)
    doubts = {doubt["name"]: doubt["why"] for doubt in cell["doubts"]}
    assert doubts["PARTIAL"] == f"{CUDA} runs 2 of 4 nodes, {CPU} 2: Resize 'up' ({CPU}), NonZero ({CPU})"
    assert "PARTIAL_DELEGATE" not in doubts and cell["providers"] == {CUDA: 2, CPU: 2}
    assert cell["provider"] == "cuda", "what is installed was taken, and is recorded"
    run = store.read(Path(cell["journal"]))
    assert run.header["cells"][0]["target"]["partial"] is True and "gpu" in run.header["machine"]


def test_a_run_that_fails_is_not_repeated_on_the_cpu(fake: Callable[..., Path], model: Artifact) -> None:
    fake(fails="CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED")
    for io in ("device", "host"):
        with pytest.raises(SessionError, match="CUDNN_STATUS_EXECUTION_FAILED"):
            desktop.open_session(model, cuda(io=io))


def test_an_int8_file_that_computes_in_float_is_a_doubt(fake: Callable[..., Path], model: Artifact) -> None:
    fake(nodes=[*NODES, [CUDA, "QuantizeLinear", "q"], [CUDA, "DequantizeLinear", "d"]])
    with desktop.open_session(model, cuda()) as session:
        assert "no INT8 kernels for this form: 2 nodes" in session.ready.as_float
        ((name, why),) = gpu_cells.doubts([session.ready])
        assert name == "INT8_AS_FLOAT" and why == session.ready.as_float


def test_an_engine_is_built_once_and_its_time_is_not_that_of_loading(
    fake: Callable[..., Path], model: Artifact, tmp_path: Path
) -> None:
    fake(nodes=[[TENSORRT, "Flatten", "flat"]], build_s=0.5)
    target = cuda(provider="tensorrt")
    with desktop.open_session(model, target) as session:
        first = session.ready
    with desktop.open_session(model, target) as session:
        second = session.ready
    assert first.build_ns is not None and first.build_ns > 500_000_000 > first.init_ns
    assert second.build_ns is None and second.init_ns < 500_000_000
    with desktop.open_session(model, cuda(provider="tensorrt", tf32=True)) as session:
        assert session.ready.build_ns is not None, "another way to compute is another engine"
    assert len(list((tmp_path / "cache" / "tensorrt").rglob("*.engine"))) == 2


# Packages


def test_the_build_that_is_imported_counts_and_a_clash_is_explained_with_its_mend(
    fake: Callable[..., Path], model: Artifact
) -> None:
    fake(packages={"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.30.0"}, package="onnxruntime", cuda="",
         providers=[CPU])  # fmt: skip
    with pytest.raises(BadInputError) as raised:
        desktop.open_session(model, cuda())
    assert raised.value.what == "--provider cuda needs onnxruntime-gpu"
    assert "onnxruntime-gpu 1.30.0 and onnxruntime 1.31.1 lie over one another" in raised.value.why
    assert raised.value.mend.startswith(
        "pip uninstall -y onnxruntime-gpu onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]' nvidia-ml-py"
    )
    assert gpu_packages.default_provider() == "cuda"


def test_a_build_without_the_provider_says_which_is_needed(fake: Callable[..., Path], model: Artifact) -> None:
    fake(package="onnxruntime-webgpu", cuda="", providers=[WEBGPU, CPU])
    assert gpu_packages.default_provider() == "webgpu"
    gpu_packages.require("webgpu")
    with pytest.raises(BadInputError, match=r"onnxruntime-webgpu 1\.31\.1 is installed, which has no CUDAExecutionP"):
        desktop.open_session(model, cuda())


def test_the_real_one_beside_us_is_no_clash_and_has_no_gpu() -> None:
    found = gpu_packages.installed()
    assert found.build and found.version and not found.clash
    if found.build == "onnxruntime":
        with pytest.raises(BadInputError, match="pip uninstall -y onnxruntime && pip install onnxruntime-webgpu"):
            gpu_packages.require("webgpu")


def test_no_onnxruntime_at_all_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[gpu\]'"):
        gpu_packages.require("tensorrt", gpu_packages.Installed())


def test_doctor_says_what_each_provider_lacks_and_the_line_that_mends_it(fake: Callable[..., Path]) -> None:
    fake(
        packages={"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}, prints=no_library("cuda", "libcublasLt.so.13")
    )
    done = mobench("doctor", "--json")
    assert "Traceback" not in done.stderr
    parts = {part["part"]: part for part in json.loads(done.stdout)}
    assert parts["onnxruntime"]["status"] == "note" and "lie over one another" in parts["onnxruntime"]["detail"]
    assert parts["desktop-gpu ort cuda"]["status"] == "no"
    assert "libcublasLt.so.13 is not here" in parts["desktop-gpu ort cuda"]["detail"]
    assert parts["desktop-gpu ort cuda"]["mend"] == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    assert "pip install onnxruntime-webgpu" in parts["desktop-gpu ort webgpu"]["mend"]
    assert {"NVIDIA driver", "Vulkan", "desktop-gpu litert gpu-fp16"} <= parts.keys()


def test_what_a_library_needs_is_read_from_its_headers() -> None:
    import ai_edge_litert

    library = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
    assert gpu_libraries.needed(Path(__file__)) == ()
    with library.open("rb") as file:
        assert tuple(gpu_libraries._needed(file)) == elf.read(library).needed, "another reader of ELF finds the same"
    assert gpu_libraries.missing(("libc.so.6", "libno_such_thing.so.7")) == ("libno_such_thing.so.7",)


# Plans, names and records


def test_every_way_that_a_provider_has_is_a_target() -> None:
    ways = GpuWays(ios=("device", "host"), cuda_graphs=(False, True), tf32s=(False, True))
    targets = make_targets(
        on=["desktop-gpu"], runtimes=["ort"], providers=["cuda", "webgpu"], gpu=ways, choose_cores=lambda n: (0,)
    )
    found = [(t.provider, t.io, t.cuda_graph, t.tf32) for t in targets]
    assert len(set(found)) == len(found) == 8
    assert {io for provider, io, graph, _ in found if graph} == {"device"}
    assert [t for t in found if t[0] == "webgpu"] == [("webgpu", io, False, False) for io in ("device", "host")]
    (usual,) = make_targets(on=["desktop-gpu"], runtimes=["litert"], choose_cores=lambda n: ())
    assert (usual.provider, usual.io) == ("gpu-fp16", "device")
    (cpu,) = make_targets(on=["desktop-cpu"], runtimes=["ort"], choose_cores=lambda n: ())
    assert (cpu.io, cpu.provider) == ("", "")


@pytest.mark.parametrize(
    ("on", "provider", "ways", "message"),
    [
        ("desktop-cpu", "cpu", {"ios": ("host",)}, "--io: it is for a desktop's GPU"),
        ("desktop-cpu", "cpu", {"partial": True}, "--allow-partial: it is for"),
        ("desktop-gpu", "webgpu", {"cuda_graphs": (True,)}, "--cuda-graph on: webgpu has none"),
        ("desktop-gpu", "webgpu", {"tf32s": (True,)}, "--tf32 on: webgpu has none; with --provider cuda or tensorrt"),
        ("desktop-gpu", "cuda", {"cuda_graphs": (True,), "ios": ("host",)}, "memory that stays where it is"),
    ],
)
def test_a_way_that_nothing_asked_has_is_refused(on: str, provider: str, ways: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        make_targets(on=[on], runtimes=["ort"], providers=[provider], gpu=GpuWays(**ways), choose_cores=lambda n: ())


def test_a_native_tool_has_no_desktop_gpu() -> None:
    with pytest.raises(BadInputError, match="there is none for desktop-gpu"):
        make_targets(on=["desktop-gpu"], runtimes=["benchmark_model"], choose_cores=lambda n: ())


def test_cells_of_one_file_are_told_apart_by_their_way(model: Artifact) -> None:
    cells = plan.make_cells([model], [cuda(), cuda(io="host"), cuda(cuda_graph=True), cuda(tf32=True)])
    assert [cell.id for cell in cells] == ["tiny.onnx", "tiny.onnx host", "tiny.onnx graph", "tiny.onnx tf32"]


def test_throughput_is_images_over_latency(fake: Callable[..., Path], open_batch_onnx_model: Path) -> None:
    fake(run_s=0.01)
    done = mobench(
        "run", open_batch_onnx_model, "--device", "desktop-gpu", "--runtime", "ort", "--batch", "1", "--batch", "8",
        "--budget", "1", "--json",
    )  # fmt: skip
    cells = json.loads(done.stdout)
    assert [cell["batch"] for cell in cells] == [1, 8]
    for cell in cells:
        assert cell["images_per_s"] == pytest.approx(cell["batch"] * 1000 / cell["p50_ms"])
        assert cell["p50_ms"] >= 10


def test_a_profile_on_a_gpu_is_refused_in_one_line_and_the_session_lives(
    fake: Callable[..., Path], model: Artifact
) -> None:
    fake()
    with desktop.open_session(model, cuda()) as session:
        with pytest.raises(SessionError, match="cannot be timed one by one"):
            session.profile(turns=1, lead_in=0, timed=1)
        assert len(session.time(lead_in=0, timed=2).wall_ns) == 2


def test_a_campaign_of_before_desktop_gpus_reads_as_it_was() -> None:
    run = store.read(GOLDEN / "campaign_schema3.jsonl")
    assert run.header["schema"] == 3 and run.sessions
    ready: Ready = run.sessions[0][2]
    assert (ready.io, ready.providers, ready.build_ns, ready.settings) == ("", {}, None, {})
    (summary,) = summarize(run)
    assert summary.p50_ms is not None and not {d.name for d in summary.doubts} & gpu_cells.MENDS.keys()
    assert gpu_cells.way(run.header["cells"][0]["target"]) == ("", False, False, False)
    assert gpu_cells.notes(run) == []


def test_errors_of_the_gpu_are_mobenchs_own(fake: Callable[..., Path], model: Artifact) -> None:
    fake(raises="Load model from tiny.onnx failed: Protobuf parsing failed.")
    with pytest.raises(MobenchError, match=r"ort cannot load or run tiny\.onnx: Load model from"):
        desktop.open_session(model, cuda())
