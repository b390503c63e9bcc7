"""A network made concrete: a table's rows expanded to layers for one width and input size, without torch."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

from mobench.errors import BadInputError
from mobench.zoo.tables import NETWORKS, Activation, BlockKind, Network, Row

Padding = Literal["symmetric", "same"]
WIDTH_RANGE = (0.05, 4.0)
SIZE_RANGE = (32, 2048)  # below 32 pixels nothing is left after five strides of 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One block: what it is, its channels, and the side of the square it reads (``size``, in pixels).

    ``hidden`` is the expanded width of an inverted residual (equal to ``inp``: no expansion convolution) and ``se`` the
    reduced width of its squeeze-and-excitation, 0 without one.
    """

    kind: BlockKind
    inp: int
    out: int
    size: int
    kernel: int = 1
    stride: int = 1
    act: Activation = "none"
    hidden: int = 0
    se: int = 0

    @property
    def out_size(self) -> int:
        """Side of the output in pixels: ceil(size / stride), whichever way the border is padded."""
        return -(-self.size // self.stride)

    @property
    def shortcut(self) -> bool:
        """Whether the input is added to the output: inverted residuals of stride 1 and equal channels only."""
        return self.kind == "inverted" and self.stride == 1 and self.inp == self.out


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Everything that defines a network but its weights. Made by :func:`get`.

    ``chosen`` names the parameters the caller set; what a checkpoint's metadata says may replace the others only.
    ``published_top1`` (percent) is the printed figure for exactly this width and input size, else None.
    """

    name: str
    family: str
    paper: str
    source: str
    width: float
    input_size: int
    padding: Padding
    bn_eps: float
    num_classes: int
    published_top1: float | None
    published_source: str
    layers: tuple[Layer, ...]
    chosen: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def label(self) -> str:
        """The name for files: `mobilenet_v1_0.5_160`, or just `mobilenet_v1` at the paper's own width and size."""
        if self.width == 1.0 and self.input_size == NETWORKS[self.name].input_size:
            return self.name
        return f"{self.name}_{self.width}_{self.input_size}"


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
    input_size: int | None = None,
    padding: Padding | None = None,
    bn_eps: float | None = None,
) -> ModelSpec:
    """Return the network `name` at a width multiplier and input size.

    ``padding`` is "symmetric" (k // 2 on each side, PyTorch's habit) or "same" (TensorFlow's SAME: the odd pixel at the
    bottom and right). Raises BadInputError for an unknown name, with the nearest ones, and for a value out of range.

    >>> get("mobilenet_v1", width=0.5, input_size=160).label
    'mobilenet_v1_0.5_160'
    """
    network = NETWORKS.get(name)
    if network is None:
        raise BadInputError(f"no network is named {name!r}", mend=_nearest(name))
    asked = {"width": width, "input_size": input_size, "padding": padding, "bn_eps": bn_eps}
    width = 1.0 if width is None else float(width)
    input_size = network.input_size if input_size is None else input_size
    padding = "symmetric" if padding is None else padding
    bn_eps = network.bn_eps if bn_eps is None else float(bn_eps)
    _check(name, width, input_size, padding, bn_eps)
    layers = _expand(network, width, input_size)
    published = network.published.get((width, input_size))
    return ModelSpec(
        name=name,
        family=network.family,
        paper=network.paper,
        source=network.source,
        width=width,
        input_size=input_size,
        padding=padding,
        bn_eps=bn_eps,
        num_classes=layers[-1].out,
        published_top1=published.top1 if published else None,
        published_source=published.source if published else "",
        layers=layers,
        chosen=frozenset(key for key, value in asked.items() if value is not None),
    )


def _nearest(name: str) -> str:
    known = names()
    # Users write MobileNetV2, mobilenet-v2, v2: compare letters and digits only, then fall back on containment.
    plain = {"".join(filter(str.isalnum, each)).lower(): each for each in known}
    wanted = "".join(filter(str.isalnum, name)).lower()
    near = [plain[match] for match in difflib.get_close_matches(wanted, plain, n=3, cutoff=0.5)]
    near = near or [each for key, each in plain.items() if wanted and wanted in key]
    if near:
        return f"did you mean {' or '.join(near)}? `mobench models` lists all"
    return f"choose one of {', '.join(known)}"


def _check(name: str, width: float, input_size: int, padding: str, bn_eps: float) -> None:
    low, high = WIDTH_RANGE
    if not low <= width <= high:  # also refuses NaN
        raise BadInputError(f"width {width:g} of {name}", "out of range", f"give a value from {low:g} to {high:g}")
    small, large = SIZE_RANGE
    if int(input_size) != input_size or not small <= input_size <= large:
        raise BadInputError(
            f"input size {input_size} of {name}", "out of range", f"give a whole number of pixels, {small} to {large}"
        )
    if padding not in get_args(Padding):
        raise BadInputError(f"padding {padding!r} of {name}", "unknown", "give 'symmetric' or 'same'")
    if not 0 < bn_eps < 1:
        raise BadInputError(f"batch-norm epsilon {bn_eps:g} of {name}", "out of range", "give a value such as 1e-3")


def _expand(network: Network, width: float, input_size: int) -> tuple[Layer, ...]:
    """Walk the rows twice in step: at width 1.0, where expansion factors are read, and at the asked width."""
    factor = Fraction(str(width))  # exact decimals: int(0.7 * 30) is 20 in floats

    def scaled(row: Row) -> int:
        if row.scaling == "fixed":
            return row.out
        value = row.out * (max(factor, Fraction(1)) if row.scaling == "width_from_one" else factor)
        return max(1, math.floor(value)) if network.rounding == "truncate" else round8(value)

    layers: list[Layer] = []
    channels = full = 3  # RGB; `full` is the same tensor's width in the 1.0 network
    size = input_size
    for row in network.rows:
        out = channels if row.kind == "pool" else scaled(row)
        for index in range(row.repeats):
            hidden = se = 0
            if row.kind == "inverted":
                # The authors scale the block's input and round factor x input (0.75 Large: 154.6 M MACs, as printed);
                # torchvision rounds width x exp instead, which gives other networks below and above 1.
                expansion = Fraction(row.hidden, full) if row.hidden is not None else Fraction(row.expand)
                hidden = channels if expansion == 1 else round8(expansion * channels)
                se = round8(Fraction(hidden, 4)) if row.se else 0
            stride = row.stride if index == 0 else 1
            layer = Layer(
                kind=row.kind,
                inp=channels,
                out=out,
                size=size,
                kernel=row.kernel,
                stride=size if row.kind == "pool" else stride,
                act=row.act,
                hidden=hidden,
                se=se,
            )
            layers.append(layer)
            channels, full, size = out, row.out or full, layer.out_size
    return tuple(layers)
