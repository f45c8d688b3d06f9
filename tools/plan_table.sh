#!/usr/bin/env bash
# What fits on which card: plans of well-known shapes with 4-bit weights, as a table of Markdown.
#
#   tools/plan_table.sh [--bin DIR] [--write | --check MODEL]     DIR: programs with CUDA, build/cuda/bin when left out
#   tools/plan_table.sh [--bin DIR] --divided [--write | --check]  all weights of a model on eight ranks, by device.shard
#
# --check holds the model's lines in docs/memory.md against plans with their settings; --write puts the table into docs/memory.md, between its marks. Each line is what --check says: no weights, no data and no card are
# needed. For a stage, a rank and a card the script takes the first setting that fits, from the most comfortable to the tightest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=build/cuda/bin write=false checked='' divided=false mark=plan_table
while (($#)); do
  case $1 in
    --bin) bin=${2?--bin needs a folder}; shift 2 ;;
    --write) write=true; shift ;;
    --divided) divided=true mark=divided_table; shift ;;
    --check)
      if $divided; then checked=all; else checked=${2?--check needs a model}; shift; fi
      shift
      ;;
    --help | -h) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"; exit 0 ;;
    *) echo "plan_table: unknown argument '$1'; --help lists them" >&2; exit 2 ;;
  esac
done
[[ -x $bin/sft && -x $bin/ppo ]] || { echo "plan_table: no programs in $bin: build the preset cuda, or give --bin" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# shape NAME TYPE HIDDEN INTERMEDIATE LAYERS HEADS KV_HEADS VOCAB: from the models' own config.json
shape() {
  mkdir "$work/$1"
  jq -n --arg type "$2" --argjson n "[$3,$4,$5,$6,$7,$8]" '{model_type: $type, hidden_size: $n[0], intermediate_size: $n[1],
    num_hidden_layers: $n[2], num_attention_heads: $n[3], num_key_value_heads: $n[4], vocab_size: $n[5],
    max_position_embeddings: 4096, rms_norm_eps: 1e-5, tie_word_embeddings: false, dtype: "bfloat16"}' >"$work/$1/config.json"
}
shape Llama-2-7B llama 4096 11008 32 32 32 32000
shape Llama-3.1-8B llama 4096 14336 32 32 8 128256
shape Llama-2-13B llama 5120 13824 40 40 40 32000
shape Qwen2.5-32B qwen2 5120 27648 64 40 8 152064

# plan STAGE MODEL RANK LIMIT OPTIONS...: the total of its plan when it fits; else it fails.
plan() {
  local stage=$1 model=$work/$2 rank=$3 limit=$4 total
  shift 4
  local options=(--model.path "$model" --model.quantize nf4 --model.recompute --lora.enabled --lora.r "$rank" --device.backend cuda
    --device.memory_limit "${limit}GiB")
  if [[ $stage == ppo ]]; then options+=(--reward.path "$model"); fi
  CUDA_VISIBLE_DEVICES='' "$bin/$stage" --check "${options[@]}" "$@" >"$work/out" 2>"$work/log" || return 1
  total=$(sed -nE 's/^  total +([0-9.]+ [A-Za-z]+) of .*/\1/p' "$work/log")
  [[ $total ]] || { echo "plan_table: no plan: $(cat "$work/log")" >&2; exit 1; }
  echo "$total"
}

# settings STAGE TOKENS TABLES BATCH: as options, one a line.
settings() {
  printf '%s\n' --optim.micro_batch_tokens "$2" --model.quantize_tables "$3"
  if [[ $1 == ppo ]]; then
    printf '%s\n' --data.max_length 512 --rollout.max_new_tokens 512 --ppo.batch_size 64 --rollout.batch "$4"
  else
    printf '%s\n' --data.max_length 1024
  fi
}

# row MODEL STAGE RANK LIMIT TOKENS TABLES BATCH TOTAL
row() {
  local also=''
  if [[ $2 == ppo ]]; then also+=", \`rollout.batch\` $7"; fi
  if [[ $6 == int8 ]]; then also+=", \`model.quantize_tables\` int8"; fi
  printf '| %s | %s | %s | %s GiB | `optim.micro_batch_tokens` %s%s | %s |\n' "$1" "$2" "$3" "$4" "$5" "$also" "$8"
}

no_row() {
  printf '| %s | %s | %s | %s GiB | does not fit | |\n' "$1" "$2" "$3" "$4"
}

# The tightest: TOKENS TABLES BATCH
tightest=(1024 int8 4)

# line STAGE MODEL RANK LIMIT: a row of the table.
line() {
  local stage=$1 tokens batch tables total options
  mapfile -t options < <(settings "$stage" "${tightest[@]}")
  if ! plan "$@" "${options[@]}" >/dev/null; then
    no_row "$2" "$stage" "$3" "$4"
    return
  fi
  for tables in none int8; do
    for batch in $([[ $stage == ppo ]] && echo 64 32 16 8 4 || echo 0); do
      for tokens in 8192 4096 2048 1024; do
        mapfile -t options < <(settings "$stage" "$tokens" "$tables" "$batch")
        total=$(plan "$@" "${options[@]}") || continue
        row "$2" "$stage" "$3" "$4" "$tokens" "$tables" "$batch" "$total"
        return
      done
    done
  done
}

