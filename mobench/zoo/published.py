"""The published checkpoints, as data: where they lie, their checksums, pre-processing and accuracy.

Addresses and pre-processing are those of torchvision 0.28 and timm 1.0.31. Top-1: torchvision's own metadata; timm's
results/results-imagenet.csv at commit 0173a139, at the size and crop of that table; its README for the two "ra4". Whole
digests, and the revisions on Hugging Face, come from public projects that pin them. Where none was found, the digits in
the file's name are checked, which are the first of its sha256: torchvision itself goes by them.

Not here: timm's that only Hugging Face has and nobody is known to pin (other `ra4_...`, `sw_in12k...`), Facebook's
semi-supervised ResNets, whose digits nobody confirms: `--weights FILE` takes them when downloaded. Nor timm's copies of
torchvision's, nor files for other classes than the thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mobench.records import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from mobench.zoo.spec import Padding

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A published file for one network at one width, and what its makers measured with it (top-1, percent).

    ``sha256`` is the whole digest, or as many of its first digits (8 or 10) as the file's name has.
    """

    tag: str
    url: str
    file: str  # its name in the cache
    sha256: str
    layout: Literal["torchvision", "timm"]
    padding: Padding = "symmetric"
    preprocess: Preprocess
    top1: float


# File names with these digits have this digest.
_DIGESTS = (
    "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f",
    "8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
    "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
    "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
    "f206786ef8a6d33af1091698bd667528dd506020f45e65bc4d4f00ce4e9990f0",
    "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
    "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    "cd907fc2a0de2292b2ba2b27d2216bc672d84632d1cf20058d01c0c03b5e020e",
    "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
    "c27df63ce6eb17ef8bcea58922fd3a254cba910c720f41ee89d64d99fb7a4ddf",
    "23ab8bcd5bdbef61a7a43b91adcad81f622fd7f36fb4935a569828d77888c44e",
    "3dd342dfa1fee25ae65e7bbdf8998cad6e45d6e77e69d580f0bd14d3eeb0b3f3",
)


def _sha256(file: str) -> str:
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return next((digest for digest in _DIGESTS if digest.startswith(digits)), digits)


# Network, tag, file, size, resized to, top-1. Bilinear, but for the EfficientNets of version 1, ported from elsewhere.
_TORCHVISION = (
    ("mobilenet_v2", "IMAGENET1K_V2", "mobilenet_v2-7ebf99e0.pth", 224, 232, 72.154),
    ("mobilenet_v2", "IMAGENET1K_V1", "mobilenet_v2-b0353104.pth", 224, 256, 71.878),
    ("mobilenet_v3_large", "IMAGENET1K_V2", "mobilenet_v3_large-5c1a4163.pth", 224, 232, 75.274),
    ("mobilenet_v3_large", "IMAGENET1K_V1", "mobilenet_v3_large-8738ca79.pth", 224, 256, 74.042),
    ("mobilenet_v3_small", "IMAGENET1K_V1", "mobilenet_v3_small-047dcff4.pth", 224, 256, 67.668),
    ("efficientnet_b0", "IMAGENET1K_V1", "efficientnet_b0_rwightman-7f5810bc.pth", 224, 256, 77.692),
    ("efficientnet_b1", "IMAGENET1K_V2", "efficientnet_b1-c27df63c.pth", 240, 255, 79.838),
    ("efficientnet_b1", "IMAGENET1K_V1", "efficientnet_b1_rwightman-bac287d4.pth", 240, 256, 78.642),
    ("efficientnet_b2", "IMAGENET1K_V1", "efficientnet_b2_rwightman-c35c1473.pth", 288, 288, 80.608),
    ("efficientnet_b3", "IMAGENET1K_V1", "efficientnet_b3_rwightman-b3899882.pth", 300, 320, 82.008),
    ("efficientnet_b4", "IMAGENET1K_V1", "efficientnet_b4_rwightman-23ab8bcd.pth", 380, 384, 83.384),
    ("efficientnet_b5", "IMAGENET1K_V1", "efficientnet_b5_lukemelas-1a07897c.pth", 456, 456, 83.444),
    ("efficientnet_b6", "IMAGENET1K_V1", "efficientnet_b6_lukemelas-24a108a5.pth", 528, 528, 84.008),
    ("efficientnet_b7", "IMAGENET1K_V1", "efficientnet_b7_lukemelas-c5b4e57e.pth", 600, 600, 84.122),
    ("mnasnet_b1", "IMAGENET1K_V1", "mnasnet1.0_top1_73.512-f206786ef8.pth", 224, 256, 73.456),
    ("mnasnet_b1_0.5", "IMAGENET1K_V1", "mnasnet0.5_top1_67.823-3ffadce67e.pth", 224, 256, 67.734),
    ("mnasnet_b1_0.75", "IMAGENET1K_V1", "mnasnet0_75-7090bc5f.pth", 224, 232, 71.18),
    ("mnasnet_b1_1.3", "IMAGENET1K_V1", "mnasnet1_3-a4c69d6f.pth", 224, 232, 76.506),
    ("resnet50", "IMAGENET1K_V2", "resnet50-11ad3fa6.pth", 224, 232, 80.858),
    ("resnet50", "IMAGENET1K_V1", "resnet50-0676ba61.pth", 224, 256, 76.13),
    ("resnet101", "IMAGENET1K_V2", "resnet101-cd907fc2.pth", 224, 232, 81.886),
    ("resnet101", "IMAGENET1K_V1", "resnet101-63fe2227.pth", 224, 256, 77.374),
    ("resnet152", "IMAGENET1K_V2", "resnet152-f82ba261.pth", 224, 232, 82.284),
    ("resnet152", "IMAGENET1K_V1", "resnet152-394f9c45.pth", 224, 256, 78.312),
    ("vgg16", "IMAGENET1K_V1", "vgg16-397923af.pth", 224, 256, 71.592),
    ("alexnet", "IMAGENET1K_V1", "alexnet-owt-7be5be79.pth", 224, 256, 56.522),
)

