"""MobileNetV2, arXiv:1801.04381, table 2."""

from __future__ import annotations

from collections.abc import Mapping

from mobench.zoo.rows import Network, Row, head, printed, published

# t, c, n, s
_ROWS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_CODE_PAGE = "tensorflow/models slim mobilenet README (released checkpoint)"
# Params the page prints at a width, and its MACs in millions at 224, 192, 160, 128 and 96 pixels.
_CODE_PAGE_COUNTS = {
    1.0: ("3.47 M", (None, 221, 154, 99, 56)),
    0.75: ("2.61 M", (209, 153, 107, 69, 39)),
    0.5: ("1.95 M", (97, 71, 50, 32, 18)),
    0.35: ("1.66 M", (None, 43, 30, 20, 11)),
}

NETWORKS: Mapping[str, Network] = {
    "mobilenet_v2": Network(
        family="mobilenet_v2",
        paper="arXiv:1801.04381 (MobileNetV2)",
        source="table 2",
        rows=(
            Row(kind="conv", out=32, kernel=3, stride=2, act="relu6"),
            *(
                Row(kind="inverted", deepens=True, out=c, kernel=3, stride=s, repeats=n, expand=t, act="relu6")
                for t, c, n, s in _ROWS
            ),
            # Section 4.1 of the paper: below width 1 the multiplier spares the last convolution.
            Row(kind="conv", out=1280, act="relu6", scaling="width_from_one"),
            *head(),
        ),
        rounding="round8",
        bn_eps=1e-5,  # torchvision and timm; TensorFlow's own checkpoints have 1e-3
        published={
            # The paper prints only two; the others are the authors' released checkpoints.
            **published("arXiv:1801.04381 table 4", {(1.0, 224, 1.0): 72.0, (1.4, 224, 1.0): 74.7}),
            **published(
                _CODE_PAGE,
                {
                    (1.3, 224, 1.0): 74.4,
                    (1.0, 192, 1.0): 70.7,
                    (1.0, 160, 1.0): 68.8,
                    (1.0, 128, 1.0): 65.3,
                    (1.0, 96, 1.0): 60.3,
                    (0.75, 224, 1.0): 69.8,
                    (0.75, 192, 1.0): 68.7,
                    (0.75, 160, 1.0): 66.4,
                    (0.75, 128, 1.0): 63.2,
                    (0.75, 96, 1.0): 58.8,
                    (0.5, 224, 1.0): 65.4,
                    (0.5, 192, 1.0): 63.9,
                    (0.5, 160, 1.0): 61.0,
                    (0.5, 128, 1.0): 57.7,
                    (0.5, 96, 1.0): 51.2,
                    (0.35, 192, 1.0): 58.2,
                    (0.35, 160, 1.0): 55.7,
                    (0.35, 128, 1.0): 50.8,
                    (0.35, 96, 1.0): 45.5,
                },
            ),
            **published("arXiv:1905.02244 table 3", {(0.35, 224, 1.0): 60.8}),
            **published(
                "arXiv:1905.11946 table 3", {(2.0, 224, 1.0): 76.4, (1.0, 448, 1.0): 74.8, (1.0, 224, 4.0): 76.8}
            ),
        },
        printed={
            **printed(
                "arXiv:1801.04381 table 4",
                {(1.0, 224, 1.0): ("3.4 M", "300 M")},
                "3.505 M; the code page prints 3.47 M, as its checkpoints have it",
            ),
            **printed(
                "arXiv:1801.04381 table 4",
                {(1.4, 224, 1.0): ("6.9 M", "585 M")},
                "6.11 M: 6.9 M is not reproducible; the code page prints 6.06 M",
            ),
            **printed(_CODE_PAGE, {(1.3, 224, 1.0): ("5.34 M", "509 M")}),
            **{
                key: value
                for width, (params, macs) in _CODE_PAGE_COUNTS.items()
                for size, millions in zip((224, 192, 160, 128, 96), macs, strict=True)
                if millions
                for key, value in printed(_CODE_PAGE, {(width, size, 1.0): (params, f"{millions} M")}).items()
            },
            **printed(
                "arXiv:1905.02244 table 3",
                {(0.35, 224, 1.0): ("1.6 M", "59.2 M")},
                "the code page prints 1.66 M, 59 M and 60.3 % top-1",
            ),
            **printed(
                "arXiv:1905.11946 table 3",
                {(2.0, 224, 1.0): ("", "1.1 B"), (1.0, 448, 1.0): ("", "1.2 B"), (1.0, 224, 4.0): ("", "1.2 B")},
            ),
        },
    ),
}
