"""Models from outside the zoo: a factory in a Python file, a name of timm's or torchvision's, a file to be quantized.

Here is what can be said of one without building it. The module itself is made in the worker that exports it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from exporters.finish import UNTRAINED
from exporters.recipe import Given
from mobench import artifacts, zoo
from mobench.errors import BadInputError
from mobench.own_modules import LIBRARIES, OwnModule, library
from mobench.records import RUNTIME_FORMATS, Artifact, Preprocess, Target
from mobench.subjects import Asked, Say, Subject, own
from runners import desktop

_DEFAULT_SIZE = 224
_USUAL_WEIGHTS_MB = 100.0  # where nothing is known of them: ResNet-50's


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWeights:
    """What is known of a file that is quantized as it stands; there is nothing to build."""

    preprocess: Preprocess
    origin: Mapping[str, Any]

    def build(self, images: Any) -> Any:
        """Refuse: a file is not a module."""
        raise TypeError("a model file is read, not built")


def is_own(thing: str) -> bool:
    """Return whether a name is none of the zoo's: `timm:NAME`, `torchvision:NAME`, `FILE.py:FACTORY`, a model file."""
    return thing.partition(":")[0] in LIBRARIES or _python_file(thing) or Path(thing).suffix in artifacts.SUFFIXES


def label(thing: str) -> str:
    """Return what a thing's files are called: a file's stem and its factory, or its library's name for it."""
    kind, _, name = thing.partition(":")
    if kind in LIBRARIES:
        return re.sub(r"[/:]", "_", name)
    if _python_file(thing) and ":" in thing:
        file, _, factory = thing.rpartition(":")
        return f"{Path(file).stem}_{factory}"
    return Path(thing).stem


def _python_file(thing: str) -> bool:
    return thing.endswith(".py") or ".py:" in thing


def resolve(thing: str, asked: Asked, say: Say) -> Subject:
    """Say what can be said of a model without building it; what is assumed of it is told to ``say``.

    Raises:
        BadInputError: it is not there, or not one that can be exported.
        MissingExtraError: its library is not installed.
        SessionError: a model file does not run.
    """
    for option in ("width", "depth", "padding", "bn_eps"):
        if getattr(asked, option) is not None:
            raise BadInputError(
                f"--{option.replace('_', '-')} for {thing}", "it is no network of the zoo", "leave it out"
            )
    if thing.partition(":")[0] in LIBRARIES:
        return _from_library(thing, asked, say)
    return _factory(thing, asked, say) if _python_file(thing) else _file(Path(thing), asked, say)


def _from_library(thing: str, asked: Asked, say: Say) -> Subject:
    kind, _, name = thing.partition(":")
    found = library(kind).describe(name)
    if found is None:
        near = difflib.get_close_matches(name, library(kind).names(), n=3)
        raise BadInputError(f"{kind} has no {name!r}", mend=f"did you mean {' or '.join(near)}?" if near else "")
    source, seed, path = asked.weights or "random", 0, None
    weights_kind, _, detail = source.partition(":")
    origin: dict[str, Any]
    if weights_kind == "random":
        seed = _seed(source)
        origin = _origin("random", f"random:{seed} of {thing}, {kind} {found.version}", seed=seed)
    elif weights_kind == "pretrained":
        origin = _origin("pretrained", f"{thing}, {detail or found.default}, {kind} {found.version}")
    else:
        path, origin = _weights_file(source)
    source_of = {"kind": kind, "name": name, "version": found.version, "sha256": None}
    return _module(
        thing,
        source=source_of,
        weights=OwnModule(
            kind=kind,
            name=name,
            pretrained=(detail or found.default) if weights_kind == "pretrained" else None,
            preprocess=asked.over(found.preprocess),
            origin=origin,
            weights=path,
            seed=seed,
        ),
        say=say,
    )


def _factory(thing: str, asked: Asked, say: Say) -> Subject:
    file, _, factory = thing.rpartition(":")
    if not file or not factory.isidentifier():
        raise BadInputError(
            thing, "it names no factory", f"give {file or thing}:NAME, a function that returns a module"
        )
    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInputError(thing, f"there is no file {path}", "")
    said = f"{path.name}:{factory}"
    sha256 = artifacts.sha256(path)
    source, weights, seed = asked.weights, None, 0
    if source is None:
        origin = _origin("own", said, sha256=sha256, seed=0)
    elif source.partition(":")[0] == "random":
        seed = _seed(source)
        origin = _origin("random", f"random:{seed} of {said}", sha256=sha256, seed=seed)
    elif source.partition(":")[0] == "pretrained":
        raise BadInputError(f"--weights {source} for {said}", "nobody publishes weights of it", "give a file, or none")
    else:
        weights, origin = _weights_file(source)
    say(f"{said}: its own code runs, in a process of its own and with your rights: export only what you trust")
    _say_assumed(said, asked, say, size=True)
    return _module(
        thing,
        source={"kind": "factory", "name": said, "version": None, "sha256": sha256},
        weights=OwnModule(
            kind="factory",
            name=factory,
            file=path.resolve(),
            preprocess=asked.over(Preprocess(size=_DEFAULT_SIZE)),
            origin=origin,
            weights=weights,
            seed=seed,
        ),
        say=say,
    )


def _module(thing: str, *, source: Mapping[str, Any], weights: OwnModule, say: Say) -> Subject:
    known_mb = weights.weights.stat().st_size / 2**20 if weights.weights else _USUAL_WEIGHTS_MB
    return own(_network(thing, label(thing), source, weights.preprocess.size, say), weights, weights_mb=known_mb)