_WEIGHTS = "huggingface/pytorch-image-models/releases/download/v0.1-weights"
_RSB = "huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights"  # "ResNet strikes back", arXiv:2110.00476
_GLUON = "rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1"
# Release on GitHub: network, tag, file without .pth, size, crop, top-1; bicubic, ImageNet's mean and deviation.
_TIMM = {
    _WEIGHTS: (
        ("mobilenet_v2_0.5", "lamb_in1k", "mobilenetv2_050-3d30d450", 224, 0.875, 65.950),
        ("mobilenet_v3_small_0.75", "lamb_in1k", "mobilenetv3_small_075_lambc-384766db", 224, 0.875, 65.234),
        ("efficientnet_b0", "ra_in1k", "efficientnet_b0_ra-3dd342df", 224, 0.875, 77.694),
        ("efficientnet_b1", "ft_in1k", "efficientnet_b1-533bc792", 256, 1.0, 78.800),
        ("efficientnet_b2", "ra_in1k", "efficientnet_b2_ra-bcdf34b7", 288, 1.0, 80.610),
        ("efficientnet_b3", "ra2_in1k", "efficientnet_b3_ra2-cf984f9c", 320, 1.0, 82.242),
        ("efficientnet_b4", "ra2_in1k", "efficientnet_b4_ra2_320-7eb33cd5", 384, 1.0, 83.414),
        ("mnasnet_a1", "rmsp_in1k", "mnasnet_a1-d9418771", 224, 0.875, 75.450),
        ("mnasnet_a1_0.75", "rmsp_in1k", "semnasnet_075-18710866", 224, 0.875, 72.992),
        ("mnasnet_b1", "rmsp_in1k", "mnasnet_b1-74cb7081", 224, 0.875, 74.650),
        ("mnasnet_small", "lamb_in1k", "mnasnet_small_lamb-aff75073", 224, 0.875, 66.196),
        ("resnet50", "am_in1k", "resnet50_am-6c502b37", 224, 0.875, 78.998),
        ("resnet50", "bt_in1k", "rw_resnet50-86acaeed", 288, 0.95, 79.640),
        ("resnet50", "ra_in1k", "resnet50_ra-85ebb6e5", 288, 0.95, 79.836),
        ("resnet50", "ram_in1k", "resnet50_ram-a26f946b", 288, 0.95, 79.976),
        ("se_resnet50", "ra2_in1k", "seresnet50_ra_224-8efdb4bb", 288, 0.95, 81.284),
    ),
    _RSB: (
        ("resnet50", "a1_in1k", "resnet50_a1_0-14fe96d1", 288, 1.0, 81.214),
        ("resnet50", "a1h_in1k", "resnet50_a1h2_176-001a1197", 224, 1.0, 80.676),
        ("resnet50", "a2_in1k", "resnet50_a2_0-a2746f79", 288, 1.0, 80.772),
        ("resnet50", "a3_in1k", "resnet50_a3_0-59cae1ef", 224, 0.95, 78.048),
        ("resnet50", "b1k_in1k", "resnet50_b1k-532a802a", 288, 1.0, 80.706),
        ("resnet50", "b2k_in1k", "resnet50_b2k-1ba180c1", 288, 1.0, 80.454),
        ("resnet50", "c1_in1k", "resnet50_c1-5ba5e060", 288, 1.0, 80.912),
        ("resnet50", "c2_in1k", "resnet50_c2-d01e05b2", 288, 1.0, 80.870),
        ("resnet50", "d_in1k", "resnet50_d-f39db8af", 288, 1.0, 80.972),
        ("resnet101", "a1_in1k", "resnet101_a1_0-cdcb52a9", 288, 1.0, 82.322),
        ("resnet101", "a1h_in1k", "resnet101_a1h-36d3f2aa", 288, 1.0, 82.778),
        ("resnet101", "a2_in1k", "resnet101_a2_0-6edb36c7", 288, 1.0, 82.236),
        ("resnet101", "a3_in1k", "resnet101_a3_0-1db14157", 224, 0.95, 79.814),
        ("resnet152", "a1_in1k", "resnet152_a1_0-2eee8a7a", 288, 1.0, 82.732),
        ("resnet152", "a1h_in1k", "resnet152_a1h-dc400468", 288, 1.0, 83.450),
        ("resnet152", "a2_in1k", "resnet152_a2_0-b4c6978f", 288, 1.0, 82.608),
        ("resnet152", "a3_in1k", "resnet152_a3_0-134d4688", 224, 0.95, 80.546),
        ("se_resnet50", "a1_in1k", "seresnet50_a1_0-ffa00869", 288, 1.0, 81.102),
        ("se_resnet50", "a2_in1k", "seresnet50_a2_0-850de0d9", 288, 1.0, 81.106),
        ("se_resnet50", "a3_in1k", "seresnet50_a3_0-317ecd56", 224, 0.95, 77.028),
    ),
    _GLUON: (
        ("resnet50", "gluon_in1k", "gluon_resnet50_v1b-0ebe02e2", 224, 0.875, 77.580),
        ("resnet101", "gluon_in1k", "gluon_resnet101_v1b-3b017079", 224, 0.875, 79.310),
        ("resnet152", "gluon_in1k", "gluon_resnet152_v1b-c1edb0dd", 224, 0.875, 79.694),
    ),
}
_TIMM_MIIL = (
    "huggingface/pytorch-image-models/releases/download/v0.1-tresnet",
    "mobilenetv3_large_100_1k_miil_78_0-66471c13",
)
# timm's on Hugging Face: network, model, revision, sha256, crop, top-1; 224 pixels, bicubic. "ra4" has mean and
# deviation 0.5.
_TIMM_HUGGING_FACE = (
    ("mobilenet_v1", "mobilenetv1_100.ra4_e3600_r224_in1k", "6e88b523abded44469eafcd52f7832d5e0300b1b",
     "15c2f1411deb8e0533acbb41fe9523062f80d444d0393e7ad2b429f41378efc3", 0.875, 75.382),
    ("mobilenet_v1_1.25", "mobilenetv1_125.ra4_e3600_r224_in1k", "9e2b4f9a089f39eaf59cb38fb5d595f4d78c8064",
     "5616b1d4d774ac5bdf3fb254a72da78a5f27b19aa13bcceac03a743077c6acd8", 0.9, 76.924),
    ("mobilenet_v2", "mobilenetv2_100.ra_in1k", "5afa12513b048c79b9147a5d210e9bdc50035481",
     "55ea4fb3a96010b933710ebf44fc965b070d5cd054d3f35e44f2d1320b4a714e", 0.875, 72.976),
    ("mobilenet_v2_1.4", "mobilenetv2_140.ra_in1k", "008fa2eb59c0080738c65898a7666059e11c0a75",
     "7cf3adc9931d132b0629481082a7b3fd2092139e355e89718da151ef50857c2f", 0.875, 76.520),
    ("mobilenet_v3_large", "mobilenetv3_large_100.ra_in1k", "96f46a1c52932f27492dff66c72378eb99b443a7",
     "f425af34cc1cead2b5d6211f789a1f30b94835dc32f9c0fcc5a916e4fd2dde85", 0.875, 75.766),
    ("mobilenet_v3_small", "mobilenetv3_small_100.lamb_in1k", "1824797e7887cbec1990e4adbd6675960a36c589",
     "46d2c063b18125884c48937afa4c49e18128869e52e8db96df48bf0a4d7ff697", 0.875, 67.656),
)  # fmt: skip
# TensorFlow's weights in timm's names: SAME padding. Network, file without `tf_` and .pth, top-1.
_TF_MOBILENET_V3 = (  # 224 pixels, crop 0.875, bilinear, mean and deviation 0.5
    ("mobilenet_v3_large", "mobilenetv3_large_100-427764d5", 75.516),
    ("mobilenet_v3_large_0.75", "mobilenetv3_large_075-150ee8b0", 73.432),
    ("mobilenet_v3_large_minimalistic", "mobilenetv3_large_minimal_100-8596ae28", 72.258),
    ("mobilenet_v3_small", "mobilenetv3_small_100-37f49e2b", 67.918),
    ("mobilenet_v3_small_0.75", "mobilenetv3_small_075-da427f52", 65.728),
    ("mobilenet_v3_small_minimalistic", "mobilenetv3_small_minimal_100-922a7843", 62.890),
)
# Size and crop of a network; then the training (plain, AutoAugment, adversarial propagation, noisy student,
# RandAugment), the file's digits and top-1. Bicubic; "ap" has mean and deviation 0.5.
_TF_EFFICIENTNET = {
    "b0": (224, 0.875, {"": ("0af12548", 76.532), "aa": ("827b6e33", 76.834), "ap": ("f262efe1", 77.090),
                        "ns": ("c0e6a31c", 78.670)}),
    "b1": (240, 0.882, {"": ("5c1377c4", 78.560), "aa": ("ea7a6ee0", 78.830), "ap": ("44ef0a3d", 79.280),
                        "ns": ("99dd0c41", 81.394)}),
    "b2": (260, 0.890, {"": ("e393ef04", 79.604), "aa": ("60c94f97", 80.084), "ap": ("2f8e7636", 80.308),
                        "ns": ("00306e48", 82.378)}),
    "b3": (300, 0.904, {"": ("e3bd6955", 80.878), "aa": ("84b4657e", 81.644), "ap": ("aad25bdd", 81.826),
                        "ns": ("9d44bf68", 84.056)}),
    "b4": (380, 0.922, {"": ("74ee3bed", 82.608), "aa": ("818f208c", 83.018), "ap": ("dedb23e6", 83.250),
                        "ns": ("d6313a46", 85.162)}),
    "b5": (456, 0.934, {"": ("c6949ce9", 83.176), "aa": ("99018a74", 83.688), "ap": ("9e82fae8", 84.258),
                        "ns": ("6f26d0cf", 86.088), "ra": ("9a3e5369", 83.810)}),
    "b6": (528, 0.942, {"aa": ("80ba17e4", 84.116), "ap": ("4ffb161f", 84.786), "ns": ("51548356", 86.456)}),
    "b7": (600, 0.949, {"aa": ("076e3472", 84.414), "ap": ("ddb28fec", 85.122), "ns": ("1dbc32de", 86.840),
                        "ra": ("6c08e654", 84.932)}),
}  # fmt: skip


