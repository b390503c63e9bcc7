"""What tests of the phone's harness share: the wheels' own libraries, its argument, sessions with it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runners.wire import SEPARATOR, Session, encode


def wheel(package: str, pattern: str) -> Path:
    """A runtime's own library in its wheel."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs {package}: pip install {package.replace('_', '-')}")
    return next(Path(spec.submodule_search_locations[0]).glob(pattern))


def library(runtime: str) -> Path:
    if runtime == "ort":
        return wheel("onnxruntime", "capi/libonnxruntime.so*")
    return wheel("ai_edge_litert", "libLiteRt.so")


def argument(model: Path, **changes: Any) -> dict[str, Any]:
    """The harness's argument for a model, its runtime chosen by its name."""
    runtime = "ort" if model.suffix == ".onnx" else "litert"
    known = {
        "runtime": runtime, "library": str(changes["library"] if "library" in changes else library(runtime)),
        "accelerators": "", "model": str(model), "provider": "", "threads": 1, "batch": 1, "shape": [], "cores": [],
        "deadline_s": 60, "idle_s": 60,
    }  # fmt: skip
    return {**known, **changes}


def session(program: Path, model: Path, env: Mapping[str, str] = os.environ, **changes: Any) -> Session:
    command = [str(program), json.dumps(argument(model, **changes))]
    return Session(command, label=model.name, env=env, start_deadline_s=60)


def messages(program: Path, *arguments: str, sent: bytes = b"") -> tuple[list[dict[str, Any]], int, str]:
    """Run the harness to its end. Returns what it said, its exit status and its log."""
    done = subprocess.run([str(program), *arguments], input=sent, capture_output=True, timeout=120)
    lines = done.stdout.splitlines()
    assert all(line.startswith(SEPARATOR) for line in lines), "only messages may come on stdout"
    return [json.loads(line[1:]) for line in lines], done.returncode, done.stderr.decode(errors="replace")


def request(kind: str, **fields: Any) -> bytes:
    return encode({"type": kind, "deadline_ms": 60_000, **fields})
