"""A mend for ai-edge-quantizer 0.10: convolutions whose weights take more than 32 MiB, such as 1024 x 3 x 3 x 1024.

It takes such a tensor in parts, as a matrix, but leaves its scales in four dimensions, and so fails. Here its output
channels come in parts that are small enough not to be taken apart once more; the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor

_MOST_BYTES = 32 << 20


@contextmanager
def in_parts() -> Iterator[None]:
    """Quantize large weights in parts for as long as this lasts."""
    whole = uniform_quantize_tensor.uniform_quantize

    def quantize(tensor: Any, params: Any, *arguments: Any, **options: Any) -> Any:
        if tensor.ndim < 3 or tensor.nbytes <= _MOST_BYTES or params.quantized_dimension != 0:
            return whole(tensor, params, *arguments, **options)
        count = -(-tensor.nbytes // _MOST_BYTES)
        parts = [
            whole(tensor[rows], _of_rows(params, rows, len(tensor)), *arguments, **options)
            for rows in np.array_split(np.arange(len(tensor)), count + 1)
        ]
        return np.concatenate(parts)

    uniform_quantize_tensor.uniform_quantize = quantize
    try:
        yield
    finally:
        uniform_quantize_tensor.uniform_quantize = whole


def _of_rows(params: Any, rows: np.ndarray, of: int) -> Any:
    """Return the parameters of some output channels; a scale for the whole tensor stays as it is."""

    def some(values: Any) -> Any:
        return values[rows] if np.ndim(values) and len(values) == of else values

    return replace(params, scale=some(params.scale), zero_point=some(params.zero_point))
