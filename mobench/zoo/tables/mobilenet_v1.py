"""MobileNetV1, arXiv:1704.04861, table 1, and its variants (tables 4 to 7); SE-MobileNet from arXiv:1709.01507."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mobench.zoo.rows import Network, Printed, Row, SqueezeExcite, head, printed, published

# out, n, s. The table prints s2 for the last layer, but with a 7x7 input and output: it is stride 1. The paper says
# ReLU; the released code and all checkpoints use ReLU6.
_ROWS = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
_CODE_PAGE = "tensorflow/models slim mobilenet_v1.md (released checkpoint)"
# SENet does not spell the place out; this one gives its table 3 (4.7 M).
_SE = SqueezeExcite(divisor=16, of="output", rounding="truncate", act="relu", gate="sigmoid", place="output")


def _rows(middle: int = 6, se: SqueezeExcite | None = None) -> tuple[Row, ...]:
    return (
        Row(kind="conv", out=32, kernel=3, stride=2, act="relu6"),
        *(
            Row(
                kind="separable",
                deepens=True,
                out=out,
                kernel=3,
                stride=s,
                repeats=middle if out == 512 else n,
                act="relu6",
                se=se,
            )
            for out, n, s in _ROWS
        ),
        *head(),
    )


def _full_conv() -> tuple[Row, ...]:
    return tuple(replace(row, kind="conv") if row.kind == "separable" else row for row in _rows())


_V1 = Network(
    family="mobilenet_v1",
    paper="arXiv:1704.04861 (MobileNets)",
    source="table 1",
    rows=_rows(),
    rounding="truncate",
    bn_eps=1e-5,  # timm's checkpoint; TensorFlow's own have 1e-3
    published={
        # The paper prints these; for other combinations of width and size, the authors' released checkpoints.
        **published(
            _CODE_PAGE,
            {
                (0.75, 192, 1.0): 67.2,
                (0.75, 160, 1.0): 65.3,
                (0.75, 128, 1.0): 62.1,
                (0.5, 192, 1.0): 61.7,
                (0.5, 128, 1.0): 56.3,
                (0.25, 192, 1.0): 47.7,
                (0.25, 160, 1.0): 45.5,
                (0.25, 128, 1.0): 41.5,
            },
        ),
        **published(
            "arXiv:1704.04861 table 6", {(0.75, 224, 1.0): 68.4, (0.5, 224, 1.0): 63.7, (0.25, 224, 1.0): 50.6}
        ),
        **published(
            "arXiv:1704.04861 table 7",
            {(1.0, 224, 1.0): 70.6, (1.0, 192, 1.0): 69.1, (1.0, 160, 1.0): 67.2, (1.0, 128, 1.0): 64.4},
        ),
        **published("arXiv:1704.04861 table 9", {(0.5, 160, 1.0): 60.2}),
        # w=2; d=1.4, w=1.2, r=1.3 (291 px)
        **published("arXiv:1905.11946 table 3", {(2.0, 224, 1.0): 74.2, (1.0, 448, 1.0): 72.7, (1.2, 291, 1.4): 75.6}),
    },
    printed={
        **printed(
            _CODE_PAGE,
            {
                (0.5, 192, 1.0): ("1.34 M", "110 M"),
                (0.5, 128, 1.0): ("1.34 M", "49 M"),
                (0.25, 160, 1.0): ("0.47 M", "21 M"),
                (0.25, 128, 1.0): ("0.47 M", "14 M"),
            },
        ),
        **{
            (0.75, size, 1.0): Printed(
                params="2.59 M",
                macs=macs,
                source=_CODE_PAGE,
                note=f"{ours}: the code page's MACs at 0.75 are all 2.6 % below; the paper's 325 M at 224 px fits",
            )
            for size, macs, ours in ((192, "233 M", "239.3 M"), (160, "162 M", "166.4 M"), (128, "104 M", "106.8 M"))
        },
        **printed(
            _CODE_PAGE, {(0.25, 192, 1.0): ("0.47 M", "34 M")}, "30.2 M; the page's own 41 M and 21 M fit the count"
        ),
        **printed(
            "arXiv:1704.04861 table 6",
            {
                (0.75, 224, 1.0): ("2.6 M", "325 M"),
                (0.5, 224, 1.0): ("1.3 M", "149 M"),
                (0.25, 224, 1.0): ("0.5 M", "41 M"),
            },
        ),
        **printed(
            "arXiv:1704.04861 table 7",
            {
                (1.0, 192, 1.0): ("4.2 M", "418 M"),
                (1.0, 160, 1.0): ("4.2 M", "290 M"),
                (1.0, 128, 1.0): ("4.2 M", "186 M"),
            },
        ),
        **printed(
            "arXiv:1704.04861 table 7",
            {(1.0, 224, 1.0): ("4.2 M", "569 M")},
            "table 1 prints stride 2 for the last depthwise layer, with the same size behind it: it is 1;"
            " MobileNetV2 and MnasNet print 575 M",
        ),
        **printed("arXiv:1704.04861 table 9", {(0.5, 160, 1.0): ("1.32 M", "76 M")}),
        **printed("arXiv:1905.11946 table 3", {(2.0, 224, 1.0): ("", "2.2 B"), (1.0, 448, 1.0): ("", "2.2 B")}),
        **printed(
            "arXiv:1905.11946 table 3",
            {(1.2, 291, 1.4): ("", "2.3 B")},
            "2.44 B at 291 px, 2.22 B at 288 px: the size is not printed",
        ),
    },
)

NETWORKS: Mapping[str, Network] = {
    "mobilenet_v1": _V1,
    "mobilenet_v1_full_conv": replace(
        _V1,
        source="table 4: full convolutions instead of separable ones",
        rows=_full_conv(),
        published=published("arXiv:1704.04861 table 4", {(1.0, 224, 1.0): 71.7}),
        printed=printed("arXiv:1704.04861 table 4", {(1.0, 224, 1.0): ("29.3 M", "4866 M")}),
    ),
    "mobilenet_v1_shallow": replace(
        _V1,
        source="table 5: without the five 14x14x512 layers",
        rows=_rows(middle=1),
        published=published("arXiv:1704.04861 table 5", {(1.0, 224, 1.0): 65.3}),
        printed=printed("arXiv:1704.04861 table 5", {(1.0, 224, 1.0): ("2.9 M", "307 M")}),
    ),
    "mobilenet_v1_se": replace(
        _V1,
        paper="arXiv:1709.01507 (SENet)",
        source="table 3",
        rows=_rows(se=_SE),
        published=published("arXiv:1709.01507 table 3", {(1.0, 224, 1.0): 74.7}),
        printed=printed(
            "arXiv:1709.01507 table 3",
            {(1.0, 224, 1.0): ("4.7 M", "572 M")},
            "569.2 M; the print's 3 M more than MobileNetV1 include SE's pooling and scaling",
        ),
    ),
}
