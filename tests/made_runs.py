"""Campaigns of made-up latencies, journaled as `mobench run` does, for what reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobench import store
from mobench.records import Block, DeviceState, Failure, Ready, Run

Latency = Callable[[int, int], float]  # incarnation, round -> ns
MACHINE = {"cpu": "Cortex-Z9", "arch": "aarch64", "cores": 8, "kernel": "Linux 6.1", "extensions": ["asimddp", "i8mm"]}
BASE_NS = 10_000_000


def spread(factor: float, logs: Sequence[float] = (), base_ns: float = BASE_NS) -> Latency:
    """``factor`` times ``base_ns``, and in incarnation i times exp(logs[i]); round n slows all by (1 + n % 3)."""
    return lambda i, n: factor * base_ns * (1 + n % 3) * math.exp(logs[i] if logs else 0.0)


def make_run(
    path: Path,
    latencies: Mapping[str, Latency | None],
    *,
    incarnations: int = 5,
    rounds: int = 9,
    machine: Mapping[str, Any] = MACHINE,
    device: str = "desktop-cpu",
    started: str = "2026-11-22T10:00:00+00:00",
    sha256: Mapping[str, str] | None = None,
    artifact: Mapping[str, Mapping[str, Any]] | None = None,
    target: Mapping[str, Mapping[str, Any]] | None = None,
    versions: Mapping[str, str] | None = None,
    got: str = "XNNPACK",
    header: Mapping[str, Any] | None = None,
    states: Sequence[DeviceState] = (),
    lead_in: int = 4,
) -> Run:
    """Journal a campaign under ``path`` and read it back. A cell without latencies failed to load.

    Cells are files of their id's name; ``sha256`` (default: the id), ``artifact`` and ``target`` change one cell.
    """
    described = [
        {
            "id": cell,
            "artifact": {
                "path": cell,
                "sha256": (sha256 or {}).get(cell, cell),
                "size_bytes": 1,
                "format": "onnx" if cell.endswith(".onnx") else "tflite",
                "name": Path(cell).stem,
                "precision": None,
                "network": None,
                "weights": None,
                **(artifact or {}).get(cell, {}),
            },
            "target": {
                "device": device,
                "runtime": "ort" if cell.endswith(".onnx") else "litert",
                "provider": "",
                "threads": 1,
                "cores": [1],
                "batch": 1,
                **(target or {}).get(cell, {}),
            },
        }
        for cell in latencies
    ]
    ready = Ready(
        init_ns=1, first_ns=1, rss_before_mb=1.0, peak_rss_mb=2.0, asked=got, got=got, nodes_delegated=None,
        nodes_total=None, threads=1, cores=(1,), inputs=(), outputs=(),
        versions={"mobench": "0.1.0", "python": "3.11.7"} | dict(versions or {"runtime": "1.0"}),
    )  # fmt: skip
    path.unlink(missing_ok=True)
    with store.Journal(path) as journal:
        journal.append(
            "run",
            **{
                "schema": store.SCHEMA,
                "campaign": path.stem,
                "started": started,
                "device": device,
                "machine": dict(machine),
                "versions": {"mobench": "0.1.0"},
                "settings": {"budget_s": 20.0, "seed": 0},
                "baseline": next(iter(latencies)),
                "cells": described,
            }
            | dict(header or {}),
        )
        for state in states:
            journal.append("state", state)
        t_s = 0.0
        for incarnation in range(incarnations):
            for cell, latency in latencies.items():
                if latency is not None:
                    journal.append("session", cell=cell, incarnation=incarnation, t_s=t_s, ready=asdict(ready))
            for number in range(rounds):
                t_s += 20.0 / (incarnations * rounds)
                for position, (cell, latency) in enumerate(latencies.items()):
                    if latency is None:
                        continue
                    wall_ns = round(latency(incarnation, number))
                    journal.append(
                        "block",
                        Block(
                            cell=cell, incarnation=incarnation, round=number, position=position, phase="steady",
                            t_s=t_s, wall_ns=(wall_ns,), cpu_ns=wall_ns // 2, involuntary_switches=0, steal_ticks=0,
                            lead_in=lead_in,
                        ),
                    )  # fmt: skip
        for cell, latency in latencies.items():
            if latency is None:
                failure = Failure(
                    cell=cell, incarnation=0, kind="session", what=cell, why="it does not load", mend="no"
                )
                journal.append("failure", failure)
        journal.append("end", reason="budget", t_s=t_s)
    return store.read(path)
