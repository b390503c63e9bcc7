"""Our networks against the outside: torchvision's and timm's with the same weights, and real checkpoints' accuracy."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from weight_files import refusal, save_file

from mobench import zoo
from mobench.zoo import weights
from mobench.zoo.count import count
from mobench.zoo.keys import layouts

torch = pytest.importorskip("torch", reason="needs mobench[export]")

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not (SHARED / "checkpoints").is_dir(), reason="needs ../shared/data (checkpoints and 500 photographs)"
)
_LIBRARIES = ("torchvision", "timm")
_B = range(8)
# Network, width, library, its name there, side of the input. Padding SAME for TensorFlow's weights in timm (`tf_`), at
# sizes where maps of even and odd sides are halved: SAME pads them differently.
REFERENCES = (
    ("mobilenet_v1", 1.0, "timm", "mobilenetv1_100", 64),
    ("mobilenet_v1", 1.25, "timm", "mobilenetv1_125", 96),
    ("mobilenet_v2", 1.0, "torchvision", "mobilenet_v2", 96),
    *(("mobilenet_v2", width, "timm", f"mobilenetv2_{100 * width:03.0f}", 64) for width in (0.35, 0.5, 0.75, 1.0, 1.4)),
    ("mobilenet_v3_large", 1.0, "torchvision", "mobilenet_v3_large", 96),
    ("mobilenet_v3_small", 1.0, "torchvision", "mobilenet_v3_small", 96),
    *(
        (f"mobilenet_v3_{which}", width, "timm", f"{tf}mobilenetv3_{which}_{100 * width:03.0f}", 100 if tf else 96)
        for tf in ("", "tf_")
        for which in ("large", "small")
        for width in (0.75, 1.0)
    ),
    ("mobilenet_v3_large_minimalistic", 1.0, "timm", "tf_mobilenetv3_large_minimal_100", 96),
    ("mobilenet_v3_small_minimalistic", 1.0, "timm", "tf_mobilenetv3_small_minimal_100", 96),
    *((f"efficientnet_b{n}", None, "torchvision", f"efficientnet_b{n}", 96 if n < 5 else 64) for n in _B),
    *((f"efficientnet_b{n}", None, "timm", f"efficientnet_b{n}", 64) for n in _B),
    *((f"efficientnet_b{n}", None, "timm", f"tf_efficientnet_b{n}", 100 if n < 5 else 75) for n in _B),
    ("mnasnet_b1", 0.5, "torchvision", "mnasnet0_5", 64),
    ("mnasnet_b1", 0.75, "torchvision", "mnasnet0_75", 64),
    ("mnasnet_b1", 1.0, "torchvision", "mnasnet1_0", 96),
    ("mnasnet_b1", 1.3, "torchvision", "mnasnet1_3", 64),
    *(("mnasnet_b1", width, "timm", f"mnasnet_{100 * width:03.0f}", 64) for width in (0.5, 0.75, 1.0, 1.4)),
    *(("mnasnet_a1", width, "timm", f"semnasnet_{100 * width:03.0f}", 64) for width in (0.5, 0.75, 1.0, 1.4)),
    ("mnasnet_small", 1.0, "timm", "mnasnet_small", 96),
    *((name, 1.0, library, name, 64) for name in ("resnet50", "resnet101", "resnet152") for library in _LIBRARIES),
    *((f"se_resnet{depth}", 1.0, "timm", f"seresnet{depth}", 64) for depth in (50, 101, 152)),
    ("vgg16", 1.0, "torchvision", "vgg16", 224),
    ("vgg16", 1.0, "timm", "vgg16", 224),
    ("alexnet", 1.0, "torchvision", "alexnet", 224),
)


@pytest.fixture(scope="module")
def library():
    """Import torchvision and timm beside a torch without torchvision's operators."""
    stub = torch.library.Library("torchvision", "FRAGMENT")
    try:
        for operator in ("nms", "qnms"):
            stub.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        import timm
        import torchvision
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs torchvision and timm, which `make test` installs: {error}")
    yield {"torchvision": torchvision.models.get_model, "timm": timm.create_model}
    del stub


