"""What the literature offers against INT8's damage, tried in simulation (`exporters.simulate`) and in files.

Each remedy changes the torch module or the ranges before quantization: cross-layer equalization and bias correction
(Nagel et al. 2019, arXiv:1906.04721), weights clipped by least squares, activation ranges by percentile. "As simulated"
has weights' scales of least error, and ranges of least error or whole ones, whichever serve the logits better. 100
photographs calibrate; figures are of others: the signal-to-noise ratio of the logits against torch's FP32, and for
trained checkpoints top-1.

    python benchmarks/quantization.py ../shared/data mobilenet_v2_1.0_224 mobilenet_v3_large [--files onnx tflite]
"""

from __future__ import annotations

import argparse
import copy
import importlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from exporters import simulate
from exporters.explain import Simulated
from exporters.fold import fold_batch_norm
from exporters.simulate import Operator, Trace
from exporters.verify import compare
from exporters.worker import CONVERTERS, QUANTIZERS
from mobench import data, zoo
from mobench.accuracy import wilson
from mobench.zoo import weights

Images = npt.NDArray[np.float32]
CHECKPOINTS = {
    "mobilenet_v2_1.0_224": "mobilenet_v2",
    "mobilenet_v1_0.5_160": "mobilenet_v1",
    "mobilenet_v1_0.25_128": "mobilenet_v1",
}
RANDOM = ("mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0", "mnasnet_a1", "moga_a")
CALIBRATION = 100
SOME = 16  # images for statistics that need no more
LAYER_OPERATORS = ("convolution", "addmm", "mm")
# Operators through which a factor for each channel passes unchanged.
HOMOGENEOUS = ("relu", "add", "mean", "constant_pad_nd", "max_pool2d_with_indices", "view", "avg_pool2d")


# --- cross-layer equalization ---


def groups(trace: Trace) -> Iterator[set[int]]:
    """Yield sets of results that share a factor for each channel: all are made and read by layers, or pass it on."""
    operators = trace.operators
    seen: set[int] = set()
    for number, operator in operators.items():
        if operator.kind not in LAYER_OPERATORS or number in seen:
            continue
        group, waiting, open_ended = set(), [number], False
        while waiting:
            member = waiting.pop()
            if member in group:
                continue
            group.add(member)
            own = operators[member]
            if own.kind not in LAYER_OPERATORS:
                if own.kind not in (*HOMOGENEOUS, "hardtanh") or not _keeps_channels(own, operators):
                    open_ended = True
                waiting += own.reads
            waiting += [reader for reader in own.read_by if operators[reader].kind not in LAYER_OPERATORS]
            open_ended |= not own.read_by
        seen |= group
        if not open_ended:
            yield group


def _keeps_channels(operator: Operator, operators: Any) -> bool:
    return all(len(operators[n].shape) > 1 and operators[n].shape[1] == operator.shape[1] for n in operator.reads) and (
        operator.kind != "add" or len({operators[n].shape for n in operator.reads}) == 1
    )


def channel_ranges(module: nn.Module, images: Images, trace: Trace) -> dict[int, Tensor]:
    """Return the largest absolute value of each channel [C] of each rounded result."""
    found: dict[int, Tensor] = {}

    def see(number: int, value: Tensor) -> None:
        if number in rounded and value.dim() > 1:
            largest = value.abs().transpose(0, 1).flatten(1).amax(1)
            found[number] = torch.maximum(found[number], largest) if number in found else largest

    rounded = set(trace.rounded)
    simulate.logits(module, images, trace, layers=(), results=(), see=see)
    return found


