"""The harness for phones: found in the cache, or built from the C sources with the NDK, or without it by ziglang."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mobench.downloads import cache_folder
from mobench.errors import BadInputError, MobenchError
from mobench.files import replacing, write_text
from runners.android import elf

NAME = "mobench-harness"
SOURCES = Path(__file__).resolve().parents[2] / "android_harness"
How = Literal["ndk", "ziglang", "host"]
PLATFORM = 24  # Android 7.0, the oldest that LiteRT's libraries run on
LINKER = "/system/bin/linker64"
SYSTEM_LIBRARIES = ("libc.so", "libdl.so", "libm.so")
PAGE_BYTES = 16384  # of phones from Android 15 on; older ones have 4 KiB pages and run such files as well
LIMIT_BYTES = 100_000
_ZIG_TARGETS: Mapping[str, str] = {"arm64-v8a": "aarch64-linux-android", "x86_64": "x86_64-linux-android"}
_SECTIONS = ("-ffunction-sections", "-fdata-sections")
_WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")
_DEADLINE_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A harness in the cache: for which ABI, ``how`` and with which ``tool`` it was built."""

    abi: str
    path: Path
    how: str
    tool: str
    size_bytes: int
    sha256: str
    experimental: bool


def sources() -> tuple[Path, ...]:
    """Return the harness's C sources. Raises BadInputError where this installation has none."""
    found = tuple(sorted(SOURCES.glob("*.c")))
    if not found:
        raise BadInputError(
            f"the harness's sources are not in {SOURCES}", mend="install mobench from its source folder"
        )
    return found


def sources_digest() -> str:
    """Return a SHA-256 over all files that the harness is built from."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in ("*.c", "*.h", "CMakeLists.txt") for path in SOURCES.rglob(pattern)):
        digest.update(f"{path.relative_to(SOURCES).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def harness(abi: str) -> Path:
    """Return the harness for phones of ``abi`` from the cache.

    Raises BadInputError where none was built, or it was built from other sources than this mobench's, or damaged.
    """
    return built(abi).path


def built(abi: str) -> Built:
    """Return what the cache holds for ``abi``; raises as `harness` does."""
    folder = _folder(abi)
    mend = f"run: mobench android build --abi {abi}"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        path = folder / NAME
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        fields = {key: manifest[key] for key in ("abi", "how", "tool", "size_bytes", "sha256", "experimental")}
        made_from = manifest["sources"]
    except FileNotFoundError as error:
        raise BadInputError(f"no harness for {abi} has been built", mend=mend) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"the harness in {folder} cannot be read", repr(error), mend) from error
    if digest != fields["sha256"]:
        raise BadInputError(str(path), "it is not the file that was built", mend)
    if made_from != sources_digest():
        raise BadInputError(str(path), "it was built from the sources of another mobench", mend)
    return Built(path=path, **fields)


def put(path: Path, abi: str, *, how: str, tool: str) -> Built:
    """Put the harness at ``path`` into the cache for ``abi`` as it is, unchecked; return what is there now."""
    folder = _folder(abi)
    data = path.read_bytes()
    fields: dict[str, Any] = {
        "abi": abi,
        "how": how,
        "tool": tool,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "experimental": how == "ziglang",
    }
    with replacing(folder / NAME) as temporary:
        temporary.write_bytes(data)
        temporary.chmod(0o755)
    manifest = {"schema": 1, **fields, "sources": sources_digest()}
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return Built(path=folder / NAME, **fields)


def _folder(abi: str) -> Path:
    return cache_folder() / "android" / abi / "harness"


def build(abi: str, how: How | None = None) -> Built:
    """Build the harness for ``abi``, check it and put it into the cache.

    Args:
        abi: one of elf.ABIS.
        how: `ndk` or `ziglang`; None takes the NDK where there is one, else ziglang.

    Raises:
        BadInputError: the ABI is unknown, or what is needed to build is not there.
        MobenchError: the compiler failed, or what it made would not run on a phone.
    """
    if abi not in elf.ABIS:
        raise BadInputError(f"ABI {abi!r}", "is not supported", f"choose {' or '.join(elf.ABIS)}")
    ndk = find_ndk() if how in (None, "ndk") else None
    with tempfile.TemporaryDirectory(prefix="mobench-build-") as scratch:
        if ndk:
            path, tool = _with_ndk(abi, ndk, Path(scratch))
        elif how == "ndk":
            raise BadInputError("no NDK was found", mend="install one and set ANDROID_NDK_HOME to its folder")
        else:
            path, tool = _with_zig(abi, Path(scratch))
        findings = check(path, abi)
        if findings:
            raise MobenchError(f"the harness built for {abi} with {tool} would not run on a phone", "; ".join(findings))
        return put(path, abi, how="ndk" if ndk else "ziglang", tool=tool)


def build_host(target: Path) -> Path:
    """Build the harness for this machine as ``target`` with the C compiler in $CC, or cc: for tests and development."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise BadInputError("there is no C compiler", mend="install gcc or clang, or set CC")
    target.parent.mkdir(parents=True, exist_ok=True)
    _run([compiler, *_WARNINGS, "-O2", "-o", str(target), *map(str, sources()), "-ldl"], "the harness")
    return target


