"""Networks from the papers' tables: counts to the last digit, names, width rules, padding."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobench import zoo
from mobench.errors import BadInputError
from mobench.zoo.count import count
from mobench.zoo.spec import round8
from mobench.zoo.tables import NETWORKS

# ../shared/papers/architectures.md, sections 3, 4, 6, 7 and 10: label, params, MACs, both as printed there.
VERIFICATION = (
    ("mobilenet_v1", "4,231,976", "568.74 M"),
    ("mobilenet_v1_0.75_224", "2.586 M", "325.4 M"),
    ("mobilenet_v1_0.5_224", "1.332 M", "149.5 M"),
    ("mobilenet_v1_0.25_224", "0.470 M", "41.0 M"),
    ("mobilenet_v1_1.0_192", "4.232 M", "418.1 M"),
    ("mobilenet_v1_1.0_160", "4.232 M", "290.7 M"),
    ("mobilenet_v1_1.0_128", "4.232 M", "186.4 M"),
    ("mobilenet_v1_0.5_160", "1.332 M", "76.5 M"),
    ("mobilenet_v1_full_conv", "29.294 M", "4867.3 M"),
    ("mobilenet_v1_shallow", "2.888 M", "307.3 M"),
    ("mobilenet_v1_se", "4.718 M", "569.2 M"),
    ("mobilenet_v2", "3,504,872", "300.77 M"),
    ("mobilenet_v2_1.4_224", "6.109 M", "582.2 M"),
    ("mobilenet_v2_0.75_224", "2.636 M", "209.1 M"),
    ("mobilenet_v2_0.5_224", "1.969 M", "97.1 M"),
    ("mobilenet_v2_0.35_224", "1.677 M", "59.3 M"),
    ("mobilenet_v3_large", "5,483,032", "216.59 M"),
    ("mobilenet_v3_large_0.75_224", "3.994 M", "154.56 M"),
    ("mobilenet_v3_large_minimalistic", "3,924,288", "209.14 M"),
    ("mobilenet_v3_small", "2,542,856", "56.51 M"),
    ("mobilenet_v3_small_0.75_224", "2.042 M", "43.4 M"),
    ("mobilenet_v3_small_minimalistic", "2,044,736", "52.29 M"),
    ("mobilenet_v3_small_head1280", "2.95 M", "56.9 M"),
    ("mobilenet_v3_small_head1280_0.75_224", "2.409 M", "43.8 M"),
    ("efficientnet_b0", "5,288,548", "385.81 M"),
    ("efficientnet_b1", "7,794,184", "686.8 M"),
    ("efficientnet_b2", "9,109,994", "993.6 M"),
    ("efficientnet_b3", "12,233,232", "1827 M"),
    ("efficientnet_b4", "19,341,616", "4394 M"),
    ("efficientnet_b5", "30,389,784", "10266 M"),
    ("efficientnet_b6", "43,040,704", "19068 M"),
    ("efficientnet_b7", "66,347,960", "37746 M"),
    ("efficientnet_b0_1.2_291_d1.4", "12.23 M", "1800 M"),
    ("efficientnet_b0_1.0_224_d4.0", "20.09 M", "1575 M"),
    ("efficientnet_b0_2.0_224", "18.12 M", "1450 M"),
    ("efficientnet_b0_1.0_448", "5.29 M", "1538 M"),
    ("mnasnet_a1", "3,887,038", "311.58 M"),
    ("mnasnet_b1", "4,383,312", "314.42 M"),
    ("mnasnet_small", "2,030,264", "68.34 M"),
    ("moga_a", "5,159,802", "304.04 M"),
    ("moga_a_figure", "5,141,250", "304.02 M"),
    ("moga_b", "5,506,236", "248.63 M"),
    ("moga_c", "5,488,200", "221.09 M"),
    ("resnet50", "25,557,032", "4089.2 M"),
    ("resnet50_stride1x1", "25,557,032", "3858.0 M"),
    ("resnet101_stride1x1", "44.55 M", "7570 M"),
    ("resnet152", "60.19 M", "11514 M"),
    ("se_resnet50_stride1x1", "28,088,024", "3860.5 M"),
    ("se_resnet50", "28,088,024", "4091.7 M"),
    ("se_resnet50_no_bias", "28,071,976", "3860.5 M"),
)


def as_printed(value: int, printed: str) -> str:
    """Write a count with as many digits as the printed figure has."""
    if not printed.endswith(" M"):
        return f"{value:,}"
    digits = len(printed.removesuffix(" M").partition(".")[2])
    return f"{value / 1e6:.{digits}f} M"


@pytest.mark.parametrize(("label", "params", "macs"), VERIFICATION)
def test_params_and_macs_are_the_computed_figures(label, params, macs):
    counts = count(zoo.get(label))
    assert as_printed(counts.params, params) == params
    assert as_printed(counts.macs, macs) == macs


def test_reduction_ratios_give_the_params_of_senet():
    """Table 10 within 0.4 %: the paper's networks have no SE biases, and neither have these."""
    printed = {"_r2": 45.7, "_r4": 35.7, "_r8": 30.7, "": 28.1, "_r32": 26.9}
    for suffix, millions in printed.items():
        spec = zoo.get(f"se_resnet50{suffix}")
        biases = sum(part.out for layer in spec.layers for part in layer.parts if part.role == "se")
        assert (count(spec).params - biases) / 1e6 == pytest.approx(millions, rel=0.004)


