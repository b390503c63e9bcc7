"""What the tensors of a float ONNX model hold on the calibration images: ends, a sample of values, channels' means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

Float32 = npt.NDArray[np.float32]
# Of each tensor this many values an image are looked at, always at the same places: enough for the tails of 30 images.
_SAMPLED = 4096
_SUFFIXES = ("lowest", "highest", "sample", "means")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a tensor [1, C, ...] held: its lowest and highest value, a sample [N, values], each channel's mean."""

    low: float
    high: float
    sample: Float32
    means: npt.NDArray[np.float64]


def observe(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int | None, ...]], feeds: Iterable[Mapping[str, Float32]]
) -> dict[str, Observed]:
    """Run a float model on the feeds, one image each; return what the tensors, named with their shapes, held.

    The figures are taken in the graph: all tensors of a large network together would be gigabytes.
    """
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    for name, shape in shapes.items():
        _tap(tapped.graph, name, shape)
    session = start(tapped.SerializeToString())
    wanted = [f"{name}.{suffix}" for name in shapes for suffix in _SUFFIXES]
    runs = [session.run(wanted, dict(feed)) for feed in feeds]
    found = {}
    for place, name in enumerate(shapes):
        low, high, sample, means = (
            np.stack([run[4 * place + figure] for run in runs]) for figure in range(len(_SUFFIXES))
        )
        found[name] = Observed(
            low=float(low.min()),
            high=float(high.max()),
            sample=sample,
            means=means.mean(0, dtype=np.float64).reshape(-1),
        )
    return found


def start(model: bytes) -> onnxruntime.InferenceSession:
    """Return a session with as many threads as an export has of the cores."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()  # which is said to torch
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _tap(graph: onnx.GraphProto, tensor: str, shape: tuple[int | None, ...]) -> None:
    """Add nodes and outputs that give the figures of a tensor, in the order of `_SUFFIXES`."""
    size = int(np.prod([axis or 1 for axis in shape]))
    places = np.arange(size) if size <= _SAMPLED else np.sort(np.random.default_rng(0).integers(size, size=_SAMPLED))
    flat = f"{tensor}.flat"
    for name, values in ((f"{flat}.shape", np.array([-1])), (f"{flat}.places", places)):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.int64), name))
    outputs = [f"{tensor}.{suffix}" for suffix in _SUFFIXES]
    graph.node.extend(
        [
            helper.make_node("Reshape", [tensor, f"{flat}.shape"], [flat]),
            helper.make_node("ReduceMin", [flat], outputs[:1], keepdims=0),
            helper.make_node("ReduceMax", [flat], outputs[1:2], keepdims=0),
            helper.make_node("Gather", [flat, f"{flat}.places"], outputs[2:3]),
            # Not ReduceMean, whose axes are an input or an attribute as the opset wants it.
            helper.make_node("GlobalAveragePool" if len(shape) > 2 else "Identity", [tensor], outputs[3:]),
        ]
    )
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