def equalize(module: nn.Module, images: Images, *, published: bool = False) -> nn.Module:
    """Return a copy in which the channels of results have more equal ranges; the function is the same on the images.

    A factor for each channel moves from the layers that make a result into those that read it. A depthwise reader has a
    scale for each channel and takes any factor; another loses where its inputs' weights differ, so half of it (the
    square root) is taken. A ReLU6 still clips at 6: its channels are only made larger, and up to there. ``published``
    equalizes weights with weights, as the paper does for a scale a tensor.
    """
    module = copy.deepcopy(module)
    trace = simulate.trace(module, images[:SOME])
    ranges = channel_ranges(module, images, trace)
    operators = trace.operators
    for group in groups(trace):
        makers = {operators[n].layer for n in group if operators[n].kind in LAYER_OPERATORS}
        readers = {
            operators[r].layer for n in group for r in operators[n].read_by if operators[r].kind in LAYER_OPERATORS
        }
        seen = [ranges[n] for n in group if n in ranges]
        if not seen or not readers:
            continue
        result = torch.stack(seen).amax(0)
        dense = [trace.layers[name].weight for name in readers if getattr(trace.layers[name], "groups", 1) == 1]
        if published:
            made = torch.stack([trace.layers[name].weight.abs().flatten(1).amax(1) for name in makers]).amax(0)
            read = [trace.layers[name].weight for name in readers]
            taken = torch.stack([_by_input(weight).amax(1) for weight in read]).amax(0)
            factor = (made / taken.clamp_min(1e-12)).sqrt()
        elif dense:
            # Each row of a weight has its own scale, so its values count relative to the row's largest.
            taken = torch.stack([_by_input(_relative(weight)).amax(1) for weight in dense]).amax(0)
            factor = (result / taken.clamp_min(1e-12)).sqrt()
        else:
            factor = result.clone()
        factor = factor.clamp_min(float(factor.max()) * 1e-2 + 1e-12)
        if any(operators[n].kind == "hardtanh" for n in group):
            factor = (factor / factor.max()).clamp(max=1.0)
            factor = torch.maximum(factor, (1.25 * result / 6).clamp(max=1.0)).clamp_min(1e-2)
        for name in makers:
            layer = trace.layers[name]
            layer.weight.data = layer.weight / factor.reshape(-1, *[1] * (layer.weight.dim() - 1))
            if layer.bias is not None:
                layer.bias.data = layer.bias / factor
        for name in readers:
            layer = trace.layers[name]
            depthwise = getattr(layer, "groups", 1) > 1
            shape = (-1, 1, 1, 1) if depthwise else (1, -1, *[1] * (layer.weight.dim() - 2))
            layer.weight.data = layer.weight * factor.reshape(shape)
    return module


def _relative(weight: Tensor) -> Tensor:
    return weight.abs() / weight.abs().flatten(1).amax(1).clamp_min(1e-12).reshape(-1, *[1] * (weight.dim() - 1))


def _by_input(weight: Tensor) -> Tensor:
    """Return absolute values as [input channels, others]; those of a depthwise weight are its outputs."""
    return (weight if weight.shape[1] == 1 else weight.transpose(0, 1)).abs().flatten(1)


# --- biases, weights, ranges ---


def correct_biases(module: nn.Module, images: Images) -> nn.Module:
    """Return a copy whose biases take back what rounding the weights adds to each channel's mean."""
    module = copy.deepcopy(module)
    shifts: dict[nn.Module, Tensor] = {}

    def add(layer: nn.Module, given: Any, _: Any) -> None:
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        error = simulate.rounded_weight(layer.weight) - layer.weight
        if isinstance(layer, nn.Conv2d):
            noise = layer._conv_forward(given[0], error, None)
        else:
            noise = nn.functional.linear(given[0], error)
        shifts[layer] = noise.transpose(0, 1).flatten(1).mean(1)

    hooks = [layer.register_forward_hook(add) for layer in layers_of(module)]
    with torch.no_grad():
        module(torch.from_numpy(np.ascontiguousarray(images[:SOME].transpose(0, 3, 1, 2))))
    for hook in hooks:
        hook.remove()
    for layer, shift in shifts.items():
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        before = 0 if layer.bias is None else layer.bias.data
        layer.bias = nn.Parameter(before - shift, requires_grad=False)
    return module