def test_what_senet_compares_is_one_network_trained_one_way():
    """Tables 10 to 15: stride in the 1x1 throughout, and r = 16 and no SE as those tables have them, not table 2."""
    compared = ["", *(f"_r{r}" for r in (2, 4, 8, 32)), "_pre", "_post", "_identity", "_3x3", "_no_last_stage"]
    for variant in compared:
        spec = zoo.get(f"se_resnet50{variant or '_stride1x1'}")
        assert {layer.rule.stride_in for layer in spec.layers if layer.kind == "bottleneck"} == {"1x1"}
        assert spec.published_source != "arXiv:1709.01507 table 2"
    accuracy = {name: zoo.get(name).published_top1 for name in ("resnet50_stride1x1", "se_resnet50_stride1x1")}
    assert accuracy == {"resnet50_stride1x1": 76.7, "se_resnet50_stride1x1": 77.72}
    for r in (2, 4, 8, 32):
        assert abs(zoo.get(f"se_resnet50_r{r}").published_top1 - 77.72) < 0.5


def _counted(spec, module, x):
    """Run the module; return its logits and what its convolutions and linear layers multiplied."""
    import torch

    macs = 0

    def hook(layer, _, output):
        nonlocal macs
        macs += layer.weight[0].numel() * output.numel()

    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(hook)
    with torch.no_grad():
        return module(x), macs


# Every network, and every width, depth and size that a table prints.
@pytest.mark.parametrize("label", sorted({*zoo.names(), *(label for label, *_ in VERIFICATION)}))
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_the_torch_module_has_the_counted_params_and_macs(label, padding):
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.build import build

    spec = zoo.get(label, padding=padding)
    with torch.device("meta"):  # shapes only: EfficientNet-B7 takes no longer than the others
        module = build(spec)
        logits, macs = _counted(spec, module, torch.zeros(1, 3, spec.input_size, spec.input_size))
    assert sum(p.numel() for p in module.parameters()) == count(spec).params
    assert logits.shape == (1, 1000)
    assert macs == count(spec).macs
    assert not module.training


# The deeper ones repeat what the others have.
@pytest.mark.parametrize("name", [name for name in zoo.names() if len(zoo.get(name).layers) <= 24])
def test_every_network_computes(name):
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.build import build

    module = build(zoo.get(name, input_size=64)).train()  # batch norm by the batch: nothing vanishes on the way
    with torch.no_grad():
        logits = module(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 1000)
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1])


def test_se_widths_are_those_of_the_released_networks():
    """architectures.md, section 3."""
    widths = {name: [layer.se for layer in zoo.get(name).layers if layer.se] for name in zoo.names()}
    assert widths["mobilenet_v3_large"] == [24, 32, 32, 120, 168, 168, 240, 240]
    assert widths["mobilenet_v3_small"] == [8, 24, 64, 64, 32, 40, 72, 144, 144]
    assert not widths["mobilenet_v1"] and not widths["mobilenet_v2"]
    assert widths["efficientnet_b0"][:3] == [8, 4, 6]  # a quarter of the block's input


