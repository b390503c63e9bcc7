"""What Android's system services print, as values. Pure: text in, values out; what a service does not say is absent."""

from __future__ import annotations

import re
from typing import Literal

# PowerManager.THERMAL_STATUS_*, by number.
_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?\d+(?:\.\d+)?), mType=(-?\d+), mName=([^,}]+),")
# Temperature.TYPE_*, those that say how much heat a phone still takes; makers name such sensors quiet_therm and so on.
_TYPES = {2: "battery", 3: "skin"}


def thermal(text: str) -> tuple[str | None, dict[str, float]]:
    """Read ``dumpsys thermalservice`` (Android 10 and later): the word for throttling, and degrees Celsius by sensor.

    The sensors are those the hardware tells now, not the ones cached before them in the text. One of skin or battery
    whose name does not say so has it added: ``quiet_therm (skin)``. Without a HAL the service's word means nothing.
    """
    status = None if re.search(r"HAL Ready: false\b", text) else re.search(r"Thermal Status: ([0-6])\b", text)
    now = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    return _STATUS[int(status[1])] if status else None, {
        _named(name, int(kind)): float(value) for value, kind, name in _TEMPERATURE.findall(now)
    }


def _named(name: str, kind: int) -> str:
    part = _TYPES.get(kind, "")
    return name if part in name.lower() else f"{name} ({part})"


def screen(text: str) -> Literal["on", "off"] | None:
    """Read ``dumpsys power``: whether the phone is awake, and so its screen on; dreaming and dozing are not."""
    found = re.search(r"^\s*mWakefulness=(\w+)", text, re.MULTILINE)
    return None if not found else "on" if found[1] == "Awake" else "off"


def battery(text: str) -> tuple[Literal["mains", "battery"] | None, int | None, int | None, float | None]:
    """Read ``dumpsys battery``: power source, percent, charge in uAh, degrees Celsius.

    A charge counter of 0 is a phone without one.
    """
    powered = re.findall(r"^\s*(?:AC|USB|Wireless|Dock) powered: (true|false)\b", text, re.MULTILINE)

    def number(key: str) -> int | None:
        found = re.search(rf"^\s*{key}: (-?\d{{1,12}})\b", text, re.MULTILINE)
        return int(found[1]) if found else None

    tenths = number("temperature")
    power: Literal["mains", "battery"] | None = None
    if powered:
        power = "mains" if "true" in powered else "battery"
    return power, number("level"), number("Charge counter") or None, None if tenths is None else tenths / 10
