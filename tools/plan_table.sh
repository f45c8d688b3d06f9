#!/usr/bin/env bash
# What fits on which card: plans of well-known shapes with 4-bit weights, as a table of Markdown.
#
#   tools/plan_table.sh [--bin DIR] [--write]      DIR: programs with CUDA, build/cuda/bin when left out
#
# --write puts the table into docs/memory.md, between its marks. Each line is what --check says: no weights, no data and no card are
# needed. For a stage, a rank and a card the script takes the first setting that fits, from the most comfortable to the tightest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=build/cuda/bin write=false
while (($#)); do
  case $1 in
    --bin) bin=${2?--bin needs a folder}; shift 2 ;;
    --write) write=true; shift ;;
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

# line STAGE MODEL RANK LIMIT: a row of the table.
line() {
  local stage=$1 tokens batch tables total settings also
  for tables in none int8; do
    for batch in $([[ $stage == ppo ]] && echo 64 32 16 8 4 || echo 0); do
      for tokens in 8192 4096 2048 1024; do
        settings=(--optim.micro_batch_tokens "$tokens" --model.quantize_tables "$tables")
        if [[ $stage == ppo ]]; then
          settings+=(--data.max_length 512 --rollout.max_new_tokens 512 --ppo.batch_size 64 --rollout.batch "$batch")
        else
          settings+=(--data.max_length 1024)
        fi
        total=$(plan "$@" "${settings[@]}") || continue
        also=''
        if [[ $stage == ppo ]]; then also+=", \`rollout.batch\` $batch"; fi
        if [[ $tables == int8 ]]; then also+=", \`model.quantize_tables\` int8"; fi
        printf '| %s | %s | %s | %s GiB | `optim.micro_batch_tokens` %s%s | %s |\n' "$2" "$stage" "$3" "$4" "$tokens" "$also" "$total"
        return
      done
    done
  done
  printf '| %s | %s | %s | %s GiB | does not fit | |\n' "$2" "$stage" "$3" "$4"
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

table >"$work/table"
if ! $write; then
  cat "$work/table"
  exit
fi
awk -v table="$work/table" '/^<!-- plan_table -->$/ { print; while ((getline row < table) > 0) print row; skip = 1; next }
  /^<!-- end of plan_table -->$/ { skip = 0 } !skip' docs/memory.md >"$work/page"
cat "$work/page" >docs/memory.md
