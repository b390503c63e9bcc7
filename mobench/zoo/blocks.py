"""The blocks networks are made of, as torch modules: NCHW float32 in and out. A block's parts are its layer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobench.zoo.rows import Activation, Gate
from mobench.zoo.spec import Layer, Padding, Part


class SpelledHardswish(nn.Module):
    """x * relu6(x + 3) / 6 out of elementary operators: the papers' "unoptimised" h-swish."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself."""
        return F.relu6(x + 3) * x / 6  # in this order no converter recognises it and fuses it again


# Hardswish and Hardsigmoid as modules: both exporters turn them into one fused operator.
ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "hardswish_spelled": SpelledHardswish,
    "silu": nn.SiLU,
}
GATES: Mapping[Gate, Callable[[], nn.Module]] = {
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What all blocks of a network share."""

    padding: Padding
    bn_eps: float


class ConvBN(nn.Module):
    """Convolution, batch norm (or a bias instead), activation.

    TF SAME padding depends on the input's size. It is applied as an explicit pad only where it differs from symmetric
    padding (stride above 1), which the TFLite converter fuses into a SAME convolution.
    """

    def __init__(self, part: Part, rules: Rules) -> None:
        super().__init__()
        self.border, pad = border(part.size, part.kernel, part.stride, part.pad, rules.padding)
        self.conv = nn.Conv2d(part.inp, part.out, part.kernel, part.stride, pad, groups=part.groups, bias=part.bias)
        self.bn = nn.BatchNorm2d(part.out, eps=rules.bn_eps) if part.norm else nn.Identity()
        self.act = ACTIVATIONS[part.act]()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        if self.border:
            x = F.pad(x, self.border)
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


Border = tuple[int, int, int, int]


def border(size: int, kernel: int, stride: int, pad: int | None, padding: Padding) -> tuple[Border | None, int]:
    """Return the explicit border (left, right, top, bottom), if one is needed, and the operator's own padding.

    ``pad`` None is the usual border: SAME, or kernel // 2 on each side.
    """
    if pad is not None:
        return None, pad
    if padding == "symmetric" or stride == 1:
        return None, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = total // 2  # the odd pixel goes to the right and bottom
    if before == total - before:
        return None, before  # the operator's own: SAME is symmetric here
    return (before, total - before, before, total - before), 0


class SqueezeExcite(nn.Module):
    """Global average, 1x1 convolution to the reduced width, activation, 1x1 back, gate; scales the channels."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        rule = layer.rule.se
        assert rule is not None
        reduce, expand = (part for part in layer.parts if part.role == "se")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(reduce.inp, reduce.out, 1, bias=rule.bias)
        self.act = ACTIVATIONS[rule.act or layer.act]()
        self.expand = nn.Conv2d(expand.inp, expand.out, 1, bias=rule.bias)
        self.gate = GATES[rule.gate]()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        scale: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return x * scale


class Block(nn.Module):
    """A block's parts under their names, and its squeeze-and-excitation under `se` (the identity without one)."""

    def __init__(self, layer: Layer, rules: Rules) -> None:
        super().__init__()
        for part in layer.parts:
            if part.role != "se":
                self.add_module(part.name, ConvBN(part, rules))
        self.se: nn.Module = SqueezeExcite(layer) if layer.se else nn.Identity()
        self.place = layer.rule.se.place if layer.rule.se else None
        self.shortcut = layer.shortcut


class Separable(Block):
    """Depthwise convolution, batch norm, activation, then the same pointwise. No shortcut."""

    depthwise: nn.Module
    pointwise: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        y: Tensor = self.se(self.pointwise(self.depthwise(x)))
        return y


class InvertedResidual(Block):
    """1x1 expansion, depthwise, optional squeeze-and-excitation, linear 1x1 projection, and the shortcut."""

    expand: nn.Module
    depthwise: nn.Module
    project: nn.Module

    def __init__(self, layer: Layer, rules: Rules) -> None:
        super().__init__(layer, rules)
        if layer.hidden == layer.inp:
            self.expand = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        y: Tensor = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.shortcut else y


class Bottleneck(Block):
    """1x1 reduction, 3x3, linear 1x1; squeeze-and-excitation in one of five places; the shortcut; activation."""

    reduce: nn.Module
    spatial: nn.Module
    restore: nn.Module
    projection: nn.Module

    def __init__(self, layer: Layer, rules: Rules) -> None:
        super().__init__(layer, rules)
        if layer.shortcut:
            self.projection = nn.Identity()
        self.act = ACTIVATIONS[layer.act]()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        kept = self.projection(x)
        y = self.spatial(self.reduce(self.se(x) if self.place == "pre" else x))
        y = self.restore(self.se(y) if self.place == "spatial" else y)
        if self.place == "output":
            y = self.se(y)
        elif self.place == "identity":
            kept = self.se(kept)
        y = self.act(y + kept)
        return self.se(y) if self.place == "post" else y  # type: ignore[no-any-return]


class MaxPool(nn.Module):
    """Max pooling, with a network's own kind of border."""

    def __init__(self, layer: Layer, rules: Rules) -> None:
        super().__init__()
        self.border, pad = border(layer.size, layer.kernel, layer.stride, layer.pad, rules.padding)
        self.pool = nn.MaxPool2d(layer.kernel, layer.stride, pad)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, ceil(H / stride), ceil(W / stride)]."""
        if self.border:
            x = F.pad(x, self.border)  # zeros: what is pooled comes from a ReLU
        y: Tensor = self.pool(x)
        return y


class Pool(nn.Module):
    """Global average over height and width: [N, C, H, W] to [N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C]."""
        return torch.flatten(self.pool(x), 1)


class Dense(nn.Module):
    """A linear layer and its activation. The papers' dropout acts in training only, so it is left out."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        (part,) = layer.parts
        self.linear = nn.Linear(part.inp, part.out, bias=part.bias)
        self.act = ACTIVATIONS[part.act]()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp] to [N, out]."""
        y: Tensor = self.act(self.linear(x))
        return y
