"""The key layouts of published checkpoints, as data: which of their names is which of our tensors, in which shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mobench.zoo.spec import Layer, ModelSpec

Shape = tuple[int, ...]
_BN = ("weight", "bias", "running_mean", "running_var")
_BLOCKS = ("separable", "inverted", "bottleneck")
TENSORFLOW_BN_EPS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one library names the tensors of one family.

    ``parts`` maps a layer's role (see :func:`_roles`) to templates: our part's name to their prefix. In a template
    ``{i}`` is the layer's index, ``{n}`` the same where an activation counts too, ``{s}`` and ``{b}`` its stage and its
    place in it, ``{j}`` the position of the part among those the block has, and ``{k}`` the one after. A table's row is
    a stage, or, ``by_width``, all rows of one width are. ``first`` and ``first_stage`` are the numbers that the first
    layer and the first stage have there. ``as_conv`` are the linear layers stored as convolutions.

    ``bn_eps`` is the library's own epsilon, which its files do not hold. ``others`` names tensors by which a network
    that looks like ours but is another is known, and what to say of it.
    """

    library: Literal["torchvision", "timm", "moga"]
    parts: Mapping[str, Mapping[str, str]]
    bn_eps: float = 1e-5
    by_width: bool = False
    first: int = 0
    first_stage: int = 0
    as_conv: frozenset[str] = frozenset()
    others: Mapping[str, str] = field(default_factory=dict)

    def epsilon(self, padding: str) -> float:
        """Return the batch-norm epsilon: weights for SAME padding come from TensorFlow, whose own is 1e-3."""
        return TENSORFLOW_BN_EPS if padding == "same" else self.bn_eps


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


def _tv_block(prefix: str) -> dict[str, str]:
    return {
        "expand.conv": f"{prefix}.block.{{j}}.0",
        "expand.bn": f"{prefix}.block.{{j}}.1",
        "depthwise.conv": f"{prefix}.block.{{j}}.0",
        "depthwise.bn": f"{prefix}.block.{{j}}.1",
        "se.reduce": f"{prefix}.block.{{j}}.fc1",
        "se.expand": f"{prefix}.block.{{j}}.fc2",
        "project.conv": f"{prefix}.block.{{j}}.0",
        "project.bn": f"{prefix}.block.{{j}}.1",
    }


