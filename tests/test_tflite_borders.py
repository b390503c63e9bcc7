"""Max pooling with a border: zeros behind a ReLU, minus infinity elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from test_exporters import run_tflite, tflite_operators

torch = pytest.importorskip("torch", reason="needs mobench[export]")
pytest.importorskip("litert_torch", reason="needs mobench[export]")

SIZE = 8


@pytest.mark.parametrize(
    ("behind", "pads"),
    [(torch.nn.ReLU(), {"PAD": 1, "PADV2": 0}), (torch.nn.Identity(), {"PAD": 0, "PADV2": 1})],
    ids=["behind a ReLU", "behind a convolution"],
)
def test_the_border_is_zeros_only_where_nothing_is_below_zero(behind: torch.nn.Module, pads: dict[str, int]) -> None:
    from exporters import to_tflite

    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    if isinstance(behind, torch.nn.Identity):
        torch.nn.init.constant_(convolution.bias, -10.0)  # every maximum is below a border of zeros
    module = torch.nn.Sequential(convolution, behind, torch.nn.MaxPool2d(3, 2, 1)).eval()
    content = to_tflite.convert(module, SIZE)
    found = tflite_operators(content)
    assert {kind: found[kind] for kind in pads} == pads
    image = torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = module(image).numpy()
    ours = run_tflite(content, image.numpy().transpose(0, 2, 3, 1))  # the output stays channels first
    np.testing.assert_allclose(ours, expected, atol=1e-5)
