"""Draws of what latencies and accuracies may truly be, given what was measured. Pure functions, seeded.

A draw is one way in which the truth may be. Both models are hierarchical: what is drawn with every figure's own error
are also the spreads that are only known from all figures together, so that few cells or few networks say less.

Latency: a start of the processes slows all cells of a campaign alike, and each a little on its own. The first is a
Student t over starts that all cells share, so it cancels in every comparison within the campaign. The second is
independent from cell to cell, with a variance that is the cell's own for a part and for a part that of all (moderated:
Smyth, 2004); of two cells only the sum can be known, and their ratio is drawn as the paired t over starts has it.
Without starts a latency is log-normal with the given interval. Campaigns are independent of each other.

Accuracy: a published one is exact. A measured one is normal on the arcsine scale, where the binomial's variance is
1 / 4n everywhere. What shares a file and a runtime shares the draw; errors on the same images are correlated by
SAME_NETWORK or SAME_IMAGES. The truths scatter about a line over the logarithm of latency, a network's precisions
together by NETWORK_SCATTER or so, and each on its own about what its precision costs on average by FILE_SCATTER or so.
Both scatters are drawn too, from what the accuracies say of them and uniform shrinkage priors, which are flat in the
variance where it is small (Daniels, 1999): with priors that are flat in the scatter itself networks come out too much
alike, and intervals hold too seldom (Morris and Tang, 2011). For the best of many measured accuracies is in part the
luckiest: drawn plainly, noise would be added to noise, and points of the front be called doubtful too often.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobench.pareto import Point
from mobench.stats import Interval

Matrix = npt.NDArray[np.float64]

SEED = 0
DRAWS = 4000  # a probability of 0.5 is then known to 0.8 points (one standard error)
# Correlation of two files' hits on the same images, at the lower end of what benchmarks/README.md found: what a file
# gets right is for a part the image's merit. Too low a figure makes probabilities too cautious, not too bold.
SAME_IMAGES = 0.4  # of other networks
SAME_NETWORK = 0.9  # of one network in another precision or runtime
# Medians of the priors of the truths' scatter, on the arcsine scale, where 0.011 is one point at 70 %: the published
# networks of the zoo scatter by 0.05 about a line over the logarithm of their MACs; what a precision costs, by a point.
NETWORK_SCATTER = 0.05
FILE_SCATTER = 0.01
_STEPS = (5e-4, 0.5, 24)  # the scatters' grid: least, most and how many
_VAGUE = 0.5  # prior standard deviation of the line's coefficients: as good as none
# Degrees of freedom that the cells' common variance may be worth beside each cell's own; the last: all are the same.
_ALIKE = 1e6
_TRUST = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, _ALIKE)
_SCALES = 100  # nodes of the common variance
_LEAST = 1e-24  # variance of a logarithm that stands for none
_ROUNDS = 5  # of fitting starts and variances in turn
_Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Latency (ms) and accuracy (percent) of N points in D draws, both [D, N]."""

    latency_ms: Matrix
    accuracy: Matrix


def draw(points: Sequence[Point], *, draws: int = DRAWS, seed: int = SEED) -> Draws:
    """Draw latencies and accuracies of one contest's points. Each source of error has its own stream of numbers.

    So the order of the points changes nothing, and another point only what it says of the others' spreads.
    """
    streams = _Streams(draws, seed)
    order = sorted(range(len(points)), key=lambda i: repr(points[i]))  # nor does the order in which floats are added
    ordered = [points[i] for i in order]
    back = np.argsort(order, kind="stable") if order else np.zeros(0, dtype=np.intp)
    latency, accuracy = np.exp(_log_latencies(ordered, streams)), _accuracies(ordered, streams)
    return Draws(latency_ms=latency[back].T, accuracy=accuracy[back].T)


