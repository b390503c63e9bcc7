"""Runtimes for phones: taken from AARs, files and a loopback server, checked against the ABI, kept whole."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from mobench.cli import cli, doctor
from mobench.errors import BadInputError
from runners.android import build, elf, runtimes

PROOF = {kind.library: kind.proof for kind in runtimes.KINDS.values()}
TARGETS = {"arm64-v8a": "aarch64-linux-android", "x86_64": "x86_64-linux-android"}
GPU = "libLiteRtGpuAccelerator.so"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A function that links a small Android library: ``library(abi, soname)``."""
    pytest.importorskip("ziglang", reason="needs the dev extra: pip install 'mobench[dev]'")
    folder = tmp_path_factory.mktemp("libraries")
    made = {}

    def link(abi, name, *, text="1", needs=("c",), exports=None, page=16384):
        key = (abi, name, text, needs, exports, page)
        if key not in made:
            own = folder / str(len(made))
            own.mkdir()
            compiler = [sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[abi], "-nostdlib", "-shared", "-fPIC"]
            stubs = [own / f"stub_{need}.so" for need in needs]
            for need, stub in zip(needs, stubs, strict=True):
                (own / "empty.c").write_text("")
                soname = f"-Wl,-soname,lib{need}.so"
                subprocess.run([*compiler, soname, "-o", str(stub), str(own / "empty.c")], check=True)
            symbol = PROOF.get(name, "a_symbol") if exports is None else exports
            (own / "l.c").write_text(f'const char *{symbol}(void) {{ return "{text}"; }}\n')
            path = own / name
            options = [f"-Wl,-soname,{name}", "-Wl,--no-as-needed", f"-Wl,-z,max-page-size={page}"]
            subprocess.run([*compiler, *options, "-o", str(path), str(own / "l.c"), *map(str, stubs)], check=True)
            made[key] = path
        return made[key]

    return link


