#!/usr/bin/env bash
# That the kernels of tests/gpu/spills.txt spill no more registers to memory than it allows.
#
#   tests/gpu/spills.sh [--all] LOG
#
# LOG: what nvcc said with --resource-usage while it compiled for sm_80 (kernels of sm_90a are in it always); of a kernel in it twice the last counts.
# --all prints all kernels of LOG instead, as lines of that table with a third number: registers. Exit status 77, not
# tested, with another release of nvcc than the table's or without c++filt: each release has its own allocation.
set -euo pipefail
table=${BASH_SOURCE[0]%/*}/spills.txt

# "stored read registers kernel", a line each; names without arguments and namespaces.
kernels() {
  awk '/Compiling entry function/ { split($0, part, "\047"); name = part[2]; stored = read = 0 }
    /bytes spill stores/ && name { stored = $5; read = $9 }
    / Used [0-9]+ registers/ && name {
      for (i = 1; i < NF; i++) if ($i == "Used") last[name] = stored " " read " " $(i + 1)
      name = ""
    }
    END { for (name in last) print last[name], name }' "$1" |
    c++filt | sed -E 's/\(anonymous namespace\):://g; s/^([0-9]+ [0-9]+ [0-9]+) void /\1 /; s/\([^()]*(\([^()]*\)[^()]*)*\)$//' |
    LC_ALL=C sort -k 4
}

command -v c++filt >/dev/null || { echo 'skipped: no c++filt' && exit 77; }
if [[ $1 == --all ]]; then kernels "$2" && exit; fi
here=$(nvcc --version | sed -nE 's/.*release ([0-9.]+),.*/\1/p')
made_by=$(sed -nE 's/^# nvcc ([0-9.]+),.*/\1/p' "$table")
[[ $here == "$made_by" ]] || { echo "skipped: the table is of nvcc $made_by, this is $here" && exit 77; }
kernels "$1" | awk -v table="$table" '
  BEGIN {
    while ((getline line < table) > 0) {
      if (line ~ /^#/) continue
      split(line, word, " ")
      name = line
      sub(/^[0-9]+ [0-9]+ /, "", name)
      stored[name] = word[1]; read[name] = word[2]; wanted[name] = 1
    }
  }
  {
    name = $0
    sub(/^[0-9]+ [0-9]+ [0-9]+ /, "", name)
    if (!(name in wanted)) next
    delete wanted[name]
    count++
    if ($1 > stored[name] || $2 > read[name]) {
      printf "%s: stores %d bytes of spilled registers and reads %d; allowed are %d and %d\n", name, $1, $2, stored[name], read[name]
      bad = 1
    }
  }
  END {
    for (name in wanted) { print name ": not compiled"; bad = 1 }
    printf "%d kernels: %s\n", count, bad ? "FAILED" : "no more spilled than the table allows"
    exit bad
  }'
