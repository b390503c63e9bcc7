"""INT8 for ONNX: rewrites keep the function, all runs in integers but the layers that are to stay in float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_export import SIZE, TinyImages, channels_first, run_onnx

from exporters.ranges import best_range, best_scales
from exporters.verify import compare
from mobench.errors import BadInputError
from mobench.records import Preprocess

torch = pytest.importorskip("torch", reason="needs mobench[export]")
onnx = pytest.importorskip("onnx", reason="needs mobench[export]")

LAYERS = ["stem", "depthwise", "se.reduce", "se.expand", "project", "classifier"]


def small_module() -> Any:
    """ReLU6, a depthwise convolution of 8 channels with h-swish, squeeze-and-excitation, a mean and a classifier."""
    from torch import nn
    from torch.nn import functional as F

    class SqueezeExcite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reduce, self.expand = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

        def forward(self, x: Any) -> Any:
            return x * F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.depthwise = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8)
            self.se, self.project, self.classifier = SqueezeExcite(), nn.Conv2d(8, 64, 1), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            y = self.se(F.hardswish(self.depthwise(F.relu6(self.stem(x)))))
            return self.classifier(torch.flatten(F.adaptive_avg_pool2d(F.relu(self.project(y)), 1), 1))

    torch.manual_seed(0)
    module = Small().eval()
    with torch.no_grad():
        for layer, factor in ((module.stem, 2), (module.depthwise, 4), (module.se.expand, 4)):
            layer.weight.mul_(factor)
    return module


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return TinyImages().images(Preprocess(size=SIZE))


@pytest.fixture(scope="module")
def model() -> bytes:
    from exporters import to_onnx

    return to_onnx.convert(small_module(), SIZE)


@pytest.fixture(scope="module")
def int8(model: bytes, images: np.ndarray) -> bytes:
    from exporters.quantize_onnx import to_int8

    return to_int8(model, images)


def after_optimisation(model: bytes, tmp_path: Path) -> Counter[str]:
    """Return the operators that ONNX Runtime runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


# --- names ---


def test_layers_are_named_by_their_modules(model: bytes) -> None:
    nodes = onnx.load_from_string(model).graph.node
    assert [node.name for node in nodes if node.op_type in ("Conv", "Gemm")] == LAYERS


def test_a_module_called_twice_and_one_with_unfolded_norm_have_names() -> None:
    from torch import nn

    from exporters import to_onnx

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.twice, self.plain = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
            self.matrix = nn.Parameter(torch.ones(4, 2))

        def forward(self, x: Any) -> Any:
            y = self.plain(self.twice(self.twice(self.norm(self.conv(x)).mean((2, 3)))))
            return y @ self.matrix

    nodes = onnx.load_from_string(to_onnx.convert(Own().eval(), SIZE)).graph.node
    named = [node.name for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert named[:4] == ["conv", "twice", "twice#2", "plain"]
    assert len(set(named)) == 5


# --- rewrites before quantization ---


def test_rewrites_keep_the_function_and_pad_depthwise_channels(model: bytes, images: np.ndarray) -> None:
    from exporters import onnx_rewrite
    from exporters.onnx_graph import Graph, attribute
    from exporters.quantize_onnx import _prepared

    proto = _prepared(model)
    before = run_onnx(proto.SerializeToString(), channels_first(images))
    graph = Graph(proto)
    onnx_rewrite.prepare(graph)
    graph.remove_unused()
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(run_onnx(proto.SerializeToString(), channels_first(images)), before, atol=1e-5)
    operators = Counter(node.op_type for node in proto.graph.node)
    assert operators["GlobalAveragePool"] == 2 and "ReduceMean" not in operators
    assert operators["Clip"] == 3  # ReLU6, before the h-swish, before the hard sigmoid
    depthwise = next(node for node in proto.graph.node if attribute(node, "group", 1) > 1)
    assert attribute(depthwise, "group", 1) == 16  # of 8
    assert graph.constant(depthwise.input[1]).shape == (16, 1, 3, 3)
    squeezed = next(node for node in proto.graph.node if node.name == "se.reduce")
    assert graph.constant(squeezed.input[1]).shape == (4, 16, 1, 1)


def small_graph(nodes: list[Any], constants: dict[str, Any], out: tuple[Any, ...]) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def depthwise(**more: Any) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("Conv", ["input", "point"], ["a"]),
        helper.make_node("Conv", ["a", "depth"], ["b"], group=4, **more),
    ]


def test_a_division_by_a_constant_becomes_a_product() -> None:
    from onnx import helper

    from exporters import onnx_rewrite
    from exporters.onnx_graph import Graph

    nodes = [helper.make_node("Div", ["input", "six"], ["a"]), helper.make_node("Div", ["six", "a"], ["out"])]
    proto = small_graph(nodes, {"six": np.float32(6)}, ("N", 4, 8, 8))
    inputs = np.random.default_rng(0).uniform(1, 2, (2, 4, 8, 8)).astype(np.float32)
    before = run_onnx(proto.SerializeToString(), inputs)
    onnx_rewrite.prepare(Graph(proto))
    assert [node.op_type for node in proto.graph.node] == ["Mul", "Div"]
    np.testing.assert_allclose(run_onnx(proto.SerializeToString(), inputs), before, rtol=1e-6)


