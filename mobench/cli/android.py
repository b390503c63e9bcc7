"""`mobench android`: what a phone needs of mobench: the harness, built here, and the runtimes, set up from files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import click

from mobench.cli.terminal import echo_table
from mobench.errors import MobenchError
from mobench.report.tables import Column
from runners.android import build as harness_build
from runners.android import elf, runtimes

BUILD_COLUMNS = (
    Column(key="abi", title="ABI"),
    Column(key="tool", title="built with"),
    Column(key="size_bytes", title="bytes", align="right"),
    Column(key="sha256", title="sha256"),
    Column(key="path", title="file"),
)
SETUP_COLUMNS = (
    Column(key="abi", title="ABI"),
    Column(key="part", title="part"),
    Column(key="status", title="status"),
    Column(key="found", title="found"),
    Column(key="mend", title="mend"),
)
SELFTEST_COLUMNS = (
    Column(key="check", title="check"),
    Column(key="status", title="status"),
    Column(key="said", title="said"),
)
_EXPERIMENTAL = "built without the NDK: not yet run on a phone, see android_harness/README.md"


@click.group()
def command() -> None:
    """What runs on a phone: build the harness, set up the runtimes."""


@command.command()
@click.option("--abi", "abis", multiple=True, type=click.Choice(elf.ABIS), help="Default: all.")
@click.option("--with", "how", type=click.Choice(("ndk", "ziglang")), help="Default: the NDK where there is one.")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout.")
def build(abis: tuple[str, ...], how: str | None, json_out: bool) -> int:
    """Build the harness for phones from its C sources, check the result and keep it.

    With CMake and the NDK that ANDROID_NDK_HOME, ANDROID_NDK_ROOT or ANDROID_HOME names; without one by ziglang.
    """
    how = cast(harness_build.How | None, how)
    made = [harness_build.build(abi, how) for abi in abis or elf.ABIS]
    if json_out:
        click.echo(json.dumps([asdict(each) | {"path": str(each.path)} for each in made], indent=1))
        return 0
    echo_table(BUILD_COLUMNS, [asdict(each) | {"sha256": each.sha256[:12]} for each in made])
    if any(each.experimental for each in made):
        click.echo(f"note: {_EXPERIMENTAL}", err=True)
    return 0


@command.command()
@click.argument("things", nargs=-1, metavar="[FILE|FOLDER|URL#sha256=HEX]...")
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout.")
def setup(things: tuple[str, ...], json_out: bool) -> int:
    """Take LiteRT and ONNX Runtime for phones out of AARs or .so files and keep them, by ABI.

    Without arguments: what is there, what is missing, and where one gets it. LiteRT's GPU accelerator comes in an AAR
    of its own; give both at once.
    """
    taken = runtimes.collect(things, say=lambda line: click.echo(line, err=True)) if things else ()
    rows = inventory()
    if json_out:
        click.echo(json.dumps(rows, indent=1))
        return 0
    shown = [row for row in rows if not things or (row["abi"], row["part"]) in {(t.abi, t.runtime) for t in taken}]
    echo_table(SETUP_COLUMNS, shown, notes=_sources(shown))
    for note in dict.fromkeys(note for row in shown for note in row["notes"]):
        click.echo(f"note: {note}", err=True)
    return 0


@command.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--serial", metavar="SERIAL", help="Which phone (`mobench devices`). Default: the only one attached.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("selftest.json"), show_default=True,
              help="The report to write.")  # fmt: skip
@click.option("--json", "json_out", is_flag=True, help="The outcomes as a JSON list on stdout.")
def selftest(models: tuple[Path, ...], serial: str | None, out: Path, json_out: bool) -> int:
    """Check on a phone what only a phone can show, and write a report to send back.

    Give a .tflite and a .onnx file whose inference takes some milliseconds. Takes a minute or two. Exit 1 where a
    check fell.
    """
    from mobench.selftest import selftest as check

    outcomes = check(models, out, serial=serial, tell=lambda text: click.echo(text, err=True))
    if json_out:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=1, default=str))
    else:
        echo_table(SELFTEST_COLUMNS, [asdict(outcome) for outcome in outcomes])
        click.echo(f"report: {out}")
    return int(any(outcome.status == "no" for outcome in outcomes))


def inventory(abis: Sequence[str] = elf.ABIS) -> list[dict[str, Any]]:
    """Return what is kept for phones: for each ABI and part `status` (ok, note, no), `found`, `mend`, and `notes`."""
    return [row for abi in abis for row in (_harness_row(abi), *(_runtime_row(abi, name) for name in runtimes.KINDS))]


def _sources(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return, for each runtime that is not whole on some ABI, where one gets it."""
    lacking = dict.fromkeys(row["part"] for row in rows if row["status"] != "ok" and row["part"] in runtimes.KINDS)
    return [f"{runtimes.KINDS[name].title}: {runtimes.KINDS[name].source}" for name in lacking]


def _harness_row(abi: str) -> dict[str, Any]:
    row: dict[str, Any] = {"abi": abi, "part": "harness", "status": "ok", "found": "", "mend": "", "notes": []}
    try:
        found = harness_build.built(abi)
    except MobenchError as error:
        return row | {"status": "no", "found": _reason(error), "mend": error.mend}
    notes = [f"the harness for {abi} was {_EXPERIMENTAL}"] if found.experimental else []
    return row | {"found": f"{found.tool}, {found.size_bytes} bytes", "notes": notes}


def _runtime_row(abi: str, runtime: str) -> dict[str, Any]:
    row: dict[str, Any] = {"abi": abi, "part": runtime, "status": "ok", "found": "", "mend": "", "notes": []}
    try:
        found = runtimes.find(abi, runtime)
    except MobenchError as error:
        return row | {"status": "no", "found": _reason(error), "mend": "mobench android setup FILE..."}
    kind = runtimes.KINDS[runtime]
    names = [f"{kind.library} {found.version}".strip(), *(path.name for path in found.accelerators)]
    no_gpu = bool(kind.accelerators) and not found.accelerators
    return row | {
        "status": "note" if no_gpu else "ok",
        "found": ", ".join(names),
        "mend": "for the GPU: its accelerator as well" if no_gpu else "",
        "notes": list(found.notes),
    }


def _reason(error: MobenchError) -> str:
    return f"{error.what}: {error.why}" if error.why else error.what
