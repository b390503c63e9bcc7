"""Published checkpoints: which a network has, and how one reaches the cache. The table of them is in `published`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobench import downloads
from mobench.errors import BadInputError
from mobench.zoo import catalogue
from mobench.zoo.published import CHECKPOINTS, ELSEWHERE, SAME_AS, Checkpoint
from mobench.zoo.spec import ModelSpec
from mobench.zoo.tables import NETWORKS

OTHER_CHOICES = "use --weights random, or --weights FILE with a .safetensors or .pth you have"


def available(spec: ModelSpec) -> tuple[Checkpoint, ...]:
    """Return the published checkpoints of a network at its width and depth, the default first.

    At any input size, but for networks that flatten the last map: those have weights for one size.
    """
    own = NETWORKS[spec.name]
    flat = any(layer.kind == "flatten" for layer in spec.layers)
    if spec.depth != own.depth or (flat and spec.input_size != own.input_size):
        return ()
    width = "" if spec.width == own.width else f"_{spec.width:g}"
    return CHECKPOINTS.get(f"{SAME_AS.get(spec.name, spec.name)}{width}", ())


def find(spec: ModelSpec, tag: str | None = None) -> Checkpoint:
    """Return the published checkpoint of a network tagged `tag`, or the default one of the padding the caller chose.

    Raises BadInputError where nobody published one for this width, depth or padding, and for an unknown tag.
    """
    choices = available(spec)
    if tag is None and "padding" in spec.chosen:
        choices = tuple(choice for choice in choices if choice.padding == spec.padding)
    if not choices:
        padding = f" for {spec.padding} padding" if "padding" in spec.chosen else ""
        raise BadInputError(
            f"no published checkpoint of {spec.label}{padding} is known", elsewhere(spec.name), OTHER_CHOICES
        )
    for choice in choices:
        if tag is None or choice.tag == tag:
            return choice
    raise BadInputError(
        f"no published checkpoint of {spec.name} is tagged {tag!r}",
        mend=f"choose {' or '.join(choice.tag for choice in choices)}",
    )


def elsewhere(name: str) -> str:
    """Return what is known of weights for a network, or for the one it is a variant of, that have no address here."""
    return ELSEWHERE.get(catalogue.base(name), "")


def cached(checkpoint: Checkpoint, cache: Path | None = None) -> Path | None:
    """Return where a checkpoint lies in the cache, None where it does not. Its checksum is not looked at."""
    path = _place(checkpoint, cache)
    return path if path.is_file() else None


def _place(checkpoint: Checkpoint, cache: Path | None) -> Path:
    return (cache or downloads.cache_folder()) / "weights" / checkpoint.file


def fetch(checkpoint: Checkpoint, cache: Path | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Return the checkpoint's file in the cache, downloading it the first time.

    ``say`` is told, in a line, that a download begins. Raises BadInputError, which offers the other choices.
    """
    path = _place(checkpoint, cache)
    return downloads.download(checkpoint.url, checkpoint.sha256, path, say, otherwise=OTHER_CHOICES)
