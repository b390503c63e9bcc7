"""Conversion, quantization and verification, on a network small enough to convert in a second."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters import worker
from exporters.export import Outcome, _finish, export_all
from exporters.recipe import Request
from exporters.verify import Tolerance, check, compare, tolerance
from mobench import artifacts
from mobench.errors import ExportError, SessionError
from mobench.records import Preprocess

torch = pytest.importorskip("torch", reason="needs mobench[export]")
onnx = pytest.importorskip("onnx", reason="needs mobench[export]")

SIZE = 32
CLASSES = 10


def tiny_module() -> Any:
    """A stem, a depthwise layer with squeeze-and-excitation, h-swish and a classifier: each kind of operator once."""
    from torch import nn

    from mobench.zoo.blocks import ConvBN, Dense, Pool, SqueezeExcite
    from mobench.zoo.spec import Layer

    common: dict[str, Any] = {"padding": "same", "bn_eps": 1e-3}
    torch.manual_seed(0)
    module = nn.Sequential(
        ConvBN(3, 8, 3, stride=2, act="relu6", size=SIZE, **common),
        ConvBN(8, 8, 3, groups=8, act="hardswish", size=SIZE // 2, **common),
        SqueezeExcite(8, 4),
        ConvBN(8, 64, 1, act="relu", size=SIZE // 2, **common),
        Pool(),
        Dense(Layer(kind="dense", inp=64, out=CLASSES, size=1)),
    )
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return module.eval()


def channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class TinyWeights:
    """Stands in for the zoo's weights; `how` is what goes wrong when they are built, in the worker."""

    how: str = ""

    @property
    def preprocess(self) -> Preprocess:
        """Of the size the module reads."""
        return Preprocess(size=SIZE)

    @property
    def origin(self) -> dict[str, Any]:
        """As of a checkpoint, so that the tolerances are those of trained weights."""
        return {"kind": "file", "source": "tiny", "sha256": "0", "how": self.how}

    def build(self, images: Any) -> Any:
        """Return the module, or fail."""
        if self.how == "abort":
            os.abort()
        if self.how == "hang":
            time.sleep(120)
        if self.how == "raise":
            print("the library's own words")
            raise RuntimeError("no such operator\nand a second line")
        return tiny_module()


@dataclass(frozen=True)
class TinyImages:
    """Stands in for a calibration set."""

    n: int = 8
    sha256: str = "1"

    def images(self, p: Preprocess) -> np.ndarray:
        """Noise."""
        return np.random.RandomState(0).standard_normal((self.n, p.size, p.size, 3)).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """As a manifest has it."""
        return {"name": "tiny", "sha256": self.sha256, "n": self.n, "seed": 0}


def request(folder: Path, how: str = "", label: str = "tiny", precisions: tuple[str, ...] = ("fp32",)) -> Request:
    network = {"name": "tiny", "label": label, "width": 1.0, "input_size": SIZE, "padding": "same", "bn_eps": 1e-3}
    return Request(
        network=network,
        weights=TinyWeights(how),
        calibration=TinyImages(),
        format="onnx",
        precisions=precisions,
        folder=folder,
    )


