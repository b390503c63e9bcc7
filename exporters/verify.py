"""The check of an exported file against torch: how far its logits are off, and how far they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobench.errors import ExportError

Float32 = npt.NDArray[np.float32]
# Decibels are given up to here: beyond it the error is float32's own rounding, and an equal output has none at all.
SNR_LIMIT_DB = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an export may be from torch; None is no bound. See `Comparison` for the figures."""

    max_rel_error: float | None = None
    min_snr_db: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How an exported file's logits differ from torch's on ``n`` images.

    ``max_rel_error`` is the largest error over the largest absolute logit. ``snr_db`` is the signal-to-noise ratio of
    all logits, each image's mean logit removed. ``top1_agreement`` is in percent; no bound is set on it, because with
    random weights, or on drawn images, the first two logits lie closer together than any rounding.
    """

    n: int
    max_abs_error: float
    mean_abs_error: float
    max_rel_error: float
    snr_db: float
    top1_agreement: float


# Measured (2026-11, x86): FP32 0.1 to 6e-6 of the largest logit. FP16 26 dB and 5 % of the largest logit at worst (a
# 0.25-width network with random weights), 34 dB for MobileNetV2's published ones.
_FLOAT_TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(max_rel_error=1e-3),
    "fp16": Tolerance(max_rel_error=0.15, min_snr_db=20.0),
}
# INT8, with photographs: 18.7 to 25 dB for published weights, 9 to 16 dB for random ones at full width, 3.5 dB for a
# 0.25-width network with random weights on noise; INT8-dynamic 19 to 25 dB and 11 to 17 dB. One convolution's scale
# doubled: between -3.7 and 6.1 dB, below 3 nearly everywhere, for published weights; 2 to 15 dB less than the whole
# file for random ones.
_INT8_TRAINED = Tolerance(min_snr_db=5.0)
_INT8_RANDOM = Tolerance(min_snr_db=1.0)


def tolerance(precision: str, *, trained: bool) -> Tolerance:
    """Return what a precision may differ from torch. Random weights have no structure that INT8 could spare."""
    if precision.startswith("int8"):
        return _INT8_TRAINED if trained else _INT8_RANDOM
    return _FLOAT_TOLERANCES[precision]


def compare(reference: Float32, logits: npt.NDArray[Any]) -> Comparison:
    """Compare logits with torch's: both [N, classes].

    Raises:
        ExportError: the shapes differ, or a logit is not finite.
    """
    if logits.shape != reference.shape:
        raise ExportError(
            f"outputs of shape {logits.shape}", f"the reference's is {reference.shape}", "this is a bug: report it"
        )
    if not np.isfinite(logits).all():
        raise ExportError("outputs that are not finite", "a range overflowed", "try other calibration images")
    ours, theirs = reference.astype(np.float64), logits.astype(np.float64)
    error = np.abs(theirs - ours)
    # Centred for each image: softmax and the ranking ignore what is added to all logits alike.
    signal = ours - ours.mean(axis=1, keepdims=True)
    got = theirs - theirs.mean(axis=1, keepdims=True)
    noise = float(((got - signal) ** 2).sum())
    power = float((signal**2).sum())
    if noise > 0 and power > 0:
        snr = float(np.clip(10 * np.log10(power / noise), -SNR_LIMIT_DB, SNR_LIMIT_DB))
    else:
        snr = -SNR_LIMIT_DB if noise > 0 else SNR_LIMIT_DB
    return Comparison(
        n=len(reference),
        max_abs_error=float(error.max()),
        mean_abs_error=float(error.mean()),
        max_rel_error=float(error.max() / max(float(np.abs(ours).max()), np.finfo(np.float32).tiny)),
        snr_db=snr,
        top1_agreement=float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() * 100),
    )


def closest(model: bytes, candidates: Sequence[bytes], run: Callable[[bytes], Float32]) -> bytes:
    """Return the one of several quantized files whose logits are closest to the float model's.

    Args:
        model: the float file.
        candidates: files made of it.
        run: returns a file's logits [N, classes] on the images to go by.
    """
    reference = run(model)

    def snr_db(candidate: bytes) -> float:
        try:
            return compare(reference, run(candidate)).snr_db
        except ExportError:  # outputs that are not finite
            return -SNR_LIMIT_DB

    return max(candidates, key=snr_db)


def check(comparison: Comparison, tolerance: Tolerance, what: str, reference: str = "torch") -> None:
    """Raise an ExportError that names ``what``, the figure and the bound when a bound does not hold."""
    broken = []
    if tolerance.max_rel_error is not None and comparison.max_rel_error > tolerance.max_rel_error:
        broken.append(
            f"largest error {comparison.max_rel_error:.2g} of the largest logit (at most {tolerance.max_rel_error:g})"
        )
    if tolerance.min_snr_db is not None and comparison.snr_db < tolerance.min_snr_db:
        broken.append(f"signal-to-noise {comparison.snr_db:.1f} dB (at least {tolerance.min_snr_db:g})")
    if broken:
        raise ExportError(
            f"{what} is too far from {reference}",
            "; ".join(broken),
            "no file was kept; try other calibration images or another precision",
        )


def manifest_entry(comparison: Comparison, tolerance: Tolerance, reference: str = "torch fp32") -> dict[str, Any]:
    """Return what a manifest says of the check against ``reference``, figures to six digits."""
    figures = {
        key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in asdict(comparison).items()
    }
    return {"reference": reference, **figures, "tolerance": asdict(tolerance)}
