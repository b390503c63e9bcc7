"""What a phone is: model, system, chip, clusters of cores; which of those attached is meant, which cores to take."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mobench.errors import BadInputError, MobenchError
from runners.adb import Adb, Attached, attached
from runners.android import elf
from runners.android.source import ask
from runners.device_files import integer
from runners.device_parts import CPU, describe_clusters

_BOOT = "/proc/sys/kernel/random/boot_id"
_FILES = (
    _BOOT,
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self/status",
    f"{CPU}/online",
    f"{CPU}/cpu[0-9]*/cpu_capacity",
    *(
        f"{folder}/{name}"
        for folder in (f"{CPU}/cpufreq/policy[0-9]*", f"{CPU}/cpu[0-9]*/cpufreq")
        for name in ("related_cpus", "scaling_max_freq", "cpuinfo_max_freq")
    ),
    "/sys/class/kgsl/kgsl-3d0/gpu_model",
)
# Only the compositor says which driver it draws with; the whole dump is long.
_COMMANDS = {"properties": "getprop", "gles": "dumpsys SurfaceFlinger | grep -m 1 GLES:"}
_FIXED_PERFORMANCE_SDK = 30  # Android 11 (PowerManagerShellCommand, set-fixed-performance-mode-enabled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """One phone at one moment.

    ``serial`` is what adb calls it, ``serialno`` what it calls itself (``ro.serialno``) over every cable; ``boot_id``
    changes with each restart. ``clusters`` are those of `describe_clusters`, the slowest first, each with the kernel's
    ``capacity`` (1024: the phone's fastest core at its highest clock) where it tells. ``cores`` are those that are
    switched on now and open to a shell's programs.
    """

    serial: str
    serialno: str
    manufacturer: str
    model: str
    android: str
    sdk: int
    soc: str
    abis: tuple[str, ...]
    fingerprint: str
    boot_id: str
    gpu: str | None
    memory_mb: int | None
    clusters: tuple[Mapping[str, Any], ...]
    cores: tuple[int, ...]

    @property
    def name(self) -> str:
        """Maker and model, as people say them."""
        named = self.model.lower().startswith(self.manufacturer.lower())
        return self.model if named else f"{self.manufacturer} {self.model}"

    @property
    def abi(self) -> str:
        """The ABI that runtimes and harness are taken for.

        Raises:
            BadInputError: it has none that mobench has a harness for.
        """
        for abi in self.abis:
            if abi in elf.ABIS:
                return abi
        why = f"it runs {', '.join(self.abis) or 'no known ABI'} only"
        raise BadInputError(f"{self.name} ({self.serial})", why, f"mobench needs {' or '.join(elf.ABIS)}")

    @property
    def has_fixed_performance(self) -> bool:
        """Whether its system is new enough to offer clocks that stay the same; the maker may have left them out."""
        return self.sdk >= _FIXED_PERFORMANCE_SDK


def describe(adb: Adb) -> Phone:
    """Ask a phone what it is, in one round trip.

    Raises:
        LinkError: it is out of reach.
        SessionError: its answer broke off.
    """
    found = ask(adb, _FILES, _COMMANDS)
    properties = dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]$", found.get("properties", ""), re.MULTILINE | re.DOTALL))

    def first(*names: str) -> str:
        return next((value for name in names if (value := properties.get(name, "").strip())), "")

    cpuinfo = found.get("/proc/cpuinfo", "")
    hardware = re.search(r"^Hardware\s*: (.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", found.get("/proc/meminfo", ""), re.MULTILINE)
    chip = first("ro.soc.model") or (hardware[1] if hardware else "") or first("ro.board.platform", "ro.hardware")
    return Phone(
        serial=adb.serial,
        serialno=first("ro.serialno", "ro.boot.serialno") or adb.serial,
        manufacturer=first("ro.product.manufacturer", "ro.product.brand"),
        model=first("ro.product.model", "ro.product.device") or "unknown",
        android=first("ro.build.version.release"),
        sdk=integer(first("ro.build.version.sdk")) or 0,
        soc=f"{first('ro.soc.manufacturer')} {chip}".strip(),
        abis=tuple(first("ro.product.cpu.abilist", "ro.product.cpu.abi").replace(",", " ").split()),
        fingerprint=first("ro.build.fingerprint"),
        boot_id=found.get(_BOOT, ""),
        gpu=_gpu(found, first("ro.hardware.vulkan", "ro.hardware.egl")),
        memory_mb=int(memory[1]) // 1024 if memory else None,
        clusters=tuple(_clusters(found)),
        cores=_cores(found),
    )


def _gpu(found: Mapping[str, str], driver: str) -> str | None:
    """Return the GPU as its driver calls itself, else as the kernel does, else the driver's name."""
    # "GLES: MAKER, RENDERER, OpenGL ES 3.2 ..."; a maker's name may hold a comma, and so may ANGLE's renderer.
    maker_and_name, _, rest = found.get("gles", "").partition("GLES:")[2].partition(", OpenGL")
    angle = maker_and_name.find("ANGLE (")
    name = maker_and_name[angle:] if angle >= 0 else maker_and_name.rpartition(",")[2]
    return (name.strip() if rest else found.get("/sys/class/kgsl/kgsl-3d0/gpu_model")) or driver or None


class _Answer:
    """What was read from a phone, as a source of its own."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def read_many(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return the texts whose paths match; a ``*`` stops at a slash, as in a shell."""
        return {
            path: text
            for path, text in self._texts.items()
            if any(path.count("/") == each.count("/") and fnmatch.fnmatchcase(path, each) for each in patterns)
        }


def _clusters(found: Mapping[str, str]) -> list[dict[str, Any]]:
    cpuinfo = found.get("/proc/cpuinfo", "")
    clusters = describe_clusters(_Answer(found), cpuinfo) or _clusters_by_part(cpuinfo)
    for cluster in clusters:
        capacity = integer(found.get(f"{CPU}/cpu{cluster['cores'][0]}/cpu_capacity"))
        if capacity is not None:
            cluster["capacity"] = capacity
    return sorted(clusters, key=_speed)


def _clusters_by_part(cpuinfo: str) -> list[dict[str, Any]]:
    """Group cores by their part where their clocks may not be read."""
    parts: dict[str, list[int]] = {}
    for block in re.split(r"\n\s*\n", cpuinfo):
        fields = dict(re.findall(r"^(processor|CPU implementer|CPU part)\s*: (\w+)", block, re.MULTILINE))
        if "processor" in fields:
            part = f"{fields.get('CPU implementer', '')}/{fields.get('CPU part', '')}"
            parts.setdefault(part, []).append(int(fields["processor"]))
    return [{"cores": cores} | ({"part": part} if part != "/" else {}) for part, cores in parts.items()]


def _speed(cluster: Mapping[str, Any]) -> tuple[int, int, int]:
    return cluster.get("capacity", 0), cluster.get("max_khz", 0), max(cluster["cores"])


def _cores(found: Mapping[str, str]) -> tuple[int, ...]:
    """Return the cores that are switched on and that a shell's programs may use; empty where neither is told."""
    allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)", found.get("/proc/self/status", ""), re.MULTILINE)
    lists = [parse_list(text) for text in (found.get(f"{CPU}/online", ""), allowed[1] if allowed else "") if text]
    return tuple(sorted(set.intersection(*map(set, lists)))) if lists else ()