def test_v1_truncates_widths_and_the_others_round_to_eight():
    assert [layer.out for layer in zoo.get("mobilenet_v1", width=0.3).layers][:2] == [9, 19]
    assert zoo.get("mobilenet_v2", width=0.3).layers[0].out == 16  # 9.6: 8 would be under 90 %
    assert zoo.get("mobilenet_v3_large", width=0.75).layers[0].out == 16


def test_v2_head_grows_with_the_width_and_never_shrinks():
    heads = [zoo.get("mobilenet_v2", width=width).layers[-1].inp for width in (0.35, 0.5, 1.0, 1.4)]
    assert heads == [1280, 1280, 1280, 1792]


def test_v3_head_is_not_scaled():
    assert zoo.get("mobilenet_v3_large", width=0.5).layers[-1].inp == 1280
    assert zoo.get("mobilenet_v3_small", width=0.5).layers[-1].inp == 1024


@given(st.floats(1, 5000))
def test_round8_is_a_near_multiple_of_eight_and_never_under_nine_tenths(value):
    rounded = round8(value)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * value
    assert rounded <= max(8, value + 8)


@pytest.mark.parametrize("name", zoo.names())
def test_published_top1_is_given_for_exactly_this_variant(name):
    for (width, size, depth), published in NETWORKS[name].published.items():
        spec = zoo.get(name, width=width, input_size=size, depth=depth)
        assert (spec.published_top1, spec.published_source) == (published.top1, published.source)
        assert "arXiv" in published.source or "tensorflow/models" in published.source
        assert 40 < published.top1 < 90
    unpublished = zoo.get(name, width=0.66)
    assert unpublished.published_top1 is None and unpublished.published_source == ""


def test_published_figures_of_the_papers():
    """The headline rows: V1 table 7, V2 table 4, V3 table 3, EfficientNet and MnasNet table 2 and 1, MoGA table 3."""
    headline = {
        "mobilenet_v1": 70.6,
        "mobilenet_v1_0.5_160": 60.2,
        "mobilenet_v2": 72.0,
        "mobilenet_v2_0.35_224": 60.8,
        "mobilenet_v3_large": 75.2,
        "mobilenet_v3_small": 67.4,
        "efficientnet_b0": 77.1,
        "efficientnet_b7": 84.3,
        "mnasnet_a1": 75.2,
        "moga_a": 75.9,
        "resnet50": 76.0,
    }
    assert {label: zoo.get(label).published_top1 for label in headline} == headline


def test_label_names_width_and_size_only_when_they_differ():
    assert zoo.get("mobilenet_v1").label == "mobilenet_v1"
    assert zoo.get("mobilenet_v1", width=1, input_size=224).label == "mobilenet_v1"
    assert zoo.get("mobilenet_v1", width=0.5, input_size=160).label == "mobilenet_v1_0.5_160"
    assert zoo.get("mobilenet_v2", width=1.4).label == "mobilenet_v2_1.4_224"
    assert zoo.get("efficientnet_b2").label == "efficientnet_b2"
    assert zoo.get("efficientnet_b0", depth=4).label == "efficientnet_b0_1.0_224_d4.0"


@given(
    st.sampled_from(zoo.names()),
    st.sampled_from([0.25, 0.35, 1.0, 1.1, 2.0]),
    st.sampled_from([96, 224, 260]),
    st.sampled_from([1.0, 1.1, 2.5]),
)
def test_a_label_is_a_name(name, width, size, depth):
    deepens = any(row.deepens for row in NETWORKS[name].rows)
    spec = zoo.get(name, width=width, input_size=size, depth=depth if deepens else None)
    assert zoo.get(spec.label) == spec


def test_an_option_must_not_contradict_the_label():
    assert zoo.get("mobilenet_v1_0.5_160", width=0.5).input_size == 160
    with pytest.raises(BadInputError, match=r"width 0\.75 for mobilenet_v1_0\.5_160.*says 0\.5"):
        zoo.get("mobilenet_v1_0.5_160", width=0.75)


