"""The machine's ceilings: how fast it can multiply-accumulate and move bytes, and what that allows an operator. Pure.

The roofline of Williams, Waterman and Patterson (2009, doi:10.1145/1498765.1498785), with the bandwidth of the memory
level that an operator's own bytes fit into, as in the cache-aware form of Ilic, Pratas and Sousa (2014).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobench.errors import BadInputError
from mobench.files import write_text
from mobench.records import Operator

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What this machine was measured to do with these threads, at its best.

    ``macs_per_s`` by precision, each ``reached_by`` one runtime's large matrix product. ``bytes_per_s`` by the bytes of
    the working set, ascending: the better of copying and reading.
    """

    macs_per_s: Mapping[str, float]
    reached_by: Mapping[str, str]
    bytes_per_s: tuple[tuple[int, float], ...]
    measured: str = ""  # when, UTC

    def bandwidth(self, moved_bytes: int) -> float:
        """Return the bytes a second for a working set: the best of all measured ones at least as large.

        Between two measured sizes the smaller one's counts, so that this stays a ceiling.
        """
        from_size = max((size for size, _ in self.bytes_per_s if size <= moved_bytes), default=0)
        return max(rate for size, rate in self.bytes_per_s if size >= from_size)

    def least_s(self, operator: Operator) -> float | None:
        """Return the least time the ceilings allow an operator; None where its work or its ceiling is unknown."""
        if operator.macs is None or operator.moved_bytes is None:
            return None
        moving = operator.moved_bytes / self.bandwidth(operator.moved_bytes)
        if not operator.macs:
            return moving
        peak = self.macs_per_s.get(operator.precision)
        return None if peak is None else max(operator.macs / peak, moving)

    def bound(self, operator: Operator) -> str:
        """Return which ceiling is nearer: ``compute``, ``memory``, or nothing where that is unknown."""
        least = self.least_s(operator)
        if least is None or not operator.moved_bytes:
            return ""
        return (
            "memory" if least * self.bandwidth(operator.moved_bytes) <= operator.moved_bytes * (1 + 1e-9) else "compute"
        )


def shown(rate: float) -> str:
    """Return a rate in billions a second, to three figures or to the unit.

    >>> shown(998.4e9), shown(1.0234e12), shown(16.28e9)
    ('998', '1,023', '16.3')
    """
    return f"{rate / 1e9:,.0f}" if rate >= 99.95e9 else f"{rate / 1e9:.3g}"


def key_of(
    machine: Mapping[str, Any], threads: int, cores: tuple[int, ...], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return what a measured ceiling holds for: what the machine is, the threads and where they run, the libraries."""
    kept = {
        name: machine.get(name) for name in ("cpu", "arch", "cores", "extensions", "memory_mb", "virtual", "governor")
    }
    kept |= {name: machine[name] for name in ("phone_id", "fixed_performance") if name in machine}
    return {"schema": SCHEMA, "machine": kept, "threads": threads, "affinity": list(cores), "versions": dict(versions)}


def cache_path(key: Mapping[str, Any], cache: Path) -> Path:
    """Return the file of a ceiling in the cache."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache / "ceilings" / f"{digest[:16]}.json"


def load(key: Mapping[str, Any], cache: Path) -> Ceiling | None:
    """Return the ceiling that was measured before, or None; a file that cannot be used counts as none."""
    try:
        stored = json.loads(cache_path(key, cache).read_text(encoding="utf-8"))
        if stored["key"] != dict(key):
            return None
        fields = stored["ceiling"]
        pairs = tuple((int(size), float(rate)) for size, rate in fields["bytes_per_s"])
        ceiling = Ceiling(**{**fields, "bytes_per_s": pairs})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ceiling if pairs and ceiling.macs_per_s else None


def save(key: Mapping[str, Any], ceiling: Ceiling, cache: Path) -> None:
    """Keep a ceiling for the next time.

    Raises:
        BadInputError: the cache cannot be written.
    """
    text = json.dumps({"key": dict(key), "ceiling": asdict(ceiling)}, indent=1) + "\n"
    try:
        write_text(cache_path(key, cache), text)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInputError(
            f"the cache {cache} cannot be written", why, "set MOBENCH_CACHE to another folder"
        ) from error
