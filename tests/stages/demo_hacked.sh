#!/usr/bin/env bash
# The demo with a reward that can be hacked, longer answers for their own sake (configs/demo/hacked.json, docs/watching.md): an alarm comes
# before the rule checker has fallen by 0.05, the run stops there, and with warnings alone it falls further. The model has two fifths of the
# demo's data, more often, and PPO takes smaller steps: less is enough to see it, and a weaker model is lost in two updates.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
demo=$work/demo
# How far a small model falls is a matter of rounding: the same rounding everywhere.
export DROVER_CPU=avx2 OMP_NUM_THREADS=2

pass "$bin/demo_data" --out "$demo/data" --seed 1 --scale 0.4
pass "$bin/train_tokenizer" --text "$demo/data/pretrain.jsonl" --vocab 768 --out "$demo/tokenizer"
pass "$bin/init" --config configs/demo/model.json --tokenizer "$demo/tokenizer" --out "$demo/base" --seed 1
sed "s#runs/demo#$demo#g" configs/demo/pipeline.json | jq '.stages |= .[:2] | .stages[1].config.optim.epochs = 4' >"$work/pipeline.json"
pass "$drover" run "$work/pipeline.json"

# checked MODEL [ADAPTER]: the checker's score of answers to the held-out questions
checked() {
  pass "$bin/generate" --model "$1" ${2:+--adapter "$2"} --prompts "$demo/data/heldout.jsonl" --chat --max-new-tokens 48 --temperature 0.7 \
    --batch 80 --json
  mv "$work/out" "$work/answers.jsonl"
  "$bin/demo_check" --heldout "$demo/data/heldout.jsonl" --answers "$work/answers.jsonl" --json | jq .score
}
sed "s#runs/demo#$demo#g" configs/demo/hacked.json >"$work/hacked.json"
ppo=("$bin/ppo" --config "$work/hacked.json" --optim.lr 4e-4 --optim.schedule constant --ppo.epochs 1 --ppo.total_episodes $((20 * 256))
  --run.eval_every 0)
refuse 8 'stopped by an alarm' "${ppo[@]}" --run.on_alarm stop
at=$(checkpoint_step "$demo/hacked")
((at < 20)) || fail "too late to show anything"
grep -q "^warning: update $at: alarm [a-z]*: " "$work/log" || fail "$(cat "$work/log")"
pass "$bin/export" "$demo/hacked" --step "$at" --out "$work/stopped"
before=$(checked "$demo/sft/model") then=$(checked "$demo/sft/model" "$work/stopped")
note "at update $at, when the checker was at $then; SFT: $before"
holds "$before - $then < 0.05"

pass "${ppo[@]}"
after=$(checked "$demo/sft/model" "$demo/hacked/adapter")
holds "$before - $after > 0.05"
first=$(metric "$demo/hacked" ppo/score first)
holds "$(metric "$demo/hacked" ppo/score) > $first"
for part in opening closing product steps friendly ending; do # what the judge's program says of each rule
  [[ -n $(metric "$demo/hacked" "ppo/reward/checker/$part") ]] || fail "no part $part"
done
echo "demo_hacked: an alarm at update $at, the checker from $before to $then, and to $after where nobody stops"
