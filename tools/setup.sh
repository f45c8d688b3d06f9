#!/usr/bin/env bash
# Installs the Debian packages that building and testing Drover needs, if any is missing.
#
#   tools/setup.sh
#
# Quiet when everything is there. Uses apt-get, through sudo when not root; where neither works it prints what
# to install by hand and fails.
set -euo pipefail

packages=(build-essential cmake ninja-build pkg-config sqlite3 jq
  libjansson-dev libyaml-dev libsqlite3-dev libdnnl-dev libpcre2-dev libutf8proc-dev libxxhash-dev
  zlib1g-dev libzstd-dev libcurl4-openssl-dev
  libopenmpi-dev openmpi-bin
  libcmocka-dev libboost-context-dev iproute2)

by_hand() {
  echo "setup: $1" >&2
  echo "setup: install these Debian packages (or what your system calls them) by hand:" >&2
  echo "  ${missing[*]}" >&2
  exit 1
}

missing=()
if command -v dpkg-query >/dev/null; then
  for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null || true)
    grep -qx installed <<<"$status" || missing+=("$package")
  done
else
  missing=("${packages[@]}")
  # Somebody may have installed everything by hand already: what the build looks for decides.
  complete=true
  for command in cc c++ cmake ninja pkg-config sqlite3 jq; do command -v "$command" >/dev/null || complete=false; done
  c++ -x c++ -E - <<<'#include <boost/context/detail/fcontext.hpp>' >/dev/null 2>&1 || complete=false
  if $complete && pkg-config --exists jansson yaml-0.1 sqlite3 libpcre2-8 libutf8proc libxxhash zlib libzstd cmocka; then exit 0; fi
fi
((${#missing[@]})) || exit 0

command -v apt-get >/dev/null || by_hand "no apt-get here"
root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || by_hand "not root, and no sudo here"
  root=(sudo)
  # Without a terminal nobody can type a password.
  if [[ ! -t 0 ]] && ! sudo -n true 2>/dev/null; then by_hand "sudo asks for a password, and there is no terminal"; fi
fi

echo "setup: installing ${missing[*]}" >&2
install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
"${install[@]}" -qq update </dev/null || echo "setup: apt-get update failed; trying with the lists that are there" >&2
"${install[@]}" -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null ||
  by_hand "apt-get could not install them"
echo "setup: done" >&2
