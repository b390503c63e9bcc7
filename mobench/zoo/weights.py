"""Weights for a spec, in two steps: `resolve` says cheaply what they are, `ResolvedWeights.build` makes the module.

    resolved = weights.resolve(spec, "pretrained")   # no torch: the spec as the checkpoint's metadata has it,
    images = ...                                     # pre-processing for the calibration images, and the origin
    module = resolved.build(images)                  # for a manifest; only this step imports torch

Random weights need the images, because their batch-norm statistics are computed on them; others ignore them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobench import artifacts
from mobench.errors import BadInputError
from mobench.records import Preprocess
from mobench.zoo import checkpoint, pretrained
from mobench.zoo.keys import LAYOUTS, Layout, Shape, recognise, tensors
from mobench.zoo.spec import ModelSpec, get, names

if TYPE_CHECKING:
    import torch
    from torch import nn

_BATCH = 32
_TRACKED = ".num_batches_tracked"  # a counter of training steps: of no use here, and absent from some files
_COMMON_WIDTHS = (1.0, 0.25, 0.35, 0.5, 0.75, 1.3, 1.4)
_SHOWN = 3


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
    spec: ModelSpec, source: str, *, cache_dir: Path | None = None, say: Callable[[str], None] | None = None
) -> ResolvedWeights:
    """Find the weights that ``source`` names: `pretrained[:TAG]`, `random[:SEED]`, or a .safetensors or .pth file.

    Downloads a published checkpoint the first time, into ``cache_dir`` or the user's cache, and tells ``say`` so.
    Raises BadInputError when there is no such file, it is not for this network, or it cannot be downloaded.
    """
    kind, _, detail = source.partition(":")
    if kind == "random":
        return _resolve_random(spec, source, detail)
    if kind == "pretrained":
        found = pretrained.find(spec, detail or None)
        layout = next(each for each in LAYOUTS[spec.name] if each.library == found.layout)
        spec = _respec(spec, found.url, {"padding": "symmetric", "bn_eps": layout.bn_eps})
        path = pretrained.fetch(found, cache_dir, say)
        return ResolvedWeights(
            spec=spec,
            preprocess=replace(found.preprocess, size=spec.input_size),
            origin={
                **_origin("pretrained", source=found.url, sha256=found.sha256, layout=layout.library),
                # Measured at the checkpoint's own input size, and true of no other.
                "published_top1": found.top1 if spec.input_size == found.preprocess.size else None,
            },
            path=path,
            layout=layout,
        )
    path = Path(source).expanduser()
    if not path.is_file():
        raise BadInputError(
            f"no weights {source!r}",
            "there is no such file",
            "give pretrained, random, random:SEED, or a .safetensors or .pth file",
        )
    return _resolve_file(spec, path, say)


def _origin(
    kind: str, *, source: str, sha256: str | None = None, seed: int | None = None, layout: str | None = None
) -> dict[str, Any]:
    return {"kind": kind, "source": source, "sha256": sha256, "seed": seed, "layout": layout}


def _resolve_random(spec: ModelSpec, source: str, detail: str) -> ResolvedWeights:
    if detail and not (detail.isascii() and detail.isdigit() and len(detail) < 19):
        raise BadInputError(f"weights {source!r}", "the seed is not a whole number", "give random:SEED, e.g. random:0")
    seed = int(detail or 0)
    return ResolvedWeights(
        spec=spec,
        preprocess=Preprocess(size=spec.input_size),
        origin=_origin("random", source=f"random:{seed}", seed=seed),
        seed=seed,
    )


def _resolve_file(spec: ModelSpec, path: Path, say: Callable[[str], None] | None) -> ResolvedWeights:
    contents = checkpoint.look(path)
    facts = _facts(contents.metadata, path)
    architecture = contents.metadata.get("architecture", spec.name)
    if architecture != spec.name:
        raise BadInputError(
            f"{path} does not fit {spec.name}", f"its metadata says {architecture}", f"ask for {architecture}"
        )
    layout = recognise(spec, contents.names)
    if layout is None:
        known = " nor ".join(each.library for each in LAYOUTS.get(spec.name, ()))
        raise BadInputError(
            f"{path} does not fit {spec.name}", f"its keys are not {known}'s for this network", _fitting(contents)
        )
    spec = _respec(spec, str(path), {"bn_eps": layout.bn_eps, **facts["spec"]})
    if contents.shapes is not None:
        _check_fit(spec, layout, contents.shapes, path)
    preprocess = Preprocess(size=spec.input_size, **facts["preprocess"])
    if say is not None and not (facts["spec"] and facts["preprocess"]):
        say(
            f"{path.name} does not say how it was trained; assumed: {spec.padding} padding, batch-norm epsilon"
            f" {spec.bn_eps:g}, mean {preprocess.mean}, std {preprocess.std}"
        )
    return ResolvedWeights(
        spec=spec,
        preprocess=preprocess,
        origin=_origin("file", source=path.name, sha256=artifacts.sha256(path), layout=layout.library),
        path=path,
        layout=layout,
    )


def _triple(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(part) for part in text.split(","))
    return red, green, blue


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


# Metadata key: whose field it sets, which one, and how its text is read.
_METADATA: Mapping[str, tuple[str, str, Callable[[str], Any]]] = {
    "width": ("spec", "width", float),
    "input_size": ("spec", "input_size", int),
    "padding": ("spec", "padding", _one_of("symmetric", "same")),
    "bn_eps": ("spec", "bn_eps", float),
    "input_mean": ("preprocess", "mean", _triple),
    "input_std": ("preprocess", "std", _triple),
    "crop_pct": ("preprocess", "crop", float),
    "interpolation": ("preprocess", "interpolation", _one_of("bilinear", "bicubic")),
    "num_classes": ("classes", "num_classes", int),
}


def _facts(metadata: Mapping[str, str], path: Path) -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = {"spec": {}, "preprocess": {}, "classes": {}}
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
    for key in ("width", "padding", "bn_eps"):
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
    wrong = [
        f"{key} is {_text(held[key])}, not {_text(shape)}"
        for key, shape in expected.items()
        if key in held and held[key] != shape
    ]
    faults = [
        f"{len(found)} {what}: {', '.join(found[:_SHOWN])}{', ...' if len(found) > _SHOWN else ''}"
        for what, found in (("of another shape", wrong), ("missing", missing), ("not the network's", unknown))
        if found
    ]
    if faults:
        raise BadInputError(
            f"{path} does not fit {spec.label} in {layout.library}'s layout",
            "; ".join(faults),
            _fitting(checkpoint.Contents(names=frozenset(held), shapes=held)),
        )


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _fitting(contents: checkpoint.Contents) -> str:
    """Say which network and width the tensors do fit, when they fit one."""
    held = {key: tuple(shape) for key, shape in (contents.shapes or {}).items() if not key.endswith(_TRACKED)}
    for name in names() if held else ():
        for layout in LAYOUTS.get(name, ()):
            for width in _COMMON_WIDTHS:
                if _expected(get(name, width=width), layout) == held:
                    return f"it fits {name} at width {width:g}"
    return "give another file, or --weights random"


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
