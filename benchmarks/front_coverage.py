"""How far `mobench pareto`'s P(front) can be believed: simulated campaigns and evaluations whose truth is known.

A truth: networks in two precisions, their latencies even over a logarithm, their accuracies about a rising curve
(normal, or in two families above and below it); INT8 loses 0.8 points, give or take so many. Of it a campaign is
simulated (every start of the processes slows all cells alike, and each a little on its own) and an evaluation on one
set of images, on which what is hard for one network is hard for the others. The simulation knows nothing of the
correlations and scatters that the program assumes. Then: of the points said to be on the front with about the
probability p, how many are; how often the interval of the hypervolume holds the true one.

    python benchmarks/front_coverage.py [--fronts 1000] [--seed 0]
    python benchmarks/front_coverage.py --hits FILES... --data DIR      # correlation of files' hits on the same images
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from mobench import accuracy, artifacts, classifier, data
from mobench.front_probability import outlook
from mobench.pareto import Point, front
from mobench.records import RUNTIME_FORMATS, Target
from mobench.stats import log_interval
from runners import desktop

SHARED_SPREAD = 0.03  # of a start's latency, as a logarithm: what hits all cells
INT8_LOSS = 0.8  # points of top-1, in the mean
BINS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
ENOUGH = 400  # points of a bin whose gap counts for the largest: a share of 0.5 is then known to 2.5 points


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One row of the table: n images (0: accuracies are known exactly), starts of each process, number of networks.

    ``spread`` is the standard deviation of true top-1 about the curve, in points, ``loss`` that of what INT8 costs a
    network, and ``noise`` that of the logarithm of a cell's latency from start to start; ``uneven`` is that of the
    logarithm of the cells' noises.
    """

    n: int
    starts: int = 8
    networks: int = 12
    spread: float = 2.0
    loss: float = 1.2
    noise: float = 0.015
    uneven: float = 0.0
    families: bool = False


SCENES = (
    Scene(n=0, starts=5, networks=40, noise=0.05),
    Scene(n=0, starts=12, networks=40, noise=0.05),
    Scene(n=0, starts=5, networks=40, noise=0.05, uneven=0.7),
    Scene(n=500),
    Scene(n=500, starts=5, spread=4.0, noise=0.05),
    Scene(n=500, networks=30, spread=3.0),
    Scene(n=500, spread=3.0, families=True),
    Scene(n=500, networks=4, spread=3.0),
    Scene(n=500, spread=3.0, loss=0.2),
    Scene(n=5_000),
    Scene(n=50_000, networks=30),
)


def truth(rng: np.random.Generator, scene: Scene) -> list[Point]:
    """Return points as they are."""
    points = []
    for number in range(scene.networks):
        place = rng.uniform()
        latency = 2 * 15**place
        away = rng.choice((-1.0, 1.0)) + rng.normal(0, 0.2) if scene.families else rng.normal()
        top1 = 60 + 16 * place**0.7 + scene.spread * away
        for precision, share, loss in (
            ("fp32", 1.0, 0.0),
            ("int8", rng.uniform(0.5, 0.7), rng.normal(INT8_LOSS, scene.loss)),
        ):
            points.append(
                Point(
                    label=f"net{number}",
                    name=f"net{number}",
                    precision=precision,
                    runtime="litert",
                    latency_ms=latency * share,
                    latency_ci_ms=None,
                    accuracy=min(99.0, top1 - loss),
                    accuracy_kind="measured" if scene.n else "published",
                    accuracy_set="images",
                    artifact=f"net{number}-{precision}",
                    campaign="simulated",
                )
            )
    return points


def measured(rng: np.random.Generator, points: Sequence[Point], scene: Scene) -> list[Point]:
    """Return the points as a campaign and an evaluation find them."""
    shared = rng.normal(0, SHARED_SPREAD, scene.starts)
    hits = _hits(rng, points, scene.n)
    noises = scene.noise * np.exp(rng.normal(0, scene.uneven, len(points)))
    found = []
    for point, count, noise in zip(points, hits, noises, strict=True):
        figures = point.latency_ms * np.exp(shared + rng.normal(0, noise, scene.starts))
        p50, ci = log_interval(figures.tolist(), [])
        seen = replace(point, latency_ms=p50, latency_ci_ms=ci, starts_ms=tuple(enumerate(figures.tolist())))
        if scene.n:
            seen = replace(seen, accuracy=100 * count / scene.n, accuracy_ci=accuracy.wilson(count, scene.n))
        found.append(seen)
    return found


