"""INT8 simulated in torch, the damage of each layer, and the stages of an INT8 export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from tiny_export import SIZE, TinyImages, channels_first, request, run_onnx

from exporters.explain import Simulated, Study, layer_kinds, own_snr
from exporters.verify import compare
from mobench import artifacts
from mobench.errors import BadInputError
from mobench.records import Preprocess

torch = pytest.importorskip("torch", reason="needs mobench[export]")

from exporters import simulate  # noqa: E402 (imports torch)


class Net(torch.nn.Module):
    """A stem, a depthwise layer with h-swish and squeeze-and-excitation, a pointwise one, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.reduce, self.expand = torch.nn.Conv2d(8, 4, 1), torch.nn.Conv2d(4, 8, 1)
        self.pointwise = torch.nn.Conv2d(8, 64, 1)
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        """Map [N, 3, S, S] to [N, 10]."""
        act = torch.nn.functional
        x = act.hardswish(self.depthwise(act.relu6(self.stem(x))))
        x = x * act.hardsigmoid(self.expand(act.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return self.head(act.adaptive_avg_pool2d(act.relu(self.pointwise(x)), 1).flatten(1))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return TinyImages().images(Preprocess(size=SIZE))


@pytest.fixture
def module() -> Any:
    return Net().eval().requires_grad_(False)


def exact(module: Any, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(channels_first(images))).numpy()


def quantized(module: Any, images: np.ndarray) -> np.ndarray:
    trace = simulate.trace(module, images)
    return simulate.logits(module, images, trace, layers=trace.layers, results=trace.without(()))


# --- simulation ---


def test_layers_come_in_the_order_of_execution_with_their_kinds(module: Any, images: np.ndarray) -> None:
    kinds = layer_kinds(simulate.trace(module, images))
    assert list(kinds.items()) == [
        ("stem", "stem"),
        ("depthwise", "depthwise"),
        ("reduce", "SE"),
        ("expand", "SE"),
        ("pointwise", "pointwise"),
        ("head", "dense"),
    ]


def test_a_relu_is_fused_into_its_layer_and_an_hswish_is_not(module: Any, images: np.ndarray) -> None:
    trace = simulate.trace(module, images)
    found = [(trace.operators[n].layer, trace.operators[n].kind) for n in trace.rounded]
    assert found == [
        ("stem", "input"),
        ("stem", "hardtanh"),
        ("depthwise", "convolution"),
        ("depthwise", "hardswish"),
        ("depthwise", "mean"),
        ("reduce", "relu"),
        ("expand", "convolution"),
        ("expand", "hardsigmoid"),
        ("expand", "mul"),
        ("pointwise", "relu"),
        ("pointwise", "mean"),
    ]


def test_a_float_layers_result_is_rounded_where_a_quantized_one_reads_it(module: Any, images: np.ndarray) -> None:
    trace = simulate.trace(module, images)
    kinds = [trace.operators[n].kind for n in sorted(trace.without(()) - trace.without(["expand"]))]
    assert kinds == ["convolution", "hardsigmoid"]  # the product is read by pointwise
    assert trace.without(list(trace.layers)) == frozenset()


def test_rounding_nothing_changes_nothing_and_the_module_is_as_before(module: Any, images: np.ndarray) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trace = simulate.trace(module, images)
    plain = simulate.logits(module, images, trace, layers=(), results=())
    np.testing.assert_allclose(plain, exact(module, images), atol=1e-5)
    assert compare(plain, quantized(module, images)).snr_db < 60
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_rounding_has_256_levels_of_which_0_is_one_and_saturates() -> None:
    values = torch.linspace(-3, 9, 5000)
    rounded = simulate.rounded_result(values, -1.0, 4.1)
    assert len(rounded.unique()) == 256
    assert rounded.min() == pytest.approx(-1.0)
    assert rounded.max() == pytest.approx(4.1)
    assert 0 in rounded
    inside = (values >= -1) & (values <= 4.1)
    assert float((rounded - values)[inside].abs().max()) <= 5.1 / 255 / 2 * 1.001


def test_each_output_channel_of_a_weight_has_its_own_scale() -> None:
    weight = torch.stack([torch.linspace(-1, 1, 999), 1000 * torch.linspace(-1, 1, 999)]).reshape(2, 3, 333, 1)
    rounded = simulate.rounded_weight(weight)
    assert all(129 <= len(channel.unique()) <= 255 for channel in rounded)
    for error, largest in zip((rounded - weight).abs().flatten(1).amax(1), (1, 1000), strict=True):
        assert float(error) <= largest / 128


def test_weights_that_lie_on_a_grid_are_exact() -> None:
    steps = torch.randint(-100, 101, (4, 3, 3, 3), generator=torch.Generator().manual_seed(0)).float()
    weight = steps * torch.tensor([0.1, 0.02, 3, 0.007]).reshape(4, 1, 1, 1)
    torch.testing.assert_close(simulate.rounded_weight(weight), weight, rtol=1e-5, atol=0)


def test_it_loses_what_a_quantized_file_loses(module: Any, images: np.ndarray) -> None:
    pytest.importorskip("onnx", reason="needs mobench[export]")
    from exporters import quantize_onnx, to_onnx

    file = run_onnx(quantize_onnx.to_int8(to_onnx.convert(module, SIZE), images), channels_first(images))
    reference = exact(module, images)
    of_file, simulated = (compare(reference, logits).snr_db for logits in (file, quantized(module, images)))
    assert abs(of_file - simulated) < 6  # the file averages in INT32 what is rounded here


@pytest.mark.parametrize("in_place", [False, True])
def test_any_way_to_write_a_forward_is_simulated_alike(images: np.ndarray, in_place: bool) -> None:
    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.left, self.right = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, 4, 3)
            self.head = torch.nn.Linear(8, 5)

        def forward(self, x: Any) -> Any:
            left = torch.nn.functional.relu(self.left(x), inplace=in_place)
            right = self.right(x)
            right = right.add_(left) if in_place else right + left
            return self.head(torch.cat([left, right], 1).mean((2, 3)))

    module = Branches().eval()
    trace = simulate.trace(module, images)
    assert list(trace.layers) == ["left", "right", "head"]
    assert len(trace.rounded) == 6  # input, relu, convolution, sum, cat, mean
    found = quantized(module, images)
    Branches.forward = lambda self, x: self.head(  # type: ignore[method-assign]
        torch.cat([left := self.left(x).relu(), self.right(x) + left], 1).mean((2, 3))
    )
    np.testing.assert_array_equal(found, quantized(module, images))


def test_what_cannot_be_simulated_is_said(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no nn.Conv2d and no nn.Linear"):
        simulate.trace(torch.nn.Flatten(), images)

    class Two(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x, x

    with pytest.raises(TypeError, match="returns a tuple"):
        simulate.trace(Two(), images)


# --- damage ---


@pytest.fixture
def damaged(module: Any) -> Any:
    """The same function, but one channel of pointwise's result is 300 times as large as it need be."""
    conv, linear = module.get_submodule("pointwise"), module.get_submodule("head")
    with torch.no_grad():
        conv.weight[0] *= 300
        conv.bias[0] *= 300
        linear.weight[:, 0] /= 300
    return module


def test_the_damaged_layer_is_found(damaged: Any, images: np.ndarray) -> None:
    np.testing.assert_allclose(exact(damaged, images), exact(Net().eval(), images), atol=1e-4)
    ranking = Simulated(damaged, images)
    assert ranking.worst(1) == ("pointwise",)
    worst, *others = ranking.damages
    assert worst.kind == "pointwise"
    assert worst.alone_snr_db < min(other.alone_snr_db for other in others) - 5
    assert sum(layer.share for layer in ranking.damages) == pytest.approx(100)
    own = {layer.layer: layer.own_snr_db for layer in ranking.damages}
    assert own["pointwise"] > own["head"]  # its large channel is exact: only the logits tell what the others lost


def test_own_results_of_a_quantized_network(module: Any, images: np.ndarray) -> None:
    """The first layer reads the rounded input, which can be computed by hand."""
    trace = simulate.trace(module, images)
    first = next(iter(trace.layers.values()))
    x = torch.from_numpy(channels_first(images))
    given, result = trace.operators[simulate.INPUT], trace.operators[trace.rounded[1]]
    with torch.no_grad():
        want = first(x).clamp(0, 6)
        weight, first.weight.data = first.weight.data, simulate.rounded_weight(first.weight.data)
        got = first(simulate.rounded_result(x, given.low, given.high)).clamp(0, 6)
        first.weight.data = weight
        got = simulate.rounded_result(got, result.low, result.high)
    snr = 10 * np.log10(float(want.square().sum() / (got - want).square().sum()))
    assert own_snr(module, trace, images)["stem"] == pytest.approx(snr, abs=0.1)


def study(logits: dict[int, np.ndarray]) -> Study:
    return Study(n=4, layers=(), simulated=logits[0], kept_float=logits)


def noisy(reference: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.RandomState(0).standard_normal(reference.shape).astype(np.float32)
    return reference + noise * np.float32(reference.std() / noise.std() * 10 ** (-snr_db / 20))


def test_the_verdict_follows_the_gain() -> None:
    reference = np.random.RandomState(1).standard_normal((16, 1000)).astype(np.float32)
    few = {0: noisy(reference, 10), 1: noisy(reference, 10.5), 2: noisy(reference, 12), 4: noisy(reference, 20)}
    assert study(few).verdict(reference) == "--keep-float 2 would gain 2.0 dB (simulated); time what it costs"
    none = {0: noisy(reference, 10), 1: noisy(reference, 9.9), 8: noisy(reference, 10.8)}
    assert study(none).verdict(reference) == (
        "keeping layers in float does not pay: the worst 8 would gain 0.8 dB (simulated)"
    )


def test_the_report_has_every_stage_against_torch() -> None:
    reference = np.random.RandomState(1).standard_normal((16, 1000)).astype(np.float32)
    report = study({0: noisy(reference, 10), 1: reference}).report(
        reference, noisy(reference, 100), noisy(reference, 8), "ort"
    )
    first, *others = report["stages"]
    assert first == {"stage": "torch FP32", "snr_db": None, "top1_agreement": 100.0}
    assert [(stage["stage"], round(stage["snr_db"])) for stage in others] == [
        ("FP32 file in ort", 100),
        ("INT8 simulated in torch", 10),
        ("INT8 file in ort", 8),
    ]


# --- mobench export --explain, --keep-float ---


OPTIONS = ("mobilenet_v1", "--width", "0.25", "--size", "64", "--weights", "random", "--calibration-count", "16")


def export(*arguments: str) -> Any:
    from click.testing import CliRunner

    from mobench.cli.export import command

    return CliRunner().invoke(command, [*OPTIONS, *arguments], standalone_mode=False)


def test_export_explains_and_keeps_the_worst_in_float(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs mobench[export]")
    asked = ("--int8", "--format", "onnx", "-o", str(tmp_path), "--explain", "--keep-float", "2")
    (told,) = json.loads(export(*asked, "--json").stdout)
    assert told["status"] == "exported"
    explanation = told["explanation"]
    assert told["keep_float"] == [layer["layer"] for layer in explanation["layers"][:2]]
    assert len(explanation["layers"]) == 28
    stages = {stage["stage"]: stage["snr_db"] for stage in explanation["stages"]}
    assert stages["FP32 file in ort"] > 80
    assert stages["INT8 file in ort"] == pytest.approx(told["snr_db"], abs=0.01)
    assert abs(stages["INT8 simulated in torch"] - stages["INT8 file in ort"]) < 6
    assert [row["layers"] for row in explanation["keep_float"]] == [0, 1, 2, 4, 8]
    path = tmp_path / "mobilenet_v1_0.25_64-int8.onnx"
    assert json.loads((tmp_path / f"{path.name}.json").read_text())["explanation"] == explanation
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, f"{path.name}.json"]
    model = onnx.load(path)
    floats = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.data_type == 1}
    assert len(floats) == 2  # their weights

    again = export(*asked)
    assert "unchanged" in again.stdout
    assert "the damage of each layer" in again.stdout
    assert explanation["verdict"] in again.stdout


def test_the_key_has_what_is_kept_and_an_explanation_is_made_where_there_is_none(tmp_path: Path) -> None:
    plain = request(tmp_path, precisions=("fp32", "int8"))
    kept = replace(plain, keep_float=2)
    assert kept.key("int8") != plain.key("int8")
    assert kept.key("fp32") == plain.key("fp32")
    explained = replace(plain, explain=True)
    assert explained.key("int8") == plain.key("int8")
    for precision in ("fp32", "int8"):
        path = plain.path(precision)
        path.write_bytes(b"model")
        artifacts.write_manifest(path, plain.manifest(precision, path, {}, {}, "now"))
    assert plain.unchanged("int8") is not None
    assert explained.unchanged("int8") is None
    assert explained.unchanged("fp32") is not None
    path = plain.path("int8")
    artifacts.write_manifest(path, plain.manifest("int8", path, {}, {}, "now", explanation={"n": 8}))
    assert explained.unchanged("int8") is not None


def test_what_is_about_int8_files_of_torch_modules_needs_one(tmp_path: Path) -> None:
    for option in (["--explain"], ["--keep-float", "1"]):
        wrong = export("--fp32", *option, "-o", str(tmp_path))
        assert isinstance(wrong.exception, click.UsageError)
        assert "add --int8" in str(wrong.exception)
    pytest.importorskip("tensorflow", reason="needs mobench[tensorflow]")
    refused = export("--int8", "--explain", "--via", "tensorflow", "-o", str(tmp_path))
    assert isinstance(refused.exception, BadInputError)
    assert "made via tensorflow" in str(refused.exception)
