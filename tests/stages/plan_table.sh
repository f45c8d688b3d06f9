#!/usr/bin/env bash
# The table of docs/memory.md is what the plans say: each line's settings are planned again, for a card that is not there.
set -euo pipefail
card=$(cd "$1/../cuda_host/bin" 2>/dev/null && pwd) || { echo 'no build of the emulated card' && exit 77; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export DROVER_CUDA_HOST_DEVICE=driver=0

for model in Llama-2-7B Llama-3.1-8B Llama-2-13B Qwen2.5-32B; do tools/plan_table.sh --bin "$card" --check "$model"; done
tools/plan_table.sh --bin "$card" --divided --check

# A line that is not what the plan says is found.
page=$(mktemp -d)
trap 'rm -rf "$page"' EXIT
mkdir "$page/tools" "$page/docs"
cp tools/plan_table.sh "$page/tools/"
sed '/^| Llama-2-7B | sft | 8 | 8 GiB/s/ [0-9.]* GiB |$/ 0.50 GiB |/' docs/memory.md >"$page/docs/memory.md"
if "$page/tools/plan_table.sh" --bin "$card" --check Llama-2-7B >"$page/log" 2>&1; then
  echo 'a wrong line was not found' && exit 1
fi
grep -q 'docs/memory.md is out of date' "$page/log"
sed '/^| sft | 24 GiB | `weights`/s/ [0-9.]* GiB | yes/ 0.50 GiB | yes/' docs/memory.md >"$page/docs/memory.md"
if "$page/tools/plan_table.sh" --bin "$card" --divided --check >"$page/log" 2>&1; then
  echo 'a wrong line of what is divided was not found' && exit 1
fi
grep -q -- '--divided --write' "$page/log"