def run_onnx(model: bytes | Path, inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": one[None]})[0] for one in inputs])


def run_tflite(model: bytes, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    found = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(found)


def tflite_operators(model: bytes) -> Counter[str]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    return Counter(node["op_name"] for node in interpreter._get_ops_details())


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return TinyImages().images(Preprocess(size=SIZE))


@pytest.fixture(scope="module")
def logits(images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return tiny_module()(torch.from_numpy(channels_first(images))).numpy()


@pytest.fixture(scope="module")
def float_onnx() -> bytes:
    from exporters import fold, to_onnx

    return to_onnx.convert(fold.fold_batch_norm(tiny_module()), SIZE)


@pytest.fixture(scope="module")
def float_tflite() -> bytes:
    pytest.importorskip("litert_torch", reason="needs mobench[export]")
    from exporters import fold, to_tflite

    return to_tflite.convert(fold.fold_batch_norm(tiny_module()), SIZE)


# --- folding ---


def test_folding_leaves_no_batch_norm_and_the_same_function(images: np.ndarray, logits: np.ndarray) -> None:
    from exporters.fold import fold_batch_norm

    module = tiny_module()
    folded = fold_batch_norm(module)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules()) == 3  # the original is untouched
    with torch.inference_mode():
        np.testing.assert_allclose(folded(torch.from_numpy(channels_first(images))).numpy(), logits, atol=1e-5)


# --- ONNX ---


def test_onnx_is_as_torch_and_clean(float_onnx: bytes, images: np.ndarray, logits: np.ndarray) -> None:
    model = onnx.load_from_string(float_onnx)
    onnx.checker.check_model(model, full_check=True)
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Conv"] == 5
    assert not {"BatchNormalization", "Transpose", "Identity", "Dropout"} & set(operators)
    assert operators["HardSwish"] == 1  # one fused operator, not its parts
    assert compare(logits, run_onnx(float_onnx, channels_first(images))).max_rel_error < 1e-5


def test_onnx_names_no_file_of_this_machine(float_onnx: bytes) -> None:
    assert b".py" not in float_onnx
    assert str(Path.home()).encode() not in float_onnx


def test_onnx_fp16_halves_the_weights_and_keeps_the_biases(
    float_onnx: bytes, images: np.ndarray, logits: np.ndarray
) -> None:
    from exporters.quantize_onnx import to_fp16

    stored = onnx.load_from_string(to_fp16(float_onnx))
    types = {t.name: t.data_type for t in stored.graph.initializer}
    assert all(kind == onnx.TensorProto.FLOAT16 for name, kind in types.items() if "weight" in name)
    assert all(kind == onnx.TensorProto.FLOAT for name, kind in types.items() if "bias" in name)
    difference = compare(logits, run_onnx(to_fp16(float_onnx), channels_first(images)))
    assert 0 < difference.max_rel_error < 0.01
    assert stored.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_onnx_fp16_refuses_a_weight_that_does_not_fit(float_onnx: bytes) -> None:
    from exporters.quantize_onnx import to_fp16

    model = onnx.load_from_string(float_onnx)
    index = next(i for i, t in enumerate(model.graph.initializer) if len(t.dims) == 4)
    big = onnx.numpy_helper.to_array(model.graph.initializer[index]) * 1e9
    name = model.graph.initializer[index].name
    model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(big, name))
    with pytest.raises(OverflowError, match="does not fit into FP16"):
        to_fp16(model.SerializeToString())


def test_onnx_int8_has_a_scale_a_channel_and_float_ends(
    float_onnx: bytes, images: np.ndarray, logits: np.ndarray
) -> None:
    from exporters.quantize_onnx import to_int8

    quantized = to_int8(float_onnx, images)
    model = onnx.load_from_string(quantized)
    tensors = {t.name: t for t in model.graph.initializer}
    weights = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in tensors]
    types = {tensors[node.input[0]].data_type for node in weights if len(tensors[node.input[0]].dims) == 4}
    assert types == {onnx.TensorProto.INT8}
    assert {tuple(tensors[n.input[1]].dims) for n in weights if len(tensors[n.input[0]].dims) == 4} >= {(8,), (64,)}
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    check(compare(logits, run_onnx(quantized, channels_first(images))), Tolerance(min_snr_db=20), "int8")


# --- TFLite ---


def test_tflite_is_as_torch_and_clean(float_tflite: bytes, images: np.ndarray, logits: np.ndarray) -> None:
    assert compare(logits, run_tflite(float_tflite, images)).max_rel_error < 1e-5
    operators = tflite_operators(float_tflite)
    assert operators["CONV_2D"] == 4
    assert operators["DEPTHWISE_CONV_2D"] == 1
    assert operators["HARD_SWISH"] == 1
    assert not {"TRANSPOSE", "PAD", "CAST", "QUANTIZE", "DEQUANTIZE"} & set(operators)


def test_tflite_fp16_stores_half_and_computes_nearly_the_same(
    float_tflite: bytes, images: np.ndarray, logits: np.ndarray
) -> None:
    from exporters.quantize_tflite import to_fp16

    stored = to_fp16(float_tflite)
    assert tflite_operators(stored)["DEQUANTIZE"] == 6  # one a weight
    assert 0 < compare(logits, run_tflite(stored, images)).max_rel_error < 0.01


