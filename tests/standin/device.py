"""A phone without a phone: an adb daemon on loopback that the real adb program talks to."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from standin import shell, sync
from standin.belongings import Belongings
from standin.faults import Fault, Faults
from standin.link import Link, Stream
from standin.server import AdbServer, free_port

_FEATURES = ("cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "fixed_push_symlink_timestamp")
_BOOT_S = 0.3  # from the daemon's first answer until sys.boot_completed


class StandIn(Belongings):
    """A phone that is attached as long as it is entered. What it does is its profile's; its programs run on this host.

    It is no phone: its CPU is the host's, its GPU a program. Nothing that it takes says anything of a phone's speed.
    """

    def __init__(
        self,
        profile: str,
        root: Path,
        *,
        faults: Sequence[Fault] = (),
        server: AdbServer | None = None,
        shell_v2: bool | None = None,
        serialno: str | None = None,
    ) -> None:
        """Take a profile, and make nothing yet.

        Args:
            profile: the name of a module in ``profiles``.
            root: an empty or absent folder for everything the phone has.
            faults: what goes wrong, in this order.
            server: an adb server it is attached to beside others; its own where None.
            shell_v2: whether its daemon tells exit statuses; the profile's word where None.
            serialno: ``ro.serialno``, where a test needs two of one profile.
        """
        super().__init__(profile, root, serialno)
        self.shell_v2 = self.profile.shell_v2 if shell_v2 is None else shell_v2
        self.server = server or AdbServer(self.base / "home")
        self._own_server = server is None
        self.faults = Faults(self, tuple(faults))
        self.mute = False
        self.authorized = True
        self.said: list[str] = []  # the messages of sessions, as they left their programs
        self.port = free_port()
        self._links: set[Link] = set()
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._telling: set[asyncio.Future[None]] = set()
        self._closing = False
        self._attaching = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"stand-in {profile}", daemon=True)

    # What tests ask it.

    @property
    def serial(self) -> str:
        """What adb calls it."""
        return f"127.0.0.1:{self.port}"

    @property
    def env(self) -> Mapping[str, str]:
        """The environment in which adb knows it."""
        return self.server.env

    # What happens to it. Each may be called from the test's thread.

    def cut(self) -> None:
        """Pull the cable: the link drops, and no other comes up."""
        self._call(self._unplug)
        self._settle()

    def plug_in(self) -> None:
        """Plug it in again, with whatever else was wrong with the link gone."""
        self._call(self._plug)
        self._settle()

    def offline(self) -> None:
        """Let the daemon hang: a link comes up, and nobody answers on it."""
        self.strike_now(Fault(kind="offline", back_s=None))
        self._settle()

    def unauthorized(self) -> None:
        """Let the phone not know the host's key."""
        self.strike_now(Fault(kind="unauthorized", back_s=None))
        self._settle()

    def hang(self) -> None:
        """Let the daemon answer nothing more, on a link that stays: adb goes on calling it ready."""
        self.strike_now(Fault(kind="hang", back_s=None))

    def heal(self) -> None:
        """Let it answer again, but only to who connects anew."""
        self._call(self._wake)

    def reboot(self, *, down_s: float | None = 0.5) -> None:
        """Restart: all processes end, and after ``down_s`` seconds the phone is back with a new boot_id."""
        self.strike_now(Fault(kind="reboot", back_s=down_s))
        self._settle()

    def kill_harness(self) -> None:
        """End every pushed program as the low-memory killer does."""
        self.strike_now(Fault(kind="kill"))

    def garbage(self) -> None:
        """Put bytes that nobody wrote before the next output of a command."""
        self.faults.arm(Fault(kind="garbage"))

    def slow(self, factor: float = 10.0) -> None:
        """Let pushed programs run ``factor`` times as long, and messages come late; 1 ends it."""
        self.strike_now(Fault(kind="slow", back_s=None, amount=factor))

    def clock_jump(self, seconds: float) -> None:
        """Let the wall clock jump, not the monotonic one."""
        self.strike_now(Fault(kind="clock", back_s=None, amount=seconds))

    def restart_server(self) -> None:
        """End the host's adb server; the next adb call starts another, which knows no phone yet."""
        self.server.kill()

    def strike_now(self, fault: Fault) -> None:
        """Let a fault happen now."""
        self._call(functools.partial(self.strike, fault))

    # The daemon's own side, in its thread.

    def banner(self) -> str:
        """Return what the daemon says of itself when a host connects."""
        features = (*(("shell_v2",) if self.shell_v2 else ()), *_FEATURES)
        names = "".join(f"{name}={self.getprop(name)};" for name in ("ro.product.name", "ro.product.model"))
        return f"device::{names}ro.product.device={self.getprop('ro.product.device')};features={','.join(features)}"

    def service(self, name: str) -> Callable[[Stream], Awaitable[None]] | None:
        """Return what serves a stream, or None where there is no such service."""
        kind = name.partition(":")[0].partition(",")[0]
        if kind in ("shell", "exec"):
            return functools.partial(shell.serve, self)
        if kind == "sync":
            return functools.partial(sync.serve, self)
        if kind == "reboot":
            return self._reboot_service
        return None

    def strike(self, fault: Fault) -> None:
        """Let a fault happen, and plan its end."""
        self.faults.happened.append(fault)
        back: Callable[[], None] | None = None
        if fault.kind in ("cut", "offline", "unauthorized", "reboot"):
            self._unplug(listening=fault.kind in ("offline", "unauthorized"))
            back = self._plug
            if fault.kind == "reboot":
                self._go_down()
                back = self._come_up
            elif fault.kind != "cut":
                self._plug(mute=fault.kind == "offline", authorized=fault.kind != "unauthorized")
                if fault.kind == "offline":  # it answers again, but only to who connects anew
                    back = self._wake
        elif fault.kind == "hang":
            self.mute, back = True, self._wake
        elif fault.kind == "noexec":
            self.noexec()
            back = self.allow_programs
        elif fault.kind == "server":
            self.server.kill()
            back = lambda: self._in_background(self._attach)  # noqa: E731
        elif fault.kind == "kill":
            for pid in self.programs_running():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif fault.kind == "full":
            self.fill_storage(int(fault.amount))
            back = self.free_storage
        elif fault.kind == "slow":
            self._slow_down(fault.amount)
            back = functools.partial(self._slow_down, 1.0)
        elif fault.kind == "clock":
            jumped = float(self.setting("clock_offset_s") or 0) + fault.amount
            (self._state / "clock_offset_s").write_text(f"{jumped:.0f}\n")
        else:
            raise ValueError(f"{fault.kind} lies in an output: arm it")
        if back is not None and fault.back_s is not None:
            self._loop.call_later(fault.back_s, back)

    def _unplug(self, *, listening: bool = False) -> None:
        """Drop the link; a USB port tells the adb server so, a network does not."""
        self._in_background(self._detach)
        if self._listener is not None and not listening:
            self._listener.close()
            self._listener = None
        for link in list(self._links):
            link.cut()

    def _wake(self) -> None:
        for link in self._links:
            link.forget()
        self.mute = False

    def _plug(self, *, mute: bool = False, authorized: bool = True) -> None:
        """Listen on the port it always had, and tell the adb server."""
        for link in list(self._links):
            link.cut()
        self.mute, self.authorized = mute, authorized
        self._keep(self._listen())
        self._in_background(self._attach)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self.port, reuse_address=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    def _attach(self) -> None:
        """Do what a USB port does by itself: tell the adb server that something is there."""
        self._tell_server("disconnect", "connect")

    def _detach(self) -> None:
        self._tell_server("disconnect")

    def _tell_server(self, *words: str) -> None:
        with self._attaching:
            for word in words:
                if not self._closing:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.server.adb(word, self.serial, deadline_s=0.5 if self.mute else 5)

    def _settle(self) -> None:
        """Wait until the adb server has been told."""

        async def wait() -> None:
            await asyncio.gather(*self._telling)

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result(20)

    async def _reboot_service(self, stream: Stream) -> None:
        self.strike(Fault(kind="reboot", back_s=0.5))

    def _go_down(self) -> None:
        self._kill_all()
        self.setprop("sys.boot_completed", "")
        self.set_file("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n")

    def _come_up(self) -> None:
        self._plug()
        self._loop.call_later(_BOOT_S, self.setprop, "sys.boot_completed", "1")

    def _slow_down(self, factor: float) -> None:
        was, self.faults.slowness = self.faults.slowness, max(1.0, factor)
        if was <= 1 < factor:
            self._keep(self._hold_back())

    async def _hold_back(self) -> None:
        """Stop pushed programs most of the time."""
        turn_s = 0.01
        pids: list[int] = []
        for turn in itertools.count():
            if (factor := self.faults.slowness) <= 1:
                break
            if turn % 5 == 0:  # to look for them takes longer than a turn
                pids = self.programs_running()
            _signal(pids, signal.SIGSTOP)
            await asyncio.sleep(turn_s * (factor - 1))
            _signal(pids, signal.SIGCONT)
            await asyncio.sleep(turn_s)
        _signal(self.processes(), signal.SIGCONT)

    def _kill_all(self) -> None:
        end = time.monotonic() + 5
        while (pids := self.processes()) and time.monotonic() < end:
            _signal(pids, signal.SIGKILL)
            time.sleep(0.005)

    # Its life.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_default_executor(ThreadPoolExecutor(32, "stand-in"))
        self._loop.run_forever()

    def _call(self, act: Callable[[], None]) -> None:
        """Do something in the daemon's thread, and wait for it."""

        async def do() -> None:
            act()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result(20)

    def _keep(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _in_background(self, work: Callable[[], None]) -> None:
        self._telling.add(future := self._loop.run_in_executor(None, work))
        future.add_done_callback(self._telling.discard)

    def __enter__(self) -> Self:
        self._furnish()
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        try:
            if self._own_server:
                self.server.start()
            told = self.server.adb("connect", self.serial)
            if "connected to" not in told.stdout:
                raise RuntimeError(f"adb connect {self.serial}: {told.stdout} {told.stderr}")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the daemon, its programs and its adb server."""
        if not self._own_server:
            self._detach()
        self._closing = True
        if self._thread.is_alive():
            self.faults.slowness = 1.0
            self._call(self._unplug)
            self._kill_all()
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(20)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()
        if self._own_server:
            self.server.close()

    async def _finish(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
