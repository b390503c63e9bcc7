"""What the machine is and what it does meanwhile, read from the system; a value the system does not tell is absent."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

_CPU = Path("/sys/devices/system/cpu")
# The instruction sets that decide which kernels a runtime picks.
_EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_fp16", "amx_int8", "amx_bf16", "asimddp", "i8mm")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def machine() -> dict[str, Any]:
    """Describe this machine: CPU model, cores, vector extensions, memory, kernel, governor and clock limits."""
    info: dict[str, Any] = {
        "cpu": platform.processor() or platform.machine(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    fields: dict[str, str] = {}
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    info["cpu"] = fields.get("model name", info["cpu"])
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    info["extensions"] = [name for name in _EXTENSIONS if name in flags]
    info["virtual"] = "hypervisor" in flags
    for line in (_read(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemTotal:"):
            info["memory_mb"] = int(line.split()[1]) // 1024
    governor = _read(_CPU / "cpu0/cpufreq/scaling_governor")
    if governor:
        info["governor"] = governor
    return info


def snapshot() -> dict[str, Any]:
    """Return what changes: load average, and each core's clock and cap where the system tells them."""
    state: dict[str, Any] = {"load_1m": os.getloadavg()[0]}
    clocks = {p.parent.parent.name: _read(p) for p in sorted(_CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))}
    caps = {p.parent.parent.name: _read(p) for p in sorted(_CPU.glob("cpu[0-9]*/cpufreq/scaling_max_freq"))}
    if clocks:
        state |= {"freq_khz": clocks, "cap_khz": caps}
    zones = {p.parent.name: _read(p) for p in sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp"))}
    temperatures = {zone: int(value) / 1000 for zone, value in zones.items() if value and value.lstrip("-").isdigit()}
    if temperatures:
        state["temp_c"] = temperatures
    return state


def steal_ticks() -> int:
    """Return the time a hypervisor gave to others since boot, machine-wide, in ticks of 10 ms; 0 where unknown."""
    try:
        with open("/proc/stat", "rb") as file:  # noqa: PTH123 (read at every block: the short way)
            return int(file.readline().split()[8])
    except (OSError, IndexError, ValueError):
        return 0
