"""ONNX in other precisions: INT8 by ONNX Runtime's static quantization, FP16 as stored weights.

Why FP16 is stored weights and nothing more: on a CPU, ONNX Runtime computes in FP32 whatever the file says. Both forms
gave the same logits to the last bit, but the graph that is FP16 throughout ran at 1.5 times the time of FP32 on
MobileNetV2 (its Clips stay in FP16 between re-ordered convolutions), while the Casts behind stored weights are folded
when the file is loaded, and it runs as the FP32 file does. Either is half the size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from exporters.to_onnx import INPUT

# float16's largest finite number; beyond it a weight would become infinite
_FLOAT16_MAX = float(np.finfo(np.float16).max)


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Hands the calibration images to ONNX Runtime one by one, channels first."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self._left: Iterator[npt.NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Return the next image as [1, 3, S, S], or None behind the last."""
        image = next(self._left, None)
        return None if image is None else {INPUT: np.ascontiguousarray(image.transpose(2, 0, 1)[None])}


def to_int8(model: bytes, images: npt.NDArray[np.float32]) -> bytes:
    """Return the FP32 ONNX file quantized: QDQ, weights s8 a channel, activations u8 by the images' min and max.

    Args:
        model: what `to_onnx.convert` made.
        images: calibration images, [N, S, S, 3] float32, pre-processed.
    """
    with tempfile.TemporaryDirectory(prefix="mobench-") as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "quantized.onnx")
        quant_pre_process(onnx.load_from_string(model), str(prepared))
        quantize_static(
            str(prepared),
            str(quantized),
            _Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return quantized.read_bytes()


def to_fp16(model: bytes) -> bytes:
    """Return the FP32 ONNX file with its weights stored in FP16, each behind a Cast to FP32; inputs stay FP32.

    Raises:
        OverflowError: a weight is too large for FP16.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    casts = []
    for index, initializer in enumerate(graph.initializer):
        if initializer.data_type != TensorProto.FLOAT or len(initializer.dims) < 2:
            continue  # biases and the bounds of Clip: there is nothing to save, only exactness to lose
        values = numpy_helper.to_array(initializer)
        largest = float(np.abs(values).max(initial=0.0))
        if largest > _FLOAT16_MAX:
            raise OverflowError(f"a weight of {largest:g} in {initializer.name} does not fit into FP16")
        name, stored = initializer.name, f"{initializer.name}.fp16"
        graph.initializer[index].CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content
