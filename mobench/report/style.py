"""How every plot looks: colours by network, markers by runtime, fill by precision, type sizes, metadata."""

from __future__ import annotations

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
# name: how the papers write it, and its colour in every plot. Other networks go by their own name and take the colours
# that are left, in the order of their names.
NETWORKS: Mapping[str, tuple[str, str]] = {
    "mobilenet_v1": ("MobileNetV1", COLOURS[3]),
    "mobilenet_v2": ("MobileNetV2", COLOURS[1]),
    "mobilenet_v3_large": ("MobileNetV3-Large", COLOURS[0]),
    "mobilenet_v3_small": ("MobileNetV3-Small", COLOURS[2]),
}
RUNTIME_NAMES: Mapping[str, str] = {"ort": "ONNX Runtime", "litert": "LiteRT"}
MARKERS: Mapping[str, str] = {"ort": "o", "litert": "s"}
OTHER_MARKERS = ("D", "^", "v", "P")
FILLS: Mapping[str | None, str] = {"fp32": "full", "int8": "none", "fp16": "left"}
OTHER_FILL = "bottom"
FRONT_STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
INK, STEP, FAINT = "#333333", "#666666", "#8a8a8a"
MAX_LABEL_CHARS = 30  # a foreign file's stem may be any length


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
    """The network as a paper writes it: MobileNetV1 0.5-160."""
    if name in NETWORKS and label.startswith(name):
        label = f"{NETWORKS[name][0]} {label.removeprefix(name).strip('_').replace('_', '-')}".strip()
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
