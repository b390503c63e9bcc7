"""Weights for a spec, in two steps: `resolve` says cheaply what they are, `ResolvedWeights.build` makes the module.

    resolved = weights.resolve(spec, "pretrained")   # no torch: the spec as the checkpoint's metadata has it,
    images = ...                                     # pre-processing for the calibration images, and the origin
    module = resolved.build(images)                  # for a manifest; only this step imports torch

Random weights need the images, because their batch-norm statistics are computed on them; others ignore them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobench import artifacts
from mobench.errors import BadInputError
from mobench.records import Preprocess
from mobench.zoo import catalogue, checkpoint, pretrained
from mobench.zoo.keys import Layout, Shape, layouts, recognise, tensors
from mobench.zoo.published import SAME_AS
from mobench.zoo.rows import CLASSES
from mobench.zoo.spec import SIZE_RANGE, ModelSpec, get, names

if TYPE_CHECKING:
    import torch
    from torch import nn

_BATCH = 32
_TRACKED = ".num_batches_tracked"  # a counter of training steps: of no use here, and absent from some files
_COMMON_WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.25, 1.3, 1.4)
_SHOWN = 3
_ANOTHER = "give another file, or --weights random"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedWeights:
    """What weights there will be: the spec with the file's metadata applied, its pre-processing, and the origin.

    ``origin`` is JSON-able: ``kind`` (pretrained, random, file), ``source`` (URL, `random:SEED` or file name),
    ``sha256`` of the file, ``seed``, ``layout``; what does not apply is None. A pretrained one also has the
    checkpoint's own ``published_top1`` (percent), which is not the paper's. Equal specs and origins mean equal
    weights; random ones also depend on the images given to :meth:`build`.
    """

    spec: ModelSpec
    preprocess: Preprocess
    origin: Mapping[str, Any]
    path: Path | None = None
    layout: Layout | None = None
    seed: int = 0

    def build(self, images: npt.NDArray[np.float32] | None = None) -> nn.Module:
        """Return the network with these weights, in eval mode.

        ``images`` is [N, 3, S, S] float32, pre-processed as :attr:`preprocess` says; only random weights need it, and
        at least two. Raises BadInputError when the file and the network do not fit; nothing is loaded in part.
        """
        from mobench.zoo.build import build

        module = build(self.spec)
        if self.path is not None and self.layout is not None:
            _load(module, self.spec, self.layout, self.path)
        else:
            _randomise(module, self.seed)
            _recompute_statistics(module, _checked(images, self.spec))
        return module


def resolve(
    spec: ModelSpec,
    source: str,
    *,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    cache_dir: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> ResolvedWeights:
    """Find the weights that ``source`` names: `pretrained[:TAG]`, `random[:SEED]`, or a .safetensors or .pth file.

    ``mean`` and ``std`` (of pixels in [0, 1], a channel, RGB) are the caller's where the weights do not say; so is the
    spec's batch-norm epsilon, where the caller chose it. Downloads a published checkpoint the first time, into
    ``cache_dir`` or the user's cache, and tells ``say`` so. Raises BadInputError when there is no such file, it is not
    for this network, contradicts what the caller chose, or cannot be downloaded.
    """
    asked = {key: tuple(map(float, value)) for key, value in (("mean", mean), ("std", std)) if value is not None}
    for key, value in asked.items():
        if not _is_scale(key, value):
            raise BadInputError(f"{key} {value}", "out of range", "give three numbers as of pixels in [0, 1]")
    kind, _, detail = source.partition(":")
    if kind == "random":
        return _resolve_random(spec, source, detail, asked)
    if kind == "pretrained":
        return _resolve_pretrained(spec, detail or None, asked, cache_dir, say)
    path = Path(source).expanduser()
    if not path.is_file():
        raise BadInputError(
            f"no weights {source!r}",
            "there is no such file",
            "give pretrained, random, random:SEED, or a .safetensors or .pth file",
        )
    return _resolve_file(spec, path, asked, say)


def _origin(
    kind: str, *, source: str, sha256: str | None = None, seed: int | None = None, layout: str | None = None
) -> dict[str, Any]:
    return {"kind": kind, "source": source, "sha256": sha256, "seed": seed, "layout": layout}


def _resolve_pretrained(
    spec: ModelSpec,
    tag: str | None,
    asked: Mapping[str, Any],
    cache_dir: Path | None,
    say: Callable[[str], None] | None,
) -> ResolvedWeights:
    found = pretrained.find(spec, tag)
    layout = next(each for each in layouts(spec) if each.library == found.layout)
    facts = {"padding": found.padding, "bn_eps": layout.epsilon(found.padding)}
    spec = _respec(spec, found.url, facts)
    _check_asked(asked, found.url, {key: getattr(found.preprocess, key) for key in asked})
    path = pretrained.fetch(found, cache_dir, say)
    return ResolvedWeights(
        spec=spec,
        preprocess=replace(found.preprocess, size=spec.input_size),
        origin={
            **_origin("pretrained", source=found.url, sha256=artifacts.sha256(path), layout=layout.library),
            # Measured at the checkpoint's own input size, and true of no other.
            "published_top1": found.top1 if spec.input_size == found.preprocess.size else None,
        },
        path=path,
        layout=layout,
    )


def _resolve_random(spec: ModelSpec, source: str, detail: str, asked: Mapping[str, Any]) -> ResolvedWeights:
    if detail and not (detail.isascii() and detail.isdigit() and len(detail) < 19):
        raise BadInputError(f"weights {source!r}", "the seed is not a whole number", "give random:SEED, e.g. random:0")
    seed = int(detail or 0)
    return ResolvedWeights(
        spec=spec,
        preprocess=Preprocess(size=spec.input_size, **asked),
        origin=_origin("random", source=f"random:{seed}", seed=seed),
        seed=seed,
    )


def _resolve_file(
    spec: ModelSpec, path: Path, asked: Mapping[str, Any], say: Callable[[str], None] | None
) -> ResolvedWeights:
    contents = checkpoint.look(path)
    facts = _facts(contents.metadata, path)
    architecture = contents.metadata.get("architecture", spec.name)
    if architecture != spec.name:
        mend = f"ask for {architecture}" if architecture in names() else "correct the file, or give another"
        raise BadInputError(f"{path} does not fit {spec.name}", f"its metadata says {architecture}", mend)
    layout = recognise(spec, contents.names)
    if layout is None:
        known = [f"{each.library}'s" for each in layouts(spec)]
        why = f"its keys are not {' nor '.join(known)} for this network" if known else "no library has such a network"
        raise BadInputError(f"{path} does not fit {spec.name}", why, _fitting(contents.shapes) or _ANOTHER)
    spec = _respec(spec, str(path), facts["spec"])
    if "bn_eps" not in facts["spec"] and "bn_eps" not in spec.chosen:
        spec = _respec(spec, str(path), {"bn_eps": layout.epsilon(spec.padding)})
    if contents.shapes is not None:
        _check_fit(spec, layout, contents.shapes, path)
    _check_asked(asked, str(path), facts["preprocess"])
    preprocess = Preprocess(size=spec.input_size, **{**facts["preprocess"], **asked})
    if say is not None:
        if contents.averaged:
            say(f"{path.name} holds averaged weights beside the last ones; the averaged are taken")
        assumed = _assumed(spec, preprocess, facts, asked)
        if "architecture" not in contents.metadata and (others := _alike(spec, layout)):
            assumed.append(f"that it is {spec.name}, not {' or '.join(others)}")
        if assumed:
            say(f"{path.name} does not say how it was trained; assumed: {', '.join(assumed)}")
    return ResolvedWeights(
        spec=spec,
        preprocess=preprocess,
        origin=_origin("file", source=path.name, sha256=artifacts.sha256(path), layout=layout.library),
        path=path,
        layout=layout,
    )


def _assumed(
    spec: ModelSpec, preprocess: Preprocess, facts: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Any]
) -> list[str]:
    """Return what neither the file nor the caller says, and what is taken for it."""
    texts = {
        "padding": f"{spec.padding} padding",
        "bn_eps": f"batch-norm epsilon {spec.bn_eps:g}",
        "mean": f"mean {preprocess.mean}",
        "std": f"std {preprocess.std}",
    }
    known = {*facts["spec"], *facts["preprocess"], *spec.chosen, *asked}
    return [text for key, text in texts.items() if key not in known]


def _alike(spec: ModelSpec, layout: Layout) -> list[str]:
    """Return the networks that a variant's file would fit as well, though they compute something else.

    Of a paper's own network nothing is said: few train the variants.
    """
    same = SAME_AS.get(spec.name, spec.name)
    if catalogue.base(same) == same:
        return []
    expected = _expected(spec, layout)
    alike: list[str] = []
    for name in catalogue.variants(spec.name):
        other = get(name, width=spec.width, depth=spec.depth, input_size=spec.input_size)
        fits = any(each.library == layout.library and _expected(other, each) == expected for each in layouts(other))
        if fits and SAME_AS.get(name, name) not in (same, *alike):
            alike.append(name)
    return alike[:_SHOWN]


def _check_asked(asked: Mapping[str, Any], where: str, said: Mapping[str, Any]) -> None:
    for key, value in asked.items():
        if key in said and said[key] != value:
            raise BadInputError(
                f"{where} does not go with {key} {value}", f"it says {said[key]} itself", f"leave {key} out"
            )


def _is_scale(key: str, value: Sequence[float]) -> bool:
    """Whether these are three finite numbers, and for a deviation none of 0 or less."""
    return len(value) == 3 and all(math.isfinite(each) and (key == "mean" or each > 0) for each in value)


def _scale(key: str) -> Callable[[str], tuple[float, ...]]:
    def parse(text: str) -> tuple[float, ...]:
        value = tuple(float(part) for part in text.split(","))
        if not _is_scale(key, value):
            raise ValueError(text)
        return value

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _pixels(text: str) -> int:
    value, (low, high) = int(text), SIZE_RANGE
    if not low <= value <= high:
        raise ValueError(text)
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:  # as --crop; also refuses NaN
        raise ValueError(text)
    return value


# Metadata key: whose field it sets, which one, and how its text is read.
_METADATA: Mapping[str, tuple[str, str, Callable[[str], Any]]] = {
    "width": ("spec", "width", float),
    "depth": ("spec", "depth", float),
    "input_size": ("spec", "input_size", _pixels),
    "padding": ("spec", "padding", _one_of("symmetric", "same")),
    "bn_eps": ("spec", "bn_eps", float),
    "input_mean": ("preprocess", "mean", _scale("mean")),
    "input_std": ("preprocess", "std", _scale("std")),
    "crop_pct": ("preprocess", "crop", _share),
    "interpolation": ("preprocess", "interpolation", _one_of("bilinear", "bicubic")),
}


def _facts(metadata: Mapping[str, str], path: Path) -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = {"spec": {}, "preprocess": {}}
    for key, (whose, name, parse) in _METADATA.items():
        if key in metadata:
            try:
                facts[whose][name] = parse(metadata[key])
            except ValueError as error:
                raise BadInputError(
                    f"{path} has metadata that cannot be read", f"{key} is {metadata[key]!r}", "correct the file"
                ) from error
    return facts


def _respec(spec: ModelSpec, where: str, facts: Mapping[str, Any]) -> ModelSpec:
    """Apply what a checkpoint says. A parameter the caller chose must agree; only the input size is free to differ."""
    for key in ("width", "depth", "padding", "bn_eps"):
        if key in spec.chosen and key in facts and facts[key] != getattr(spec, key):
            raise BadInputError(
                f"{where} does not fit {spec.name} with {key} {getattr(spec, key)}",
                f"its weights are for {key} {facts[key]}",
                f"leave {key} out, or take other weights",
            )
    own = {key: getattr(spec, key) for key in ("width", "depth", "input_size", "padding", "bn_eps")}
    said = {key: value for key, value in facts.items() if key not in spec.chosen}
    return replace(get(spec.name, **{**own, **said}), chosen=spec.chosen)


def _expected(spec: ModelSpec, layout: Layout) -> dict[str, Shape]:
    return {tensor.theirs: tensor.their_shape for tensor in tensors(spec, layout)}


def _check_fit(spec: ModelSpec, layout: Layout, shapes: Mapping[str, Sequence[int]], path: Path) -> None:
    held = {key: tuple(shape) for key, shape in shapes.items() if not key.endswith(_TRACKED)}
    expected = _expected(spec, layout)
    missing = [key for key in expected if key not in held]
    unknown = [key for key in held if key not in expected]
    wrong = [key for key, shape in expected.items() if key in held and held[key] != shape]
    if not (missing or unknown or wrong):
        return
    shaped = [f"{key} is {_text(held[key])}, not {_text(expected[key])}" for key in wrong]
    faults = [
        f"{len(found)} {what}: {', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''}"
        for what, found in (("of another shape", shaped), ("missing", missing), ("not the network's", unknown))
        if found
    ]
    classifier = {t.theirs for t in tensors(spec, layout) if t.ours.startswith(f"{len(spec.layers) - 1}.")}
    if not (missing or unknown) and classifier.issuperset(wrong):
        mend = _other_classes(held[wrong[0]][0])
    else:
        told = (text for key, text in layout.others.items() if key in {*missing, *wrong})
        mend = _fitting(held) or next(told, _ANOTHER)
    raise BadInputError(f"{path} does not fit {spec.label} in {layout.library}'s layout", "; ".join(faults), mend)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _other_classes(classes: int) -> str:
    if classes == CLASSES + 1:
        return f"it has {CLASSES:,} classes and, as TensorFlow's, background as class 0: leave the first of each out"
    return f"it tells {classes:,} classes apart, the networks here ImageNet's {CLASSES:,}"


def _fitting(shapes: Mapping[str, Sequence[int]] | None) -> str:
    """Say which network and width the tensors do fit; nothing when they fit none, or their shapes are not known."""
    held = {key: tuple(shape) for key, shape in (shapes or {}).items() if not key.endswith(_TRACKED)}
    for name in names() if held else ():
        own = get(name)
        for layout in layouts(own):
            if _expected(own, layout).keys() != held.keys():
                continue  # the names are the same at every width
            for width in dict.fromkeys((own.width, *_COMMON_WIDTHS)):
                if _expected(get(name, width=width), layout) == held:
                    return f"it fits {name}" + (f" at width {width:g}" if width != own.width else "")
    return ""


def _load(module: nn.Module, spec: ModelSpec, layout: Layout, path: Path) -> None:
    held = checkpoint.tensors(path)
    _check_fit(spec, layout, {key: value.shape for key, value in held.items()}, path)
    state: dict[str, torch.Tensor] = {}
    for tensor in tensors(spec, layout):
        value = held[tensor.theirs]
        if not value.is_floating_point():
            raise BadInputError(f"{path} holds no plain weights", f"{tensor.theirs} is {value.dtype}, not a float")
        state[tensor.ours] = value.float().reshape(tensor.our_shape)
    # Strict but for the training-step counters: _check_fit has named whatever else could be missing.
    module.load_state_dict({**module.state_dict(), **state})


def _checked(images: npt.NDArray[np.float32] | None, spec: ModelSpec) -> npt.NDArray[np.float32]:
    wanted = (3, spec.input_size, spec.input_size)
    if images is None or len(images) < 2:
        raise BadInputError(
            f"random weights for {spec.name} need two calibration images or more",
            "their batch-norm statistics are computed on them",
            "give a --calibration folder with more images",
        )
    if images.shape[1:] != wanted or images.dtype != np.float32:
        raise ValueError(f"images are {images.dtype} {images.shape}, not float32 [N, {_text(wanted)}]")
    return images


def _randomise(module: nn.Module, seed: int) -> None:
    """Draw the weights anew from He's normal distribution; biases are 0."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            # Fan-in: torch's fan-out ignores groups, and depthwise weights so small drown in batch norm's epsilon.
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _recompute_statistics(module: nn.Module, images: npt.NDArray[np.float32]) -> None:
    """Set each batch norm's statistics to the mean over batches of what it sees on the images.

    Without this, activations of random weights grow from layer to layer until INT8 scales overflow.
    """
    import torch
    from torch import nn

    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches instead of an exponential one
    module.train()  # the networks here have no other layer that this changes
    with torch.no_grad():
        for batch in np.array_split(images, -(-len(images) // _BATCH)):
            module(torch.from_numpy(np.ascontiguousarray(batch)))
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