@pytest.mark.parametrize("case", ["output", "softmax over channels", "a constant a channel", "mean over one axis"])
def test_rewrites_leave_alone_what_does_not_match(case: str) -> None:
    from onnx import helper

    from exporters import onnx_rewrite
    from exporters.onnx_graph import Graph

    constants: dict[str, Any] = {
        "point": np.ones((4, 4, 1, 1), np.float32),
        "depth": np.ones((4, 1, 1, 1), np.float32),
        "each": np.ones((1, 4, 1, 1), np.float32),
        "axis": np.array([2]),
    }
    last = {
        "output": helper.make_node("Relu", ["b"], ["out"]),
        "softmax over channels": helper.make_node("Softmax", ["b"], ["out"], axis=1),
        "a constant a channel": helper.make_node("Add", ["b", "each"], ["out"]),
        "mean over one axis": helper.make_node("ReduceMean", ["b", "axis"], ["out"]),
    }[case]
    shape = ("N", 4, 1, 8) if case == "mean over one axis" else ("N", 4, 8, 8)
    proto = small_graph([*depthwise(), last], constants, shape)
    before = [node.SerializeToString() for node in proto.graph.node]
    onnx_rewrite.prepare(Graph(proto))
    assert [node.SerializeToString() for node in proto.graph.node] == before


def test_a_graph_with_branches_is_only_quantized(model: bytes, images: np.ndarray) -> None:
    from exporters.onnx_graph import has_branches

    proto = onnx.load_from_string(model)
    assert not has_branches(proto)
    branch = onnx.helper.make_graph([], "b", [], [])
    proto.graph.node.append(onnx.helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))
    assert has_branches(proto)


# --- INT8 ---


def test_int8_runs_in_integers_throughout(int8: bytes, tmp_path: Path) -> None:
    operators = after_optimisation(int8, tmp_path)
    assert not {"HardSwish", "HardSigmoid", "ReduceMean", "Conv", "Gemm", "Clip", "DequantizeLinear"} & set(operators)
    assert operators["QuantizeLinear"] == 1  # of the input
    assert operators["QLinearGlobalAveragePool"] == 2
    assert operators["QLinearMul"] == 2 and operators["QLinearAdd"] == 2  # h-swish; squeeze-and-excitation
    assert operators["QGemm"] == 1


def test_int8_is_near_torch_and_takes_any_batch(model: bytes, int8: bytes, images: np.ndarray) -> None:
    import onnxruntime

    inputs = channels_first(images)
    reference = run_onnx(model, inputs)
    one_by_one = run_onnx(int8, inputs)
    assert compare(reference, one_by_one).snr_db > 22
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"input": inputs[:3]})[0], one_by_one[:3])


def test_logits_are_not_quantized(int8: bytes, images: np.ndarray) -> None:
    logits = run_onnx(int8, channels_first(images))
    assert len(np.unique(logits)) == logits.size  # 8 bits would have 256 at most, and fewer than there are logits
    proto = onnx.load_from_string(int8)
    assert next(node for node in proto.graph.node if node.output[0] == "logits").op_type == "Gemm"


def test_a_softmax_behind_the_logits_stays_in_float_with_them(model: bytes, images: np.ndarray) -> None:
    from exporters import quantize_onnx

    proto = onnx.load_from_string(model)
    proto.graph.output[0].name = "scores"
    proto.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["scores"], name="softmax"))
    nodes = onnx.load_from_string(quantize_onnx.to_int8(proto.SerializeToString(), images)).graph.node
    makers = {node.output[0]: node for node in nodes}
    assert makers["scores"].op_type == "Softmax"
    assert makers[makers["scores"].input[0]].op_type == "Gemm"


def test_int8_takes_a_file_of_an_older_opset_with_a_fixed_batch(onnx_model: Path) -> None:
    from exporters.quantize_onnx import to_int8, to_int8_dynamic

    proto = onnx.load(onnx_model)
    assert proto.opset_import[0].version == 17  # ReduceMean and others changed with 18
    proto.graph.node[0].input[0] = proto.graph.input[0].name = "input"
    images = np.random.default_rng(0).uniform(size=(8, 8, 8, 3)).astype(np.float32)
    inputs, model = channels_first(images), proto.SerializeToString()
    for quantized in (to_int8(model, images), to_int8_dynamic(model)):
        assert compare(run_onnx(model, inputs), run_onnx(quantized, inputs)).snr_db > 30


