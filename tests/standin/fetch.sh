#!/usr/bin/env bash
# Unpacks the real adb, a Vulkan driver in software (SwiftShader) and a headless Chromium from Debian packages into a
# folder, without root:
#
#   tests/standin/fetch.sh .venv/standin
#
# Tests find all three there. What is not to be had is left out with a line that says so: its tests are skipped then.
set -euo pipefail

target=${1:?which folder? make test uses .venv/standin}
mkdir -p "$target"
target=$(cd "$target" && pwd)
programs=$(dirname "$target")/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "no apt-get here: install adb (Android's platform-tools) yourself; the GPU's code path stays untested" >&2
  echo "and install Chromium, or the report's tests in a browser are skipped" >&2
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
  local folder=$1 package deb missing=()
  shift
  for package; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  rm -rf "$work/debs"
  mkdir -p "$work/debs" "$folder"
  [ ${#missing[@]} = 0 ] && return
  (cd "$work/debs" && apt-get "${apt[@]}" download "${missing[@]}" >/dev/null 2>&1) || return 1
  for deb in "$work"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$folder" || return 1
  done
}

# all that a package needs and this system has not, itself included
needs() {
  apt-get "${apt[@]}" install --simulate --no-install-recommends "$1" 2>/dev/null | sed -n 's/^Inst \([^ ]*\) .*/\1/p'
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

if command -v chromium-headless-shell chromium google-chrome >/dev/null; then
  : # the tests take the one on PATH
elif mapfile -t packages < <(needs chromium-headless-shell) &&
  unpack "$work/browser" "${packages[@]:-chromium-headless-shell}"; then
  rm -rf "$target/browser" "$work"/browser/usr/share/{doc,man,locale,lintian,bug}
  mv "$work/browser" "$target/browser"
  # Its libraries and fonts lie beside it, in several folders.
  (cd "$target/browser" && find . -name '*.so*' ! -path './usr/lib/chromium/*' -printf '%h\n' | sort -u >libraries)
  cat >"$target/browser/fonts.conf" <<'FONTS'
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
<dir>/usr/share/fonts</dir><dir prefix="relative">usr/share/fonts</dir>
<match><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>
</fontconfig>
FONTS
  cat >"$target/browser/chromium" <<'WRAPPER'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
libraries=$(sed "s|^\.|$here|" "$here/libraries" | paste -sd : -)
libraries=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
[ -z "$libraries" ] || export LD_LIBRARY_PATH="$libraries"
[ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/usr/lib/chromium/chromium-headless-shell" "$@"
WRAPPER
  chmod 755 "$target/browser/chromium"
else
  echo "Chromium could not be had from apt-get; the report's tests in a browser will be skipped" >&2
  whole=no
fi
[ "$whole" = no ] || touch "$target/fetched"