def _torchvision() -> list[tuple[str, Checkpoint]]:
    found = []
    for network, tag, file, size, resized, top1 in _TORCHVISION:
        ported = network.startswith("efficientnet") and tag == "IMAGENET1K_V1"
        checkpoint = Checkpoint(
            tag=tag,
            url=f"https://download.pytorch.org/models/{file}",
            file=file,
            sha256=_sha256(file),
            layout="torchvision",
            preprocess=Preprocess(size=size, crop=size / resized, interpolation="bicubic" if ported else "bilinear"),
            top1=top1,
        )
        found.append((network, checkpoint))
    return found


def _timm(
    release: str, tag: str, file: str, preprocess: Preprocess, top1: float, padding: Padding = "symmetric"
) -> Checkpoint:
    return Checkpoint(
        tag=tag,
        url=f"https://github.com/{release}/{file}.pth",
        file=f"{file}.pth",
        sha256=_sha256(file),
        layout="timm",
        padding=padding,
        preprocess=preprocess,
        top1=top1,
    )


def _timm_hugging_face() -> list[tuple[str, Checkpoint]]:
    found = []
    for network, model, revision, sha256, crop, top1 in _TIMM_HUGGING_FACE:
        tag = model.partition(".")[2]
        mean, std = (_HALF, _HALF) if tag.startswith("ra4") else (IMAGENET_MEAN, IMAGENET_STD)
        checkpoint = Checkpoint(
            tag=tag,
            url=f"https://huggingface.co/timm/{model}/resolve/{revision}/model.safetensors",
            file=f"{model}.safetensors",
            sha256=sha256,
            layout="timm",
            preprocess=Preprocess(size=224, mean=mean, std=std, crop=crop, interpolation="bicubic"),
            top1=top1,
        )
        found.append((network, checkpoint))
    return found