def parse_list(text: str) -> list[int]:
    """Return the numbers of a kernel's list.

    >>> parse_list("0-2,5")
    [0, 1, 2, 5]
    """
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text)
    return [core for begin, end in ranges for core in range(int(begin), int(end or begin) + 1)]


def choose_cores(phone: Phone, threads: int) -> tuple[int, ...]:
    """Return the affinity mask for ``threads`` threads: fast cores, of one kind where a fast cluster has enough.

    Work that threads share waits for the slowest of them, so cores of two kinds make a figure that is neither's. One
    thread gets the fastest core, often a prime core alone in its cluster. Several get the fastest cluster that has so
    many cores; the slowest cluster (the little cores) does not compete, since nobody asks for several threads in order
    to be slower. Where no fast cluster has enough, they are the fastest cores there are, and kinds mix: four threads
    on one prime, three big and four little cores get the prime and the big ones.

    Of equal cores those of the highest numbers are taken: low-numbered ones serve most interrupts. More threads than
    cores get all. Empty, the system's choice, only where a phone tells nothing of its cores.
    """
    known = phone.cores or [core for cluster in phone.clusters for core in cluster["cores"]]
    usable = [[core for core in cluster["cores"] if core in known] for cluster in phone.clusters]
    fastest_first = [cores for cores in reversed(usable) if cores]
    if not fastest_first:
        return phone.cores
    for cores in fastest_first[:-1] or fastest_first:
        if len(cores) >= threads:
            return tuple(sorted(cores)[-threads:])
    return tuple(sorted([core for cores in fastest_first for core in sorted(cores, reverse=True)][:threads]))


