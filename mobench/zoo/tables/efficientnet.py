"""EfficientNet, arXiv:1905.11946: table 1 scaled in width, depth and resolution."""

from __future__ import annotations

from collections.abc import Mapping

from mobench.zoo.rows import Network, Row, SqueezeExcite, head, published

# t, k, s, out, n. The resolutions printed in table 1 are those of the blocks' inputs.
_ROWS = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
# The released values of width, depth and size, not exact powers of the compound coefficients; top-1 of table 2.
_SCALED = {
    "efficientnet_b0": (1.0, 1.0, 224, 77.1),
    "efficientnet_b1": (1.0, 1.1, 240, 79.1),
    "efficientnet_b2": (1.1, 1.2, 260, 80.1),
    "efficientnet_b3": (1.2, 1.4, 300, 81.6),
    "efficientnet_b4": (1.4, 1.8, 380, 82.9),
    "efficientnet_b5": (1.6, 2.2, 456, 83.6),
    "efficientnet_b6": (1.8, 2.6, 528, 84.0),
    "efficientnet_b7": (2.0, 3.1, 600, 84.3),
}
_SE = SqueezeExcite(divisor=4, of="input", rounding="truncate", act="silu", gate="sigmoid")

_B0_ROWS = (
    Row(kind="conv", out=32, kernel=3, stride=2, act="silu"),
    *(
        Row(kind="inverted", out=out, kernel=k, stride=s, repeats=n, expand=t, act="silu", se=_SE)
        for t, k, s, out, n in _ROWS
    ),
    Row(kind="conv", out=1280, act="silu"),
    *head(),
)

# d=4; w=2; r=2; d=1.4, w=1.2, r=1.3
_TABLE_7 = published(
    "arXiv:1905.11946 table 7", {(1.0, 224, 4.0): 79.0, (2.0, 224): 78.9, (1.0, 448): 79.1, (1.2, 291, 1.4): 81.1}
)

NETWORKS: Mapping[str, Network] = {
    name: Network(
        family="efficientnet",
        paper="arXiv:1905.11946 (EfficientNet)",
        source="tables 1 and 2",
        rows=_B0_ROWS,
        rounding="round8",
        # torchvision and timm; torchvision's B5 to B7 and TensorFlow's own have 1e-3
        bn_eps=1e-5,
        input_size=size,
        width=width,
        depth=depth,
        published={
            **published("arXiv:1905.11946 table 2", {(width, size): top1}),
            **(_TABLE_7 if name == "efficientnet_b0" else {}),
        },
    )
    for name, (width, depth, size, top1) in _SCALED.items()
}
