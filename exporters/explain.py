"""Where INT8 loses: the damage of each layer by itself, the stages from torch to the runtime, what to keep in float.

All of it is simulated (`exporters.simulate`) but the logits of files, which come from their runtimes.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exporters.ranges import JUDGED
from exporters.verify import SNR_LIMIT_DB, compare

if TYPE_CHECKING:
    from torch import Tensor, nn

    from exporters.simulate import Trace

Logits = npt.NDArray[np.float32]

# Numbers of layers for which it is tried what keeping the worst of them in float would gain.
TRIED = (1, 2, 4, 8)
# What is gained must be worth two conversions and a float kernel in the middle of an INT8 graph.
WORTH_DB = 1.0
# Values rounded over all layers and images: about a quarter of a minute on two cores. A fixed amount of work instead of
# a time, so that the same request always ranks the same way.
_WORK = 6e9
_FEWEST, _MOST = 2, 8  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What quantization does at one layer, in dB of signal-to-noise.

    ``own_snr_db`` is of the layer's result (a ReLU fused into it included) where the whole network is quantized;
    ``alone_snr_db`` of the logits where only this layer is: its weights and all results that belong to it.
    ``share`` is its part, in percent, of the noise that all layers make in the logits, each alone.
    """

    layer: str
    kind: str
    own_snr_db: float
    alone_snr_db: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a worker found out of one network: ``layers`` worst first, from ``n`` images.

    ``simulated`` are the logits of the images that files are verified on, quantized as the file is. ``kept_float``
    has for each number of worst layers left in float (0: none) the logits it would give.
    """

    n: int
    layers: tuple[Damage, ...]
    simulated: Logits
    kept_float: dict[int, Logits]

    def report(self, reference: Logits, fp32: Logits, int8: Logits, runtime: str) -> dict[str, Any]:
        """Return what the manifest says, JSON-able; the arguments are torch's logits and those of the two files."""
        stages = {
            f"FP32 file in {runtime}": fp32,
            "INT8 simulated in torch": self.simulated,
            f"INT8 file in {runtime}": int8,
        }
        return {
            "n": self.n,
            "layers": [
                {key: round(value, 2) if isinstance(value, float) else value for key, value in asdict(layer).items()}
                for layer in self.layers
            ],
            "stages": [
                {"stage": "torch FP32", "snr_db": None, "top1_agreement": 100.0},
                *({"stage": name, **_figures(reference, logits)} for name, logits in stages.items()),
            ],
            "keep_float": [{"layers": n, **_figures(reference, logits)} for n, logits in self.kept_float.items()],
            "verdict": self.verdict(reference),
        }

    def verdict(self, reference: Logits) -> str:
        """Say whether keeping layers in float pays, from the simulation, and how many."""
        snr = {n: compare(reference, logits).snr_db for n, logits in self.kept_float.items()}
        gains = {n: value - snr[0] for n, value in snr.items() if n}
        worth = next((n for n, gain in gains.items() if gain >= WORTH_DB), None)
        if worth is None:
            most, gain = max(gains.items(), key=lambda pair: pair[1])
            return f"keeping layers in float does not pay: the worst {most} would gain {gain:.1f} dB (simulated)"
        return f"--keep-float {worth} would gain {gains[worth]:.1f} dB (simulated); time what it costs"


def _figures(reference: Logits, logits: Logits) -> dict[str, Any]:
    found = compare(reference, logits)
    return {"snr_db": round(found.snr_db, 2), "top1_agreement": round(found.top1_agreement, 2)}


