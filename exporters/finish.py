"""What becomes of a converted file: it is verified, and only then given its name and a manifest."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from exporters.recipe import Request
from exporters.verify import check, compare, manifest_entry, tolerance
from exporters.worker import Explained
from mobench import artifacts
from mobench.errors import ExportError, MobenchError
from mobench.records import Format

# Runs a model file on inputs [N, ...] in the file's own layout; returns logits [N, classes], and what the manifest says
# of the runtime. It must survive a runtime that aborts, so it does its work in another process.
Predict = Callable[[Path, npt.NDArray[np.float32]], tuple[npt.NDArray[Any], Mapping[str, Any]]]

# Kinds of weights that are not known to be trained: INT8 has more to lose there. `trained` in an origin has precedence.
UNTRAINED = ("random", "own")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one file. ``seconds`` is its share of its request's wall clock; ``log`` what libraries printed.

    ``explanation`` is the manifest's, and there too where the file then failed its verification.
    """

    label: str
    format: Format
    precision: str
    path: Path
    status: Literal["exported", "unchanged", "failed"]
    seconds: float
    manifest: Mapping[str, Any] = field(default_factory=dict)
    explanation: Mapping[str, Any] = field(default_factory=dict)
    error: MobenchError | None = None
    log: str = ""


def outcome(
    request: Request, precision: str, status: Literal["exported", "unchanged", "failed"], seconds: float, **more: Any
) -> Outcome:
    """Return the outcome of one precision of a request."""
    return Outcome(
        label=request.network["label"],
        format=request.format,
        precision=precision,
        path=request.path(precision),
        status=status,
        seconds=round(seconds, 3),
        **more,
    )


def run(
    request: Request, path: Path, images: npt.NDArray[np.float32], predict: Predict, name: str
) -> tuple[npt.NDArray[Any], Mapping[str, Any]]:
    """Run a file on images [N, S, S, 3], turned to the layout that the request's files have.

    Args:
        request: whose file it is.
        path: where it lies now.
        images: pre-processed.
        predict: runs it.
        name: what it is called in an error.

    Raises:
        ExportError: it does not run.
    """
    inputs = images if request.channels_last else images.transpose(0, 3, 1, 2)
    try:
        return predict(path, np.ascontiguousarray(inputs))
    except MobenchError as error:
        raise ExportError(f"{name} does not run", str(error), "no file was kept") from error


def finish(
    request: Request,
    precision: str,
    path: Path,
    images: npt.NDArray[np.float32],
    reference: npt.NDArray[np.float32],
    predict: Predict,
    *,
    explained: Explained | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Verify the file at its temporary ``path``, then give it its name and its manifest. Returns the manifest.

    Args:
        request: what was asked.
        precision: which file of it.
        path: where it lies now; nothing is left there.
        images: what it is verified on, [N, S, S, 3].
        reference: what its logits should be, [N, classes].
        predict: runs it.
        explained: what explains it, if anything does.
        more: further entries of the manifest; the explanation joins them, also where the check then fails.

    Raises:
        ExportError: it does not run, is too far from the reference, or cannot be written.
    """
    final, more = request.path(precision), {} if more is None else more
    try:
        logits, runtime = run(request, path, images, predict, final.name)
        origin = request.weights.origin
        trained = origin.get("trained", origin.get("kind") not in UNTRAINED)
        allowed = tolerance(precision, trained=trained)
        if explained is not None:
            fp32, _ = run(request, explained.fp32, images, predict, request.path("fp32").name)
            more["explanation"] = explained.study.report(reference, fp32, logits, runtime["name"])
        comparison = compare(reference, logits)
        check(comparison, allowed, final.name, request.reference)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        against = "torch fp32" if request.given is None else f"{request.reference} in its runtime"
        entry = manifest_entry(comparison, allowed, against)
        manifest = request.manifest(precision, path, entry, runtime, created, **more)
        # In this order a reader finds the old pair, a file without a manifest, or the new pair; never a false pair.
        artifacts.manifest_path(final).unlink(missing_ok=True)
        path.replace(final)
        try:
            artifacts.write_manifest(final, manifest)
        except OSError:
            final.unlink(missing_ok=True)
            raise
    except OSError as error:
        mend = "free some space, or name another folder with -o"
        raise ExportError(f"cannot write {final}", error.strerror or str(error), mend) from error
    finally:
        path.unlink(missing_ok=True)
    return manifest
