"""AlexNet and VGG-16, which MobileNetV1 compares itself with (its tables 8 and 9)."""

from __future__ import annotations

from collections.abc import Mapping

from mobench.zoo.rows import CLASSES, Network, Row, printed, published

# The dense layers of both: two hidden ones, the classifier. Their inputs depend on the size of the image.
_DENSE = (
    Row(kind="flatten"),
    Row(kind="dense", out=4096, act="relu"),
    Row(kind="dense", out=4096, act="relu"),
    Row(kind="dense", out=CLASSES, scaling="fixed"),
)
_VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def _conv(out: int, kernel: int, stride: int = 1, pad: int | None = None) -> Row:
    return Row(kind="conv", out=out, kernel=kernel, stride=stride, pad=pad, act="relu", norm=False)


def _vgg_stage(out: int, repeats: int) -> tuple[Row, ...]:
    return (*(_conv(out, 3) for _ in range(repeats)), Row(kind="maxpool", kernel=2, stride=2, pad=0))


NETWORKS: Mapping[str, Network] = {
    "vgg16": Network(
        family="vgg",
        paper="arXiv:1409.1556 (VGG)",
        source="table 1, column D",
        rows=(*(row for stage in _VGG16_STAGES for row in _vgg_stage(*stage)), *_DENSE),
        rounding="truncate",
        bn_eps=1e-5,  # it has no batch norm
        published=published("arXiv:1704.04861 table 8", {(1.0, 224, 1.0): 71.5}),
        printed=printed(
            "arXiv:1704.04861 table 8",
            {(1.0, 224, 1.0): ("138 M", "15300 M")},
            "15.47 B: as arXiv:1709.01507 table 2 prints it",
        ),
    ),
    "alexnet": Network(
        family="alexnet",
        paper="arXiv:1404.5997 (AlexNet, one tower)",
        source="torchvision's table",
        rows=(
            _conv(64, 11, stride=4, pad=2),
            Row(kind="maxpool", kernel=3, stride=2, pad=0),
            _conv(192, 5),
            Row(kind="maxpool", kernel=3, stride=2, pad=0),
            _conv(384, 3),
            _conv(256, 3),
            _conv(256, 3),
            Row(kind="maxpool", kernel=3, stride=2, pad=0),
            *_DENSE,
        ),
        rounding="truncate",
        bn_eps=1e-5,
        published=published("arXiv:1704.04861 table 9", {(1.0, 224, 1.0): 57.2}),
        printed=printed(
            "arXiv:1704.04861 table 9",
            {(1.0, 224, 1.0): ("60 M", "720 M")},
            "61.1 M: the first AlexNet has 60 M in two towers; here its successor of one, which all libraries have",
        ),
    ),
}
