"""The harness for phones, built without one: linked for both ABIs, held against readelf, and started right here."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from mobench.errors import BadInputError, MobenchError
from runners.android import build, elf
from runners.wire import SEPARATOR

ROOT = Path(__file__).resolve().parents[1]
BIONIC = build.SOURCES / "bionic"

# Bionic's names that glibc has not, and its sets of signals, which are shorter, so that a program for Android's x86_64
# can start on this machine: what stands in start.c and libc.h is then run, and not only linked.
BIONIC_ON_GLIBC = """
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int *__errno(void) { return &errno; }
int sigemptyset(unsigned long *set) { *set = 0; return 0; }
int sigaddset(unsigned long *set, int number) { *set |= 1UL << (number - 1); return 0; }
int sigprocmask(int how, const unsigned long *set, unsigned long *before) {
    return (int)syscall(SYS_rt_sigprocmask, how, set, before, sizeof *set);
}
void __libc_init(void **stack, void (*unused)(void), int (*program)(int, char **, char **), void *arrays) {
    int count = *(int *)stack;
    char **arguments = (char **)(stack + 1);
    if (unused || *(void **)arrays) abort();
    exit(program(count, arguments, arguments + count + 1));
}
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)  # no SDK of the user's


@pytest.fixture(scope="module")
def zig():
    pytest.importorskip("ziglang", reason="needs the dev extra: pip install 'mobench[dev]'")
    return [sys.executable, "-m", "ziglang"]


@pytest.fixture(scope="module")
def readelf():
    program = shutil.which("readelf")
    if program is None:
        pytest.skip("needs readelf: apt-get install binutils")
    return lambda path, *options: (
        subprocess.run([program, "-W", *options, str(path)], capture_output=True, text=True, check=True).stdout
    )