def _file(path: Path, asked: Asked, say: Say) -> Subject:
    artifact = artifacts.read(path)
    if artifact.precision not in (None, "fp32"):
        raise BadInputError(str(path), f"it is {artifact.precision} already", "give the FP32 file")
    if asked.weights is not None:
        raise BadInputError(f"--weights {asked.weights} for {path.name}", "the file has its own", "leave it out")
    given, size = _look_inside(artifact, asked.size)
    usual = artifact.preprocess
    if usual is None:
        _say_assumed(path.name, asked, say, size=False)
        usual = Preprocess(size=size)
    origin = _origin("file", path.name, sha256=artifact.sha256)
    if artifact.manifest.get("weights", {}).get("kind") in UNTRAINED:
        origin["trained"] = False
    weights = FileWeights(preprocess=dataclasses.replace(asked.over(usual), size=size), origin=origin)
    source = {"kind": artifact.format, "name": path.name, "version": None, "sha256": artifact.sha256}
    network = _network(path.name, label(str(path)), source, size, say)
    return own(network, weights, weights_mb=artifact.size_bytes / 2**20, formats=(artifact.format,), given=given)


def _look_inside(artifact: Artifact, size: int | None) -> tuple[Given, int]:
    """Load a file in its runtime, in a process of its own; return its one image input and that one's side."""
    name = artifact.path.name
    runtime = next(key for key, file_format in RUNTIME_FORMATS.items() if file_format == artifact.format)
    shape: tuple[int, ...] = ()
    if size is not None:  # counts only where the file leaves it open
        shape = (1, size, size, 3) if artifact.format == "tflite" else (1, 3, size, size)
    with desktop.open_session(artifact, Target(runtime=runtime), shape=shape) as session:
        ready = session.ready
    if len(ready.inputs) != 1 or len(ready.outputs) != 1:
        numbers = [len(ready.inputs), len(ready.outputs)]
        counted = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in zip(numbers, ("input", "output"), strict=True)]
        raise BadInputError(name, f"it has {' and '.join(counted)}", "one image and one row of scores can be verified")
    (source,), (sink,) = ready.inputs, ready.outputs
    axes, scores = list(source["shape"]), list(sink["shape"])
    if source["dtype"] != "float32":
        raise BadInputError(name, f"its input is {source['dtype']}: it is quantized already", "give the float model")
    if len(axes) != 4 or axes[0] != 1 or 3 not in (axes[1], axes[3]):
        raise BadInputError(name, f"its input is {axes}, not [1, 3, S, S] or [1, S, S, 3]")
    layout: Literal["NHWC", "NCHW"] = "NHWC" if axes[3] == 3 else "NCHW"
    height, width = axes[1:3] if layout == "NHWC" else axes[2:]
    if height != width:
        raise BadInputError(name, f"its input is {height} x {width} pixels", "only square ones can be exported")
    if size not in (None, height):
        raise BadInputError(f"--size {size} for {name}", f"it reads {height} pixels", "leave it out")
    if len(scores) != 2 or scores[0] != 1:
        raise BadInputError(name, f"its output is {scores}, not [1, classes]")
    return Given(path=artifact.path, input=str(source["name"]), layout=layout), height


def _network(thing: str, name: str, source: Mapping[str, Any], size: int, say: Say) -> dict[str, Any]:
    """Return the manifest's description. A name that is one of the zoo's gets the kind of its source behind it."""
    try:
        zoo.get(name)
    except BadInputError:
        pass
    else:
        plain, name = name, f"{name}_{source['kind']}"
        say(f"{thing} is exported as {name}: {plain} is a network of `mobench models`")
    network = dict.fromkeys(("width", "depth", "padding", "bn_eps", "params", "macs"))
    return {"name": name, "label": name, "family": "own", **network, "input_size": size, "source": dict(source)}


def _say_assumed(name: str, asked: Asked, say: Say, *, size: bool) -> None:
    usual = Preprocess(size=_DEFAULT_SIZE)
    facts = {"size": f"{usual.size} pixels"} if size else {}
    facts |= {"mean": "ImageNet's mean", "std": "ImageNet's std", "crop": f"centre crop of {usual.crop:g}"}
    assumed = {key: text for key, text in facts.items() if getattr(asked, key) is None}
    if assumed:
        options = ", ".join(f"--{key}" for key in assumed)
        say(f"{name}: assumed {', '.join(assumed.values())} ({options} say otherwise)")


def _seed(source: str) -> int:
    detail = source.partition(":")[2] or "0"
    if not (detail.isascii() and detail.isdigit() and len(detail) < 19):
        raise BadInputError(f"weights {source!r}", "the seed is not a whole number", "give random:SEED, e.g. random:0")
    return int(detail)


def _weights_file(source: str) -> tuple[Path, dict[str, Any]]:
    path = Path(source).expanduser()
    if not path.is_file():
        raise BadInputError(
            f"no weights {source!r}",
            "there is no such file",
            "give random, random:SEED, or a .safetensors or .pth file",
        )
    return path.resolve(), _origin("file", path.name, sha256=artifacts.sha256(path))


def _origin(kind: str, source: str, *, sha256: str | None = None, seed: int | None = None) -> dict[str, Any]:
    return {"kind": kind, "source": source, "sha256": sha256, "seed": seed, "layout": None}
