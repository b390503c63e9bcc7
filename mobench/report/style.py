"""How every plot looks: colours by network, markers by runtime, fill by precision, type sizes, metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

PLOT_SUFFIXES = (".svg", ".png", ".pdf")
COLUMN_IN = 3.5  # a paper's column
PAGE_IN = 7.0  # its full width
SMALL_IN = 5.0  # narrower plots have smaller type and a narrower legend
DPI = 300

# Okabe and Ito's palette (2008, "Color Universal Design") without its yellow, which does not read on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# A family keeps its colour in every plot, and so do the four networks of the demo. There are more families than
# colours, so the large reference networks share a grey. It is as far from each colour as the nearest two of the palette
# are from each other, for colour-blind readers too.
_V1, _V2, _LARGE, _SMALL = COLOURS[3], COLOURS[1], COLOURS[0], COLOURS[2]
_EFFICIENTNET, _MNASNET, _MOGA, _REFERENCE = COLOURS[4], COLOURS[5], COLOURS[6], "#5a5a5a"
# name: how the papers write it, and its colour in every plot, which a network and its variants share: the labels beside
# the points tell them apart. Networks that are not ours go by their own name and take the colours that are left, in the
# order of their names.
NETWORKS: Mapping[str, tuple[str, str]] = {
    "mobilenet_v1": ("MobileNetV1", _V1),
    "mobilenet_v1_full_conv": ("MobileNetV1 full convolution", _V1),
    "mobilenet_v1_shallow": ("MobileNetV1 shallow", _V1),
    "mobilenet_v1_se": ("SE-MobileNetV1", _V1),
    "mobilenet_v2": ("MobileNetV2", _V2),
    "mobilenet_v3_large": ("MobileNetV3-Large", _LARGE),
    "mobilenet_v3_large_minimalistic": ("MobileNetV3-Large minimalistic", _LARGE),
    "mobilenet_v3_large_relu": ("MobileNetV3-Large ReLU", _LARGE),
    "mobilenet_v3_large_hswish112": ("MobileNetV3-Large h-swish@112", _LARGE),
    "mobilenet_v3_large_hswish16": ("MobileNetV3-Large h-swish@16", _LARGE),
    "mobilenet_v3_large_spelled": ("MobileNetV3-Large unfused", _LARGE),
    "mobilenet_v3_large_hswish112_spelled": ("MobileNetV3-Large h-swish@112 unfused", _LARGE),
    "mobilenet_v3_large_hswish16_spelled": ("MobileNetV3-Large h-swish@16 unfused", _LARGE),
    "mobilenet_v3_large_no_se": ("MobileNetV3-Large without SE", _LARGE),
    "mobilenet_v3_large_se_input": ("MobileNetV3-Large SE of input", _LARGE),
    "mobilenet_v3_large_original_last_stage": ("MobileNetV3-Large old last stage", _LARGE),
    "mobilenet_v3_large_stem32": ("MobileNetV3-Large stem 32", _LARGE),
    "mobilenet_v3_large_head2560": ("MobileNetV3-Large head 2560", _LARGE),
    "mobilenet_v3_small": ("MobileNetV3-Small", _SMALL),
    "mobilenet_v3_small_minimalistic": ("MobileNetV3-Small minimalistic", _SMALL),
    "mobilenet_v3_small_relu": ("MobileNetV3-Small ReLU", _SMALL),
    "mobilenet_v3_small_hswish16": ("MobileNetV3-Small h-swish@16", _SMALL),
    "mobilenet_v3_small_spelled": ("MobileNetV3-Small unfused", _SMALL),
    "mobilenet_v3_small_hswish16_spelled": ("MobileNetV3-Small h-swish@16 unfused", _SMALL),
    "mobilenet_v3_small_no_se": ("MobileNetV3-Small without SE", _SMALL),
    "mobilenet_v3_small_se_input": ("MobileNetV3-Small SE of input", _SMALL),
    "mobilenet_v3_small_stem32": ("MobileNetV3-Small stem 32", _SMALL),
    "mobilenet_v3_small_head1280": ("MobileNetV3-Small head 1280", _SMALL),
    **{f"efficientnet_b{i}": (f"EfficientNet-B{i}", _EFFICIENTNET) for i in range(8)},
    "mnasnet_a1": ("MnasNet-A1", _MNASNET),
    "mnasnet_b1": ("MnasNet-B1", _MNASNET),
    "mnasnet_small": ("MnasNet-small", _MNASNET),
    "mnasnet_e3k3": ("MnasNet MBConv3 k3x3", _MNASNET),
    "mnasnet_e3k5": ("MnasNet MBConv3 k5x5", _MNASNET),
    "mnasnet_e6k3": ("MnasNet MBConv6 k3x3", _MNASNET),
    "mnasnet_e6k5": ("MnasNet MBConv6 k5x5", _MNASNET),
    "moga_a": ("MoGA-A", _MOGA),
    "moga_a_figure": ("MoGA-A of the figure", _MOGA),
    "moga_b": ("MoGA-B", _MOGA),
    "moga_c": ("MoGA-C", _MOGA),
    "moga_c_no_se": ("MoGA-C without SE", _MOGA),
    **{f"resnet{depth}": (f"ResNet-{depth}", _REFERENCE) for depth in (50, 101, 152)},
    **{f"resnet{depth}_stride1x1": (f"ResNet-{depth} stride in 1x1", _REFERENCE) for depth in (50, 101, 152)},
    **{f"se_resnet{depth}": (f"SE-ResNet-{depth}", _REFERENCE) for depth in (50, 101, 152)},
    **{f"se_resnet{depth}_stride1x1": (f"SE-ResNet-{depth} stride in 1x1", _REFERENCE) for depth in (50, 101, 152)},
    "se_resnet50_no_bias": ("SE-ResNet-50 without bias", _REFERENCE),
    **{f"se_resnet50_r{r}": (f"SE-ResNet-50 r={r}", _REFERENCE) for r in (2, 4, 8, 32)},
    "se_resnet50_no_last_stage": ("SE-ResNet-50 last stage bare", _REFERENCE),
    "se_resnet50_pre": ("SE-ResNet-50 SE-PRE", _REFERENCE),
    "se_resnet50_post": ("SE-ResNet-50 SE-POST", _REFERENCE),
    "se_resnet50_identity": ("SE-ResNet-50 SE-Identity", _REFERENCE),
    "se_resnet50_relu_gate": ("SE-ResNet-50 ReLU gate", _REFERENCE),
    "se_resnet50_3x3": ("SE-ResNet-50 SE_3x3", _REFERENCE),
    "vgg16": ("VGG-16", _REFERENCE),
    "alexnet": ("AlexNet", _REFERENCE),
}
RUNTIME_NAMES: Mapping[str, str] = {"ort": "ONNX Runtime", "litert": "LiteRT"}
MARKERS: Mapping[str, str] = {"ort": "o", "litert": "s"}
OTHER_MARKERS = ("D", "^", "v", "P")
FILLS: Mapping[str | None, str] = {"fp32": "full", "int8": "none", "fp16": "left", "int8-dynamic": "right"}
OTHER_FILL = "bottom"
FRONT_STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
INK, STEP, FAINT = "#333333", "#666666", "#8a8a8a"
MAX_LABEL_CHARS = 30  # a foreign file's stem may be any length
# Width 1.0 at 224 pixels says nothing: it stands in a label only before a depth.
_PLAIN_SIZE = re.compile(r"^_1\.0_224(?=_d)")


def plot_style(width_in: float) -> AbstractContextManager[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says: drawing and saving both read them."""
    from matplotlib import style

    return style.context(
        [
            "default",
            {
                "font.size": font_size(width_in),
                "text.color": INK,
                "axes.edgecolor": FAINT,
                "axes.labelcolor": INK,
                "xtick.color": INK,
                "ytick.color": INK,
                "svg.hashsalt": "mobench",  # element ids of an SVG are random without it
            },
        ]
    )