def test_the_depth_multiplier_repeats_blocks_and_nothing_else():
    plain, deep = zoo.get("efficientnet_b0"), zoo.get("efficientnet_b0", depth=1.1)
    assert [len([x for x in spec.layers if x.kind == "inverted"]) for spec in (plain, deep)] == [16, 23]
    assert len(deep.layers) - len(plain.layers) == 7


def test_full_convolutions_are_repeated_as_the_separable_ones_they_stand_for():
    separable, full = (zoo.get(f"mobilenet_v1{which}", depth=2) for which in ("", "_full_conv"))
    assert [(x.inp, x.out, x.size, x.stride) for x in full.layers] == [
        (x.inp, x.out, x.size, x.stride) for x in separable.layers
    ]
    assert len(full.layers) == 1 + 2 * 13 + 2


@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_a_network_without_blocks_has_no_depth_multiplier(name):
    assert zoo.get(name, depth=1).depth == 1
    with pytest.raises(BadInputError, match=f"depth 2 of {name}: it has no blocks to repeat; leave depth out"):
        zoo.get(name, depth=2)


@pytest.mark.parametrize(
    ("name", "place"),
    [("pre", "pre"), ("post", "post"), ("identity", "identity"), ("3x3", "spatial"), ("r8", "output")],
)
def test_se_sits_where_senets_figure_5_puts_it(name, place):
    """With a gate that is shut, what is scaled becomes half; the place shows in what remains."""
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.build import build

    spec = zoo.get(f"se_resnet50_{name}", input_size=64)
    block = build(spec)[3]  # the second bottleneck: a plain shortcut
    assert block.place == place
    for conv in (block.se.reduce, block.se.expand):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)  # sigmoid(0) = 1/2
    x = torch.rand(1, 256, 16, 16)

    def branch(x, before=1.0, inside=1.0):
        return block.restore(block.spatial(block.reduce(before * x)) * inside)

    with torch.no_grad():
        expected = {
            "pre": lambda: torch.relu(branch(x, before=0.5) + x),
            "post": lambda: torch.relu(branch(x) + x) / 2,
            "identity": lambda: torch.relu(branch(x) + x / 2),
            "spatial": lambda: torch.relu(branch(x, inside=0.5) + x),
            "output": lambda: torch.relu(branch(x) / 2 + x),
        }[place]()
        assert torch.allclose(block(x), expected, atol=1e-5)


def test_a_relu_gate_may_shut_and_may_amplify():
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.build import build

    se = build(zoo.get("se_resnet50_relu_gate", input_size=32))[3].se
    for conv in (se.reduce, se.expand):
        torch.nn.init.zeros_(conv.weight)
    x = torch.rand(1, 256, 8, 8)
    for bias, scale in ((-1.0, 0.0), (2.0, 2.0)):
        torch.nn.init.constant_(se.expand.bias, bias)
        with torch.no_grad():
            assert torch.allclose(se(x), scale * x)


@pytest.mark.parametrize(
    ("variant", "of", "kept"),
    [
        ("moga_c_no_se", "moga_c", ("out", "hidden", "kernel", "stride", "act")),
        ("mobilenet_v3_small_no_se", "mobilenet_v3_small", ("out", "hidden", "kernel", "stride", "act")),
        ("mobilenet_v3_small_relu", "mobilenet_v3_small", ("out", "hidden", "kernel", "stride", "se")),
        ("mobilenet_v3_small_spelled", "mobilenet_v3_small", ("out", "hidden", "kernel", "stride", "se")),
        ("mobilenet_v3_small_hswish16", "mobilenet_v3_small", ("out", "hidden", "kernel", "stride", "se")),
        ("mobilenet_v3_small_se_input", "mobilenet_v3_small", ("out", "hidden", "kernel", "stride", "act")),
        ("mobilenet_v3_large_head2560", "mobilenet_v3_large", ("hidden", "kernel", "stride", "act", "se")),
        ("se_resnet50_relu_gate", "se_resnet50_stride1x1", ("out", "hidden", "kernel", "stride", "act", "se")),
    ],
)
def test_a_variant_differs_in_what_it_is_named_for_and_in_nothing_else(variant, of, kept):
    ours, theirs = zoo.get(variant), zoo.get(of)
    assert [[getattr(x, key) for key in kept] for x in ours.layers] == [
        [getattr(x, key) for key in kept] for x in theirs.layers
    ]
    assert ours.layers != theirs.layers


