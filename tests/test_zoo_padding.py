"""SAME padding: where the odd pixel goes, and when a border has to be explicit."""

import pytest


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [7, 14, 15, 112])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_puts_the_odd_pixel_at_the_bottom_and_right(kernel, size, stride):
    """Against TensorFlow's definition, written out: the first window starts at -(total // 2)."""
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.blocks import ConvBN, Rules
    from mobench.zoo.spec import Part

    part = Part(
        name="", role="conv", inp=1, out=1, size=size, out_size=-(-size // stride), kernel=kernel, stride=stride
    )
    block = ConvBN(part, Rules(padding="same", bn_eps=1e-5)).eval()
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


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "padding", "expected"),
    [
        (8, 3, 2, None, "symmetric", (None, 1)),
        (8, 3, 1, None, "same", (None, 1)),
        (8, 3, 2, None, "same", ((0, 1, 0, 1), 0)),
        (8, 5, 2, None, "same", ((1, 2, 1, 2), 0)),
        (7, 3, 2, None, "same", (None, 1)),  # as symmetric: no explicit pad
        (9, 5, 2, None, "same", (None, 2)),
        (8, 1, 2, None, "same", (None, 0)),  # nothing to add, not a pad of zeros
        (8, 2, 2, 0, "same", (None, 0)),
        (8, 3, 2, 0, "symmetric", (None, 0)),
    ],
)
def test_an_explicit_border_only_where_the_operator_has_none_like_it(size, kernel, stride, pad, padding, expected):
    pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.blocks import border

    assert border(size, kernel, stride, pad, padding) == expected
