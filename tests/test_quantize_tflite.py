"""INT8 in the TFLite format: what is spelled out keeps its function, ranges and scales, and layers left in float."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from test_exporters import run_tflite
from tiny_export import SIZE, TinyImages, channels_first

from exporters.verify import Tolerance, check, compare
from mobench.errors import BadInputError
from mobench.records import Preprocess
from runners.litert import count_delegated

torch = pytest.importorskip("torch", reason="needs mobench[export]")
pytest.importorskip("litert_torch", reason="needs mobench[export]")

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


def nodes(model: bytes) -> list[dict[str, Any]]:
    """The nodes as the interpreter lists them, DELEGATE nodes behind the others."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    return list(interpreter._get_ops_details())


def kinds(model: bytes) -> Counter[str]:
    return Counter(node["op_name"] for node in nodes(model))


def in_one_piece(model: bytes) -> bool:
    listed = nodes(model)
    delegated, total, left = count_delegated(listed)
    return delegated == total and not left and sum(node["op_name"] == "DELEGATE" for node in listed) == 1


def float_layers(model: bytes) -> set[str]:
    """The modules whose weights are float32, told by the last scopes of the tensor's name: `Conv2d_reduce`."""
    from exporters.tflite_graph import Graph

    graph = Graph(model)
    weights = [int(operator.inputs[1]) for operator in graph.operators if graph.kind(operator) in CONVOLUTIONS]
    scopes = [graph.name(tensor).split(";")[0].split("/")[2:] for tensor in weights if graph.is_float(tensor)]
    return {".".join(scope.rpartition("_")[2] for scope in named) for named in scopes}


def hard_swishes() -> Any:
    """An h-swish that is also added to what follows, so that nothing takes its 1/6, then one behind which SE is."""
    from torch import nn

    class Excite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reduce, self.expand, self.gate = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1), nn.Hardsigmoid()

        def forward(self, x: Any) -> Any:
            return x * self.gate(self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, 2, 1)
            self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
            self.expand = nn.Conv2d(8, 24, 1)
            self.se = Excite()
            self.project = nn.Conv2d(24, 16, 1)
            self.linear = nn.Linear(16, 10)
            self.act = nn.Hardswish()

        def forward(self, x: Any) -> Any:
            x = self.act(self.stem(x))
            x = x + self.depthwise(x)
            x = self.project(self.se(self.act(self.expand(x))))
            return self.linear(x.mean((2, 3)))

    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return TinyImages(n=16).images(Preprocess(size=SIZE))


@pytest.fixture(scope="module")
def model() -> bytes:
    from exporters import to_tflite

    return to_tflite.convert(hard_swishes(), SIZE)


@pytest.fixture(scope="module")
def logits(images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return hard_swishes()(torch.from_numpy(channels_first(images))).numpy()


def test_what_is_spelled_out_keeps_its_function(model: bytes, images: np.ndarray, logits: np.ndarray) -> None:
    from exporters.tflite_graph import Graph
    from exporters.tflite_rewrite import spell_out

    graph = Graph(model)
    before = Counter(map(graph.kind, graph.operators))
    spell_out(graph)
    after = Counter(map(graph.kind, graph.operators))
    assert before["HARD_SWISH"] == 2
    assert after["HARD_SWISH"] == 0
    # x * relu6(x + 3) twice, 1/6 once behind the stem; the hard sigmoid's multiplication by 1/6 is gone.
    assert (after["ADD"] - before["ADD"], after["MUL"] - before["MUL"]) == (2, 2 + 1 - 1)
    assert compare(logits, run_tflite(graph.content(), images)).max_rel_error < 1e-5


def test_a_graph_with_nothing_to_spell_out_stays_as_it_is(images: np.ndarray) -> None:
    from exporters import to_tflite
    from exporters.tflite_graph import Graph
    from exporters.tflite_rewrite import spell_out

    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3600, 5))
    made = to_tflite.convert(plain.eval(), SIZE)
    graph = Graph(made)
    kept = Graph(made).content()
    spell_out(graph)
    assert graph.content() == kept


def test_int8_is_in_one_piece_and_h_swish_still(model: bytes, images: np.ndarray, logits: np.ndarray) -> None:
    from exporters.quantize_tflite import to_int8

    quantized = to_int8(model, images)
    assert "HARD_SWISH" not in kinds(quantized)
    assert in_one_piece(quantized)
    assert float_layers(quantized) == set()
    check(compare(logits, run_tflite(quantized, images)), Tolerance(min_snr_db=30), "int8")


@pytest.mark.parametrize(
    ("modules", "left"),
    [
        (["depthwise"], {"depthwise"}),
        (["stem", "linear"], {"stem", "linear"}),
        (["se.reduce"], {"se.reduce"}),
        (["se"], {"se.reduce", "se.expand"}),
        (["expand"], {"expand"}),  # and not se.expand
    ],
)
def test_layers_left_in_float_are_those_named(
    model: bytes, images: np.ndarray, logits: np.ndarray, modules: list[str], left: set[str]
) -> None:
    from exporters.quantize_tflite import to_int8

    quantized = to_int8(model, images, keep_float=modules)
    assert float_layers(quantized) == left
    # The activation behind a float layer stays in float, where the fused operator is best.
    assert kinds(quantized)["HARD_SWISH"] == len({"stem", "expand"} & left)
    check(compare(logits, run_tflite(quantized, images)), Tolerance(min_snr_db=30), "int8")