_TV_V3 = {
    "first conv": _TV_STEM,
    "last conv": _TV_STEM,
    "inverted": _tv_block("features.{i}"),
    "first dense": {"linear": "classifier.0"},
    "last dense": {"linear": "classifier.3"},
}
_TV_EFFICIENTNET = {
    "first conv": _TV_STEM,
    "last conv": {"conv": "features.8.0", "bn": "features.8.1"},
    "inverted": _tv_block("features.{s}.{b}"),
    "last dense": {"linear": "classifier.1"},
}
_TV_MNASNET = {
    "first conv": {"conv": "layers.0", "bn": "layers.1"},
    "unexpanded inverted": {
        "depthwise.conv": "layers.3",
        "depthwise.bn": "layers.4",
        "project.conv": "layers.6",
        "project.bn": "layers.7",
    },
    "inverted": {
        "expand.conv": "layers.{s}.{b}.layers.0",
        "expand.bn": "layers.{s}.{b}.layers.1",
        "depthwise.conv": "layers.{s}.{b}.layers.3",
        "depthwise.bn": "layers.{s}.{b}.layers.4",
        "project.conv": "layers.{s}.{b}.layers.6",
        "project.bn": "layers.{s}.{b}.layers.7",
    },
    "last conv": {"conv": "layers.14", "bn": "layers.15"},
    "last dense": {"linear": "classifier.1"},
}
_RESNET = {
    "first conv": {"conv": "conv1", "bn": "bn1"},
    "bottleneck": {
        "reduce.conv": "layer{s}.{b}.conv1",
        "reduce.bn": "layer{s}.{b}.bn1",
        "spatial.conv": "layer{s}.{b}.conv2",
        "spatial.bn": "layer{s}.{b}.bn2",
        "restore.conv": "layer{s}.{b}.conv3",
        "restore.bn": "layer{s}.{b}.bn3",
        "se.reduce": "layer{s}.{b}.se.fc1",
        "se.expand": "layer{s}.{b}.se.fc2",
        "projection.conv": "layer{s}.{b}.downsample.0",
        "projection.bn": "layer{s}.{b}.downsample.1",
    },
    "last dense": {"linear": "fc"},
}
_FEATURES = {"conv": {"conv": "features.{n}"}}
_TV_VGG = {
    **_FEATURES,
    "first dense": {"linear": "classifier.0"},
    "dense": {"linear": "classifier.3"},
    "last dense": {"linear": "classifier.6"},
}
_TV_ALEXNET = {
    **_FEATURES,
    "first dense": {"linear": "classifier.1"},
    "dense": {"linear": "classifier.4"},
    "last dense": {"linear": "classifier.6"},
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
_TIMM_VGG = {
    **_FEATURES,
    "first dense": {"linear": "pre_logits.fc1"},
    "dense": {"linear": "pre_logits.fc2"},
    "last dense": {"linear": "head.fc"},
}
_MOGA = {
    "first conv": {"conv": "stem.0", "bn": "stem.1"},
    "unexpanded inverted": {
        "depthwise.conv": "separable_conv.0",
        "depthwise.bn": "separable_conv.1",
        "project.conv": "separable_conv.3",
        "project.bn": "separable_conv.4",
    },
    "inverted": {
        "expand.conv": "mb_module.{i}.conv1",
        "expand.bn": "mb_module.{i}.bn1",
        "depthwise.conv": "mb_module.{i}.conv2",
        "depthwise.bn": "mb_module.{i}.bn2",
        "se.reduce": "mb_module.{i}.mid_se.conv.0",
        "se.expand": "mb_module.{i}.mid_se.fc.0",
        "project.conv": "mb_module.{i}.conv3",
        "project.bn": "mb_module.{i}.bn3",
    },
    "last conv": {"conv": "conv_before_pooling.0", "bn": "conv_before_pooling.1"},
    "first dense": {"linear": "conv_head.0"},
    "last dense": {"linear": "classifier"},
}

_TV_V3_WIDTHS = (
    "torchvision's own MobileNetV3 at other widths is another network than the authors': it also scales the hidden"
    " layer, and rounds the expanded widths otherwise"
)
_TIMM_RW = "timm's mobilenetv3_rw is another network: SE widths that are no multiples of 8, and no bias in the head"
_TIMM_PLAIN = Layout(library="timm", parts=_TIMM)
_TV_PLAIN = Layout(library="torchvision", parts=_TV_EFFICIENTNET, first_stage=1)
_RESNET_OF: Mapping[str, Layout] = {
    "torchvision": Layout(library="torchvision", parts=_RESNET, first_stage=1),
    "timm": Layout(library="timm", parts=_RESNET, first_stage=1),  # the same names
}

# The layouts of a family's networks, or of one network by its name. A network has those that name all its tensors.
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "mobilenet_v1": (_TIMM_PLAIN,),
    "mobilenet_v2": (Layout(library="torchvision", parts=_TV_V2), _TIMM_PLAIN),
    "mobilenet_v3": (
        Layout(library="torchvision", parts=_TV_V3, bn_eps=1e-3, others={"classifier.0.weight": _TV_V3_WIDTHS}),
        Layout(
            library="timm",
            parts=_TIMM_V3,
            by_width=True,
            as_conv=frozenset({"conv_head"}),
            others={"conv_head.bias": _TIMM_RW},
        ),
    ),
    "efficientnet": (_TV_PLAIN, _TIMM_PLAIN),
    **{f"efficientnet_b{n}": (replace(_TV_PLAIN, bn_eps=1e-3), _TIMM_PLAIN) for n in (5, 6, 7)},
    "mnasnet": (Layout(library="torchvision", parts=_TV_MNASNET, first_stage=7), _TIMM_PLAIN),
    "moga": (Layout(library="moga", parts=_MOGA, first=-2, as_conv=frozenset({"conv_head.0"})),),
    "resnet": (_RESNET_OF["torchvision"], _RESNET_OF["timm"]),
    "se_resnet": (_RESNET_OF["timm"],),
    "vgg": (
        Layout(library="torchvision", parts=_TV_VGG),
        Layout(library="timm", parts=_TIMM_VGG, as_conv=frozenset({"pre_logits.fc1", "pre_logits.fc2"})),
    ),
    "alexnet": (Layout(library="torchvision", parts=_TV_ALEXNET),),
}


