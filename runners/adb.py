"""Phones through the `adb` program: argument lists, a serial, deadlines, and what adb's failures mean.

adb 29 ends with status 0 and half an output where the link goes in the middle of a command, adb 35 with 255, and old
phones tell no status at all. So every script's output lies between two marks of its own, the second with the status;
without both there is no answer.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mobench.errors import BadInputError, LinkError, MobenchError, SessionError
from mobench.files import replacing
from runners.adb_failures import CABLE, STATES, BrokenLinkError, failure, program_failure, without_chatter

HOST_S = 20.0  # for what adb's server answers by itself, its start included
PING_S = 5.0
LOOK_S = 10.0  # where a phone is silent for so long it is asked whether it still answers: a link can be mute and stay
RETRY_WAIT_S = 10.0  # for a link to come back before the one retry
POLL_S = 0.25
_NO_STATUS = 255  # adb's own status, since version 30 or so, where the link goes before the phone tells one
# Of waiting: what is not there by itself by then is asked to come back, and then adb's server is started anew.
RECONNECT_AFTER_S = 3.0
RESTART_AFTER_S = 15.0
_OVER_NETWORK = re.compile(r".+:\d{1,5}")
# A phone found over Wi-Fi twice has a space in its serial: `adb-R1-XyZ (2)._adb-tls-connect._tcp`.
_DEVICE_LINE = re.compile(r"(\(no serial number\)|\S+(?: \(\d+\)\S*)?)\s+(no permissions|\S+)(.*)")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a script on the phone has printed, and its exit status as its shell tells it.

    Phones whose adb does not know `shell_v2` (before Android 7) print errors into ``out``.
    """

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """One line of `adb devices`: ``state`` is ``device`` where it can be used; else ``mend`` says what to do."""

    serial: str
    state: str
    mend: str
    model: str = ""


