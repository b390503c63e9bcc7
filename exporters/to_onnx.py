"""torch -> ONNX: one self-contained file, NCHW float32 input, any batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import torch

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT = "input", "logits"


def convert(module: nn.Module, size: int) -> bytes:
    """Return ``module`` ([N, 3, size, size] float32 to [N, classes]) as the bytes of an ONNX file.

    The batch axis is open: the operators are the same as with a fixed one. The weights lie inside, not in a file
    beside it that is lost when one of the two is moved.
    """
    program = torch.onnx.export(
        module,
        (torch.zeros(2, 3, size, size),),  # of one image torch would take the batch for a constant
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    content: bytes = strip(program.model_proto).SerializeToString(deterministic=True)
    return content


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what tracing left behind: stack traces, which name the files of this machine, and operators' notes."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name = "mobench"
    return model
