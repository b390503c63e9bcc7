"""torch -> ONNX: one self-contained file, NCHW float32 input, any batch."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

import onnx
import torch

from exporters.onnx_graph import WEIGHTED

if TYPE_CHECKING:
    from torch import nn

INPUT, OUTPUT = "input", "logits"
_SCOPES = "pkg.torch.onnx.name_scopes"  # torch notes under it each node's modules, from the root ('') to the operation


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
    model = program.model_proto
    name_layers(model, [name for name, _ in module.named_parameters(remove_duplicate=False)])
    content: bytes = strip(model).SerializeToString(deterministic=True)
    return content


def name_layers(model: onnx.ModelProto, parameters: Collection[str]) -> None:
    """Name each node with weights by its torch module's path, such as `4.se.reduce`; others keep their name.

    The weight's own name says the module best: where batch norm was folded, torch notes that as the operation. A module
    that is called again has `#2` behind its name, and so on.
    """
    known = set(parameters)
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type not in WEIGHTED:
            continue
        paths = [name.removesuffix(".weight") for name in node.input if name in known and name.endswith(".weight")]
        path = next(iter(paths or _scope(node)), "")
        if path:
            seen[path] += 1
            node.name = path if seen[path] == 1 else f"{path}#{seen[path]}"


def _scope(node: onnx.NodeProto) -> list[str]:
    """Return the innermost module that torch notes of a node, or nothing."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    return [path for path in ast.literal_eval(noted)[:-1] if path][-1:]


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