def test_tflite_int8_quantizes_all_between_float_ends(
    float_tflite: bytes, images: np.ndarray, logits: np.ndarray
) -> None:
    from exporters.quantize_tflite import to_int8

    quantized = to_int8(float_tflite, images)
    operators = tflite_operators(quantized)
    assert operators["QUANTIZE"] == operators["DEQUANTIZE"] == 1
    check(compare(logits, run_tflite(quantized, images)), Tolerance(min_snr_db=20), "int8")


def test_tflite_int8_does_not_depend_on_the_images_order(float_tflite: bytes, images: np.ndarray) -> None:
    from exporters.quantize_tflite import to_int8

    assert to_int8(float_tflite, images) == to_int8(float_tflite, images[::-1].copy())


# --- verification ---


def test_comparison_of_known_outputs() -> None:
    reference = np.array([[4.0, 0.0, -4.0], [0.0, 2.0, -2.0]], np.float32)
    other = reference + np.array([[0.1, 0.1, 0.1], [0.0, -2.0, 2.0]], np.float32)
    found = compare(reference, other)
    assert found.n == 2
    assert found.max_abs_error == pytest.approx(2.0)
    assert found.mean_abs_error == pytest.approx((0.3 + 4.0) / 6)
    assert found.max_rel_error == pytest.approx(0.5)
    # The first image differs by a constant only, which is no noise; signal 32 + 8, noise 8.
    assert found.snr_db == pytest.approx(10 * np.log10(40 / 8))
    assert found.top1_agreement == 50.0


def test_equal_outputs_and_constant_ones() -> None:
    reference = np.array([[1.0, 2.0, 3.0]], np.float32)
    assert compare(reference, reference).snr_db == 150
    assert compare(reference, np.zeros_like(reference)).snr_db == pytest.approx(0)
    assert compare(np.ones_like(reference), reference).snr_db == -150


@pytest.mark.parametrize(
    ("logits", "message"),
    [(np.zeros((2, 4)), "outputs of shape"), (np.array([[np.nan, 0, 0], [0, 0, 0]]), "not finite")],
)
def test_outputs_that_cannot_be_compared(logits: np.ndarray, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        compare(np.ones((2, 3), np.float32), logits)


def test_a_broken_bound_is_named_with_its_figure() -> None:
    found = compare(np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32))
    with pytest.raises(
        ExportError, match=r"net-fp32.onnx is too far from torch: largest error 1 of .* \(at most 0.001\)"
    ):
        check(found, tolerance("fp32", trained=True), "net-fp32.onnx")
    with pytest.raises(ExportError, match=r"signal-to-noise -6.0 dB \(at least 5\)"):
        check(found, tolerance("int8", trained=True), "net-int8.onnx")


# --- the worker ---


def converted(what: Request) -> list[worker.Message]:
    messages: list[worker.Message] = []
    worker.convert(what, messages.append, worker.Kept(), worker.Kept())
    return messages


def test_worker_sends_the_reference_then_each_file(tmp_path: Path, logits: np.ndarray) -> None:
    reference, *files, done = converted(request(tmp_path, precisions=("fp32", "int8")))
    assert isinstance(reference, worker.Reference)
    np.testing.assert_allclose(reference.logits, logits, atol=1e-5)
    assert isinstance(done, worker.Done)
    found = [(f.precision, f.path.name[0], f.path.suffix) for f in files if isinstance(f, worker.Converted)]
    assert found == [("fp32", ".", ".onnx"), ("int8", ".", ".onnx")]


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    failed = next(m for m in converted(request(tmp_path)) if isinstance(m, worker.Failed))
    assert str(failed.error) == (
        f"cannot write {tmp_path / 'tiny-fp32.onnx'}: No space left on device;"
        " free some space, or name another folder with -o"
    )
    assert list(tmp_path.iterdir()) == []