# again ROW: the row of the page with what is planned now for its settings.
again() {
  local model stage rank limit tokens batch tables=none total options
  IFS='|' read -r _ model stage rank limit _ <<<"${1// /}"
  limit=${limit%GiB}
  tokens=$(sed -nE 's/.*micro_batch_tokens` ([0-9]+).*/\1/p' <<<"$1")
  batch=$(sed -nE 's/.*rollout.batch` ([0-9]+).*/\1/p' <<<"$1")
  if [[ $1 == *quantize_tables* ]]; then tables=int8; fi
  if [[ $tokens ]]; then
    mapfile -t options < <(settings "$stage" "$tokens" "$tables" "$batch")
  else
    mapfile -t options < <(settings "$stage" "${tightest[@]}")
  fi
  if ! total=$(plan "$stage" "$model" "$rank" "$limit" "${options[@]}"); then
    no_row "$model" "$stage" "$rank" "$limit"
  else
    row "$model" "$stage" "$rank" "$limit" "${tokens:-${tightest[0]}}" "$tables" "${batch:-${tightest[2]}}" "$total"
  fi
}

# divided_row STAGE LIMIT LEVEL [OPTION]: one of eight ranks trains all weights of Llama-2-7B.
divided_row() {
  local stage=$1 limit=$2 level=$3 model=$work/Llama-2-7B also='' fits=yes
  shift 3
  local options=(--model.path "$model" --model.recompute --optim.micro_batch_tokens 4096 --device.backend cuda
    --device.memory_limit "${limit}GiB" --device.plan_ranks 8 --device.shard "$level" "$@")
  if [[ $stage == ppo ]]; then
    options+=(--reward.path "$model" --data.max_length 512 --rollout.max_new_tokens 512 --ppo.batch_size 64 --rollout.batch 8)
  else
    options+=(--data.max_length 1024)
  fi
  if (($#)); then also=", \`${1#--}\`"; fi
  CUDA_VISIBLE_DEVICES='' "$bin/$stage" --check "${options[@]}" >"$work/out" 2>"$work/log" || fits=no
  printf '| %s | %s GiB | `%s`%s | %s | %s |\n' "$stage" "$limit" "$level" "$also" "$(sed -nE 's/^  total +([0-9.]+ [A-Za-z]+) of .*/\1/p' "$work/log")" $fits
}

divided_table() {
  local level
  echo '| stage | card | `device.shard` | plan of a rank | fits |'
  echo '| --- | --- | --- | --- | --- |'
  for level in none optimizer gradients weights; do divided_row sft 24 $level; done
  for level in none optimizer gradients; do divided_row ppo 80 $level; done
  divided_row ppo 80 gradients --device.shard_frozen
  divided_row ppo 80 weights
}

between() { # the page's lines between the marks
  sed -n "/^<!-- $mark -->/,/^<!-- end of/{/^|/p}" docs/memory.md
}

check() {
  local row
  between | grep "^| $checked |" >"$work/page" || true
  [[ -s $work/page ]] || { echo "plan_table: no lines of $checked in docs/memory.md" >&2; exit 2; }
  while IFS= read -r row; do again "$row"; done <"$work/page" >"$work/now"
  diff "$work/page" "$work/now" || { echo 'plan_table: docs/memory.md is out of date: tools/plan_table.sh --write' >&2; exit 1; }
}

table() {
  echo '| model | stage | r | card | settings that fit | plan |'
  echo '| --- | --- | --- | --- | --- | --- |'
  local model stage rank limit
  for model in Llama-2-7B Llama-3.1-8B Llama-2-13B Qwen2.5-32B; do
    for stage in sft ppo; do
      for rank in 8 16; do
        for limit in 8 12 16 24; do line "$stage" "$model" "$rank" "$limit"; done
      done
    done
  done
}

if $divided; then
  divided_table >"$work/table"
  if [[ $checked ]]; then
    between | diff - "$work/table" || { echo 'plan_table: docs/memory.md is out of date: tools/plan_table.sh --divided --write' >&2; exit 1; }
    exit
  fi
else
  if [[ $checked ]]; then
    check
    exit
  fi
  table >"$work/table"
fi
if ! $write; then
  cat "$work/table"
  exit
fi
awk -v table="$work/table" -v begin="<!-- $mark -->" -v end="<!-- end of $mark -->" '$0 == begin { print; while ((getline row < table) > 0) print row; skip = 1; next }
  $0 == end { skip = 0 } !skip' docs/memory.md >"$work/page"
cat "$work/page" >docs/memory.md
