"""Torch modules from outside the zoo, made in a worker process: by a user's factory, by timm or by torchvision."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mobench.errors import BadInputError, MissingExtraError
from mobench.records import Preprocess
from mobench.zoo import checkpoint

if TYPE_CHECKING:
    from torch import nn

_SHOWN = 3
_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a library says of one of its models without building it. ``default`` names its published weights."""

    preprocess: Preprocess
    default: str
    version: str


class Library(Protocol):
    """A library of torch modules by name."""

    def describe(self, name: str) -> Described | None:
        """Return what it says of a model, None where it has none of that name."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names of all its models."""
        ...

    def build(self, name: str, pretrained: str | None) -> nn.Module:
        """Return a model, with published weights where these are named, which may download them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModule:
    """A module that :meth:`build` makes: what `exporters.recipe.Weights` asks for.

    ``kind`` is `factory` (``name`` in ``file``) or a library (its ``name``, with its ``pretrained`` weights or None).
    ``weights`` is a state dict to load. ``seed`` is set before, so that both formats have the same random numbers.
    """

    kind: str
    name: str
    preprocess: Preprocess
    origin: Mapping[str, Any]
    file: Path | None = None
    pretrained: str | None = None
    weights: Path | None = None
    seed: int = 0

    @property
    def shown(self) -> str:
        """Its name as the user gave it."""
        return f"{self.file.name if self.file else self.kind}:{self.name}"

    def build(self, images: npt.NDArray[np.float32] | None = None) -> nn.Module:
        """Return the module in eval mode, tried on one image: [N, 3, S, S] float32 to [N, classes].

        Batch-norm statistics stay as they are, but for random weights, which get them from ``images``.

        Raises:
            BadInputError: the code raised, or what it made is no such module.
        """
        import torch
        from torch import nn

        torch.manual_seed(self.seed)
        if self.file is not None:
            with _own_code(self.shown, self.file):
                made: Any = _function(self.file, self.name)()
        else:
            made = library(self.kind).build(self.name, self.pretrained)
        if not isinstance(made, nn.Module):
            raise BadInputError(self.shown, f"it returned {_kind(made)}", "a torch.nn.Module is needed")
        module: nn.Module = made.cpu().float().eval()
        if self.weights is not None:
            _load(module, self.weights, self.shown)
        self._try(module)
        if self.origin.get("kind") == "random" and images is not None:
            _recompute_statistics(module, images)
        return module

    def _try(self, module: nn.Module) -> None:
        import torch

        try:
            parameters = tuple(inspect.signature(module.forward).parameters.values())
        except (TypeError, ValueError):
            parameters = ()  # a compiled one does not tell: the trial will
        required = [
            each.name
            for each in parameters
            if each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
        if len(required) > 1:
            why = f"its forward takes {len(required)} inputs ({', '.join(required)})"
            raise BadInputError(self.shown, why, "only models of one image can be exported")
        size = self.preprocess.size
        with torch.inference_mode(), _own_code(self.shown, self.file):
            found: Any = module(torch.zeros(1, 3, size, size))
        if not isinstance(found, torch.Tensor):
            raise BadInputError(self.shown, f"its output is {_kind(found)}", "one tensor [N, classes] is needed")
        if found.ndim != 2 or found.shape[0] != 1 or not found.is_floating_point():
            why = (
                f"its output is {list(found.shape)} {str(found.dtype).removeprefix('torch.')}, not [1, classes] floats"
            )
            raise BadInputError(self.shown, f"{why} for an image [1, 3, {size}, {size}]", "")


def _kind(value: Any) -> str:
    length = f" of {len(value)}" if isinstance(value, (tuple, list, dict)) else ""
    return f"something of type {type(value).__name__}{length}"


def _function(file: Path, name: str) -> Callable[[], Any]:
    """Run a Python file and return its function; it can import its neighbours, as when it is run itself."""
    spec = importlib.util.spec_from_file_location(f"mobench_own_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        mend = f"it has {', '.join(known[:8])}" if known else "it has none"
        raise BadInputError(f"{file.name}:{name}", "there is no such function in the file", mend)
    function: Callable[[], Any] = found
    return function


@contextlib.contextmanager
def _own_code(shown: str, file: Path | None) -> Iterator[None]:
    """Raise what somebody else's code raises as one line, with the last line of ``file`` that it went through."""
    folder = [str(file.parent)] if file else []
    sys.path[:0] = folder
    try:
        yield
    except (BadInputError, MemoryError):  # for want of memory it is tried again
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if file and Path(frame.filename) == file]
        if isinstance(error, SyntaxError) and file and error.filename == str(file):
            own = [error.lineno]
        where = f"{file.name}:{own[-1]}: " if file and own else ""
        first = str(error.msg if isinstance(error, SyntaxError) else error).strip().splitlines() or [""]
        raise BadInputError(f"{shown} raised", f"{where}{type(error).__name__}: {first[0][:300]}") from error
    finally:
        for each in folder:
            if each in sys.path:
                sys.path.remove(each)