def test_full_disk_at_the_manifest_leaves_no_file_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: np.ndarray, logits: np.ndarray
) -> None:
    def refuse(path: Path, manifest: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(artifacts, "write_manifest", refuse)
    begun = tmp_path / ".tiny-fp32.1.onnx"
    begun.write_bytes(b"model")
    reference = worker.Reference(images=images, logits=logits)
    with pytest.raises(ExportError, match=r"cannot write .*No space left on device"):
        _finish(request(tmp_path), "fp32", begun, reference, lambda path, inputs: logits)
    assert list(tmp_path.iterdir()) == []


# --- worker processes ---


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes unpickle what this file defines."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def predict_onnx(path: Path, inputs: np.ndarray) -> np.ndarray:
    return run_onnx(path, inputs)


def by_label(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    return {f"{outcome.label}-{outcome.precision}": outcome for outcome in outcomes}


@pytest.mark.usefixtures("importable")
def test_failures_are_outcomes_and_do_not_stop_the_others(tmp_path: Path) -> None:
    """One worker meets an exception, an abort, a file that came out wrong and one that does not run, and goes on."""

    def predict(path: Path, inputs: np.ndarray) -> np.ndarray:
        if "wrong" in path.name:  # as if a weight had been damaged on the way
            return np.zeros((len(inputs), CLASSES), np.float32)
        if "dies" in path.name:
            raise SessionError(path.name, "its process ended (killed by SIGABRT)", "try the other runtime")
        return run_onnx(path, inputs)

    requests = [
        request(tmp_path, "raise", "raises"),
        request(tmp_path, "abort", "aborts"),
        request(tmp_path, "", "wrong"),
        request(tmp_path, "", "dies"),
        request(tmp_path, "", "good", ("fp32", "int8")),
    ]
    found = by_label(export_all(requests, predict=predict, jobs=1))
    errors = {label: str(outcome.error) for label, outcome in found.items() if outcome.error}
    assert errors.keys() == {"raises-fp32", "aborts-fp32", "wrong-fp32", "dies-fp32"}
    assert "could not be exported: RuntimeError: no such operator; see --verbose" in errors["raises-fp32"]
    assert "the library's own words" in found["raises-fp32"].log
    assert "and a second line" in found["raises-fp32"].log
    assert "killed by SIGABRT" in errors["aborts-fp32"]
    assert "wrong-fp32.onnx is too far from torch" in errors["wrong-fp32"]
    assert "dies-fp32.onnx does not run" in errors["dies-fp32"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["good-fp32.onnx", "good-fp32.onnx.json", "good-int8.onnx", "good-int8.onnx.json"]

    manifest = found["good-int8"].manifest
    assert manifest["calibration"] == TinyImages().describe()
    assert found["good-fp32"].manifest["calibration"] is None
    assert manifest["verification"]["tolerance"] == {"max_rel_error": None, "min_snr_db": 5.0}
    assert manifest["verification"]["n"] == 8

    again = by_label(export_all([requests[-1]], predict=predict))
    assert {outcome.status for outcome in again.values()} == {"unchanged"}
    assert again["good-int8"].manifest == manifest

    (tmp_path / "good-fp32.onnx").write_bytes(b"damaged")
    statuses = {label: o.status for label, o in by_label(export_all([requests[-1]], predict=predict)).items()}
    assert statuses == {"good-fp32": "exported", "good-int8": "unchanged"}


@pytest.mark.usefixtures("importable")
def test_closing_the_iterator_ends_the_workers_and_leaves_nothing_begun(tmp_path: Path) -> None:
    outcomes = export_all(
        [request(tmp_path, "", "first"), request(tmp_path, "hang", "second")], predict=predict_onnx, jobs=1
    )
    assert next(outcomes).label == "first"
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < 30  # not the two minutes the worker would have slept
    assert not [thread for thread in threading.enumerate() if thread.name == "mobench-export"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first-fp32.onnx", "first-fp32.onnx.json"]


# --- keys ---


def test_the_key_follows_what_determines_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    plain = request(tmp_path)
    keys = {
        plain.key("fp32"),
        plain.key("int8"),
        replace(plain, format="tflite").key("fp32"),
        replace(plain, weights=TinyWeights("other")).key("fp32"),
        replace(plain, network={**plain.network, "padding": "symmetric"}).key("fp32"),
        replace(plain, calibration=TinyImages(sha256="2")).key("int8"),
    }
    assert len(keys) == 6
    # Other photographs do not change a float file of given weights, nor does the folder it lies in.
    assert replace(plain, calibration=TinyImages(sha256="2")).key("fp32") == plain.key("fp32")
    assert replace(plain, folder=tmp_path / "elsewhere").key("fp32") == plain.key("fp32")
    version: Callable[[str], str] = lambda name: "99"  # noqa: E731
    monkeypatch.setattr("importlib.metadata.version", version)
    assert plain.key("fp32") not in keys
