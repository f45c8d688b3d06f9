#!/usr/bin/env bash
# Runs the commands at the top of README.md, in their order and in one clone, on bare Debian systems: what a new user
# does. Then the Debian package is made there, installed on a system as bare as that was, and used, as packaging/Containerfile says.
# Each system is made by debootstrap in a folder of its own and removed afterwards. Needs root and the network.
#
#   tools/test_fresh.sh [--fast] [RELEASE...]
#
#   --fast     the fast tests instead of all, and a demo of a tenth
#   RELEASE    Debian releases by name; bookworm and trixie (12 and 13) when left out
#
# What is tested is the last commit. Packages come from where the packages of this machine come from. The last line
# is "N passed, N failed, N skipped", the package and a command of README that is no test counting once; a system that cannot be made
# here is skipped. The exit status is 0 only when nothing failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
  exit "$1"
}

fast=false releases=()
while (($#)); do
  case $1 in
    --fast) fast=true ;;
    --help | -h) usage 0 ;;
    -*) echo "test_fresh.sh: unknown argument '$1'" >&2 && usage 2 >&2 ;;
    *) releases+=("$1") ;;
  esac
  shift
done
((${#releases[@]})) || releases=(bookworm trixie)

mapfile -t commands < <(sed -nE 's/^    (\.\/tools\/[a-z_]+\.sh) .*/\1/p' README.md)
((${#commands[@]} == 2)) || {
  echo "test_fresh.sh: README.md is to begin with two commands in ./tools/, and has ${#commands[@]}" >&2
  exit 2
}

passed=0 failed=0 skipped=0
count() { # PASSED FAILED SKIPPED
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

finish() {
  echo "$passed passed, $failed failed, $skipped skipped"
  ((failed == 0))
  exit
}

skip() { # REASON: all of it
  echo "skipped: $1"
  count 0 0 "${#releases[@]}"
  finish
}

# --- the systems ---------------------------------------------------------------------------------------------

# Everything happens in name spaces of its own: mounts and processes end with the first process in them, whatever
# ends that.
inside=(unshare --mount --pid --fork --kill-child --mount-proc)
folder='' work=''

clean() {
  if [[ $work ]]; then
    kill -KILL "$work" 2>/dev/null || true
    wait "$work" 2>/dev/null || true
  fi
  work=''
  [[ -z $folder ]] || rm -rf --one-file-system "$folder"
  folder=''
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# run COMMAND...: in name spaces; in the background, so that a signal is taken at once.
run() {
  local status=0
  "${inside[@]}" "$@" </dev/null &
  work=$!
  wait "$work" || status=$?
  work=''
  return "$status"
}

# Where this machine's Debian packages come from; nothing where it is no Debian.
mirror() {
  local ID='' VERSION_CODENAME=''
  # shellcheck disable=SC1091
  source /etc/os-release
  [[ $ID == debian ]] || return 0
  # shellcheck disable=SC2016 # apt fills these in
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$VERSION_CODENAME" '$2 == release { print $1; exit }'
}

make_tree() { # RELEASE TREE
  local from
  from=$(mirror)
  # What a power cut would do to these systems is nothing to wait for.
  mkdir -p "$2/etc/dpkg/dpkg.cfg.d"
  echo force-unsafe-io >"$2/etc/dpkg/dpkg.cfg.d/90host"
  run debootstrap --variant=minbase "$1" "$2" ${from:+"$from"} || return
  apt-config dump Acquire | grep -vE '^Acquire::(IndexTargets|CompressionTypes|Changelogs)' \
    >"$2/etc/apt/apt.conf.d/90host" || true
  local certificates=/etc/ssl/certs/ca-certificates.crt
  [[ ! -e $certificates ]] || install -D -m 644 "$certificates" "$2$certificates"
}

# In the clone there, knowing nothing of the environment here; packages that one system has loaded need not be loaded for the other.
in_tree() { # TREE COMMAND
  mkdir -p "$folder/packages/partial"
  # shellcheck disable=SC2016 # for the shell inside
  run bash -c 'mount -t proc proc "$1/proc" && mount -t devpts devpts "$1/dev/pts" && mount -t tmpfs tmpfs "$1/dev/shm" &&
    mount --bind "$3" "$1/var/cache/apt/archives" && exec chroot "$1" /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c "cd /root/drover && $2"' - "$1" "$2" "$folder/packages"
}

# --- the work ------------------------------------------------------------------------------------------------

# A command that ends with a count of tests adds it, another one counts once.
run_command() { # TREE COMMAND
  local status=0 line copier
  mkfifo "$folder/pipe"
  tee "$folder/log" <"$folder/pipe" &
  copier=$!
  in_tree "$1" "$2" >"$folder/pipe" 2>&1 || status=$?
  wait "$copier"
  rm "$folder/pipe"
  line=$(tail -n 1 "$folder/log")
  if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
    count "${BASH_REMATCH[@]:1}"
    if ((status && BASH_REMATCH[2] == 0)); then count 0 1 0; fi
  elif ((status)); then
    count 0 1 0
  else
    count 1 0 0
  fi
}

# Carries out what packaging/Containerfile runs behind its Nth FROM.
follow_recipe() { # N TREE
  local command
  while IFS= read -r command; do
    in_tree "$2" "$command" >>"$folder/log" 2>&1 || return
  done < <(awk -v n="$1" '/^FROM / { part++ } part == n && sub(/^RUN /, "")' packaging/Containerfile)
}

# The package, made in TREE, where all is built, installed in BARE, and used there.
test_package() { # TREE BARE
  mkdir -p "$2/root/drover/tests"
  if follow_recipe 1 "$1" && cp "$1"/root/drover/build/release/drover_*.deb "$2/root/drover" && follow_recipe 2 "$2" &&
    cp -r tests/support "$2/root/drover/tests" &&
    in_tree "$2" 'drover --version && bash tests/support/installed.sh /usr/libexec/drover' >>"$folder/log" 2>&1; then
    (cd "$2/root/drover" && ls -sh drover_*.deb)
    count 1 0 0
  else
    tail -n 20 "$folder/log"
    count 0 1 0
  fi
}

test_release() { # RELEASE
  local command tree
  folder=$(mktemp -d "${TMPDIR:-/var/tmp}/drover-fresh.XXXXXX")
  tree=$folder/tree
  printf '\n== Debian %s: the system\n' "$1"
  if ! make_tree "$1" "$tree" >"$folder/log" 2>&1; then
    tail -n 5 "$folder/log"
    echo "skipped: debootstrap could not make $1 here"
    count 0 0 1
  else
    cp -a "$tree" "$folder/bare"
    git clone -q "$PWD" "$tree/root/drover"
    for command in "${commands[@]}"; do
      if $fast; then
        case $command in
          */demo.sh) command+=' --scale 0.1' ;;
          */test.sh) command+=' --fast' ;;
        esac
      fi
      printf '\n== Debian %s: %s\n' "$1" "$command"
      run_command "$tree" "$command"
    done
    printf '\n== Debian %s: the package\n' "$1"
    test_package "$tree" "$folder/bare"
  fi
  clean
}

((EUID == 0)) || skip 'debootstrap needs root'
if ! command -v debootstrap >/dev/null; then
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap; } \
    </dev/null >/dev/null 2>&1 || skip 'debootstrap is not here and could not be installed'
fi
"${inside[@]}" true 2>/dev/null || skip 'name spaces are not allowed here'
if [[ -z ${http_proxy:-} ]]; then # debootstrap does not ask apt
  eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
  [[ -z ${http_proxy:-} ]] || export http_proxy
fi
[[ -z $(git status --porcelain --untracked-files=no) ]] || echo 'what is not committed is not tested'

for release in "${releases[@]}"; do test_release "$release"; done
finish
