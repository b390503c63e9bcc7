"""The nouns: frozen records that flow from an exported file to a verdict. Building one touches no disk and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Format = Literal["onnx", "tflite"]
FORMATS: tuple[Format, ...] = ("onnx", "tflite")
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")
RUNTIME_FORMATS: Mapping[str, Format] = {"ort": "onnx", "litert": "tflite"}
# By device: its runtimes, and their execution providers (ONNX Runtime) and delegates (LiteRT) by the names they are
# asked by; a runtime's first is its own choice there, on a desktop's GPU the first that is installed. "builtin":
# LiteRT's kernels without a delegate. ONNX Runtime has no GPU provider for Android.
DEVICES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "desktop-cpu": {"ort": ("cpu", "xnnpack"), "litert": ("xnnpack", "builtin")},
    "desktop-gpu": {"ort": ("cuda", "tensorrt", "webgpu"), "litert": ("gpu-fp16", "gpu-fp32")},
    "android-cpu": {"ort": ("cpu", "xnnpack"), "litert": ("xnnpack",)},
    "android-gpu": {"litert": ("gpu-fp16", "gpu-fp32")},
}
PROVIDER_NAMES = sorted({name for runtimes in DEVICES.values() for names in runtimes.values() for name in names})
NVIDIA = ("cuda", "tensorrt")  # the providers that have CUDA graphs and TF32
# Where a desktop's GPU has inputs and outputs: in its own memory, or copied in and out with every inference.
IOS = ("device", "host")
# The user's own native tools, as `--runtime` names them: a block is one run of such a program.
TOOL_FORMATS: Mapping[str, Format] = {"benchmark_model": "tflite", "onnxruntime_perf_test": "onnx"}
READS: Mapping[str, Format] = {**RUNTIME_FORMATS, **TOOL_FORMATS}
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
    """Where and how a model runs.

    ``cores`` is the affinity mask asked for; empty means the system's choice. ``provider`` is an execution provider
    (ONNX Runtime) or delegate (LiteRT) by its short name; empty means the runtime's own choice for a CPU. ``batch`` is
    the leading axis of every input; one inference then takes that many images. The others are a desktop GPU's: ``io``
    is one of `IOS`, and empty elsewhere; ``cuda_graph`` replays the whole inference as one launch; ``tf32`` lets FP32
    products round their inputs to 10 bits; ``partial`` lets the CPU run what the GPU does not take.
    """

    device: str = "desktop-cpu"
    runtime: str
    provider: str = ""
    threads: int = 1
    cores: tuple[int, ...] = ()
    batch: int = 1
    io: str = ""
    cuda_graph: bool = False
    tf32: bool = False
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One artifact on one target: what a sweep is made of. ``id`` is unique within its campaign."""

    id: str
    artifact: Artifact
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a session says once its model is loaded and has run once.

    ``nodes_delegated`` of ``nodes_total`` operators run in the delegate or execution provider ``got``; the others are
    counted by name in ``not_delegated``.
    ``rss_before_mb`` is the process's peak before the model was loaded: the runtime's own share of ``peak_rss_mb``.
    ``arena_mb`` is the model's own part of it: the anonymous memory that loading and the first inference added
    (activations, packed weights; not the file's mapped pages). None where the system does not tell.

    What follows ``not_delegated`` only a desktop's GPU has: ``providers`` counts nodes by where they run, ``left`` are
    the first that the GPU does not take, by name. ``io`` is where inputs and outputs are, ``waits`` what a timed
    inference ends with. ``build_ns`` is what building an engine took, in the start that built it, and no part of
    ``init_ns``. ``settings`` are the provider's own words for how it is set. ``as_float`` says why an INT8 file
    computes in float; empty where it does not.
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
    arena_mb: float | None = None
    not_delegated: Mapping[str, int] = field(default_factory=dict)
    providers: Mapping[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    io: str = ""
    waits: str = ""
    build_ns: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    as_float: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One answer to a ``time`` request: wall clock an inference, and the thread's CPU time over all of them."""

    wall_ns: tuple[int, ...]
    cpu_ns: int
    involuntary_switches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of a profiled model: what it is, moves and computes, and how long each inference spent in it.

    ``kind`` is the file's word for it, with the window's size (``Conv 1x1``), ``kernel`` the runtime's for what ran.
    ``path`` is the module or scope it comes from, outermost first; empty where the file does not say. ``macs`` counts
    convolutions and matrix products and is 0 for all else, ``moved_bytes`` its inputs, weights and outputs, each once;
    None where unknown. ``precision`` is that of the data it reads.
    """

    name: str
    kind: str
    kernel: str
    path: tuple[str, ...]
    precision: str
    macs: int | None
    moved_bytes: int | None
    ns: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a session says of its model's operators. These times never count as the model's latency.

    ``plain_ns`` are whole inferences without the profiler and ``profiled_ns`` with it, wall clock, in turns.
    ``source`` says who timed the operators, ``tick_ns`` how finely. ``notes`` are what a reader must know.
    """

    source: str
    tick_ns: int
    plain_ns: tuple[int, ...]
    profiled_ns: tuple[int, ...]
    operators: tuple[Operator, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A few consecutive timed inferences of one session after ``lead_in`` untimed ones, and what the machine did.

    ``energy_uj`` is what the machine's processor packages took over the whole block, lead-in included; None where the
    machine does not tell. ``set_aside``: timed in a round in which the device throttled, which was then repeated.
    """

    cell: str
    incarnation: int
    round: int
    position: int
    phase: Literal["warmup", "steady", "set_aside"]
    t_s: float  # since the campaign began, without pauses
    wall_ns: tuple[int, ...]
    cpu_ns: int
    involuntary_switches: int
    steal_ticks: int  # 10 ms each, machine-wide; what a hypervisor gave to others
    lead_in: int = 0
    energy_uj: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Cores that share a clock, and that clock now, its present cap and the most the hardware can do."""

    cores: tuple[int, ...]
    governor: str | None = None
    freq_khz: int | None = None
    cap_khz: int | None = None
    max_khz: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """What an NVIDIA GPU was doing at one moment, as NVML tells. A value that it does not tell is None.

    ``held_by`` are the reasons that its clocks are not higher, ``idle`` among them. ``power_held_ns`` and
    ``heat_held_ns`` are running counters of the time that power and heat held them down, ``energy_mj`` of the whole
    board's energy. ``others`` counts processes on it that are not ours, and ``others_mb`` their memory.
    """

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    held_by: tuple[str, ...] | None = None
    power_held_ns: int | None = None
    heat_held_ns: int | None = None
    temp_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_mj: int | None = None
    busy_percent: int | None = None
    memory_used_mb: int | None = None
    others: int | None = None
    others_mb: int | None = None
    mig: bool | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What a device was doing at one moment of a campaign. A value that the system does not tell is None or empty.

    ``others_share`` and ``steal_share`` are shares of the machine's whole CPU time since the state before: what ran
    that was not ours, and what a hypervisor gave to others. ``energy_uj`` (RAPL) and ``charge_uah`` (a battery's
    charge counter) are running counters.
    """

    when: Literal["before", "during", "after"]
    t_s: float
    clusters: tuple[Cluster, ...] = ()
    temps_c: Mapping[str, float] = field(default_factory=dict)
    thermal_status: str | None = None  # Android's own word for throttling: none, light, moderate, severe, ...
    load_1m: float | None = None
    others_share: float | None = None
    steal_share: float | None = None
    memory_available_mb: int | None = None
    power: Literal["mains", "battery"] | None = None
    screen: Literal["on", "off"] | None = None  # a phone's; one that sleeps is slowed down
    battery_percent: int | None = None
    charge_uah: int | None = None
    energy_uj: Mapping[str, int] = field(default_factory=dict)
    gpu: GpuState | None = None  # of a desktop's NVIDIA GPU, where one is measured on


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What a device took while one cell alone ran on it: ``n`` inferences in ``seconds``, its idle share included.

    ``error_mj``: how far off the total may be by how seldom the device updates what it tells. ``source`` is what told.
    """

    cell: str = ""
    incarnation: int = 0
    t_s: float = 0.0
    n: int = 0
    seconds: float
    energy_mj: float
    error_mj: float
    source: str


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
class Check:
    """A timed session's outputs against those of a reference on the CPU, of ``n`` equal inputs.

    ``snr_db`` is the reference's power over that of the difference, ``largest`` the largest difference as a share of
    the reference's largest value, ``top1`` the share of inputs with the same first class. ``wrong`` says why it is, and
    is empty where it is right. ``unchecked`` says why nothing could be compared; then the figures are None.
    """

    cell: str
    incarnation: int
    reference: str
    n: int
    snr_db: float | None
    largest: float | None
    top1: float | None
    wrong: str = ""
    unchecked: str = ""


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
    device: str = "desktop-cpu"
    provider: str = ""
    assumed: tuple[str, ...] = ()  # what the file does not say of its pre-processing and the evaluation had to assume


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What another tool's output says of one of its runs. A figure it does not have is None, or not in its mapping.

    ``tool`` is the tool's name and ``form`` which of its outputs this was. ``model``, ``threads`` and ``provider`` are
    as it says them, the last one in lower case; of ``nodes_total`` operators ``nodes_delegated`` run in that delegate.
    ``count`` inferences were timed, after a warm-up that took ``warmup_ms`` an inference, ``first_ms`` the first.
    ``std_ms`` and ``percentiles_ms`` (by name: p5, p50, p99.9) are the tool's own estimates; ``samples_ns`` is every
    timed inference, where a tool gives them. ``memory_mb`` (MiB) has `peak`, the process's resident set at its most,
    and `init` and `overall`, what was added since its start. Figures in ms were rounded to ``resolution_ms``.
    """

    cell: str = ""
    tool: str
    form: str
    model: str = ""
    threads: int | None = None
    provider: str = ""
    nodes_delegated: int | None = None
    nodes_total: int | None = None
    count: int | None = None
    init_ms: float | None = None
    first_ms: float | None = None
    warmup_ms: float | None = None
    mean_ms: float
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    percentiles_ms: Mapping[str, float] = field(default_factory=dict)
    samples_ns: tuple[int, ...] = ()
    memory_mb: Mapping[str, float] = field(default_factory=dict)
    resolution_ms: float | None = None
    notes: tuple[str, ...] = ()  # what went otherwise than asked


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
    states: tuple[DeviceState, ...] = ()
    resumes: tuple[Mapping[str, Any], ...] = ()  # the header-like record of each time the campaign was taken up again
    checks: tuple[Check, ...] = ()
    pauses: tuple[Mapping[str, Any], ...] = ()  # each time the device was out of reach: why, waited_s, boot
    set_aside: Mapping[tuple[int, int], str] = field(
        default_factory=dict
    )  # (incarnation, round): why it does not count
    imported: tuple[Imported, ...] = ()  # where the header has a source: figures of another tool
    energies: tuple[Energy, ...] = ()