class _Streams:
    """Random numbers by the name of what they are of; the same name gives the same ones."""

    def __init__(self, draws: int, seed: int) -> None:
        self.draws, self.seed = draws, seed
        self._known: dict[tuple[object, ...], Matrix] = {}

    def normal(self, *name: object) -> Matrix:
        if name not in self._known:
            self._known[name] = self._source(name).standard_normal(self.draws)
        return self._known[name]

    def scale(self, freedom: int, *name: object) -> Matrix:
        """What a normal deviate is divided by to become Student's t."""
        named = ("scale", freedom, *name)
        if named not in self._known:
            self._known[named] = np.sqrt(self._source(named).chisquare(freedom, self.draws) / freedom)
        return self._known[named]

    def chi_squared(self, freedom: Matrix, *name: object) -> Matrix:
        """One number a draw, each with its own degrees of freedom, [D]."""
        return self._source(("chi squared", *name)).chisquare(freedom)

    def node(self, chances: Matrix, *name: object) -> npt.NDArray[np.intp]:
        """A node a draw, [D], with these chances."""
        places = np.searchsorted(np.cumsum(chances), self._source(("node", *name)).random(self.draws))
        return np.minimum(places, len(chances) - 1)

    def _source(self, name: tuple[object, ...]) -> np.random.Generator:
        digest = hashlib.sha256(repr((self.seed, name)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _log_latencies(points: Sequence[Point], streams: _Streams) -> Matrix:
    """Return the logarithms of the latencies, [N, D]."""
    drawn = np.log([point.latency_ms for point in points]).reshape(-1, 1) + np.zeros(streams.draws)
    campaigns: dict[tuple[str, str], list[int]] = {}
    for i, point in enumerate(points):
        where = (point.machine, point.campaign)
        if len(point.starts_ms) > 2:
            campaigns.setdefault(where, []).append(i)
        elif point.latency_ci_ms is not None:
            low, high = point.latency_ci_ms
            half = math.log(high / low) / 2 if low > 0 else math.log(high / point.latency_ms)
            drawn[i] += half / _Z95 * streams.normal("cell", *where, point.full_label, point.artifact)
    for where, places in campaigns.items():
        drawn[places] += _away([points[i] for i in places], where, streams)
    return drawn


def _away(cells: Sequence[Point], where: tuple[str, str], streams: _Streams) -> Matrix:
    """Return by how much cells of one campaign may be off what was measured, as logarithms, [cells, D]."""
    starts = sorted({start for cell in cells for start, _ in cell.starts_ms})
    logs = np.full((len(cells), len(starts)), np.nan)
    for row, cell in zip(logs, cells, strict=True):
        for start, ms in cell.starts_ms:
            row[starts.index(start)] = math.log(ms)
    there = ~np.isnan(logs)
    counts = there.sum(axis=1)
    fit = _fit(logs)
    mean = np.sum(fit.starts * there, axis=1) / counts
    shares = np.where(there, fit.starts - mean[:, None], 0.0) / np.sqrt(counts * (counts - 1))[:, None]
    deviates = np.array([streams.normal("start", *where, start) for start in starts])
    scales = np.array([streams.scale(int(count) - 1, *where) for count in counts])
    away = np.asarray(shares @ deviates / scales)
    if len(cells) == 1:
        return away  # all that differs from start to start is in the starts
    node = streams.node(fit.chances, "spread", *where)
    trust, common = fit.trust[node], fit.common[node]
    for row, cell, count, variance, freedom in zip(away, cells, counts, fit.variance, fit.freedom, strict=True):
        name = (*where, cell.full_label, cell.artifact, cell.starts_ms)
        spread = (trust * common + freedom * variance) / streams.chi_squared(trust + freedom, "own", *name)
        row += np.sqrt(spread / count) * streams.normal("own", *name)
    return away


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """Latencies over starts taken apart: what every start did to all cells, and each cell's own variance.

    ``starts`` [K] is a logarithm without the part that is the cells' own error; ``variance`` and ``freedom`` are the
    cells', [M]. Of their variances' common distribution, a scaled inverse chi squared, ``trust`` (its degrees of
    freedom), ``common`` (its scale) and how likely both are, ``chances``, are the nodes of a grid.
    """

    starts: Matrix
    variance: Matrix
    freedom: Matrix
    trust: Matrix
    common: Matrix
    chances: Matrix


def _fit(logs: Matrix) -> _Fit:
    """Fit starts and variances in turn to logarithms [M, K], NaN where a cell missed a start.

    A start's effect is the mean over the cells weighted by their precision, lest a noisy cell make all others noisy.
    """
    there = ~np.isnan(logs)
    values = np.where(there, logs, 0.0)
    counts = there.sum(axis=1)
    nothing = np.zeros(0)
    if len(logs) == 1:
        alone = values[0] - values[0].mean()
        return _Fit(starts=alone, variance=nothing, freedom=nothing, trust=nothing, common=nothing, chances=nothing)
    weights, starts = np.ones(len(logs)), np.zeros(logs.shape[1])
    for _ in range(_ROUNDS):
        means = np.sum((values - starts) * there, axis=1) / counts
        weighed = weights[:, None] * there
        starts = np.sum(weighed * (values - means[:, None]), axis=0) / np.sum(weighed, axis=0)
        rest = np.where(there, values - means[:, None] - starts, 0.0)
        # The starts have taken a cell's weight of its own deviations with them, but never quite all.
        freedom = (counts - 1) * np.maximum(1 - weights / np.sum(weights), 0.01)
        variance = np.maximum(np.sum(rest**2, axis=1) / freedom, _LEAST)
        trust, common, chances = _common_variance(variance, freedom)
        precision = (trust + freedom[:, None]) / (trust * common + (freedom * variance)[:, None])
        weights = precision @ chances
    scatter = float(np.sum((starts - starts.mean()) ** 2)) / (len(starts) - 1)
    shared = max(0.0, 1 - 1 / float(np.sum(weights)) / scatter) if scatter else 0.0
    return _Fit(
        starts=starts * math.sqrt(shared),
        variance=variance,
        freedom=freedom,
        trust=trust,
        common=common,
        chances=chances,
    )


def _common_variance(variance: Matrix, freedom: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return the nodes of the distribution that the cells' variances come from, and how likely each is.

    A variance over its scale is then F-distributed (Smyth, 2004). A priori the scale's logarithm is flat.
    """
    from scipy.special import gammaln  # here, as in mobench.stats: most users of this package need none

    most = float(np.max(variance))
    scales = np.geomspace(max(float(np.min(variance)) / 100, most * 1e-8), most * 1000, _SCALES)
    kinds = _TRUST if len(variance) > 2 else (_ALIKE,)
    trust, common = (axis.ravel() for axis in np.meshgrid(kinds, scales, indexing="ij"))
    ours, theirs = freedom[:, None] / 2, trust / 2
    likely = gammaln(ours + theirs) - gammaln(theirs) - ours * np.log(trust * common)
    likely -= (ours + theirs) * np.log1p((freedom * variance)[:, None] / (trust * common))
    total = np.sum(likely, axis=0)
    chances = np.exp(total - np.max(total))
    return trust, common, np.asarray(chances / np.sum(chances))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _File:
    """What was evaluated: points that time the same file in one runtime share it."""

    network: str
    precision: str
    file: str
    runtime: str
    source: str
    accuracy: float
    images: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What was evaluated on one set of images: F files of G networks, in order, those of a network side by side.

    ``angles`` [F] are the accuracies on the arcsine scale, ``variance`` that of one by its number of images; ``design``
    [F, P] has a column for the level, the logarithm of the network's latency and every precision but the first.
    ``first`` [G] is the place of each network's first file, ``sizes`` [G] how many it has.
    """

    files: Sequence[_File]
    networks: Sequence[str]
    angles: Matrix
    variance: float
    design: Matrix
    first: npt.NDArray[np.intp]
    sizes: npt.NDArray[np.intp]

    def by_network(self, values: Matrix) -> Matrix:
        """Return the sums over each network's files, [..., G] of [..., F]."""
        return np.asarray(np.add.reduceat(values, self.first, axis=-1))

    def by_file(self, values: Matrix) -> Matrix:
        """Return each network's value for each of its files, [..., F] of [..., G]."""
        return np.asarray(np.repeat(values, self.sizes, axis=-1))


def _accuracies(points: Sequence[Point], streams: _Streams) -> Matrix:
    """Return the accuracies in percent, [N, D]."""
    drawn = np.array([point.accuracy or 0.0 for point in points]).reshape(-1, 1) + np.zeros(streams.draws)
    places: dict[_File, list[int]] = {}
    for i, point in enumerate(points):
        ci = point.accuracy_ci
        if point.accuracy is None or ci is None or ci[0] >= ci[1]:
            continue
        file = _File(
            network=point.label,
            precision=point.precision or "",
            file=point.artifact or point.full_label,
            runtime=point.runtime,
            source=point.accuracy_source,
            accuracy=point.accuracy,
            images=trials(point.accuracy, ci),
        )
        places.setdefault(file, []).append(i)
    if not places:
        return drawn
    files = _files({file: [math.log(points[i].latency_ms) for i in own] for file, own in places.items()})
    images = points[places[files.files[0]][0]].accuracy_set
    for file, angles in zip(files.files, _angles(files, images, streams).T, strict=True):
        drawn[places[file]] = 100 * np.sin(np.clip(angles, 0.0, math.pi / 2)) ** 2
    return drawn


def _files(log_latencies: Mapping[_File, Sequence[float]]) -> _Files:
    files = sorted(log_latencies)
    speeds: dict[str, list[float]] = {}
    for file in files:
        speeds.setdefault(file.network, []).extend(log_latencies[file])
    speed = {network: math.fsum(own) / len(own) for network, own in speeds.items()}
    middle = math.fsum(speed.values()) / len(speed)
    others = sorted({file.precision for file in files})[1:]
    images = np.array([file.images for file in files])
    hits = np.array([file.accuracy for file in files]) / 100 * images
    sizes = np.array([sum(file.network == network for file in files) for network in speeds], dtype=np.intp)
    return _Files(
        files=files,
        networks=list(speeds),
        angles=np.arcsin(np.sqrt((hits + 3 / 8) / (images + 3 / 4))),  # Anscombe, 1948
        variance=float(np.mean(1 / (4 * images + 2))),
        design=np.array([[1.0, speed[f.network] - middle, *(float(f.precision == o) for o in others)] for f in files]),
        first=np.cumsum(sizes) - sizes,
        sizes=sizes,
    )


def trials(accuracy: float, ci: Interval) -> float:
    """Return the number of images behind an accuracy, from its 95 % Wilson interval (both in percent).

    Each end P of the interval solves (share - P)^2 = z^2 P (1 - P) / n.

    >>> from mobench.accuracy import wilson
    >>> round(trials(88.4, wilson(442, 500)), 6)
    500.0
    """
    share = accuracy / 100
    end = max(ci, key=lambda bound: abs(bound - accuracy)) / 100
    return _Z95**2 * end * (1 - end) / (share - end) ** 2


def _angles(files: _Files, images: str, streams: _Streams) -> Matrix:
    """Draw the true accuracies on the arcsine scale, [D, F]: the scatters, then the line, then networks and files.

    A network's angles are X c + u + w, its measured ones with errors of their own; u is the network's, w the file's.
    Both covariances within a network are a J + b I (J of ones), so its mean and what is left within it are drawn apart.
    """
    steps = np.geomspace(*_STEPS)
    between, within = (axis.ravel() ** 2 for axis in np.meshgrid(steps, steps, indexing="ij"))
    prior = between * within / ((1 + between / NETWORK_SCATTER**2) * (1 + within / FILE_SCATTER**2)) ** 2
    network_error, file_error = (SAME_NETWORK - SAME_IMAGES) * files.variance, (1 - SAME_NETWORK) * files.variance
    likelihood, lines, factors = _lines(files, between + network_error, within + file_error)
    chances = prior * likelihood
    node = streams.node(chances / np.sum(chances), "scatter", images)
    between, within = between[node][:, None], within[node][:, None]
    deviates = np.array([streams.normal("line", images, i) for i in range(files.design.shape[1])]).T
    coefficients = lines[node] + (factors[node] @ deviates[:, :, None])[:, :, 0]
    expected = coefficients @ files.design.T
    away = files.angles - expected
    mean = files.by_network(away) / files.sizes
    own = np.array([streams.normal("file", images, file) for file in files.files]).T
    own_mean = files.by_network(own) / files.sizes
    theirs = np.array([streams.normal("network", images, network) for network in files.networks]).T
    # Of a network's mean, and of what is within it: the truth's variance, and the measured one's.
    true, seen = files.sizes * between + within, files.sizes * (between + network_error) + within + file_error
    mean_drawn = true / seen * mean + np.sqrt(true / seen * (seen - true) / files.sizes) * theirs
    kept = within / (within + file_error)
    left = np.sqrt(kept * file_error) * (own - files.by_file(own_mean)) + kept * (away - files.by_file(mean))
    shared = math.sqrt(SAME_IMAGES * files.variance) * streams.normal("images", images)
    return np.asarray(expected + files.by_file(mean_drawn) + left + shared[:, None])


def _lines(files: _Files, between: Matrix, within: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return, of each node, how likely it is, the line's coefficients, and a factor of their covariance.

    ``between`` and ``within`` [nodes] are the variances of the measured angles about the line: those of what a
    network's files share, and of each file. The line is integrated out (restricted likelihood).
    """
    level = float(np.mean(files.angles))
    design, angles = files.design, files.angles - level
    sums, totals = files.by_network(design.T), files.by_network(angles)
    # The inverse of a J + b I over k files is (I - a / (b + k a) J) / b.
    inner = within[:, None] + between[:, None] * files.sizes
    taken = between[:, None] / (within[:, None] * inner)
    width = design.shape[1]
    precision = (design.T @ design) / within[:, None, None] - np.einsum("tg,pg,qg->tpq", taken, sums, sums)
    precision += np.eye(width) / _VAGUE**2
    right = (design.T @ angles) / within[:, None] - np.einsum("tg,pg,g->tp", taken, sums, totals)
    lines = np.linalg.solve(precision, right[:, :, None])[:, :, 0]
    squares = float(angles @ angles) / within - taken @ totals**2
    likely = (len(angles) - len(totals)) * np.log(within) + np.sum(np.log(inner), axis=1)
    likely += np.linalg.slogdet(precision)[1] + squares - np.sum(right * lines, axis=1)
    chances = np.exp(-(likely - np.min(likely)) / 2)
    factors = np.linalg.cholesky(np.linalg.inv(precision))
    lines[:, 0] += level
    return chances, lines, factors
