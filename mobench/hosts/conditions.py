"""What a campaign is asked beside its cells, and is taken up with: a tool of the user's own, a phone's limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobench.hosts import Session
from mobench.records import Cell
from runners import native_tools
from runners.tool_places import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """The user's own benchmark program, and the folder that keeps what each run of it printed."""

    binary: Path
    logs: Path

    def open_session(self, cell: Cell, place: Place) -> Session:
        """Bring the program and a cell's model to where they are to run, and run it once."""
        return native_tools.open_tool_session(
            cell.target.runtime, self.binary, cell.artifact, cell.target, place=place, logs=self.logs
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Under what conditions a phone is measured.

    A round begins only at or below ``cool_to_c`` (skin or battery; None: whenever it does not throttle), for which it
    waits ``cool_down_s`` at most, and while the battery holds ``min_battery`` percent.
    """

    cool_to_c: float | None = None
    cool_down_s: float = 300.0
    min_battery: int = 20


def as_fields(check: bool, tool: Tool | None, limits: Limits | None) -> dict[str, Any]:
    """Return the keyword arguments of `open_host` as JSON has them."""
    return {
        "check": check,
        "tool": {"binary": str(tool.binary.absolute()), "logs": str(tool.logs.absolute())} if tool else None,
        "limits": dataclasses.asdict(limits) if limits else None,
    }


def as_before(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments with which `open_host` opens a host whose ``conditions()`` these were."""
    tool, limits = conditions.get("tool"), conditions.get("limits")
    return {
        "check": bool(conditions.get("check")),
        "tool": Tool(binary=Path(tool["binary"]), logs=Path(tool["logs"])) if tool else None,
        "limits": Limits(**limits) if limits else None,
    }
