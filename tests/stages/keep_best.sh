#!/usr/bin/env bash
# run.keep_best and run.patience: the model of the best evaluation beside the last one, and runs that end when nothing becomes better;
# of sft, reward, dpo and ppo, killed and resumed too. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
head -n 10 "$world/sft.jsonl" >"$world/few.jsonl" # so that they are soon known by heart
tail -n 30 "$world/sft.jsonl" >"$world/others.jsonl"

sft=("$bin/sft" --model.path "$world/base" --data.train "$world/few.jsonl" --data.eval "$world/others.jsonl" --optim.lr 1e-2
  --optim.schedule constant --optim.batch_size 5 --optim.epochs 20 --run.save_every 7 --run.eval_every 4 --run.keep_best auto --json)
about() { jq -r "$2" "$work/$1/best/best.json"; }
# least RUN METRIC ORDER: the update of the best evaluation by the run log, the first of equals.
least() { sqlite3 "$work/$1/run.db" "select step from metric where name = '$2' order by value $3, step limit 1"; }
same_best() { # what best.json says is what the run log says, and what the result says
  local run=$1 metric=$2 order=$3
  [[ $(about "$run" .step) == "$(least "$run" "$metric" "$order")" && $(about "$run" .metric) == "$metric" ]] ||
    fail "$run: best.json $(cat "$work/$run/best/best.json"), the log $(sqlite3 "$work/$run/run.db" "select step, value from metric where name = '$metric'")"
  [[ $(jq -c '.best | [.step, .metric]' "$work/out") == "[$(about "$run" .step),\"$metric\"]" ]] || fail "$run: $(cat "$work/out")"
}

# The best is neither the first nor the last; it is what export makes of that update, and programs load it.
timed "${sft[@]}" --run.dir "$work/sft" --run.keep 100
same_best sft eval/loss asc
step=$(about sft .step)
((step > 4 && step < 40)) || fail "the best is of update $step: nothing is shown"
pass "$bin/export" "$work/sft" --step "$step" --out "$work/exported"
diff -r -x best.json "$work/exported" "$work/sft/best" >"$work/diff" || fail "best is not update $step: $(cat "$work/diff")"
pass "$bin/generate" --model "$work/sft/best" --prompt "red door?" --max-new-tokens 3
differ "$work/sft/model/model.safetensors" "$work/sft/best/model.safetensors"
pass "${sft[@]}" --run.dir "$work/plain" --run.keep_best none
same_files "$work/plain/model" "$work/sft/model" # it changes nothing
[[ ! -e $work/plain/best ]] || fail "a best that nobody asked for"
killed_and_resumed "$work/sft-killed" 40 4 "${sft[@]}" --run.dir "$work/sft-killed"
same_files "$work/sft/best" "$work/sft-killed/best"
same_files "$work/sft/model" "$work/sft-killed/model"
note "the best of sft, killed and resumed"

# Patience.
pass "${sft[@]}" --run.dir "$work/patient" --run.patience 2
grep -q "the run ends here, by run.patience: the last 2 evaluations were not better than eval/loss" "$work/log" || fail "$(cat "$work/log")"
same_files "$work/sft/best" "$work/patient/best"
ended=$(jq .steps "$work/out")
[[ $ended == $((step + 8)) ]] || fail "it ended with update $ended, the best was $step"
[[ $(sqlite3 "$work/patient/run.db" "select count(*) from event where text like '%by run.patience%'") == 1 ]] || fail "no event"
[[ $(sqlite3 "$work/patient/run.db" 'select status from run') == done ]] || fail "not done"
pass "$bin/export" "$work/patient" --step "$ended" --out "$work/ended"
same_files "$work/ended" "$work/patient/model"
expect "\"steps\": $ended" "${sft[@]}" --run.dir "$work/patient" --run.patience 2
killed_and_resumed "$work/patient-killed" "$ended" 3 "${sft[@]}" --run.dir "$work/patient-killed" --run.patience 2
same_files "$work/patient/model" "$work/patient-killed/model"
same_files "$work/patient/best" "$work/patient-killed/best"
pass "${sft[@]}" --run.dir "$work/patient" --run.patience 0 # a finished run that is to wait longer goes on
same_files "$work/sft/model" "$work/patient/model"
same_files "$work/sft/best" "$work/patient/best"
note "patience"

# For people.
plain=()
for word in "${sft[@]}"; do [[ $word == --json ]] || plain+=("$word"); done
expect "best: update $step, eval/loss" "${plain[@]}" --run.dir "$work/people"
expect ": $work/people/best" "${plain[@]}" --run.dir "$work/people" --run.resume false

