"""How much memory there is to work in, and whether the system ended a process for want of it (Linux; else unknown)."""

from __future__ import annotations

import re
from pathlib import Path

_MEMINFO, _VMSTAT = Path("/proc/meminfo"), Path("/proc/vmstat")
# A container's own limit: cgroup v2, then v1 under each of its usual places.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
_MIB = 2**20


def available_mb() -> float | None:
    """Return the memory (MiB) that new processes can have without swapping, or None where the system does not tell."""
    found = [left for left in (_system_mb(), *(_cgroup_mb(*group) for group in _CGROUPS)) if left is not None]
    return min(found, default=None)


def kills() -> int | None:
    """Return how many processes the kernel has killed for want of memory since it started; None where unknown."""
    return _number(_VMSTAT, r"^oom_kill (\d+)$")


def _system_mb() -> float | None:
    available_kb = _number(_MEMINFO, r"^MemAvailable:\s*(\d+) kB$")
    return None if available_kb is None else available_kb / 1024


def _cgroup_mb(folder: Path, limit_file: str, used_file: str, reclaimable: str) -> float | None:
    limit, used = _number(folder / limit_file, r"^(\d+)$"), _number(folder / used_file, r"^(\d+)$")
    if limit is None or used is None:  # "max", or no such group
        return None
    cached = _number(folder / "memory.stat", rf"^{reclaimable} (\d+)$") or 0
    return (limit - used + cached) / _MIB


def _number(path: Path, pattern: str) -> int | None:
    try:
        found = re.search(pattern, path.read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return int(found[1]) if found else None