@pytest.mark.parametrize(
    ("keep", "kept"),
    [((), set()), (("depthwise",), {"depthwise"}), (("se", "classifier"), {"se.reduce", "se.expand", "classifier"})],
)
def test_keep_float_keeps_exactly_those(
    model: bytes, images: np.ndarray, keep: tuple[str, ...], kept: set[str]
) -> None:
    from exporters.quantize_onnx import to_int8

    proto = onnx.load_from_string(to_int8(model, images, keep_float=keep))
    floats = {t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    layers = {node.name: node for node in proto.graph.node if node.op_type in ("Conv", "Gemm")}
    assert set(layers) == set(LAYERS)
    assert {name for name, node in layers.items() if node.input[1] in floats} == kept


def test_keep_float_names_what_is_not_there(model: bytes, images: np.ndarray) -> None:
    from exporters.quantize_onnx import to_int8

    with pytest.raises(BadInputError, match=r"no layers of nine, se\.red"):
        to_int8(model, images, keep_float=["nine", "se.red", "stem"])


def test_biases_take_back_the_mean_error_of_rounded_weights() -> None:
    """A channel whose weights all round up answers too much on average, which its bias must take away."""
    from onnx import TensorProto, helper, numpy_helper

    from exporters.quantize_onnx import to_int8

    weights = np.full((4, 3, 1, 1), 0.4 / 127, np.float32)  # rounds to 0, and three of them to 1.2 / 127 of nothing
    weights[:, 0] = 1.0
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], name="conv"),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    images = np.random.default_rng(0).uniform(0, 1, (8, 8, 8, 3)).astype(np.float32)
    images[..., 1:] *= 100  # what the small weights read is large
    images[..., 1:] = images[..., 1:].mean()
    images /= 100
    got = numpy_helper_bias(onnx.load_from_string(to_int8(model, images)))
    np.testing.assert_allclose(got, 2 * 0.4 / 127 * images[..., 1].mean(), rtol=0.02)


def numpy_helper_bias(proto: Any) -> np.ndarray:
    """Return the real values of the only convolution's bias."""
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    dequantize = next(node for node in proto.graph.node if node.output[0] == conv.input[2])
    values: np.ndarray = arrays[dequantize.input[0]] * arrays[dequantize.input[1]]
    return values


# --- ranges ---


def test_a_range_leaves_out_one_image_that_is_unlike_the_others() -> None:
    sample = np.random.default_rng(0).standard_normal((50, 1000)).astype(np.float32)
    low, high = best_range(float(sample.min()), float(sample.max()), sample)
    assert -5 < low < -3 and 3 < high < 5
    sample[7] *= 100
    low, high = best_range(float(sample.min()), float(sample.max()), sample)
    assert -40 < low < -3 and 3 < high < 40  # of -400 to 400


def test_a_range_holds_zero_and_all_of_what_is_uniform() -> None:
    sample = np.random.default_rng(0).uniform(2, 6, (4, 1000)).astype(np.float32)
    assert best_range(2.0, 6.0, sample) == (0.0, 6.0)
    assert best_range(0.0, 0.0, sample * 0) == (0.0, 0.0)


def test_scales_find_the_grid_that_weights_lie_on_and_clip_nothing() -> None:
    random = np.random.default_rng(0)
    integers = random.integers(-100, 101, (8, 3, 3, 3))
    integers[:, 0, 0, 0] = np.arange(93, 101)  # the largest weight of a channel is no 127 steps
    grid = random.uniform(0.01, 0.1, (8, 1, 1, 1))
    np.testing.assert_allclose(best_scales((integers * grid).astype(np.float32)), grid, rtol=1e-5)
    weights = random.standard_normal((8, 1000)).astype(np.float32)
    weights[0] = 0
    scales = best_scales(weights)
    assert scales.shape == (8, 1)
    assert (np.abs(weights) <= scales * 127.001).all()


# --- INT8-dynamic ---


def test_int8_dynamic_runs_with_a_scale_a_channel(model: bytes, images: np.ndarray) -> None:
    from exporters.quantize_onnx import to_int8_dynamic

    dynamic = to_int8_dynamic(model)
    proto = onnx.load_from_string(dynamic)
    operators = Counter(node.op_type for node in proto.graph.node)
    assert operators["ConvInteger"] == 5 and operators["MatMulInteger"] == 1
    assert not {"Conv", "Gemm"} & set(operators)
    assert operators["DynamicQuantizeLinear"] == 6
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    integers = {node.name: arrays[node.input[1]] for node in proto.graph.node if node.op_type.endswith("Integer")}
    assert set(integers) == set(LAYERS)
    assert all(values.dtype == np.int8 for values in integers.values())
    assert {len(arrays[f"{node.output[0].removesuffix('.sums')}.weights.scale"].reshape(-1))
            for node in proto.graph.node if node.op_type == "ConvInteger"} == {8, 4, 64}  # fmt: skip
    inputs = channels_first(images)
    assert compare(run_onnx(model, inputs), run_onnx(dynamic, inputs)).snr_db > 25
