"""What a device is and what it does meanwhile, read from its own files; a value it does not tell is absent.

The files are Linux's, and so Android's; `Source` says where they lie. Elsewhere (macOS) everything is absent but what
Python knows.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

from mobench.records import Cluster, DeviceState
from runners import dumpsys
from runners.device_files import Files, Source, family, integer, integers, process_fields
from runners.device_parts import (
    CPU,
    POWER,
    describe_clusters,
    find_clusters,
    find_packages,
    find_sensors,
    find_supplies,
)

# A package's energy counter moves about once a millisecond (Intel SDM vol. 3B, 14.9.3, MSR_PKG_ENERGY_STATUS). Either
# end of a span may so be late by that much: a difference is right to within 1 ms at the span's own power.
ENERGY_UPDATE_S = 1e-3
# The instruction sets that decide which kernels a runtime picks.
_EXTENSIONS = (
    *("fma", "f16c", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme", "sme2"),
)
_CLOCK_FILES = ("scaling_governor", "scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
_BATTERY_FILES = ("status", "capacity", "charge_counter", "charge_now", "temp")
_THERMAL = "dumpsys:thermalservice"
_BATTERY = "dumpsys:battery"
_POWER = "dumpsys:power"
_BOARD = "/proc/device-tree/model"
_MACHINE = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/kernel/ostype",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/arch",
    "/etc/os-release",
    "/sys/hypervisor/type",
    "/sys/class/dmi/id/sys_vendor",
    "/proc/device-tree/hypervisor/compatible",
    _BOARD,
    f"{CPU}/present",
    f"{CPU}/cpu0/cpufreq/scaling_governor",
)
_LOAD = ("/proc/stat", "/proc/loadavg", "/proc/meminfo", _THERMAL, _BATTERY, _POWER)
_MIN_TICKS = 50  # a share is of at least half a second: of less, single ticks of 10 ms would be percents


class _Ticks(NamedTuple):
    """CPU time since boot, over all cores, in ticks of 10 ms; ``ours`` is None where no process of ours is seen."""

    cores: int
    total: int
    busy: int
    steal: int
    ours: int | None


class Watch:
    """Takes states of one device; between two it keeps the counters whose differences they give.

    A state costs 0.8 ms of CPU time with eight child processes of five threads each, and beside that 5 us, and what
    its driver takes, for each file (four a cluster, one a sensor); Xeon virtual machine, 2026-11-22.
    """

    def __init__(self, source: Source | None = None, processes: Callable[[], Collection[int]] | None = None) -> None:
        """Look up what there is to read, and begin to count.

        Args:
            source: the device's files; this machine's where None.
            processes: the ids of the processes that are ours now; this one and its descendants where None. What a
                process's ended and awaited children took counts with it.
        """
        self._source = source = source or Files()
        self._processes = processes or (lambda: family(source, os.getpid()))
        self._clusters = find_clusters(source)
        self._sensors = find_sensors(source)
        supplies = find_supplies(source)
        self._mains = [f"{POWER}/{name}/online" for name, kind in supplies.items() if kind not in ("Battery", "UPS")]
        self._battery = next((f"{POWER}/{name}" for name, kind in supplies.items() if kind == "Battery"), None)
        battery = [f"{self._battery}/{name}" for name in _BATTERY_FILES] if self._battery else []
        clocks = [f"{folder}/{name}" for folder in self._clusters.values() for name in _CLOCK_FILES]
        self._paths = [*_LOAD, *clocks, *self._sensors.values(), *self._mains, *battery]
        self._ranges = find_packages(source)  # by energy_uj's path
        self._raw_uj: dict[str, int] = {}
        self._energy_uj: dict[str, int] = {}
        self.energy_uj()
        pids = self._processes()
        found = source.read_many(["/proc/stat", *(f"/proc/{pid}/stat" for pid in pids)])
        self._ticks = _ticks(found, pids)

    def state(self, when: Literal["before", "during", "after"], t_s: float) -> DeviceState:
        """Read the device's state at ``t_s`` seconds of the campaign, in one round trip.

        The shares are since the state before, the first one's since this Watch was made. Where that is under half a
        second they are None, and the next state's are over that span too. They are counted in ticks of 10 ms: right to
        about one tick a core and a process of ours.
        """
        pids = self._processes()
        found = self._source.read_many([*self._paths, *self._ranges, *(f"/proc/{pid}/stat" for pid in pids)])
        self._count_energy(found)
        others, steal = self._shares(_ticks(found, pids))
        status, hal_c = dumpsys.thermal(found.get(_THERMAL, ""))
        power, percent, charge_uah, battery_c = self._supply(found)
        temps_c = {name: c for name, path in self._sensors.items() if (c := _celsius(found.get(path))) is not None}
        if battery_c is not None:
            temps_c["battery"] = battery_c
        temps_c |= hal_c  # the drivers' zones go last: nobody has seen to their units
        load = found.get("/proc/loadavg", "").split()
        return DeviceState(
            when=when,
            t_s=t_s,
            clusters=tuple(_cluster(cores, folder, found) for cores, folder in self._clusters.items()),
            temps_c=temps_c,
            thermal_status=status,
            load_1m=float(load[0]) if load and re.fullmatch(r"\d{1,6}\.\d+", load[0]) else None,
            others_share=others,
            steal_share=steal,
            memory_available_mb=_available_mb(found),
            power=power,
            screen=dumpsys.screen(found.get(_POWER, "")),
            battery_percent=percent,
            charge_uah=charge_uah,
            energy_uj={self._ranges[path][0]: uj for path, uj in self._energy_uj.items()},
        )

    def steal_ticks(self) -> int:
        """Return the time a hypervisor gave to others since boot, machine-wide, in ticks of 10 ms; 0 where unknown."""
        stat = self._source.read_many(["/proc/stat"]).get("/proc/stat", "")
        values = stat.partition("\n")[0].split()  # two readings a block: the short way
        return int(values[8]) if len(values) > 8 and values[8].isdecimal() else 0

    def memory_available_mb(self) -> int | None:
        """Return how much memory is free for programs, in MiB; None where unknown."""
        return _available_mb(self._source.read_many(["/proc/meminfo"]))

    def energy_uj(self) -> int | None:
        """Return the energy the processor packages have taken, in uJ from any zero; None where they do not tell.

        It only grows: wrap-around is undone, so that two readings may be subtracted. For that it, or a state, must be
        asked for once a minute. It is the whole machine's energy, whatever ran. A difference is off by what is
        taken in one step of the counter, ``ENERGY_UPDATE_S``. Two packages cost 10 us.
        """
        if not self._ranges:
            return None
        self._count_energy(self._source.read_many(list(self._ranges)))
        return sum(self._energy_uj.values()) if self._ranges else None

    def _count_energy(self, found: Mapping[str, str]) -> None:
        for path, (_, range_uj) in list(self._ranges.items()):
            raw = integer(found.get(path))
            if raw is None:  # only root may read it, or it has gone: a sum over the others would be another quantity
                self._ranges, self._energy_uj = {}, {}
                return
            before = self._raw_uj.get(path, raw)
            self._energy_uj[path] = self._energy_uj.get(path, raw) + energy_between(before, raw, range_uj)
            self._raw_uj[path] = raw

    def _shares(self, ticks: _Ticks | None) -> tuple[float | None, float | None]:
        before = self._ticks
        if ticks is None or before is None or ticks.total - before.total < _MIN_TICKS * ticks.cores:
            return None, None
        self._ticks = ticks
        total = ticks.total - before.total
        others = None
        if ticks.ours is not None and before.ours is not None:
            # A child that has left us for another parent takes its past along: what is missing is not the others'.
            others = _share(ticks.busy - before.busy - max(0, ticks.ours - before.ours), total)
        return others, _share(ticks.steal - before.steal, total)

    def _supply(
        self, found: Mapping[str, str]
    ) -> tuple[Literal["mains", "battery"] | None, int | None, int | None, float | None]:
        """Return power source, battery percent, charge and temperature: the kernel's word, else Android's.

        ``mains`` means that there is another source than the battery, so that the charge does not tell what was taken.
        """
        power, percent, charge_uah, battery_c = dumpsys.battery(found.get(_BATTERY, ""))
        online = [found[path] == "1" for path in self._mains if path in found]
        status = found.get(f"{self._battery}/status")
        if any(online) or (not online and status in ("Charging", "Full", "Not charging")):
            power = "mains"
        elif self._battery and (online or status == "Discharging"):
            power = "battery"
        if self._battery:
            of = {name: integer(found.get(f"{self._battery}/{name}")) for name in _BATTERY_FILES}
            percent = percent if of["capacity"] is None else of["capacity"]
            charge_uah = of["charge_counter"] or of["charge_now"] or charge_uah
            battery_c = battery_c if of["temp"] is None else of["temp"] / 10
        return power, percent, charge_uah, battery_c


def _share(part: int, total: int) -> float:
    return round(min(1.0, max(0.0, part / total)), 4)


def _cluster(cores: tuple[int, ...], folder: str, found: Mapping[str, str]) -> Cluster:
    return Cluster(
        cores=cores,
        governor=found.get(f"{folder}/scaling_governor"),
        freq_khz=integer(found.get(f"{folder}/scaling_cur_freq")),
        cap_khz=integer(found.get(f"{folder}/scaling_max_freq")),
        max_khz=integer(found.get(f"{folder}/cpuinfo_max_freq")),
    )


def _celsius(text: str | None) -> float | None:
    """Turn a kernel's millidegrees into degrees.

    Absolute zero and below is its way to say that it does not know. Less than a degree, on either side of 0, is a
    driver that tells degrees or tenths of them, or nothing.
    """
    milli = integer(text)
    return None if milli is None or milli <= -273_000 or abs(milli) < 1_000 else milli / 1000


def _energy(source: Source) -> dict[str, Any] | None:
    ranges_uj = dict(find_packages(source).values())
    return {"range_uj": ranges_uj, "update_s": ENERGY_UPDATE_S} if ranges_uj else None


def _ticks(found: Mapping[str, str], pids: Collection[int]) -> _Ticks | None:
    """Read the machine's CPU ticks, and those of our processes and of their ended and awaited children."""
    stat = found.get("/proc/stat", "")
    values = integers(stat.partition("\n")[0])[:8]
    if len(values) < 8:
        return None
    user, nice, system, _, _, irq, softirq, steal = values
    ours = [fields for pid in pids if (fields := process_fields(found.get(f"/proc/{pid}/stat", "")))]
    return _Ticks(
        cores=len(re.findall(r"^cpu\d", stat, re.MULTILINE)),
        total=sum(values),
        busy=user + nice + system + irq + softirq,
        steal=steal,
        ours=sum(sum(fields[1:]) for fields in ours) if ours else None,
    )


