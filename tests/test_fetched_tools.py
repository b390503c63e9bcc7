"""What `make test` fetches for the tests of phones: found where it was put, left out where it cannot be had."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from standin import tools

FETCH = Path(tools.__file__).with_name("fetch.sh")


def test_without_apt_it_goes_on_and_says_so(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "mkdir", "dirname", "mktemp", "rm", "env"):
        (programs / name).symlink_to(shutil.which(name) or pytest.skip(f"needs {name}"))
    done = subprocess.run(
        [FETCH, tmp_path / "venv" / "standin"], env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "no apt-get here: install adb" in done.stderr
    assert not (tmp_path / "venv" / "standin" / "fetched").exists(), "make tries again the next time"


def test_where_the_packages_cannot_be_had_it_goes_on_and_says_so(tmp_path):
    """An apt-get that fails, as without a network."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache", "dpkg-query"):
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
        (programs / name).chmod(0o755)
    (programs / "dpkg-deb").symlink_to("/bin/true")
    for name in ("bash", "mkdir", "dirname", "mktemp", "rm", "env", "grep", "sort", "sh"):
        (programs / name).symlink_to(shutil.which(name) or pytest.skip(f"needs {name}"))
    done = subprocess.run(
        [FETCH, tmp_path / "standin"], env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "adb could not be had" in done.stderr and "software Vulkan could not be had" in done.stderr
    assert not (tmp_path / "standin" / "fetched").exists()


def test_the_driver_is_the_one_that_is_named_else_the_one_that_was_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    assert tools.vulkan() is None
    folder = tmp_path / "standin" / "lib"
    folder.mkdir(parents=True)
    (folder / "vk_swiftshader_icd.json").touch()
    assert tools.vulkan() == {
        "VK_ICD_FILENAMES": str(folder / "vk_swiftshader_icd.json"),
        "LD_LIBRARY_PATH": f"{folder}:/elsewhere",
    }
    monkeypatch.setenv("VK_ICD_FILENAMES", "/own.json")
    assert tools.vulkan() == {"VK_ICD_FILENAMES": "/own.json", "LD_LIBRARY_PATH": "/elsewhere"}


def test_what_was_fetched_runs():
    adb = Path(sys.prefix) / "bin" / "adb"
    if not adb.exists():
        pytest.skip(f"needs {adb}: make .venv/standin/fetched (from Debian packages, no root)")
    told = subprocess.run([adb, "version"], capture_output=True, text=True, check=True)
    assert "Android Debug Bridge version" in told.stdout
