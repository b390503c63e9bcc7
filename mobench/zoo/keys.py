"""The key layouts of published checkpoints, as data: which of their names is which of our tensors, in which shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mobench.zoo.spec import Layer, ModelSpec

Shape = tuple[int, ...]
_BN = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one library names the tensors of one family.

    ``parts`` maps a layer's role (see :func:`_roles`) to templates: our part's name to their prefix. In a template
    ``{i}`` is the layer's index, ``{s}`` and ``{b}`` its stage and its place in it (from ``stages``), ``{j}`` the
    position of the part among those the block has, and ``{k}`` the one after. ``spatial`` are the linear layers stored
    as 1x1 convolutions. ``bn_eps`` is the library's own epsilon, which its files do not hold.
    """

    library: str
    bn_eps: float
    parts: Mapping[str, Mapping[str, str]]
    stages: tuple[int, ...] = ()
    spatial: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor: its key and shape in the file, its key and shape in our module."""

    theirs: str
    their_shape: Shape
    ours: str
    our_shape: Shape


_TV_STEM = {"conv": "features.{i}.0", "bn": "features.{i}.1"}
_TV_V2 = {
    "first conv": _TV_STEM,
    "last conv": _TV_STEM,
    "inverted": {
        "expand.conv": "features.{i}.conv.{j}.0",
        "expand.bn": "features.{i}.conv.{j}.1",
        "depthwise.conv": "features.{i}.conv.{j}.0",
        "depthwise.bn": "features.{i}.conv.{j}.1",
        "project.conv": "features.{i}.conv.{j}",
        "project.bn": "features.{i}.conv.{k}",
    },
    "last dense": {"linear": "classifier.1"},
}
_TV_V3 = {
    "first conv": _TV_STEM,
    "last conv": _TV_STEM,
    "inverted": {
        "expand.conv": "features.{i}.block.{j}.0",
        "expand.bn": "features.{i}.block.{j}.1",
        "depthwise.conv": "features.{i}.block.{j}.0",
        "depthwise.bn": "features.{i}.block.{j}.1",
        "se.reduce": "features.{i}.block.{j}.fc1",
        "se.expand": "features.{i}.block.{j}.fc2",
        "project.conv": "features.{i}.block.{j}.0",
        "project.bn": "features.{i}.block.{j}.1",
    },
    "first dense": {"linear": "classifier.0"},
    "last dense": {"linear": "classifier.3"},
}

_TIMM = {
    "first conv": {"conv": "conv_stem", "bn": "bn1"},
    "last conv": {"conv": "conv_head", "bn": "bn2"},
    "separable": {
        "depthwise.conv": "blocks.{s}.{b}.conv_dw",
        "depthwise.bn": "blocks.{s}.{b}.bn1",
        "pointwise.conv": "blocks.{s}.{b}.conv_pw",
        "pointwise.bn": "blocks.{s}.{b}.bn2",
    },
    "inverted": {
        "expand.conv": "blocks.{s}.{b}.conv_pw",
        "expand.bn": "blocks.{s}.{b}.bn1",
        "depthwise.conv": "blocks.{s}.{b}.conv_dw",
        "depthwise.bn": "blocks.{s}.{b}.bn2",
        "se.reduce": "blocks.{s}.{b}.se.conv_reduce",
        "se.expand": "blocks.{s}.{b}.se.conv_expand",
        "project.conv": "blocks.{s}.{b}.conv_pwl",
        "project.bn": "blocks.{s}.{b}.bn3",
    },
    "unexpanded inverted": {
        "depthwise.conv": "blocks.{s}.{b}.conv_dw",
        "depthwise.bn": "blocks.{s}.{b}.bn1",
        "se.reduce": "blocks.{s}.{b}.se.conv_reduce",
        "se.expand": "blocks.{s}.{b}.se.conv_expand",
        "project.conv": "blocks.{s}.{b}.conv_pw",
        "project.bn": "blocks.{s}.{b}.bn2",
    },
    "last dense": {"linear": "classifier"},
}
_TIMM_V3 = {
    **_TIMM,
    "last conv": {"conv": "blocks.{s}.{b}.conv", "bn": "blocks.{s}.{b}.bn1"},  # a stage of its own
    "first dense": {"linear": "conv_head"},
}
_HEAD_IS_CONV = frozenset({"conv_head"})

# A network's layouts. The stages are timm's: how many blocks each holds, filled in table order.
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "mobilenet_v1": (Layout(library="timm", bn_eps=1e-5, parts=_TIMM, stages=(1, 2, 2, 6, 2)),),
    "mobilenet_v2": (
        Layout(library="torchvision", bn_eps=1e-5, parts=_TV_V2),
        Layout(library="timm", bn_eps=1e-5, parts=_TIMM, stages=(1, 2, 3, 4, 3, 3, 1)),
    ),
    "mobilenet_v3_large": (
        Layout(library="torchvision", bn_eps=1e-3, parts=_TV_V3),
        Layout(library="timm", bn_eps=1e-5, parts=_TIMM_V3, stages=(1, 2, 3, 4, 2, 3, 1), spatial=_HEAD_IS_CONV),
    ),
    "mobilenet_v3_small": (
        Layout(library="torchvision", bn_eps=1e-3, parts=_TV_V3),
        Layout(library="timm", bn_eps=1e-5, parts=_TIMM_V3, stages=(1, 2, 3, 2, 3, 1), spatial=_HEAD_IS_CONV),
    ),
}


def tensors(spec: ModelSpec, layout: Layout) -> tuple[Tensor, ...]:
    """Return every tensor of the network that carries weights, with its place in the layout."""
    found: list[Tensor] = []
    places = _places(layout)
    for index, (layer, roles) in enumerate(zip(spec.layers, _roles(spec.layers), strict=True)):
        shapes = _shapes(layer)
        if not shapes:
            continue
        templates = next(layout.parts[role] for role in roles if role in layout.parts)
        stage, block = (-1, -1)
        if any("{s}" in template for template in templates.values()):
            stage, block = next(places)
        present = list(dict.fromkeys(part.split(".")[0] for part, *_ in shapes))
        for part, leaf, shape in shapes:
            j = present.index(part.split(".")[0])
            prefix = templates[part].format(i=index, s=stage, b=block, j=j, k=j + 1)
            spatial = prefix in layout.spatial and leaf == "weight"
            found.append(
                Tensor(
                    theirs=f"{prefix}.{leaf}",
                    their_shape=(*shape, 1, 1) if spatial else shape,
                    ours=f"{index}.{part}.{leaf}",
                    our_shape=shape,
                )
            )
    return tuple(found)


def recognise(spec: ModelSpec, keys: Iterable[str]) -> Layout | None:
    """Return the layout that most of the keys belong to; None when no key belongs to any."""
    held = set(keys)

    def overlap(layout: Layout) -> int:
        return sum(tensor.theirs in held for tensor in tensors(spec, layout))

    best = max(LAYOUTS.get(spec.name, ()), key=overlap, default=None)
    return best if best is not None and overlap(best) else None


def _places(layout: Layout) -> Iterator[tuple[int, int]]:
    return ((stage, block) for stage, blocks in enumerate(layout.stages) for block in range(blocks))


def _roles(layers: tuple[Layer, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the roles each layer may be named by, the most particular first."""
    of_kind = {kind: [i for i, layer in enumerate(layers) if layer.kind == kind] for kind in ("conv", "dense")}
    for index, layer in enumerate(layers):
        if layer.kind in of_kind:
            # A single dense layer is the classifier: "last" is asked first. A single convolution is the stem.
            last_first = layer.kind == "dense"
            ends = (of_kind[layer.kind][-1], of_kind[layer.kind][0])
            names = [name for name, end in zip(("last", "first"), ends, strict=True) if index == end]
            yield tuple(f"{name} {layer.kind}" for name in (names if last_first else reversed(names)))
        elif layer.kind == "inverted" and layer.hidden == layer.inp:
            yield "unexpanded inverted", "inverted"
        else:
            yield (layer.kind,)


def _shapes(layer: Layer) -> list[tuple[str, str, Shape]]:
    """List a layer's tensors as our modules hold them: part, leaf, shape."""
    found: list[tuple[str, str, Shape]] = []
    for part in layer.parts:
        prefix = f"{part.name}." if part.name else ""
        # Squeeze-and-excitation and dense layers are the operator itself, others a block of convolution and norm.
        own = part.name if part.role in ("se", "dense") else f"{prefix}conv"
        found.append((own, "weight", part.shape))
        if part.bias:
            found.append((own, "bias", (part.out,)))
        if part.norm:
            found += [(f"{prefix}bn", leaf, (part.out,)) for leaf in _BN]
    return found
