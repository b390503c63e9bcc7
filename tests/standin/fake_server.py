"""An adb server that says what it is told to say: for states which only a USB port can bring about."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import BinaryIO, Self, cast

_VERSION = b"0029"  # the number that adb 29 to 36 ask for; another one makes them start a server of their own


class FakeServer:
    """Answers a real adb client: the list of devices with a text, all else with a failure."""

    def __init__(self, devices: str, failure: str) -> None:
        self._devices, self._failure = devices, failure
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.env = {"ANDROID_ADB_SERVER_PORT": str(self._socket.getsockname()[1])}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as file:
                try:
                    self._answer(cast(BinaryIO, file))
                except OSError:
                    continue

    def _answer(self, file: BinaryIO) -> None:
        def counted(data: bytes) -> bytes:
            return b"%04x" % len(data) + data

        head = file.read(4)
        request = file.read(int(head, 16)).decode() if head else ""
        if request == "host:version":
            file.write(b"OKAY" + counted(_VERSION))
        elif request.startswith("host:devices"):
            file.write(b"OKAY" + counted(self._devices.encode()))
        else:
            file.write(b"FAIL" + counted(self._failure.encode()))
        file.flush()
