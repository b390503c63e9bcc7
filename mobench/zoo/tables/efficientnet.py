"""EfficientNet, arXiv:1905.11946: table 1 scaled in width, depth and resolution."""

from __future__ import annotations

from collections.abc import Mapping

from mobench.zoo.rows import Network, Printed, Row, SqueezeExcite, head, printed, published

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
# The released values of width, depth and size, not exact powers of the compound coefficients; top-1, params and MACs
# (which the paper calls FLOPS) of table 2.
_SCALED = {
    "efficientnet_b0": (1.0, 1.0, 224, 77.1, "5.3 M", "0.39 B"),
    "efficientnet_b1": (1.0, 1.1, 240, 79.1, "7.8 M", "0.7 B"),
    "efficientnet_b2": (1.1, 1.2, 260, 80.1, "9.2 M", "1.0 B"),
    "efficientnet_b3": (1.2, 1.4, 300, 81.6, "12 M", "1.8 B"),
    "efficientnet_b4": (1.4, 1.8, 380, 82.9, "19 M", "4.2 B"),
    "efficientnet_b5": (1.6, 2.2, 456, 83.6, "30 M", "9.9 B"),
    "efficientnet_b6": (1.8, 2.6, 528, 84.0, "43 M", "19 B"),
    "efficientnet_b7": (2.0, 3.1, 600, 84.3, "66 M", "37 B"),
}
_NOTES = {
    "efficientnet_b4": "4.39 B at 380 px; 4.2 B would be 368 px",
    "efficientnet_b5": "10.27 B at 456 px; the print is 3.6 % below",
}
_SE = SqueezeExcite(divisor=4, of="input", rounding="truncate", act="silu", gate="sigmoid")

_B0_ROWS = (
    Row(kind="conv", out=32, kernel=3, stride=2, act="silu"),
    *(
        Row(kind="inverted", deepens=True, out=out, kernel=k, stride=s, repeats=n, expand=t, act="silu", se=_SE)
        for t, k, s, out, n in _ROWS
    ),
    Row(kind="conv", out=1280, act="silu"),
    *head(),
)

# d=4; w=2; r=2; d=1.4, w=1.2, r=1.3
_TABLE_7 = published(
    "arXiv:1905.11946 table 7",
    {(1.0, 224, 4.0): 79.0, (2.0, 224, 1.0): 78.9, (1.0, 448, 1.0): 79.1, (1.2, 291, 1.4): 81.1},
)
_PRINTED_7 = {
    **printed("arXiv:1905.11946 table 7", {(1.2, 291, 1.4): ("", "1.8 B")}),
    **{
        variant: Printed(
            params="",
            macs=macs,
            source="arXiv:1905.11946 table 7",
            note=f"{ours}: of table 7's single dimensions arithmetic gives 12 to 20 % less than the print",
        )
        for variant, macs, ours in (
            ((1.0, 224, 4.0), "1.8 B", "1.58 B"),
            ((2.0, 224, 1.0), "1.8 B", "1.45 B"),
            ((1.0, 448, 1.0), "1.9 B", "1.54 B"),
        )
    },
}

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
            **published("arXiv:1905.11946 table 2", {(width, size, depth): top1}),
            **(_TABLE_7 if name == "efficientnet_b0" else {}),
        },
        printed={
            **printed("arXiv:1905.11946 table 2", {(width, size, depth): (params, macs)}, _NOTES.get(name, "")),
            **(_PRINTED_7 if name == "efficientnet_b0" else {}),
        },
    )
    for name, (width, depth, size, top1, params, macs) in _SCALED.items()
}
