"""Sessions on a phone: the harness behind `adb shell`, its files pushed, its death told apart from a lost cable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mobench.errors import BadInputError, LinkError, MobenchError, SessionError
from mobench.records import DEVICES, RUNTIME_FORMATS, Artifact, Profile, Target
from runners.adb import LOOK_S, Adb
from runners.adb_failures import CABLE, program_failure
from runners.android import build, runtimes
from runners.android.folder import Folder, transfer_s
from runners.android.phone import Phone
from runners.profile import phone_profile
from runners.wire import GRACE_S, SEPARATOR, Session, decode

HARNESS = "1"  # the version of android_harness/ that this mobench speaks with
START_DEADLINE_S = 300.0  # a GPU may compile its programs for minutes
_NOTICE_S = 1.0  # until adb's client has noticed a cut
ANSWER_S = 10.0  # for a phone that is asked whether it is still there
IDLE_S = 900.0  # longer than a campaign lets a phone cool between two rounds
_BOOT = "/proc/sys/kernel/random/boot_id"
_MISSING, _NO_ROOM = 66, 73  # the launcher's statuses: a file is not there, its own cannot be written
_KILLED, _ALARM = 128 + signal.SIGKILL, 128 + signal.SIGALRM  # a shell's status of a process that a signal ended
# The launcher stays in the phone's shell beside the harness. It notes the harness's process for `Folder.remove`, says
# how it ended, which not every phone's adb tells, and removes the session's folder even when the cable is cut: adbd
# then sends its shell a SIGHUP. `end` without a newline before it: it cuts off half a message of a harness that died.
_LAUNCH = r"""trap : HUP
for f in {harness} {model} {library}; do
[ -e "$f" ] || {{ printf '\036{{"type":"end","status":{missing}}}\n'; exit {missing}; }}
done
read -r boot 2>/dev/null <{boot}
sh -c 'read -r s </proc/$$/stat; echo "$s" >"$1/stat" || exit {no_room}
printf "\036{{\"type\":\"begin\",\"pid\":%d,\"parent\":%d,\"boot\":\"%s\"}}\n" $$ "$2" "$3"
export LD_LIBRARY_PATH="$4"; exec "$5" "$6"' sh {place} "$PPID" "$boot" {libraries} {harness} {config}
s=$?
rm -rf {place}
printf '\036{{"type":"end","status":%d}}\n' $s
exit $s"""


class AndroidSession(Session):
    """The host's side of one session on a phone."""

    _patience_s = 5.0  # over a cable
    _look_s = LOOK_S

    def __init__(
        self,
        adb: Adb,
        folder: Folder,
        *,
        model: Path,
        harness: str,
        config: Mapping[str, Any],
        versions: Mapping[str, str],
        start_deadline_s: float,
    ) -> None:
        """Start the harness and wait until its model is loaded and has run once.

        Args:
            adb: the phone.
            folder: mobench's folder on it.
            model: the model's file on this machine, whose name errors call this session by.
            harness: its path on the phone.
            config: its argument (android_harness/PROTOCOL.md), with paths on the phone.
            versions: what it cannot tell of its runtime.
            start_deadline_s: seconds for load and first inference.

        Raises:
            LinkError: the phone is out of reach.
            SessionError: the model cannot be loaded or run, or the harness died or was late.
        """
        self._adb, self._folder = adb, folder
        self._model, self._config = model, config
        self._boot, self._said = "", ""
        self._status: int | None = None
        self._place: str | None = folder.scratch(model.name)
        libraries = ":".join(dict.fromkeys(
            path for path in (str(Path(config["library"]).parent), config["accelerators"]) if path
        ))  # fmt: skip
        script = _LAUNCH.format(
            missing=_MISSING,
            no_room=_NO_ROOM,
            boot=_BOOT,
            place=shlex.quote(self._place),
            harness=shlex.quote(harness),
            model=shlex.quote(config["model"]),
            library=shlex.quote(config["library"]),
            libraries=shlex.quote(libraries),
            config=shlex.quote(json.dumps(config)),
        )
        command = adb.command("shell", script)
        super().__init__(command, label=model.name, env=os.environ, start_deadline_s=start_deadline_s)
        self.versions = {**self.versions, **versions}
        self.ready = dataclasses.replace(self.ready, versions=self.versions)

    def predict(self, inputs: np.ndarray, *, deadline_s: float = 60.0) -> np.ndarray:
        """Run the model once for each input; return its first output, stacked (see `Session.predict`).

        The deadline is the phone's own; the files' way there and back has others.
        """
        assert self._place is not None, "the session is closed"
        with tempfile.TemporaryDirectory(prefix="mobench-") as here:
            source, sink = Path(here, "in.npy"), Path(here, "out.npy")
            np.save(source, np.ascontiguousarray(inputs))
            there = {file.name: f"{self._place}/{file.name}" for file in (source, sink)}
            with self._moving():
                self._adb.push(source, there["in.npy"], deadline_s=transfer_s(source.stat().st_size))
            request = {"type": "predict", "input": there["in.npy"], "output": there["out.npy"]}
            self._request(request, "predicted", deadline_s)
            with self._moving():
                self._adb.pull(there["out.npy"], sink)
                if not self._folder.holds(self._place, [source, sink]):
                    why = "inputs or outputs are not on the phone as they are here"
                    raise SessionError(self._label, why, "try another cable or port")
            outputs: np.ndarray = np.load(sink)
            return outputs

    def profile(self, *, turns: int, lead_in: int, timed: int, deadline_s: float = 600.0) -> Profile:
        """Run turns of inferences without and with the runtime's profiler; return the operators' times.

        See `Session.profile`. The deadline is the phone's own; the way of what it wrote has another.
        """
        assert self._place is not None, "the session is closed"
        request = {"type": "profile", "turns": turns, "lead_in": lead_in, "timed": timed, "folder": self._place}
        answer = self._request(request, "profile", deadline_s)
        with tempfile.TemporaryDirectory(prefix="mobench-") as here:
            return phone_profile.read(
                answer,
                self._model,
                self.ready,
                turns=turns,
                lead_in=lead_in,
                timed=timed,
                batch=self._config["batch"],
                shape=tuple(self._config["shape"]),
                fetch=lambda path: self._fetch(path, Path(here)),
            )

    def _fetch(self, path: str, folder: Path) -> Path:
        """Bring a file of the session's own folder on the phone here, and see that it is whole."""
        assert self._place is not None
        target = folder / PurePosixPath(path).name
        # A trace is of some megabytes, an optimised graph holds the model's weights.
        longest_s = transfer_s((16 << 20) + 2 * self._model.stat().st_size)
        with self._moving():
            self._adb.pull(f"{self._place}/{target.name}", target, deadline_s=longest_s)
            if not self._folder.holds(self._place, [target]):
                why = f"{target.name} is not here as it is on the phone"
                raise SessionError(self._label, why, "try another cable or port")
        return target

    @contextlib.contextmanager
    def _moving(self) -> Iterator[None]:
        """While a file is moved: where the session ends meanwhile, raise how it did.

        A cable that is pulled and plugged in again lets adb try once more, and then the session's folder is gone: that
        is a lost link, whatever the file's error says.
        """
        try:
            yield
        except LinkError:
            raise
        except SessionError as error:
            try:
                self._process.wait(timeout=_NOTICE_S)
            except subprocess.TimeoutExpired:
                raise error from None  # it lives: it is the file
            raise self._death(GRACE_S) from error

    def close(self) -> None:
        """End the harness, see that it is gone from the phone, and remove its folder there. Never raises.

        Where the phone is out of reach the folder sees to it before the next session.
        """
        super().close()
        if self._place is not None:
            place, self._place = self._place, None
            self._folder.running.pop(place, None)
            with contextlib.suppress(MobenchError):
                self._folder.remove(place)

    def _line(self, end: float, deadline_s: float) -> bytes:
        while True:
            line = super()._line(end, deadline_s)
            text = line.rpartition(SEPARATOR)[2]
            if text == line:
                self._said = line.decode(errors="replace")  # a phone whose adb has one channel for all
            elif text.startswith((b'{"type":"begin"', b'{"type":"end"')):
                message = decode(line) or {}  # which refuses what is not whole
                if message["type"] == "end":
                    self._status = message.get("status")
                    raise self._death(deadline_s)
                self._boot = message.get("boot", "")
                if self._place is not None:
                    self._folder.running[self._place] = frozenset((message["pid"], message["parent"]))
                continue
            return line

    def _look(self) -> None:
        """While the session starts, which may take minutes, see that the phone answers; later that would disturb."""
        if not hasattr(self, "ready") and (lost := self._lost()):
            self._process.kill()
            raise lost

    def _late(self, deadline_s: float) -> SessionError:
        late = super()._late(deadline_s)
        return self._lost() or late

    def _death(self, deadline_s: float) -> SessionError:
        try:
            code = self._process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._status is None and code == _KILLED:
            self._status = code  # not the harness alone: the shell above it was killed too
        if self._status is None:
            return self._lost() or LinkError(f"phone {self._adb.serial}", "the link broke", CABLE)
        if self._status == _MISSING:
            return _MissingError(self._label, "its files are gone from the phone", "run again")
        if self._status == _NO_ROOM:
            return SessionError(self._label, "nothing can be written on the phone", "delete something there")
        if self._status == 0:
            return SessionError(self._label, f"it ended: no request came for {IDLE_S:g} s", "run again")
        if self._status == _ALARM:
            mend = "the phone may be throttled, or it hangs: try the other runtime"
            return SessionError(self._label, f"not done within its deadline of {deadline_s:g} s", mend)
        return program_failure(self._label, self._status, self._words())

    def _lost(self) -> LinkError | None:
        """Return why the phone's side of this session cannot be heard, or None where phone and link are as before."""
        try:
            boot = self._adb.shell(f"cat {_BOOT}", deadline_s=ANSWER_S).out.strip()
        except LinkError as error:
            self._folder.lose()
            return error
        except SessionError:
            return None  # it answers, if slowly
        if self._boot and boot != self._boot:
            return LinkError(
                f"phone {self._adb.serial}", "it has restarted", "wait; look at its temperature and battery"
            )
        return None

    def _words(self) -> str:
        """Return the last that the harness, or the phone's shell, wrote of its own accord."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        return self._log.read().decode(errors="replace") or self._said


class _MissingError(SessionError):
    """What was pushed is no longer on the phone."""


def open_session(
    phone: Phone,
    adb: Adb,
    folder: Folder,
    artifact: Artifact,
    target: Target,
    *,
    start_deadline_s: float = START_DEADLINE_S,
    shape: tuple[int, ...] = (),
) -> AndroidSession:
    """Load a model in a fresh process on a phone. What it needs is pushed once.

    Args:
        phone: what `describe` said of it.
        adb: the way to it.
        folder: mobench's folder on it.
        artifact: the model file.
        target: device, runtime, provider, threads and cores.
        start_deadline_s: seconds for load, compilation and first inference.
        shape: the first input's shape, for a model that leaves more than its batch axis open.

    Raises:
        BadInputError: the device has no such runtime or provider, the runtime does not read this format, or harness
            or runtime are not there.
        LinkError: the phone is out of reach.
        SessionError: the model does not load or run, or the harness died.
    """
    providers = DEVICES.get(target.device, {}).get(target.runtime, ())
    if target.provider not in ("", *providers) or not providers:
        what = f"{target.runtime} {target.provider}".strip()
        known = "; ".join(f"{name}: {', '.join(has)}" for name, has in DEVICES.get(target.device, {}).items())
        raise BadInputError(what, f"there is none for {target.device}", known)
    if RUNTIME_FORMATS[target.runtime] != artifact.format:
        raise BadInputError(artifact.path.name, f"{target.runtime} does not read .{artifact.format}", "pick the other")
    runtime = runtimes.find(phone.abi, target.runtime)
    gpu = target.device == "android-gpu"
    if gpu and not runtime.accelerators:
        why = f"no GPU accelerator for {phone.abi} lies beside {runtime.library.name}"
        raise BadInputError(f"{target.runtime} on the GPU", why, "mobench android setup")
    harness = build.harness(phone.abi)

    def start() -> AndroidSession:
        config = {
            "runtime": target.runtime,
            "library": folder.put(runtime.library),
            "accelerators": folder.put_together(runtime.accelerators) if gpu else "",
            "model": folder.put(artifact.path),
            "provider": target.provider or providers[0],
            "threads": target.threads,
            "batch": target.batch,
            "shape": list(shape),
            "cores": list(target.cores),
            "deadline_s": start_deadline_s,
            "idle_s": IDLE_S,
        }
        return AndroidSession(
            adb,
            folder,
            model=artifact.path,
            harness=folder.put(harness, executable=True),
            config=config,
            versions={target.runtime: runtime.version} if runtime.version and target.runtime == "litert" else {},
            start_deadline_s=start_deadline_s,
        )

    try:
        session = start()
    except _MissingError:
        folder.forget()
        session = start()
    try:
        _check(session, target)
    except SessionError:
        session.close()
        raise
    return session


def _check(session: AndroidSession, target: Target) -> None:
    """Refuse a session that is not what was asked for."""
    version = session.versions.get("harness")
    if version != HARNESS:
        why = f"it is of version {version}, mobench needs {HARNESS}"
        raise SessionError("the harness on the phone", why, "mobench android build")
    if target.cores and set(session.ready.cores) != set(target.cores):
        why = f"cores {_list(target.cores)} were asked for, it runs on {_list(session.ready.cores)}"
        raise SessionError("affinity", why, "some are switched off now: wake the phone, or let it cool")


def _list(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores)) or "any"
