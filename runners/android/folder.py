"""mobench's folder on a phone: files pushed once and verified, folders of live sessions, and nothing else left behind.

``files/DIGEST/NAME`` are pushed files by what they hold. ``run/NAME-TOKEN`` is one session's folder, or one push's: in
``owner`` the process of a host that made it, in ``stat`` the phone's process that works in it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shlex
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobench.errors import BadInputError, LinkError, SessionError
from runners.adb import Adb

ROOT = "/data/local/tmp/mobench"  # where adb's user may write and run programs; /sdcard is mounted noexec
LIMIT_MB = 2048
SPARE_KB = 64 << 10  # storage that a push leaves free: a full phone misbehaves
# A link that hangs is not waited for longer than the slowest Wi-Fi takes: so many seconds, and one more for each MB.
TRANSFER_S = 20.0
SCRIPT_S = 30.0
AGAIN_S = 5.0  # where the link was lost: a mute one is not waited for once a session, and `clean` does what is left
# Android 8 and later has sha256sum; before, toybox brought only the others.
_SUMS = 'sums() { sha256sum "$@" 2>/dev/null || sha1sum "$@" 2>/dev/null || md5sum "$@"; }'
_ALGORITHMS = {64: "sha256", 40: "sha1", 32: "md5"}
# lives: is the process there whose /proc/PID/stat was copied into this file? The same id and the same start (field 22,
# the 20th behind the name): an id alone may be another process's by now. A dead one that nobody waits for is a Z.
# end: kill it; `left` where that fails.
_PROCESS = """lives() {
read -r p t <"$1" && read -r q u <"/proc/$p/stat" && set -- ${t##*) } && s=${20} && set -- ${u##*) } || return 1
[ -n "$s" ] && [ "$1" != Z ] && [ "$s" = "${20}" ]
} 2>/dev/null
end() {
n=0
while lives "$1"; do [ $n -lt 20 ] || { echo left; return; }; n=$((n+1)); kill -9 $p; sleep 0.1 || sleep 1; done
} 2>/dev/null"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Pushed files that belong together: the name of their folder and their size."""

    name: str
    size_kb: int


class Folder:
    """What this process has put on one phone; one Folder a phone.

    ``running`` are, by their folders there, the ids of its sessions' processes on the phone.
    """

    def __init__(self, adb: Adb, root: str = ROOT, limit_mb: int = LIMIT_MB) -> None:
        """Touches nothing yet.

        Args:
            adb: the phone.
            root: the folder on the phone; made when it is needed.
            limit_mb: MiB that pushed files may take; beyond that the least recently used go.
        """
        self.root, self.limit_mb = root, limit_mb
        self.running: dict[str, frozenset[int]] = {}
        self._adb = adb
        self._used: set[str] = set()  # entries that this process has verified; they stay
        self._scratch: set[str] = set()
        self._left_behind = False  # by a lost link; it might still run beside what is measured next
        self._sums: dict[tuple[Path, int, int, str], str] = {}
        self._lock = threading.RLock()

    def put(self, path: Path, *, executable: bool = False) -> str:
        """Bring a file onto the phone, unless it is there; return its path there.

        Raises:
            BadInputError: the file cannot be read.
            LinkError: the phone is out of reach.
            SessionError: no room, or what arrived is not what was sent.
        """
        return f"{self._put([path], executable=executable)}/{safe_name(path)}"

    def put_together(self, paths: Sequence[Path]) -> str:
        """Bring files onto the phone, unless they are there; return the folder that holds exactly them.

        Raises:
            BadInputError: two have the same name, or one cannot be read.
            LinkError: the phone is out of reach.
            SessionError: no room, or what arrived is not what was sent.
        """
        if len({safe_name(path) for path in paths}) < len(paths):
            raise BadInputError(", ".join(path.name for path in paths), "two have the same name", "rename one")
        return self._put(paths)

    def processes(self) -> frozenset[int]:
        """Return the ids, on the phone, of what runs there for this process."""
        return frozenset().union(*self.running.values())

    def lose(self) -> None:
        """Note that the link is lost: the next session ends what was left running, and nobody waits long for it now."""
        self._left_behind = True

    def forget(self) -> None:
        """Look again at what is on the phone before relying on it: somebody may have emptied the folder."""
        self._used.clear()

    def scratch(self, name: str) -> str:
        """Make and return a folder for one session's own files; `remove`, or a later process's `clean`, removes it."""
        folder = f"{self.root}/run/{re.sub(r'[^A-Za-z0-9]+', '-', name)[:40]}-{secrets.token_hex(4)}"
        d = shlex.quote(folder)
        if self._left_behind:
            self.clean()
        self._shell(f"mkdir -p {d} && echo {shlex.quote(_owner())} >{d}/owner", what="no folder can be made in it")
        self._scratch.add(folder)
        return folder

    def remove(self, folder: str) -> None:
        """End what still runs for a folder that `scratch` gave, and remove it.

        Raises:
            LinkError: the phone is out of reach; the next `scratch` or `clean` does it.
            SessionError: its process cannot be ended.
        """
        self._remove(folder, AGAIN_S if self._left_behind else SCRIPT_S)

    def _remove(self, folder: str, deadline_s: float) -> None:
        self._scratch.discard(folder)
        d = shlex.quote(folder)
        script = f'{_PROCESS}\nl=$(end {d}/stat); if [ -n "$l" ]; then echo left; else rm -rf {d}; fi'
        # Not tried again: sessions are closed one after the other, and on a lost link each would wait for it.
        try:
            said = self._shell(script, what="it cannot be removed", idempotent=False, deadline_s=deadline_s)
        except LinkError:
            self._left_behind = True
            raise
        if "left" in said:
            raise SessionError(f"phone {self._adb.serial}", f"{folder}: its process cannot be ended", "restart it")

    def holds(self, folder: str, paths: Sequence[Path]) -> bool:
        """Return whether a folder on the phone has these files under their names, by their sums.

        Raises:
            LinkError: the phone is out of reach.
        """
        names = " ".join(shlex.quote(safe_name(path)) for path in paths)
        script = f"{_SUMS}\ncd {shlex.quote(folder)} 2>/dev/null || exit 0\ntouch .; sums {names}"
        deadline_s = transfer_s(sum(path.stat().st_size for path in paths))
        told = self._adb.shell(script, deadline_s=deadline_s, idempotent=True).out.replace("\r\n", "\n")
        sums = re.findall(r"^([0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})\s", told, re.MULTILINE)
        return len(sums) == len(paths) and all(
            self._sum(path, _ALGORITHMS[len(found)]) == found for found, path in zip(sums, paths, strict=True)
        )

    def clean(self) -> int:
        """Remove what dead sessions have left, end their processes, and keep to the limit; return how many there were.

        A session lives where its owner does, as far as this host can tell, or else where its process does.
        """
        script = f"""{_PROCESS}
cd {shlex.quote(self.root)}/run 2>/dev/null || exit 0
for d in *; do [ -d "$d" ] || continue
r=dead; lives "$d/stat" && r=alive
o=; [ -f "$d/owner" ] && read -r o <"$d/owner"
echo "$d/$r/$o"
done"""
        strays = []
        for line in self._shell(script, what="it cannot be looked through").splitlines():
            name, state, owner = line.split("/", 2)
            folder = f"{self.root}/run/{name}"
            if folder not in self._scratch and not _lives(owner, process_lives=state == "alive"):
                strays.append(folder)
        for folder in strays:
            self._remove(folder, SCRIPT_S)
        self._left_behind = False
        with self._lock:
            self._make_room(0)
        return len(strays)

    def _put(self, paths: Sequence[Path], *, executable: bool = False) -> str:
        with self._lock:
            sums = {safe_name(path): self._sum(path, "sha256") for path in paths}
            name = next(iter(sums.values()))
            if len(sums) > 1:
                listed = "".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items()))
                name = hashlib.sha256(listed.encode()).hexdigest()
            name = f"{name}-x" if executable else name
            folder = f"{self.root}/files/{name}"
            # It was verified when it came; what a reboot or a worn-out flash has made of it since is seen here.
            if name not in self._used and not self.holds(folder, paths):
                self._make_room(sum(path.stat().st_size for path in paths) // 1024 + 1)
                self._push(folder, paths, "755" if executable else "644")
            self._used.add(name)
            return folder

    def _push(self, folder: str, paths: Sequence[Path], mode: str) -> None:
        for _ in range(2):
            incoming = self.scratch("push")
            i, d = shlex.quote(incoming), shlex.quote(folder)
            try:
                for path in paths:
                    self._adb.push(path, f"{incoming}/{safe_name(path)}", deadline_s=transfer_s(path.stat().st_size))
                if self.holds(incoming, paths):
                    script = f"cd {i} && chmod {mode} * && rm owner && mkdir -p {d} && rm -rf {d} && mv {i} {d}"
                    self._shell(script, what="what was pushed cannot be moved", idempotent=False)
                    self._scratch.discard(incoming)
                    return
            except LinkError:
                self._scratch.discard(incoming)
                self._left_behind = True
                raise
            except SessionError:
                self.remove(incoming)
                raise
            self.remove(incoming)
        named = ", ".join(path.name for path in paths)
        why = f"{named}: what arrives there is not what was sent"
        raise SessionError(f"phone {self._adb.serial}", why, "try another cable or port")

    def _make_room(self, size_kb: int) -> None:
        """Remove old entries so that so many KiB fit within the limit and on the phone, or say that they do not."""
        files = f"{shlex.quote(self.root)}/files"
        script = f"""mkdir -p {files} && cd {files} || exit 1
df -k .
echo entries:
set -- $(ls -tr); if [ $# -gt 0 ]; then du -ks "$@"; fi"""
        storage, _, listed = self._shell(script, what="no folder can be made in it").partition("entries:")
        found = re.findall(r"^(\d+)\s+(\S+)$", listed, re.MULTILINE)
        entries = [Entry(name=name, size_kb=int(kb)) for kb, name in found]
        free_kb = parse_free_kb(storage)
        gone = choose_old(
            [entry for entry in entries if entry.name not in self._used],
            taken_kb=sum(entry.size_kb for entry in entries),
            size_kb=size_kb,
            limit_kb=self.limit_mb << 10,
            free_kb=free_kb,
        )
        if gone:
            names = " ".join(shlex.quote(entry.name) for entry in gone)
            self._shell(f"cd {files} && rm -rf {names}", what="old files cannot be removed")
        if size_kb and free_kb is not None:
            free_kb += sum(entry.size_kb for entry in gone)
            if free_kb < size_kb + SPARE_KB:
                why = f"{(size_kb + SPARE_KB) >> 10} MiB are needed and {free_kb >> 10} are free"
                raise SessionError(f"phone {self._adb.serial} has no room", why, "delete something there")

    def _sum(self, path: Path, algorithm: str) -> str:
        try:
            stat = path.stat()
            key = (path.absolute(), stat.st_size, stat.st_mtime_ns, algorithm)
            if key not in self._sums:
                with path.open("rb") as file:
                    self._sums[key] = hashlib.file_digest(file, algorithm).hexdigest()
        except OSError as error:
            raise BadInputError(str(path), error.strerror or str(error), "check the path") from error
        return self._sums[key]

    def _shell(self, script: str, *, what: str, idempotent: bool = True, deadline_s: float = SCRIPT_S) -> str:
        answer = self._adb.shell(script, idempotent=idempotent, deadline_s=deadline_s)
        if answer.status:
            words = (answer.err or answer.out).strip().splitlines()
            why = f"{what} ({words[-1] if words else f'exit status {answer.status}'})"
            raise SessionError(f"{self.root} on phone {self._adb.serial}", why, "see `mobench devices`")
        return answer.out.replace("\r\n", "\n")


def transfer_s(size_bytes: int) -> float:
    """Return how many seconds a file's way to or from the phone may take, or a look at all of it there."""
    return TRANSFER_S + size_bytes / 1e6


def safe_name(path: Path) -> str:
    """Return a file's name as it is on the phone: no character that a shell or a runtime could take amiss."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", path.name).lstrip("-.") or "file"


def parse_free_kb(text: str) -> int | None:
    """Return the available KiB that ``df -k`` tells, or None where its output is another.

    >>> parse_free_kb("Filesystem 1K-blocks Used Available Use% Mounted on\\n/dev/dm-5 1000 250 750 25% /data")
    750
    """
    found = re.findall(r"\s\d+\s+\d+\s+(\d+)\s+\d+%", text)
    return int(found[-1]) if found else None


def choose_old(
    entries: Sequence[Entry], *, taken_kb: int, size_kb: int, limit_kb: int, free_kb: int | None
) -> list[Entry]:
    """Return what has to go, from the least recently used on, so that so many KiB more fit.

    Args:
        entries: what may go, the least recently used first.
        taken_kb: what all there is takes.
        size_kb: what is to come.
        limit_kb: what all may take.
        free_kb: what is free on the phone; None where unknown.
    """
    over_kb = taken_kb + size_kb - limit_kb
    if free_kb is not None and size_kb:
        over_kb = max(over_kb, size_kb + SPARE_KB - free_kb)
    gone: list[Entry] = []
    for entry in entries:
        if sum(each.size_kb for each in gone) >= over_kb:
            break
        gone.append(entry)
    return gone


def _owner() -> str:
    """Name this process among those of all hosts and times: the host since its start, the id, the process's start."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        boot = ""
    return f"{platform.node()}:{boot} {os.getpid()} {_started(os.getpid())}"


def _started(pid: int) -> str:
    """Return when a process of this host began, in its kernel's ticks; 0 where that is not told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def _lives(owner: str, *, process_lives: bool) -> bool:
    host, _, process = owner.rpartition(" ")[0].rpartition(" ")
    ours = _owner()
    if not process.isdecimal() or host != ours.rpartition(" ")[0].rpartition(" ")[0]:
        return process_lives  # of a host that cannot be asked: its session ends with its link, or soon after
    if owner == ours:
        return False  # one of ours that a lost link kept from being removed
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is another user's
    return _started(int(process)) == owner.rpartition(" ")[2]
