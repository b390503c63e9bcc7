"""What there is to read on a device: its clocks, sensors, power supplies and energy counters, and their files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from runners.device_files import Source, integer, integers

CPU = "/sys/devices/system/cpu"
POWER = "/sys/class/power_supply"


def _folders(paths: Iterable[str]) -> list[str]:
    """Return the folders of files in the order of the numbers in their names."""
    folders = {path.rpartition("/")[0] for path in paths}
    return sorted(folders, key=lambda folder: ([int(number) for number in re.findall("[0-9]+", folder)], folder))


def find_clusters(source: Source) -> dict[tuple[int, ...], str]:
    """Return the folder with the clock of each set of cores that share one; cores a kernel does not group alone."""
    for pattern in (f"{CPU}/cpufreq/policy[0-9]*", f"{CPU}/cpu[0-9]*/cpufreq"):
        found = source.read_many([f"{pattern}/related_cpus", f"{pattern}/scaling_max_freq"])
        clusters: dict[tuple[int, ...], str] = {}
        for folder in _folders(found):
            cores = integers(found.get(f"{folder}/related_cpus", "")) or map(int, re.findall("[0-9]+", folder)[:1])
            clusters.setdefault(tuple(cores), folder)
        if clusters:
            return clusters
    return {}


def describe_clusters(source: Source, cpuinfo: str) -> list[dict[str, Any]]:
    """Return each cluster's cores and highest clock, and on ARM its implementer's and part's number (0x41/0xd46)."""
    clusters = find_clusters(source)
    found = source.read_many([f"{folder}/cpuinfo_max_freq" for folder in clusters.values()])
    parts: dict[int, str] = {}
    for block in re.split(r"\n\s*\n", cpuinfo):
        fields = dict(re.findall(r"^(processor|CPU implementer|CPU part)\s*: (\w+)", block, re.MULTILINE))
        core = integer(fields.get("processor"))
        if core is not None and "CPU part" in fields:
            parts[core] = f"{fields.get('CPU implementer')}/{fields['CPU part']}"
    described = []
    for cores, folder in clusters.items():
        values = {
            "cores": list(cores),
            "max_khz": integer(found.get(f"{folder}/cpuinfo_max_freq")),
            "part": parts.get(cores[0]),
        }
        described.append({key: value for key, value in values.items() if value is not None})
    return described


def find_sensors(source: Source) -> dict[str, str]:
    """Return the file of each temperature: thermal zones by their type, a second of a type as ``TYPE-2``.

    A PC's firmware zone (acpitz) is not the processor's: where there is no other, hwmon's sensors come in.
    """
    zones = source.read_many(["/sys/class/thermal/thermal_zone*/type", "/sys/class/thermal/thermal_zone*/temp"])
    named = [(zones.get(f"{folder}/type") or folder.rpartition("/")[2], f"{folder}/temp") for folder in _folders(zones)]
    if {kind for kind, _ in named} <= {"acpitz"}:
        chips = source.read_many(["/sys/class/hwmon/hwmon*/name", "/sys/class/hwmon/hwmon*/temp*_label"])
        for path in sorted(source.read_many(["/sys/class/hwmon/hwmon*/temp*_input"])):
            folder, _, file = path.rpartition("/")
            label = chips.get(path.replace("_input", "_label")) or file.removesuffix("_input")
            named.append((f"{chips.get(f'{folder}/name', folder.rpartition('/')[2])} {label}", path))
    sensors: dict[str, str] = {}
    for name, path in named:
        same = sum(other == name for other, _ in named[: named.index((name, path))])
        sensors[f"{name}-{same + 1}" if same else name] = path
    return sensors


def find_supplies(source: Source) -> dict[str, str]:
    """Return the device's power supplies and what each is (Mains, USB, Battery, ...); a mouse's battery is not its."""
    found = source.read_many([f"{POWER}/*/type", f"{POWER}/*/scope"])
    return {
        folder.rpartition("/")[2]: found[f"{folder}/type"]
        for folder in _folders(found)
        if f"{folder}/type" in found and found.get(f"{folder}/scope") != "Device"
    }


def find_packages(source: Source) -> dict[str, tuple[str, int]]:
    """Return the counter of each processor package, with its name and the value at which it begins anew.

    Its cores and uncore are in it; its memory (dram) is beside it; psys, a whole laptop, holds packages and more.
    """
    folder = "/sys/class/powercap/intel-rapl:*"  # AMD's too
    found = source.read_many([f"{folder}/name", f"{folder}/max_energy_range_uj", f"{folder}/energy_uj"])
    packages: dict[str, tuple[str, int]] = {}
    for path in sorted(found):
        zone = path.removesuffix("/energy_uj")
        name, range_uj = found.get(f"{zone}/name", ""), integer(found.get(f"{zone}/max_energy_range_uj"))
        if zone != path and name.startswith("package") and range_uj:
            packages[path] = (name, range_uj)
    return packages
