"""MobileNetV3, arXiv:1905.02244, tables 1 and 2, and the variants that its tables 3 and 5 and section 5 compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mobench.zoo.rows import (
    Activation,
    Network,
    Printed,
    Published,
    Row,
    SqueezeExcite,
    Variant,
    head,
    printed,
    published,
)

_RE: Activation = "relu"
_HS: Activation = "hardswish"

# k, exp size, out, SE, NL, s
_LARGE = (
    (3, 16, 16, False, _RE, 1),
    (3, 64, 24, False, _RE, 2),
    (3, 72, 24, False, _RE, 1),
    (5, 72, 40, True, _RE, 2),
    (5, 120, 40, True, _RE, 1),
    (5, 120, 40, True, _RE, 1),
    (3, 240, 80, False, _HS, 2),
    (3, 200, 80, False, _HS, 1),
    (3, 184, 80, False, _HS, 1),
    (3, 184, 80, False, _HS, 1),
    (3, 480, 112, True, _HS, 1),
    (3, 672, 112, True, _HS, 1),
    (5, 672, 160, True, _HS, 2),
    (5, 960, 160, True, _HS, 1),
    (5, 960, 160, True, _HS, 1),
)
_SMALL = (
    (3, 16, 16, True, _RE, 2),
    (3, 72, 24, False, _RE, 2),
    (3, 88, 24, False, _RE, 1),
    (5, 96, 40, True, _HS, 2),
    (5, 240, 40, True, _HS, 1),
    (5, 240, 40, True, _HS, 1),
    (5, 120, 48, True, _HS, 1),
    (5, 144, 48, True, _HS, 1),
    (5, 288, 96, True, _HS, 2),
    (5, 576, 96, True, _HS, 1),
    (5, 576, 96, True, _HS, 1),
)
_SE = SqueezeExcite(divisor=4, of="hidden", rounding="round8", act="relu", gate="hardsigmoid")
_SE_FROM_INPUT = replace(_SE, of="input")  # as MnasNet sizes it; section 5.3 replaced that


def _rows(blocks: tuple[tuple[int, int, int, bool, Activation, int], ...], last: int, hidden: int) -> tuple[Row, ...]:
    return (
        Row(kind="conv", out=16, kernel=3, stride=2, act="hardswish"),
        *(
            Row(kind="inverted", deepens=True, out=out, kernel=k, stride=s, hidden=exp, se=_SE if se else None, act=nl)
            for k, exp, out, se, nl, s in blocks
        ),
        Row(kind="conv", out=last, act="hardswish"),
        # The authors' code does not scale the hidden layer (torchvision does: 3.38 M against 3.99 M at 0.75).
        *head(Row(kind="dense", out=hidden, act="hardswish", scaling="fixed")),
    )


_LARGE_ROWS = _rows(_LARGE, last=960, hidden=1280)
# Table 2 prints a 1280 head and SE on the 576 conv; the authors' code and weights have 1024 and none.
_SMALL_ROWS = _rows(_SMALL, last=576, hidden=1024)


def _with_se(rows: tuple[Row, ...], se: SqueezeExcite | None) -> tuple[Row, ...]:
    return tuple(replace(row, se=se) if row.se else row for row in rows)


def _minimalistic(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Every kernel 3x3 at most, no SE, ReLU instead of h-swish, also in stem and head."""
    return tuple(
        replace(row, kernel=min(row.kernel, 3), se=None, act="relu" if row.act == "hardswish" else row.act)
        for row in rows
    )


def _hswish_from(rows: tuple[Row, ...], channels: int | None) -> tuple[Row, ...]:
    """H-swish from the blocks with so many output channels on, in stem and head as it was; nowhere for None."""

    def act(row: Row) -> Activation:
        if row.act == "none" or channels is None:
            return row.act if row.act == "none" else "relu"
        if row.kind == "inverted":
            return "hardswish" if row.out >= channels else "relu"
        return row.act

    return tuple(replace(row, act=act(row)) for row in rows)


