"""Does a session compute what it should? Its outputs against those of the same file on this machine's CPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mobench.records import Artifact, Cell, Check, Ready
from runners.inputs import random_inputs

INPUTS = 4
# The least signal-to-noise ratio, dB, by what the arithmetic is: float32 differs by the order of its sums alone; a
# float16 has 11 bits; an INT8 file that a GPU computes in float lacks INT8's own noise, 10 dB of a random
# network's logits (benchmarks/README.md). A wrong kernel gives 3 dB or less.
LEAST_DB = {"fp32": 40.0, "fp16": 20.0, "int8": 6.0}
MOST_DB = 200.0  # of equal outputs: a journal has no word for infinity


def inputs(ready: Ready, n: int = INPUTS) -> npt.NDArray[Any]:
    """Return ``[n, ...]`` for a model's first input, of the kind that it is timed with."""
    detail = ready.inputs[0]
    return random_inputs([{**detail, "shape": [n, *detail["shape"][1:]]}])[0]


def least_db(artifact: Artifact, provider: str) -> float:
    """Return the least signal-to-noise ratio that a file's outputs on a provider must have."""
    precision = artifact.precision or "fp32"
    if precision.startswith("int8"):
        return LEAST_DB["int8"]
    return LEAST_DB["fp16" if "fp16" in (precision, provider.removeprefix("gpu-")) else "fp32"]


def real(outputs: npt.NDArray[Any], detail: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Return outputs as real numbers: a quantized one's scale and zero point applied."""
    values = outputs.astype(np.float64)
    return (values - detail["zero_point"]) * detail["scale"] if detail.get("scale") else values


def unchecked(cell: Cell, why: str) -> Check:
    """Return the record of a session whose outputs could not be compared."""
    return Check(cell=cell.id, incarnation=0, reference="", n=0, snr_db=None, largest=None, top1=None, unchecked=why)


def compare(cell: Cell, reference: npt.NDArray[np.float64], outputs: npt.NDArray[np.float64], *, named: str) -> Check:
    """Compare outputs ``[n, ...]`` with the reference's; ``named`` is what the reference was."""
    wrong = ""
    if outputs.shape != reference.shape:
        wrong = f"its output is {list(outputs.shape[1:])}, the reference's {list(reference.shape[1:])}"
    elif not np.isfinite(reference).all():
        wrong = f"{named} gives NaN or infinity itself, so that nothing can be said of it"
    if wrong:
        return Check(
            cell=cell.id, incarnation=0, reference=named, n=len(outputs), snr_db=-MOST_DB, largest=1.0, top1=0.0,
            wrong=wrong,
        )  # fmt: skip
    flat, other = reference.reshape(len(reference), -1), outputs.reshape(len(outputs), -1)
    finite = bool(np.isfinite(other).all())
    noise = float(np.square(np.where(np.isfinite(other), other, 0.0) - flat).sum())
    signal = float(np.square(flat).sum())
    snr_db = 10 * math.log10(signal / noise) if signal and noise else MOST_DB if not noise else -MOST_DB
    scale = float(np.abs(flat).max()) or 1.0
    # TF32 rounds inputs to 10 bits, as FP16 does.
    least = least_db(cell.artifact, "fp16" if cell.target.tf32 else cell.target.provider)
    if not finite:
        wrong = "its output holds NaN or infinity"
    elif snr_db < least:
        wrong = f"signal-to-noise {snr_db:.1f} dB against {named}, at least {least:g} dB expected"
    return Check(
        cell=cell.id,
        incarnation=0,
        reference=named,
        n=len(flat),
        snr_db=round(max(-MOST_DB, min(MOST_DB, snr_db)), 2),
        largest=float(np.abs(other - flat).max() / scale) if finite else 1.0,
        top1=float(np.mean(flat.argmax(1) == other.argmax(1))),
        wrong=wrong,
    )