class Adb:
    """One phone. Safe to use from several threads: it keeps nothing between calls."""

    def __init__(self, serial: str, *, program: str = "adb") -> None:
        """Touches nothing.

        Args:
            serial: as `adb devices` lists it; ``HOST:PORT`` over a network.
            program: the adb program, a name on PATH or a path.
        """
        self.serial, self.program = serial, program
        self._what = f"phone {serial}"

    def command(self, *arguments: str) -> list[str]:
        """Return the argument list of an adb call for this phone, for a process of one's own."""
        return [self.program, "-s", self.serial, *arguments]

    def shell(self, script: str, *, deadline_s: float = 30.0, idempotent: bool = False) -> Answer:
        """Run a script in the phone's shell, without input, and return what came of it.

        Args:
            script: text for the phone's `sh`. Quote what comes from outside (``shlex.quote``). Where the link goes or
                the deadline passes, what it has started in the foreground is ended on the phone.
            deadline_s: seconds until it must be done.
            idempotent: it may run twice: where the link breaks, it is tried once more.

        Raises:
            LinkError: the phone is out of reach, or the link broke before the whole answer was there.
            SessionError: no answer in time from a phone that is there, or a script that its shell cannot read.
        """
        if idempotent:
            return self._with_retry(lambda: self._shell(script, deadline_s, looks=True))
        return self._shell(script, deadline_s, looks=False)  # it may be a measurement, which nobody disturbs

    def push(self, source: Path, target: str, *, deadline_s: float = 300.0) -> None:
        """Copy a file or folder to the phone, trying again once where the link breaks.

        Raises:
            LinkError: the phone is out of reach.
            SessionError: it has no room, or lets nobody write there; or this takes too long.
            BadInputError: the source cannot be read.
        """
        if not source.exists():
            raise BadInputError(str(source), "no such file", "check the path")
        self._with_retry(lambda: self._transfer(("push", str(source), target), deadline_s))

    def pull(self, source: str, target: Path, *, deadline_s: float = 300.0) -> None:
        """Copy a file from the phone, whole or not at all, trying again once where the link breaks.

        Raises:
            LinkError: the phone is out of reach.
            SessionError: it has no such file, or lets nobody read it; or this takes too long.
        """
        with replacing(target) as temporary:
            self._with_retry(lambda: self._transfer(("pull", source, str(temporary)), deadline_s))

    def state(self) -> str:
        """Return the phone's state as `adb devices` lists it; ``absent`` where it does not."""
        return next((one.state for one in attached(self.program) if one.serial == self.serial), "absent")

    def missing(self) -> LinkError:
        """Return the error that says in which state the phone is now, and the mend."""
        state = self.state()
        why = {"absent": "it is unplugged or restarting", "device": "it has not started up yet"}.get(state, state)
        mend = STATES.get(state) or "plug it in and wait until it has started; `mobench devices` lists what adb sees"
        return LinkError(self._what, why, mend)

    def wait(self, deadline_s: float) -> bool:
        """Wait until the phone is there and has started up; return whether it is.

        A phone that stays away is asked to connect again; if that does not help, adb's server is started anew, unless
        other phones are in use through it. One that does not accept this computer's key is only waited for.
        """
        began = time.monotonic()
        reconnected, restarted = 0.0, False
        while True:
            state = self.state()
            started = self._says("getprop sys.boot_completed") if state == "device" else None
            if started == "1":
                return True
            waited_s = time.monotonic() - began
            if waited_s >= deadline_s:
                return False
            if started is None and state not in ("unauthorized", "authorizing", "no permissions"):
                if waited_s >= RESTART_AFTER_S and not restarted:
                    self._restart_server()
                    restarted = True
                if state == "absent" or waited_s >= reconnected + RECONNECT_AFTER_S:
                    self._reconnect(state)
                    reconnected = time.monotonic() - began
            time.sleep(min(POLL_S, max(0.0, deadline_s - waited_s)))

    def _shell(self, script: str, deadline_s: float, *, looks: bool) -> Answer:
        mark = f"mobench-{secrets.token_hex(6)}:"
        # When its host goes, adbd sends the shell a SIGHUP, which reaches what runs in it only through the trap; and a
        # shell acts on a signal while it waits, not while a command runs in the foreground.
        text = f"echo {mark}\ntrap 'kill 0' HUP\n(\n{script}\n) &\nwait $!\necho {mark}$?"
        done = self._run(("shell", text), deadline_s, looks=looks)
        # What comes before the first mark is not the script's: old adb's chatter, a banner of the phone's shell.
        if whole := re.search(rf"{mark}\r?\n(.*){mark}(\d+)\r?\n", done.stdout, re.DOTALL):
            return Answer(status=int(whole[2]), out=whole[1], err=without_chatter(done.stderr))
        adbs_own = "\n".join(line for line in done.stderr.splitlines() if line.startswith(("error:", "adb:")))
        if error := failure(self._what, adbs_own):
            raise error
        if 128 < done.returncode < _NO_STATUS:
            raise program_failure(self._what, done.returncode, done.stderr)
        if "syntax error" in done.stderr.lower():
            raise SessionError(self._what, f"its shell cannot read a script: {done.stderr.strip()}", "report this")
        raise BrokenLinkError(self._what, "its answer broke off", CABLE)

    def _transfer(self, arguments: Sequence[str], deadline_s: float) -> None:
        done = self._run(arguments, deadline_s, looks=True)
        if done.returncode == 0:
            return
        said = without_chatter(done.stdout) + without_chatter(done.stderr)
        # A pull that is cut off prints its progress and no reason.
        raise failure(self._what, said) or BrokenLinkError(self._what, f"{arguments[0]} broke off", CABLE)

    def _run(self, arguments: Sequence[str], deadline_s: float, *, looks: bool) -> subprocess.CompletedProcess[str]:
        """Run adb; ``looks``: give up early where the phone answers nothing else meanwhile either."""
        began = time.monotonic()
        try:
            return _call(self.command(*arguments), deadline_s, go_on=self._answers_at_last if looks else None)
        except subprocess.TimeoutExpired:
            waited_s = time.monotonic() - began
            if waited_s >= deadline_s and self._answers():
                why = f"{arguments[0]}: not done in {deadline_s:g} s, though the phone answers"
                raise SessionError(self._what, why, "is it busy or hot? run again") from None
            why = f"no answer in {min(deadline_s, round(waited_s, 1)):g} s"
            raise BrokenLinkError(self._what, why, STATES["offline"]) from None

    def _with_retry(self, act: Callable[[], _Result]) -> _Result:
        try:
            return act()
        except BrokenLinkError:
            if not self.wait(RETRY_WAIT_S):
                raise
            return act()

    def _answers(self) -> bool:
        """Say whether a command comes through: a link may be listed as ready and be dead."""
        return self._says("echo here") == "here"

    def _answers_at_last(self) -> bool:
        """Ask twice: behind a large file a short command may have to wait."""
        return self._answers() or self._answers()

    def _says(self, script: str) -> str | None:
        """Return what a short command prints, empty where it fails; None where no answer comes."""
        try:
            return _call(self.command("shell", script), PING_S).stdout.strip()
        except subprocess.TimeoutExpired:
            return None

    def _is_over_network(self) -> bool:
        return _OVER_NETWORK.fullmatch(self.serial) is not None

    def _reconnect(self, state: str) -> None:
        """Have adb drop a link that is dead, and over a network make a new one."""
        if state != "absent":
            self._try("-s", self.serial, "reconnect")
        if self._is_over_network():
            if state != "absent":
                self._try("disconnect", self.serial)
            self._try("connect", self.serial)

    def _restart_server(self) -> None:
        if not any(one.state == "device" for one in attached(self.program)):
            self._try("kill-server")
            self._try("start-server")

    def _try(self, *arguments: str) -> None:
        """Call adb for what may help; whether it did is seen in the phone's state."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            _call([self.program, *arguments], PING_S)


def attached(program: str = "adb") -> tuple[Attached, ...]:
    """Return what `adb devices` lists, in its order. Starts adb's server where none runs.

    Raises:
        BadInputError: there is no adb program.
        LinkError: adb's server does not start.
    """
    try:
        done = _call([program, "devices", "-l"], HOST_S)
        if done.returncode != 0:  # a server that has just ended may still hold its port
            time.sleep(POLL_S)
            done = _call([program, "devices", "-l"], HOST_S)
    except subprocess.TimeoutExpired:
        raise LinkError("adb", f"its server does not answer in {HOST_S:g} s", "`adb kill-server`, then again") from None
    if done.returncode != 0:
        said = without_chatter(done.stdout) + without_chatter(done.stderr)
        last = said.strip().splitlines()[-1:] or ["no word"]
        error: MobenchError | None = failure("adb", said)
        raise error or LinkError("adb", f"`adb devices` failed: {last[0]}", "`adb kill-server`, then again")
    found = []
    for line in done.stdout.partition("List of devices attached")[2].splitlines():
        if match := _DEVICE_LINE.fullmatch(line.strip()):
            state = match[2]
            model = re.search(r"\bmodel:(\S+)", match[3])
            mend = STATES.get(state, f"adb calls it {state!r}: plug it in again")
            found.append(Attached(serial=match[1], state=state, mend=mend, model=model[1] if model else ""))
    return tuple(found)


def _call(
    command: Sequence[str], deadline_s: float, *, go_on: Callable[[], bool] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run adb; raises subprocess.TimeoutExpired, and BadInputError where there is no adb.

    ``go_on`` is asked every LOOK_S seconds; where it says no, that is a TimeoutExpired too.
    """
    end = time.monotonic() + deadline_s
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        mend = "install it (Debian: apt install adb; or Android's platform-tools), or put its folder on PATH"
        raise BadInputError(f"adb program {command[0]}", error.strerror or str(error), mend) from None
    with process:
        try:
            while True:
                left_s = max(0.0, end - time.monotonic())
                try:
                    out, err = process.communicate(timeout=left_s if go_on is None else min(left_s, LOOK_S))
                except subprocess.TimeoutExpired:
                    if left_s <= LOOK_S or go_on is None or not go_on():
                        raise
                else:
                    return subprocess.CompletedProcess(command, process.returncode, out, err)
        except BaseException:
            process.kill()
            raise