def _timm_plain() -> list[tuple[str, Checkpoint]]:
    return [
        (network, _timm(release, tag, file, Preprocess(size=size, crop=crop, interpolation="bicubic"), top1))
        for release, rows in _TIMM.items()
        for network, tag, file, size, crop, top1 in rows
    ]


def _timm_miil() -> list[tuple[str, Checkpoint]]:
    """ImageNet-21K first (arXiv:2104.10972); pixels are neither centred nor scaled."""
    preprocess = Preprocess(size=224, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    release, file = _TIMM_MIIL
    return [("mobilenet_v3_large", _timm(release, "miil_in21k_ft_in1k", file, preprocess, 77.918))]


def _timm_tensorflow() -> list[tuple[str, Checkpoint]]:
    v3 = Preprocess(size=224, mean=_HALF, std=_HALF)
    found = [
        (network, _timm(_WEIGHTS, "tf_in1k", f"tf_{file}", v3, top1, "same"))
        for network, file, top1 in _TF_MOBILENET_V3
    ]
    for name, (size, crop, trainings) in _TF_EFFICIENTNET.items():
        for training, (digits, top1) in trainings.items():
            mean, std = (_HALF, _HALF) if training == "ap" else (IMAGENET_MEAN, IMAGENET_STD)
            preprocess = Preprocess(size=size, mean=mean, std=std, crop=crop, interpolation="bicubic")
            kind = f"_{training}" if training else ""
            file = f"tf_efficientnet_{name}{kind}-{digits}"
            tag = f"tf{kind}_{'jft_' if training == 'ns' else ''}in1k"
            found.append((f"efficientnet_{name}", _timm(_WEIGHTS, tag, file, preprocess, top1, "same")))
    return found


def _by_network(entries: list[tuple[str, Checkpoint]]) -> dict[str, tuple[Checkpoint, ...]]:
    networks = dict.fromkeys(network for network, _ in entries)
    return {each: tuple(checkpoint for network, checkpoint in entries if network == each) for each in networks}


# By a network's name, with its width behind it where it is not the network's own. The first of each is the default.
CHECKPOINTS: Mapping[str, tuple[Checkpoint, ...]] = _by_network(
    [*_torchvision(), *_timm_hugging_face(), *_timm_plain(), *_timm_miil(), *_timm_tensorflow()]
)
# The same function of the same weights, written otherwise: h-swish out of elementary operators.
SAME_AS: Mapping[str, str] = {
    f"{name}_spelled": name
    for name in (
        "mobilenet_v3_large",
        "mobilenet_v3_large_hswish112",
        "mobilenet_v3_large_hswish16",
        "mobilenet_v3_small",
        "mobilenet_v3_small_hswish16",
    )
}
# Weights that exist but not for download, or not for these networks: what to tell who asks for them, by base name.
ELSEWHERE: Mapping[str, str] = {
    **{
        name: f"of {name}, its authors send the file to those who fill in the form that their README links to"
        for name in ("moga_a", "moga_b", "moga_c")
    },
    **{
        f"se_resnet{depth}": f"SENet's own weights are timm's legacy_seresnet{depth}, which pools otherwise: export it"
        f" as timm:legacy_seresnet{depth}"
        for depth in (50, 101, 152)
    },
}
