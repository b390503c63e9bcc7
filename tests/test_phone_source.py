"""A phone's files and services, in one round trip, whatever bytes are in them and whichever shell it has."""

import os
from pathlib import Path

import pytest
from fake_adb import SHELLS, FakeAdb

from mobench.errors import SessionError
from runners.android import source
from runners.android.source import PhoneSource, PhoneWatch, ThroughSession
from runners.device_files import Files

ZONE = "/sys/class/thermal/thermal_zone"


@pytest.fixture(params=SHELLS)
def adb(request: pytest.FixtureRequest, tmp_path: Path) -> FakeAdb:
    return FakeAdb(tmp_path / "phone", shell=request.param)


def test_many_files_and_services_cost_one_round_trip(adb: FakeAdb) -> None:
    adb.write({f"{ZONE}0/type": "BIG", f"{ZONE}0/temp": 41000, f"{ZONE}1/type": "tsens", "/proc/loadavg": "1.0 2.0"})
    adb.program(
        "dumpsys",
        """case $1 in battery) echo "  level: 71"; echo "  scale: 100";;
*) echo "Can't find service: $1";; esac""",
    )
    patterns = [f"{ZONE}*/type", f"{ZONE}[0-9]*/temp", "/proc/loadavg", "dumpsys:battery", "dumpsys:gone", "/sys/none"]
    assert PhoneSource(adb).read_many(patterns) == {
        f"{ZONE}0/type": "BIG",
        f"{ZONE}1/type": "tsens",
        f"{ZONE}0/temp": "41000",
        "/proc/loadavg": "1.0 2.0",
        "dumpsys:battery": "level: 71\n  scale: 100",
    }
    assert len(adb.scripts) == 1


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (b"no newline", "no newline"),
        (b"Pixel 6\0", "Pixel 6"),
        (b"", ""),
        (b"a\r\nb\r\n", "a\nb"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
        (b"mobench-0000>0\nmobench-0000.\n%s\\n$(reboot)`x`", "mobench-0000>0\nmobench-0000.\n%s\\n$(reboot)`x`"),
    ],
)
def test_odd_bytes_come_as_they_are_and_disturb_nothing(adb: FakeAdb, held: bytes, text: str) -> None:
    adb.write({"/sys/odd": held, "/sys/next": 7})
    assert PhoneSource(adb).read_many(["/sys/odd", "/sys/next"]) == {"/sys/odd": text, "/sys/next": "7"}


def test_names_that_a_shell_would_take_for_more_are_only_names(adb: FakeAdb, tmp_path: Path) -> None:
    names = ["/sys/a b", "/sys/intel-rapl:0", "/sys/$(touch hit)", "/sys/'quoted'", "/sys/;touch hit;"]
    adb.write(dict.fromkeys(names, 1))
    adb.program("dumpsys", "echo asked")
    found = PhoneSource(adb).read_many([*names, "dumpsys:x; touch hit", "relative", ""])
    assert found == dict.fromkeys(names, "1")
    assert not list(tmp_path.rglob("hit"))


def test_a_file_that_may_not_be_read_and_a_folder_are_left_out(adb: FakeAdb) -> None:
    adb.write({"/sys/here/file": 1, "/sys/gone": 2})
    adb.path("/sys/gone").unlink()
    adb.path("/sys/gone").symlink_to("nowhere")
    assert PhoneSource(adb).read_many(["/sys/*", "/sys/here/file"]) == {"/sys/here/file": "1"}


def test_more_than_a_command_line_takes_is_asked_in_parts(adb: FakeAdb) -> None:
    names = [f"/sys/devices/system/cpu/cpu{core}/cpufreq/some_rather_long_name" for core in range(500)]
    adb.write({name: at for at, name in enumerate(names)})
    found = PhoneSource(adb).read_many(names)
    assert [found[name] for name in names] == [str(at) for at in range(500)]
    assert len(adb.scripts) > 1 and max(map(len, adb.scripts)) < 2 * source.MOST_CHARACTERS


def test_a_watch_of_a_phone_asks_once_a_state_and_knows_without_asking_that_nothing_is_stolen(tmp_path: Path) -> None:
    adb = FakeAdb(tmp_path / "phone")
    adb.write({"/proc/stat": "cpu  1000 0 0 9000 0 0 0 77 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0"})
    watch = PhoneWatch(PhoneSource(adb), lambda: [os.getpid()])
    adb.scripts.clear()
    assert watch.steal_ticks() == 0 and watch.energy_uj() is None
    assert adb.scripts == []
    adb.write({"/proc/stat": "cpu  1100 0 0 9100 0 0 0 77 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0"})
    state = watch.state("during", 1.0)
    assert len(adb.scripts) == 1
    assert state.others_share is not None and 0 < state.others_share <= 0.5 and state.energy_uj == {}


class Near:
    """A session that reads what it is told to have, and says what it was asked."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files, self.alive, self.asked = files, True, []

    def state(self, paths):  # noqa: D102
        self.asked += paths
        if not self.alive or not self.files:
            raise SessionError("net", "its process ended")
        return {path: self.files[path] for path in paths if path in self.files}


def test_clocks_are_read_through_a_live_session_and_all_else_over_adb(tmp_path):
    folder = "/sys/devices/system/cpu/cpufreq/policy0"
    for path in (f"{folder}/scaling_cur_freq", f"{folder}/scaling_max_freq", "/proc/loadavg"):
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_text("idle")
    source = ThroughSession(Files(tmp_path))
    wanted = [f"{folder}/scaling_cur_freq", f"{folder}/scaling_max_freq", "/proc/loadavg", f"{folder}/*"]
    assert set(source.read_many(wanted).values()) == {"idle"}
    near = Near({f"{folder}/scaling_cur_freq": "2800000"})
    source.follow(near)
    read = source.read_many(wanted[:3])
    assert read[f"{folder}/scaling_cur_freq"] == "2800000", "as it was when the block ended"
    assert read[f"{folder}/scaling_max_freq"] == read["/proc/loadavg"] == "idle"
    assert near.asked == wanted[:2]
    near.files = {}
    assert source.read_many(wanted[:1]) == {f"{folder}/scaling_cur_freq": "idle"}, "it died: adb reads them"
    near.alive, near.asked = False, []
    source.read_many(wanted[:1])
    assert near.asked == []
