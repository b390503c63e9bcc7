"""Conversion, quantization and verification, on a network small enough to convert in a second."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_export import SIZE, TinyImages, channels_first, run_onnx, tiny_module

from exporters.verify import Tolerance, check, compare, tolerance
from mobench.errors import ExportError
from mobench.records import Preprocess

torch = pytest.importorskip("torch", reason="needs mobench[export]")
onnx = pytest.importorskip("onnx", reason="needs mobench[export]")


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
    assert {tuple(tensors[n.input[1]].dims) for n in weights if len(tensors[n.input[0]].dims) == 4} >= {(16,), (64,)}
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
