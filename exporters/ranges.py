"""The ranges of tensors and the scales of weights that 8 bits hold best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Ranges of least error serve the typical image, whole ones the image that differs: which of the two a network bears
# better, its logits say on so many calibration images.
JUDGED = 32

_STEPS = 255  # between the lowest and the highest of 8 bits
_BINS = 2048
_SHARES = 0.85 ** np.arange(25)  # of an end: all of it, down to 2 %
_SWEEPS = 2
LARGEST = 127  # of a weight: symmetric, so that -128 is not used
_GRIDS = np.arange(LARGEST, LARGEST // 2, -1)  # a channel's largest weight in steps of its scale, the finest first
_SAMPLED_WEIGHTS = 256  # a channel: a wrong scale is never the best for so many


def best_range(low: float, high: float, sample: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the range within ``low`` to ``high``, 0 in it, that has the least squared error on the sample.

    The error is that of rounding, a twelfth of a squared step for each value inside, and of clipping the others. It
    counts relative to the power of its image: one in a hundred that is unlike the others would otherwise take the bits
    of them all, as it does where the range is the whole one (DECISIONS.md).

    Args:
        low: the lowest value there was.
        high: the highest.
        sample: some of the values, [N images, values].
    """
    low, high = min(low, 0.0), max(high, 0.0)
    power = (sample.astype(np.float64) ** 2).mean(axis=1, keepdims=True)
    weights = np.where((sample != 0) & (power > 0), 1 / np.where(power > 0, power, 1.0), 0.0)  # 0 is exact in any range
    if high <= low or not weights.any():
        return low, high
    counts, edges = np.histogram(sample, _BINS, (low, high), weights=weights)
    centres = (edges[1:] + edges[:-1]) / 2

    def error(range_: tuple[float, float]) -> float:
        clipped = np.clip(centres, *range_)
        rounding = ((range_[1] - range_[0]) / _STEPS) ** 2 / 12
        return float(counts @ np.where(clipped == centres, rounding, (clipped - centres) ** 2))

    bottom, top = low, high
    for _ in range(_SWEEPS):  # one end at a time: together they would be 625 pairs a tensor
        _, top = min(((bottom, float(end)) for end in high * _SHARES), key=error)
        bottom, _ = min(((float(end), top) for end in low * _SHARES), key=error) if low < 0 else (0.0, top)
    return bottom, top


def best_scales(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return for each output channel of weights [out, ...] the scale that rounds them least, [out, 1, ...].

    It is the largest weight over a whole number of 64 to 127: nothing is clipped. Where weights lie on a grid already,
    as those of a checkpoint that was trained for INT8, it is found again.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest, 1.0) / _GRIDS
    if rows.shape[1] > _SAMPLED_WEIGHTS:
        rows = rows[:, np.random.default_rng(0).integers(rows.shape[1], size=_SAMPLED_WEIGHTS)]
    errors = np.stack([((np.round(rows / s) * s - rows) ** 2).sum(1) for s in scales.T[..., None]], axis=1)
    # float32's own rounding is no reason to leave a finer scale.
    good = errors <= errors.min(1, keepdims=True) + np.finfo(np.float32).eps ** 2 * (rows**2).sum(1, keepdims=True)
    chosen = np.take_along_axis(scales, good.argmax(1)[:, None], 1)
    return chosen.reshape(-1, *[1] * (weights.ndim - 1)).astype(np.float32)