def aar(path, libraries):
    """Write an AAR: libraries by their names in it, and what else such a file holds."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("AndroidManifest.xml", "<manifest/>")
        archive.writestr("headers/onnxruntime_c_api.h", "// c")
        archive.writestr("jni/arm64-v8a/libsomething_jni.so", b"not looked at")
        for name, data in libraries.items():
            archive.writestr(name, data if isinstance(data, bytes) else data.read_bytes())
    return str(path)


def refused(*things):
    with pytest.raises(BadInputError) as raised:
        runtimes.collect(things)
    return str(raised.value)


def test_aars_of_a_runtime_and_its_accelerator_are_kept_by_abi(library, tmp_path, cache):
    both = ("arm64-v8a", "x86_64")
    lite = {f"jni/{abi}/libLiteRt.so": library(abi, "libLiteRt.so") for abi in both}
    lite["jni/armeabi-v7a/libLiteRt.so"] = b"for 32 bits, passed over"
    gpu = {f"jni/{abi}/{GPU}": library(abi, GPU, needs=("c", "EGL", "log")) for abi in both}
    ort = {f"jni/{abi}/libonnxruntime.so": library(abi, "libonnxruntime.so") for abi in both}
    taken = runtimes.collect(
        [
            aar(tmp_path / "litert-2.3.0.aar", lite),
            aar(tmp_path / "litert-gpu-2.3.0.aar", gpu),
            aar(tmp_path / "onnxruntime-android-1.31.1.aar", ort),
        ]
    )
    assert [(each.abi, each.runtime, each.version) for each in taken] == [
        ("arm64-v8a", "litert", "2.3.0"),
        ("arm64-v8a", "ort", "1.31.1"),
        ("x86_64", "litert", "2.3.0"),
        ("x86_64", "ort", "1.31.1"),
    ]
    for abi in both:
        found = runtimes.find(abi, "litert")
        assert found.library == cache / "android" / abi / "litert" / "libLiteRt.so"
        assert found.library.read_bytes() == library(abi, "libLiteRt.so").read_bytes()
        assert [path.name for path in found.accelerators] == [GPU] and elf.read(found.accelerators[0]).abi == abi
        assert found.sha256["libLiteRt.so"] == hashlib.sha256(found.library.read_bytes()).hexdigest()
        assert found.source == "litert-2.3.0.aar, litert-gpu-2.3.0.aar" and found.notes == ()
        assert runtimes.find(abi, "ort").accelerators == ()


def test_the_abi_of_a_bare_library_is_what_its_header_says(library):
    (taken,) = runtimes.collect([str(library("arm64-v8a", "libonnxruntime.so"))])
    assert (taken.abi, taken.runtime, taken.version) == ("arm64-v8a", "ort", "")
    with pytest.raises(BadInputError, match="no ONNX Runtime for x86_64 has been set up"):
        runtimes.find("x86_64", "ort")


def test_a_folder_gives_all_it_holds(library, tmp_path):
    folder = tmp_path / "android_arm64"
    folder.mkdir()
    for name in ("libLiteRt.so", GPU, "libLiteRtOpenClAccelerator.so"):
        (folder / name).write_bytes(library("arm64-v8a", name).read_bytes())
    (folder / "libOther.so").write_bytes(b"not looked at")
    (taken,) = runtimes.collect([str(folder)])
    assert [path.name for path in taken.accelerators] == [GPU, "libLiteRtOpenClAccelerator.so"]


def test_an_accelerator_joins_the_library_of_its_version_and_a_new_library_drops_it(library, tmp_path):
    abi = "arm64-v8a"
    gpu = {f"jni/{abi}/{GPU}": library(abi, GPU)}
    assert "no LiteRT for arm64-v8a has been set up" in refused(aar(tmp_path / "litert-gpu-2.3.0.aar", gpu))
    lite = {f"jni/{abi}/libLiteRt.so": library(abi, "libLiteRt.so")}
    runtimes.collect([aar(tmp_path / "litert-2.3.0.aar", lite)])
    assert "2.4.0, LiteRT in the cache of 2.3.0" in refused(aar(tmp_path / "litert-gpu-2.4.0.aar", gpu))
    (joined,) = runtimes.collect([str(tmp_path / "litert-gpu-2.3.0.aar")])
    assert joined.library.is_file() and [path.name for path in joined.accelerators] == [GPU]
    assert joined.source == "litert-2.3.0.aar, litert-gpu-2.3.0.aar" and joined.version == "2.3.0"
    assert "are of versions 2.3.0, 2.4.0" in refused(
        aar(tmp_path / "litert-2.4.0.aar", lite), str(tmp_path / "litert-gpu-2.3.0.aar")
    )
    (newer,) = runtimes.collect([str(tmp_path / "litert-2.4.0.aar")])
    assert newer.version == "2.4.0" and newer.accelerators == () and newer == runtimes.find(abi, "litert")
    assert {path.name for path in newer.library.parent.iterdir()} == {"libLiteRt.so", "manifest.json"}


def test_what_is_not_for_a_phone_or_too_old_is_refused_in_a_line_and_nothing_changes(library, tmp_path, cache):
    abi = "arm64-v8a"
    runtimes.collect([str(library(abi, "libLiteRt.so"))])
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    good = library(abi, "libonnxruntime.so")
    old = library(abi, "libLiteRt.so", exports="LiteRtCreateModelFromFile")
    desktop = library(abi, "libLiteRt.so", needs=("c.so.6",))
    other = library("x86_64", "libLiteRt.so")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    twin = tmp_path / "libLiteRt.so"
    twin.write_bytes(library(abi, "libLiteRt.so", text="2").read_bytes())
    cut = tmp_path / "cut.aar"
    cut.write_bytes(Path(aar(tmp_path / "a.aar", {f"jni/{abi}/libLiteRt.so": twin})).read_bytes()[:-40])
    for things, says in (
        ([str(good), str(old)], "is older than LiteRT 2.3.0, or not what it is called"),
        ([str(good), str(desktop)], "is no library for Android"),
        ([aar(tmp_path / "b.aar", {f"jni/{abi}/libLiteRt.so": other})], "jni/arm64-v8a/libLiteRt.so: is for x86_64"),
        ([aar(tmp_path / "c.aar", {f"jni/{abi}/libLiteRt.so": b"rubbish"})], "is no ELF file"),
        ([aar(tmp_path / "d.aar", {})], "holds no libLiteRt.so or libonnxruntime.so for arm64-v8a or x86_64"),
        ([str(cut)], "is no whole AAR"),
        ([str(twin), str(library(abi, "libLiteRt.so"))], "another file, from"),
        ([str(tmp_path / "notes.txt")], "holds no libLiteRt.so"),
        ([str(tmp_path / "empty")], "holds no libLiteRt.so"),
        ([str(good), str(tmp_path / "none.aar")], "no such file"),
    ):
        assert says in refused(*things)
    assert before == {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_what_may_not_load_is_noted(library):
    (taken,) = runtimes.collect([str(library("x86_64", "libLiteRt.so", needs=("c", "own", "GLESv3"), page=4096))])
    assert taken.notes == (
        "libLiteRt.so needs libown.so, which Android does not offer to programs",
        "libLiteRt.so: its segments are aligned to 4096 bytes, not 16384: it may not load on phones with such pages",
    )


def test_a_download_needs_a_checksum_and_is_told_the_one_that_came(library, server, tmp_path, cache):
    body = Path(aar(tmp_path / "o.aar", {"jni/x86_64/libonnxruntime.so": library("x86_64", "libonnxruntime.so")}))
    body = body.read_bytes()
    url = f"http://127.0.0.1:{server.server_port}/m2/onnxruntime-android-1.31.1.aar"
    server.answers["/m2/onnxruntime-android-1.31.1.aar"] = (200, len(body), body)
    digest = hashlib.sha256(body).hexdigest()
    told = refused(url)
    assert f"has sha256 {digest}" in told and f"'{url}#sha256={digest}'" in told and not (cache / "android").exists()
    (taken,) = runtimes.collect([f"{url}#sha256={digest}"])
    assert (taken.abi, taken.version, taken.source) == ("x86_64", "1.31.1", "onnxruntime-android-1.31.1.aar")
    runtimes.collect([f"{url}#sha256={digest.upper()}"])
    assert len(server.asked) == 2, "what is in the cache is not downloaded again"
    assert "its sha256 is" in refused(f"{url}#sha256={'0' * 64}") and "64 hex digits" in refused(f"{url}#sha256=abc")
    server.answers["/m2/onnxruntime-android-1.31.1.aar"] = (404, 0, b"")
    assert "the server answered 404" in refused(url)
    assert runtimes.find("x86_64", "ort") == taken


def test_what_was_damaged_in_the_cache_is_found_out(library):
    (taken,) = runtimes.collect([str(library("x86_64", "libLiteRt.so"))])
    taken.library.write_bytes(b"damaged")
    with pytest.raises(BadInputError, match="it is not the file that was set up"):
        runtimes.find("x86_64", "litert")
    for text in ("{}", "[]", "nonsense", '{"sha256": {}}'):
        (taken.library.parent / "manifest.json").write_text(text)
        with pytest.raises(BadInputError, match=r"LiteRT in .* cannot be read"):
            runtimes.find("x86_64", "litert")
    assert runtimes.collect([str(library("x86_64", "libLiteRt.so"))]) == (taken,)


def test_setup_without_arguments_says_what_is_missing_and_where_one_gets_it(library, tmp_path):
    def answer(*arguments):
        return CliRunner().invoke(cli, ["android", "setup", *arguments], standalone_mode=False, catch_exceptions=False)

    rows = json.loads(answer("--json").stdout)
    assert [(row["abi"], row["part"], row["status"]) for row in rows] == [
        (abi, part, "no") for abi in elf.ABIS for part in ("harness", "litert", "ort")
    ]
    shown = answer().stdout
    for words in (
        "mobench android build --abi arm64-v8a",
        "com.google.ai.edge.litert:litert-gpu",
        "onnxruntime-android",
    ):
        assert words in shown
    harness = tmp_path / "h"
    harness.write_bytes(b"program")
    build.put(harness, "arm64-v8a", how="ziglang", tool="ziglang 1")
    only = answer(str(library("arm64-v8a", "libLiteRt.so"))).stdout
    assert "for the GPU: its accelerator as well" in only and "ort" not in only and "x86_64" not in only
    rows = {
        (row["abi"], row["part"]): row for row in json.loads(answer(str(library("arm64-v8a", GPU)), "--json").stdout)
    }
    assert rows["arm64-v8a", "litert"] | {"notes": []} == {
        "abi": "arm64-v8a", "part": "litert", "status": "ok", "found": f"libLiteRt.so, {GPU}", "mend": "", "notes": [],
    }  # fmt: skip
    assert rows["arm64-v8a", "harness"]["status"] == "ok" and rows["x86_64", "harness"]["status"] == "no"
    assert any("not yet run on a phone" in note for note in rows["arm64-v8a", "harness"]["notes"])


def test_build_prints_what_it_made_and_where(tmp_path):
    pytest.importorskip("ziglang", reason="needs the dev extra: pip install 'mobench[dev]'")
    arguments = ["android", "build", "--abi", "x86_64", "--with", "ziglang"]
    done = CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False, catch_exceptions=False)
    (row,) = json.loads(done.stdout)
    assert Path(row["path"]) == build.harness("x86_64") and row["how"] == "ziglang" and row["experimental"]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)
    assert row["path"] in done.stdout and "not yet run on a phone" in done.stderr


def test_doctor_says_what_phones_lack(library, tmp_path, monkeypatch):
    (tmp_path / "adb").write_text("#!/bin/sh\n")
    (tmp_path / "adb").chmod(0o755)

    def phones(path):
        monkeypatch.setenv("PATH", str(path))
        (row,) = doctor._phones()
        return row

    assert (phones(tmp_path / "none").status, phones(tmp_path / "none").detail) == ("note", "adb is not installed")
    assert phones(tmp_path).detail == "arm64-v8a lacks harness, litert, ort"
    harness = tmp_path / "h"
    harness.write_bytes(b"program")
    build.put(harness, "arm64-v8a", how="ndk", tool="NDK 27")
    runtimes.collect([str(library("arm64-v8a", name)) for name in ("libLiteRt.so", "libonnxruntime.so")])
    assert (phones(tmp_path).status, phones(tmp_path).mend) == ("ok", "") and "NDK 27" in phones(tmp_path).detail
