"""Accuracy: top-1 and top-5 of a classifier file on labelled images, with 95 % Wilson intervals, over sessions."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mobench import classifier
from mobench.data import LabelledImages, open_image
from mobench.errors import BadInputError, SessionError
from mobench.records import DEVICES, Accuracy, Artifact, Ready, Target

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile
# Small, so that Ctrl-C and the progress bar are never far behind, and large beside the cost of a request.
_CHUNK = 8


class Session(Protocol):
    """What an evaluation needs of a session."""

    @property
    def ready(self) -> Ready:
        """What it said once its model was loaded."""
        ...

    def predict(self, inputs: npt.NDArray[Any], *, deadline_s: float = 60.0) -> npt.NDArray[Any]:
        """Run the model once for each of [N, ...]; return its first output, stacked."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An accuracy, what had to be assumed for it, what makes one doubt it, and the images that could not be read."""

    accuracy: Accuracy
    assumed: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share of ``hits`` in ``n``, in percent.

    >>> [round(end, 1) for end in wilson(442, 500)]
    [85.3, 90.9]
    """
    share, z2 = hits / n, Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At 0 and n hits the end is exactly 0 or 100; rounding errors must not carry it beyond the share itself.
    return 100 * max(0.0, min(middle - half, share)), 100 * min(1.0, max(middle + half, share))


def rank(scores: npt.NDArray[Any], label: int) -> int:
    """Return how many classes of ``scores`` [K] come before ``label``: 0 is top-1.

    Among equal scores the lower index comes first, as for `numpy.argmax` and the usual code on a device. Quantized
    probabilities have such ties: 1/256 apart, most classes share the lowest.
    """
    own = scores[label]
    return int(np.count_nonzero(scores > own) + np.count_nonzero(scores[:label] == own))


def evaluate(
    artifact: Artifact,
    images: LabelledImages,
    *,
    runtime: str,
    open_session: Callable[[Artifact, Target], Session],
    data: str,
    device: str = "desktop-cpu",
    provider: str = "",
    threads: int = 1,
    jobs: int = 1,
    options: classifier.Options | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run a classifier on labelled images and count its hits.

    Args:
        artifact: the model file.
        images: (path, class index) of each image, as `mobench.data.labelled_images` gives them.
        runtime: "ort" or "litert".
        open_session: opens a session of the file; called up to ``jobs`` times.
        data: the data set's name for the record; a digest of the images that were read is appended to it.
        device: where it runs, as `mobench run --device` names it.
        provider: execution provider or delegate; empty means the runtime's own choice there.
        threads: threads of each session.
        jobs: sessions at work at the same time, each fed by a thread of its own that decodes its images.
        options: what the user knows of the file; see `mobench.classifier.Options`.
        progress: called with the number of images done since its last call, from several threads.

    Raises:
        BadInputError: the file is no classifier of these labels, or no image can be read.
        SessionError: the model failed, died, or gave NaN. An accuracy on a part of the images is never returned.
    """
    options = options or classifier.Options()
    work = _Work(images)
    counts = [_Count() for _ in range(max(1, min(jobs, math.ceil(len(images) / _CHUNK))))]

    def serve(count: _Count) -> None:
        target = Target(device=device, runtime=runtime, provider=provider, threads=threads)
        with closing(open_session(artifact, target)) as session:
            reader = classifier.reader(artifact, session.ready, options)
            for chunk in work.chunks():
                _measure(artifact, session, reader, chunk, count)
                if progress:
                    progress(len(chunk))

    with ThreadPoolExecutor(len(counts)) as pool:
        try:
            futures = [pool.submit(serve, count) for count in counts]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            work.stop()
    evaluation = _sum_up(artifact, runtime, data, images, counts)
    ran_in = provider or DEVICES[device][runtime][0]
    return replace(evaluation, accuracy=replace(evaluation.accuracy, device=device, provider=ran_in))


class _Work:
    """Chunks of the images, handed to whichever thread asks next, until none is left or one failed."""

    def __init__(self, images: LabelledImages) -> None:
        self._chunks = iter([images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)])
        self._lock = threading.Lock()
        self._stopped = False

    def chunks(self) -> Iterator[LabelledImages]:
        while True:
            with self._lock:
                chunk = None if self._stopped else next(self._chunks, None)
            if chunk is None:
                return
            yield chunk

    def stop(self) -> None:
        self._stopped = True


class _Count:
    """What one thread found."""

    def __init__(self) -> None:
        self.top1 = self.top5 = self.n = 0
        self.unreadable: dict[Path, str] = {}
        self.reader: classifier.Reader | None = None


def _measure(
    artifact: Artifact, session: Session, reader: classifier.Reader, chunk: LabelledImages, count: _Count
) -> None:
    count.reader = reader
    samples, labelled = [], []
    for path, label in chunk:
        try:
            image = open_image(path)
        except BadInputError as error:
            count.unreadable[path] = str(error)
        else:
            samples.append(reader.sample(image))
            labelled.append((path, reader.output_index(label)))
    if not samples:
        return
    # The first inference was timed when the session began: a net of seconds an image needs more than a minute.
    deadline_s = 60.0 + len(samples) * 20 * session.ready.first_ns / 1e9
    outputs = session.predict(np.stack(samples), deadline_s=deadline_s)
    for output, (path, label) in zip(outputs, labelled, strict=True):
        scores = output.reshape(-1)[reader.first_class :]
        if scores.dtype.kind == "f" and not np.all(scores < np.inf):  # false for NaN too; -inf is log(0), a fair score
            raise SessionError(
                f"{artifact.path.name} gives NaN or infinity for {path.name}",
                "its accuracy means nothing",
                "check --mean, --std and --raw-pixels, or export it in FP32",
            )
        place = rank(scores, label - reader.first_class)
        count.top1 += place < 1
        count.top5 += place < 5
        count.n += 1


def _sum_up(
    artifact: Artifact, runtime: str, data: str, images: LabelledImages, counts: Sequence[_Count]
) -> Evaluation:
    n, top1, top5 = (sum(getattr(count, field) for count in counts) for field in ("n", "top1", "top5"))
    unreadable = {path: text for count in counts for path, text in count.unreadable.items()}
    reader = next((count.reader for count in counts if count.reader), None)
    if n == 0 or reader is None:
        why = f"none of its {len(images)} images can be read" if images else "no image is left to evaluate on"
        raise BadInputError(f"images {data}", why)
    accuracy = Accuracy(
        sha256=artifact.sha256,
        name=artifact.name,
        precision=artifact.precision,
        runtime=runtime,
        data=f"{data}#{image_set_id([pair for pair in images if pair[0] not in unreadable])}",
        n=n,
        top1=100 * top1 / n,
        top1_ci=wilson(top1, n),
        top5=100 * top5 / n,
        top5_ci=wilson(top5, n),
        assumed=tuple(reader.assumed),
    )
    doubts = []
    if accuracy.top5_ci[0] <= 500 / reader.classes:
        doubts.append(
            f"no better than guessing among {reader.classes} classes: "
            "untrained weights, or --mean, --std, --raw-pixels, --bgr or --classes-offset is wrong"
        )
    return Evaluation(
        accuracy=accuracy,
        assumed=reader.assumed,
        doubts=tuple(doubts),
        unreadable=tuple(unreadable[path] for path, _ in images if path in unreadable),
    )


def image_set_id(images: LabelledImages) -> str:
    """Return 8 hexadecimal digits that name a set of labelled images: two accuracies with one id are comparable."""
    lines = sorted(f"{path.parent.name}/{path.name}\t{label}\n" for path, label in images)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:8]


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
