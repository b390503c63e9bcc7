"""pytest's fixtures: one stand-in phone, or a maker of several, with the environment set so that adb finds them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from standin.device import StandIn
from standin.server import HOW_TO_GET_IT, AdbServer, find_adb


@pytest.fixture
def adb_server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """A private adb server; the test's own processes talk to it."""
    program = find_adb()
    if program is None:
        pytest.skip(HOW_TO_GET_IT)
    with AdbServer(tmp_path_factory.mktemp("adb"), program) as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", str(Path(program).parent), prepend=":")
        yield server


@pytest.fixture
def standin(adb_server: AdbServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., StandIn]]:
    """A function that makes and attaches a phone: ``standin("samsung", faults=...)``."""
    with contextlib.ExitStack() as stack:

        def make(profile: str = "pixel", **options: Any) -> StandIn:
            return stack.enter_context(StandIn(profile, tmp_path_factory.mktemp("p"), server=adb_server, **options))

        yield make


@pytest.fixture
def phone(standin: Callable[..., StandIn]) -> StandIn:
    """The stand-in of a Pixel, attached."""
    return standin()
