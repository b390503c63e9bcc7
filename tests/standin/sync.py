"""adb's sync service, the device's end: push, pull, stat and list.

A request is four letters and a little-endian length with as many bytes behind it; sizes and modes are stat(2)'s.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from standin.link import Stream

if TYPE_CHECKING:
    from standin.device import StandIn

_CHUNK = 1 << 16  # adb's own limit (SYNC_DATA_MAX)
_NOT_RUNNABLE = 0o660  # whatever is asked for on shared storage


async def serve(device: StandIn, stream: Stream) -> None:
    """Answer requests until QUIT."""
    while True:
        name, length = struct.unpack("<4sI", await stream.exactly(8))
        if name == b"QUIT":
            return
        path = (await stream.exactly(length)).decode(errors="surrogateescape")
        if name == b"SEND":
            await _take(device, stream, path)
        elif name == b"RECV":
            await _give(stream, device.path(path))
        elif name in (b"STAT", b"STA2", b"LST2"):
            await stream.write(_told(name, device.path(path)))
        elif name in (b"LIST", b"LIS2"):
            await _list(stream, name, device.path(path))
        else:
            await _fail(stream, f"unknown command {name!r}")
            return


async def _fail(stream: Stream, why: str) -> None:
    await stream.write(struct.pack("<4sI", b"FAIL", len(why)) + why.encode())


def _told(name: bytes, path: Path) -> bytes:
    try:
        found = path.stat() if name == b"STA2" else path.lstat()
        wrong = 0
    except OSError as error:
        found = os.stat_result((0,) * 10)
        wrong = error.errno or errno.EIO
    if name == b"STAT":
        return struct.pack("<4s3I", name, found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
    return struct.pack("<4s", name) + _fields(found, wrong)


def _fields(found: os.stat_result, wrong: int = 0) -> bytes:
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    return struct.pack(
        "<IQQ4IQ3q",
        *(wrong, found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid),
        *(found.st_size, *times),
    )


async def _list(stream: Stream, name: bytes, folder: Path) -> None:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        found, entry = path.lstat(), path.name.encode()
        if name == b"LIST":
            head = struct.pack("<4s4I", b"DENT", found.st_mode, found.st_size, int(found.st_mtime), len(entry))
        else:
            head = b"DNT2" + _fields(found) + struct.pack("<I", len(entry))
        await stream.write(head + entry)
    await stream.write(b"DONE" + bytes(16 if name == b"LIST" else 72))


async def _give(stream: Stream, path: Path) -> None:
    try:
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                await stream.write(struct.pack("<4sI", b"DATA", len(data)) + data)
    except OSError as error:
        await _fail(stream, f"open failed: {os.strerror(error.errno or errno.EIO)}")
        return
    await stream.write(struct.pack("<4sI", b"DONE", 0))


async def _take(device: StandIn, stream: Stream, request: str) -> None:
    """Write a file; after a failure what is still sent is read and thrown away, as adb expects."""
    target, _, mode = request.rpartition(",")
    path = device.path(target)
    failure = ""
    file = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not device.room():
            raise OSError(errno.ENOSPC, "")
        file = path.open("wb")
    except OSError as error:
        failure = f"couldn't create file: {os.strerror(error.errno or errno.EIO)}"
    try:
        while True:
            name, length = struct.unpack("<4sI", await stream.exactly(8))
            if name == b"DONE":
                break
            if name != b"DATA" or length > _CHUNK:
                await _fail(stream, "invalid data message")
                return
            data = await stream.exactly(length)
            if file is not None and not failure:
                if device.take_room(len(data)):
                    file.write(data)
                else:
                    failure = f"write failed: {os.strerror(errno.ENOSPC)}"
    finally:
        if file is not None:
            file.close()
    if failure:
        if file is not None:
            path.unlink(missing_ok=True)
        await _fail(stream, failure)
        return
    path.chmod(_NOT_RUNNABLE if device.is_noexec(target) else stat.S_IMODE(int(mode)) or 0o644)
    os.utime(path, (length, length))  # DONE's length is the file's time
    await stream.write(struct.pack("<4sI", b"OKAY", 0))
    await asyncio.sleep(0)
