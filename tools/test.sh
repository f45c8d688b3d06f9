#!/usr/bin/env bash
# Builds everything and runs the tests.
#
#   tools/test.sh [--fast] [--preset NAME] [--build FOLDER] [--only REGEX] [-- CMAKE-ARGUMENTS]
#
#   --fast           only the tests of the inner loop (seconds), not the training runs
#   --preset NAME    CMake preset: release (default), debug, asan
#   --build FOLDER   build there instead of build/NAME
#   --only REGEX     only the tests whose names match, e.g. unit/base
#
# The last line is "N passed, N failed, N skipped": the cases of the test programs, and each script once. What
# could not be run here is skipped, never passed. The exit status is 0 only when nothing failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
  exit "$1"
}

preset=release folder='' select=()
while (($#)); do
  case $1 in
    --fast) select+=(-L '^fast$') ;;
    --preset) preset=${2:?--preset needs a name} && shift ;;
    --build) folder=${2:?--build needs a folder} && shift ;;
    --only) select+=(-R "${2:?--only needs a regular expression}") && shift ;;
    --help | -h) usage 0 ;;
    --) shift && break ;;
    *) echo "test.sh: unknown argument '$1'" >&2 && usage 2 >&2 ;;
  esac
  shift
done
folder=${folder:-build/$preset}
cores=$(nproc)
# Compilers and sanitizer builds need up to 1 GiB each: on small machines memory limits before cores do.
jobs=$(awk -v cores="$cores" '/MemAvailable/ {n = int($2 / 1048576); print n < 1 ? 1 : n < cores ? n : cores}' \
  /proc/meminfo)

# BUILD_TESTING: the folder may be one that was configured without tests.
if ! { tools/setup.sh && cmake --preset "$preset" -B "$folder" -DBUILD_TESTING=ON "$@" &&
  cmake --build "$folder" -j "${jobs:-$cores}"; } >&2; then
  echo 'test.sh: not built, so no test was run' >&2
  echo '0 passed, 1 failed, 0 skipped'
  exit 1
fi

# An allocation that is too large must come back as NULL, as it does without a sanitizer.
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1:detect_leaks=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

# What tests write is synced as in any run, and a disk would make them wait for that: into memory, where there is room and
# what is written may be started.
if [[ -z ${TMPDIR:-} ]] && TMPDIR=$(mktemp -d /dev/shm/drover-tests.XXXXXX 2>/dev/null); then
  trap 'rm -rf "$TMPDIR"' EXIT
  printf '#!/bin/sh\n' >"$TMPDIR/start" && chmod +x "$TMPDIR/start"
  if "$TMPDIR/start" 2>/dev/null && (($(df --output=avail -k "$TMPDIR" | tail -n 1) >= 2097152)); then
    export TMPDIR
  else
    rm -rf "$TMPDIR" && unset TMPDIR && trap - EXIT
  fi
fi

# More tests than cores: one that waits, for a rank or to kill something at the right moment, leaves its core to others.
report=$PWD/$folder/tests.xml
rm -f "$report"
status=0
ctest --test-dir "$folder" --output-on-failure --no-tests=error --timeout 900 -j "$((${jobs:-$cores} + 2))" \
  --output-junit "$report" --test-output-size-passed 1000000 --test-output-size-failed 1000000 \
  "${select[@]}" </dev/null || status=$?

# Counts the cases of each program from what it printed; a program that prints none, or dies, counts once.
counts=$(awk '
  /<testcase / {
    match($0, /status="[a-z]*"/); status = substr($0, RSTART + 8, RLENGTH - 9)
    ok = 0; bad = 0; skip = 0; by_choice = 0
  }
  /<skipped message="(SKIP_RETURN_CODE|Disabled)/ { by_choice = 1 }
  /\[       OK \]/ { ok++ }
  /\[  FAILED  \] [0-9]+ test/ { match($0, /\] [0-9]+/); bad += substr($0, RSTART + 2, RLENGTH - 2) }
  /\[  SKIPPED \] [0-9]+ test/ { match($0, /\] [0-9]+/); skip += substr($0, RSTART + 2, RLENGTH - 2) }
  /<\/testcase>/ {
    if (status == "run") { passed += ok || skip ? ok : 1; skipped += skip }
    else if (by_choice || status == "disabled") skipped++
    else { passed += ok; skipped += skip; failed += bad ? bad : 1 }
  }
  END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$report" 2>/dev/null) ||
  counts="0 passed, 1 failed, 0 skipped"
# The report and the exit status must agree; when they do not, something was not even started.
if ((status)) && [[ $counts == *" 0 failed,"* ]]; then counts=${counts/ 0 failed,/ 1 failed,}; fi
echo "$counts"
exit "$status"
