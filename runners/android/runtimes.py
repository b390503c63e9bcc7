"""Runtimes for phones: LiteRT and ONNX Runtime, taken from what the user names into the cache, by ABI."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from mobench.downloads import cache_folder, checksum, download
from mobench.errors import BadInputError
from mobench.files import replacing, write_text
from runners.android import build, elf


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A runtime's files: its library, what that must export, its GPU accelerators' names, and where one gets it."""

    title: str
    library: str
    proof: str  # a symbol that the oldest supported library has and those before it have not
    oldest: str
    accelerators: str  # a pattern; empty where the runtime has none
    source: str


# From LiteRT 2.3.0 on the GPU's library is an artifact of its own, and the C API is the one that the harness knows.
KINDS: Mapping[str, Kind] = {
    "litert": Kind(
        title="LiteRT",
        library="libLiteRt.so",
        proof="LiteRtCompiledModelIsNonCpuFullyAccelerated",
        oldest="2.3.0",
        accelerators="libLiteRt*Accelerator.so",
        source="the AARs com.google.ai.edge.litert:litert and, for the GPU, com.google.ai.edge.litert:litert-gpu, both"
        " of one version from 2.3.0 on (Google's Maven repository), or the libraries of LiteRT's release binaries",
    ),
    "ort": Kind(
        title="ONNX Runtime",
        library="libonnxruntime.so",
        proof="OrtGetApiBase",
        oldest="1.17",
        accelerators="",
        source="the AAR com.microsoft.onnxruntime:onnxruntime-android (Maven Central)",
    ),
}
_ARCHIVES = (".aar", ".zip", ".jar")
# The libraries that Android offers to programs of the NDK; others must come with the runtime.
_SYSTEM = frozenset(f"lib{name}.so" for name in (
    "aaudio", "amidi", "android", "binder_ndk", "c", "camera2ndk", "dl", "EGL", "GLESv1_CM", "GLESv2", "GLESv3", "icu",
    "jnigraphics", "log", "m", "mediandk", "nativehelper", "nativewindow", "neuralnetworks", "OpenMAXAL", "OpenSLES",
    "stdc++", "sync", "vulkan", "z",
))  # fmt: skip
_VERSION = re.compile(r"\d+\.\d+(\.\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime in the cache. ``version`` is empty where the file that brought it does not tell.

    ``accelerators`` are the GPU's libraries; ``sha256`` is by file name.
    """

    abi: str
    runtime: str
    library: Path
    accelerators: tuple[Path, ...]
    version: str
    source: str
    sha256: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One library that belongs to a runtime: its bytes lie in ``path``, a temporary file for those out of an AAR."""

    runtime: str
    name: str
    path: Path
    origin: str
    abi: str
    version: str
    notes: tuple[str, ...] = field(default=())


def find(abi: str, runtime: str) -> Runtime:
    """Return the runtime for phones of ``abi`` from the cache.

    Raises BadInputError where it is not there, or not as it was put there.
    """
    folder = _folder(abi, runtime)
    kind = KINDS[runtime]
    mend = "`mobench android setup` says where to get it"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        sha256 = {str(name): str(digest) for name, digest in manifest["sha256"].items()}
        found = Runtime(
            abi=abi,
            runtime=runtime,
            library=folder / manifest["library"],
            accelerators=tuple(folder / name for name in manifest["accelerators"]),
            version=manifest["version"],
            source=manifest["source"],
            sha256=sha256,
            notes=tuple(manifest["notes"]),
        )
        wrong = [name for name, digest in sha256.items() if _sha256(folder / name) != digest]
    except FileNotFoundError as error:
        raise BadInputError(f"no {kind.title} for {abi} has been set up", mend=mend) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{kind.title} in {folder} cannot be read", repr(error), mend) from error
    if wrong:
        raise BadInputError(str(folder / wrong[0]), "it is not the file that was set up", mend)
    return found


def put(
    abi: str,
    runtime: str,
    library: Path,
    accelerators: Sequence[Path] = (),
    *,
    version: str = "",
    source: str = "",
    notes: Sequence[str] = (),
) -> Runtime:
    """Put a runtime's files into the cache for ``abi`` as they are, unchecked, in place of what was there."""
    folder = _folder(abi, runtime)
    kind = KINDS[runtime]
    # A library of a desktop may carry its version behind its name, an accelerator keeps its own.
    named = {kind.library: library, **{path.name: path for path in accelerators}}
    for name, path in named.items():
        if path.resolve() != (folder / name).resolve():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(path.read_bytes())
    manifest = {
        "schema": 1,
        "abi": abi,
        "runtime": runtime,
        "version": version,
        "source": source,
        "library": kind.library,
        "accelerators": sorted(path.name for path in accelerators),
        "sha256": {name: _sha256(folder / name) for name in named},
        "notes": list(notes),
    }
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    for path in folder.iterdir():
        if path.name not in (*named, "manifest.json"):
            path.unlink()  # of another version
    return find(abi, runtime)


def _folder(abi: str, runtime: str) -> Path:
    return cache_folder() / "android" / abi / runtime


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def collect(things: Sequence[str], say: Callable[[str], None] | None = None) -> tuple[Runtime, ...]:
    """Take the runtimes for phones out of what the user names and put them into the cache.

    An accelerator alone joins the library that is there already; a new library drops the accelerators of the one
    before, which are of another version.

    Args:
        things: AARs (or other zip files), .so libraries, folders of either, or addresses as `URL#sha256=HEX`.
        say: told, in a line each, of downloads.

    Raises:
        BadInputError: a file cannot be used, is for another system or too old, or holds no runtime; nothing is changed.
    """
    with tempfile.TemporaryDirectory(prefix="mobench-setup-") as scratch:
        found = [each for thing in things for each in _look_into(thing, Path(scratch), say)]
        groups: dict[tuple[str, str], list[_Found]] = {}
        for each in found:
            groups.setdefault((each.abi, each.runtime), []).append(each)
        settled = [_settle(abi, runtime, group) for (abi, runtime), group in sorted(groups.items())]
        return tuple(
            put(abi, runtime, library, accelerators, version=version, source=source, notes=notes)
            for abi, runtime, library, accelerators, version, source, notes in settled
        )


def _settle(
    abi: str, runtime: str, group: Sequence[_Found]
) -> tuple[str, str, Path, list[Path], str, str, tuple[str, ...]]:
    """Return what is put into the cache of the libraries of one ABI and runtime."""
    kind = KINDS[runtime]
    by_name: dict[str, _Found] = {}
    for each in group:
        twin = by_name.setdefault(each.name, each)
        if _sha256(twin.path) != _sha256(each.path):
            raise BadInputError(
                f"{each.name} for {abi}", f"comes from {twin.origin} and, another file, from {each.origin}", "name one"
            )
    library = by_name.pop(kind.library, None)
    accelerators = list(by_name.values())
    versions = {each.version for each in group if each.version}
    if library:
        if len(versions) > 1:
            why = f"they are of versions {', '.join(sorted(versions))}"
            raise BadInputError(f"{kind.title} and its accelerators", why, "give both of one version")
        origins = dict.fromkeys(each.origin for each in group)
        notes = tuple(dict.fromkeys(note for each in group for note in each.notes))
        paths = [each.path for each in accelerators]
        return abi, runtime, library.path, paths, library.version, ", ".join(origins), notes
    there = find(abi, runtime)
    if there.version and versions - {there.version}:
        why = f"is of version {', '.join(sorted(versions))}, {kind.title} in the cache of {there.version}"
        raise BadInputError(accelerators[0].origin, why, f"give {kind.library} of the same version too")
    kept = [path for path in there.accelerators if path.name not in by_name]
    origins = dict.fromkeys((*there.source.split(", "), *(each.origin for each in accelerators)))
    notes = tuple(dict.fromkeys((*there.notes, *(note for each in accelerators for note in each.notes))))
    return (
        abi,
        runtime,
        there.library,
        [*kept, *(each.path for each in accelerators)],
        there.version,
        ", ".join(origins),
        notes,
    )


def _look_into(thing: str, scratch: Path, say: Callable[[str], None] | None) -> list[_Found]:
    """Return the runtimes' libraries in an AAR, a library, a folder or behind an address."""
    path = _fetched(thing, say) if re.match(r"https?://", thing) else Path(thing)
    if path.is_dir():
        files = [each for each in sorted(path.iterdir()) if each.suffix in (*_ARCHIVES, ".so")]
        found = [each for file in files for each in _look_into_file(file, scratch)]
    else:
        found = _look_into_file(path, scratch)
    if not found:
        libraries = " or ".join(kind.library for kind in KINDS.values())
        raise BadInputError(
            thing, f"holds no {libraries} for {' or '.join(elf.ABIS)}", "`mobench android setup` says what to get"
        )
    return found


def _fetched(thing: str, say: Callable[[str], None] | None) -> Path:
    url, _, given = thing.partition("#sha256=")
    if not re.fullmatch(r"[0-9a-f]{64}", given.lower()):
        if given:
            raise BadInputError(thing, "a sha256 has 64 hex digits", "correct it")
        if say:
            say(f"downloading {url} to learn its checksum")
        told = checksum(url)
        raise BadInputError(
            f"{url} has no checksum to hold it against",
            f"what came now has sha256 {told}",
            f"compare that with what the publisher says and run again with '{url}#sha256={told}'",
        )
    target = cache_folder() / "android" / "downloads" / given.lower()[:16] / (PurePosixPath(url).name or "file")
    return download(url, given.lower(), target, say, otherwise="get the file otherwise and name it")


def _look_into_file(path: Path, scratch: Path) -> list[_Found]:
    if not path.is_file():
        raise BadInputError(str(path), "no such file", "check the path")
    told = _VERSION.search(path.stem)
    version = told[0] if told else ""
    if path.suffix not in _ARCHIVES:
        return [_judge(path, path.name, path.name, version, runtime) for runtime in _runtimes_of(path.name)]
    try:
        with zipfile.ZipFile(path) as archive:
            return list(_look_into_archive(archive, path, version, scratch))
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BadInputError(str(path), f"is no whole AAR ({error})", "get it again") from error


def _look_into_archive(archive: zipfile.ZipFile, path: Path, version: str, scratch: Path) -> Iterator[_Found]:
    """Yield the libraries under jni/ABI/ of an AAR, or wherever they lie in another zip file.

    Those for ABIs that are not supported are passed over: every AAR has some.
    """
    for entry in archive.infolist():
        inner = PurePosixPath(entry.filename)
        other_abi = inner.parts[0] == "jni" and inner.parent.name not in elf.ABIS
        for runtime in () if entry.is_dir() or other_abi else _runtimes_of(inner.name):
            target = Path(tempfile.mkdtemp(dir=scratch)) / inner.name
            target.write_bytes(archive.read(entry))
            found = _judge(target, inner.name, path.name, version, runtime)
            if inner.parts[0] == "jni" and found.abi != inner.parent.name:
                raise BadInputError(f"{path}: {entry.filename}", f"is for {found.abi}", "get the file again")
            yield found


def _runtimes_of(name: str) -> Iterable[str]:
    """Return the runtime that a library of this name belongs to: one or none."""
    return [
        runtime
        for runtime, kind in KINDS.items()
        if name == kind.library or (kind.accelerators and fnmatchcase(name, kind.accelerators))
    ]


def _judge(path: Path, name: str, origin: str, version: str, runtime: str) -> _Found:
    """Check a library as far as its headers tell: for Android, not too old, and what it needs."""
    kind = KINDS[runtime]
    where = name if origin == name else f"{origin}: {name}"
    found = elf.read(path)
    # Android's libraries need `libc.so`; those of a desktop carry a number behind it.
    if "libc.so" not in found.needed:
        raise BadInputError(where, "is no library for Android", f"get {kind.source}")
    if name == kind.library and kind.proof not in found.exports:
        raise BadInputError(
            where, f"is older than {kind.title} {kind.oldest}, or not what it is called", f"get {kind.source}"
        )
    missing = sorted(set(found.needed) - _SYSTEM - {each.library for each in KINDS.values()})
    notes = [f"{name} needs {', '.join(missing)}, which Android does not offer to programs"] if missing else []
    notes += [f"{name}: {finding}: it may not load on phones with such pages" for finding in build.alignment(found)]
    return _Found(
        runtime=runtime, name=name, path=path, origin=origin, abi=found.abi, version=version, notes=tuple(notes)
    )
