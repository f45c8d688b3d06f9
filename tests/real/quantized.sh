#!/usr/bin/env bash
# What weights in 4 and 8 bits cost in quality: SFT, reward model and PPO with LoRA over one model whose linears are bf16, 8 bits, NF4, and NF4
# with 8-bit tables; the same data, seeds and settings. docs/quantization.md has the tables.
#
#   tests/real/quantized.sh OUT KIND MODEL
#
#   KIND   demo: MODEL is runs/demo/pretrain/model of tools/demo.sh; real: an instruct model, as tests/real/fetch.py makes it
#
# DROVER_BIN holds the programs (default build/release/bin). What is there already is not made again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
(($# == 3)) || { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2; }
out=$1 kind=$2 model=$3
bin=${DROVER_BIN:-build/release/bin}
mkdir -p "$out"

common=(--model.path "$model" --model.dtype bf16 --lora.enabled)
case $kind in
  demo)
    scale=1
    common+=(--data.max_length 128 --lora.r 16 --lora.alpha 32 --optim.micro_batch_tokens 2048)
    sft=(--optim.batch_size 16 --optim.lr 2e-3 --optim.epochs 2 --optim.warmup_steps 20) reward=(--optim.batch_size 16 --optim.lr 1e-3)
    ppo=(--data.max_length 64 --rollout.max_new_tokens 48 --rollout.batch 128 --optim.lr 5e-4 --optim.schedule linear
      --ppo.total_episodes 2560 --ppo.batch_size 256 --ppo.minibatches 4 --ppo.epochs 2 --ppo.kl_coef 0.05)
    ;;
  real)
    scale=0.03
    common+=(--data.max_length 160 --lora.dropout 0 --optim.micro_batch_tokens 1024)
    sft=(--optim.batch_size 12 --optim.lr 1e-3) reward=(--optim.batch_size 12 --optim.lr 5e-4)
    ppo=(--rollout.max_new_tokens 40 --rollout.batch 16 --optim.lr 2e-4 --ppo.total_episodes 72 --ppo.batch_size 24
      --ppo.minibatches 2 --ppo.epochs 2)
    ;;
  *) echo "quantized.sh: KIND is demo or real" >&2 && exit 2 ;;
esac
data=$out/data
[[ -e $data ]] || "$bin/demo_data" --out "$data" --scale $scale --seed 1 >&2

stage() { # NAME PROGRAM OPTIONS...
  [[ -e $out/$1/adapter/adapter_config.json ]] && return
  "$bin/$2" "${common[@]}" "${@:3}" --run.dir "$out/$1" >"$out/$1.log" 2>&1 || { tail -n 5 "$out/$1.log" >&2 && exit 1; }
}
last() { # NAME METRIC
  sqlite3 "$out/$1/run.db" "select printf('%.4f', value) from metric where name = '$2' order by step desc limit 1"
}

variants=("bf16" "int8 --model.quantize int8" "nf4 --model.quantize nf4" "nf4-int8 --model.quantize nf4 --model.quantize_tables int8")
printf '%-10s %9s %9s %9s %9s %9s %9s %9s\n' weights "SFT loss" "held out" "reward" "accuracy" "score" "KL" "length"
for variant in "${variants[@]}"; do
  read -ra words <<<"$variant"
  name=${words[0]} how=("${words[@]:1}")
  stage "sft-$name" sft "${how[@]}" "${sft[@]}" --data.train "$data/sft.jsonl" --data.eval "$data/sft_eval.jsonl"
  stage "reward-$name" reward "${how[@]}" "${reward[@]}" --model.adapter "$out/sft-$name/adapter" \
    --data.train "$data/preferences.jsonl" --data.eval "$data/preferences_eval.jsonl" --data.reference "$data/sft_eval.jsonl"
  stage "ppo-$name" ppo "${how[@]}" "${ppo[@]}" --model.adapter "$out/sft-$name/adapter" --reward.path "$model" \
    --reward.adapter "$out/reward-$name/adapter" --data.prompts "$data/prompts.jsonl" --data.eval "$data/heldout.jsonl"
  printf '%-10s %9s %9s %9s %9s %9s %9s %9s\n' "$name" "$(last "sft-$name" train/loss)" "$(last "sft-$name" eval/loss)" \
    "$(last "reward-$name" eval/loss)" "$(last "reward-$name" eval/accuracy)" "$(last "ppo-$name" eval/score)" \
    "$(last "ppo-$name" eval/kl)" "$(last "ppo-$name" eval/length)"
done
