"""Bias correction of TFLite files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_export import SIZE, TinyImages, channels_first

from mobench.records import Preprocess

torch = pytest.importorskip("torch", reason="needs mobench[export]")
pytest.importorskip("litert_torch", reason="needs mobench[export]")

from exporters import to_tflite  # noqa: E402 (imports litert_torch)
from exporters.tflite_biases import correct_biases  # noqa: E402
from exporters.tflite_graph import WEIGHTED, Graph  # noqa: E402
from exporters.tflite_ranges import weight_ranges  # noqa: E402


class Net(torch.nn.Module):
    """One layer of each kind, two of them without a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3, 2, bias=False)
        self.depthwise = torch.nn.Conv2d(8, 16, 3, groups=8)
        self.grouped = torch.nn.Conv2d(16, 12, 1, groups=4)
        self.head = torch.nn.Linear(12, 5, bias=False)

    def forward(self, x: Any) -> Any:
        """Map [N, 3, S, S] to [N, 5]."""
        return self.head(self.grouped(self.depthwise(self.conv(x).relu()).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return 1 + TinyImages().images(Preprocess(size=SIZE))  # a mean of 0 would leave nothing to correct


@pytest.fixture(scope="module")
def module() -> Any:
    return Net().eval().requires_grad_(False)


def outputs(module: Any, images: np.ndarray) -> dict[str, Any]:
    """Return each layer's mean over images and positions, [C]."""
    found: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def keep(_layer: Any, _given: Any, result: Any) -> None:
            found[name] = result.transpose(0, 1).flatten(1).mean(1)

        return keep

    hooks = [layer.register_forward_hook(hook(name)) for name, layer in module.named_children()]
    with torch.no_grad():
        module(torch.from_numpy(channels_first(images)))
    for hook in hooks:
        hook.remove()
    return found


def test_means_are_those_of_the_float_network(module: Any, images: np.ndarray) -> None:
    """The corrected biases, put beside the rounded weights in torch, give each layer's mean back."""
    import copy

    model = to_tflite.convert(module, SIZE)
    graph, changed = Graph(model), Graph(correct_biases(model, images))
    layers = [operator for operator in changed.operators if changed.kind(operator) in WEIGHTED]
    ranges = weight_ranges(graph)
    exact = outputs(module, images)
    for name in ("conv", "depthwise", "grouped", "head"):
        operator = next(each for each in layers if changed.in_module(each, name))
        rounded = copy.deepcopy(module)
        layer = rounded.get_submodule(name)
        scale = torch.from_numpy(ranges[changed.name(int(operator.inputs[1]))][1] / 127).float().reshape(-1)
        scale = scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        layer.weight.data = (layer.weight / scale).round() * scale
        off = float((outputs(rounded, images)[name] - exact[name]).abs().max())
        layer.bias = torch.nn.Parameter(
            torch.from_numpy(changed.constant(int(operator.inputs[2]))), requires_grad=False
        )
        left = float((outputs(rounded, images)[name] - exact[name]).abs().max())
        assert left < 0.1 * off, name


def test_layers_that_stay_in_float_keep_their_biases(module: Any, images: np.ndarray) -> None:
    model = to_tflite.convert(module, SIZE)
    kept = Graph(correct_biases(model, images, keep_float=["depthwise", "grouped", "conv", "head"]))
    before = Graph(model)
    for old, new in zip(before.operators, kept.operators, strict=True):
        assert list(old.inputs) == list(new.inputs)


def test_a_layer_whose_inputs_are_no_channels_has_no_shift() -> None:
    """A fully connected layer may flatten what it reads: the last axis is then no measure of its inputs."""
    from exporters.tflite_biases import _shift

    graph = Graph(to_tflite.convert(Net().eval(), SIZE))
    dense = next(each for each in graph.operators if graph.kind(each) == "FULLY_CONNECTED")
    scale = np.ones((5, 1))
    found = _shift(graph, dense, scale, np.ones(12))
    assert found is not None and found.shape == (5,)
    assert _shift(graph, dense, scale, np.ones(4)) is None
