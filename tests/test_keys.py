"""Key layouts: each names every tensor of its networks once, by the names the libraries have."""

import pytest

from mobench import zoo
from mobench.zoo.keys import layouts, recognise, tensors

torch = pytest.importorskip("torch", reason="needs mobench[export]")

EVERY_LAYOUT = [(name, layout) for name in zoo.names() for layout in layouts(zoo.get(name))]


@pytest.mark.parametrize(("name", "layout"), EVERY_LAYOUT, ids=lambda value: getattr(value, "library", value))
def test_a_layout_names_each_tensor_of_the_module_once(name, layout):
    from mobench.zoo.build import build

    spec = zoo.get(name)
    named = tensors(spec, layout)
    with torch.device("meta"):
        built = build(spec)
    module = {k: tuple(v.shape) for k, v in built.state_dict().items() if "num_batches_tracked" not in k}
    assert {t.ours: t.our_shape for t in named} == module
    assert len({t.theirs for t in named}) == len(named)
    # torchvision's and timm's ResNets have the same names.
    assert recognise(spec, [t.theirs for t in named]) in (layout, *layouts(spec)[: spec.family == "resnet"])


def test_networks_that_no_layout_names_whole_have_none():
    """A layout without a word for a part (an SE behind the pointwise layer) must not lose it quietly."""
    without = {name for name in zoo.names() if not layouts(zoo.get(name))}
    assert without == {"mobilenet_v1_full_conv", "mobilenet_v1_se"}


@pytest.mark.parametrize(
    "label", ["efficientnet_b0_1.0_224_d4.0", "resnet50_1.0_224_d2.0", "mobilenet_v3_large_1.0_224_d2.0"]
)
def test_deeper_networks_have_names_of_their_own_for_each_block(label):
    spec = zoo.get(label)
    for layout in layouts(spec):
        named = tensors(spec, layout)
        assert len({t.theirs for t in named}) == len(named)


@pytest.mark.parametrize(
    ("name", "library", "keys"),
    [
        # ../shared/papers/architectures.md, section 11
        ("mobilenet_v2", "torchvision", ("features.1.conv.1.weight", "features.17.conv.3.bias", "classifier.1.bias")),
        ("mobilenet_v3_large", "torchvision", ("features.4.block.2.fc1.bias", "features.1.block.1.0.weight")),
        ("mobilenet_v3_small", "torchvision", ("features.12.1.running_var", "classifier.0.weight")),
        ("mobilenet_v1", "timm", ("conv_stem.weight", "blocks.3.5.conv_dw.weight", "blocks.4.1.bn2.bias")),
        ("mobilenet_v2", "timm", ("blocks.0.0.conv_pw.weight", "blocks.6.0.conv_pwl.weight", "bn2.running_mean")),
        ("mobilenet_v3_large", "timm", ("blocks.6.0.conv.weight", "conv_head.bias", "blocks.2.0.se.conv_reduce.bias")),
        ("efficientnet_b1", "torchvision", ("features.1.1.block.2.0.weight", "features.7.1.block.3.1.bias")),
        ("mnasnet_b1", "torchvision", ("layers.3.weight", "layers.13.0.layers.7.bias", "layers.15.running_var")),
        (
            "mnasnet_small",
            "timm",
            ("blocks.1.0.conv_pw.weight", "blocks.4.2.se.conv_expand.bias", "blocks.6.0.bn3.bias"),
        ),
        ("moga_a", "moga", ("separable_conv.4.bias", "mb_module.13.mid_se.fc.0.bias", "conv_head.0.weight")),
        ("resnet50", "torchvision", ("layer1.0.downsample.1.bias", "layer4.2.conv3.weight", "fc.bias")),
        ("se_resnet50", "timm", ("layer1.0.se.fc1.weight", "layer3.5.se.fc2.bias")),
        ("vgg16", "torchvision", ("features.28.weight", "classifier.3.bias", "classifier.6.weight")),
        ("vgg16", "timm", ("features.0.bias", "pre_logits.fc1.weight", "head.fc.weight")),
        ("alexnet", "torchvision", ("features.10.bias", "classifier.1.weight", "classifier.4.bias")),
    ],
)
def test_keys_are_those_of_the_libraries(name, library, keys):
    layout = next(each for each in layouts(zoo.get(name)) if each.library == library)
    assert set(keys) <= {t.theirs for t in tensors(zoo.get(name), layout)}
