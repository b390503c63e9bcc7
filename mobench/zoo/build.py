"""One builder for every network: a spec's layers, in order, as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mobench.errors import MissingExtraError
from mobench.zoo.spec import Layer, ModelSpec, Padding
from mobench.zoo.tables import BlockKind

try:
    from mobench.zoo import blocks
except ImportError as error:
    raise MissingExtraError("torch", "export") from error

if TYPE_CHECKING:
    from torch import nn


def _conv(layer: Layer, padding: Padding, bn_eps: float) -> nn.Module:
    return blocks.ConvBN(
        layer.inp,
        layer.out,
        layer.kernel,
        stride=layer.stride,
        act=layer.act,
        size=layer.size,
        padding=padding,
        bn_eps=bn_eps,
    )


_BY_KIND: Mapping[BlockKind, Callable[[Layer, Padding, float], nn.Module]] = {
    "conv": _conv,
    "separable": blocks.Separable,
    "inverted": blocks.InvertedResidual,
    "pool": lambda layer, padding, bn_eps: blocks.Pool(),
    "dense": lambda layer, padding, bn_eps: blocks.Dense(layer),
}


def build(spec: ModelSpec) -> nn.Module:
    """Return the network in eval mode, with torch's default weights: [N, 3, S, S] float32 to [N, classes] logits.

    Layer i of the spec is module i of the returned Sequential; :mod:`mobench.zoo.keys` relies on it.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):  # the default weights, soon replaced, cost the caller no random numbers
        modules = [_BY_KIND[layer.kind](layer, spec.padding, spec.bn_eps) for layer in spec.layers]
    return nn.Sequential(*modules).eval()
