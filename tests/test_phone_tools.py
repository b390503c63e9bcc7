"""The user's own tools on a phone: pushed with their libraries, ended at a deadline there, and cables pulled."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mobench.errors import LinkError
from mobench.records import Artifact, Target
from runners.android.tools import OnPhone
from runners.native_tools import open_tool_session


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "whatever-it-is-called"
    path.write_bytes(b"\x7fELF")
    return path


@dataclass
class Answer:
    status: int
    out: str
    err: str = ""


class Bridge:
    """An adb and a folder that keep what they are asked."""

    serial = "R5"

    def __init__(self, answer: Answer | Exception | None = None) -> None:
        self.answer, self.scripts, self.pushed, self.removed = answer, list[str](), list[list[str]](), list[str]()

    def shell(self, script: str, *, deadline_s: float = 30.0) -> Answer:
        """Keep the script."""
        self.scripts.append(script)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or Answer(0, "")

    def put(self, path: Path, *, executable: bool = False) -> str:
        """Keep the name."""
        self.pushed.append([path.name])
        return f"/data/{path.name}"

    def put_together(self, paths: Sequence[Path]) -> str:
        """Keep the names."""
        self.pushed.append([path.name for path in paths])
        return "/data/files"

    def scratch(self, name: str) -> str:
        """Return one."""
        return f"/data/run/{name}"

    def remove(self, folder: str) -> None:
        """Keep the name."""
        self.removed.append(folder)


def test_a_tool_and_its_libraries_are_pushed_together_and_run_with_a_deadline_of_the_phone_s_own(binary: Path) -> None:
    (binary.parent / "libonnxruntime.so").touch()
    bridge: Any = Bridge(Answer(137, "out", "err"))
    place = OnPhone(bridge, bridge)
    assert place.program(binary) == "/data/files/whatever-it-is-called"
    assert bridge.pushed == [["whatever-it-is-called", "libonnxruntime.so"]]
    done = place.run(["taskset", "c0", "/data/a b"], deadline_s=12.3)
    assert (done.status, done.out, done.err, done.late) == (137, "out", "err", False)
    script = bridge.scripts[-1]
    assert script.endswith("taskset c0 '/data/a b'") and "timeout 13" in script
    assert shlex.split(script.partition(") ")[2]) == ["taskset", "c0", "/data/a b"]
    assert place.new_file("results.csv") == "/data/run/tool/results.csv"
    place.close()
    place.close()
    assert bridge.removed == ["/data/run/tool"]


def test_a_pulled_cable_is_a_lost_link_not_a_bad_tool(binary: Path) -> None:
    model = Artifact(path=Path("net.tflite"), sha256="0", size_bytes=1, format="tflite", name="net")
    bridge: Any = Bridge(LinkError("phone R5", "device not found", "plug it in"))
    with pytest.raises(LinkError):
        open_tool_session(
            *("benchmark_model", binary, model, Target(runtime="benchmark_model")),
            place=OnPhone(bridge, bridge),
            logs=binary.parent,
        )
