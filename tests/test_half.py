"""FP16 files as a GPU runs them best: FP16 throughout, the same function, the same inputs and outputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_onnxruntime import write

from mobench import artifacts
from mobench.errors import SessionError
from mobench.records import Target
from runners import desktop
from runners.half import in_half

onnx = pytest.importorskip("onnx", reason="needs the export extra: pip install 'mobench[export]'")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 (after the check that it is there)

from exporters.quantize_onnx import to_fp16  # noqa: E402


def convolution(bound: float = 6.0, extra: str = "") -> bytes:
    """An image through a convolution, a bias, a ReLU6 and its mean: [N, 3, 8, 8] to [N, 16]."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["features"]),
        helper.make_node("Constant", [], ["least"], value=numpy_helper.from_array(np.float32(0))),
        helper.make_node("Clip", ["features", "least", "most"], ["clipped"]),
        helper.make_node("GlobalAveragePool", ["clipped"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node(extra or "Identity", ["flat"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 16])],
        [
            numpy_helper.from_array(rng.standard_normal((16, 3, 3, 3)).astype(np.float32), "weight"),
            numpy_helper.from_array(rng.standard_normal(16).astype(np.float32), "bias"),
            numpy_helper.from_array(np.float32(bound), "most"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def run(model: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


@pytest.mark.parametrize("bound", [6.0, float(np.finfo(np.float32).max)])
def test_it_computes_the_same_in_fp16(bound: float) -> None:
    model = convolution(bound)
    images = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    expected, got = run(model, images), run(in_half(to_fp16(model)), images)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    assert 0 < np.abs(got - expected).max() < 5e-3 * np.abs(expected).max()


def test_nothing_but_the_ends_is_in_fp32() -> None:
    proto = onnx.load_from_string(in_half(to_fp16(convolution())))
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    assert kinds and set(kinds.values()) == {TensorProto.FLOAT16}
    assert {each.data_type for each in proto.graph.initializer} == {TensorProto.FLOAT16}
    ends = [*proto.graph.input, *proto.graph.output]
    assert {each.type.tensor_type.elem_type for each in ends} == {TensorProto.FLOAT}
    casts = [node for node in proto.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2  # the weights' own are gone


def test_an_operator_nobody_looked_at_is_refused() -> None:
    with pytest.raises(SessionError, match="Erf may need FP32"):
        in_half(to_fp16(convolution(extra="Erf")))


@pytest.mark.parametrize(
    ("precision", "extra", "arithmetic"),
    [
        ("fp16", "", "FP16"),
        ("fp16", "Erf", "FP32 (FP16 arithmetic: Erf may need FP32; run the FP32 file)"),
        ("fp32", "", None),
    ],
)
def test_a_session_on_cuda_says_what_it_computes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, extra: str, arithmetic: str | None
) -> None:
    """The real worker around a made-up ONNX Runtime; what CUDA makes of the form, only a GPU shows."""
    monkeypatch.setenv("PYTHONPATH", str(write(tmp_path / "site", {})))
    monkeypatch.setattr(desktop.gpu_packages, "require", lambda provider: None)  # it sees the real one, imported above
    path = tmp_path / "net.onnx"
    path.write_bytes(to_fp16(convolution(extra=extra)))
    artifact = replace(artifacts.read(path), precision=precision)
    with desktop.open_session(artifact, Target(device="desktop-gpu", runtime="ort", provider="cuda")) as session:
        assert session.ready.settings.get("arithmetic") == arithmetic
