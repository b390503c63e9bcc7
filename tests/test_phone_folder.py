"""mobench's folder on a phone: pushed once, verified, bounded, and nothing left of sessions that died."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_adb import SHELLS, FakeAdb

from mobench.errors import BadInputError, LinkError, SessionError
from runners.android import folder as folders
from runners.android.folder import ROOT, Entry, Folder, choose_old

FILES, RUN = f"{ROOT}/files", f"{ROOT}/run"


@pytest.fixture(params=SHELLS)
def adb(request: pytest.FixtureRequest, tmp_path: Path) -> FakeAdb:
    fake = FakeAdb(tmp_path / "phone", shell=request.param)
    fake.path("/data/local/tmp").mkdir(parents=True)
    return fake


def file(path: Path, text: str = "weights", size: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() + bytes(size))
    return path


def left(adb: FakeAdb) -> list[str]:
    """Return everything in the folder but the files that are kept on purpose."""
    root = adb.path(ROOT)
    return [str(path) for path in root.rglob("*") if not path.is_relative_to(root / "files") and path != root / "run"]


def test_a_file_is_pushed_once_and_an_unchanged_set_sends_no_bytes(adb: FakeAdb, tmp_path: Path) -> None:
    paths = [file(tmp_path / f"net{at}.tflite", f"weights {at}", 10_000) for at in range(3)]
    library, harness = (
        file(tmp_path / "libLiteRt.so", "ELF"),
        file(tmp_path / "mobench-harness", "#!/bin/sh\necho hi\n"),
    )
    first = Folder(adb)
    there = [first.put(path) for path in paths] + [first.put_together([library]), first.put(harness, executable=True)]
    assert adb.pushed == sum(path.stat().st_size for path in [*paths, library, harness])
    assert adb.path(there[0]).read_bytes() == paths[0].read_bytes() and there[0].endswith("/net0.tflite")
    assert adb.shell(there[-1]).out == "hi\n"
    adb.pushed = 0
    again = Folder(adb)  # another day, another process
    assert [again.put(path) for path in paths] + [again.put_together([library])] == there[:4]
    assert again.put(harness, executable=True) == there[4] and first.put(paths[1]) == there[1]
    assert adb.pushed == 0
    file(paths[0], "other weights")
    assert again.put(paths[0]) != there[0] and adb.pushed == paths[0].stat().st_size
    assert left(adb) == []


def test_libraries_lie_together_and_alone(adb: FakeAdb, tmp_path: Path) -> None:
    names = ("libLiteRt.so", "libLiteRtGpuAccelerator.so")
    place = Folder(adb).put_together([file(tmp_path / name, name) for name in names])
    assert sorted(path.name for path in adb.path(place).iterdir()) == sorted(names)
    with pytest.raises(BadInputError, match="same name"):
        Folder(adb).put_together([tmp_path / names[0], file(tmp_path / "other" / names[0])])


@pytest.mark.parametrize("name", ["a b.tflite", "$(touch hit).onnx", "-rf", "ünï.onnx", "a'b\";c.onnx", "..."])
def test_whatever_a_file_is_called_it_arrives(adb: FakeAdb, tmp_path: Path, name: str) -> None:
    there = Folder(adb).put(file(tmp_path / name, name))
    assert adb.path(there).read_text() == name and not list(tmp_path.rglob("hit"))
    adb.pushed = 0
    assert Folder(adb).put(tmp_path / name) == there and adb.pushed == 0


def test_what_was_changed_or_removed_on_the_phone_is_pushed_again(adb: FakeAdb, tmp_path: Path) -> None:
    path = file(tmp_path / "net.onnx")
    folder = Folder(adb)
    there = folder.put(path)
    adb.path(there).write_text("Weights")
    assert folder.put(path) == there and adb.path(there).read_text() == "Weights"  # known to be good in this process
    folder.forget()
    assert folder.put(path) == there and adb.path(there).read_text() == "weights"
    adb.path(there).unlink()
    assert Folder(adb).put(path) == there and adb.path(there).read_text() == "weights"


class Corrupting(FakeAdb):
    """A cable that changes a byte in the first pushes."""

    bad = 1

    def push(self, source: Path, target: str, *, deadline_s: float = 300.0) -> None:
        """Copy, and spoil."""
        super().push(source, target, deadline_s=deadline_s)
        if self.bad:
            self.bad -= 1
            self.path(target).write_bytes(b"?" + source.read_bytes()[1:])


def test_what_arrives_otherwise_than_it_was_sent_is_sent_again_and_then_refused(tmp_path: Path) -> None:
    adb = Corrupting(tmp_path / "phone")
    path = file(tmp_path / "net.onnx")
    assert adb.path(Folder(adb).put(path)).read_text() == "weights"
    adb.bad = 2
    with pytest.raises(SessionError, match="not what was sent"):
        Folder(adb).put(file(path, "others"))
    assert left(adb) == [] and len(list(adb.path(FILES).iterdir())) == 1


@pytest.mark.parametrize("lacking", [("sha256sum",), ("sha256sum", "sha1sum")])
def test_old_phones_verify_with_the_sums_they_have(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    adb = FakeAdb(tmp_path / "phone")
    for name in lacking:
        adb.program(name, "echo not found >&2; exit 127")
    path = file(tmp_path / "net.onnx")
    there = Folder(adb).put(path)
    adb.pushed = 0
    assert Folder(adb).put(path) == there and adb.pushed == 0
    adb.path(there).write_text("Weights")
    assert Folder(adb).put(path) == there and adb.path(there).read_text() == "weights"


def test_a_full_phone_gets_no_push(adb: FakeAdb, tmp_path: Path) -> None:
    adb.program(
        "df", 'echo "Filesystem 1K-blocks Used Available Use% Mounted on"; echo "/dev/dm-5 9 9 65600 99% /data"'
    )
    folder = Folder(adb)
    assert folder.put(file(tmp_path / "small.onnx"))
    adb.pushed = 0
    with pytest.raises(SessionError, match="has no room: 65 MiB are needed and 64 are free"):
        folder.put(file(tmp_path / "large.onnx", size=1 << 20))
    assert adb.pushed == 0 and left(adb) == []


def test_the_least_recently_used_files_make_room(adb: FakeAdb, tmp_path: Path) -> None:
    paths = [file(tmp_path / f"net{at}.onnx", f"{at}", 400 << 10) for at in range(4)]
    there = [Folder(adb, limit_mb=1).put(path) for path in paths[:2]]
    for at, path in enumerate(there):
        os.utime(adb.path(path).parent, (1e9 + at, 1e9 + at))
    Folder(adb, limit_mb=1).put(paths[0])  # now it is the one used last
    folder = Folder(adb, limit_mb=1)
    third = folder.put(paths[2])
    assert adb.path(there[0]).exists() and not adb.path(there[1]).exists() and adb.path(third).exists()
    folder.put(paths[0])
    folder.put(paths[3])  # more than the limit, and all three are in use: they stay
    assert len(list(adb.path(FILES).iterdir())) == 3
    Folder(adb, limit_mb=1).clean()
    assert len(list(adb.path(FILES).iterdir())) == 2


def test_what_goes_is_decided_by_age_limit_and_free_storage() -> None:
    entries = [Entry(name=name, size_kb=100) for name in "abc"]
    kept = {"taken_kb": 300, "size_kb": 50}
    assert choose_old(entries, **kept, limit_kb=350, free_kb=None) == []
    assert choose_old(entries, **kept, limit_kb=349, free_kb=None) == entries[:1]
    assert choose_old(entries, **kept, limit_kb=9999, free_kb=folders.SPARE_KB - 60) == entries[:2]
    assert choose_old(entries, **kept, limit_kb=0, free_kb=None) == entries


STRAY = "import time\ntime.sleep(60)"


def start_stray(adb: FakeAdb, owner: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A session's folder on the phone with a process that still runs."""
    child = subprocess.Popen([sys.executable, "-c", STRAY])
    place = adb.path(f"{RUN}/stray-{child.pid}")
    place.mkdir(parents=True)
    (place / "stat").write_text(Path(f"/proc/{child.pid}/stat").read_text())
    (place / "owner").write_text(f"{owner}\n")
    return child, place


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    return child.pid