def _load(module: nn.Module, path: Path, shown: str) -> None:
    held = checkpoint.tensors(path)
    expected = module.state_dict()
    missing = [key for key in expected if key not in held and not key.endswith("num_batches_tracked")]
    unknown = [key for key in held if key not in expected]
    wrong = [key for key in expected if key in held and held[key].shape != expected[key].shape]
    faults = [
        f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''}"
        for what, keys in (("of another shape", wrong), ("missing", missing), ("not the module's", unknown))
        if keys
    ]
    if faults:
        raise BadInputError(f"{path.name} does not fit {shown}", "; ".join(faults), "give its own state_dict()")
    module.load_state_dict({**expected, **held})


def _recompute_statistics(module: nn.Module, images: npt.NDArray[np.float32]) -> None:
    """Set each batch norm's statistics to what it sees on the images; everything else stays in eval mode."""
    import torch
    from torch import nn

    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches instead of an exponential one
        norm.train()
    with torch.no_grad():
        for batch in np.array_split(images, -(-len(images) // _BATCH)):
            module(torch.from_numpy(np.ascontiguousarray(batch)))
    module.eval()


def library(kind: str) -> Library:
    """Return timm or torchvision.

    Raises:
        MissingExtraError: it is not installed.
    """
    return LIBRARIES[kind]()


def _torchvision_module() -> Any:
    """Import torchvision, also beside a torch it was not built for: then two of its operators have to be declared."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import torch

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left
        # Detection models would need them to run; nothing that is exported here does.
        make: Any = torch.library.Library
        _DECLARED.append(make("torchvision", "FRAGMENT"))
        for operator in ("nms", "qnms"):
            _DECLARED[-1].define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise MissingExtraError("torchvision") from error


_DECLARED: list[Any] = []  # a declaration ends with the object that made it


class _Torchvision:
    def __init__(self) -> None:
        self._library = _torchvision_module()

    def names(self) -> Sequence[str]:
        return list(self._library.models.list_models(module=self._library.models))

    def describe(self, name: str) -> Described | None:
        if name not in self.names():
            return None
        default = self._library.models.get_model_weights(name).DEFAULT
        preset = default.transforms()
        return Described(
            preprocess=Preprocess(
                size=preset.crop_size[0],
                mean=tuple(preset.mean),
                std=tuple(preset.std),
                crop=preset.crop_size[0] / preset.resize_size[0],
                interpolation=_interpolation(preset.interpolation.value),
            ),
            default=default.name,
            version=self._library.__version__,
        )

    def build(self, name: str, pretrained: str | None) -> nn.Module:
        with _own_code(f"torchvision:{name}", None):
            module: nn.Module = self._library.models.get_model(name, weights=pretrained)
        return module


class _Timm:
    def __init__(self) -> None:
        if importlib.util.find_spec("timm") is None:
            raise MissingExtraError("timm")
        _torchvision_module()  # timm needs it
        self._library: Any = importlib.import_module("timm")

    def names(self) -> Sequence[str]:
        return list(self._library.list_models())

    def describe(self, name: str) -> Described | None:
        if not self._library.is_model(name):
            return None
        config = self._library.get_pretrained_cfg(name)
        if config is None:
            return None
        usual = Preprocess(size=config.input_size[-1])
        return Described(
            preprocess=Preprocess(
                size=config.input_size[-1],
                mean=tuple(config.mean),
                std=tuple(config.std),
                crop=config.crop_pct or usual.crop,
                interpolation=_interpolation(config.interpolation),
            ),
            default=config.tag or "default",
            version=self._library.__version__,
        )

    def build(self, name: str, pretrained: str | None) -> nn.Module:
        tag = f"{name.partition('.')[0]}.{pretrained}" if pretrained not in (None, "default") else name
        with _own_code(f"timm:{name}", None):
            module: nn.Module = self._library.create_model(tag, pretrained=pretrained is not None)
        return module


def _interpolation(name: str) -> Any:
    return "bicubic" if name == "bicubic" else "bilinear"  # others are random ones, for training


LIBRARIES: Mapping[str, Callable[[], Library]] = {"timm": _Timm, "torchvision": _Torchvision}