@pytest.fixture(scope="module")
def built(zig, tmp_path_factory):
    """The harness for both ABIs, built once by ziglang."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {abi: build.build(abi, "ziglang") for abi in elf.ABIS}


def symbols(text):
    """Return the names that readelf lists as undefined and as defined; versions are cut off."""
    rows = [line.split() for line in text.splitlines() if re.match(r"\s*[1-9]\d*: ", line)]
    names = [(row[6], row[7].partition("@")[0]) for row in rows if len(row) > 7]
    return {name for section, name in names if section == "UND"}, {name for section, name in names if section != "UND"}


@pytest.mark.parametrize(
    ("abi", "machine"), [("arm64-v8a", "AArch64"), ("x86_64", "Advanced Micro Devices X86-64")]
)  # fmt: skip
def test_the_harness_is_a_program_that_android_can_load(built, readelf, abi, machine):
    path = built[abi].path
    header, segments = readelf(path, "-h"), readelf(path, "-l")
    assert re.search(rf"Machine: +{machine}", header) and re.search(r"Type: +DYN \(Position-Independent Exec", header)
    assert "[Requesting program interpreter: /system/bin/linker64]" in segments
    assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", readelf(path, "-d"))) == {"libc.so", "libdl.so"}
    loads = re.findall(r"^ +LOAD +(\w+) (\w+) .* (0x\w+)$", segments, re.MULTILINE)
    assert len(loads) >= 3
    for offset, address, align in loads:
        assert int(align, 16) >= 16384 and (int(offset, 16) - int(address, 16)) % 16384 == 0
    assert " TLS " not in segments and "TEXTREL" not in readelf(path, "-d")
    assert not re.search(r"GNU_STACK.*RWE", segments), "an executable stack"
    assert "COPY" not in readelf(path, "-r")
    imported, _ = symbols(readelf(path, "--dyn-syms"))
    assert imported - declared() == {"__libc_init"}, "a name that libc.h does not declare"
    assert 10_000 < path.stat().st_size <= 100_000
    assert built[abi].experimental and built[abi].tool == f"ziglang {version('ziglang').partition('.post')[0]}"


def declared():
    """Return the functions and variables that bionic/libc.h declares."""
    text = re.sub(r"//.*|__attribute__\(\(.*?\)\)\) ", "", (BIONIC / "libc.h").read_text())
    functions = re.findall(r"^[\w ()*,]*?\b(\w+)\((?!\()[^;{]*\);$", text, re.MULTILINE)
    variables = re.findall(r"^extern FILE (.*);$", text, re.MULTILINE)
    return set(functions) | {name.strip(" *") for line in variables for name in line.split(",")}


def test_what_is_declared_is_what_the_harness_uses():
    """A declaration that nothing calls is one that no test has tried."""
    text = "".join(path.read_text() for pattern in ("*.c", "*.h") for path in build.SOURCES.glob(pattern))
    called = set(re.findall(r"\b(\w+)\(", re.sub(r"//.*", "", text)))
    assert declared() - called <= {"__errno", "calloc", "memset"}  # errno is a macro; the compiler calls the others


def test_the_stubs_hold_what_is_declared_and_nothing_else():
    stubs = "".join(path.read_text() for path in (BIONIC / "stubs").glob("*.c"))
    named = set(re.findall(r"\bF\((?!name)(\w+)\)", stubs)) | set(re.findall(r"\*(\w+)[,;]", stubs))
    assert named == declared() | {"__libc_init"}


@pytest.mark.parametrize(
    "library",
    [
        pytest.param("ai_edge_litert/libLiteRt.so", id="litert"),
        pytest.param("onnxruntime/capi/libonnxruntime.so.*", id="ort"),
    ],
)
def test_what_we_read_of_elf_files_is_what_readelf_reads(readelf, library):
    path = next((found for entry in sys.path for found in Path(entry).glob(library)), None)
    if path is None:
        pytest.skip(f"needs {library}, from the runtime's wheel")
    found = elf.read(path)
    dynamic = readelf(path, "-d")
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    assert [found.soname] == re.findall(r"\(SONAME\).*\[(.*)\]", dynamic)
    assert (found.imports, found.exports) == symbols(readelf(path, "--dyn-syms"))
    assert found.interpreter is None


def test_a_table_of_gnu_hashes_alone_gives_the_same_symbols(zig, readelf, tmp_path):
    source = tmp_path / "few.c"
    source.write_text(
        "int puts(const char *);\n" + "".join(f"int f{i}(void) {{ return puts(0); }}\n" for i in range(40))
    )
    for style in ("gnu", "sysv", "both"):
        path = tmp_path / f"{style}.so"
        options = ["-target", "aarch64-linux-android", "-nostdlib", "-shared", "-fPIC", f"-Wl,--hash-style={style}"]
        subprocess.run([*zig, "cc", *options, "-Wl,-z,undefs", "-o", str(path), str(source)], check=True)
        found = elf.read(path)
        assert (found.imports, found.exports) == symbols(readelf(path, "--dyn-syms"))
        assert found.imports == {"puts"} and len(found.exports & {f"f{i}" for i in range(40)}) == 40


def test_what_is_no_elf_file_is_one_line(tmp_path, built):
    path = tmp_path / "f"
    whole = built["arm64-v8a"].path.read_bytes()
    for data, says in (
        (b"PK\x03\x04 an archive", "is no ELF file"),
        (whole[:18] + (40).to_bytes(2, "little") + whole[20:], "is for armeabi-v7a"),
        (whole[:30], "not whole"),
        (whole[:400], "not whole"),
        (b"", "is no ELF file"),
    ):
        path.write_bytes(data)
        with pytest.raises(BadInputError, match=says):
            elf.read(path)
    with pytest.raises(BadInputError, match="No such file"):
        elf.read(tmp_path / "none")


@pytest.fixture(scope="module")
def start(built, zig, tmp_path_factory):
    """A function that starts Android's harness on glibc's loader, for Arm in qemu, and returns its answers."""

    def run(abi, *arguments, requests=b""):
        if sys.platform != "linux" or platform.machine() != "x86_64":
            pytest.skip("needs an x86-64 Linux with glibc")
        begin, system = [], "/lib64/ld-linux-x86-64.so.2"
        if abi == "arm64-v8a":
            prefix = os.environ.get("QEMU_LD_PREFIX", "/usr/aarch64-linux-gnu")
            begin, system = [shutil.which("qemu-aarch64-static")], f"{prefix}/lib/ld-linux-aarch64.so.1"
        if None in begin or not Path(system).exists():
            pytest.skip("needs an Arm processor's stand-in: apt-get install qemu-user-static libc6-arm64-cross")
        folder = tmp_path_factory.mktemp("shim")
        (folder / "libc.c").write_text(BIONIC_ON_GLIBC)
        (folder / "libdl.c").write_text("")
        for name in ("libc", "libdl"):
            target = "aarch64-linux-gnu.2.34" if abi == "arm64-v8a" else "x86_64-linux-gnu.2.34"
            options = ["-target", target, "-shared", "-fPIC", "-w", "-fno-builtin", "-fno-sanitize=all"]
            files = [f"-Wl,-soname,{name}.so", "-o", f"{folder}/{name}.so", f"{folder}/{name}.c"]
            subprocess.run([*zig, "cc", *options, *files], check=True)
        libraries = f"{folder}:{Path(system).parent}" if begin else str(folder)
        command = [*begin, system, "--library-path", libraries, str(built[abi].path), *arguments]
        done = subprocess.run(command, input=requests, capture_output=True, timeout=60, check=False)
        lines = [line for line in done.stdout.split(b"\n") if line.startswith(SEPARATOR)]
        return done.returncode, [json.loads(line[1:]) for line in lines], done.stderr

    return run


@pytest.mark.parametrize("abi", elf.ABIS)
def test_the_program_for_android_starts_and_refuses_what_it_cannot_read(start, abi):
    status, answers, _ = start(abi, "{}")
    assert status == 1 and [each["type"] for each in answers] == ["hello", "error"]
    assert answers[0]["versions"]["abi"] == abi


def test_the_program_for_android_runs_a_model(start, tflite_model):
    """Real inferences by the x86_64 program, with this machine's C library in place of bionic."""
    pytest.importorskip("ai_edge_litert")
    library = next(found for entry in sys.path for found in Path(entry).glob("ai_edge_litert/libLiteRt.so"))
    settings = {
        "runtime": "litert", "library": str(library), "accelerators": "", "model": str(tflite_model),
        "provider": "xnnpack", "threads": 1, "batch": 1, "shape": [], "cores": [], "deadline_s": 30, "idle_s": 30,
    }  # fmt: skip
    asked = [{"type": "time", "lead_in": 1, "timed": 5, "deadline_ms": 20000}, {"type": "bye"}]
    requests = b"".join(SEPARATOR + json.dumps(each).encode() + b"\n" for each in asked)
    status, answers, log = start("x86_64", json.dumps(settings), requests=requests)
    assert [each["type"] for each in answers] == ["hello", "ready", "timing"], (answers, log)
    assert status == 0 and len(answers[2]["wall_ns"]) == 5 and min(answers[2]["wall_ns"]) > 0


