"""What two measurements must share before their latencies may be set against each other. Pure functions.

A difference is of one of two kinds. ``refuse``: another machine, or another way of running the model; a ratio would
say more of that than of the models. ``label``: it may move latencies, and a reader has to know (a kernel, a runtime's
version, a cap on the clocks, the load of others).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from mobench import gpu_cells
from mobench.errors import BadInputError
from mobench.records import Ready, Run

Severity = Literal["refuse", "label"]
HeaderCell = Mapping[str, Any]  # a cell as a campaign's header describes it

# Keys of the header's ``machine``, and what a person calls them.
_MACHINE_REFUSED = {"cpu": "CPU model", "arch": "architecture", "cores": "core count"}
_MACHINE_LABELLED = {
    "kernel": "kernel",
    "os": "system",
    "governor": "governor",
    "microcode": "microcode",
    "hypervisor": "hypervisor",
    "virtual": "virtual machine",
    "python": "Python",
}
# Every mobench has recorded whether these are there; the lack of another may only mean that nobody looked.
_ALWAYS_RECORDED = frozenset(
    ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_fp16", "amx_int8", "amx_bf16", "asimddp", "i8mm")
)
_TARGET_REFUSED = {"threads": "threads", "batch": "batch"}
_WAY = ("inputs and outputs", "CUDA graph", "TF32", "partly on the CPU")  # of a desktop's GPU
# These say when a campaign ends and in which order it goes, not what a block is.
_HARMLESS_SETTINGS = frozenset(("budget_s", "ratio_half_width", "p50_half_width", "seed", "deadline_s", "energy_s"))
_NOT_A_RUNTIME = frozenset(("mobench", "python"))  # of the versions that a session reports
MEMORY_STEP = 0.02  # of a virtual machine's memory, which varies from start to start
CAPPED = 0.99  # of the highest clock
OTHERS_STEP = 0.1  # a difference in the CPU share of others that is worth a label
LEAD_IN_STEP = 0.25  # a block's length follows the latency, and its lead-in with it: less than this is the same design


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which two measurements differ, with both values as text."""

    field: str
    one: str
    other: str
    severity: Severity

    def __str__(self) -> str:
        """Return ``kernel: Linux 6.1 against Linux 6.8``."""
        return f"{self.field}: {self.one} against {self.other}"


def differences(
    one: Run, other: Run, cell: HeaderCell | None = None, other_cell: HeaderCell | None = None
) -> tuple[Difference, ...]:
    """Return in what two campaigns differ, those that refuse a comparison first.

    Args:
        one: a campaign.
        other: another, or the same: then only the cells can differ.
        cell: the cell of ``one`` that is compared; without it only machines, settings and states are.
        other_cell: its counterpart in ``other``.
    """
    found = [*_machine_differences(one, other), *_run_differences(one, other)] if one is not other else []
    if cell is not None and other_cell is not None:
        found += _cell_differences(one, other, cell, other_cell)
    else:
        found += _version_differences(_all_versions(one), _all_versions(other))
    return tuple(sorted(found, key=lambda difference: difference.severity != "refuse"))


def refuse(found: Iterable[Difference], what: str) -> None:
    """Refuse a comparison that a difference makes meaningless.

    Raises:
        BadInputError: naming every such difference; ``what`` is what was to be compared.
    """
    grounds = [str(difference) for difference in found if difference.severity == "refuse"]
    if grounds:
        mend = "time both in one campaign on one machine, or --anyway to compare under this label"
        raise BadInputError(f"{what} cannot be compared", "; ".join(grounds), mend)


def machine_name(run: Run, device: str = "") -> str:
    """Name what latencies must share to be compared: processor, its count of cores, and the device on it.

    ``device`` is that of one cell of a campaign that has several.
    """
    machine = run.header.get("machine", {})
    cores = machine.get("cores")
    parts = [str(machine.get("cpu") or "unknown machine"), f"{cores} cores" if cores else ""]
    device = device or str(run.header.get("device", ""))
    if device == gpu_cells.GPU and (gpu := gpu_cells.describe(machine)):
        device = f"{device} ({gpu})"
    parts.append(device if device != "desktop-cpu" else "")
    return ", ".join(part for part in parts if part)


def identity(run: Run, cell: HeaderCell) -> tuple[object, ...]:
    """Return what makes two cells of different campaigns the same thing timed twice: file, target, runtime version."""
    target = cell["target"]
    return (
        cell["artifact"]["sha256"],
        target["device"],
        target["runtime"],
        provider(run, cell),
        target["threads"],
        target["batch"],
        gpu_cells.way(target),
        runtime_versions(run, cell),
    )


def provider(run: Run, cell: HeaderCell) -> str:
    """Return the provider or delegate that a cell ran in: what it got, or what was asked for where it never ran."""
    ready = _ready(run, cell)
    return ready.got if ready else str(cell["target"]["provider"])


def runtime_versions(run: Run, cell: HeaderCell) -> tuple[tuple[str, str], ...]:
    """Return the versions of the runtime that a cell ran in, by package."""
    ready = _ready(run, cell)
    return tuple(sorted((k, v) for k, v in ready.versions.items() if k not in _NOT_A_RUNTIME)) if ready else ()


def _ready(run: Run, cell: HeaderCell) -> Ready | None:
    said = [ready for name, _, ready in run.sessions if name == cell["id"]]
    return said[-1] if said else None


