#!/usr/bin/env bash
# Unpacks the real adb and a Vulkan driver in software (SwiftShader) from Debian packages into a folder, without root:
#
#   tests/standin/fetch.sh .venv/standin
#
# Tests find both there. What is not to be had is left out with a line that says so: its tests are skipped then.
set -euo pipefail

target=${1:?which folder? make test uses .venv/standin}
mkdir -p "$target"
target=$(cd "$target" && pwd)
programs=$(dirname "$target")/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "no apt-get here: install adb (Android's platform-tools) yourself; the GPU's code path stays untested" >&2
  exit 0
fi

apt=(-o Acquire::http::Timeout=20 -o Acquire::Retries=1 -o APT::Sandbox::User=root)
if ! apt-cache "${apt[@]}" show adb >/dev/null 2>&1; then # a bare container: lists of packages of our own
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
  apt+=(-o "Dir::State::Lists=$work/state/lists" -o "Dir::Cache=$work/cache")
  apt-get "${apt[@]}" update >/dev/null 2>&1 || true
fi

# unpack FOLDER PACKAGE...: those that this system has not
unpack() {
  local folder=$1 package
  shift
  mkdir -p "$work/debs" "$folder"
  for package; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] && continue
    rm -f "$work"/debs/*.deb
    (cd "$work/debs" && apt-get "${apt[@]}" download "$package" >/dev/null 2>&1) || return 1
    dpkg-deb --fsys-tarfile "$work"/debs/*.deb | tar -x -C "$folder" || return 1
  done
}

# all that a package needs, itself included
needs() {
  apt-cache "${apt[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances "$1" 2>/dev/null | grep '^[a-z0-9]' | sort -u
}

whole=yes
mkdir -p "$target/lib"
if command -v adb >/dev/null && [ "$(command -v adb)" != "$programs/adb" ]; then
  : # the tests take the one on PATH
elif mapfile -t packages < <(needs adb) && unpack "$work/adb" "${packages[@]:-adb}"; then
  cp -L "$work/adb/usr/lib/android-sdk/platform-tools/adb" "$target/adb"
  find "$work/adb" -name 'lib*.so.*' ! -name 'lib*.so.*.*' -exec cp -L {} "$target/lib" \;
  # Beside this environment's python; adb starts its server by itself, with the same libraries.
  if [ -d "$programs" ]; then
    cat >"$work/adb.sh" <<'WRAPPER'
#!/bin/sh
here=$(cd "$(dirname "$0")/../standin" && pwd)
LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$here/adb" "$@"
WRAPPER
    install -m 755 "$work/adb.sh" "$programs/adb"
  fi
else
  echo "adb could not be had from apt-get; its tests will be skipped: apt-get install adb" >&2
  whole=no
fi

if unpack "$work/vulkan" libvulkan1 chromium-common; then
  cp -L "$work"/vulkan/usr/lib/chromium/{libvk_swiftshader.so,vk_swiftshader_icd.json} "$target/lib"
  find "$work/vulkan" -path '*/usr/lib/*-linux-gnu/libvulkan.so.1' -exec cp -L {} "$target/lib" \;
else
  echo "software Vulkan could not be had from apt-get; tests of the GPU's code path will be skipped" >&2
  whole=no
fi
[ "$whole" = no ] || touch "$target/fetched"
