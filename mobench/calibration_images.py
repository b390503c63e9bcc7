"""The embedded calibration set: images drawn by a seeded procedure, for exports without photographs at hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NAME = "embedded-v1"
N = 100
SIZE = 256


def image(index: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return image ``index`` of the set: uint8 [256, 256, 3]."""
    random = np.random.RandomState([seed, index])
    return random.randint(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