def _shake(module: "torch.nn.Module", seed: int) -> None:
    """Random weights with lively statistics: a swapped mean and variance, or a wrong epsilon, must show."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.3, 0.3),
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.05, 0.5),
            ):
                tensor.data.uniform_(low, high, generator=generator)
        elif isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            fan_in = layer.weight[0].numel()
            layer.weight.data.normal_(0, fan_in**-0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.data.uniform_(-0.5, 0.5, generator=generator)


def _check_same_logits(reference, spec, path, held, library):
    """Save a reference's tensors, load them into ours, and compare on images with its own border effects."""
    save_file({key: value.contiguous() for key, value in held.items()}, path) if path.suffix == ".safetensors" else (
        torch.save(held, path)
    )
    resolved = weights.resolve(spec, str(path))
    ours = resolved.build()
    # torchvision's and timm's ResNets have the same names: the file cannot tell whose it is.
    assert resolved.origin["layout"] == library or spec.family == "resnet"
    assert sum(p.numel() for p in reference.parameters()) == count(resolved.spec).params
    x = torch.randn(2, 3, spec.input_size, spec.input_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, got = reference(x), ours(x)
    assert expected.std() > 1e-3 * expected.abs().max(), "the reference tells nothing"
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max(), "the reference tells nothing"
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
    path.unlink()  # pytest keeps the folders of three runs


@pytest.mark.parametrize(
    ("index", "name", "width", "source", "theirs", "size"),
    [(index, *each) for index, each in enumerate(REFERENCES)],
    ids=[f"{library}-{theirs}" for *_, library, theirs, _ in REFERENCES],
)
def test_the_reference_implementation_gives_the_same_logits(
    library, tmp_path, index, name, width, source, theirs, size
):
    with torch.device("meta"):  # its own initialisation is not needed
        reference = library[source](theirs).eval()
    _shake(reference.to_empty(device="cpu"), seed=1)
    # The caller says SAME, nothing else: TensorFlow's epsilon follows.
    padding = "same" if theirs.startswith("tf_") else None
    spec = zoo.get(name, width=width, input_size=size, padding=padding)
    path = tmp_path / ("weights.pth" if index % 2 else "weights.safetensors")
    _check_same_logits(reference, spec, path, reference.state_dict(), source)


def test_every_layout_of_a_library_is_compared_with_it():
    compared = {(name, library) for name, _, library, *_ in REFERENCES}
    families = {(zoo.get(name).family, library) for name, library in compared}
    for name in zoo.names():
        spec = zoo.get(name)
        for layout in layouts(spec):
            assert layout.library == "moga" or (spec.family, layout.library) in families


@pytest.mark.parametrize(
    ("name", "options", "theirs", "why"),
    [
        (
            "mobilenet_v3_large",
            {"width": 0.75},
            ("torchvision", "mobilenet_v3_large", {"width_mult": 0.75}),
            "at other",
        ),
        ("mobilenet_v3_large", {}, ("timm", "mobilenetv3_rw", {}), "mobilenetv3_rw is another network"),
        ("mobilenet_v3_small", {"width": 0.5}, ("timm", "mobilenetv3_small_050", {}), "fits mobilenet_v3_small_stem32"),
        ("mobilenet_v2", {}, ("timm", "mobilenetv2_140", {}), "it fits mobilenet_v2 at width 1.4"),
        ("efficientnet_b1", {}, ("torchvision", "efficientnet_b2", {}), "it fits efficientnet_b2"),
        ("mobilenet_v1", {}, ("timm", "mobilenetv1_100h", {}), "give another file"),
        ("resnet50", {}, ("timm", "resnet50d", {}), "give another file"),
        ("vgg16", {}, ("torchvision", "vgg16_bn", {}), "give another file"),
    ],
)
def test_another_network_of_theirs_is_refused_and_the_line_says_why(library, tmp_path, name, options, theirs, why):
    source, model, arguments = theirs
    with torch.device("meta"):
        held = library[source](model, **arguments).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file({key: torch.zeros(value.shape) for key, value in held.items()}, path)
    message = refusal(zoo.get(name, **options), str(path))
    assert "does not fit" in message and why in message


# ../shared/papers/architectures.md, section 6: expansion, output, kernel, stride, h-swish, SE of the 14 blocks.
MOGA = {
    "moga_a": "6 24 5 2 0 0, 6 24 7 1 0 0, 6 40 3 2 0 0, 6 40 3 1 0 1, 3 40 3 1 0 1, 6 80 3 2 1 1, 6 80 3 1 1 0,"
    "6 80 7 1 1 0, 3 80 7 1 1 1, 6 112 7 1 1 0, 6 112 3 1 1 0, 6 160 3 2 1 0, 6 160 5 1 1 1, 6 160 5 1 1 1",
    "moga_b": "3 24 3 2 0 0, 3 24 3 1 0 0, 6 40 7 2 0 0, 3 40 3 1 0 0, 6 40 5 1 0 0, 6 80 3 2 1 1, 6 80 5 1 1 1,"
    "3 80 3 1 1 0, 6 80 7 1 1 1, 6 112 7 1 1 0, 3 112 5 1 1 0, 6 160 7 2 1 1, 6 160 7 1 1 1, 6 160 3 1 1 1",
    "moga_c": "3 24 5 2 0 0, 3 24 3 1 0 0, 3 40 5 2 0 0, 3 40 3 1 0 0, 3 40 5 1 0 0, 3 80 5 2 1 0, 6 80 5 1 1 1,"
    "3 80 5 1 1 0, 3 80 5 1 1 0, 6 112 3 1 1 0, 6 112 3 1 1 1, 6 160 3 2 1 1, 6 160 3 1 1 1, 6 160 3 1 1 1",
}


class MogaBlock(torch.nn.Module):
    """1x1 to the expanded width, depthwise, SE, 1x1; the SE's inner activation is the block's."""

    def __init__(self, inp, expansion, out, kernel, stride, hswish, se):
        super().__init__()
        from torch import nn

        hidden = expansion * inp
        self.conv1, self.bn1 = nn.Conv2d(inp, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3, self.bn3 = nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)
        self.act = nn.Hardswish() if hswish else nn.ReLU()
        self.mid_se = nn.Module() if se else None
        if self.mid_se is not None:
            self.mid_se.conv = nn.Sequential(nn.Conv2d(hidden, hidden // 4, 1), self.act)
            self.mid_se.fc = nn.Sequential(nn.Conv2d(hidden // 4, hidden, 1), nn.Hardsigmoid())
        self.shortcut = stride == 1 and inp == out

    def forward(self, x):  # noqa: D102
        y = self.act(self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))
        if self.mid_se is not None:
            y = y * self.mid_se.fc(self.mid_se.conv(y.mean((2, 3), keepdim=True)))
        y = self.bn3(self.conv3(y))
        return x + y if self.shortcut else y


class Moga(torch.nn.Module):
    """The authors' modules, by their names."""

    def __init__(self, rows):
        super().__init__()
        from torch import nn

        def conv(inp, out, kernel=1, stride=1, groups=1):
            return nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)

        self.stem = nn.Sequential(*conv(3, 16, 3, 2), nn.Hardswish())
        self.separable_conv = nn.Sequential(*conv(16, 16, 3, groups=16), nn.ReLU(), *conv(16, 16))
        numbers = [[int(each) for each in row.split()] for row in rows.split(",")]
        widths = [16, *(row[1] for row in numbers)]
        self.mb_module = nn.Sequential(*(MogaBlock(inp, *row) for inp, row in zip(widths, numbers)))  # noqa: B905
        self.conv_before_pooling = nn.Sequential(*conv(160, 960), nn.Hardswish())
        self.conv_head = nn.Sequential(nn.Conv2d(960, 1280, 1, bias=False), nn.Hardswish())
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x):  # noqa: D102
        x = self.conv_before_pooling(self.mb_module(self.separable_conv(self.stem(x))))
        return self.classifier(self.conv_head(x.mean((2, 3), keepdim=True)).flatten(1))


@pytest.mark.parametrize("name", MOGA)
def test_moga_of_the_authors_modules_gives_the_same_logits(tmp_path, name):
    reference = Moga(MOGA[name]).eval()
    _shake(reference, seed=1)
    held = {"epoch": 1, "model_state": reference.state_dict()}
    _check_same_logits(reference, zoo.get(name, input_size=64), tmp_path / "weights.pth", held, "moga")


def _top1_percent(checkpoint: str, name: str, images: int) -> float:
    """Top-1 on every k-th photograph: short side to round(size / crop) bilinear, centre crop."""
    with (SHARED / "imagenet_classes.tsv").open() as table:
        index = {row[1]: int(row[0]) for row in csv.reader(table, delimiter="\t") if row[0].isdigit()}
    resolved = weights.resolve(zoo.get(name), str(SHARED / "checkpoints" / f"{checkpoint}.safetensors"))
    module, p = resolved.build(), resolved.preprocess
    files = sorted((SHARED / "imagenet-sample").glob("*/*.JPEG"))
    files = files[:: len(files) // images]
    hits = 0
    for path in files:
        image = Image.open(path).convert("RGB")
        scale = round(p.size / p.crop) / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - p.size) // 2, (image.height - p.size) // 2
        pixels = np.asarray(image.crop((left, top, left + p.size, top + p.size)), dtype=np.float32) / 255
        x = ((pixels - np.float32(p.mean)) / np.float32(p.std)).transpose(2, 0, 1)
        with torch.no_grad():
            hits += int(module(torch.from_numpy(x)[None]).argmax()) == index[path.parent.name]
    return 100 * hits / len(files)


# ../shared/data/README.md: measured there outside this project.
@needs_shared
@pytest.mark.parametrize(
    ("checkpoint", "name", "top1"),
    [
        pytest.param("mobilenet_v2_1.0_224", "mobilenet_v2", 88.4, marks=pytest.mark.slow),
        pytest.param("mobilenet_v1_0.5_160", "mobilenet_v1", 64.2, marks=pytest.mark.slow),
        ("mobilenet_v1_0.25_128", "mobilenet_v1", 44.6),
    ],
)
def test_real_checkpoints_reach_their_accuracy(checkpoint, name, top1):
    assert _top1_percent(checkpoint, name, images=500) == pytest.approx(top1, abs=0.4)


@needs_shared
def test_a_few_photographs_show_that_the_v2_checkpoint_is_alive():
    """A wrong padding, epsilon or normalisation costs tens of points; fifty images cannot tell less."""
    assert _top1_percent("mobilenet_v2_1.0_224", "mobilenet_v2", images=50) >= 80
