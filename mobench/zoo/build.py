"""One builder for every network: a spec's layers, in order, as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mobench.errors import MissingExtraError
from mobench.zoo.rows import BlockKind
from mobench.zoo.spec import Layer, ModelSpec

try:
    import torch
    from torch import nn

    from mobench.zoo import blocks
except ImportError as error:
    raise MissingExtraError("torch", "export") from error


_BY_KIND: Mapping[BlockKind, Callable[[Layer, blocks.Rules], nn.Module]] = {
    "conv": lambda layer, rules: blocks.ConvBN(layer.parts[0], rules),
    "separable": blocks.Separable,
    "inverted": blocks.InvertedResidual,
    "bottleneck": blocks.Bottleneck,
    "maxpool": blocks.MaxPool,
    "pool": lambda layer, rules: blocks.Pool(),
    "flatten": lambda layer, rules: nn.Flatten(),
    "dense": lambda layer, rules: blocks.Dense(layer),
}


def build(spec: ModelSpec) -> nn.Module:
    """Return the network in eval mode, with torch's default weights: [N, 3, S, S] float32 to [N, classes] logits.

    Layer i of the spec is module i of the returned Sequential; :mod:`mobench.zoo.keys` relies on it.
    """
    rules = blocks.Rules(padding=spec.padding, bn_eps=spec.bn_eps)
    with torch.random.fork_rng(devices=[]):  # the default weights, soon replaced, cost the caller no random numbers
        modules = [_BY_KIND[layer.kind](layer, rules) for layer in spec.layers]
    return nn.Sequential(*modules).eval()