def layouts(spec: ModelSpec) -> tuple[Layout, ...]:
    """Return the layouts that name every tensor of the network."""
    return tuple(
        layout
        for layout in LAYOUTS.get(spec.name, LAYOUTS.get(spec.family, ()))
        if all(
            {part for part, *_ in _shapes(layer)} <= set(_templates(layout, roles))
            for layer, roles in zip(spec.layers, _roles(spec.layers), strict=True)
        )
    )


def tensors(spec: ModelSpec, layout: Layout) -> tuple[Tensor, ...]:
    """Return every tensor of the network that carries weights, with its place in the layout."""
    found: list[Tensor] = []
    counted = 0  # layers, and the activations behind convolutions
    walk = zip(spec.layers, _roles(spec.layers), _places(spec.layers, layout), strict=True)
    for index, (layer, roles, (stage, block)) in enumerate(walk):
        templates = _templates(layout, roles)
        shapes = _shapes(layer)
        present = list(dict.fromkeys(part.split(".")[0] for part, *_ in shapes))
        for part, leaf, shape in shapes:
            j = present.index(part.split(".")[0])
            numbers = {"i": index + layout.first, "n": counted, "s": stage, "b": block, "j": j, "k": j + 1}
            prefix = templates[part].format(**numbers)
            as_conv = prefix in layout.as_conv and leaf == "weight"
            found.append(
                Tensor(
                    theirs=f"{prefix}.{leaf}",
                    their_shape=_as_conv(shape, spec.layers[index - 1]) if as_conv else shape,
                    ours=f"{index}.{part}.{leaf}",
                    our_shape=shape,
                )
            )
        counted += 2 if layer.kind == "conv" else 1
    return tuple(found)


def recognise(spec: ModelSpec, keys: Iterable[str]) -> Layout | None:
    """Return the layout that most of the keys belong to; None when no key belongs to any."""
    held = set(keys)

    def overlap(layout: Layout) -> int:
        return sum(tensor.theirs in held for tensor in tensors(spec, layout))

    best = max(layouts(spec), key=overlap, default=None)
    return best if best is not None and overlap(best) else None


def _templates(layout: Layout, roles: tuple[str, ...]) -> Mapping[str, str]:
    return next((layout.parts[role] for role in roles if role in layout.parts), {})


def _as_conv(shape: Shape, before: Layer) -> Shape:
    """Return a linear layer's shape as a convolution over the map that it reads flattened, or over one pixel."""
    side = before.size if before.kind == "flatten" else 1
    return (shape[0], shape[1] // side**2, side, side)


def _places(layers: tuple[Layer, ...], layout: Layout) -> Iterator[tuple[int, int]]:
    """Yield each layer's stage and its place in it; what is no block would be a stage after the last."""
    stage, block = layout.first_stage - 1, 0
    before: object = None
    for layer in layers:
        if layer.kind not in _BLOCKS:
            yield stage + 1, 0
            continue
        row = layer.rule.out if layout.by_width else layer.rule
        stage, block = (stage, block + 1) if row == before else (stage + 1, 0)
        before = row
        yield stage, block


def _roles(layers: tuple[Layer, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the roles each layer may be named by, the most particular first."""
    of_kind = {kind: [i for i, layer in enumerate(layers) if layer.kind == kind] for kind in ("conv", "dense")}
    for index, layer in enumerate(layers):
        if layer.kind in of_kind:
            # A single dense layer is the classifier: "last" is asked first. A single convolution is the stem.
            last_first = layer.kind == "dense"
            ends = (of_kind[layer.kind][-1], of_kind[layer.kind][0])
            names = [name for name, end in zip(("last", "first"), ends, strict=True) if index == end]
            particular = (f"{name} {layer.kind}" for name in (names if last_first else reversed(names)))
            yield (*particular, layer.kind)
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
