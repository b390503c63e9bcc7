"""The phone's programs: scripts for Android's own, links to the host's for what both have. Nothing else is on its PATH.

What is left out is left out on purpose: the host's `pkill`, `reboot` or `mount` would act on the host.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from standin.profiles import Profile

# What toybox has and the host has in the same way, as far as a POSIX script uses it.
_SHARED = (
    *("awk", "base64", "basename", "cat", "cmp", "cp", "cut", "dd", "dirname", "du", "echo", "env", "expr", "false"),
    *("find", "grep", "gzip", "head", "id", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mktemp", "mv", "nohup", "od"),
    *(
        "paste",
        "printf",
        "readlink",
        "realpath",
        "rm",
        "rmdir",
        "sed",
        "seq",
        "setsid",
        "sha1sum",
        "sha256sum",
        "sleep",
        "sort",
    ),
    *("stat", "tail", "tar", "tee", "test", "timeout", "tr", "true", "uname", "uniq", "wc", "xargs", "nice", "sync"),
)

_GETPROP = """
if [ $# -eq 0 ]; then sed 's/^\\([^=]*\\)=\\(.*\\)$/[\\1]: [\\2]/' "$STANDIN_STATE/props"; exit; fi
sed -n "s/^$1=//p" "$STANDIN_STATE/props" | grep . || echo "$2"
"""

_SETPROP = """
case $1 in debug.*|log.*) ;; *) echo "Failed to set property '$1' to '$2'." >&2; exit 1;; esac
echo "$1=$2" >> "$STANDIN_STATE/props"
"""

_DUMPSYS = """
case $1 in -t) shift 2;; esac
if [ -f "$STANDIN_STATE/services/$1" ]; then exec cat "$STANDIN_STATE/services/$1"; fi
echo "Can't find service: $1"
"""

# The answers of PowerManagerShellCommand; a false argument and an unknown command end with 255.
_CMD = """
if [ "$1 $2" = "power set-fixed-performance-mode-enabled" ]; then
  if [ ! -f "$STANDIN_STATE/offers_fixed_performance" ]; then
    echo "Unknown command: $2"; exit 255
  fi
  case $3 in true|false) echo "$3" > "$STANDIN_STATE/fixed_performance"; exit 0;; esac
  echo "Invalid boolean argument"; exit 255
fi
if [ -f "$STANDIN_STATE/services/$1" ]; then echo "Unknown command: $2"; exit 255; fi
echo "cmd: Can't find service: $1" >&2; exit 20
"""

# One file system; a size that fits a phone, with as much free as the stand-in says.
_DF = """
free=$(cat "$STANDIN_STATE/free_kb"); all=118000000
echo "Filesystem     1K-blocks      Used Available Use% Mounted on"
echo "/dev/block/dm-40 $all $((all - free)) $free $(((all - free) * 100 / all))% /data"
"""

_CHMOD = """
for path in "$@"; do
  while read -r folder; do
    case $path in "$STANDIN_ROOT$folder"/*) exit 0;; esac
  done < "$STANDIN_STATE/noexec"
done
exec HOST "$@"
"""

# MASK is hexadecimal without 0x; the phone's cores are played by the host's, round and round.
_TASKSET = """
case $1 in -*) echo "taskset: only MASK COMMAND is known here" >&2; exit 1;; esac
mask=$((0x$1)); shift
[ "$mask" -gt 0 ] || { echo "taskset: failed to set affinity: Invalid argument" >&2; exit 1; }
hosts=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status | tr ',' '\\n' |
  while IFS=- read -r from to; do seq "$from" "${to:-$from}"; done)
set_=
core=0
while [ "$mask" -gt 0 ]; do
  if [ $((mask & 1)) = 1 ]; then
    count=$(echo "$hosts" | wc -l)
    set_="${set_:+$set_,}$(echo "$hosts" | sed -n "$((core % count + 1))p")"
  fi
  mask=$((mask >> 1)); core=$((core + 1))
done
exec HOST -c "$set_" "$@"
"""

_DATE = """
offset=$(cat "$STANDIN_STATE/clock_offset_s" 2>/dev/null || echo 0)
exec HOST -d "@$(($(HOST +%s) + offset))" "$@"
"""

_TOUCH = """
offset=$(cat "$STANDIN_STATE/clock_offset_s" 2>/dev/null || echo 0)
case " $* " in *" -d "*|*" -t "*|*" -r "*) exec HOST "$@";; esac
exec HOST -d "@$(($(date +%s)))" "$@"
"""

# Processes: the host's, of which only the phone's are seen.
_OURS = """
ours() { grep -lsz "^STANDIN_DEVICE=$STANDIN_ROOT$" /proc/[0-9]*/environ | sed 's|^/proc/||; s|/environ$||' | sort -n; }
line() { cat "/proc/$1/cmdline" 2>/dev/null | tr "\\0" " "; }
"""

_PS = (
    _OURS
    + """
echo "USER           PID  PPID     VSZ    RSS WCHAN            ADDR S NAME"
for pid in $(ours); do
  name=$(cat "/proc/$pid/comm" 2>/dev/null) && echo "shell $pid 1 0 0 0 0 S $name"
done
exit 0
"""
)

_PGREP = (
    _OURS
    + """
full=; exact=
while :; do case $1 in -f) full=1;; -x) exact=1;; -fx|-xf) full=1; exact=1;; -l) ;; *) break;; esac; shift; done
found=1
for pid in $(ours); do
  [ "$pid" = $$ ] && continue
  if [ "$full" ]; then text=$(line "$pid"); else text=$(cat "/proc/$pid/comm" 2>/dev/null); fi
  if echo "$text" | grep -qE ${exact:+-x} -- "$1"; then ACTION; found=0; fi
done
exit $found
"""
)

_PIDOF = (
    _OURS
    + """
found=
for pid in $(ours); do
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$(basename "$1" | cut -c 1-15)" ] && found="$found $pid"
done
[ "$found" ] || exit 1
echo $found
"""
)

_PKILL = """
signal=TERM
case $1 in -[0-9A-Z]*) signal=${1#-}; shift;; esac
""" + _PGREP.replace("ACTION", 'kill -"$signal" "$pid"')

_LOGCAT = """
[ -f "$STANDIN_STATE/logcat" ] && exec cat "$STANDIN_STATE/logcat"
echo "--------- beginning of main"
"""

_SCRIPTS = {
    "getprop": _GETPROP,
    "setprop": _SETPROP,
    "dumpsys": _DUMPSYS,
    "cmd": _CMD,
    "df": _DF,
    "chmod": _CHMOD,
    "taskset": _TASKSET,
    "date": _DATE,
    "touch": _TOUCH,
    "ps": _PS,
    "pgrep": _PGREP.replace("ACTION", 'echo "$pid"'),
    "pkill": _PKILL,
    "pidof": _PIDOF,
    "logcat": _LOGCAT,
    "getenforce": "echo Enforcing\n",
    "settaskprofile": "exit 0\n",  # PID PROFILE...: its effect is the scheduler's
}


def install(folder: Path, profile: Profile) -> None:
    """Fill a phone's folder of programs."""
    for name in _SHARED:
        if host := shutil.which(name):
            (folder / name).symlink_to(host)
    for name, text in _SCRIPTS.items():
        if name in profile.lacks:
            continue
        host = shutil.which(name) or f"/bin/{name}"
        script = folder / name
        script.write_text("#!/bin/sh\n" + text.lstrip().replace("HOST", host))
        script.chmod(0o755)
