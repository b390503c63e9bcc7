"""The blocks networks are made of, as torch modules: NCHW float32 in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobench.zoo.spec import Layer, Padding
from mobench.zoo.tables import Activation

# Hardswish and Hardsigmoid as modules: both exporters turn them into one fused operator.
ACTIVATIONS: Mapping[Activation, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
}


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, activation.

    ``size`` is the side of the input: TF SAME padding depends on it. It is applied as an explicit pad only where it
    differs from symmetric padding (stride above 1), which the TFLite converter fuses into a SAME convolution.
    """

    def __init__(
        self,
        inp: int,
        out: int,
        kernel: int,
        *,
        act: Activation,
        size: int,
        padding: Padding,
        bn_eps: float,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.border = _same_border(size, kernel, stride) if padding == "same" and stride > 1 else None
        pad = 0 if self.border else kernel // 2
        self.conv = nn.Conv2d(inp, out, kernel, stride, pad, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=bn_eps)
        self.act = ACTIVATIONS[act]()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        if self.border:
            x = F.pad(x, self.border)
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


def _same_border(size: int, kernel: int, stride: int) -> tuple[int, int, int, int] | None:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = total // 2  # the odd pixel goes to the right and bottom
    return (before, total - before, before, total - before)


class SqueezeExcite(nn.Module):
    """Global average, 1x1 convolution to ``reduced`` channels, ReLU, 1x1 back, hard sigmoid; scales the channels."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(reduced, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        scale: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return x * scale


class Separable(nn.Module):
    """Depthwise convolution, batch norm, activation, then the same pointwise. No shortcut."""

    def __init__(self, layer: Layer, padding: Padding, bn_eps: float) -> None:
        super().__init__()
        self.depthwise = ConvBN(
            layer.inp,
            layer.inp,
            layer.kernel,
            stride=layer.stride,
            groups=layer.inp,
            act=layer.act,
            size=layer.size,
            padding=padding,
            bn_eps=bn_eps,
        )
        self.pointwise = ConvBN(
            layer.inp, layer.out, 1, act=layer.act, size=layer.out_size, padding=padding, bn_eps=bn_eps
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, optional squeeze-and-excitation, linear 1x1 projection, and the shortcut."""

    def __init__(self, layer: Layer, padding: Padding, bn_eps: float) -> None:
        super().__init__()
        self.shortcut = layer.shortcut
        self.expand: nn.Module = nn.Identity()
        if layer.hidden != layer.inp:
            self.expand = ConvBN(
                layer.inp, layer.hidden, 1, act=layer.act, size=layer.size, padding=padding, bn_eps=bn_eps
            )
        self.depthwise = ConvBN(
            layer.hidden,
            layer.hidden,
            layer.kernel,
            stride=layer.stride,
            groups=layer.hidden,
            act=layer.act,
            size=layer.size,
            padding=padding,
            bn_eps=bn_eps,
        )
        self.se: nn.Module = SqueezeExcite(layer.hidden, layer.se) if layer.se else nn.Identity()
        self.project = ConvBN(
            layer.hidden, layer.out, 1, act="none", size=layer.out_size, padding=padding, bn_eps=bn_eps
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        y: Tensor = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.shortcut else y


class Pool(nn.Module):
    """Global average over height and width: [N, C, H, W] to [N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C]."""
        return torch.flatten(self.pool(x), 1)


class Dense(nn.Module):
    """A linear layer with bias and its activation. The papers' dropout acts in training only, so it is left out."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.inp, layer.out)
        self.act = ACTIVATIONS[layer.act]()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inp] to [N, out]."""
        y: Tensor = self.act(self.linear(x))
        return y