def _spelled(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(replace(row, act="hardswish_spelled") if row.act == "hardswish" else row for row in rows)


def _original_last_stage(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Figure 5, above: as in MobileNetV2, a block to 320 channels and a 1280 convolution before the pooling."""
    return (
        *rows[:-4],
        Row(kind="inverted", deepens=True, out=320, kernel=3, hidden=960, act="hardswish"),
        Row(kind="conv", out=1280, act="hardswish"),
        *head(),
    )


def _head(rows: tuple[Row, ...], hidden: int) -> tuple[Row, ...]:
    """Another width of the hidden dense layer behind the pooling."""
    *others, dense, classifier = rows
    return (*others, replace(dense, out=hidden), classifier)


def _stem32(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    stem, first, *rest = rows
    return (replace(stem, out=32), replace(first, hidden=32), *rest)


_LARGE_NETWORK = Network(
    family="mobilenet_v3",
    paper="arXiv:1905.02244 (MobileNetV3)",
    source="table 1",
    rows=_LARGE_ROWS,
    rounding="round8",
    bn_eps=1e-3,  # torchvision; timm has 1e-5
    published=published("arXiv:1905.02244 table 3", {(1.0, 224, 1.0): 75.2, (0.75, 224, 1.0): 73.3}),
    printed={
        **printed(
            "arXiv:1905.02244 table 3",
            {(1.0, 224, 1.0): ("5.4 M", "219 M")},
            "216.6 M; the authors' code page prints 217 M",
        ),
        **printed("arXiv:1905.02244 table 3", {(0.75, 224, 1.0): ("4.0 M", "155 M")}),
    },
)
_SMALL_NETWORK = replace(
    _LARGE_NETWORK,
    source="table 2",
    rows=_SMALL_ROWS,
    published=published("arXiv:1905.02244 table 3", {(1.0, 224, 1.0): 67.4, (0.75, 224, 1.0): 65.4}),
    printed={
        **printed(
            "arXiv:1905.02244v5 table 3",
            {(1.0, 224, 1.0): ("2.5 M", "56 M")},
            "the ICCV print has 2.9 M, that of a 1280 head, and 66 M, which is not reproducible",
        ),
        **printed(
            "arXiv:1905.02244 (ICCV) table 3",
            {(0.75, 224, 1.0): ("2.4 M", "44 M")},
            "2.04 M: 2.4 M is that of a 1280 head; this is the released one of 1024",
        ),
    },
)

_Change = Callable[[tuple[Row, ...]], tuple[Row, ...]]
# Suffix: what it is, and how its rows come from the network's. Table 5's @16 leaves stem and head as they are: table 1
# has h-swish there, and the text says nothing else. "Unfused" is the same function, h-swish out of elementary operators
# (table 5, "unoptimised").
_BOTH: Mapping[str, tuple[str, _Change]] = {
    "minimalistic": ("authors' code: 3x3 kernels, no SE, ReLU", _minimalistic),
    "relu": ("section 5.2: ReLU everywhere", lambda rows: _hswish_from(rows, None)),
    "hswish16": ("section 5.2: h-swish everywhere", lambda rows: _hswish_from(rows, 16)),
    "spelled": ("section 5.2: h-swish unfused", _spelled),
    "hswish16_spelled": ("section 5.2: h-swish everywhere, unfused", lambda rows: _spelled(_hswish_from(rows, 16))),
    "no_se": ("without SE", lambda rows: _with_se(rows, None)),
    "se_input": ("section 5.3: SE sized by the block's input", lambda rows: _with_se(rows, _SE_FROM_INPUT)),
    "stem32": ("section 5.1: 32 filters in the stem", _stem32),
}
# No block of Small has 112 channels, and figure 5 redraws the last stage of Large.
_LARGE_ONLY: Mapping[str, tuple[str, _Change]] = {
    "hswish112": ("section 5.2: h-swish from 112 channels on", lambda rows: _hswish_from(rows, 112)),
    "hswish112_spelled": ("section 5.2: from 112 on, unfused", lambda rows: _spelled(_hswish_from(rows, 112))),
    "original_last_stage": ("figure 5: the last stage before its redesign", _original_last_stage),
    "head2560": ("twice the hidden dense layer: params that take no time", lambda rows: _head(rows, 2560)),
}
_SMALL_ONLY: Mapping[str, tuple[str, _Change]] = {
    "head1280": ("ICCV's table 2: a head of 1280", lambda rows: _head(rows, 1280)),
}
_TABLE_5 = {
    "relu": 74.5,
    "hswish112": 75.0,
    "hswish16": 75.4,
    "spelled": 75.2,
    "hswish112_spelled": 75.0,
    "hswish16_spelled": 75.4,
}
_CODE_PAGE = "tensorflow/models slim mobilenet README (released checkpoint)"
_PUBLISHED: Mapping[str, Mapping[Variant, Published]] = {
    "mobilenet_v3_large_minimalistic": published(_CODE_PAGE, {(1.0, 224, 1.0): 72.3}),
    "mobilenet_v3_small_minimalistic": published(_CODE_PAGE, {(1.0, 224, 1.0): 61.9}),
    "mobilenet_v3_small_head1280": _SMALL_NETWORK.published,
    **{
        f"mobilenet_v3_large_{suffix}": published("arXiv:1905.02244 table 5", {(1.0, 224, 1.0): top1})
        for suffix, top1 in _TABLE_5.items()
    },
}
_PRINTED: Mapping[str, Mapping[Variant, Printed]] = {
    "mobilenet_v3_large_minimalistic": printed(_CODE_PAGE, {(1.0, 224, 1.0): ("3.9 M", "209 M")}),
    "mobilenet_v3_small_minimalistic": printed(
        _CODE_PAGE, {(1.0, 224, 1.0): ("2.0 M", "65 M")}, "52.3 M: 65 M is not reproducible"
    ),
    "mobilenet_v3_small_head1280": {
        **printed(
            "arXiv:1905.02244 (ICCV) table 3",
            {(1.0, 224, 1.0): ("2.9 M", "66 M")},
            "56.9 M: 66 M is not reproducible, and corrected in v5",
        ),
        **printed("arXiv:1905.02244 (ICCV) table 3", {(0.75, 224, 1.0): ("2.4 M", "44 M")}),
    },
}


def _variants(name: str, network: Network, changes: Mapping[str, tuple[str, _Change]]) -> dict[str, Network]:
    return {
        (key := f"{name}_{suffix}"): replace(
            network,
            source=source,
            rows=change(network.rows),
            published=_PUBLISHED.get(key, {}),
            printed=_PRINTED.get(key, {}),
        )
        for suffix, (source, change) in changes.items()
    }


NETWORKS: Mapping[str, Network] = {
    "mobilenet_v3_large": _LARGE_NETWORK,
    "mobilenet_v3_small": _SMALL_NETWORK,
    **_variants("mobilenet_v3_large", _LARGE_NETWORK, {**_BOTH, **_LARGE_ONLY}),
    **_variants("mobilenet_v3_small", _SMALL_NETWORK, {**_BOTH, **_SMALL_ONLY}),
}
