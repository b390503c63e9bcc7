"""From the devices that are named to their host."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mobench.errors import BadInputError
from mobench.hosts import Host, Tell
from mobench.hosts.conditions import Limits, Tool
from mobench.hosts.desktop import DesktopHost
from mobench.hosts.phone import PhoneHost


def open_host(
    on: Collection[str],
    *,
    serials: Sequence[str] = (),
    shape: tuple[int, ...] = (),
    check: bool = False,
    tool: Tool | None = None,
    limits: Limits | None = None,
    tell: Tell = lambda line: None,
) -> Host:
    """Return the host of the named devices, not yet entered.

    Args:
        on: devices, as `mobench run --device` names them.
        serials: of the phone, for adb: one, or none where only one is attached.
        shape: first input's shape for models that leave it open.
        check: compare each session's outputs with a reference.
        tool: the user's own benchmark program, for cells whose runtime it is.
        limits: under what conditions a phone is measured.
        tell: told, in a line, what was done to a phone or could not be done.

    Raises:
        BadInputError: devices of different machines, or a serial number or limits without a phone.
    """
    phones = {device for device in on if device.startswith("android-")}
    if phones and phones != set(on):
        why = "a campaign is of one machine, so that its cells can take turns"
        raise BadInputError(f"--device {', '.join(sorted(on))}", why, "run one after the other")
    if check and tool:
        raise BadInputError("--check", "a tool of one's own does not show its outputs", "leave it out")
    if phones:
        return PhoneHost(serials, shape=shape, check=check, tool=tool, limits=limits, tell=tell)
    if serials:
        raise BadInputError(f"--serial {serials[0]}", "it names a phone", "with --device android-cpu or android-gpu")
    if limits and limits != Limits():
        raise BadInputError("--cool-to, --min-battery", "they are for phones", "leave them out")
    return DesktopHost(shape=shape, check=check, tool=tool, on=on)