def find(serials: Sequence[str] = (), program: str = "adb") -> tuple[Phone, ...]:
    """Return the phones that are meant, each once, also where it is attached over USB and Wi-Fi.

    Args:
        serials: adb's names of them, or their own (``ro.serialno``); none: $ANDROID_SERIAL, else the only one attached.
        program: adb.

    Raises:
        BadInputError: none is attached or ready, several are and none is named, or a named one is not there.
    """
    there = attached(program)
    wanted = list(serials) or [name for name in [os.environ.get("ANDROID_SERIAL", "")] if name]
    named = {each.serial: each for each in there}
    for name in wanted:
        if name in named and named[name].state != "device":
            raise _not_ready(named[name])
    by_adb = bool(wanted) and all(name in named for name in wanted)  # then there is no need to ask the others
    phones: list[Phone] = []
    for serial in wanted if by_adb else [each.serial for each in there if each.state == "device"]:
        try:
            phones.append(describe(Adb(serial, program=program)))
        except MobenchError:
            if by_adb or not wanted:
                raise
    if wanted:
        by_name = {phone.serialno: phone for phone in phones} | {phone.serial: phone for phone in phones}
        for name in wanted:
            if name not in by_name:
                listed = ", ".join(named) or "none"
                raise BadInputError(
                    f"phone {name}", f"it is not attached; there are: {listed}", "see `mobench devices`"
                )
        return merge([by_name[name] for name in wanted])
    if not phones and there:
        raise _not_ready(there[0])
    if not phones:
        mend = "plug one in, with USB debugging on in its developer options; then `mobench devices`"
        raise BadInputError("no phone", "adb sees none", mend)
    once = merge(phones)
    if len(once) > 1:
        listed = ", ".join(f"{phone.serial} ({phone.name})" for phone in once)
        raise BadInputError("several phones are attached", listed, "name those to use: --serial SERIAL")
    return once


def merge(phones: Sequence[Phone]) -> tuple[Phone, ...]:
    """Return each phone once. One that is attached twice is known by its own number and its boot; USB goes first.

    The number alone does not do: all emulators have the same.
    """
    once: dict[tuple[str, str], Phone] = {}
    for phone in sorted(phones, key=lambda phone: _over_network(phone.serial)):
        once.setdefault((phone.serialno, phone.boot_id or phone.serial), phone)
    return tuple(phone for phone in phones if phone in once.values())


def _over_network(serial: str) -> bool:
    return ":" in serial or "._adb-tls" in serial


def _not_ready(phone: Attached) -> BadInputError:
    return BadInputError(f"phone {phone.serial}", f"its state is {phone.state}", phone.mend)
