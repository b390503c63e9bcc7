"""A network made concrete: a table's rows expanded to layers for one width and input size, without torch."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

from mobench.errors import BadInputError
from mobench.zoo.rows import Activation, BlockKind, Network, Printed, Row, Variant
from mobench.zoo.tables import NETWORKS

Padding = Literal["symmetric", "same"]
MULTIPLIER_RANGE = (0.05, 4.0)  # of width and depth
_MOST_OFFERED = 5  # names for one that is unknown
SIZE_RANGE = (32, 2048)  # below 32 pixels nothing is left after five strides of 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One convolution or linear layer of a block, with what follows it: batch norm or bias, and an activation.

    ``name`` is its module within the block ("" for a block that is one convolution). ``size`` is the side of the square
    it reads and ``out_size`` of the one it writes, in pixels. ``pad`` None is the network's usual border.
    """

    name: str
    role: Literal["conv", "depthwise", "pointwise", "se", "dense"]
    inp: int
    out: int
    size: int
    out_size: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    pad: int | None = None
    norm: bool = True
    bias: bool = False
    act: Activation = "none"

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's, as torch has it."""
        if self.role == "dense":
            return (self.out, self.inp)
        return (self.out, self.inp // self.groups, self.kernel, self.kernel)

    @property
    def params(self) -> int:
        """Trainable weights; batch norm counts two a channel."""
        return math.prod(self.shape) + self.out * (2 * self.norm + self.bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return math.prod(self.shape) * self.out_size**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One block: what it is, its channels, and the side of the square it reads (``size``, in pixels).

    ``hidden`` is the inner width of an inverted residual (equal to ``inp``: no expansion convolution) or a bottleneck,
    and ``se`` the reduced width of its squeeze-and-excitation, 0 without one.
    """

    kind: BlockKind
    inp: int
    out: int
    size: int
    kernel: int = 1
    stride: int = 1
    pad: int | None = None
    act: Activation = "none"
    hidden: int = 0
    se: int = 0
    rule: Row

    @property
    def out_size(self) -> int:
        """Side of the output in pixels: ceil(size / stride), whichever way the border is padded."""
        if self.kind in ("pool", "flatten"):
            return 1
        if self.pad is not None:
            return (self.size + 2 * self.pad - self.kernel) // self.stride + 1
        return -(-self.size // self.stride)

    @property
    def shortcut(self) -> bool:
        """Whether the input itself is added to the output. Other bottlenecks have a projection instead."""
        same = self.stride == 1 and self.inp == self.out
        return self.kind in ("inverted", "bottleneck") and same and self.rule.shortcut

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its convolutions and linear layers, in the order in which they run."""
        return _PARTS[self.kind](self)


def _conv(layer: Layer) -> tuple[Part, ...]:
    return (
        Part(
            name="",
            role="pointwise" if layer.kernel == 1 else "conv",
            inp=layer.inp,
            out=layer.out,
            size=layer.size,
            out_size=layer.out_size,
            kernel=layer.kernel,
            stride=layer.stride,
            pad=layer.pad,
            norm=layer.rule.norm,
            bias=not layer.rule.norm,
            act=layer.act,
        ),
    )


def _pointwise(name: str, inp: int, out: int, size: int, act: Activation = "none", stride: int = 1) -> Part:
    out_size = -(-size // stride)
    return Part(name=name, role="pointwise", inp=inp, out=out, size=size, out_size=out_size, stride=stride, act=act)


def _depthwise(layer: Layer, channels: int) -> Part:
    return Part(
        name="depthwise",
        role="depthwise",
        inp=channels,
        out=channels,
        size=layer.size,
        out_size=layer.out_size,
        kernel=layer.kernel,
        stride=layer.stride,
        groups=channels,
        act=layer.act,
    )


def se_channels(layer: Layer) -> int:
    """Return the width of the tensor that a block's squeeze-and-excitation scales."""
    place = layer.rule.se.place if layer.rule.se else "spatial"
    return {"spatial": layer.hidden or layer.out, "pre": layer.inp}.get(place, layer.out)


def _se(layer: Layer) -> tuple[Part, ...]:
    rule = layer.rule.se
    if rule is None:
        return ()
    channels = se_channels(layer)
    widths = (("se.reduce", channels, layer.se), ("se.expand", layer.se, channels))
    return tuple(
        Part(name=name, role="se", inp=inp, out=out, size=1, out_size=1, norm=False, bias=rule.bias)
        for name, inp, out in widths
    )


def _separable(layer: Layer) -> tuple[Part, ...]:
    pointwise = _pointwise("pointwise", layer.inp, layer.out, layer.out_size, layer.act)
    return (_depthwise(layer, layer.inp), pointwise, *_se(layer))


def _inverted(layer: Layer) -> tuple[Part, ...]:
    expand = (_pointwise("expand", layer.inp, layer.hidden, layer.size, layer.act),)
    return (
        *(expand if layer.hidden != layer.inp else ()),
        _depthwise(layer, layer.hidden),
        *_se(layer),
        _pointwise("project", layer.hidden, layer.out, layer.out_size),
    )


def _bottleneck(layer: Layer) -> tuple[Part, ...]:
    first = layer.stride if layer.rule.stride_in == "1x1" else 1
    reduce = _pointwise("reduce", layer.inp, layer.hidden, layer.size, layer.act, stride=first)
    spatial = Part(
        name="spatial",
        role="conv",
        inp=layer.hidden,
        out=layer.hidden,
        size=reduce.out_size,
        out_size=layer.out_size,
        kernel=layer.kernel,
        stride=layer.stride // first,
        act=layer.act,
    )
    restore = _pointwise("restore", layer.hidden, layer.out, layer.out_size)
    projection = _pointwise("projection", layer.inp, layer.out, layer.size, stride=layer.stride)
    se = _se(layer)
    inside = layer.rule.se is not None and layer.rule.se.place == "spatial"
    return (
        reduce,
        spatial,
        *(se if inside else ()),
        restore,
        *(() if inside else se),
        *(() if layer.shortcut else (projection,)),
    )


def _dense(layer: Layer) -> tuple[Part, ...]:
    part = Part(
        name="linear",
        role="dense",
        inp=layer.inp,
        out=layer.out,
        size=1,
        out_size=1,
        norm=False,
        bias=layer.rule.bias,
        act=layer.act,
    )
    return (part,)


def _nothing(layer: Layer) -> tuple[Part, ...]:
    return ()


_PARTS: Mapping[BlockKind, Callable[[Layer], tuple[Part, ...]]] = {
    "conv": _conv,
    "separable": _separable,
    "inverted": _inverted,
    "bottleneck": _bottleneck,
    "maxpool": _nothing,
    "pool": _nothing,
    "flatten": _nothing,
    "dense": _dense,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Everything that defines a network but its weights. Made by :func:`get`.

    ``chosen`` names the parameters the caller set; what a checkpoint's metadata says may replace the others only.
    ``published_top1`` (percent) and ``printed`` (params, MACs) are for exactly this width, depth and input size, else
    None.
    """

    name: str
    family: str
    paper: str
    source: str
    width: float
    depth: float
    input_size: int
    padding: Padding
    bn_eps: float
    num_classes: int
    published_top1: float | None
    published_source: str
    printed: Printed | None
    layers: tuple[Layer, ...]
    chosen: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def label(self) -> str:
        """The name for files, which :func:`get` reads back.

        `mobilenet_v1_0.5_160`, `efficientnet_b0_1.0_224_d4.0`, or just the name at the network's own width, depth and
        size.
        """
        own = NETWORKS[self.name]
        depth = "" if self.depth == own.depth else f"_d{self.depth}"
        if not depth and self.width == own.width and self.input_size == own.input_size:
            return self.name
        return f"{self.name}_{self.width}_{self.input_size}{depth}"


def round8(value: Fraction | float) -> int:
    """Return the nearest multiple of 8, at least 8, and never under 90 % of the value.

    >>> [round8(v) for v in (3, 12, 11, 18, 33.6)]
    [8, 16, 16, 24, 32]
    """
    near = max(8, math.floor(value + 4) // 8 * 8)
    return near + 8 if near < value * Fraction(9, 10) else near


def names() -> tuple[str, ...]:
    """Return the names of all networks, in the order of their papers."""
    return tuple(NETWORKS)


def get(
    name: str,
    *,
    width: float | None = None,
    depth: float | None = None,
    input_size: int | None = None,
    padding: Padding | None = None,
    bn_eps: float | None = None,
) -> ModelSpec:
    """Return the network `name` at a width and depth multiplier and an input size.

    ``name`` may be a label that holds them (`mobilenet_v1_0.5_160`). ``padding`` is "symmetric" (k // 2 on each side,
    PyTorch's habit) or "same" (TensorFlow's SAME: the odd pixel at the bottom and right). Raises BadInputError for an
    unknown name, with the nearest ones, for a value out of range and for one that contradicts the label.

    >>> get("mobilenet_v1", width=0.5, input_size=160).label
    'mobilenet_v1_0.5_160'
    >>> get("mobilenet_v1_0.5_160").width
    0.5
    """
    asked = {"width": width, "depth": depth, "input_size": input_size, "padding": padding, "bn_eps": bn_eps}
    if name not in NETWORKS and (label := _LABEL.fullmatch(name)):
        name, held = label["name"], _in_label(label)
        for key, value in held.items():
            if asked[key] not in (None, value):
                what = f"{key.replace('_', ' ')} {asked[key]:g} for {label[0]}"
                raise BadInputError(what, f"the name itself says {value:g}", f"give {name}, or leave the option out")
        asked |= held
    network = NETWORKS.get(name)
    if network is None:
        raise BadInputError(f"no network is named {name!r}", mend=_nearest(name))
    own = {"width": network.width, "depth": network.depth, "input_size": network.input_size, "bn_eps": network.bn_eps}
    chosen = {key: value for key, value in asked.items() if value is not None}
    values: dict[str, Any] = {"padding": "symmetric", **own, **chosen}
    _check(name, **values)
    if values["depth"] != network.depth and not any(row.deepens for row in network.rows):
        raise BadInputError(f"depth {values['depth']:g} of {name}", "it has no blocks to repeat", "leave depth out")
    values |= {key: float(values[key]) for key in ("width", "depth", "bn_eps")}
    layers = _expand(name, network, values["width"], values["depth"], values["input_size"])
    variant: Variant = (values["width"], values["input_size"], values["depth"])
    published = network.published.get(variant)
    return ModelSpec(
        name=name,
        family=network.family,
        paper=network.paper,
        source=network.source,
        num_classes=layers[-1].out,
        published_top1=published.top1 if published else None,
        published_source=published.source if published else "",
        printed=network.printed.get(variant),
        layers=layers,
        chosen=frozenset(chosen),
        **values,
    )


# What `ModelSpec.label` writes.
_LABEL = re.compile(r"(?P<name>\w+?)_(?P<width>\d+\.\d+)_(?P<size>\d{1,9})(_d(?P<depth>\d+\.\d+))?", re.ASCII)


def _in_label(label: re.Match[str]) -> dict[str, Any]:
    held = {"width": float(label["width"]), "input_size": int(label["size"])}
    return {**held, "depth": float(label["depth"])} if label["depth"] else held


def _nearest(name: str) -> str:
    known = names()
    # Users write MobileNetV2, mobilenet-v2, efficientnet, v2: compare letters and digits only. What begins a name is
    # more than what resembles one, which is more than what is somewhere in one.
    plain = {"".join(filter(str.isalnum, each)).lower(): each for each in known}
    wanted = "".join(filter(str.isalnum, name)).lower()
    near = [each for key, each in plain.items() if wanted and key.startswith(wanted)][:_MOST_OFFERED]
    near = near or [plain[match] for match in difflib.get_close_matches(wanted, plain, n=3, cutoff=0.5)]
    near = near or [each for key, each in plain.items() if wanted and wanted in key]
    if near:
        return f"did you mean {' or '.join(near)}? `mobench models` lists all"
    return f"choose one of {', '.join(known)}"


def _check(name: str, *, width: float, depth: float, input_size: int, padding: str, bn_eps: float) -> None:
    low, high = MULTIPLIER_RANGE
    for what, value in (("width", width), ("depth", depth)):
        if not low <= value <= high:  # also refuses NaN
            raise BadInputError(f"{what} {value:g} of {name}", "out of range", f"give a value from {low:g} to {high:g}")
    small, large = SIZE_RANGE
    if not small <= input_size <= large or int(input_size) != input_size:  # the range refuses NaN and infinity
        raise BadInputError(
            f"input size {input_size} of {name}", "out of range", f"give a whole number of pixels, {small} to {large}"
        )
    if padding not in get_args(Padding):
        raise BadInputError(f"padding {padding!r} of {name}", "unknown", "give 'symmetric' or 'same'")
    if not 0 < bn_eps < 1:
        raise BadInputError(f"batch-norm epsilon {bn_eps:g} of {name}", "out of range", "give a value such as 1e-3")


def _expand(name: str, network: Network, width: float, depth: float, input_size: int) -> tuple[Layer, ...]:
    """Walk the rows twice in step: at width 1.0, where expansion factors are read, and at the asked width."""
    factor = Fraction(str(width))  # exact decimals: int(0.7 * 30) is 20 in floats
    layers: list[Layer] = []
    channels = full = 3  # RGB; `full` is the same tensor's width in the 1.0 network
    size = input_size
    for row in network.rows:
        repeats = math.ceil(Fraction(str(depth)) * row.repeats) if row.deepens else row.repeats
        for index in range(repeats):
            layer = _layer(row, network, factor, channels, full, size, row.stride if index == 0 else 1)
            if layer.out_size < 1:
                what = f"input size {input_size} of {name}"
                raise BadInputError(what, "nothing is left of it after the strides", "give more")
            layers.append(layer)
            channels, full, size = layer.out, row.out or full, layer.out_size
    return tuple(layers)


def _layer(row: Row, network: Network, width: Fraction, channels: int, full: int, size: int, stride: int) -> Layer:
    """Make one block that reads ``channels`` (``full`` of them at width 1.0) at ``size`` pixels."""
    out = {"pool": channels, "maxpool": channels, "flatten": channels * size * size}.get(row.kind)
    if out is None:
        out = _scaled(row, network, width)
    hidden = 0
    if row.kind == "inverted":
        # The authors scale the block's input and round factor x input (V3-Large 0.75: 154.6 M MACs, as printed);
        # torchvision rounds width x exp instead, which gives other networks below and above 1.
        expansion = Fraction(row.hidden, full) if row.hidden is not None else Fraction(row.expand)
        hidden = channels if expansion == 1 else round8(expansion * channels)
    elif row.kind == "bottleneck":
        hidden = out // 4
    se = 0
    if row.se is not None:
        reduced = Fraction({"hidden": hidden, "input": channels, "output": out}[row.se.of], row.se.divisor)
        se = round8(reduced) if row.se.rounding == "round8" else max(1, math.floor(reduced))
    return Layer(
        kind=row.kind,
        inp=channels,
        out=out,
        size=size,
        kernel=row.kernel,
        stride=stride,
        pad=row.pad,
        act=row.act,
        hidden=hidden,
        se=se,
        rule=row,
    )


def _scaled(row: Row, network: Network, width: Fraction) -> int:
    if row.scaling == "fixed":
        return row.out
    value = row.out * (max(width, Fraction(1)) if row.scaling == "width_from_one" else width)
    return max(1, math.floor(value)) if network.rounding == "truncate" else round8(value)
