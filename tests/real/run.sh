#!/usr/bin/env bash
# The whole recipe on a real model, SmolLM2-135M-Instruct, with LoRA: SFT, reward model, PPO, merge. Checks logits, answers
# and results against Transformers and PEFT, memory against the plan, and a killed PPO run against one left alone; prints
# speeds. docs/real-model.md has a transcript.
#
#   tests/real/run.sh OUT
#
# OUT/model is made when missing (fetch.py). PYTHON has torch, transformers, peft, safetensors and gguf (default python3);
# DROVER_BIN holds the programs (default build/release/bin). Started again, it makes everything but the model anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
(($# == 1)) || { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2; }
out=$1
python=${PYTHON:-python3}
bin=${DROVER_BIN:-build/release/bin}
export DROVER_BIN=$bin TOKENIZERS_PARALLELISM=false
model=$out/model data=$out/data
failures=0
began=$SECONDS

say() { printf '\n== %s\n' "$*"; }
verdict() { # good? TEXT
  if (($1)); then echo "ok   $2"; else echo "FAIL $2" && failures=$((failures + 1)); fi
}
number() { awk -v x="$1" "BEGIN { printf \"%.${2:-0}f\", x }"; }
metric() { # STAGE AGGREGATE NAME
  sqlite3 "$out/$1/run.db" "select $2(value) from metric where name = '$3'"
}
last_metric() { sqlite3 "$out/$1/run.db" "select value from metric where name = '$2' order by step desc limit 1"; }

# Runs a stage and holds its peak resident memory, as the kernel counts it, against the plan that it printed.
stage() { # NAME PROGRAM OPTIONS...
  local name=$1 peak planned
  shift
  echo "\$ drover ${*//"$out"/OUT}"
  command time -o "$out/$name.time" -f '%M %e' "$bin/$1" "${@:2}" --run.dir "$out/$name" 2>&1 | tee "$out/$name.log"
  read -r peak seconds["$name"] < <(tail -n 1 "$out/$name.time")
  planned=$(awk '/^  total / { print $2 * ($3 == "GiB" ? 1048576 : 1024); exit }' "$out/$name.log")
  peaks[$name]=$((peak / 1024)) plans[$name]=$(awk -v p="$planned" 'BEGIN { printf "%.0f", p / 1024 }')
  verdict "$(awk -v a="$peak" -v p="$planned" 'BEGIN { print (a <= 1.05 * p && a >= 0.95 * p) }')" \
    "$name: peak ${peaks[$name]} MiB, planned ${plans[$name]} MiB ($(awk -v a="$peak" -v p="$planned" \
      'BEGIN { printf "%+.1f%%", 100 * (a / p - 1) }'))"
}
declare -A seconds peaks plans

mkdir -p "$out"
rm -rf "$data" "$out"/{sft,reward,ppo,ppo-alone,merged}
say "setting"
date -u +%F
"$bin/sft" --version
"$python" -c 'import torch, transformers as t, peft; print("torch", torch.__version__, "transformers", t.__version__, "peft", peft.__version__)'
echo "$(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)," \
  "$(grep -om1 -E 'amx_bf16' /proc/cpuinfo || echo 'no AMX'), $(grep -om1 -E 'avx512f' /proc/cpuinfo || echo 'no AVX-512')"

say "model and reference"
[[ -e $model/config.json ]] || { "$python" tests/real/fetch.py "$model.part" && mv "$model.part" "$model"; }
[[ -e $out/reference.json ]] || "$python" tests/real/reference.py "$model" "$out/reference.json"
if "$python" tests/real/compare.py "$model" "$out/reference.json" --bin "$bin"; then good=1; else good=0; fi
verdict $good "log-probabilities and greedy answers of the model as it is"

say "data: a help desk's (docs/demo.md), through the model's own chat template"
"$bin/demo_data" --out "$data" --scale 0.03
wc -l "$data"/{sft,sft_eval,preferences,preferences_eval,prompts,heldout}.jsonl | sed '$d'

common=(--model.path "$model" --lora.enabled --data.max_length 160)
say "supervised fine-tuning"
stage sft sft "${common[@]}" --data.train "$data/sft.jsonl" --data.eval "$data/sft_eval.jsonl" --lora.dropout 0 \
  --optim.lr 1e-3 --optim.batch_size 12 --optim.micro_batch_tokens 1024

say "reward model"
stage reward reward "${common[@]}" --model.adapter "$out/sft/adapter" --data.train "$data/preferences.jsonl" \
  --data.eval "$data/preferences_eval.jsonl" --data.reference "$data/sft_eval.jsonl" \
  --optim.lr 5e-4 --optim.batch_size 12 --optim.micro_batch_tokens 1024

say "PPO, killed by SIGKILL after the second update and started again"
ppo=("${common[@]}" --model.adapter "$out/sft/adapter" --reward.path "$model" --reward.adapter "$out/reward/adapter"
  --data.prompts "$data/prompts.jsonl" --rollout.max_new_tokens 40 --rollout.batch 16 --optim.lr 2e-4
  --optim.micro_batch_tokens 1024 --ppo.total_episodes 120 --ppo.batch_size 24 --ppo.minibatches 2 --ppo.epochs 2
  --run.save_every 1 --run.log_every 1)
"$bin/ppo" "${ppo[@]}" --run.dir "$out/ppo" >"$out/ppo-killed.log" 2>&1 &
child=$!
until [[ -e $out/ppo/checkpoints/step-2 ]] || ! kill -0 $child 2>/dev/null; do sleep 0.2; done
sleep 3
kill -KILL $child 2>/dev/null || true
status=0 && wait $child 2>/dev/null || status=$?
verdict $((status == 137)) "killed: exit code $status, $(cd "$out/ppo/checkpoints" && echo step-*) left"
stage ppo ppo "${ppo[@]}"
say "PPO, left alone"
stage ppo-alone ppo "${ppo[@]}"
same=1
for file in adapter_model.safetensors adapter_config.json; do
  cmp "$out/ppo/adapter/$file" "$out/ppo-alone/adapter/$file" || same=0
done
verdict $same "the run that was killed and resumed ends with the bytes of the one left alone"

say "merge; Transformers and PEFT read the results"
"$bin/merge" --model "$model" --adapter "$out/ppo/adapter" --out "$out/merged" --dtype f32
if "$python" tests/real/agree.py "$model" --sft "$out/sft/adapter" --reward "$out/reward/adapter" \
  --ppo "$out/ppo/adapter" --merged "$out/merged" --pairs "$data/preferences_eval.jsonl" --bin "$bin"; then good=1; else good=0; fi
verdict $good "Transformers and PEFT agree with Drover"

say "answers to held-out questions"
answer() { # NAME OPTIONS...
  "$bin/generate" --prompts "$data/heldout.jsonl" --chat --temperature 0 --max-new-tokens 48 --json "${@:2}" \
    >"$out/answers-$1.jsonl" 2>"$out/answers-$1.log"
  echo "$1: $("$bin/demo_check" --heldout "$data/heldout.jsonl" --answers "$out/answers-$1.jsonl" --json |
    jq -r '"checker score \(.score * 1000 | round / 1000)"'); $(tail -n 1 "$out/answers-$1.log")"
}
answer base --model "$model"
answer sft --model "$model" --adapter "$out/sft/adapter"
answer ppo --model "$model" --adapter "$out/ppo/adapter"
answer merged --model "$out/merged"
for i in 1 2 3; do
  jq -r "select(input_line_number == $i) | \"\n  \(.prompt)\"" "$out/answers-base.jsonl"
  for name in base sft ppo; do
    jq -r "select(input_line_number == $i) | \"    $name: \(.response)\"" "$out/answers-$name.jsonl"
  done
done

say "what it cost"
printf '%-10s %9s %12s %14s %14s\n' stage seconds "tokens/s" "peak MiB" "planned MiB"
for name in sft reward ppo ppo-alone; do
  printf '%-10s %9.0f %12.0f %14s %14s\n' $name "${seconds[$name]}" "$(metric $name avg train/tokens_per_second)" \
    "${peaks[$name]}" "${plans[$name]}"
done
echo
echo "SFT loss $(sqlite3 "$out/sft/run.db" "select printf('%.3f', value) from metric where name = 'train/loss' order by step limit 1") -> $(number "$(last_metric sft train/loss)" 3), held out $(number "$(last_metric sft eval/loss)" 3)"
echo "reward accuracy on held-out pairs $(number "$(last_metric reward eval/accuracy)" 3)"
echo "PPO by update:  score, KL (nats per answer), length, answers that end"
sqlite3 "$out/ppo/run.db" "select step, (select printf('%.3f', value) from metric m where m.step = s.step and name = 'ppo/score'),
  (select printf('%.3f', value) from metric m where m.step = s.step and name = 'ppo/kl'),
  (select printf('%.1f', value) from metric m where m.step = s.step and name = 'ppo/length'),
  (select printf('%.2f', value) from metric m where m.step = s.step and name = 'ppo/eos_rate')
  from (select distinct step from metric where name = 'ppo/score') s order by step" | sed 's/^/  /; s/|/  /g'
echo "$((SECONDS - began)) seconds, $failures failures"
exit $((failures > 0))