PROGRAM = '#include "bionic/libc.h"\nint main(int argc, char **argv) { return argc + (int)strlen(argv[0]); }\n'


@pytest.mark.parametrize(
    ("more", "flags", "says"),
    [
        ("", [], None),
        ("", ["-Wl,-z,max-page-size=4096"], "aligned to 4096 bytes, not 16384"),
        ("", ["-Wl,--dynamic-linker=/lib/ld.so"], "its interpreter is /lib/ld.so"),
        ("_Thread_local int *volatile own; int *get(void) { return own; }", ["-Wl,-u,get"], "thread-local"),
        ("const char big[100000] = {1};", ["-Wl,-u,big"], "more than 100000"),
        ("int dl_other(void); int f(void) { return dl_other(); }", ["-Wl,-u,f", "other.so"], "it needs libother.so"),
    ],
)
def test_a_program_that_would_not_run_on_a_phone_is_found_out(zig, tmp_path, more, flags, says):
    source = tmp_path / "p.c"
    source.write_text(PROGRAM + more)
    compiler = [*zig, "cc", "-target", "aarch64-linux-android", "-nostdlib", "-O2", "-fno-sanitize=all"]
    shared = [*compiler, "-shared", "-fPIC", "-fno-builtin", "-w"]
    (tmp_path / "other.c").write_text("int dl_other(void) { return 0; }")
    subprocess.run([*shared, "-Wl,-soname,libother.so", "-o", "other.so", "other.c"], check=True)
    stub = str(BIONIC / "stubs" / "libc.c")
    subprocess.run([*shared, "-Wl,-soname,libc.so", "-o", "stub.so", stub], check=True)
    options = ["-I", str(build.SOURCES), "-fPIE", "-pie", "-s", "-Wl,--dynamic-linker=/system/bin/linker64"]
    options += ["-Wl,-z,max-page-size=16384", *flags]
    command = [*compiler, "-o", "program", "p.c", str(BIONIC / "start.c"), "stub.so", *options]
    subprocess.run(command, check=True)
    findings = build.check(tmp_path / "program", "arm64-v8a")
    assert (len(findings) == 1 and says in findings[0]) if says else findings == []
    assert "it is for arm64-v8a" in build.check(tmp_path / "program", "x86_64")


