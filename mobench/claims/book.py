"""The claims as data: `claims.toml`, or another file of its form, read entry by entry.

An entry that is malformed is set aside with one line that names its place; the others are read. CONTRIBUTING.md has the
recipe for a new one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mobench.claims import functions, language
from mobench.errors import BadInputError

PAPERS: Mapping[str, str] = {
    "v1": "MobileNetV1, arXiv:1704.04861",
    "v2": "MobileNetV2, arXiv:1801.04381",
    "v3": "MobileNetV3, arXiv:1905.02244",
    "eff": "EfficientNet, arXiv:1905.11946",
    "moga": "MoGA, arXiv:1908.01314",
    "se": "SENet, arXiv:1709.01507",
    "mnas": "MnasNet, arXiv:1807.11626",
    "x": "across the papers",
}
KINDS = ("arithmetic", "latency", "accuracy")
BASES = ("read", "derived", "hypothesis")
_ENTRY = "[[claim]]"
_TEXTS = ("id", "paper", "table", "basis", "says")
_KEYS = {*_TEXTS, "kind", "test", "also", "note", "untestable", "lacking"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One expression, as written and as parsed."""

    text: str
    tree: language.Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a paper says, in our words, and how it is tested: it holds where all of ``tests`` do.

    ``also`` are evaluated and shown, and decide nothing. ``note`` names known misprints and caveats. ``untestable``
    says why no benchmark can decide it, ``lacking`` which evidence of a kind that no journal holds it would take, with
    the command that shows it.
    """

    id: str
    paper: str
    table: str
    basis: str
    kind: tuple[str, ...]
    says: str
    tests: tuple[Test, ...]
    also: tuple[Test, ...]
    note: str
    untestable: str
    lacking: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The claims of a file, in its order, and what could not be read, a line each."""

    claims: tuple[Claim, ...]
    faults: tuple[str, ...]


@cache
def own() -> Book:
    """Return the project's own claims."""
    return read(files("mobench.claims").joinpath("claims.toml").read_text(encoding="utf-8"), "claims.toml")


def open_book(path: Path) -> Book:
    """Read a claims file. Raises BadInputError where it cannot be read or holds no claim."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise BadInputError(str(path), why, "name a claims file (.toml)") from error
    book = read(text, path.name)
    if not book.claims and not book.faults:
        raise BadInputError(str(path), f"it has no {_ENTRY} entry", "CONTRIBUTING.md shows one")
    return book


def read(text: str, name: str) -> Book:
    """Read the entries of a claims file's text. ``name`` is what the faults call it."""
    claims: list[Claim] = []
    faults: list[str] = []
    for line, entry in _entries(text):
        try:
            claim = _claim(entry, line)
            if claim.id in {other.id for other in claims}:
                raise ValueError(f"{claim.id} is there twice")
            claims.append(claim)
        except tomllib.TOMLDecodeError as error:
            faults.append(f"{name}, entry at line {line}: {_first_line(error)}")
        except ValueError as error:
            faults.append(f"{name}, entry at line {line}: {_first_line(error)}")
    return Book(claims=tuple(claims), faults=tuple(faults))


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _entries(text: str) -> list[tuple[int, str]]:
    """Cut a text at its entries' headings: (line number of the heading, the entry)."""
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if line.split("#")[0].strip() == _ENTRY]
    if lines and any(line.split("#")[0].strip() for line in lines[: starts[0] if starts else None]):
        starts.insert(0, 0)
    if not starts:
        return []
    ends = [*starts[1:], len(lines)]
    return [(start + 1, "\n".join(lines[start:end])) for start, end in zip(starts, ends, strict=True)]


def _claim(entry: str, line: int) -> Claim:
    document = tomllib.loads(entry)
    found = document.pop("claim", None)
    if document or not isinstance(found, list) or len(found) != 1:
        raise ValueError(f"an entry begins with {_ENTRY} and holds nothing else")
    fields: dict[str, Any] = found[0]
    name = fields.get("id") if isinstance(fields.get("id"), str) else "without id"
    try:
        return _checked(fields, line)
    except ValueError as error:
        raise ValueError(f"claim {name}: {error}") from error


def _checked(fields: dict[str, Any], line: int) -> Claim:
    unknown = sorted(set(fields) - _KEYS)
    if unknown:
        raise ValueError(f"no field is named {', '.join(unknown)}: there are {', '.join(sorted(_KEYS))}")
    for key in _TEXTS:
        if not isinstance(fields.get(key), str) or not fields[key].strip():
            raise ValueError(f"{key} is missing, or no text")
    for key in ("note", "untestable", "lacking"):
        if not isinstance(fields.get(key, ""), str):
            raise ValueError(f"{key} is no text")
    kind = _texts(fields, "kind")
    for value, key, allowed in (
        (fields["paper"], "paper", PAPERS),
        (fields["basis"], "basis", BASES),
        *((word, "kind", KINDS) for word in kind),
    ):
        if value not in allowed:
            raise ValueError(f"{key} {value!r} is not one of {', '.join(allowed)}")
    tests = _tests(fields, "test")
    if sum((bool(tests), bool(fields.get("untestable")), bool(fields.get("lacking")))) != 1:
        raise ValueError("it needs a test, or else a reason why it is untestable or what evidence is lacking")
    return Claim(
        **{key: " ".join(fields[key].split()) for key in _TEXTS},
        kind=kind,
        tests=tests,
        also=_tests(fields, "also"),
        note=" ".join(fields.get("note", "").split()),
        untestable=" ".join(fields.get("untestable", "").split()),
        lacking=" ".join(fields.get("lacking", "").split()),
        line=line,
    )


def _texts(fields: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = fields.get(key, [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{key} is neither a text nor a list of texts")
    return tuple(texts)


def _tests(fields: Mapping[str, Any], key: str) -> tuple[Test, ...]:
    tests = []
    for raw in _texts(fields, key):
        text = " ".join(raw.split())
        try:
            tree = language.parse(text)
            functions.check(tree)
        except language.GrammarError as error:
            raise ValueError(f"{key} {text!r}, {error}") from error
        tests.append(Test(text=text, tree=tree))
    return tuple(tests)