def font_size(width_in: float) -> float:
    """In points; journals ask for at least 6."""
    return 7.0 if width_in < SMALL_IN else 9.0


def network_colours(found: Iterable[str]) -> dict[str, str]:
    """Return a colour a network name; with more networks than colours some share one, and their labels tell them."""
    names = sorted(set(found))
    known = {name: NETWORKS[name][1] for name in names if name in NETWORKS}
    rest = [colour for colour in COLOURS if colour not in known.values()] or list(COLOURS)
    others = [name for name in names if name not in known]
    return known | {name: rest[index % len(rest)] for index, name in enumerate(others)}


def readable(colour: str) -> tuple[float, float, float]:
    """Darken a colour until text in it has WCAG's contrast of 4.5 on white; a marker is large enough without."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    while 1.05 / (0.05 + 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2) < 4.5:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return red, green, blue


def shown(label: str, name: str) -> str:
    """The network as a paper writes it: MobileNetV1 0.5-160, EfficientNet-B0 d4.0.

    What is too long loses "MobileNet" first, then the end of the name; width, size and depth stay.
    """
    if name in NETWORKS and label.startswith(name):
        rest = _PLAIN_SIZE.sub("", label.removeprefix(name)).replace("_d", " d").strip("_ ").replace("_", "-")
        paper, room = NETWORKS[name][0], MAX_LABEL_CHARS - len(rest) - bool(rest)
        if len(paper) > room:
            paper = paper.removeprefix("MobileNet")
        label = f"{paper if len(paper) <= room else paper[: room - 1] + '…'} {rest}".strip()
    return label if len(label) <= MAX_LABEL_CHARS else label[: MAX_LABEL_CHARS - 1] + "…"


def runtime_markers(found: Iterable[str]) -> dict[str, str]:
    """Return a marker a runtime, the known ones first."""
    others = [runtime for runtime in sorted(set(found)) if runtime not in MARKERS]
    return dict(MARKERS) | {runtime: OTHER_MARKERS[i % len(OTHER_MARKERS)] for i, runtime in enumerate(others)}


def marker(runtime: str, precision: str | None, colour: str, markers: Mapping[str, str], size: float) -> dict[str, Any]:
    """Return matplotlib's line properties for one point of ``size`` typographic points."""
    fill = FILLS.get(precision, OTHER_FILL)
    hollow = fill == "none"  # white rather than transparent, so that lines do not show through
    return {
        "marker": markers[runtime],
        "markersize": size,
        "fillstyle": "full" if hollow else fill,
        "markerfacecolor": "white" if hollow else colour,
        "markerfacecoloralt": "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.17 * size,
        "linestyle": "none",
    }


def metadata(suffix: str, title: str) -> dict[str, Any]:
    """Without dates and versions the same data gives the same bytes."""
    if suffix == ".png":
        return {"Software": None, "Title": title}
    if suffix == ".pdf":
        return {"CreationDate": None, "Producer": None, "Creator": "mobench", "Title": title}
    return {"Date": None, "Creator": "mobench", "Title": title}