def _hits(rng: np.random.Generator, points: Sequence[Point], n: int) -> list[int]:
    """Count hits on n images: an image's ease, a network's taste for it, and the precision's, each normal."""
    from scipy.special import ndtri

    ease = rng.normal(size=n)
    taste = {point.label: rng.normal(size=n) for point in points}
    counts = []
    for point in points:
        merit = math.sqrt(0.65) * ease + math.sqrt(0.33) * taste[point.label] + math.sqrt(0.02) * rng.normal(size=n)
        counts.append(int(np.count_nonzero(merit < ndtri((point.accuracy or 0.0) / 100))))
    return counts


def simulate(scene: Scene, fronts: int, seed: int) -> str:
    """Return one row of the table."""
    rng = np.random.default_rng(seed)
    said: list[float] = []
    true: list[bool] = []
    held = 0
    reference = 25.0, 55.0
    for _ in range(fronts):
        points = truth(rng, scene)
        chances = outlook(measured(rng, points, scene), reference=reference, draws=1000)
        said += [chance or 0.0 for chance in chances.on_front]
        true += [bool(standing.on_front) for standing in front(points)]
        (figures,) = chances.fronts.values()
        (real,) = outlook(points, reference=reference, draws=1).fronts.values()
        low, high = figures.hypervolume_ci or (0.0, 0.0)
        held += low <= (real.hypervolume or 0.0) <= high
    p, is_on = np.array(said), np.array(true)
    cells, gaps, counts = [], [], []
    for low, high in pairwise(BINS):
        inside = (p >= low) & ((p < high) | (high == 1.0))
        mean, share = float(np.mean(p[inside])), float(np.mean(is_on[inside]))
        gaps.append(100 * abs(share - mean))
        counts.append(int(np.count_nonzero(inside)))
        cells.append(f"{100 * mean:.1f}: {100 * share:.1f}")
    n = f"{scene.n:,}" if scene.n else "exact"
    kind = "families" if scene.families else "normal"
    uneven = ", uneven" if scene.uneven else ""
    noise = f"{100 * scene.noise:g}{uneven}"
    name = f"{n} | {scene.starts} | {scene.networks} | {kind} {scene.spread:g} | {scene.loss:g} | {noise}"
    average = np.average(gaps, weights=counts)
    largest = max(gap for gap, count in zip(gaps, counts, strict=True) if count >= ENOUGH)
    return f"| {name} | {' | '.join(cells)} | {average:.1f} | {largest:.1f} | {100 * held / fronts:.1f} |"


def correlations(files: Sequence[Path], folder: Path) -> list[str]:
    """Return a line for each pair of files: the correlation of their hits on the same images."""
    images = data.labelled_images(folder)
    hits: dict[str, list[bool]] = {}
    for path in files:
        artifact = artifacts.read(path)
        runtime = next(name for name, form in RUNTIME_FORMATS.items() if form == artifact.format)
        session = desktop.open_session(artifact, Target(runtime=runtime))
        try:
            reader = classifier.reader(artifact, session.ready, classifier.Options())
            hits[path.name] = []
            for photograph, label in images:
                scores = session.predict(reader.sample(data.open_image(photograph))[None]).reshape(-1)
                hits[path.name].append(int(np.argmax(scores[reader.first_class :])) == label)
        finally:
            session.close()
    return [
        f"{one} {other}: {float(np.corrcoef(hits[one], hits[other])[0, 1]):.2f}" for one, other in combinations(hits, 2)
    ]


def main() -> None:
    """Print a row a scene: of the points in each bin of P(front), its mean and the share that is on the front."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fronts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", type=int, action="append", help="only these rows, from 0")
    parser.add_argument("--hits", type=Path, nargs="+", default=[])
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    if arguments.hits:
        print("\n".join(correlations(arguments.hits, arguments.data)))
        return
    titles = [f"{100 * low:g} to {100 * high:g} %" for low, high in pairwise(BINS)]
    about = "images | starts | networks | scatter | of INT8's loss | noise %"
    print(f"| {about} | {' | '.join(titles)} | mean gap | largest | hypervolume held % |")
    print("|---" * (len(titles) + 9) + "|")
    for number in arguments.scene or range(len(SCENES)):
        scene = SCENES[number]
        fronts = arguments.fronts * (3 if scene.n in (0, 50_000) else 1)  # there few points are in doubt
        print(simulate(scene, fronts, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
