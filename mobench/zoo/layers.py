"""A network's operators in the order in which they run: shapes, counts, shares by kind, activation memory. No torch.

The activation memory is that of one image. Operators run one after the other in the order of the table; while one runs,
its inputs and its output are live, and whatever a later one still reads: a shortcut's tensor until it is added, the
tensor that squeeze-and-excitation scales, pooled vectors. Batch norm and activations are in place, flattening is free.
Runtimes need more where they copy, pad or repack, and less where they fuse a shortcut or a scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mobench.zoo.rows import BlockKind
from mobench.zoo.spec import Layer, ModelSpec

Role = Literal["conv", "pointwise", "depthwise", "se", "dense", "pool", "scale", "add"]
# Those that have parameters, as the papers name them. A kernel of 1 is pointwise, also in the stem or a shortcut.
COUNTED_ROLES: Mapping[Role, str] = {
    "conv": "full convolution",
    "pointwise": "1x1 convolution",
    "depthwise": "depthwise convolution",
    "se": "squeeze-and-excitation",
    "dense": "dense layer",
}
BYTES = {"fp32": 4, "int8": 1}  # of one activation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """An activation of one image, size x size x channels. Two of the same shape are two tensors."""

    channels: int
    size: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return self.channels * self.size**2

    def __str__(self) -> str:
        """Return `112x112x96`, or the length of a vector."""
        return f"{self.size}x{self.size}x{self.channels}" if self.size > 1 else str(self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of a block, with the batch norm or bias and the activation that follow it.

    ``block`` is the block's place in the network and ``name`` the operator's within it, as in our weights' keys.
    ``expansion`` and ``se`` are the block's: hidden over input channels, and the reduced width.
    """

    block: int
    kind: BlockKind
    name: str
    role: Role
    reads: tuple[Tensor, ...]
    writes: Tensor
    kernel: int = 1
    stride: int = 1
    act: str = "none"
    expansion: float = 1.0
    se: int = 0
    params: int = 0
    macs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one kind of operator has of a network's params and MACs."""

    role: Role
    operators: int
    params: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most activations that are live at once, in numbers, and the operator that runs then (the first of equals)."""

    elements: int
    operator: Operator


class _Writer:
    """Writes down the operators of one block."""

    def __init__(self, index: int, layer: Layer) -> None:
        self.index, self.layer = index, layer
        self.parts = {part.name: part for part in layer.parts}
        self.made: list[Operator] = []

    def write(
        self,
        name: str,
        role: Role,
        reads: Sequence[Tensor],
        writes: Tensor,
        *,
        kernel: int = 1,
        stride: int = 1,
        act: str = "none",
        params: int = 0,
        macs: int = 0,
    ) -> Tensor:
        layer = self.layer
        self.made.append(
            Operator(
                block=self.index,
                kind=layer.kind,
                name=name,
                role=role,
                reads=tuple(reads),
                writes=writes,
                kernel=kernel,
                stride=stride,
                act=act,
                expansion=layer.hidden / layer.inp if layer.kind == "inverted" else 1.0,
                se=layer.se,
                params=params,
                macs=macs,
            )
        )
        return writes

    def part(self, name: str, x: Tensor, act: str = "") -> Tensor:
        """Write a convolution or linear layer, which the spec has counted."""
        part = self.parts[name]
        return self.write(
            name,
            part.role,
            (x,),
            Tensor(channels=part.out, size=part.out_size),
            kernel=part.kernel,
            stride=part.stride,
            act=act or part.act,
            params=part.params,
            macs=part.macs,
        )

    def pool(self, name: str, x: Tensor) -> Tensor:
        """Write a global average pooling."""
        return self.write(name, "pool", (x,), Tensor(channels=x.channels, size=1), kernel=x.size)

    def add(self, x: Tensor, y: Tensor, act: str = "none") -> Tensor:
        """Write the addition of a shortcut."""
        return self.write("add", "add", (x, y), Tensor(channels=y.channels, size=y.size), act=act)

    def excite(self, x: Tensor) -> Tensor:
        """Write a squeeze-and-excitation of ``x``, where the block has one."""
        rule = self.layer.rule.se
        if rule is None:
            return x
        reduced = self.part("se.reduce", self.pool("se.pool", x), act=rule.act or self.layer.act)
        scales = self.part("se.expand", reduced, act=rule.gate)
        return self.write("se.scale", "scale", (x, scales), Tensor(channels=x.channels, size=x.size))


def _conv(block: _Writer, x: Tensor) -> Tensor:
    return block.part("", x)


def _separable(block: _Writer, x: Tensor) -> Tensor:
    return block.excite(block.part("pointwise", block.part("depthwise", x)))


def _inverted(block: _Writer, x: Tensor) -> Tensor:
    y = block.part("expand", x) if "expand" in block.parts else x
    y = block.part("project", block.excite(block.part("depthwise", y)))
    return block.add(x, y) if block.layer.shortcut else y


def _bottleneck(block: _Writer, x: Tensor) -> Tensor:
    place = block.layer.rule.se.place if block.layer.rule.se else None
    y = block.part("spatial", block.part("reduce", block.excite(x) if place == "pre" else x))
    y = block.part("restore", block.excite(y) if place == "spatial" else y)
    if place == "output":
        y = block.excite(y)
    kept = x if block.layer.shortcut else block.part("projection", x)
    if place == "identity":
        kept = block.excite(kept)
    y = block.add(kept, y, act=block.layer.act)
    return block.excite(y) if place == "post" else y


def _maxpool(block: _Writer, x: Tensor) -> Tensor:
    layer = block.layer
    out = Tensor(channels=layer.out, size=layer.out_size)
    return block.write("", "pool", (x,), out, kernel=layer.kernel, stride=layer.stride)


def _pool(block: _Writer, x: Tensor) -> Tensor:
    return block.pool("", x)


def _flatten(block: _Writer, x: Tensor) -> Tensor:
    return x


def _dense(block: _Writer, x: Tensor) -> Tensor:
    return block.part("linear", x)


_BLOCKS: Mapping[BlockKind, Callable[[_Writer, Tensor], Tensor]] = {
    "conv": _conv,
    "separable": _separable,
    "inverted": _inverted,
    "bottleneck": _bottleneck,
    "maxpool": _maxpool,
    "pool": _pool,
    "flatten": _flatten,
    "dense": _dense,
}


def operators(spec: ModelSpec) -> tuple[Operator, ...]:
    """Return a network's operators in the order in which they run.

    >>> from mobench.zoo import get
    >>> [operator.role for operator in operators(get("mobilenet_v2"))[:4]]
    ['conv', 'depthwise', 'pointwise', 'pointwise']
    """
    made: list[Operator] = []
    x = Tensor(channels=3, size=spec.input_size)
    for index, layer in enumerate(spec.layers):
        block = _Writer(index, layer)
        x = _BLOCKS[layer.kind](block, x)
        made += block.made
    return tuple(made)


def shares(ops: Sequence[Operator]) -> tuple[Share, ...]:
    """Return what each kind of operator that there is has of the params and MACs, most MACs first."""
    found = []
    for role in COUNTED_ROLES:
        of_role = [op for op in ops if op.role == role]
        if of_role:
            params, macs = sum(op.params for op in of_role), sum(op.macs for op in of_role)
            found.append(Share(role=role, operators=len(of_role), params=params, macs=macs))
    return tuple(sorted(found, key=lambda share: -share.macs))


def live_elements(ops: Sequence[Operator]) -> tuple[int, ...]:
    """Return how many numbers are live while each operator runs: what it reads, writes, and what is read later."""
    last = {tensor: index for index, op in enumerate(ops) for tensor in op.reads}
    last[ops[-1].writes] = len(ops) - 1
    now = ops[0].reads[0].elements  # the image
    live = []
    for index, op in enumerate(ops):
        now += op.writes.elements
        live.append(now)
        now -= sum(tensor.elements for tensor in set(op.reads) if last[tensor] == index)
    return tuple(live)


def peak(ops: Sequence[Operator]) -> Peak:
    """Return where the activation memory is largest.

    >>> from mobench.zoo import get
    >>> most = peak(operators(get("mobilenet_v2")))
    >>> most.operator.name, str(most.operator.reads[0]), most.elements * BYTES["fp32"]
    ('depthwise', '112x112x96', 6021120)
    """
    live = live_elements(ops)
    index = live.index(max(live))
    return Peak(elements=live[index], operator=ops[index])