def test_small_has_larges_activations_by_name():
    acts = {
        which: {x.act for x in zoo.get(f"mobilenet_v3_small_{which}").layers} - {"none"}
        for which in ("relu", "minimalistic", "spelled", "hswish16", "hswish16_spelled")
    }
    assert acts["relu"] == acts["minimalistic"] == {"relu"}
    assert acts["hswish16"] == {"hardswish"}
    assert acts["spelled"] == {"relu", "hardswish_spelled"} and acts["hswish16_spelled"] == {"hardswish_spelled"}


def test_spelled_hswish_is_the_same_function():
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.blocks import SpelledHardswish

    x = torch.linspace(-6, 6, 1001)
    assert torch.allclose(SpelledHardswish()(x), torch.nn.functional.hardswish(x), atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("mobilenet_v4", "mobilenet_v1"),
        ("mobilnet_v2", "mobilenet_v2"),
        ("MobileNetV2", "mobilenet_v2"),
        ("mobilenetv3-large", "mobilenet_v3_large"),
        ("v3_small", "mobilenet_v3_small"),
        ("mobilenet_v3", "mobilenet_v3_large or mobilenet_v3_small"),
        (
            "EfficientNet",
            "efficientnet_b0 or efficientnet_b1 or efficientnet_b2 or efficientnet_b3 or efficientnet_b4?",
        ),
        ("moga", "moga_a or moga_a_figure or moga_b or moga_c"),
        ("mobilenetv1_100", "did you mean mobilenet_v1"),
        ("mobilenet_v1_0.5_\u0661\u0666\u0660", "did you mean mobilenet_v1"),  # digits, but not what a label has
    ],
)
def test_an_unknown_network_is_answered_with_the_nearest_names(asked, nearest):
    with pytest.raises(BadInputError) as error:
        zoo.get(asked)
    assert asked in error.value.what and nearest in error.value.mend
    assert "\n" not in str(error.value)


def test_a_name_unlike_any_is_answered_with_all():
    with pytest.raises(BadInputError) as error:
        zoo.get("zzzz")
    assert all(name in error.value.mend for name in zoo.names())


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"width": 0}, "width 0"),
        ({"width": -1.0}, "width -1"),
        ({"width": float("nan")}, "width nan"),
        ({"width": 99}, "width 99"),
        ({"input_size": 16}, "input size 16"),
        ({"input_size": 100_000}, "input size 100000"),
        ({"input_size": 224.5}, "input size 224.5"),
        ({"input_size": float("inf")}, "input size inf"),
        ({"input_size": float("nan")}, "input size nan"),
        ({"padding": "valid"}, "padding 'valid'"),
        ({"bn_eps": 0.0}, "epsilon 0"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters, named):
    with pytest.raises(BadInputError, match=named):
        zoo.get("mobilenet_v2", **parameters)


def test_a_size_that_the_strides_use_up_is_refused_by_name():
    with pytest.raises(BadInputError, match="input size 33 of alexnet: nothing is left"):
        zoo.get("alexnet", input_size=33)


def test_a_spec_is_frozen_and_equal_however_it_was_asked_for():
    spec = zoo.get("mobilenet_v2")
    with pytest.raises(FrozenInstanceError):
        spec.width = 2.0
    assert spec == zoo.get("mobilenet_v2", width=1.0, input_size=224, padding="symmetric")
    assert replace(spec, bn_eps=1e-3) == zoo.get("mobilenet_v2", bn_eps=1e-3)


def test_listing_networks_imports_no_torch():
    code = "import sys; from mobench import zoo; from mobench.zoo import count, weights; zoo.get('mobilenet_v1')"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=True, timeout=60)
