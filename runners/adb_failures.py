"""What adb, its server and a phone's shell say when something fails, as errors with the mend. Text in, errors out."""

from __future__ import annotations

import re

from mobench.errors import BadInputError, DeathError, LinkError, MobenchError, SessionError


class BrokenLinkError(LinkError):
    """The link went in the middle of a call. Once it is back, the same call may work."""


# States of `adb devices`, and what to do about each but "device".
STATES = {
    "device": "",
    "unauthorized": "unlock the phone and accept its dialog 'Allow USB debugging?'; no dialog: revoke USB debugging "
    "authorisations in the developer options, then plug it in again",
    "authorizing": "unlock the phone, it is deciding on this computer's key",
    "offline": "plug the cable in again, or switch USB debugging off and on; over Wi-Fi `adb connect` again",
    "connecting": "wait a moment",
    "no permissions": "Linux lets only root use this USB device: install udev rules (Debian: apt install "
    "android-sdk-platform-tools-common), join the group plugdev, log in again, plug the phone in again",
    "bootloader": "it is in its boot loader: `fastboot reboot`",
    "recovery": "it is in recovery: restart it (`adb reboot`)",
    "sideload": "it waits for an update: restart it (`adb reboot`)",
    "rescue": "it is in rescue mode: restart it (`adb reboot`)",
    "host": "it is no phone but this side of adb: plug the phone in",
}
_OUT_OF_REACH = "plug the phone in, unlock it and wait until it has started; `mobench devices` lists what adb sees"
CABLE = "another cable or port may help; then run again"

# adb's own messages (client/transport.cpp, client/file_sync_client.cpp, adb_client.cpp), first match wins.
_FAILURES: tuple[tuple[str, type[MobenchError], str, str], ...] = (
    ("unauthorized", LinkError, "the phone does not accept this computer's key", STATES["unauthorized"]),
    ("still authorizing", BrokenLinkError, "the phone has not decided on this computer's key", STATES["authorizing"]),
    ("more than one device", BadInputError, "two phones have this serial number", "unplug one"),
    ("no permissions|insufficient permissions", LinkError, "no right to use its USB device", STATES["no permissions"]),
    ("device offline|is offline", BrokenLinkError, "the phone does not answer (offline)", STATES["offline"]),
    (
        r"device '[^']*' not found|device not found|no devices/emulators found|no devices found",
        *(BrokenLinkError, "it is unplugged or restarting", _OUT_OF_REACH),
    ),
    (
        "cannot connect to daemon|failed to start daemon|failed to check server version|could not install .*listener",
        *(
            BrokenLinkError,
            "adb's server does not start",
            "`adb kill-server`; does another program hold its port (5037)?",
        ),
    ),
    (
        "No space left on device|Disk quota exceeded",
        *(SessionError, "the phone's storage is full", "make room on it (Settings, Storage), then run again"),
    ),
    ("cannot (l?stat|open|read) '", BadInputError, "", "check the path on this computer"),
    (
        "Read-only file system|couldn't create file|remote secure_mkdirs failed|open failed|failed to stat remote"
        "|Operation not permitted|Permission denied|Is a directory|Not a directory|File too large",
        *(SessionError, "", "use a folder under /data/local/tmp"),
    ),
    (
        r"error: closed|protocol fault|(couldn't|failed to) (read|write|copy)|Connection reset|Broken pipe"
        r"|device disconnected|failed to get feature set|unexpected EOF|remote write failed|no response",
        *(BrokenLinkError, "the link broke", CABLE),
    ),
)
_CHATTER = re.compile(r"(?:\* daemon |\* server |adb server version \(|adb server is out of date)")
_PREFIX = re.compile(r"(?:adb: )?error: (?:failed to (?:get feature set|copy '[^']*' to '[^']*'): )?(?:remote )?")


def without_chatter(text: str) -> str:
    """Return what adb prints without the lines at its head that tell of its server's start."""
    lines = text.splitlines(keepends=True)
    while lines and _CHATTER.match(lines[0]):
        del lines[0]
    return "".join(lines)


def failure(what: str, text: str) -> MobenchError | None:
    """Turn what adb printed, on either stream, into an error; None where adb itself complains of nothing known.

    Args:
        what: what failed, for example ``phone SERIAL``.
        text: what adb printed, chatter included. No output of a program that ran on the phone belongs in it.
    """
    for pattern, kind, why, mend in _FAILURES:
        if found := re.search(f"^.*(?:{pattern}).*$", text, re.MULTILINE):
            return kind(what, why or _PREFIX.sub("", found[0]), mend)
    return None


def program_failure(what: str, status: int, words: str) -> SessionError:
    """Turn the end of a program that ran on the phone into an error.

    Args:
        what: which program, or whose model.
        status: its exit status as a shell tells it: 128 and the signal's number where one ended it.
        words: what it wrote last.
    """
    last = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), "")[:300]
    if found := re.search(r'^.*dlopen failed: library "([^"]+)"[^\n]*', words, re.MULTILINE):
        gpu = "OpenCL" in found[1] or "vulkan" in found[1].lower()
        mend = "this phone lets no such program reach its GPU: use android-cpu" if gpu else "`mobench android setup`"
        return SessionError(what, f"the phone's linker refuses {found[1]}: {found[0].strip()}", mend)
    if status == 126 or (status != 0 and "Permission denied" in last):
        mend = "`adb shell rm -rf /data/local/tmp/mobench` and run again; a phone that its owner's company manages may "
        mend += "run no programs from there at all: take another"
        return SessionError(what, f"the phone does not let it run: {last}", mend)
    if status == 127:
        # The launcher has seen that the file is there: what is not is its loader, `/system/bin/linker64`.
        return SessionError(what, f"the phone cannot start it: {last}", "is it built for Android and this phone's ABI?")
    if status == 137:
        return DeathError(what, "the phone's system killed it", "it is out of memory: close apps, take a smaller model")
    if status == 142:
        return SessionError(what, "not done within its deadline", "it hangs: try the other runtime")
    how = f"signal {status - 128}" if status > 128 else f"exit status {status}"
    return DeathError(what, f"it ended ({how})" + (f": {last}" if last else ""), "try the other runtime")
