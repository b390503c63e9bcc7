"""What models are run on where nobody gave them images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def random_inputs(details: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    """Return seeded inputs: standard normal for floats, a quantized type's whole range, 0 or 1 for the rest."""
    rng = np.random.default_rng(0)
    arrays: list[np.ndarray] = []
    for detail in details:
        shape, dtype = detail["shape"], np.dtype(detail["dtype"])
        if dtype.kind == "f":
            arrays.append(rng.standard_normal(shape).astype(dtype))
        elif dtype in (np.uint8, np.int8):
            limits = np.iinfo(dtype)
            arrays.append(rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True))
        else:  # truths, or indices into a table: any other may be out of range
            arrays.append(rng.integers(0, 2, size=shape).astype(dtype))
    return arrays
