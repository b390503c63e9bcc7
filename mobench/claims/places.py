"""Where evidence comes from: a place is one device, or one printed table, whose latencies may be compared.

Three kinds, never mixed: measured by us (the journals), measured by others (`latencies.tsv`: public figures of real
phones), printed (the same file: the tables of the papers themselves). The last two come with an interval of their own:
the 5th to the 95th percentile of the one session that a leaderboard's row is, since how sessions differ is not known;
of a printed figure what its last digit leaves open.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Protocol

from mobench.claims.values import MissingError, Need, Value, combine

Kind = Literal["ours", "others", "printed"]
Key = tuple[str, str, str]  # network, precision, where
WHERE = ("cpu", "gpu", "gpu_other")  # gpu_other: a second GPU runtime on the same device


class Place(Protocol):
    """What an expression asks a place for."""

    @property
    def kind(self) -> Kind:
        """Whose figures these are."""

    @property
    def name(self) -> str:
        """Device, runtime and threads, or paper and table, for people."""

    @property
    def paper(self) -> str:
        """The paper whose own table this is; empty where it is none's."""

    @property
    def latencies(self) -> Mapping[Key, Value]:
        """Every latency it has, in ms."""

    @property
    def names(self) -> Mapping[str, str]:
        """What to call each of its processors, by `cpu`, `gpu`, `gpu_other`."""

    @property
    def ranked(self) -> frozenset[Key]:
        """Those that take part in rank correlations."""

    def ratio(self, one: Key, other: Key) -> Value:
        """Return a latency over another. Raises MissingError where one is not there."""

    def top1(self, network: str, precision: str) -> Value:
        """Return a measured accuracy in percent. Raises MissingError where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePlace:
    """A place whose latencies are figures in a table, with the table's source and caveats.

    ``bare`` are those that come without any spread: their interval is only what the last printed digit leaves open.
    """

    kind: Kind
    name: str
    paper: str
    latencies: Mapping[Key, Value]
    ranked: frozenset[Key]
    source: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    bare: frozenset[Key] = frozenset()

    def ratio(self, one: Key, other: Key) -> Value:
        """Return the quotient of two figures."""
        return combine("/", latency(self, one), latency(self, other))

    def top1(self, network: str, precision: str) -> Value:
        """A table of latencies has no accuracy."""
        raise MissingError((), f"{self.name} has no accuracy of {network}")


def latency(place: Place, key: Key) -> Value:
    """Return one latency of a place. Raises MissingError where it is not there."""
    if key not in place.latencies:
        network, precision, where = key
        what = f"{network}{'' if precision == 'fp32' else f' {precision}'} on {where}"
        raise MissingError((Need(network=network, precision=precision, where=where),), what)
    return place.latencies[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A network that is not in the zoo: its counts as printed (None where they were not read) and their source."""

    name: str
    params: float | None
    macs: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure as printed, by id."""

    id: str
    value: float
    unit: str
    source: str
    note: str


@cache
def foreign_networks() -> Mapping[str, Foreign]:
    """Return the networks that claims or evidence name and the zoo does not have."""
    return {
        row["name"]: Foreign(
            name=row["name"],
            params=float(row["params"]) if row["params"] else None,
            macs=float(row["macs"]) if row["macs"] else None,
            source=row["source"],
        )
        for row in _rows("networks.tsv")
    }


@cache
def printed_figures() -> Mapping[str, Figure]:
    """Return the papers' figures that claims need, by id."""
    return {
        row["id"]: Figure(
            id=row["id"], value=float(row["value"]), unit=row["unit"], source=row["source"], note=row["note"]
        )
        for row in _rows("printed.tsv")
    }


@cache
def table_places() -> tuple[TablePlace, ...]:
    """Return the places measured by others, and the papers' own tables, in the order of the file."""
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for row in _rows("latencies.tsv"):
        groups.setdefault((row["kind"], row["place"], row["paper"], row["source"]), []).append(row)
    places = []
    for (kind, name, paper, source), rows in groups.items():
        if kind not in ("others", "printed"):
            raise ValueError(f"latencies.tsv: {kind!r} is no kind of evidence of others")
        latencies = {_key(row): _value(row) for row in rows}
        ranked = frozenset(_key(row) for row in rows if row["ranked"] == "yes")
        places.append(
            TablePlace(
                kind="others" if kind == "others" else "printed",
                name=name,
                paper=paper,
                latencies=latencies,
                ranked=ranked,
                source=source,
                names={row["where"]: row["device"] or f"{name}, {row['where'].upper()}" for row in rows},
                bare=frozenset(_key(row) for row in rows if not row["low"]),
            )
        )
    return tuple(places)


def kind_for(place: Place, paper: str) -> Kind | None:
    """Return what a place's figures are to a paper's claim; None: another paper's table, which proves nothing here.

    Measured by others is printed to the paper that measured: it cannot be a witness for itself.
    """
    if place.paper == paper:
        return "printed"
    return None if place.kind == "printed" and paper != "x" else place.kind


def _key(row: Mapping[str, str]) -> Key:
    return row["network"], row["precision"], row["where"]


def _value(row: Mapping[str, str]) -> Value:
    figure = float(row["ms"])
    if row["low"]:
        return Value(figure=figure, low=float(row["low"]), high=float(row["high"]))
    half = 0.5 / 10 ** len(row["ms"].partition(".")[2])
    return Value(figure=figure, low=figure - half, high=figure + half)


def _rows(name: str) -> list[dict[str, str]]:
    """Read one of our tables; lines that begin with # say where it comes from."""
    text = files("mobench.claims").joinpath(name).read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return list(csv.DictReader(io.StringIO("\n".join(lines)), delimiter="\t"))
