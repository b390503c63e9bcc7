"""The user's own tools on a phone: pushed with their libraries, ended at a deadline there, and cables pulled."""

import json
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_tools import install
from standin.device import StandIn
from standin.faults import until

from mobench import store
from mobench.cli import cli
from mobench.errors import DeathError, LinkError, SessionError
from mobench.records import Artifact, Target
from runners.adb import Adb
from runners.android.folder import Folder
from runners.android.tools import OnPhone
from runners.native_tools import ToolSession, open_tool_session


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
    assert script.endswith("taskset c0 '/data/a b'") and "${t:+$t 13}" in script
    assert shlex.split(script.partition("} ")[2]) == ["taskset", "c0", "/data/a b"]
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


# --- the stand-in, through the real adb -----------------------------------------------------------------------------


def on_phone(phone: StandIn, folder: Path, tool: str, **edits: Any) -> tuple[ToolSession, Folder]:
    """Install a tool that is none, and open a session of it on the stand-in."""
    name, suffix = ("onnxruntime_perf_test", "onnx") if tool == "perf_test" else ("benchmark_model", "tflite")
    model = folder / f"net.{suffix}"
    model.write_bytes(b"model")
    pushed = Folder(Adb(phone.serial))
    described = Artifact(path=model, sha256="0", size_bytes=5, format=suffix, name="net")  # type: ignore[arg-type]
    session = open_tool_session(
        *(name, install(folder, tool, **edits), described, Target(runtime=name, threads=4, cores=(4, 5))),
        place=OnPhone(Adb(phone.serial), pushed),
        logs=folder / "logs",
    )
    return session, pushed


@pytest.mark.parametrize("profile", ["pixel", "android9"])  # the old one has one stream, and no exit statuses
@pytest.mark.parametrize("tool", ["classic", "litert", "perf_test"])
def test_a_tool_runs_on_the_phone_and_leaves_nothing_running(
    standin: Callable[..., StandIn], tmp_path: Path, tool: str, profile: str
) -> None:
    phone = standin(profile)
    session, _ = on_phone(phone, tmp_path, tool)
    timing = session.time(lead_in=4, timed=5)
    assert set(timing.wall_ns) == {2_000}
    session.close()
    assert phone.processes() == [] and list(phone.path("/data/local/tmp/mobench/run").iterdir()) == []
    log = sorted((tmp_path / "logs").iterdir())[-1].read_text()
    assert "taskset 30 " in log and "--- exit status 0" in log


def test_a_tool_that_is_killed_on_the_phone_is_no_result(phone: StandIn, tmp_path: Path) -> None:
    with pytest.raises(DeathError, match=r"killed by SIGKILL \(out of memory\?\)"):
        on_phone(phone, tmp_path, "classic", signal=9)
    assert phone.processes() == []


def test_a_tool_that_hangs_is_ended_on_the_phone_itself(phone: StandIn, tmp_path: Path) -> None:
    session, _ = on_phone(phone, tmp_path, "classic")
    session._start_s = 0.0
    (tmp_path / "scenario.json").write_text('{"tool": "classic", "sleep_s": 60}')
    with pytest.raises(SessionError, match="not done within its deadline of 2 s"):
        session.time(lead_in=4, timed=5, deadline_s=2)
    assert phone.processes() == []


def test_a_cable_pulled_in_a_run_is_a_lost_link(phone: StandIn, tmp_path: Path) -> None:
    session, _ = on_phone(phone, tmp_path, "classic")
    threading.Timer(0.4, phone.cut).start()
    with pytest.raises(LinkError):
        session.time(lead_in=4, timed=5)
    session.close()
    end = time.monotonic() + 10
    while phone.processes() and time.monotonic() < end:
        time.sleep(0.05)
    assert phone.processes() == []


def test_a_campaign_of_a_tool_on_a_phone_s_gpu_takes_turns_and_is_journaled(
    phone: StandIn, tflite_model: Path, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.tflite", "b.tflite")]
    for file in files:
        file.write_bytes(tflite_model.read_bytes())
    tool = install(tmp_path, "classic")
    asked = ["run", *map(str, files), "--device", "android-gpu", "--runtime", "benchmark_model", "--tool", str(tool)]
    result = CliRunner().invoke(cli, [*asked, "--budget", "8", "--json", "-o", str(tmp_path / "results")])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["cell"], row["device"], round(row["p50_ms"], 9)) for row in rows] == [
        ("a.tflite", "android-gpu", 0.002),
        ("b.tflite", "android-gpu", 0.002),
    ]
    (journal,) = (tmp_path / "results").rglob("*.jsonl")
    run = store.read(journal)
    assert {ready.got for _, _, ready in run.sessions} == {"GPU fp16"}
    assert {block.phase for block in run.blocks} == {"warmup", "steady"}
    assert phone.processes() == [] and phone.setting("fixed_performance") == "false"
    assert list(phone.path("/data/local/tmp/mobench/run").iterdir()) == []
    more = CliRunner().invoke(cli, ["run", "--resume", str(journal), "--budget", "5", "--json"])
    assert more.exit_code == 0, more.output
    assert all(row["n_blocks"] > before["n_blocks"] for row, before in zip(json.loads(more.stdout), rows, strict=True))


def test_what_a_cut_cable_leaves_behind_does_not_run_on_beside_the_next(phone: StandIn, tmp_path: Path) -> None:
    """`timeout` puts what it runs into a process group of its own, which the shell's end does not reach."""
    session, _ = on_phone(phone, tmp_path, "classic")
    (tmp_path / "scenario.json").write_text('{"tool": "classic", "sleep_s": 60}')
    threading.Timer(1.0, phone.cut).start()
    with pytest.raises(LinkError):
        session.time(lead_in=4, timed=5)
    assert until(lambda: phone.processes() == [])
