"""What several tests share: small real models in both formats, and the data folder beside the repository."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import chromium  # noqa: F401 (a fixture)
from standin.fixtures import adb_server, phone, standin  # noqa: F401 (fixtures)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, photographs and models beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (weights, photographs and models, not part of the repository)")
    return SHARED


def build_harness(folder: Path, *flags: str) -> Path:
    """Compile the phone's harness for this machine, without a warning; skip where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler, as Debian's package gcc, to build the harness")
    program = folder / "mobench-harness"
    sources = sorted(str(path) for path in (ROOT / "android_harness").glob("*.c"))
    command = [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", *flags, *sources, "-ldl", "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phone's harness, built for this machine."""
    return build_harness(tmp_path_factory.mktemp("harness"))


@pytest.fixture(autouse=True)
def _stay_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every test in a folder of its own: what it writes by default names cannot land in the repository."""
    monkeypatch.chdir(tmp_path)
    yield


def _classifier(batch: int | str) -> bytes:
    """An ONNX file: pixels [batch, 3, 8, 8] averaged a channel, then 1,000 fixed linear scores of the averages."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 1000])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ONNX classifier of 8x8 images, small enough to load in no time."""
    pytest.importorskip("onnx", reason="needs the export extra: pip install 'mobench[export]'")
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    path.write_bytes(_classifier(1))
    return path


@pytest.fixture(scope="session")
def open_batch_onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its batch axis left open."""
    pytest.importorskip("onnx", reason="needs the export extra: pip install 'mobench[export]'")
    path = tmp_path_factory.mktemp("models") / "open.onnx"
    path.write_bytes(_classifier("N"))
    return path


@pytest.fixture(scope="session")
def tflite_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real TFLite classifier of 8x8 images, converted once for the whole run."""
    torch = pytest.importorskip("torch", reason="needs the export extra: pip install 'mobench[export]'")
    litert_torch = pytest.importorskip("litert_torch", reason="needs the export extra: pip install 'mobench[export]'")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU6(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 1000),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / "tiny.tflite"
    wrapped = litert_torch.to_channel_last_io(network.eval(), args=[0])
    litert_torch.convert(wrapped, (torch.zeros(1, 8, 8, 3),)).export(str(path))
    return path


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A loopback server that answers as `answers[path]` says: (status, announced length or None, body)."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, length, body = answers[self.path]
            self.send_response(status)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        httpd.answers, httpd.asked = answers, asked
        yield httpd
        httpd.shutdown()
        thread.join()
