"""The vocabulary of the papers' layer tables, which are in `tables/`: rows, rules by name, printed figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

BlockKind = Literal["conv", "separable", "inverted", "bottleneck", "maxpool", "pool", "flatten", "dense"]
# hardswish_spelled: the same function out of elementary operators, which no converter fuses into one.
Activation = Literal["none", "relu", "relu6", "hardswish", "hardswish_spelled", "silu"]
Gate = Literal["hardsigmoid", "sigmoid", "relu"]
Rounding = Literal["truncate", "round8"]
Scaling = Literal["width", "width_from_one", "fixed"]
CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeExcite:
    """How a block's squeeze-and-excitation is made: its reduced width, activations, biases and place.

    The width is that of the expanded tensor, of the block's input or of its output, over ``divisor``: rounded to 8
    (`round8`) or down (at least 1). ``act`` None is the block's own activation. The place is behind the depthwise or
    3x3 convolution (`spatial`), behind the last one and before the shortcut is added (`output`), behind the addition
    (`post`), on the input of the residual branch (`pre`) or on the shortcut (`identity`): SENet, figure 5.
    """

    divisor: int
    of: Literal["hidden", "input", "output"]
    rounding: Rounding
    act: Activation | None
    gate: Gate
    bias: bool = True
    place: Literal["spatial", "output", "pre", "post", "identity"] = "spatial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a paper's table, at width and depth 1.0.

    ``stride`` is taken by the first of ``repeats`` blocks, the others have stride 1; the depth multiplier acts on the
    repeats where ``deepens`` is set: on a network's blocks, not on its stem and head. The expanded width of an inverted
    residual is ``expand`` times the block's input, or, where the table prints it, ``hidden`` channels at width 1.0: the
    factor ``hidden / input`` is then kept at other widths. A bottleneck's is a quarter of ``out``. ``scaling`` says how
    the width multiplier acts on ``out``: always, only above 1, or never. ``pad`` is set where the border is not the
    usual kernel // 2 or SAME.
    """

    kind: BlockKind
    out: int = 0
    kernel: int = 1
    stride: int = 1
    pad: int | None = None
    repeats: int = 1
    deepens: bool = False
    act: Activation = "none"
    expand: int = 1
    hidden: int | None = None
    se: SqueezeExcite | None = None
    scaling: Scaling = "width"
    norm: bool = True  # batch norm behind a plain convolution; without it, a bias
    bias: bool = True  # of a dense layer
    shortcut: bool = True  # where shapes allow one
    stride_in: Literal["1x1", "3x3"] = "3x3"  # which convolution of a bottleneck strides


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A printed top-1 accuracy on the ImageNet validation set (single crop), in percent."""

    top1: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """Params and MACs as printed, in the paper's own digits and unit; empty where it prints none.

    ``note`` says what is known of them: a convention, a misprint. Without one our counts agree with them.
    """

    params: str
    macs: str
    source: str
    note: str = ""


# width, size, depth
Variant = tuple[float, int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network as its authors describe it, with the defaults of the checkpoints most people use."""

    family: str
    paper: str
    source: str
    rows: tuple[Row, ...]
    rounding: Rounding
    bn_eps: float
    input_size: int = 224
    width: float = 1.0
    depth: float = 1.0
    published: Mapping[Variant, Published] = field(default_factory=dict)
    printed: Mapping[Variant, Printed] = field(default_factory=dict)


def published(source: str, top1: Mapping[Variant, float]) -> dict[Variant, Published]:
    """Return printed accuracies that share a source."""
    return {key: Published(top1=value, source=source) for key, value in top1.items()}


def printed(source: str, counts: Mapping[Variant, tuple[str, str]], note: str = "") -> dict[Variant, Printed]:
    """Return printed params and MACs that share a source and a note."""
    return {key: Printed(params=params, macs=macs, source=source, note=note) for key, (params, macs) in counts.items()}


def head(*dense: Row) -> tuple[Row, ...]:
    """Return what ends nearly every network: global average pooling, hidden dense layers, the classifier."""
    return (Row(kind="pool"), *dense, Row(kind="dense", out=CLASSES, scaling="fixed"))
