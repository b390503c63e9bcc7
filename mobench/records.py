"""The nouns: frozen records that flow from an exported file to a verdict. Building one touches no disk and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Format = Literal["onnx", "tflite"]
FORMATS: tuple[Format, ...] = ("onnx", "tflite")
PRECISIONS = ("fp32", "fp16", "int8")
RUNTIME_FORMATS: Mapping[str, Format] = {"ort": "onnx", "litert": "tflite"}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """How a photograph becomes a network's input.

    Short side to ``round(size / crop)`` pixels, centre crop of ``size`` x ``size``, then ``(pixel / 255 - mean) / std``
    a channel (RGB).
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    crop: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model file: ours, with the manifest written beside it, or anybody's, without one."""

    path: Path
    sha256: str
    size_bytes: int
    format: Format
    name: str  # the network's name, or the file's stem for a foreign file
    precision: str | None = None
    preprocess: Preprocess | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and how a model runs. ``cores`` is the affinity mask asked for; empty means the system's choice."""

    device: str = "desktop-cpu"
    runtime: str
    threads: int = 1
    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One artifact on one target: what a sweep is made of. ``id`` is unique within its campaign."""

    id: str
    artifact: Artifact
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a session says once its model is loaded and has run once.

    ``nodes_delegated`` of ``nodes_total`` operators run in the delegate or execution provider ``got``.
    ``rss_before_mb`` is the process's peak before the model was loaded: the runtime's own share of ``peak_rss_mb``.
    """

    init_ns: int
    first_ns: int
    rss_before_mb: float
    peak_rss_mb: float
    asked: str
    got: str
    nodes_delegated: int | None
    nodes_total: int | None
    threads: int
    cores: tuple[int, ...]
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One answer to a ``time`` request: wall clock an inference, and the thread's CPU time over all of them."""

    wall_ns: tuple[int, ...]
    cpu_ns: int
    involuntary_switches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A few consecutive timed inferences of one session, and what the machine did meanwhile."""

    cell: str
    incarnation: int
    round: int
    position: int
    phase: Literal["warmup", "steady"]
    t_s: float  # since the campaign began
    wall_ns: tuple[int, ...]
    cpu_ns: int
    involuntary_switches: int
    steal_ticks: int  # 10 ms each, machine-wide; what a hypervisor gave to others


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell, or one of its sessions, that did not run: the error's kind and its three parts."""

    cell: str
    incarnation: int
    kind: str
    what: str
    why: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Accuracy of one file on one data set, in percent, each with its 95 % Wilson interval."""

    sha256: str
    name: str
    precision: str | None
    runtime: str
    data: str
    n: int
    top1: float
    top1_ci: tuple[float, float]
    top5: float
    top5_ci: tuple[float, float]
    assumed: tuple[str, ...] = ()  # what the file does not say of its pre-processing and the evaluation had to assume


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The fold of one journal: a campaign's header and everything that was measured in it."""

    path: Path
    header: Mapping[str, Any]
    sessions: tuple[tuple[str, int, Ready], ...]  # cell id, incarnation, what the session said
    blocks: tuple[Block, ...]
    failures: tuple[Failure, ...]
    accuracies: tuple[Accuracy, ...]
    end: str | None  # why it ended; None when it was cut off