def test_all_layers_in_float_are_the_float_file(model: bytes, images: np.ndarray, logits: np.ndarray) -> None:
    from exporters.quantize_tflite import to_int8

    kept = ["stem", "depthwise", "expand", "se", "project", "linear"]
    assert compare(logits, run_tflite(to_int8(model, images, keep_float=kept), images)).max_rel_error < 1e-5


def test_a_softmax_behind_the_logits_stays_in_float_and_names_are_whole_ones(images: np.ndarray) -> None:
    """`conv` is not what `dw_conv` ends in."""
    from torch import nn

    from exporters import to_tflite
    from exporters.quantize_tflite import to_int8
    from exporters.tflite_graph import Graph

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dw_conv = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, groups=8)
            self.head = nn.Linear(8, 10)

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.head(self.dw_conv(torch.relu(self.conv(x))).mean((2, 3))), -1)

    torch.manual_seed(0)
    made = to_int8(to_tflite.convert(Net().eval().requires_grad_(False), SIZE), images, keep_float=("conv",))
    graph = Graph(made)
    softmax = next(operator for operator in graph.operators if graph.kind(operator) == "SOFTMAX")
    (dense,) = (operator for operator in graph.operators if softmax.inputs[0] in operator.outputs)
    assert graph.kind(dense) == "FULLY_CONNECTED" and graph.is_float(int(dense.inputs[0]))
    assert not graph.is_float(int(dense.inputs[1]))
    layers = [each for each in graph.operators if graph.kind(each) in CONVOLUTIONS]
    of_layers = {graph.kind(each): graph.is_float(int(each.inputs[1])) for each in layers}
    assert of_layers["CONV_2D"] and not of_layers["DEPTHWISE_CONV_2D"]


def test_what_cannot_be_quantized_is_told_in_a_line(model: bytes, images: np.ndarray) -> None:
    from exporters.quantize_tflite import to_int8

    with pytest.raises(BadInputError, match=r"no layers of 9\.conv to keep in float"):
        to_int8(model, images, keep_float=["stem", "9.conv"])
    with pytest.raises(BadInputError, match="quantized already"):
        to_int8(to_int8(model, images), images)
    with pytest.raises(BadInputError, match=r"reads \[\(32, 32, 3\)\], the images are \(16, 16, 3\)"):
        to_int8(model, images[:, ::2, ::2].copy())


def test_a_border_of_minus_infinity_spoils_no_range(images: np.ndarray) -> None:
    """What torch pads a maximum pooling with, here where zero would not do as well."""
    from exporters import to_tflite
    from exporters.quantize_tflite import to_int8

    torch.manual_seed(0)
    pooled = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.MaxPool2d(3, 2, 1), torch.nn.Flatten(), torch.nn.Linear(8 * 15 * 15, 10)
    ).eval()
    made = to_tflite.convert(pooled.requires_grad_(False), SIZE)
    assert "PADV2" in kinds(made)
    check(
        compare(run_tflite(made, images), run_tflite(to_int8(made, images), images)), Tolerance(min_snr_db=30), "int8"
    )


def test_dynamic_int8_runs(model: bytes, images: np.ndarray, logits: np.ndarray) -> None:
    from exporters.quantize_tflite import to_int8_dynamic

    quantized = to_int8_dynamic(model)
    assert float_layers(quantized) == {"depthwise"}
    assert in_one_piece(quantized)
    check(compare(logits, run_tflite(quantized, images)), Tolerance(min_snr_db=30), "int8-dynamic")


def test_ranges_are_those_whose_logits_are_closest(model: bytes, images: np.ndarray, monkeypatch) -> None:
    """An image unlike the others holds nearly all of the logits' power, which ranges of the typical image clip."""
    from exporters import quantize_tflite
    from exporters.quantize_tflite import to_int8
    from exporters.tflite_ranges import logits, widest

    odd = images.copy()
    odd[0] *= 50
    judged = odd[:32]
    exact = logits(model, judged)
    chosen = compare(exact, logits(to_int8(model, odd), judged)).snr_db
    monkeypatch.setattr(quantize_tflite, "choose", lambda graph, observed: widest(observed))
    whole = compare(exact, logits(to_int8(model, odd), judged)).snr_db
    assert chosen >= whole


def test_large_weights_are_quantized_in_parts_to_the_same_bytes(model: bytes, images: np.ndarray, monkeypatch) -> None:
    from exporters import large_weights, quantize_tflite

    whole = quantize_tflite.to_int8(model, images)
    parts, halves = [], large_weights._of_rows
    monkeypatch.setattr(large_weights, "_MOST_BYTES", 256)
    monkeypatch.setattr(large_weights, "_of_rows", lambda *given: parts.append(len(given[1])) or halves(*given))
    assert quantize_tflite.to_int8(model, images) == whole and len(parts) > 4
