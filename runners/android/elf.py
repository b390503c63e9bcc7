"""What an ELF file says of itself: for which ABI, what it needs, imports and exports. 64-bit little-endian only."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobench.errors import BadInputError

# ABI: e_machine (ELF-64 and the processors' supplements). Android's 64-bit ABIs; 32-bit phones are not supported.
MACHINES: Mapping[str, int] = {"arm64-v8a": 183, "x86_64": 62}
ABIS = tuple(MACHINES)
_OTHER_MACHINES = {3: "x86", 40: "armeabi-v7a", 243: "riscv64"}
_LOAD, _DYNAMIC, _INTERP, _TLS, _RELRO = 1, 2, 3, 7, 0x6474E552
_NEEDED, _STRTAB, _SYMTAB, _STRSZ, _SONAME, _TEXTREL, _HASH, _GNU_HASH = 1, 5, 6, 10, 14, 22, 4, 0x6FFFFEF5
_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size
_SEGMENT = struct.Struct("<IIQQQQQQ")  # type, flags, offset, vaddr, paddr, filesz, memsz, align


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the file as it lies in memory: bytes ``address`` to ``address + size``."""

    kind: int
    offset: int
    address: int
    file_size: int
    size: int
    align: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """A program or library. ``abi`` is Android's name of its machine, also where the file is for desktop Linux."""

    abi: str
    interpreter: str | None
    soname: str | None
    needed: tuple[str, ...]
    imports: frozenset[str]
    exports: frozenset[str]
    text_relocations: bool
    loads: tuple[Segment, ...]
    relro: Segment | None
    tls: Segment | None


def read(path: Path) -> Elf:
    """Read the headers of the ELF file ``path``.

    Raises:
        BadInputError: it is no whole 64-bit little-endian ELF file of an ABI in MACHINES.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(str(path), error.strerror or str(error), "name a file that can be read") from error
    try:
        return _parse(data, str(path))
    except (struct.error, IndexError, ValueError, StopIteration) as error:
        raise BadInputError(str(path), "its ELF headers are not whole", "get the file again") from error


def _parse(data: bytes, name: str) -> Elf:
    if data[:4] != b"\x7fELF":
        raise BadInputError(name, "is no ELF file", "give a program or .so library built for Android")
    machine = struct.unpack_from("<H", data, 18)[0]
    abi = next((abi for abi, number in MACHINES.items() if number == machine), None)
    if data[4:6] != b"\x02\x01" or abi is None:
        other = _OTHER_MACHINES.get(machine, f"machine {machine}")
        raise BadInputError(name, f"is for {other}", f"give the one for {' or '.join(ABIS)}")
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    segments = [_segment(data, table + size * index) for index in range(count)]
    loads = tuple(segment for segment in segments if segment.kind == _LOAD)
    interp = _first(segments, _INTERP)
    entries = list(_dynamic(data, _first(segments, _DYNAMIC)))
    values = dict(entries)
    strings = b""
    if _STRTAB in values:
        start = _place(loads, values[_STRTAB])
        strings = data[start : start + values[_STRSZ]]
    symbols = list(_symbols(data, loads, values, strings)) if _SYMTAB in values else []
    return Elf(
        abi=abi,
        interpreter=_text(data, interp.offset) if interp else None,
        soname=_text(strings, values[_SONAME]) if _SONAME in values else None,
        needed=tuple(_text(strings, value) for tag, value in entries if tag == _NEEDED),
        imports=frozenset(name for name, defined in symbols if not defined),
        exports=frozenset(name for name, defined in symbols if defined),
        text_relocations=_TEXTREL in values,
        loads=loads,
        relro=_first(segments, _RELRO),
        tls=_first(segments, _TLS),
    )


def _segment(data: bytes, at: int) -> Segment:
    kind, _, offset, address, _, file_size, size, align = _SEGMENT.unpack_from(data, at)
    return Segment(kind=kind, offset=offset, address=address, file_size=file_size, size=size, align=align)


def _first(segments: list[Segment], kind: int) -> Segment | None:
    return next((segment for segment in segments if segment.kind == kind), None)


def _dynamic(data: bytes, segment: Segment | None) -> Iterator[tuple[int, int]]:
    """Yield tag and value of the dynamic section; nothing for a static program."""
    if segment is None:
        return
    for at in range(segment.offset, segment.offset + segment.file_size, 16):
        tag, value = struct.unpack_from("<qQ", data, at)
        if tag == 0:
            return
        yield tag, value


def _place(loads: tuple[Segment, ...], address: int) -> int:
    """Return where in the file the byte at ``address`` in memory lies."""
    segment = next(each for each in loads if each.address <= address < each.address + each.file_size)
    return segment.offset + address - segment.address


def _symbols(
    data: bytes, loads: tuple[Segment, ...], values: Mapping[int, int], strings: bytes
) -> Iterator[tuple[str, bool]]:
    """Yield name and "is defined here" of every dynamic symbol; the null symbol is left out."""
    start = _place(loads, values[_SYMTAB])
    if _HASH in values:
        count = struct.unpack_from("<II", data, _place(loads, values[_HASH]))[1]
    else:
        count = _count_of_gnu_hash(data, _place(loads, values[_GNU_HASH]))
    for index in range(1, count):
        name, _, _, section, _, _ = _SYMBOL.unpack_from(data, start + index * _SYMBOL.size)
        yield _text(strings, name), section != 0


def _count_of_gnu_hash(data: bytes, at: int) -> int:
    """Return the number of symbols of a library that has the GNU hash table only, where it does not stand outright.

    The last chain's last entry has its lowest bit set; libraries without exports have no chain.
    """
    buckets, first, bloom, _ = struct.unpack_from("<IIII", data, at)
    table = at + 16 + 8 * bloom
    last = max(struct.unpack_from(f"<{buckets}I", data, table))
    if last < first:
        return int(first)
    chains = table + 4 * buckets
    while not struct.unpack_from("<I", data, chains + 4 * (last - first))[0] & 1:
        last += 1
    return int(last) + 1


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
