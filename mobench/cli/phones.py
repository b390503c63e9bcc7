"""Several phones side by side: a `mobench run` of its own for each, told apart by serial number."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
from click.core import ParameterSource

_LEFT_TO_US = "serials"


def arguments(context: click.Context) -> list[str]:
    """Return the command line of a verb as it was given, without the serial numbers."""
    options: list[str] = []
    things: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name == _LEFT_TO_US or context.get_parameter_source(name) is ParameterSource.DEFAULT:
            continue
        value = context.params[name]
        values: Sequence[Any] = value if isinstance(value, tuple) else (value,)
        if isinstance(parameter, click.Argument):
            things += map(str, values)
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            options.append(parameter.opts[-1])
        else:
            for one in values:
                options += [parameter.opts[-1], str(one)]
    return [*options, "--", *things]


def side_by_side(context: click.Context, serials: Sequence[str], *, json_out: bool) -> int:
    """Run the verb once for each phone, at the same time; show what each printed, one after the other.

    Ctrl-C reaches each once; every campaign ends in order. Returns the worst exit status.
    """
    verb = [sys.executable, "-P", "-m", "mobench", str(context.info_name)]
    given = arguments(context)
    children = [
        subprocess.Popen(
            [*verb, "--serial", serial, *given],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C would reach it beside ours
        )
        for serial in dict.fromkeys(serials)
    ]
    with ThreadPoolExecutor(len(children)) as pool:
        waiting = [pool.submit(child.communicate) for child in children]
        try:
            printed = [one.result() for one in waiting]
        except KeyboardInterrupt:
            for child in children:
                child.send_signal(signal.SIGINT)
            printed = [one.result() for one in waiting]
    cells: list[Any] = []
    for serial, (out, err) in zip(dict.fromkeys(serials), printed, strict=True):
        for line in err.splitlines():
            click.echo(f"{serial}: {line}", err=True)
        if not json_out:
            click.echo(f"{serial}\n{out}")
        elif out.strip():
            cells += json.loads(out)
    if json_out:
        click.echo(json.dumps(cells, indent=1))
    return max(child.returncode if child.returncode >= 0 else 1 for child in children)