def find_ndk() -> Path | None:
    """Return the folder of the NDK: $ANDROID_NDK_HOME, $ANDROID_NDK_ROOT, or the newest in the Android SDK.

    Raises BadInputError where a variable names a folder that holds none.
    """
    for variable in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"):
        if named := os.environ.get(variable):
            if not _toolchain(Path(named)).is_file():
                raise BadInputError(f"{variable} is {named}", "there is no NDK", "correct it, or unset it")
            return Path(named)
    sdks = [Path(os.environ[name]) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
    found = [ndk for sdk in (*sdks, Path.home() / "Android" / "Sdk") for ndk in sdk.glob("ndk/*")]
    found = [ndk for ndk in found if _toolchain(ndk).is_file()]
    return max(found, key=lambda ndk: [int(part) for part in re.findall(r"\d+", ndk.name)], default=None)


def _toolchain(ndk: Path) -> Path:
    return ndk / "build" / "cmake" / "android.toolchain.cmake"


def _with_ndk(abi: str, ndk: Path, scratch: Path) -> tuple[Path, str]:
    cmake = shutil.which("cmake")
    if cmake is None:
        raise BadInputError("cmake is not installed", mend="install it; the NDK's build needs it")
    properties = ndk / "source.properties"
    revision = re.search(r"Pkg\.Revision\s*=\s*(\S+)", properties.read_text() if properties.is_file() else "")
    tool = f"NDK {revision[1] if revision else ndk.name}"
    sources()
    _run(
        [
            cmake,
            "-S",
            str(SOURCES),
            "-B",
            str(scratch / "build"),
            f"-DCMAKE_TOOLCHAIN_FILE={_toolchain(ndk)}",
            f"-DANDROID_ABI={abi}",
            f"-DANDROID_PLATFORM=android-{PLATFORM}",
            "-DCMAKE_BUILD_TYPE=Release",
        ],
        f"the harness for {abi} with {tool}",
    )
    _run([cmake, "--build", str(scratch / "build")], f"the harness for {abi} with {tool}")
    found = [path for path in (scratch / "build").rglob(NAME) if path.is_file()]
    if not found:
        raise MobenchError(f"the harness for {abi} with {tool}", f"CMake made no {NAME}")
    return found[0], tool


def _with_zig(abi: str, scratch: Path) -> tuple[Path, str]:
    """Link against libraries of bare names, with an own start and own declarations: ziglang brings no bionic."""
    if importlib.util.find_spec("ziglang") is None:
        mend = "set ANDROID_NDK_HOME to an NDK, or without one: pip install '.[android]' in mobench's source folder"
        raise BadInputError("there is nothing to build the harness for phones with", mend=mend)
    what = f"the harness for {abi} with ziglang"
    bionic = SOURCES / "bionic"
    zig = [sys.executable, "-m", "ziglang"]
    version = _run([*zig, "version"], what).strip()
    compiler = [*zig, "cc", "-target", _ZIG_TARGETS[abi], "-nostdlib", "-O2"]
    stubs = []
    for library in sorted((bionic / "stubs").glob("lib*.c")):
        stubs.append(str(scratch / f"stub_{library.stem}.so"))  # ziglang takes `libc.so` for the libc that it has not
        soname = f"-Wl,-soname,{library.stem}.so"
        _run([*compiler, "-shared", "-fPIC", "-fno-builtin", "-w", soname, "-o", stubs[-1], str(library)], what)
    output = scratch / NAME
    flags = ["-fPIE", "-pie", "-s", "-fno-stack-protector", "-fno-sanitize=all", "-DMOBENCH_BIONIC", *_SECTIONS]
    linking = [
        "-Wl,--as-needed",
        "-Wl,--gc-sections",
        f"-Wl,--dynamic-linker={LINKER}",
        f"-Wl,-z,max-page-size={PAGE_BYTES}",
    ]
    files = [*map(str, sources()), str(bionic / "start.c"), *stubs]
    _run([*compiler, *_WARNINGS, *flags, "-o", str(output), *files, *linking], what)
    return output, f"ziglang {version}"


def check(path: Path, abi: str) -> list[str]:
    """Return why the program at ``path`` would not run on a phone of ``abi``, or is too big; empty where it would."""
    found = elf.read(path)
    findings = []
    if found.abi != abi:
        findings.append(f"it is for {found.abi}")
    if found.interpreter != LINKER:
        findings.append(f"its interpreter is {found.interpreter}, not {LINKER}")
    if others := sorted(set(found.needed) - set(SYSTEM_LIBRARIES)):
        findings.append(f"it needs {', '.join(others)}")
    findings += alignment(found)
    if found.tls:
        findings.append("it has thread-local variables, which bionic aligns otherwise")
    if found.text_relocations:
        findings.append("it has text relocations")
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        findings.append(f"it has {size} bytes, more than {LIMIT_BYTES}")
    return findings


def alignment(found: elf.Elf) -> list[str]:
    """Return what in a program or library does not suit phones with 16 KiB pages."""
    findings = []
    if any(load.align % PAGE_BYTES or (load.address - load.offset) % PAGE_BYTES for load in found.loads):
        least = min(load.align for load in found.loads)
        findings.append(f"its segments are aligned to {least} bytes, not {PAGE_BYTES}")
    if found.relro:
        # The loader makes whole pages read-only: what is written to must not share the last one.
        end = found.relro.address + found.relro.size
        page_end = -(-end // PAGE_BYTES) * PAGE_BYTES
        if any(load.address < page_end and load.address + load.size > end for load in found.loads):
            findings.append(f"its read-only data shares a page of {PAGE_BYTES} bytes with what is written to")
    return findings


def _run(command: Sequence[str], what: str) -> str:
    """Run a tool and return its stdout; a failure is one line that holds the tool's first complaint."""
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", timeout=_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MobenchError(f"building {what}", f"{Path(command[0]).name} took more than {_DEADLINE_S} s") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        lines = lines or [f"{Path(command[0]).name} ended with {done.returncode}"]
        at = next((index for index, line in enumerate(lines) if "error" in line.lower()), 0)
        goes_on = 2 if lines[at].endswith(":") else 1  # CMake says where on one line and what on the next
        raise MobenchError(f"building {what}", " ".join(lines[at : at + goes_on]))
    return done.stdout
