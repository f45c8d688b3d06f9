#!/usr/bin/env bash
# What a cluster will do, on paper: bytes, memory and time of an update for each way of dividing the state of training.
#
#   tools/ranks_table.sh [--write | --check]              the tables of docs/ranks.md
#   tools/ranks_table.sh memory PARAMETERS RANKS WEIGHT GRADIENT STATE
#                                                         bytes a rank; the last three are bytes a parameter
#   tools/ranks_table.sh bytes PARAMETERS RANKS WEIGHT GRADIENT [MICRO_BATCHES]
#                                                         bytes that a rank sends in an update
#
# --write puts the tables into docs/ranks.md, between their marks; --check holds them against it. The formulas, and what they leave
# out, are explained there. Levels are those of ZeRO (Rajbhandari et al. 2020): none, optimizer (1), gradients (2), weights (3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The numbers of the page, all of them assumptions but the parameters.
formulas='
  # Bytes a rank holds of weights, gradients and the state of the optimiser; level 0 to 3.
  function memory(level, parameters, ranks, weight, gradient, state) {
    if (level >= 3) weight /= ranks
    if (level >= 2) gradient /= ranks
    if (level >= 1) state /= ranks
    return parameters * (weight + gradient + state)
  }
  # Bytes a rank sends in an update: a reduce-scatter or an all-gather of V bytes is V (ranks - 1) / ranks of them, and an all-reduce is
  # one of each. Level 2 gives gradients away after each micro-batch, level 3 fetches weights twice for each, too.
  function sent(level, parameters, ranks, weight, gradient, micro,    each) {
    if (level == 0) each = 2 * gradient
    if (level == 1) each = gradient + weight
    if (level == 2) each = gradient * micro + weight
    if (level == 3) each = (gradient + 2 * weight) * micro
    return parameters * each * (ranks - 1) / ranks
  }
  # Seconds of computing: 6 floating-point operations a parameter and token, 8 where activations are computed again.
  function compute(parameters, tokens, speed) { return 8 * parameters * tokens / speed }
  # Seconds of sending: bytes at the rate of the link, and a delay for each of the steps of a tree, for the collectives of each block.
  function communicate(level, parameters, ranks, weight, gradient, micro, rate, delay, blocks,    calls) {
    calls = blocks * (level == 3 ? 3 * micro : level == 2 ? micro + 1 : 2)
    return sent(level, parameters, ranks, weight, gradient, micro) / rate + calls * delay * log(ranks) / log(2)
  }
  # Share of the time that is computing. What is sent may hide behind backward passes, three quarters of the computing where the forward pass is
  # made again: levels 0 and 1 behind that of the last micro-batch, level 2 behind all; level 3 behind everything.
  function efficiency(level, work, talk, micro,    behind) {
    behind = level == 3 ? work : level == 2 ? work * 3 / 4 : work * 3 / 4 / micro
    return work / (work + (talk > behind ? talk - behind : 0))
  }
  function size(bytes) {
    if (bytes >= 1e12) return sprintf("%.2f TB", bytes / 1e12)
    if (bytes >= 1e11) return sprintf("%.0f GB", bytes / 1e9)
    return sprintf("%.1f GB", bytes / 1e9)
  }'

case ${1:-} in
  memory | bytes)
    what=$1
    shift
    (($# >= 4)) || { echo "ranks_table: $what needs PARAMETERS RANKS WEIGHT GRADIENT and more; --help" >&2; exit 2; }
    awk -v what="$what" -v p="$1" -v n="$2" -v w="$3" -v g="$4" -v last="${5:-1}" "$formulas"'
      BEGIN {
        split("none optimizer gradients weights", name, " ")
        for (level = 0; level < 4; level++)
          printf "%s %.0f\n", name[level + 1], what == "memory" ? memory(level, p, n, w, g, last) : sent(level, p, n, w, g, last)
      }' </dev/null
    exit
    ;;
esac

tables() {
  awk "$formulas"'
    function row(m, n, level, micro,    work, l, talk) {
      work = compute(parameters[m], micro * tokens, speed)
      printf "| %s | %d | %d | %s | %s | %s | %.1f s |", model[m], n, micro, name[level + 1],
        size(memory(level, parameters[m], n, weight, gradient, state)), size(sent(level, parameters[m], n, weight, gradient, micro)), work
      for (l = 1; l <= 3; l++) {
        talk = communicate(level, parameters[m], n, weight, gradient, micro, rate[l], delay[l], blocks[m])
        printf " %.2f s, %.0f %% |", talk, 100 * efficiency(level, work, talk, micro)
      }
      print ""
    }
    BEGIN {
      split("none optimizer gradients weights", name, " ")
      model[1] = "7B"; parameters[1] = 6.7e9; blocks[1] = 32
      model[2] = "70B"; parameters[2] = 69e9; blocks[2] = 80
      ranks[1] = 8; ranks[2] = 64; ranks[3] = 1024
      weight = 2; gradient = 4; state = 12; tokens = 16384; speed = 400e12
      rate[1] = 360e9; rate[2] = 25e9; rate[3] = 11e9
      delay[1] = 5e-6; delay[2] = 10e-6; delay[3] = 20e-6
      print "| model | GPUs | m | divided | a GPU holds | a GPU sends | computing | NVLink | PCIe 4.0 x16 | 100 Gbit/s |"
      print "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
      for (m = 1; m <= 2; m++) for (n = 1; n <= 3; n++) for (level = 0; level < 4; level++) row(m, ranks[n], level, 1)
      for (level = 0; level < 4; level++) row(1, 64, level, 8)
    }' </dev/null
}

page=docs/ranks.md begin='<!-- tools/ranks_table.sh -->' end='<!-- end -->'
between() { # the lines of the page between the marks
  awk -v begin="$begin" -v end="$end" '$0 == end { inside = 0 } inside { print } $0 == begin { inside = 1 }' "$page"
}
case ${1:-} in
  --write)
    made=$(tables)
    BEGIN=$begin END=$end MADE=$made awk '$0 == ENVIRON["END"] { inside = 0 } !inside { print } $0 == ENVIRON["BEGIN"] { inside = 1; print ENVIRON["MADE"] }' \
      "$page" >"$page.new"
    mv "$page.new" "$page"
    ;;
  --check)
    diff <(between) <(tables) >&2 || { echo "$page is out of date: tools/ranks_table.sh --write" >&2; exit 1; }
    ;;
  '') tables ;;
  *) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0" ;;
esac
