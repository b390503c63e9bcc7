"""torch -> TFLite by litert-torch: NHWC float32 input, batch 1, no transposes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import litert_torch
import torch

from exporters.tflite_borders import zero_borders

if TYPE_CHECKING:
    from torch import nn


def convert(module: nn.Module, size: int) -> bytes:
    """Return ``module`` ([1, 3, size, size] float32 to [1, classes]) as a TFLite file that reads [1, size, size, 3].

    The wrapper's transpose cancels against those that litert-torch puts around convolutions, so that none is left.
    """
    channels_last = litert_torch.to_channel_last_io(module, args=[0]).eval()
    content: bytes = litert_torch.convert(channels_last, (torch.zeros(1, size, size, 3),)).model_content()
    return zero_borders(content)
