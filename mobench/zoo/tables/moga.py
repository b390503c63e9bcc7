"""MoGA, arXiv:1908.01314: the authors' released model files. Widths, strides and activations are V3-Large's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mobench.zoo.rows import Network, Row, SqueezeExcite, head, printed, published

# out, s of the 14 searched blocks
_PLACES = (
    (24, 2),
    (24, 1),
    (40, 2),
    (40, 1),
    (40, 1),
    (80, 2),
    (80, 1),
    (80, 1),
    (80, 1),
    (112, 1),
    (112, 1),
    (160, 2),
    (160, 1),
    (160, 1),
)
# expansion, kernel; s: with SE. Block 3 and block 6 of A: the figure has SE on the former, the code on the latter.
_A = "6k5 6k7 6k3 6k3s 3k3s 6k3s 6k3 6k7 3k7s 6k7 6k3 6k3 6k5s 6k5s"
_A_FIGURE = "6k5 6k7 6k3s 6k3s 3k3s 6k3 6k3 6k7 3k7s 6k7 6k3 6k3 6k5s 6k5s"
_B = "3k3 3k3 6k7 3k3 6k5 6k3s 6k5s 3k3 6k7s 6k7 3k5 6k7s 6k7s 6k3s"
_C = "3k5 3k3 3k5 3k3 3k5 3k5 6k5s 3k5 3k5 6k3 6k3s 6k3s 6k3s 6k3s"
_A_NOTE = "the code has SE on block 6 where the figure has it on block 3; both fit the print"
_SE = SqueezeExcite(divisor=4, of="hidden", rounding="truncate", act=None, gate="hardsigmoid")


def _network(choices: str, source: str, top1: float, params: str, macs: str, note: str = "") -> Network:
    blocks = [
        Row(
            kind="inverted",
            deepens=True,
            out=out,
            kernel=int(choice[2]),
            stride=s,
            expand=int(choice[0]),
            act="relu" if out <= 40 else "hardswish",
            se=_SE if choice.endswith("s") else None,
        )
        for (out, s), choice in zip(_PLACES, choices.split(), strict=True)
    ]
    return Network(
        family="moga",
        paper="arXiv:1908.01314 (MoGA)",
        source=source,
        rows=(
            Row(kind="conv", out=16, kernel=3, stride=2, act="hardswish"),
            # V3-Large has a shortcut here.
            Row(kind="inverted", deepens=True, out=16, kernel=3, act="relu", shortcut=False),
            *blocks,
            Row(kind="conv", out=960, act="hardswish"),
            *head(Row(kind="dense", out=1280, act="hardswish", scaling="fixed", bias=False)),
        ),
        rounding="round8",
        bn_eps=1e-5,
        published=published("arXiv:1908.01314 table 3", {(1.0, 224, 1.0): top1}),
        printed=printed("arXiv:1908.01314 table 3", {(1.0, 224, 1.0): (params, macs)}, note),
    )


_MOGA_C = _network(_C, "released code and figure", 75.3, "5.4 M", "221 M")

NETWORKS: Mapping[str, Network] = {
    "moga_a": _network(_A, "released code", 75.9, "5.1 M", "304 M", _A_NOTE),
    "moga_a_figure": _network(_A_FIGURE, "the paper's figure", 75.9, "5.1 M", "304 M", _A_NOTE),
    "moga_b": _network(_B, "released code and figure", 75.5, "5.5 M", "248 M"),
    "moga_c": _MOGA_C,
    "moga_c_no_se": replace(
        _MOGA_C,
        source="without SE",
        rows=tuple(replace(row, se=None) for row in _MOGA_C.rows),
        published={},
        printed={},
    ),
}
