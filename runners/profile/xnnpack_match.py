"""Says which nodes of a TFLite graph the operators are that XNNPACK reports from inside its delegate. Pure.

XNNPACK runs a partition's nodes in their order and tells of each operator its own name, such as
``Fully Connected (NC, F32) GEMM`` for a 1x1 convolution. Some nodes become no operator (a PAD that is part of the
convolution behind it), and some operators come from no node (a copy XNNPACK adds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV"})
# XNNPACK's name before the brackets: the nodes it can be.
_FAMILIES: Mapping[str, frozenset[str]] = {
    "Convolution": frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"}),
    "Fully Connected": frozenset({"CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"}),
    "Dynamic Fully Connected": frozenset({"FULLY_CONNECTED", "BATCH_MATMUL"}),
    "Batch Matrix Multiply": frozenset({"BATCH_MATMUL", "FULLY_CONNECTED"}),
    "Deconvolution": frozenset({"TRANSPOSE_CONV"}),
    "Add": frozenset({"ADD"}),
    "Subtract": frozenset({"SUB"}),
    "Multiply": frozenset({"MUL"}),
    "Divide": frozenset({"DIV"}),
    "Maximum": frozenset({"MAXIMUM"}),
    "Minimum": frozenset({"MINIMUM"}),
    "Squared Difference": frozenset({"SQUARED_DIFFERENCE"}),
    "Mean": frozenset({"MEAN", "AVERAGE_POOL_2D"}),
    "Sum": frozenset({"SUM"}),
    "Global Average Pooling": frozenset({"MEAN", "AVERAGE_POOL_2D"}),
    "Average Pooling": frozenset({"AVERAGE_POOL_2D"}),
    "Max Pooling": frozenset({"MAX_POOL_2D"}),
    "Convert": frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"}),
    "HardSwish": frozenset({"HARD_SWISH"}),
    "Sigmoid": frozenset({"LOGISTIC"}),
    "Tanh": frozenset({"TANH"}),
    "GELU": frozenset({"GELU"}),
    "ELU": frozenset({"ELU"}),
    "Leaky ReLU": frozenset({"LEAKY_RELU"}),
    "PReLU": frozenset({"PRELU"}),
    "Clamp": frozenset({"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"}),
    "Constant Pad": frozenset({"PAD", "PADV2"}),
    "Copy": frozenset({"RESHAPE", "CONCATENATION", "SPLIT", "EXPAND_DIMS", "SQUEEZE", "STRIDED_SLICE"}),
    "Slice": frozenset({"SLICE", "STRIDED_SLICE", "SPLIT"}),
    "Transpose": frozenset({"TRANSPOSE", "PERMUTE"}),
    "Softmax": frozenset({"SOFTMAX"}),
    "Resize Bilinear": frozenset({"RESIZE_BILINEAR"}),
    "Depth To Space": frozenset({"DEPTH_TO_SPACE"}),
    "Space To Depth": frozenset({"SPACE_TO_DEPTH"}),
}


def family(kernel: str) -> str:
    """Return XNNPACK's operator without layout, types and algorithm.

    >>> family("Fully Connected (NC, F32) GEMM")
    'Fully Connected'
    """
    return kernel.partition(" (")[0]


def multiplies(kernel: str) -> bool:
    """Return whether an operator of XNNPACK is a convolution or a matrix product."""
    return bool(_FAMILIES.get(family(kernel), frozenset()) & _CONVOLUTIONS)


def partitions(operators: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return, for each DELEGATE node in its order, the indices of the nodes it replaced.

    Args:
        operators: as the interpreter lists them: the original nodes, then a DELEGATE node for each partition that
            names the tensors at its border.
    """
    nodes = [op for op in operators if op["op_name"] != "DELEGATE"]
    writer = {int(tensor): index for index, op in enumerate(nodes) for tensor in op["outputs"]}
    found = []
    for delegate in operators:
        if delegate["op_name"] != "DELEGATE":
            continue
        border = {int(tensor) for tensor in delegate["inputs"]}
        pending, replaced = [int(tensor) for tensor in delegate["outputs"]], set[int]()
        while pending:
            index = writer.get(pending.pop())
            if index is None or index in replaced:
                continue
            replaced.add(index)
            pending += [int(tensor) for tensor in nodes[index]["inputs"] if int(tensor) not in border]
        found.append(sorted(replaced))
    return found


def match(kernels: Sequence[str], nodes: Sequence[str]) -> list[int | None]:
    """Return for each operator of a partition the position of the node it is, or None.

    Both run in the same order, so the longest sequence of pairs that fit is taken. When a convolution or a product is
    left over on either side the two lists are not what they seem, and nothing is matched.

    Args:
        kernels: XNNPACK's names, in the order they ran.
        nodes: TFLite's names, in the graph's order.

    >>> match(["Convolution (NHWC, F32) IGEMM", "Add (ND)"], ["PAD", "CONV_2D", "RELU", "ADD"])
    [1, 3]
    >>> match(["Convolution (NHWC, F32) IGEMM"], ["CONV_2D", "CONV_2D"])
    [None]
    """
    if sum(map(multiplies, kernels)) != sum(node in _CONVOLUTIONS for node in nodes):
        return [None] * len(kernels)
    rows, columns = len(kernels), len(nodes)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            fit = _fit(kernels[i], nodes[j])
            best[i][j] = max(best[i + 1][j], best[i][j + 1], fit + best[i + 1][j + 1] if fit else 0)
    matched: list[int | None] = [None] * rows
    i = j = 0
    while i < rows and j < columns:
        fit = _fit(kernels[i], nodes[j])
        if fit and best[i][j] == fit + best[i + 1][j + 1]:
            matched[i] = j
            i, j = i + 1, j + 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            i += 1
    if any(multiplies(kernel) and place is None for kernel, place in zip(kernels, matched, strict=True)):
        return [None] * len(kernels)
    return matched


def _fit(kernel: str, node: str) -> int:
    """Return how well an operator fits a node: 0 not at all; convolutions weigh most, as they cannot be left out."""
    if node not in _FAMILIES.get(family(kernel), ()):
        return 0
    if node not in _CONVOLUTIONS:
        return 1
    return 100 + (kernel.endswith("DWConv") == (node == "DEPTHWISE_CONV_2D"))
