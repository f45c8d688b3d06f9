#!/usr/bin/env bash
# tools/ranks_table.sh: its formulas beside figures of ZeRO (Rajbhandari et al. 2020), and docs/ranks.md beside its tables.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
# Figure 1: 7.5 * 10^9 parameters on 64 ranks, fp16 weights and gradients, 12 bytes of state: 120, 31.4, 16.6 and 1.9 GB.
figure=$(tools/ranks_table.sh memory 7.5e9 64 2 2 12 | awk '{ printf "%s %.1f\n", $1, $2 / 1e9 }')
[[ $figure == "none 120.0
optimizer 31.4
gradients 16.6
weights 1.9" ]] || fail "memory: $figure"
# Section 7: with as many bytes for a weight as for a gradient, 2 of the parameters are sent on the first three levels and 3 on the last.
section=$(tools/ranks_table.sh bytes 1e9 1e12 1 1 | awk '{ printf "%.3f ", $2 / 1e9 }')
[[ $section == '2.000 2.000 2.000 3.000 ' ]] || fail "bytes: $section"
# Two ranks send each other half; with four micro-batches gradients go away four times, and weights come eight times.
section=$(tools/ranks_table.sh bytes 1e9 2 2 4 4 | awk '{ printf "%.1f ", $2 / 1e9 }')
[[ $section == '4.0 3.0 9.0 16.0 ' ]] || fail "bytes of micro-batches: $section"
tools/ranks_table.sh --check || fail 'docs/ranks.md'
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/tools" "$copy/docs"
cp tools/ranks_table.sh "$copy/tools"
sed 's/^| 7B | 64 | 1 | none | 121 GB/| 7B | 64 | 1 | none | 122 GB/' docs/ranks.md >"$copy/docs/ranks.md"
! cmp -s docs/ranks.md "$copy/docs/ranks.md" || fail 'docs/ranks.md has no such line'
if "$copy/tools/ranks_table.sh" --check 2>/dev/null; then fail 'a wrong line was not found'; fi
"$copy/tools/ranks_table.sh" --write
cmp docs/ranks.md "$copy/docs/ranks.md" || fail '--write'
