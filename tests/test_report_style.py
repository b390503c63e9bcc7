"""Names and colours of networks in plots."""

from itertools import combinations

import numpy as np
import pytest

from mobench import zoo
from mobench.report.style import COLOURS, MAX_LABEL_CHARS, NETWORKS, network_colours, shown

# Machado, Oliveira and Fernandes 2009, severity 1.0: linear RGB as the colour-blind see it.
SIGHTS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}


def lab(colour, sight):
    """CIE L*a*b* (D65) of a colour as seen."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHTS[sight]) @ linear, 0, 1)
    to_xyz = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.95030]])
    xyz = to_xyz @ seen / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_network_has_a_name_of_its_own_and_a_colour():
    assert set(NETWORKS) == set(zoo.names())
    assert len({name for name, _ in NETWORKS.values()}) == len(NETWORKS)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("mobilenet_v1", "MobileNetV1"),
        ("mobilenet_v1_0.5_160", "MobileNetV1 0.5-160"),
        ("mobilenet_v2_1.4_224", "MobileNetV2 1.4-224"),
        ("mobilenet_v3_large_minimalistic", "MobileNetV3-Large minimalistic"),
        ("mobilenet_v3_large_minimalistic_0.75_224", "V3-Large minimalistic 0.75-224"),
        ("mobilenet_v3_large_hswish112_spelled", "V3-Large h-swish@112 unfused"),
        ("efficientnet_b0", "EfficientNet-B0"),
        ("efficientnet_b0_1.0_224_d4.0", "EfficientNet-B0 d4.0"),
        ("efficientnet_b0_1.0_448", "EfficientNet-B0 1.0-448"),
        ("efficientnet_b0_1.2_291_d1.4", "EfficientNet-B0 1.2-291 d1.4"),
        ("mnasnet_a1", "MnasNet-A1"),
        ("moga_a", "MoGA-A"),
        ("se_resnet50", "SE-ResNet-50"),
        ("vgg16", "VGG-16"),
    ],
)
def test_labels_read_as_in_the_papers(label, text):
    assert shown(label, zoo.get(label).name) == text


@pytest.mark.parametrize("name", zoo.names())
def test_a_label_keeps_what_tells_it_from_others(name):
    assert "…" not in shown(name, name)
    scaled = shown(zoo.get(name, width=0.75, input_size=192).label, name)
    assert scaled.endswith(" 0.75-192") and len(scaled) <= MAX_LABEL_CHARS


def test_a_strangers_label_is_left_alone_and_cut():
    assert shown("theirs_1.0_224", "theirs") == "theirs_1.0_224"
    assert len(shown("x" * 99, "x" * 99)) == MAX_LABEL_CHARS


def test_a_family_keeps_its_colour_whatever_else_is_drawn():
    alone = network_colours(["efficientnet_b0"])
    among = network_colours([*zoo.names(), "theirs"])
    assert among["efficientnet_b7"] == alone["efficientnet_b0"] == among["efficientnet_b0"]
    main = [among[name] for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")]
    others = [among[name] for name in ("efficientnet_b0", "mnasnet_a1", "moga_a", "resnet50")]
    assert main == ["#CC79A7", "#D55E00", "#0072B2", "#009E73"]
    assert len({*main, *others}) == 8


def test_a_stranger_takes_a_colour_that_no_network_drawn_has():
    colours = network_colours(["mobilenet_v2", "moga_a", "theirs"])
    assert len(set(colours.values())) == 3


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_grey_is_as_far_from_each_colour_as_the_palettes_nearest_two(sight):
    (grey,) = {colour for _, colour in NETWORKS.values()} - set(COLOURS)
    nearest = min(np.linalg.norm(lab(one, sight) - lab(other, sight)) for one, other in combinations(COLOURS, 2))
    assert min(np.linalg.norm(lab(grey, sight) - lab(colour, sight)) for colour in COLOURS) >= nearest