def layers_of(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Return all that is quantized."""
    return [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]


def round_weights(module: nn.Module, shares: Collection[float]) -> nn.Module:
    """Return a copy whose weights lie on the s8 grid of the clipping bound, a share of each channel's largest weight,
    with the least squared error. The simulation and TFLite files find that grid again."""
    module = copy.deepcopy(module)
    for layer in layers_of(module):
        flat = layer.weight.data.flatten(1)
        largest = flat.abs().amax(1, keepdim=True).clamp_min(1e-30)
        best, least = flat, torch.full_like(largest, torch.inf)
        for share in shares:
            scale = share * largest / 127
            rounded = (flat / scale).round().clamp(-127, 127) * scale
            error = (rounded - flat).square().sum(1, keepdim=True)
            best, least = torch.where(error < least, rounded, best), torch.minimum(error, least)
        layer.weight.data = best.reshape(layer.weight.shape)
    return module


def sampled(module: nn.Module, images: Images, trace: Trace) -> dict[int, Tensor]:
    """Return up to 1,024 values of each rounded result for each image, and its largest and smallest."""
    generator = torch.Generator().manual_seed(0)
    found: dict[int, list[Tensor]] = {}

    def see(number: int, value: Tensor) -> None:
        if number in rounded and number != simulate.INPUT:
            flat = value.flatten(1)
            chosen = torch.randint(flat.shape[1], (min(1024, flat.shape[1]),), generator=generator)
            found.setdefault(number, []).append(flat[:, chosen].flatten())
            found[number].append(torch.stack(torch.aminmax(flat)))

    rounded = set(trace.rounded)
    simulate.logits(module, images, trace, layers=(), results=(), see=see)
    return {number: torch.cat(values) for number, values in found.items()}


def by_percentile(percent: float) -> Callable[[Tensor], tuple[float, float]]:
    """Return what gives a range that leaves out the rest of the values, half of it at each end."""

    def pick(values: Tensor) -> tuple[float, float]:
        low, high = np.percentile(values.numpy(), [(100 - percent) / 2, (100 + percent) / 2])
        return min(0.0, float(low)), max(0.0, float(high))

    return pick


def with_ranges(trace: Trace, values: dict[int, Tensor], pick: Callable[[Tensor], tuple[float, float]]) -> Trace:
    """Return the trace with other ranges."""
    changed = dict(trace.operators)
    for number, some in values.items():
        low, high = pick(some)
        changed[number] = replace(changed[number], low=low, high=high)
    return replace(trace, operators=changed)


# --- the table ---

MODULES: dict[str, Callable[[nn.Module, Images], nn.Module]] = {
    "as simulated": lambda module, images: module,
    "biases corrected": correct_biases,
    "equalized": equalize,
    "equalized, biases corrected": lambda module, images: correct_biases(equalize(module, images), images),
    "equalized as published": lambda module, images: equalize(module, images, published=True),
    "weights: largest / 127": lambda module, images: round_weights(module, [1.0]),
    "weights: clipped, least squares": lambda module, images: round_weights(module, np.linspace(1, 0.6, 21)),
}
RANGES = {
    "ranges: min, max": by_percentile(100),
    "ranges: 99.99 %": by_percentile(99.99),
    "ranges: 99.9 %": by_percentile(99.9),
}


class Network:
    """A network, its photographs for calibration and for judgement, and torch's logits for the latter."""

    def __init__(self, name: str, folder: Path, judged: int) -> None:
        trained = name in CHECKPOINTS
        source = str(folder / "checkpoints" / f"{name}.safetensors") if trained else "random"
        resolved = weights.resolve(zoo.get(CHECKPOINTS.get(name, name)), source)
        calibration = data.calibration(folder / "imagenet-sample", n=CALIBRATION)
        self.images = calibration.images(resolved.preprocess)
        everything = data.labelled_images(folder / "imagenet-sample")
        labelled = [pair for pair in everything if pair[0] not in calibration.paths]
        labelled = labelled[:: max(1, len(labelled) // judged)][:judged]
        self.others = data.load_images([path for path, _ in labelled], resolved.preprocess)
        self.labels = np.array([label for _, label in labelled]) if trained else None
        first = np.ascontiguousarray(self.images[:32].transpose(0, 3, 1, 2))
        self.module = fold_batch_norm(resolved.build(first)).requires_grad_(False)
        self.size = resolved.preprocess.size
        trace = simulate.trace(self.module, self.images[:1])
        self.exact = simulate.logits(self.module, self.others, trace, layers=(), results=())

    def figures(self, logits: Images) -> str:
        """Return what a row says of logits."""
        found = compare(self.exact, logits)
        # One odd image may have most of the noise: the median over images tells of the others.
        pairs = zip(self.exact[:, None], logits[:, None], strict=True)
        median = np.median([compare(exact, got).snr_db for exact, got in pairs])
        text = f"{len(logits)} | {found.snr_db:.1f} | {median:.1f} | {found.top1_agreement:.1f}"
        if self.labels is None:
            return f"{text} | "
        hits, before = (int((each.argmax(1) == self.labels).sum()) for each in (logits, self.exact))
        low, high = wilson(hits, len(logits))
        change = 100 * (hits - before) / len(logits)
        return f"{text} | {100 * hits / len(logits):.2f} [{low:.1f}, {high:.1f}] ({change:+.2f})"

    def simulated(self, module: nn.Module, trace: Trace | None = None) -> Images:
        """Return the logits of a quantized module, with the ranges of a trace or the export's own choice."""
        if trace is None:
            return Simulated(module, self.images).logits(self.others, ())
        return simulate.logits(module, self.others, trace, layers=trace.layers, results=trace.without(()))

    def of_file(self, module: nn.Module, file_format: str) -> Images:
        """Return the logits of the module's INT8 file."""
        model = importlib.import_module(CONVERTERS[file_format]).convert(module, self.size)
        quantized = importlib.import_module(QUANTIZERS[file_format]).to_int8(model, self.images)
        return {"onnx": run_onnx, "tflite": run_tflite}[file_format](quantized, self.others)


def run_onnx(model: bytes, images: Images) -> Images:
    """Return the logits of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    inputs = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in inputs])


def run_tflite(model: bytes, images: Images) -> Images:
    """Return the logits of a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"]).copy())
    return np.concatenate(found)


def main() -> None:
    """Print a row for each network, remedy and place (simulation, or a format's runtime)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="holds checkpoints/ and imagenet-sample/")
    parser.add_argument("networks", nargs="*", help=f"of {', '.join((*CHECKPOINTS, *RANDOM))}; all where none")
    parser.add_argument("--files", nargs="*", choices=tuple(CONVERTERS), default=(), help="files instead of simulation")
    parser.add_argument("--remedies", nargs="*", choices=(*MODULES, *RANGES), default=())
    parser.add_argument("--judged", type=int, default=64, help="photographs that the figures are of")
    arguments = parser.parse_args()
    print("| network | where | remedy | n | SNR dB | median of images | top-1 as torch % | top-1 % [95 %] (to FP32) |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.networks or (*CHECKPOINTS, *RANDOM):
        network = Network(name, arguments.data, arguments.judged)

        def row(where: str, remedy: str, logits: Images, network: Network = network, name: str = name) -> None:
            print(f"| {name} | {where} | {remedy} | {network.figures(logits)} |", flush=True)

        for remedy, change in MODULES.items():
            if arguments.remedies and remedy not in arguments.remedies:
                continue
            module = change(network.module, network.images)
            for file_format in arguments.files:
                row(file_format, remedy, network.of_file(module, file_format))
            if not arguments.files:
                row("simulated", remedy, network.simulated(module))
        if arguments.files:
            continue
        trace = simulate.trace(network.module, network.images)
        values = sampled(network.module, network.images, trace)
        for remedy, pick in RANGES.items():
            if not arguments.remedies or remedy in arguments.remedies:
                row("simulated", remedy, network.simulated(network.module, with_ranges(trace, values, pick)))


if __name__ == "__main__":
    main()
