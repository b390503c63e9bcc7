"""The device's shell: a host shell whose paths are moved into the device's folder. It is no sandbox.

The text of a command is rewritten before it runs, and what it prints on the way back; the programs it finds are
those in `programs.py`. Nothing else keeps it inside: only tests' own commands belong here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import struct
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from standin.faults import CutShortError
from standin.link import LinkLostError, Stream

if TYPE_CHECKING:
    from standin.device import StandIn

BATCH_S = 0.2  # between two halves of an output
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)  # packets of the shell protocol, version 2
_PACKET = struct.Struct("<BI")
# The phone's own folders, at the beginning of a path. Processes are the host's, and so are their files; cores are not.
_OURS = re.compile(
    r"(?<![\w.\-/})*])/(?:(?:data|sdcard|storage|sys|system|vendor|product|apex|etc)(?=$|[/\s\"';:)|&,}])"
    r"|proc(?=$|[\s\"';)|&])|proc/(?!self(?!/status)|thread-self|[\d$\[*?\\]))"
)
_MASK = re.compile(r'("cores": ?)\[([\d, ]*)\]')


def host_cores(cores: list[int]) -> list[int]:
    """Return the host's cores that play a phone's."""
    allowed = sorted(os.sched_getaffinity(0))
    return sorted({allowed[core % len(allowed)] for core in cores})


class Translation:
    """Rewrites one command's text, input and output between the phone's names and the host's."""

    def __init__(self, device: StandIn) -> None:
        self._root = str(device.root)
        self._libraries = device.libraries
        self._asked: list[int] = []
        self._held = b""

    def inward(self, text: str) -> str:
        """Return a command or message with the phone's paths and cores turned into the host's."""
        text = _OURS.sub(lambda found: self._root + found[0], text)
        if self._libraries:  # a phone's linker finds its own libraries whatever this says
            text = text.replace("LD_LIBRARY_PATH=", f"LD_LIBRARY_PATH={self._libraries}:")
        return _MASK.sub(self._cores_in, text)

    def outward(self, data: bytes, *, last: bool = False) -> bytes:
        """Return output with the host's names turned back; what may be half a name waits for the next call."""
        root = self._root.encode()
        data = (self._held + data).replace(root, b"")
        keep = 0
        if not last:
            keep = next((n for n in range(min(len(root) - 1, len(data)), 0, -1) if data.endswith(root[:n])), 0)
        data, self._held = data[: len(data) - keep], data[len(data) - keep :]
        if self._asked and b'"cores"' in data:
            data = _MASK.sub(self._cores_out, data.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        return data

    def _cores_in(self, found: re.Match[str]) -> str:
        self._asked = json.loads(f"[{found[2]}]")
        return f"{found[1]}{host_cores(self._asked)}"

    def _cores_out(self, found: re.Match[str]) -> str:
        got = json.loads(f"[{found[2]}]")
        return f"{found[1]}{self._asked}" if got == host_cores(self._asked) else found[0]


async def serve(device: StandIn, stream: Stream) -> None:
    """Run one command: ``shell,v2,raw:TEXT`` with packets, ``shell:TEXT`` and ``exec:TEXT`` without."""
    kind, _, text = stream.service.partition(":")
    packets = "v2" in kind.split(",")
    names = Translation(device)
    process = subprocess.Popen(
        [device.shell, "-c", device.preamble() + names.inward(text)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if packets else subprocess.STDOUT,
        env=device.environment(),
        cwd=device.root,
        start_new_session=True,
    )
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, process.wait)
    lock = asyncio.Lock()

    async def send(identifier: int, data: bytes) -> None:
        async with lock:
            await stream.write(_PACKET.pack(identifier, len(data)) + data if packets else data)

    async def pump(pipe: int, identifier: int) -> None:
        translate = names.outward if identifier == STDOUT else Translation(device).outward
        line = b""
        while True:
            data = await _read(pipe)
            if data and identifier == STDOUT:
                *whole, line = (line + data).split(b"\n")
                device.said += [each[1:].decode(errors="replace") for each in whole if each.startswith(b"\x1e")]
            if data and identifier == STDOUT:
                for number, part in enumerate(await device.faults.mangle(stream, translate(data))):
                    if number:
                        await asyncio.sleep(BATCH_S)
                    await send(identifier, part)
            elif part := translate(data, last=not data):
                await send(identifier, part)
            if not data:
                return

    taking = asyncio.create_task(_take_input(stream, process, packets, names.inward))
    pumps = [asyncio.create_task(pump(process.stdout.fileno(), STDOUT))]  # type: ignore[union-attr]
    if process.stderr is not None:
        pumps.append(asyncio.create_task(pump(process.stderr.fileno(), STDERR)))
    gone = asyncio.create_task(stream.closed.wait())
    try:
        status = await _end(pumps, gone, ended)
        if packets:
            await send(EXIT, bytes([status if status >= 0 else 128 - status]))
    except CutShortError as short:
        process.kill()
        await send(STDOUT, short.args[0])
        if packets:
            await send(EXIT, b"\0")
    except LinkLostError:
        if packets and process.poll() is None:  # adbd does so, and only to the shell itself
            os.kill(process.pid, signal.SIGHUP)
        raise
    finally:
        for task in (taking, gone, *pumps):
            task.cancel()
        await asyncio.gather(taking, gone, *pumps, return_exceptions=True)
        for file in (process.stdin, process.stdout, process.stderr):
            if file is not None:
                file.close()


async def _end(pumps: list[asyncio.Task[None]], gone: asyncio.Task[bool], ended: asyncio.Future[int]) -> int:
    """Return a command's status once all of its output is sent; raises LinkLostError where the host went before."""
    waiting: set[asyncio.Task[Any]] = {*pumps}
    while waiting:
        done, waiting = await asyncio.wait({*waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {gone}:
            task.result()
        if gone in done:
            raise LinkLostError
        waiting.discard(gone)
    return await ended


async def _read(pipe: int) -> bytes:
    """Return what a pipe holds as soon as it holds something, and nothing at its end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(pipe, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(pipe)
    return os.read(pipe, 1 << 16)


async def _take_input(
    stream: Stream, process: subprocess.Popen[bytes], packets: bool, inward: Callable[[str], str]
) -> None:
    """Hand the host's bytes to the command. Messages of a session are rewritten as the command's text is."""
    assert process.stdin is not None
    try:
        while True:
            if packets:
                identifier, length = _PACKET.unpack(await stream.exactly(_PACKET.size))
                data = await stream.exactly(length)
                if identifier == CLOSE_STDIN:
                    break
                if identifier != STDIN:
                    continue
            else:
                data = await stream.read()
                if not data:
                    break
            if data.startswith(b"\x1e"):
                data = inward(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")
            await _write(process.stdin.fileno(), data)
    except (LinkLostError, OSError):
        pass
    process.stdin.close()


async def _write(pipe: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(pipe, False)
    while data:
        try:
            data = data[os.write(pipe, data) :]
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(pipe, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(pipe)
