"""Our networks against the outside: torchvision's and timm's with the same weights, and real checkpoints' accuracy."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobench import zoo
from mobench.zoo import weights
from mobench.zoo.count import count

torch = pytest.importorskip("torch", reason="needs mobench[export]")

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not (SHARED / "checkpoints").is_dir(), reason="needs ../shared/data (checkpoints and 500 photographs)"
)
REFERENCES = (
    ("mobilenet_v2", "torchvision", "mobilenet_v2"),
    ("mobilenet_v3_large", "torchvision", "mobilenet_v3_large"),
    ("mobilenet_v3_small", "torchvision", "mobilenet_v3_small"),
    ("mobilenet_v1", "timm", "mobilenetv1_100"),
    ("mobilenet_v2", "timm", "mobilenetv2_100"),
    ("mobilenet_v3_large", "timm", "mobilenetv3_large_100"),
    ("mobilenet_v3_small", "timm", "mobilenetv3_small_100"),
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
        pytest.skip(f"needs torchvision and timm (pip install --no-deps torchvision timm): {error}")
    yield {"torchvision": lambda name: torchvision.models.get_model(name), "timm": timm.create_model}
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


@pytest.mark.parametrize(("name", "source", "theirs"), REFERENCES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_reference_implementation_gives_the_same_logits(library, tmp_path, name, source, theirs, suffix):
    from safetensors.torch import save_file

    reference = library[source](theirs).eval()
    _shake(reference, seed=1)
    path = tmp_path / f"weights{suffix}"
    save_file(reference.state_dict(), path) if suffix == ".safetensors" else torch.save(reference.state_dict(), path)

    resolved = weights.resolve(zoo.get(name), str(path))
    ours = resolved.build()
    assert resolved.origin["layout"] == source
    assert sum(p.numel() for p in reference.parameters()) == count(resolved.spec).params
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, got = reference(x), ours(x)
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


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
