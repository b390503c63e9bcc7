"""MnasNet, arXiv:1807.11626, and the released code (A1, B1, small); single-type networks after its table 6."""

from __future__ import annotations

from collections.abc import Mapping

from mobench.zoo.rows import Network, Printed, Published, Row, SqueezeExcite, Variant, head, printed, published

# n, k, s, expansion, out, SE
_A1 = (
    (1, 3, 1, 1, 16, False),
    (2, 3, 2, 6, 24, False),
    (3, 5, 2, 3, 40, True),
    (4, 3, 2, 6, 80, False),
    (2, 3, 1, 6, 112, True),
    (3, 5, 2, 6, 160, True),
    (1, 3, 1, 6, 320, False),
)
_B1 = (
    (1, 3, 1, 1, 16, False),
    (3, 3, 2, 3, 24, False),
    (3, 5, 2, 3, 40, False),
    (3, 5, 2, 6, 80, False),
    (2, 3, 1, 6, 96, False),
    (4, 5, 2, 6, 192, False),
    (1, 3, 1, 6, 320, False),
)
_SMALL = (
    (1, 3, 1, 1, 8, False),
    (1, 3, 2, 3, 16, False),
    (2, 3, 2, 6, 16, False),
    (4, 5, 2, 6, 32, True),
    (3, 3, 1, 6, 32, True),
    (3, 5, 2, 6, 88, True),
    (1, 3, 1, 6, 144, False),
)
_SE = SqueezeExcite(divisor=4, of="input", rounding="truncate", act="relu", gate="sigmoid")


def _single_type(expand: int, kernel: int) -> tuple[tuple[int, int, int, int, int, bool], ...]:
    """A1's depths and widths with one kind of block.

    A guess: table 6 prints latency and top-1 of such networks, not their layers. Theirs would claim too much for these.
    """
    first, *rest = _A1
    return (first, *((n, kernel, s, expand, out, False) for n, _, s, _, out, _ in rest))


def _network(
    source: str,
    blocks: tuple[tuple[int, int, int, int, int, bool], ...],
    top1: Mapping[Variant, Published] | None = None,
    counts: Mapping[Variant, Printed] | None = None,
    stem: int = 32,
) -> Network:
    return Network(
        family="mnasnet",
        paper="arXiv:1807.11626 (MnasNet)",
        source=source,
        rows=(
            Row(kind="conv", out=stem, kernel=3, stride=2, act="relu"),
            *(
                Row(
                    kind="inverted",
                    deepens=True,
                    out=out,
                    kernel=k,
                    stride=s,
                    repeats=n,
                    expand=e,
                    act="relu",
                    se=_SE if se else None,
                )
                for n, k, s, e, out, se in blocks
            ),
            Row(kind="conv", out=1280, act="relu", scaling="fixed"),
            *head(),
        ),
        rounding="round8",
        bn_eps=1e-5,  # torchvision and timm; TensorFlow's own have 1e-3
        published=top1 or {},
        printed=counts or {},
    )


_UNPRINTED = "after table 6, whose layers are not printed"

NETWORKS: Mapping[str, Network] = {
    "mnasnet_a1": _network(
        "figure 7 and released code",
        _A1,
        {
            **published("arXiv:1807.11626 table 1", {(1.0, 224, 1.0): 75.2}),
            **published("arXiv:1807.11626 table 4", {(0.35, 224, 1.0): 64.1}),
        },
        {
            **printed(
                "arXiv:1807.11626 table 1",
                {(1.0, 224, 1.0): ("3.9 M", "312 M")},
                "arXiv:1905.02244 table 3 prints 315 M",
            ),
            **printed(
                "arXiv:1807.11626 table 4",
                {(0.35, 224, 1.0): ("1.7 M", "63 M")},
                "61.7 M: how they round widths is not printed",
            ),
        },
    ),
    "mnasnet_b1": _network(
        "released code",
        _B1,
        published("arXiv:1807.11626 table 2", {(1.0, 224, 1.0): 74.5}),
        printed("arXiv:1807.11626 table 2", {(1.0, 224, 1.0): ("4.4 M", "315 M")}),
    ),
    "mnasnet_small": _network(
        "released code (search2 of table 4)",
        _SMALL,
        published("arXiv:1807.11626 table 4", {(1.0, 224, 1.0): 66.0}),
        printed("arXiv:1807.11626 table 4", {(1.0, 224, 1.0): ("2.0 M", "68 M")}),
        stem=8,
    ),
    "mnasnet_e3k3": _network(f"MBConv3 (k3x3) only, {_UNPRINTED}", _single_type(3, 3)),
    "mnasnet_e3k5": _network(f"MBConv3 (k5x5) only, {_UNPRINTED}", _single_type(3, 5)),
    "mnasnet_e6k3": _network(f"MBConv6 (k3x3) only, {_UNPRINTED}", _single_type(6, 3)),
    "mnasnet_e6k5": _network(f"MBConv6 (k5x5) only, {_UNPRINTED}", _single_type(6, 5)),
}
