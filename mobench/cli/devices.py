"""`mobench devices`: the phones that adb sees, what can run on each, what cannot, and the mend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from mobench.cli.terminal import echo_table
from mobench.errors import BadInputError, MobenchError
from mobench.records import DEVICES
from mobench.report.tables import Column

PHONE_COLUMNS = (
    Column(key="serial", title="serial"),
    Column(key="state", title="state"),
    Column(key="name", title="phone"),
    Column(key="android", title="Android"),
    Column(key="soc", title="SoC"),
    Column(key="abi", title="ABI"),
    Column(key="cores", title="cores (GHz)"),
    Column(key="gpu", title="GPU"),
    Column(key="mend", title="mend"),
)
RUN_COLUMNS = (
    Column(key="serial", title="serial"),
    Column(key="device", title="--device"),
    Column(key="runtime", title="--runtime"),
    Column(key="status", title="status"),
    Column(key="found", title="found"),
    Column(key="mend", title="mend"),
)
NO_PHONE = (
    "no phone is attached: plug one in, with USB debugging on (Settings, About phone: tap the build number seven times;"
    " then in the developer options), and accept its dialog"
)


def survey(program: str = "adb") -> list[dict[str, Any]]:
    """Return what there is to know of each attached phone, with ``runs``: what can run on it and what cannot.

    ``also`` are other serials of the same phone, for example its address over Wi-Fi.

    Raises:
        BadInputError: there is no adb.
        LinkError: adb's server does not start.
    """
    from runners.adb import Adb, attached
    from runners.android.phone import describe, merge

    phones, rows = [], []
    for each in attached(program):
        row: dict[str, Any] = {"serial": each.serial, "state": each.state, "mend": each.mend, "runs": []}
        if each.state == "device":
            try:
                phone = describe(Adb(each.serial, program=program))
            except MobenchError as error:
                row |= {"state": "no answer", "mend": str(error)}
            else:
                phones.append(phone)
                row |= asdict(phone) | {"name": phone.name, "runs": list(_runs(phone.abis))}
        rows.append(row)
    once = {phone.serial for phone in merge(phones)}
    for row in rows:
        twins = [each for each in phones if (each.serialno, each.boot_id) == (row.get("serialno"), row.get("boot_id"))]
        row["also"] = [each.serial for each in twins if each.serial not in once]
    return [row for row in rows if row["serial"] in once or "serialno" not in row]


def _runs(abis: Sequence[str]) -> Iterator[dict[str, str]]:
    """Say of each device and runtime whether it can run on a phone with these ABIs."""
    from runners.android import build, elf, runtimes

    abi = next((abi for abi in abis if abi in elf.ABIS), None)
    for device, has in DEVICES.items():
        for runtime, providers in has.items() if device.startswith("android-") else ():
            row = {"device": device, "runtime": runtime, "status": "no", "found": "", "mend": ""}
            try:
                if abi is None:
                    why = f"the phone runs {', '.join(abis) or 'no known ABI'} only"
                    raise BadInputError(f"no harness: {why}", mend=f"mobench needs {' or '.join(elf.ABIS)}")
                build.harness(abi)
                files = runtimes.find(abi, runtime)
                if device == "android-gpu" and not files.accelerators:
                    mend = f"get {runtimes.KINDS[runtime].source}; then: mobench android setup FILE..."
                    raise BadInputError(f"no GPU accelerator beside {files.library.name}", mend=mend)
            except BadInputError as error:
                why = f": {error.why}" if error.why else ""
                yield row | {"found": f"{error.what}{why}", "mend": error.mend}
                continue
            title = f"{runtimes.KINDS[runtime].title} {files.version}".strip()
            yield row | {"status": "ok", "found": f"{title}: {', '.join(providers)}"}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a phone's row into what people read."""
    from runners.android import elf

    clusters = [
        f"{len(cluster['cores'])}x{cluster['max_khz'] / 1e6:.2f}"
        if "max_khz" in cluster
        else f"{len(cluster['cores'])}x"
        for cluster in reversed(row.get("clusters", ()))
    ]
    abis = row.get("abis", ())
    return {
        **row,
        "serial": " = ".join((row["serial"], *row["also"])),
        "android": f"{row['android']} (SDK {row['sdk']})" if "sdk" in row else None,
        "abi": next((abi for abi in abis if abi in elf.ABIS), ", ".join(abis)),
        "cores": " + ".join(clusters),
    }


@click.command()
@click.option("--json", "json_out", is_flag=True, help="A JSON list on stdout.")
def command(json_out: bool) -> int:
    """List the phones that adb sees, what can run on each, and the mend for what cannot.

    Exit 1 where there is no phone on which anything can run.
    """
    rows = survey()
    if json_out:
        click.echo(json.dumps(rows, indent=1))
    elif rows:
        echo_table(PHONE_COLUMNS, [_shown(row) for row in rows])
        runs = [{"serial": row["serial"], **run} for row in rows for run in row["runs"]]
        if runs:
            click.echo()
            echo_table(RUN_COLUMNS, runs)
    else:
        click.echo(NO_PHONE, err=True)
    return int(not any(run["status"] == "ok" for row in rows for run in row["runs"]))