def _difference(field: str, one: object, other: object, severity: Severity) -> list[Difference]:
    """Compare two values; one that is not known is nothing to compare with, and is no ground to refuse."""
    if one == other or one is None or other is None:
        return []
    return [Difference(field=field, one=_text(one), other=_text(other), severity=severity)]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return str(value) or "none"


def _machine_differences(one: Run, other: Run) -> list[Difference]:
    a, b = one.header.get("machine", {}), other.header.get("machine", {})
    found = _difference("device", one.header.get("device"), other.header.get("device"), "refuse")
    for key, field in _MACHINE_REFUSED.items():
        found += _difference(field, a.get(key), b.get(key), "refuse")
    if "extensions" in a and "extensions" in b:
        apart = set(a["extensions"]) ^ set(b["extensions"])
        severity: Severity = "refuse" if apart & _ALWAYS_RECORDED else "label"
        found += _difference(
            "vector extensions", sorted(apart & set(a["extensions"])), sorted(apart & set(b["extensions"])), severity
        )
    found += _difference("GPU", gpu_cells.describe(a) or None, gpu_cells.describe(b) or None, "refuse")
    for key, field in _MACHINE_LABELLED.items():
        found += _difference(field, a.get(key), b.get(key), "label")
    mine, theirs = a.get("memory_mb"), b.get("memory_mb")
    if mine and theirs and abs(mine - theirs) > MEMORY_STEP * mine:
        found += _difference("memory, MiB", mine, theirs, "label")
    return found


def _run_differences(one: Run, other: Run) -> list[Difference]:
    a, b = one.header, other.header
    found = _difference("mobench", a.get("versions", {}).get("mobench"), b.get("versions", {}).get("mobench"), "label")
    mine, theirs = a.get("settings", {}), b.get("settings", {})
    for key in sorted((mine.keys() & theirs.keys()) - _HARMLESS_SETTINGS):
        found += _difference(f"setting {key}", mine[key], theirs[key], "label")
    found += _difference("input shape", a.get("shape"), b.get("shape"), "label")
    found += _difference("clock cap, share of the highest", _cap(one), _cap(other), "label")
    found += _difference("power", _power(one), _power(other), "label")
    found += _difference("thermal status", _thermal(one), _thermal(other), "label")
    loads = _others(one), _others(other)
    if loads[0] is not None and loads[1] is not None and abs(loads[0] - loads[1]) > OTHERS_STEP:
        found += _difference("CPU time of others", f"{loads[0]:.0%}", f"{loads[1]:.0%}", "label")
    return found


def _cell_differences(one: Run, other: Run, cell: HeaderCell, other_cell: HeaderCell) -> list[Difference]:
    # Cells of one campaign differ because somebody asked for both: there it is what is compared, and a label.
    severity: Severity = "label" if one is other else "refuse"
    a, b = cell["target"], other_cell["target"]
    found = _difference("runtime", a["runtime"], b["runtime"], "label")
    for key, field in _TARGET_REFUSED.items():
        found += _difference(field, a[key], b[key], severity)
    if a["device"] == b["device"]:
        for field, mine, theirs in zip(_WAY, gpu_cells.way(a), gpu_cells.way(b), strict=True):
            found += _difference(field, mine, theirs, severity)
    if a["runtime"] == b["runtime"]:
        found += _difference("provider", provider(one, cell), provider(other, other_cell), severity)
        found += _version_differences(dict(runtime_versions(one, cell)), dict(runtime_versions(other, other_cell)))
    if a["threads"] == b["threads"]:
        found += _difference("cores", list(a["cores"]), list(b["cores"]), "label")
    leads = _lead_in(one, cell), _lead_in(other, other_cell)
    if one is not other and leads[0] and leads[1] and abs(leads[0] - leads[1]) > LEAD_IN_STEP * max(leads):
        found += _difference("untimed inferences a block", leads[0], leads[1], "label")
    return found


def _version_differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[Difference]:
    found: list[Difference] = []
    for package in sorted(one.keys() & other.keys()):
        found += _difference(package, one[package], other[package], "label")
    return found


def _all_versions(run: Run) -> dict[str, str]:
    """Return the versions of every runtime that a campaign used."""
    return {k: v for _, _, ready in run.sessions for k, v in ready.versions.items() if k not in _NOT_A_RUNTIME}


def _cap(run: Run) -> str | None:
    """Return the lowest cap on a clock as a share of what the hardware can do; None where the system does not tell."""
    shares = [
        cluster.cap_khz / cluster.max_khz
        for state in run.states
        for cluster in state.clusters
        if cluster.cap_khz and cluster.max_khz
    ]
    if not shares:
        return None
    return "none" if min(shares) >= CAPPED else f"{min(shares):.0%}"


def _power(run: Run) -> str | None:
    return next((state.power for state in run.states if state.power), None)


def _thermal(run: Run) -> str | None:
    said = {state.thermal_status for state in run.states if state.thermal_status}
    return " ".join(sorted(said)) or None


def _others(run: Run) -> float | None:
    shares = [state.others_share for state in run.states if state.others_share is not None]
    return median(shares) if shares else None


def _lead_in(run: Run, cell: HeaderCell) -> int:
    """Return how many untimed inferences led a cell's blocks in; 0 where an old record does not say."""
    counts = [block.lead_in for block in run.blocks if block.cell == cell["id"] and block.phase == "steady"]
    return round(median(counts)) if counts else 0
