"""Parameters and multiply-accumulates of a network, from its layers alone: arithmetic, no torch.

The rule: MACs are those of convolutions and linear layers at batch 1 (no pooling, activation, batch norm, bias or
channel scaling). Params are all trainable weights, batch norm counted as two a channel, running statistics left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobench.zoo.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many trainable parameters, and how many multiply-accumulates (1 MAC = 2 FLOPs) for one image."""

    params: int
    macs: int


def count(spec: ModelSpec) -> Counts:
    """Count a network.

    >>> from mobench.zoo import get
    >>> count(get("mobilenet_v1")).params
    4231976
    """
    parts = [part for layer in spec.layers for part in layer.parts]
    return Counts(params=sum(part.params for part in parts), macs=sum(part.macs for part in parts))
