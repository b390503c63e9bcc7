"""MobileNetV2, arXiv:1801.04381, table 2."""

from __future__ import annotations

from collections.abc import Mapping

from mobench.zoo.rows import Network, Row, head, published

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

NETWORKS: Mapping[str, Network] = {
    "mobilenet_v2": Network(
        family="mobilenet_v2",
        paper="arXiv:1801.04381 (MobileNetV2)",
        source="table 2",
        rows=(
            Row(kind="conv", out=32, kernel=3, stride=2, act="relu6"),
            *(
                Row(kind="inverted", out=c, kernel=3, stride=s, repeats=n, expand=t, act="relu6")
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
            **published("arXiv:1801.04381 table 4", {(1.0, 224): 72.0, (1.4, 224): 74.7}),
            **published(
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
            **published("arXiv:1905.11946 table 3", {(2.0, 224): 76.4, (1.0, 448): 74.8, (1.0, 224, 4.0): 76.8}),
        },
    ),
}