def test_a_program_of_this_machine_is_none_for_a_phone(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("needs a 64-bit x86 or Arm machine")
    findings = "; ".join(build.check(build.build_host(tmp_path / "h"), "x86_64"))
    assert "its interpreter is /lib" in findings and "it needs libc.so.6" in findings


def test_what_was_built_is_found_until_it_is_damaged_or_the_sources_change(built, monkeypatch, tmp_path):
    with pytest.raises(BadInputError, match=r"no harness for x86_64 .* run: mobench android build --abi x86_64"):
        build.harness("x86_64")
    kept = build.put(built["x86_64"].path, "x86_64", how="host", tool="cc")
    assert build.harness("x86_64") == kept.path and build.built("x86_64") == kept
    assert kept.path.stat().st_mode & 0o111 and not kept.experimental
    changed = tmp_path / "sources"
    shutil.copytree(build.SOURCES, changed)
    (changed / "harness.h").write_text("// another")
    with monkeypatch.context() as patch:
        patch.setattr(build, "SOURCES", changed)
        with pytest.raises(BadInputError, match="the sources of another mobench"):
            build.harness("x86_64")
    kept.path.write_bytes(b"damaged")
    with pytest.raises(BadInputError, match="not the file that was built"):
        build.harness("x86_64")
    (kept.path.parent / "manifest.json").write_text("{}")
    with pytest.raises(BadInputError, match="cannot be read"):
        build.harness("x86_64")


def test_a_compilers_complaint_is_one_line(zig, monkeypatch, tmp_path):
    changed = tmp_path / "sources"
    shutil.copytree(build.SOURCES, changed)
    (changed / "broken.c").write_text('#include "libc.h"\nint f(void) { return vfork(); }\n')
    monkeypatch.setattr(build, "SOURCES", changed)
    with pytest.raises(
        MobenchError, match=r"building the harness for x86_64 with ziglang: .*broken\.c.*vfork"
    ) as raised:
        build.build("x86_64", "ziglang")
    assert raised.value.kind == "error" and not (tmp_path / "cache" / "android").exists()


def test_without_ndk_and_ziglang_the_mend_names_both(monkeypatch):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match=r"ANDROID_NDK_HOME .* pip install '\.\[android\]'"):
        build.build("x86_64")
    with pytest.raises(BadInputError, match="no NDK was found"):
        build.build("x86_64", "ndk")
    with pytest.raises(BadInputError, match=r"ABI 'armeabi-v7a': is not supported"):
        build.build("armeabi-v7a")


