"""The device's end of adb's transport: messages, streams, and where faults count bytes.

A message is 24 bytes, six little-endian words: command, two arguments, length and checksum of the payload behind it,
and the command with all bits turned. A stream has an id on either side and one unacknowledged WRTE in either direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from standin.device import StandIn

CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
VERSION = 0x01000001  # from here on nobody checks the sums
MAX_DATA = 1 << 20
_HEADER = struct.Struct("<6I")
_TOKEN, _SIGNATURE, _PUBLIC_KEY = 1, 2, 3  # AUTH's first argument


class LinkLostError(Exception):
    """The host is gone, or the cable is cut."""


class Stream:
    """One service of one host: bytes in, bytes out."""

    def __init__(self, link: Link, local: int, remote: int, service: str) -> None:
        self.link, self.local, self.remote, self.service = link, local, remote, service
        self.closed = asyncio.Event()  # by the host, or with the link
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        """Take what the host has written."""
        self._incoming.put_nowait(data)

    def acknowledge(self) -> None:
        """Note that the host has taken what was written last."""
        self._may_write.set()

    def end(self) -> None:
        """Wake up whoever reads or writes: nothing comes or goes any more."""
        self.closed.set()
        self._incoming.put_nowait(b"")
        self._may_write.set()

    async def read(self) -> bytes:
        """Return the next bytes, or none at the end; they are acknowledged now."""
        data = await self._incoming.get()
        if not data:
            self._incoming.put_nowait(b"")
            return b""
        if not self.closed.is_set():
            await self.link.send(OKAY, self.local, self.remote)
        return data

    async def exactly(self, count: int) -> bytes:
        """Return ``count`` bytes; raises LinkLostError where they do not all come."""
        while len(self._buffer) < count:
            data = await self.read()
            if not data:
                raise LinkLostError
            self._buffer += data
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes and wait until the host has taken them."""
        step = min(self.link.max_data, 1 << 16)
        for at in range(0, len(data), step):
            await self._may_write.wait()
            if self.closed.is_set():
                raise LinkLostError
            self._may_write.clear()
            await self.link.send(WRTE, self.local, self.remote, data[at : at + step])

    async def close(self) -> None:
        """Tell the host that this is all, once it has taken everything."""
        await self._may_write.wait()
        if not self.closed.is_set():
            await self.link.send(CLSE, self.local, self.remote)
            self.link.streams.pop(self.local, None)
            self.end()


class Link:
    """One connection of an adb server."""

    def __init__(self, device: StandIn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.device = device
        self.streams: dict[int, Stream] = {}
        self.max_data = 4096
        self._reader, self._writer = reader, writer
        self._next = 1
        self._forgotten = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the host goes or the link is cut."""
        try:
            while True:
                command, first, second, length, _, magic = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
                if magic != command ^ 0xFFFFFFFF or length > MAX_DATA:
                    return
                await self._answer(command, first, second, await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError, LinkLostError):
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        """Drop the connection at once, as a pulled cable does; what is on its way is lost."""
        if not self._writer.transport.is_closing():
            self._writer.transport.abort()
        for stream in list(self.streams.values()):
            stream.end()
        self.streams.clear()

    def forget(self) -> None:
        """Answer nothing more on this connection."""
        self._forgotten = True

    async def greet(self) -> None:
        """Say who we are: from here on the host calls the device online."""
        await self.send(CNXN, VERSION, MAX_DATA, self.device.banner().encode())

    async def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        """Send one message, as slowly and as whole as the device's faults let it."""
        if self._writer.transport.is_closing():
            raise LinkLostError
        if command == WRTE:
            await self.device.faults.delay(len(data))
            data = self.device.faults.count(self.streams.get(first), data)
        header = _HEADER.pack(command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF)
        self._writer.write(header + data)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def _answer(self, command: int, first: int, second: int, data: bytes) -> None:
        if self.device.mute or self._forgotten:
            self._forgotten = True
            return
        if command == CNXN:
            self.max_data = min(second, MAX_DATA)
            if self.device.authorized:
                await self.greet()
            else:
                await self.send(AUTH, _TOKEN, 0, os.urandom(20))
        elif command == AUTH and first == _SIGNATURE:
            await self.send(AUTH, _TOKEN, 0, os.urandom(20))  # not a key we know; its public half comes next
        elif command == AUTH and first == _PUBLIC_KEY:
            pass  # the dialog on the phone's screen
        elif command == OPEN:
            await self._open(first, data.rstrip(b"\0").decode(errors="replace"))
        elif command == WRTE and second in self.streams:
            data = self.device.faults.count(self.streams[second], data)
            self.streams[second].feed(data)
        elif command == OKAY and second in self.streams:
            self.streams[second].acknowledge()
        elif command == CLSE and (stream := self.streams.pop(second, None)):
            stream.end()
            await self.send(CLSE, second, first)

    async def _open(self, remote: int, service: str) -> None:
        serve = self.device.service(service)
        if serve is None:
            await self.send(CLSE, 0, remote)
            return
        stream = Stream(self, self._next, remote, service)
        self._next += 1
        self.streams[stream.local] = stream
        await self.send(OKAY, stream.local, remote)
        task = asyncio.create_task(self._serve(stream, serve))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: Stream, serve: Callable[[Stream], Awaitable[None]]) -> None:
        with contextlib.suppress(LinkLostError, ConnectionError):
            await serve(stream)
            await stream.close()
