"""INT8 simulated in torch: a float module computes with the rounding of a quantized file, layer by layer as asked.

Layers are what `nn.Conv2d` and `nn.Linear` compute, in the order of execution, by module path; every operator between
one and the next (activation, SE multiplication, shortcut, pooling) belongs to the first. Operators are seen as ATen
executes them, so that any module can be simulated, however its forward is written. As in the files, weights are s8
with a scale a channel; each result is 8 bit asymmetric, its range the one of least error on the calibration images, or
the whole one; a ReLU or ReLU6 right behind a layer is fused into it; the network's output is not rounded. Accumulators
and biases are exact, which INT32 nearly is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from exporters.ranges import best_range, best_scales

INPUT = -1  # the number of the network's input, where operators have 0, 1, ...
Plan = Callable[[int, Tensor], Tensor | None]

# Results that hold only values of their input: they have its scale and lose nothing.
_MOVES = frozenset({
    "view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "permute", "transpose",
    "t", "slice", "select", "split", "split_with_sizes", "chunk", "clone", "contiguous", "detach", "alias", "to",
    "_to_copy", "constant_pad_nd", "max_pool2d", "max_pool2d_with_indices",
})  # fmt: skip
_CLAMPS = frozenset({"relu", "hardtanh", "clamp", "clamp_min"})
LAYER_OPERATORS = frozenset({"convolution", "conv2d", "addmm", "linear", "mm"})
_SAMPLED = 512  # values of each result for each image, from which its range is chosen
_BATCH = 4  # images at a time: enough to keep two cores busy, and an EfficientNet-B7 still fits into memory


@dataclass(slots=True, kw_only=True)
class Operator:
    """One operator of a forward pass: the ``layer`` it belongs to, the operators it reads, and its result's range.

    ``whole`` is the range of all that was seen, of which ``low`` to ``high`` may be a part.
    """

    kind: str
    layer: str
    reads: tuple[int, ...]
    shape: tuple[int, ...]
    read_by: list[int] = field(default_factory=list)
    low: float = 0.0
    high: float = 0.0
    whole: tuple[float, float] = (0.0, 0.0)
    sample: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def see(self, value: Tensor, places: Tensor) -> None:
        """Widen the range, which always holds 0, to that of ``value``, and take a sample of it at ``places``."""
        low, high = torch.aminmax(value)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        flat = value.reshape(value.shape[0] if value.dim() else 1, -1)
        self.sample.append(flat[:, places % flat.shape[1]].numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one forward pass does, with the ranges of many. ``operators`` by number, the network's input at `INPUT`."""

    operators: Mapping[int, Operator]
    layers: Mapping[str, nn.Conv2d | nn.Linear]
    weights: Mapping[str, Tensor]  # rounded

    @property
    def rounded(self) -> tuple[int, ...]:
        """The operators whose results a fully quantized file rounds."""
        return tuple(number for number in self.operators if self._is_rounded(number))

    def _is_rounded(self, number: int) -> bool:
        operator = self.operators[number]
        if operator.kind in _MOVES or not operator.read_by:
            return False
        readers = {self.operators[reader].kind for reader in operator.read_by}
        clamped = len(operator.read_by) == 1 and readers <= _CLAMPS | {"batch_norm"}
        return not (operator.kind in LAYER_OPERATORS | {"add", "batch_norm"} and clamped)

    def widest(self) -> Trace:
        """Return the same with whole ranges."""
        whole = {n: replace(op, low=op.whole[0], high=op.whole[1]) for n, op in self.operators.items()}
        return replace(self, operators=whole)

    def alone(self, layer: str) -> frozenset[int]:
        """Return the results that are rounded when only ``layer`` is quantized: its own."""
        return frozenset(number for number in self.rounded if self.operators[number].layer == layer)

    def without(self, kept: Collection[str]) -> frozenset[int]:
        """Return the results that are rounded when the layers ``kept`` stay in float.

        A float layer's result is rounded all the same where a quantized one reads it.
        """
        return frozenset(n for n in self.rounded if {self.operators[n].layer, *self._readers(n)} - set(kept))

    def _readers(self, number: int) -> Iterator[str]:
        for reader in self.operators[number].read_by:
            if self.operators[reader].kind in _MOVES:
                yield from self._readers(reader)
            else:
                yield self.operators[reader].layer


