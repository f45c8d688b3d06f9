#!/usr/bin/env bash
# The tables of whole workloads in docs/performance.md, each made of a result of drover bench that is kept beside the page: the mark
# before a table names it.
#
# Of what was disturbed there is neither ratio nor share of the floor.
#
#   tools/performance_table.sh                        print the table of performance.json
#   tools/performance_table.sh --write [FILE [NAME]]  make the page's tables again; FILE takes the place of NAME (performance.json)
#   tools/performance_table.sh --check                hold the page against what is kept
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

page=docs/performance.md

# table FILE [LEGEND]: with what the workloads are, unless LEGEND is false.
table() {
  jq -r --argjson legend "${2:-true}" '
    def figure: if . >= 100 then round elif . >= 10 then . * 10 | round / 10 else . * 100 | round / 100 end | tostring;
    def gib: . / 1073741824 * 10 | round / 10 | "\(.) GiB";
    def side: if .lacks then "\(.lacks)" else
      "\(.rate | figure) (\(.least | figure)–\(.most | figure))\(if .disturbed then ", disturbed" else "" end)" end;
    def line($w; $p): (if $w.ours.disturbed or $p.disturbed then {} else {ratio: $p.ratio, reached: $w.reached} end) as $quiet | "| `\($w.name)` | \($w.ours | side) | \(if $p then "\($p.name): \($p | side)" else "" end) | \(
      $quiet.ratio // null | if . then . * 100 | round / 100 | tostring else "" end) | \($w.floor // null | if . then figure else "" end) | \(
      $quiet.reached // null | if . then . * 100 | round | "\(.)%" else "" end) | \($w.ours.peak_bytes // null | if . then gib else "" end) | \(
      $p.peak_bytes // null | if . then gib else "" end) |";
    (.machine | "\(.cpu), \(.cores) cores\(if .quota then " (time for \(.quota))" else "" end), \(.threads) threads, \(
      .memory_bytes | gib), \(.features | join(" ")), \(.compiler)") as $machine
    | "\(.date[:10]): \(.model.name), \(.model.parameters) parameters, on \($machine); drover \(.version)\([.peers | to_entries[]
      | select(.value.version) | ", \(.key) \(.value.version)"] | add // ""). Products at \(.ceilings.product_f32 / 1e9 | figure) GFLOP/s (bf16 \(
      .ceilings.product_bf16 / 1e9 | figure)), reading at \(.ceilings.memory / 1e9 | figure) GB/s\(
      if .ceilings.disturbed then ", disturbed" else "" end).",
      ([.peers | to_entries[] | select(.value.lacks) | "\(.key): \(.value.lacks)."] | select(length > 0) | "", join(" ")), "",
      "| workload | Drover, tokens/s (range) | peer, tokens/s (range) | ratio | floor | reached | peak memory | peer’s |",
      "| --- | --- | --- | --- | --- | --- | --- | --- |",
      (.workloads[] | . as $w | if .peers == [] then line($w; null) else .peers[] | line($w; .) end),
      if $legend then "", "| workload | |", "| --- | --- |", (.workloads[] | "| `\(.name)` | \(.about) |") else empty end' "$1"
}

mark() { # NAME
  echo "<!-- tools/performance_table.sh $1 -->"
}

# The page with all of its tables; the first says what the workloads are.
filled() {
  local text made name legend=true
  text=$(<"$page")
  for name in $(sed -nE "s|^$(mark '(.*)')\$|\1|p" "$page"); do
    made=$(table "docs/$name" $legend)
    legend=false
    text=$(MADE=$made BEGIN=$(mark "$name") awk '$0 == "<!-- end -->" { inside = 0 } !inside { print }
      $0 == ENVIRON["BEGIN"] { inside = 1; print ENVIRON["MADE"] }' <<<"$text")
  done
  echo "$text"
}

case ${1:-} in
  --write)
    file=${2:-} name=${3:-performance.json}
    grep -qxF "$(mark "$name")" "$page" || { echo "$page has no line '$(mark "$name")'" >&2; exit 1; }
    [[ -z $file || $file -ef docs/$name ]] || cp "$file" "docs/$name"
    filled >"$page.new"
    mv "$page.new" "$page"
    ;;
  --check)
    filled | diff "$page" - >&2 || { echo "$page is not what is kept beside it gives: tools/performance_table.sh --write" >&2; exit 1; }
    ;;
  '') table docs/performance.json ;;
  *) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0" ;;
esac