# Says the same as the NDK's own file, as far as our CMakeLists can see; the compiler is ziglang's.
TOOLCHAIN = """
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER "{folder}/cc")
set(CMAKE_C_COMPILER_WORKS TRUE)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ANDROID_ABI ANDROID_PLATFORM)
if(NOT ANDROID_ABI STREQUAL "x86_64" OR NOT ANDROID_PLATFORM STREQUAL "android-24")
  message(FATAL_ERROR "error: ABI ${{ANDROID_ABI}}, platform ${{ANDROID_PLATFORM}}")
endif()
"""
COMPILER = """#!/bin/sh
set -- {zig} cc -target x86_64-linux-android -nostdlib -fno-sanitize=all -fno-stack-protector -DMOBENCH_BIONIC "$@"
for argument; do [ "$argument" = -c ] && exec "$@"; done
for argument; do # all but -ldl, of which there is a stub
  shift
  [ "$argument" = -ldl ] || set -- "$@" "$argument"
done
exec "$@" -pie {start} {folder}/stub_libc.so {folder}/stub_libdl.so -Wl,--dynamic-linker=/system/bin/linker64
"""


@pytest.fixture
def ndk(zig, tmp_path):
    """A folder laid out as an NDK, whose compiler is ziglang's."""
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake: apt-get install cmake make")
    folder = tmp_path / "sdk" / "ndk" / "27.0.12077973"
    (folder / "build" / "cmake").mkdir(parents=True)
    (folder / "build" / "cmake" / "android.toolchain.cmake").write_text(TOOLCHAIN.format(folder=folder))
    (folder / "source.properties").write_text("Pkg.Desc = Android NDK\nPkg.Revision = 27.0.12077973\n")
    for library in ("libc", "libdl"):
        options = ["-target", "x86_64-linux-android", "-nostdlib", "-shared", "-fPIC", "-fno-builtin", "-w"]
        stub = [f"-Wl,-soname,{library}.so", "-o", f"{folder}/stub_{library}.so", f"{BIONIC}/stubs/{library}.c"]
        subprocess.run([*zig, "cc", *options, *stub], check=True)
    script = folder / "cc"
    script.write_text(COMPILER.format(zig=" ".join(zig), start=BIONIC / "start.c", folder=folder))
    script.chmod(0o755)
    return folder


def test_cmake_and_the_toolchain_file_of_the_ndk_that_was_found_build_it(ndk, monkeypatch):
    monkeypatch.setenv("ANDROID_HOME", str(ndk.parents[1]))
    found = build.build("x86_64")
    assert (found.how, found.tool, found.experimental) == ("ndk", "NDK 27.0.12077973", False)
    assert build.check(build.harness("x86_64"), "x86_64") == []
    with pytest.raises(MobenchError, match="ABI arm64-v8a, platform android-24"):
        build.build("arm64-v8a")


def test_the_ndk_is_the_one_that_is_named_else_the_newest(monkeypatch, tmp_path):
    sdk = tmp_path / "sdk"
    for name in ("9.1.1", "27.0.12077973", "28.0.1"):
        (sdk / "ndk" / name / "build" / "cmake").mkdir(parents=True)
        (sdk / "ndk" / name / "build" / "cmake" / "android.toolchain.cmake").touch()
    (sdk / "ndk" / "29.0.0").mkdir()  # an unpacking that broke off
    assert build.find_ndk() is None
    monkeypatch.setenv("ANDROID_HOME", str(sdk))
    assert build.find_ndk() == sdk / "ndk" / "28.0.1"
    monkeypatch.setenv("ANDROID_NDK_ROOT", str(sdk / "ndk" / "9.1.1"))
    assert build.find_ndk() == sdk / "ndk" / "9.1.1"
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(BadInputError, match=r"ANDROID_NDK_HOME is .*nowhere"):
        build.find_ndk()


def test_an_installed_wheel_holds_the_harness_sources(tmp_path):
    setuptools = pytest.importorskip(
        "setuptools", minversion="77", reason="needs setuptools 77: pip install setuptools"
    )
    assert setuptools
    source = tmp_path / "source"
    source.mkdir()
    leave = shutil.ignore_patterns("__pycache__")
    for name in ("mobench", "exporters", "runners", "android_harness"):
        shutil.copytree(ROOT / name, source / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    script = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("android_harness/")}
    files = [path for path in build.SOURCES.rglob("*") if path.suffix in (".c", ".h") or path.name == "CMakeLists.txt"]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= held and len(files) > 5
