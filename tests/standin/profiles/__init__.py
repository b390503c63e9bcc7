"""Phones as they tell of themselves: properties, services, files.

None is a recording. They are written from the documented formats of `getprop`, `dumpsys`, cpufreq's and the thermal
zones' files and `/proc/cpuinfo`, with the clocks, cores and parts that the makers publish for the chip; temperatures
and charges are made up.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

NAMES = ("pixel", "samsung", "android9")
_CPU = "/sys/devices/system/cpu"
# MIDR_EL1's part numbers of Arm's own cores (implementer 0x41), from their technical reference manuals.
PARTS = {
    "A53": 0xD03,
    "A55": 0xD05,
    "A73": 0xD09,
    "A76": 0xD0B,
    "A510": 0xD46,
    "A710": 0xD47,
    "X1": 0xD44,
    "A715": 0xD4D,
    "X3": 0xD4E,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Cores that share a clock."""

    cores: tuple[int, ...]
    part: str  # of PARTS
    min_khz: int
    max_khz: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One phone."""

    serialno: str
    properties: Mapping[str, str]
    services: Mapping[str, str]  # what `dumpsys NAME` prints
    clusters: tuple[Cluster, ...]
    features: str  # of /proc/cpuinfo
    hardware: str  # its last line; empty where the kernel prints none
    memory_kb: int
    governor: str
    zones: Mapping[str, int] = field(default_factory=dict)  # thermal zones that may be read, in millidegrees
    more_files: Mapping[str, str] = field(default_factory=dict)
    fixed_performance: bool = True
    shell_v2: bool = True
    lacks: tuple[str, ...] = ()  # programs

    def files(self) -> dict[str, str]:
        """Return the texts of its files by path."""
        cores = f"0-{sum(len(cluster.cores) for cluster in self.clusters) - 1}"
        files = {
            "/proc/cpuinfo": self._cpuinfo(),
            "/proc/meminfo": f"MemTotal:       {self.memory_kb} kB\nMemFree:          312000 kB\n"
            f"MemAvailable:    {self.memory_kb // 2} kB\n",
            "/proc/sys/kernel/ostype": "Linux\n",
            "/proc/sys/kernel/osrelease": f"{self.properties['ro.kernel.version']}-android\n",
            f"{_CPU}/possible": f"{cores}\n",
            f"{_CPU}/online": f"{cores}\n",
            "/proc/self/status": f"Name:\tcat\nCpus_allowed_list:\t{cores}\n",  # no program's but the one that reads it
        }
        for cluster in self.clusters:
            folder = f"{_CPU}/cpufreq/policy{cluster.cores[0]}"
            files |= {
                f"{folder}/related_cpus": " ".join(map(str, cluster.cores)) + "\n",
                f"{folder}/affected_cpus": " ".join(map(str, cluster.cores)) + "\n",
                f"{folder}/scaling_governor": f"{self.governor}\n",
                f"{folder}/scaling_cur_freq": f"{cluster.min_khz}\n",
                f"{folder}/scaling_min_freq": f"{cluster.min_khz}\n",
                f"{folder}/scaling_max_freq": f"{cluster.max_khz}\n",
                f"{folder}/cpuinfo_min_freq": f"{cluster.min_khz}\n",
                f"{folder}/cpuinfo_max_freq": f"{cluster.max_khz}\n",
            }
        for number, (kind, millidegrees) in enumerate(self.zones.items()):
            files[f"/sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
            files[f"/sys/class/thermal/thermal_zone{number}/temp"] = f"{millidegrees}\n"
        return files | dict(self.more_files)

    def _cpuinfo(self) -> str:
        blocks = [
            f"processor\t: {core}\nBogoMIPS\t: 38.40\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {PARTS[cluster.part]:#05x}\nCPU revision\t: 0\n"
            for cluster in self.clusters
            for core in cluster.cores
        ]
        return "\n".join(blocks) + (f"\nHardware\t: {self.hardware}\n" if self.hardware else "")


def load(name: str) -> Profile:
    """Return the phone of a name of ``NAMES``."""
    profile: Profile = importlib.import_module(f"standin.profiles.{name}").PROFILE
    return profile


def battery(*, level: int, tenths_c: int, usb: bool, charge_uah: int, technology: str = "Li-ion") -> str:
    """Return what ``dumpsys battery`` prints (BatteryService.dumpInternal)."""
    powered = str(usb).lower()
    return f"""Current Battery Service state:
  AC powered: false
  USB powered: {powered}
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: {charge_uah}
  status: {2 if usb else 3}
  health: 2
  present: true
  level: {level}
  scale: 100
  voltage: 4212
  temperature: {tenths_c}
  technology: {technology}
"""


def thermal(status: int, temperatures: Mapping[str, tuple[float, int]], *, cooling: Mapping[str, int]) -> str:
    """Return what ``dumpsys thermalservice`` prints (ThermalManagerService.dump, Android 10 and later).

    Args:
        status: 0 none to 6 shutdown.
        temperatures: degrees Celsius and type by sensor (0 CPU, 1 GPU, 2 battery, 3 skin, 4 USB, 5 power amplifier).
        cooling: the state of each cooling device.
    """
    values = [
        f"\tTemperature{{mValue={value}, mType={kind}, mName={name}, mStatus={status if kind == 3 else 0}}}"
        for name, (value, kind) in temperatures.items()
    ]
    devices = [f"\tCoolingDevice{{mValue={value}, mType=2, mName={name}}}" for name, value in cooling.items()]
    lines = [
        *("IsStatusOverride: false", "ThermalEventListeners:", "\tcallbacks: 2", "\tkilled: false"),
        *("\tbroadcasts count: -1", "ThermalStatusListeners:", "\tcallbacks: 1", "\tkilled: false"),
        *("\tbroadcasts count: -1", f"Thermal Status: {status}", "Cached temperatures:", *values),
        *("HAL Ready: true", "HAL connection:", "\tThermalHAL 2.0 connected: yes"),
        *("Current temperatures from HAL:", *values, "Current cooling devices from HAL:", *devices),
        "",
    ]
    return "\n".join(lines)


def power(*, awake: bool = True, interactive: bool = True) -> str:
    """Return the head of what ``dumpsys power`` prints (PowerManagerService.dumpInternal)."""
    return f"""POWER MANAGER (dumpsys power)

Power Manager State:
  mDirty=0x0
  mWakefulness={"Awake" if awake else "Asleep"}
  mWakefulnessChanging=false
  mIsPowered=true
  mPlugType=2
  mBatteryLevel=80
  mDeviceIdleMode=false
  mInteractive={str(interactive).lower()}
  mStayOn=false

Display Power: state={"ON" if awake else "OFF"}
"""
