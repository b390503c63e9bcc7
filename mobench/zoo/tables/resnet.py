"""ResNet, arXiv:1512.03385, table 1, and SE-ResNet-50, arXiv:1709.01507: reduction ratios and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from mobench.zoo.rows import Network, Printed, Row, SqueezeExcite, Variant, head, printed, published

_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
_OUT = (256, 512, 1024, 2048)
_SE = SqueezeExcite(divisor=16, of="output", rounding="truncate", act="relu", gate="sigmoid", place="output")


def _rows(
    repeats: tuple[int, ...],
    *,
    se: SqueezeExcite | None = None,
    se_stages: int = 4,
    stride_in: Literal["1x1", "3x3"] = "3x3",
) -> tuple[Row, ...]:
    return (
        Row(kind="conv", out=64, kernel=7, stride=2, act="relu"),
        Row(kind="maxpool", kernel=3, stride=2),
        *(
            Row(
                kind="bottleneck",
                out=out,
                kernel=3,
                stride=1 if stage == 0 else 2,
                repeats=n,
                act="relu",
                se=se if stage < se_stages else None,
                stride_in=stride_in,
            )
            for stage, (out, n) in enumerate(zip(_OUT, repeats, strict=True))
        ),
        *head(),
    )


def _resnet(
    name: str, top1: float, stride_in: Literal["1x1", "3x3"], counts: Mapping[Variant, Printed] | None = None
) -> Network:
    """The paper strides in the first 1x1; torchvision, timm and the later literature in the 3x3 (ResNet v1.5)."""
    return Network(
        family="resnet",
        paper="arXiv:1512.03385 (ResNet)",
        source=f"table 1, stride in the {stride_in}",
        rows=_rows(_DEPTHS[name], stride_in=stride_in),
        rounding="round8",
        bn_eps=1e-5,
        # As EfficientNet's table 2 (stride in the 3x3) and SENet's table 2 (re-implementation, in the 1x1) have them.
        published=published(
            "arXiv:1905.11946 table 2" if stride_in == "3x3" else "arXiv:1709.01507 table 2", {(1.0, 224): top1}
        ),
        printed=counts or {},
    )


def _se_resnet50(
    source: str,
    top1: float | None,
    where: str = "",
    counts: Mapping[Variant, Printed] | None = None,
    **rows: object,
) -> Network:
    return Network(
        family="se_resnet",
        paper="arXiv:1709.01507 (SENet)",
        source=source,
        rows=_rows(_DEPTHS["resnet50"], **{"se": _SE, **rows}),  # type: ignore[arg-type]
        rounding="round8",
        bn_eps=1e-5,
        published=published(f"arXiv:1709.01507 {where}", {(1.0, 224): top1}) if top1 is not None else {},
        printed=counts or {},
    )


def _in_senet(where: str, params: str, macs: str = "", note: str = "") -> Mapping[Variant, Printed]:
    return printed(f"arXiv:1709.01507 {where}", {(1.0, 224): (params, macs)}, note)


def _in_efficientnet(params: str, macs: str, note: str = "") -> Mapping[Variant, Printed]:
    return printed("arXiv:1905.11946 table 2", {(1.0, 224): (params, macs)}, note)


_STRIDE_NOTE = "stride in the 3x3: 4.09 B; the paper has it in the 1x1 (3.86 B)"
_RESNET50 = _resnet(
    "resnet50", 76.0, "3x3", _in_efficientnet("26 M", "4.1 B", "stride in the 3x3; in the 1x1, SENet prints 3.86 B")
)
_TABLE_3 = published("arXiv:1905.11946 table 3", {(1.0, 224, 4.0): 78.1, (2.0, 224): 77.7, (1.0, 448): 77.5})
_PRINTED_3 = {
    **printed(
        "arXiv:1905.11946 table 3",
        {(1.0, 224, 4.0): ("", "16.2 B"), (2.0, 224): ("", "14.7 B")},
        "depth 4 is 14.6 B and width 2 is 16.1 B: the two printed figures fit when exchanged",
    ),
    **printed("arXiv:1905.11946 table 3", {(1.0, 448): ("", "16.4 B")}),
}

NETWORKS: Mapping[str, Network] = {
    "resnet50": replace(
        _RESNET50,
        published={**_RESNET50.published, **_TABLE_3},
        printed={**_RESNET50.printed, **_PRINTED_3},
    ),
    "resnet50_stride1x1": _resnet(
        "resnet50",
        75.2,
        "1x1",
        _in_senet("table 13", "25.6 M", "3.86 B", "stride in the 1x1; in the 3x3, EfficientNet prints 4.1 B"),
    ),
    "resnet101": replace(_resnet("resnet101", 0.0, "3x3"), published={}),
    "resnet101_stride1x1": _resnet("resnet101", 76.83, "1x1", _in_senet("table 2", "", "7.58 B")),
    "resnet152": _resnet("resnet152", 77.8, "3x3", _in_efficientnet("60 M", "11 B")),
    "resnet152_stride1x1": _resnet("resnet152", 77.58, "1x1", _in_senet("table 2", "", "11.3 B")),
    # The paper drops the biases in section 6; common code and its checkpoints keep them.
    "se_resnet50": _se_resnet50(
        "table 2, stride in the 3x3", None, counts=_in_senet("table 13", "28.1 M", "3.87 B", _STRIDE_NOTE)
    ),
    "se_resnet50_stride1x1": _se_resnet50(
        "table 2",
        76.71,
        "table 2",
        _in_senet(
            "table 13",
            "28.1 M",
            "3.87 B",
            "the paper's 0.26 % more MACs than ResNet-50 include SE's pooling and scaling; its layers alone are 0.07 %",
        ),
        stride_in="1x1",
    ),
    "se_resnet50_no_bias": _se_resnet50(
        "section 6: SE without biases", None, counts=_in_senet("table 10", "28.1 M"), se=replace(_SE, bias=False)
    ),
    **{
        f"se_resnet50_r{r}": _se_resnet50(
            f"table 10: r = {r}", top1, "table 10", _in_senet("table 10", params), se=replace(_SE, divisor=r)
        )
        for r, top1, params in ((2, 77.71, "45.7 M"), (4, 77.75, "35.7 M"), (8, 77.74, "30.7 M"), (32, 77.28, "26.9 M"))
    },
    "se_resnet50_no_last_stage": _se_resnet50("section 4: no SE in the last stage", None, se_stages=3),
    "se_resnet50_pre": _se_resnet50("table 14: SE-PRE", 77.77, "table 14", se=replace(_SE, of="input", place="pre")),
    "se_resnet50_post": _se_resnet50("table 14: SE-POST", 77.22, "table 14", se=replace(_SE, place="post")),
    "se_resnet50_identity": _se_resnet50("table 14: SE-Identity", 77.8, "table 14", se=replace(_SE, place="identity")),
    "se_resnet50_3x3": _se_resnet50(
        "table 15: SE behind the 3x3",
        77.52,
        "table 15",
        _in_senet("table 15", "25.8 M", "3.86 B", _STRIDE_NOTE),
        se=replace(_SE, of="hidden", place="spatial"),
    ),
}