# The best reward model has its own zero point, which the others do not have from it.
reward=("$bin/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.reference "$world/others.jsonl" --reward.centring 0.1 --lora.enabled --optim.lr 3e-2 --optim.schedule constant
  --optim.batch_size 8 --optim.epochs 3 --run.eval_every 3 --run.keep 100 --json)
pass "${reward[@]}" --run.dir "$work/rm" --run.keep_best accuracy
same_best rm eval/accuracy desc
step=$(about rm .step)
pass "${reward[@]}" --run.dir "$work/rm-plain"
same_files "$work/rm-plain/adapter" "$work/rm/adapter"
pass "$bin/export" "$work/rm" --step "$step" --out "$work/rm-exported"
diff -r -x best.json "$work/rm-exported" "$work/rm/best" >"$work/diff" || fail "best is not update $step: $(cat "$work/diff")"
pass "$bin/inspect" score --model "$world/base" --adapter "$work/rm/best" --data "$world/prefs_eval.jsonl"
note "the best of reward"

pass "$bin/dpo" --model.path "$world/base" --data.train "$world/prefs.jsonl" --data.eval "$world/prefs_eval.jsonl" --lora.enabled \
  --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 2 --run.eval_every 2 --run.keep_best margin --run.dir "$work/dpo" --json
same_best dpo eval/margin desc
note "the best of dpo"

# PPO, from the policy that it begins with on; by a judge that nothing is learnt from, where there is one.
ppo=("$bin/ppo" --model.path "$work/sft/model" --data.prompts "$world/prompts.jsonl" --data.eval "$world/few.jsonl" --lora.enabled
  --reward.sources '[{"kind": "rules", "length": 8}, {"kind": "rules", "name": "gold", "weight": 0, "length": 4}]'
  --ppo.total_episodes 288 --ppo.batch_size 16 --ppo.missing_eos keep --rollout.max_new_tokens 8 --rollout.temperature 1 --optim.lr 1e-2
  --optim.micro_batch_tokens 512 --run.save_every 2 --run.eval_every 1 --run.keep_best auto --json)
timed "${ppo[@]}" --run.dir "$work/ppo"
same_best ppo eval/heldout desc
[[ $(sqlite3 "$work/ppo/run.db" "select count(*) from metric as r, metric as s, metric as k where r.name = 'eval/reward' and s.name = 'eval/score'
  and k.name = 'eval/kl' and r.step = s.step and s.step = k.step and abs(r.value - (s.value - 0.05 * k.value)) < 1e-9") == 19 ]] || fail "eval/reward"
killed_and_resumed "$work/ppo-killed" 18 3 "${ppo[@]}" --run.dir "$work/ppo-killed"
same_files "$work/ppo/best" "$work/ppo-killed/best"
same_files "$work/ppo/adapter" "$work/ppo-killed/adapter"
pass "$bin/generate" --model "$work/sft/model" --adapter "$work/ppo/best" --prompt "red door?" --max-new-tokens 3
pass "${ppo[@]}" --run.dir "$work/ppo-reward" --run.keep_best reward
same_best ppo-reward eval/reward desc
note "the best of ppo"

# Two ranks.
if "$drover" launch --help >"$work/launch" 2>&1; then
  pass "$drover" launch -n 2 "${reward[@]}" --run.dir "$work/rm-ranks" --run.keep_best accuracy
  [[ $(about rm-ranks .step) == "$(least rm-ranks eval/accuracy desc)" ]] || fail "ranks: $(cat "$work/rm-ranks/best/best.json")"
  note "two ranks"
fi

refuse 2 'run.patience: expected run.keep_best with it' "${sft[@]}" --run.dir "$work/no" --run.keep_best none --run.patience 1 --check
refuse 2 'run.keep_best: expected run.eval_every of 1 or more' "${sft[@]}" --run.dir "$work/no" --run.eval_every 0 --check
refuse 2 'run.keep_best: expected data.eval' "$bin/sft" --model.path "$world/base" --data.train "$world/few.jsonl" --run.dir "$work/no" \
  --run.keep_best loss --run.eval_every 2 --check
refuse 2 "run.keep_best" "${sft[@]}" --run.dir "$work/no" --run.keep_best accuracy --check
refuse 2 'run.keep_best heldout: expected a source of weight 0' "${ppo[@]}" --run.dir "$work/no" --run.keep_best heldout \
  --reward.sources '{"kind": "rules", "length": 8}' --check
refuse 2 'run.keep_best heldout: expected a source of weight 0' "${ppo[@]}" --run.dir "$work/no" --run.keep_best heldout \
  --reward.sources '[{"kind": "rules", "length": 8}, {"kind": "rules", "name": "b", "weight": 0, "watch": false, "length": 4}]' --check
refuse 2 "$work/sft/best" "${sft[@]}" --run.dir "$work/sft" --model.path "$work/sft/best"
echo "the best model of a run is kept, and patience ends it"