def _available_mb(found: Mapping[str, str]) -> int | None:
    available = re.search(r"^MemAvailable:\s*(\d{1,15}) kB", found.get("/proc/meminfo", ""), re.MULTILINE)
    return int(available[1]) // 1024 if available else None


def _count_cores(found: Mapping[str, str]) -> int | None:
    """Return how many cores there are; cpuinfo leaves out those that a phone has switched off for now."""
    present = re.findall(r"(\d+)(?:-(\d+))?", found.get(f"{CPU}/present", ""))
    listed = len(re.findall(r"^processor\s*:", found.get("/proc/cpuinfo", ""), re.MULTILINE))
    return sum(int(last or first) - int(first) + 1 for first, last in present) or listed or None


def energy_between(before_uj: int, after_uj: int, range_uj: int) -> int:
    """Return what a package's raw counter rose by; it begins anew at ``range_uj`` (``max_energy_range_uj``)."""
    return after_uj - before_uj + (range_uj if after_uj < before_uj else 0)


def machine(source: Source | None = None) -> dict[str, Any]:
    """Describe a device: this machine, or the one whose files ``source`` reads.

    CPU model, cores, clusters (``max_khz``), vector extensions, microcode, hypervisor, memory, kernel, system,
    governor, power supplies, and the energy counters (``range_uj``, and ``update_s``, which makes their error).
    """
    info: dict[str, Any] = {}
    if source is None:
        source = Files()
        info = {
            "cpu": platform.processor() or platform.machine(),
            "arch": platform.machine(),
            "cores": os.cpu_count(),
            "kernel": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
        }
    found = source.read_many(_MACHINE)
    fields: dict[str, str] = {}
    for line in found.get("/proc/cpuinfo", "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    names = (fields.get("model name"), fields.get("Hardware"), found.get(_BOARD), info.get("cpu"), "unknown")
    info["cpu"] = next(name for name in names if name)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    info["extensions"] = [name for name in _EXTENSIONS if name in flags]
    hypervisor = found.get("/sys/hypervisor/type") or found.get("/proc/device-tree/hypervisor/compatible")
    info["virtual"] = "hypervisor" in flags or hypervisor is not None
    if info["virtual"]:  # else the vendor is that of the computer, or of a cloud that also rents whole machines
        hypervisor = hypervisor or found.get("/sys/class/dmi/id/sys_vendor")
    memory = re.search(r"^MemTotal:\s*(\d{1,15}) kB", found.get("/proc/meminfo", ""), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="?([^"\n]+)', found.get("/etc/os-release", ""), re.MULTILINE)
    kernel = [found[path] for path in ("/proc/sys/kernel/ostype", "/proc/sys/kernel/osrelease") if path in found]
    info.setdefault("arch", found.get("/proc/sys/kernel/arch"))
    info.setdefault("cores", _count_cores(found))
    info.setdefault("kernel", " ".join(kernel) or None)
    info |= {
        "memory_mb": int(memory[1]) // 1024 if memory else None,
        "governor": found.get(f"{CPU}/cpu0/cpufreq/scaling_governor"),
        "microcode": fields.get("microcode"),
        "hypervisor": hypervisor,
        "os": system[1] if system else None,
        "clusters": describe_clusters(source, found.get("/proc/cpuinfo", "")),
        "power_supplies": find_supplies(source),
        "energy": _energy(source),
    }
    return {
        key: value for key, value in info.items() if value not in (None, {}) and (value != [] or key == "extensions")
    }
