"""Parameters and multiply-accumulates of a network, from its layers alone: arithmetic, no torch.

The rule: MACs are those of convolutions and linear layers at batch 1 (no pooling, activation, batch norm, bias or
channel scaling). Params are all trainable weights, batch norm counted as two a channel, running statistics left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mobench.zoo.spec import Layer, ModelSpec
from mobench.zoo.tables import BlockKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many trainable parameters, and how many multiply-accumulates (1 MAC = 2 FLOPs) for one image."""

    params: int
    macs: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(params=self.params + other.params, macs=self.macs + other.macs)


NOTHING = Counts(params=0, macs=0)


def count(spec: ModelSpec) -> Counts:
    """Count a network.

    >>> from mobench.zoo import get
    >>> count(get("mobilenet_v1")).params
    4231976
    """
    return sum((_BY_KIND[layer.kind](layer) for layer in spec.layers), NOTHING)


def _conv_bn(inp: int, out: int, kernel: int, out_size: int) -> Counts:
    weights = inp * out * kernel * kernel
    return Counts(params=weights + 2 * out, macs=weights * out_size * out_size)


def _depthwise_bn(channels: int, kernel: int, out_size: int) -> Counts:
    return _conv_bn(1, channels, kernel, out_size)


def _linear(inp: int, out: int) -> Counts:
    return Counts(params=inp * out + out, macs=inp * out)


def _conv(layer: Layer) -> Counts:
    return _conv_bn(layer.inp, layer.out, layer.kernel, layer.out_size)


def _separable(layer: Layer) -> Counts:
    depthwise = _depthwise_bn(layer.inp, layer.kernel, layer.out_size)
    return depthwise + _conv_bn(layer.inp, layer.out, 1, layer.out_size)


def _inverted(layer: Layer) -> Counts:
    expand = NOTHING if layer.hidden == layer.inp else _conv_bn(layer.inp, layer.hidden, 1, layer.size)
    # Squeeze-and-excitation: two 1x1 convolutions with bias on the pooled tensor.
    se = _linear(layer.hidden, layer.se) + _linear(layer.se, layer.hidden) if layer.se else NOTHING
    depthwise = _depthwise_bn(layer.hidden, layer.kernel, layer.out_size)
    return expand + depthwise + se + _conv_bn(layer.hidden, layer.out, 1, layer.out_size)


_BY_KIND: Mapping[BlockKind, Callable[[Layer], Counts]] = {
    "conv": _conv,
    "separable": _separable,
    "inverted": _inverted,
    "pool": lambda layer: NOTHING,
    "dense": lambda layer: _linear(layer.inp, layer.out),
}
