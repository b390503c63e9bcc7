"""The papers' layer tables, row by row, and the accuracies printed for each width and input size.

A network is a :class:`Network` in :data:`NETWORKS`: rows, a few rules chosen by name, and its sources. Adding one adds
no class and no branch anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

BlockKind = Literal["conv", "separable", "inverted", "pool", "dense"]
Activation = Literal["none", "relu", "relu6", "hardswish"]
Rounding = Literal["truncate", "round8"]
Scaling = Literal["width", "width_from_one", "fixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a paper's table, at width 1.0.

    ``stride`` is taken by the first of ``repeats`` blocks, the others have stride 1. The expanded width of an inverted
    residual is ``expand`` times the block's input, or, where the table prints it, ``hidden`` channels at width 1.0:
    the factor ``hidden / input`` is then kept at other widths. ``scaling`` says how the width multiplier acts on
    ``out``: always, only above 1, or never.
    """

    kind: BlockKind
    out: int = 0
    kernel: int = 1
    stride: int = 1
    repeats: int = 1
    act: Activation = "none"
    expand: int = 1
    hidden: int | None = None
    se: bool = False  # squeeze-and-excitation on the expanded tensor, reduced to rnd8(hidden / 4)
    scaling: Scaling = "width"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A printed top-1 accuracy on the ImageNet validation set (single crop), in percent."""

    top1: float
    source: str


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
    published: Mapping[tuple[float, int], Published] = field(default_factory=dict)


def _published(source: str, top1: Mapping[tuple[float, int], float]) -> dict[tuple[float, int], Published]:
    return {key: Published(top1=value, source=source) for key, value in top1.items()}


# MobileNetV1, arXiv:1704.04861, table 1: out, s of the separable layers. The table prints s2 for the last one, but with
# a 7x7 input and output: it is stride 1. The paper says ReLU; the released code and all checkpoints use ReLU6.
_V1_ROWS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)

# MobileNetV2, arXiv:1801.04381, table 2: t, c, n, s
_V2_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# MobileNetV3, arXiv:1905.02244, tables 1 and 2: k, exp size, out, SE, NL, s
_V3_LARGE_ROWS = (
    (3, 16, 16, False, "RE", 1),
    (3, 64, 24, False, "RE", 2),
    (3, 72, 24, False, "RE", 1),
    (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1),
    (5, 120, 40, True, "RE", 1),
    (3, 240, 80, False, "HS", 2),
    (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 480, 112, True, "HS", 1),
    (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2),
    (5, 960, 160, True, "HS", 1),
    (5, 960, 160, True, "HS", 1),
)
_V3_SMALL_ROWS = (
    (3, 16, 16, True, "RE", 2),
    (3, 72, 24, False, "RE", 2),
    (3, 88, 24, False, "RE", 1),
    (5, 96, 40, True, "HS", 2),
    (5, 240, 40, True, "HS", 1),
    (5, 240, 40, True, "HS", 1),
    (5, 120, 48, True, "HS", 1),
    (5, 144, 48, True, "HS", 1),
    (5, 288, 96, True, "HS", 2),
    (5, 576, 96, True, "HS", 1),
    (5, 576, 96, True, "HS", 1),
)
_V3_ACT: Mapping[str, Activation] = {"RE": "relu", "HS": "hardswish"}

_CLASSES = 1000


def _v1_rows() -> tuple[Row, ...]:
    return (
        Row(kind="conv", out=32, kernel=3, stride=2, act="relu6"),
        *(Row(kind="separable", out=out, kernel=3, stride=s, act="relu6") for out, s in _V1_ROWS),
        Row(kind="pool"),
        Row(kind="dense", out=_CLASSES, scaling="fixed"),
    )


def _v2_rows() -> tuple[Row, ...]:
    return (
        Row(kind="conv", out=32, kernel=3, stride=2, act="relu6"),
        *(Row(kind="inverted", out=c, kernel=3, stride=s, repeats=n, expand=t, act="relu6") for t, c, n, s in _V2_ROWS),
        # Section 4.1 of the paper: below width 1 the multiplier spares the last convolution.
        Row(kind="conv", out=1280, act="relu6", scaling="width_from_one"),
        Row(kind="pool"),
        Row(kind="dense", out=_CLASSES, scaling="fixed"),
    )


def _v3_rows(rows: tuple[tuple[int, int, int, bool, str, int], ...], last: int, head: int) -> tuple[Row, ...]:
    return (
        Row(kind="conv", out=16, kernel=3, stride=2, act="hardswish"),
        *(
            Row(kind="inverted", out=out, kernel=k, stride=s, hidden=exp, se=se, act=_V3_ACT[nl])
            for k, exp, out, se, nl, s in rows
        ),
        Row(kind="conv", out=last, act="hardswish"),
        Row(kind="pool"),
        # The authors' code does not scale the head (torchvision does: 3.38 M against 3.99 M at 0.75).
        Row(kind="dense", out=head, act="hardswish", scaling="fixed"),
        Row(kind="dense", out=_CLASSES, scaling="fixed"),
    )


_V3_PAPER = "arXiv:1905.02244 (MobileNetV3)"

NETWORKS: Mapping[str, Network] = {
    "mobilenet_v1": Network(
        family="mobilenet_v1",
        paper="arXiv:1704.04861 (MobileNets)",
        source="table 1",
        rows=_v1_rows(),
        rounding="truncate",
        bn_eps=1e-5,  # timm's checkpoint; TensorFlow's own have 1e-3
        published={
            # The paper prints these; for other combinations of width and size, the authors' released checkpoints.
            **_published(
                "tensorflow/models slim mobilenet_v1.md (released checkpoint)",
                {
                    (0.75, 192): 67.2,
                    (0.75, 160): 65.3,
                    (0.75, 128): 62.1,
                    (0.5, 192): 61.7,
                    (0.5, 128): 56.3,
                    (0.25, 192): 47.7,
                    (0.25, 160): 45.5,
                    (0.25, 128): 41.5,
                },
            ),
            **_published("arXiv:1704.04861 table 6", {(0.75, 224): 68.4, (0.5, 224): 63.7, (0.25, 224): 50.6}),
            **_published(
                "arXiv:1704.04861 table 7", {(1.0, 224): 70.6, (1.0, 192): 69.1, (1.0, 160): 67.2, (1.0, 128): 64.4}
            ),
            **_published("arXiv:1704.04861 table 9", {(0.5, 160): 60.2}),
        },
    ),
    "mobilenet_v2": Network(
        family="mobilenet_v2",
        paper="arXiv:1801.04381 (MobileNetV2)",
        source="table 2",
        rows=_v2_rows(),
        rounding="round8",
        bn_eps=1e-5,  # torchvision and timm; TensorFlow's own checkpoints have 1e-3
        published={
            # The paper prints only two; the others are the authors' released checkpoints.
            **_published("arXiv:1801.04381 table 4", {(1.0, 224): 72.0, (1.4, 224): 74.7}),
            **_published(
                "tensorflow/models slim mobilenet README (released checkpoint)",
                {
                    (1.3, 224): 74.4,
                    (1.0, 192): 70.7,
                    (1.0, 160): 68.8,
                    (1.0, 128): 65.3,
                    (1.0, 96): 60.3,
                    (0.75, 224): 69.8,
                    (0.75, 192): 68.7,
                    (0.75, 160): 66.4,
                    (0.75, 128): 63.2,
                    (0.75, 96): 58.8,
                    (0.5, 224): 65.4,
                    (0.5, 192): 63.9,
                    (0.5, 160): 61.0,
                    (0.5, 128): 57.7,
                    (0.5, 96): 51.2,
                    (0.35, 224): 60.3,
                    (0.35, 192): 58.2,
                    (0.35, 160): 55.7,
                    (0.35, 128): 50.8,
                    (0.35, 96): 45.5,
                },
            ),
        },
    ),
    "mobilenet_v3_large": Network(
        family="mobilenet_v3",
        paper=_V3_PAPER,
        source="table 1",
        rows=_v3_rows(_V3_LARGE_ROWS, last=960, head=1280),
        rounding="round8",
        bn_eps=1e-3,  # torchvision; timm has 1e-5
        published=_published("arXiv:1905.02244 table 3", {(1.0, 224): 75.2, (0.75, 224): 73.3}),
    ),
    "mobilenet_v3_small": Network(
        family="mobilenet_v3",
        paper=_V3_PAPER,
        source="table 2",
        # Table 2 prints a 1280 head and SE on the 576 conv; the authors' code and weights have 1024 and none.
        rows=_v3_rows(_V3_SMALL_ROWS, last=576, head=1024),
        rounding="round8",
        bn_eps=1e-3,
        published=_published("arXiv:1905.02244 table 3", {(1.0, 224): 67.4, (0.75, 224): 65.4}),
    ),
}