class _Pass(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Numbers the operators of one forward pass that compute with the input, and hands each result to ``plan``."""

    def __init__(self, module: nn.Module, plan: Plan, operators: dict[int, Operator] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._module, self._plan, self._operators = module, plan, operators
        self._layer = ""
        self._count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = tuple(
            number for value in _tensors(args) if (number := getattr(value, "_mobench_number", None)) is not None
        )
        result = func(*args, **(kwargs or {}))
        if not read:
            return result  # of parameters alone
        name = func._schema.name.removeprefix("aten::")
        in_place, kind = name.endswith("_"), name.rstrip("_")
        kind = "batch_norm" if "batch_norm" in kind else kind
        number, self._count = self._count, self._count + 1
        first = result[0] if isinstance(result, (tuple, list)) else result
        if not isinstance(first, Tensor) or not first.is_floating_point():
            return result
        if self._operators is not None:
            for source in read:
                self._operators[source].read_by.append(number)
            self._operators[number] = Operator(kind=kind, layer=self._layer, reads=read, shape=tuple(first.shape))
        changed = self._plan(number, first)
        if changed is not None:
            if in_place:
                first.copy_(changed)
            elif isinstance(result, (tuple, list)):
                first, result = changed, type(result)((changed, *result[1:]))
            else:
                first = result = changed
        for value in _tensors(result if isinstance(result, (tuple, list)) else (result,)):
            value._mobench_number = number  # type: ignore[attr-defined]
        return result

    def run(self, batch: Tensor) -> Tensor:
        """Return the module's output for a batch."""
        changed = self._plan(INPUT, batch)
        given = batch.clone() if changed is None else changed
        given._mobench_number = INPUT  # type: ignore[attr-defined]
        if self._operators is not None:
            self._operators[INPUT] = Operator(kind="input", layer="", reads=(), shape=tuple(batch.shape))

        def enter(name: str) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                self._layer = name

            return hook

        hooks = [layer.register_forward_pre_hook(enter(name)) for name, layer in _candidates(self._module).items()]
        try:
            with torch.no_grad(), self:
                output = self._module(given)
        finally:
            for hook in hooks:
                hook.remove()
        if not isinstance(output, Tensor):
            raise TypeError(f"the module returns a {type(output).__name__}, not a tensor of logits")
        return output


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _candidates(module: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}


def _batches(images: npt.NDArray[np.float32], size: int = _BATCH) -> Iterator[Tensor]:
    for start in range(0, len(images), size):
        yield torch.from_numpy(np.ascontiguousarray(images[start : start + size].transpose(0, 3, 1, 2)))


def trace(module: nn.Module, images: npt.NDArray[np.float32]) -> Trace:
    """Return the operators of ``module`` (eval mode, batch norm folded) with their ranges on images [N, S, S, 3].

    Raises:
        TypeError: the module returns no tensor.
        ValueError: it has no convolution and no linear layer, or computes otherwise for another image.
    """
    operators: dict[int, Operator] = {}
    first = next(_batches(images, 1))
    _Pass(module, lambda number, value: None, operators).run(first)

    places = torch.randint(2**40, (_SAMPLED,), generator=torch.Generator().manual_seed(0))

    def see(number: int, value: Tensor) -> None:
        operators[number].see(value, places)

    for batch in _batches(images):
        _Pass(module, see).run(batch)
    for number, operator in operators.items():
        operator.whole = operator.low, operator.high
        if number != INPUT:  # pixels have their range, and all of it counts
            operator.low, operator.high = best_range(operator.low, operator.high, np.concatenate(operator.sample))
        operator.sample.clear()
    named = _candidates(module)
    layers = {name: named[name] for name in dict.fromkeys(op.layer for op in operators.values()) if name}
    if not layers:
        raise ValueError("it has no nn.Conv2d and no nn.Linear that could be quantized")
    for operator in operators.values():
        operator.layer = operator.layer or next(iter(layers))  # the input, and what is computed with it before a layer
    weights = {name: rounded_weight(layer.weight.detach()) for name, layer in layers.items()}
    return Trace(operators=operators, layers=layers, weights=weights)


def rounded_weight(weight: Tensor) -> Tensor:
    """Return a weight as s8 with a scale for each output channel holds it."""
    scale = torch.from_numpy(best_scales(weight.numpy())).flatten()
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros_like(scale, dtype=torch.int32), 0, -127, 127
    )


def rounded_result(value: Tensor, low: float, high: float) -> Tensor:
    """Return a result as 8 bits hold it that are spread over [low, high]; what lies outside saturates."""
    scale = (high - low) / 255
    if not scale > 0:
        return value
    return torch.fake_quantize_per_tensor_affine(value, scale, round(-low / scale), 0, 255)


def logits(
    module: nn.Module,
    images: npt.NDArray[np.float32],
    trace: Trace,
    *,
    layers: Collection[str],
    results: Collection[int],
    see: Callable[[int, Tensor], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the logits [N, classes] of images [N, S, S, 3] with some weights and some results rounded.

    Args:
        module: the traced module; as it was afterwards.
        images: pre-processed, float32.
        trace: of `trace`, with the ranges.
        layers: those whose weights are rounded.
        results: the operators whose results are.
        see: called with each operator's number and result, for a batch at a time.
    """

    def plan(number: int, value: Tensor) -> Tensor | None:
        operator, result = trace.operators[number], value
        if number in results:
            result = rounded_result(result, operator.low, operator.high)
        if see is not None:
            see(number, result)
        return None if result is value else result

    with _rounded_weights({trace.layers[name]: trace.weights[name] for name in layers}):
        return torch.cat([_Pass(module, plan).run(some) for some in _batches(images)]).numpy()


@contextlib.contextmanager
def _rounded_weights(weights: Mapping[nn.Conv2d | nn.Linear, Tensor]) -> Iterator[None]:
    before = {layer: layer.weight.data for layer in weights}
    try:
        for layer, weight in weights.items():
            layer.weight.data = weight
        yield
    finally:
        for layer, weight in before.items():
            layer.weight.data = weight
