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

# ../shared/papers/architectures.md, section 10: name, width, input size, params, MACs, both as printed there.
VERIFICATION = (
    ("mobilenet_v1", 1.0, 224, "4,231,976", "568.74 M"),
    ("mobilenet_v1", 0.75, 224, "2.586 M", "325.4 M"),
    ("mobilenet_v1", 0.5, 224, "1.332 M", "149.5 M"),
    ("mobilenet_v1", 0.25, 224, "0.470 M", "41.0 M"),
    ("mobilenet_v1", 1.0, 192, "4.232 M", "418.1 M"),
    ("mobilenet_v1", 1.0, 160, "4.232 M", "290.7 M"),
    ("mobilenet_v1", 1.0, 128, "4.232 M", "186.4 M"),
    ("mobilenet_v1", 0.5, 160, "1.332 M", "76.5 M"),
    ("mobilenet_v2", 1.0, 224, "3,504,872", "300.77 M"),
    ("mobilenet_v2", 1.4, 224, "6.109 M", "582.2 M"),
    ("mobilenet_v2", 0.75, 224, "2.636 M", "209.1 M"),
    ("mobilenet_v2", 0.5, 224, "1.969 M", "97.1 M"),
    ("mobilenet_v2", 0.35, 224, "1.677 M", "59.3 M"),
    ("mobilenet_v3_large", 1.0, 224, "5,483,032", "216.59 M"),
    ("mobilenet_v3_large", 0.75, 224, "3.994 M", "154.56 M"),
    ("mobilenet_v3_small", 1.0, 224, "2,542,856", "56.51 M"),
    ("mobilenet_v3_small", 0.75, 224, "2.042 M", "43.4 M"),
)
VARIANTS = [(name, width, size) for name, width, size, *_ in VERIFICATION]


def as_printed(value: int, printed: str) -> str:
    """Write a count with as many digits as the printed figure has."""
    if not printed.endswith(" M"):
        return f"{value:,}"
    return f"{value / 1e6:.{len(printed.removesuffix(' M').split('.')[1])}f} M"


@pytest.mark.parametrize(("name", "width", "size", "params", "macs"), VERIFICATION)
def test_params_and_macs_are_the_computed_figures(name, width, size, params, macs):
    counts = count(zoo.get(name, width=width, input_size=size))
    assert as_printed(counts.params, params) == params
    assert as_printed(counts.macs, macs) == macs


@pytest.mark.parametrize(("name", "width", "size"), VARIANTS)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_the_torch_module_has_the_counted_params_and_macs(name, width, size, padding):
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.build import build

    spec = zoo.get(name, width=width, input_size=size, padding=padding)
    module = build(spec)
    assert sum(p.numel() for p in module.parameters()) == count(spec).params

    macs = 0

    def hook(layer, _, output):
        nonlocal macs
        macs += layer.weight[0].numel() * output.numel()

    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(hook)
    with torch.no_grad():
        logits = module(torch.zeros(1, 3, size, size))
    assert logits.shape == (1, 1000)
    assert macs == count(spec).macs
    assert not module.training


def test_se_widths_are_those_of_the_released_networks():
    """architectures.md, section 3."""
    widths = {name: [layer.se for layer in zoo.get(name).layers if layer.se] for name in zoo.names()}
    assert widths["mobilenet_v3_large"] == [24, 32, 32, 120, 168, 168, 240, 240]
    assert widths["mobilenet_v3_small"] == [8, 24, 64, 64, 32, 40, 72, 144, 144]
    assert not widths["mobilenet_v1"] and not widths["mobilenet_v2"]


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
    for (width, size), published in NETWORKS[name].published.items():
        spec = zoo.get(name, width=width, input_size=size)
        assert (spec.published_top1, spec.published_source) == (published.top1, published.source)
        assert "arXiv" in published.source or "tensorflow/models" in published.source
    unpublished = zoo.get(name, width=0.66)
    assert unpublished.published_top1 is None and unpublished.published_source == ""


def test_published_figures_of_the_four_papers():
    """The headline rows: V1 table 7, V2 table 4, V3 table 3; V1 0.5-160 is table 9."""
    assert [zoo.get(name).published_top1 for name in zoo.names()] == [70.6, 72.0, 75.2, 67.4]
    assert zoo.get("mobilenet_v1", width=0.5, input_size=160).published_top1 == 60.2


def test_label_names_width_and_size_only_when_they_differ():
    assert zoo.get("mobilenet_v1").label == "mobilenet_v1"
    assert zoo.get("mobilenet_v1", width=1, input_size=224).label == "mobilenet_v1"
    assert zoo.get("mobilenet_v1", width=0.5, input_size=160).label == "mobilenet_v1_0.5_160"
    assert zoo.get("mobilenet_v2", width=1.4).label == "mobilenet_v2_1.4_224"


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("mobilenet_v4", "mobilenet_v1"),
        ("mobilnet_v2", "mobilenet_v2"),
        ("MobileNetV2", "mobilenet_v2"),
        ("mobilenetv3-large", "mobilenet_v3_large"),
        ("v3_small", "mobilenet_v3_small"),
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
        ({"padding": "valid"}, "padding 'valid'"),
        ({"bn_eps": 0.0}, "epsilon 0"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters, named):
    with pytest.raises(BadInputError, match=named):
        zoo.get("mobilenet_v2", **parameters)


def test_a_spec_is_frozen_and_equal_however_it_was_asked_for():
    spec = zoo.get("mobilenet_v2")
    with pytest.raises(FrozenInstanceError):
        spec.width = 2.0
    assert spec == zoo.get("mobilenet_v2", width=1.0, input_size=224, padding="symmetric")
    assert replace(spec, bn_eps=1e-3) == zoo.get("mobilenet_v2", bn_eps=1e-3)


def test_listing_networks_imports_no_torch():
    code = "import sys; from mobench import zoo; from mobench.zoo import count, weights; zoo.get('mobilenet_v1')"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=True, timeout=60)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [7, 14, 15, 112])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_puts_the_odd_pixel_at_the_bottom_and_right(kernel, size, stride):
    """Against TensorFlow's definition, written out: the first window starts at -(total // 2)."""
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.blocks import ConvBN

    block = ConvBN(1, 1, kernel, stride=stride, act="none", size=size, padding="same", bn_eps=1e-5).eval()
    torch.nn.init.ones_(block.conv.weight)
    x = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size)
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    with torch.no_grad():
        y = block.conv(torch.nn.functional.pad(x, block.border) if block.border else x)
    assert y.shape[-2:] == (out, out)
    for row in (0, out - 1):
        for column in (0, out - 1):
            top, left = row * stride - before, column * stride - before
            window = x[0, 0, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            assert y[0, 0, row, column] == window.sum()
