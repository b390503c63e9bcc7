"""What a stand-in has: files, properties, services, programs and storage, in a folder of this host."""

from __future__ import annotations

import contextlib
import itertools
import platform
import resource
import shutil
import uuid
from pathlib import Path

from standin import programs
from standin.profiles import Profile, load
from standin.server import processes_with
from standin.tools import vulkan

MARK = "STANDIN_DEVICE"  # in the environment of every process a phone starts
_SHARED_STORAGE = ("/sdcard", "/storage")  # mounted noexec
_numbers = itertools.count()


class Belongings:
    """A phone's belongings; ``root`` is its ``/``. Each method may be called from the test's thread."""

    received_bytes = 0  # of files that were pushed

    def __init__(self, profile: str, folder: Path, serialno: str | None) -> None:
        """Touches nothing yet."""
        self.profile: Profile = load(profile)
        number = next(_numbers)
        self.base = folder / f"phone-{number}"
        self.root = self.base / "root"
        self.serialno = serialno or f"{self.profile.serialno}{number:02d}"
        self.shell = shutil.which("mksh") or "/bin/sh"  # Android's own, where the host has it
        self._driver = vulkan() or {}
        self.libraries = self._driver.get("LD_LIBRARY_PATH", "")
        self._state = self.base / "state"
        self._full: int | None = None  # bytes that still fit; None: as many as the host's
        self._noexec: list[str] = [*_SHARED_STORAGE]
        self._forbidden: list[Path] = []  # what ran before nothing might

    def path(self, path: str) -> Path:
        """Return where a path of the phone's lies on this host."""
        return self.root / path.lstrip("/")

    def set_file(self, path: str, text: str) -> None:
        """Write one of its files, for example a clock under /sys."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_text(text)
        fresh.replace(target)  # whoever reads sees the old text or the new

    def set_service(self, name: str, text: str | None) -> None:
        """Set what ``dumpsys NAME`` prints; None: there is no such service."""
        target = self._state / "services" / name
        if text is None:
            target.unlink(missing_ok=True)
            return
        fresh = target.with_name(f".{name}.new")
        fresh.write_text(text)
        fresh.replace(target)

    def getprop(self, name: str) -> str:
        """Return a property, as ``getprop NAME`` prints it; empty where there is none."""
        return self._properties().get(name, "")

    def setprop(self, name: str, value: str) -> None:
        """Set a property, whatever its name."""
        properties = self._properties() | {name: value}
        fresh = self._state / ".props.new"
        fresh.write_text("".join(f"{key}={text}\n" for key, text in sorted(properties.items())))
        fresh.replace(self._state / "props")

    def _properties(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self._state / "props").read_text().splitlines())

    def setting(self, name: str) -> str:
        """Return what a program of the phone's has set, for example ``fixed_performance``; empty where nothing."""
        file = self._state / name
        return file.read_text().strip() if file.exists() else ""

    @property
    def boot_id(self) -> str:
        """The kernel's name for the time since it started."""
        return self.path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def processes(self) -> list[int]:
        """Return the living processes that its shell has started, and theirs."""
        return processes_with(f"{MARK}={self.root}")

    def programs_running(self) -> list[int]:
        """Return those of them that run a file which was pushed."""
        return [pid for pid in self.processes() if self._runs_a_pushed_file(pid)]

    def fill_storage(self, left: int = 0) -> None:
        """Let only ``left`` more bytes fit."""
        self._full = left
        self._tell_room()

    def free_storage(self) -> None:
        """Let everything fit again."""
        self._full = None
        self._tell_room()

    def noexec(self, folder: str = "/data/local/tmp") -> None:
        """Let nothing in a folder be run."""
        self._noexec.append(folder)
        self._write_noexec()
        for path in self.path(folder).rglob("*"):
            if path.is_file() and path.stat().st_mode & 0o111:
                path.chmod(0o660)
                self._forbidden.append(path)

    def allow_programs(self) -> None:
        """Let everything be run again but what lies on shared storage."""
        self._noexec = [*_SHARED_STORAGE]
        self._write_noexec()
        while self._forbidden:
            path = self._forbidden.pop()
            if path.exists():
                path.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """Return the environment of the phone's programs: its own, and where its GPU's driver is."""
        return {
            "PATH": str(self.path("/system/bin")),
            "HOME": str(self.root),
            "TMPDIR": str(self.path("/data/local/tmp")),
            "STANDIN_STATE": str(self._state),
            "STANDIN_ROOT": str(self.root),
            MARK: str(self.root),
            **self._driver,
        }

    def preamble(self) -> str:
        """Return what comes before every command: on a full storage no file grows, and to try is an error."""
        return "trap '' XFSZ; " + ("ulimit -S -f 0; " if self._full == 0 else "")

    def is_noexec(self, path: str) -> bool:
        """Say whether a path lies where nothing may be run."""
        return any(path == folder or path.startswith(f"{folder}/") for folder in self._noexec)

    def room(self) -> bool:
        """Say whether a file can be made."""
        return self._full is None or self._full > 0

    def take_room(self, count: int) -> bool:
        """Take storage for ``count`` bytes; say whether there was enough."""
        self.received_bytes += count
        if self._full is None:
            return True
        if count > self._full:
            self.fill_storage()
            return False
        self.fill_storage(self._full - count)
        return True

    def _furnish(self) -> None:
        """Make the phone's folders, files, properties and programs."""
        for folder in ("data/local/tmp", "sdcard/Download", "system/bin"):
            (self.root / folder).mkdir(parents=True)
        (self._state / "services").mkdir(parents=True)
        abi = {"x86_64": "x86_64", "aarch64": "arm64-v8a"}.get(platform.machine(), platform.machine())
        props = {
            **self.profile.properties,
            "ro.serialno": self.serialno,
            "ro.product.cpu.abi": abi,
            "ro.product.cpu.abilist": abi,
            "sys.boot_completed": "1",
        }
        (self._state / "props").write_text("".join(f"{key}={value}\n" for key, value in sorted(props.items())))
        for path, text in self.profile.files().items():
            self.set_file(path, text)
        self.set_file("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n")
        for name in ("stat", "uptime", "loadavg"):  # what changes all the time is the host's
            (self.root / "proc" / name).symlink_to(f"/proc/{name}")
        for name, text in self.profile.services.items():
            self.set_service(name, text)
        programs.install(self.root / "system/bin", self.profile)
        (self.root / "system/bin/sh").symlink_to(self.shell)
        if self.profile.fixed_performance:
            (self._state / "offers_fixed_performance").touch()
        self._tell_room()
        self._write_noexec()

    def _tell_room(self) -> None:
        """Write what ``df`` prints, in KiB, and hold what runs to it."""
        free = self._full if self._full is not None else shutil.disk_usage(self.root).free
        (self._state / "free_kb").write_text(f"{free // 1024}\n")
        for pid in self.processes():
            with contextlib.suppress(OSError):
                _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0 if self._full == 0 else most, most))

    def _runs_a_pushed_file(self, pid: int) -> bool:
        try:
            return str(Path(f"/proc/{pid}/exe").readlink()).startswith(f"{self.root}/data/")
        except OSError:
            return False

    def _write_noexec(self) -> None:
        (self._state / "noexec").write_text("".join(f"{folder}\n" for folder in self._noexec))