class Simulated:
    """A network in INT8 as simulated: computed once for all that is asked of it."""

    def __init__(self, module: nn.Module, images: npt.NDArray[np.float32]) -> None:
        """Trace ``module`` (batch norm folded, eval mode) on the calibration images [N, S, S, 3].

        Raises:
            TypeError: it returns no tensor.
            ValueError: it has no layer that could be quantized.
        """
        from exporters import simulate

        self._module = module
        self._trace = simulate.trace(module, images)
        judged = images[:JUDGED]
        exact = simulate.logits(module, judged, self._trace, layers=(), results=())

        def snr(trace: Trace) -> float:
            return compare(exact, self._quantized(trace, judged)).snr_db

        # The quantizers choose likewise between ranges of least error and whole ones.
        self._trace = max(self._trace, self._trace.widest(), key=snr)
        values = sum(int(np.prod(operator.shape)) for operator in self._trace.operators.values())
        affordable = int(_WORK / (values * len(self._trace.layers)))
        self._some = images[: min(max(affordable, _FEWEST), _MOST)]

    def worst(self, n: int) -> tuple[str, ...]:
        """Return the paths of the ``n`` layers that do most damage."""
        return tuple(damage.layer for damage in self.damages[:n]) if n else ()

    def logits(self, images: npt.NDArray[np.float32], kept: Collection[str]) -> Logits:
        """Return the logits of the quantized network, the layers ``kept`` in float."""
        return self._quantized(self._trace, images, kept)

    def _quantized(self, trace: Trace, images: npt.NDArray[np.float32], kept: Collection[str] = ()) -> Logits:
        from exporters import simulate

        layers = [name for name in trace.layers if name not in kept]
        return simulate.logits(self._module, images, trace, layers=layers, results=trace.without(kept))

    def study(self, images: npt.NDArray[np.float32], kept: tuple[str, ...]) -> Study:
        """Return all there is to tell; ``images`` are those that files are verified on."""
        tried = (0, *(n for n in TRIED if n <= len(self.damages)))
        return Study(
            n=len(self._some),
            layers=self.damages,
            simulated=self.logits(images, kept),
            kept_float={n: self.logits(images, self.worst(n)) for n in tried},
        )

    @functools.cached_property
    def damages(self) -> tuple[Damage, ...]:
        """The damage of each layer, worst first."""
        from exporters import simulate

        trace, images = self._trace, self._some
        exact = simulate.logits(self._module, images, trace, layers=(), results=())
        own = own_snr(self._module, trace, images)
        alone = {}
        for name in trace.layers:
            got = simulate.logits(self._module, images, trace, layers=(name,), results=trace.alone(name))
            alone[name] = compare(exact, got).snr_db
        noise = {name: 10 ** (-snr / 10) for name, snr in alone.items()}
        kinds = layer_kinds(trace)
        found = [
            Damage(
                layer=name,
                kind=kinds[name],
                own_snr_db=own[name],
                alone_snr_db=alone[name],
                share=100 * noise[name] / sum(noise.values()),
            )
            for name in trace.layers
        ]
        return tuple(sorted(found, key=lambda damage: damage.alone_snr_db))


def own_snr(module: nn.Module, trace: Trace, images: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return the signal-to-noise ratio in dB of each layer's result in the quantized network, within verify's limit."""
    from exporters import simulate

    result: dict[int, str] = {}
    rounded = set(trace.rounded)
    for number, operator in trace.operators.items():
        own = number in rounded and number != simulate.INPUT
        # The network's output is not rounded: it is its layer's result all the same.
        if (own or not operator.read_by) and operator.layer not in result.values():
            result[number] = operator.layer
    power, noise = dict.fromkeys(trace.layers, 0.0), dict.fromkeys(trace.layers, 0.0)
    for image in images[:, None]:  # one by one: all results of one forward pass are held
        exact: dict[int, Tensor] = {}

        def keep(number: int, value: Tensor, exact: dict[int, Tensor] = exact) -> None:
            if number in result:
                exact[number] = value.clone()

        def subtract(number: int, value: Tensor, exact: dict[int, Tensor] = exact) -> None:
            if number in result:
                power[result[number]] += float(exact[number].square().sum())
                noise[result[number]] += float((exact.pop(number) - value).square().sum())

        simulate.logits(module, image, trace, layers=(), results=(), see=keep)
        simulate.logits(module, image, trace, layers=trace.layers, results=trace.without(()), see=subtract)
    tiny = np.finfo(np.float64).tiny
    snr = {name: 10 * np.log10(max(power[name], tiny) / max(noise[name], tiny)) for name in trace.layers}
    return {name: float(np.clip(value, -SNR_LIMIT_DB, SNR_LIMIT_DB)) for name, value in snr.items()}


def layer_kinds(trace: Trace) -> dict[str, str]:
    """Return what each layer is: stem, depthwise, grouped, pointwise, conv, dense or SE.

    SE layers are those between a pooling and the multiplication that scales the channels with what they make of it.
    """
    from torch import nn

    gates = set()
    for operator in trace.operators.values():
        if operator.kind == "mul" and len(operator.reads) == 2:
            small = min(operator.reads, key=lambda number: np.prod(trace.operators[number].shape))
            if np.prod(trace.operators[small].shape[2:]) < np.prod(operator.shape[2:]):
                gates |= _since_pooling(trace, small)
    kinds = {}
    for place, (name, layer) in enumerate(trace.layers.items()):
        if name in gates:
            kinds[name] = "SE"
        elif isinstance(layer, nn.Linear):
            kinds[name] = "dense"
        elif place == 0:
            kinds[name] = "stem"
        elif layer.groups > 1:
            kinds[name] = "depthwise" if layer.groups == layer.in_channels else "grouped"
        else:
            kinds[name] = "pointwise" if max(layer.kernel_size) == 1 else "conv"
    return kinds


def _since_pooling(trace: Trace, number: int) -> set[str]:
    """Return the layers on the way from a pooling to the operator ``number``; none where there is no pooling."""
    from exporters import simulate

    found: set[str] = set()
    while number in trace.operators:
        operator = trace.operators[number]
        if operator.kind in ("mean", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "avg_pool2d"):
            return found
        if not operator.reads:
            break
        if operator.kind in simulate.LAYER_OPERATORS:
            found.add(operator.layer)
        number = max(operator.reads)
    return set()