def test_sessions_of_dead_processes_are_ended_and_removed(adb: FakeAdb) -> None:
    host = folders._owner().rsplit(" ", 2)[0]
    child, place = start_stray(adb, f"{host} {dead_pid()} 4711")
    assert Folder(adb).clean() == 1
    assert child.wait(10) == -9 and not place.exists() and left(adb) == []


def test_a_living_session_of_another_process_or_host_is_left_alone(adb: FakeAdb) -> None:
    host = folders._owner().rsplit(" ", 2)[0]
    with subprocess.Popen([sys.executable, "-c", STRAY]) as other:
        owner = f"{host} {other.pid} {folders._started(other.pid)}"
        child, place = start_stray(adb, owner)
        elsewhere, far_place = start_stray(adb, "laptop:0badcafe 4711 4712")
        assert Folder(adb).clean() == 0 and child.poll() is None and elsewhere.poll() is None
        for process in (child, elsewhere, other):
            process.kill()
            process.wait()
    assert Folder(adb).clean() == 2 and not place.exists() and not far_place.exists()


def test_a_process_that_only_has_a_dead_ones_number_is_never_killed(adb: FakeAdb) -> None:
    child, place = start_stray(adb, "laptop:0badcafe 4711 4712")
    fields = (place / "stat").read_text().rsplit(") ", 1)
    later = fields[1].split()
    later[19] = str(int(later[19]) + 1)
    (place / "stat").write_text(f"{fields[0]}) {' '.join(later)}\n")
    assert Folder(adb).clean() == 1 and not place.exists()
    assert child.poll() is None
    child.kill()
    child.wait()


@pytest.mark.parametrize("held", [b"", b"\n", b"x y z", b"0 (a) S", b"-1 (a) S 1", b"\xff\x00"])
def test_a_broken_note_of_a_process_kills_nobody_and_is_removed(adb: FakeAdb, held: bytes) -> None:
    adb.write({f"{RUN}/stray/stat": held, f"{RUN}/stray/owner": held})
    assert Folder(adb).clean() == 1 and left(adb) == []


def test_a_live_folder_of_ours_survives_cleaning_until_it_is_removed(adb: FakeAdb) -> None:
    folder = Folder(adb)
    place = folder.scratch("mobilenet_v2 $(x).tflite")
    assert adb.path(place).is_dir() and place.startswith(f"{RUN}/mobilenet-v2-x-tflite-")
    assert folder.clean() == 0 and adb.path(place).is_dir()
    folder.remove(place)
    assert left(adb) == []


def test_a_cut_cable_is_a_link_error_and_the_next_clean_removes_what_it_left(adb: FakeAdb, tmp_path: Path) -> None:
    folder = Folder(adb)
    place = folder.scratch("net")
    adb.unplugged = True
    for act in (lambda: folder.put(file(tmp_path / "net.onnx")), lambda: folder.remove(place), folder.clean):
        with pytest.raises(LinkError):
            act()
    adb.unplugged = False
    assert folder.clean() == 1 and left(adb) == []


def test_a_file_that_is_not_there_is_bad_input(adb: FakeAdb, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"gone\.onnx"):
        Folder(adb).put(tmp_path / "gone.onnx")
