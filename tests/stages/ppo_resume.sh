#!/usr/bin/env bash
# The ppo stage killed with SIGKILL at random moments, and stopped by SIGTERM, ends with the same bytes as a run that was
# left alone: actor, running mean, and what the log says. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 4
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" \
  --optim.batch_size 8 --optim.epochs 2 --optim.lr 1e-3 --lora.enabled

updates=30
train=("$bin/ppo" --model.path "$work/sft/model" --reward.path "$work/sft/model" --reward.adapter "$work/rm/adapter"
  --data.prompts "$world/prompts.jsonl" --data.eval "$world/prompts_eval.jsonl" --data.ptx "$world/sft.jsonl"
  --ppo.ptx_coef 0.5 --ppo.ema 0.9 --ppo.kl_adaptive --ppo.kl_horizon 100 --ppo.total_episodes $((updates * 16 - 3))
  --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 10 --rollout.temperature 1
  --optim.lr 1e-3 --optim.micro_batch_tokens 200 --run.save_every 2 --run.eval_every 7 --json)
head -n 9 "$world/prompts.jsonl" >"$world/prompts_eval.jsonl"

# What the log has but times; and the result but for the folder's name.
metrics() {
  sqlite3 "$1/run.db" "select step, name, value from metric where name not like '%per_second' order by step, name;
    select step, prompt, response, reward, kl, length, finished from sample order by rowid"
}
result() { sed "s|$1|RUN|" "$work/out"; }

kill_and_compare() { # kill_and_compare NAME OUTPUT ARGUMENTS...
  local name=$1 output=$2 first
  shift 2
  timed "${train[@]}" --run.dir "$work/$name" "$@"
  first=$(result "$work/$name")
  [[ $(jq .updates "$work/out") == "$updates" ]] || fail "$name: expected $updates updates: $(cat "$work/out")"
  killed_and_resumed "$work/$name-killed" $updates 4 "${train[@]}" --run.dir "$work/$name-killed" "$@"
  same_files "$work/$name/$output" "$work/$name-killed/$output"
  same_files "$work/$name/ema/$output" "$work/$name-killed/ema/$output"
  [[ $(result "$work/$name-killed") == "$first" ]] || fail "$name: other results: $first, $(cat "$work/out")"
  [[ $(metrics "$work/$name") == "$(metrics "$work/$name-killed")" ]] || fail "$name: the run logs differ"
  [[ $(metrics "$work/$name" | grep -c ppo/policy_loss) == "$updates" ]] || fail "$name: updates in the run log"
  note "$name, killed and resumed"
}

kill_and_compare full model
kill_and_compare lora adapter --lora.enabled --lora.r 4 --lora.dropout 0.1 --ppo.normalize_scores --ppo.mask_cut
differ "$work/lora/adapter/adapter_model.safetensors" "$work/lora/ema/adapter/adapter_model.safetensors"
# Another seed gives other bytes: the comparison can fail.
pass "${train[@]}" --run.dir "$work/other" --run.seed 2
differ "$work/full/model/model.safetensors" "$work/other/model/model.safetensors"
# How many answers are generated at once is no part of the result.
pass "${train[@]}" --run.dir "$work/batch" --rollout.batch 3
same_files "$work/full/model" "$work/batch/model"
note "rollout.batch does not matter"

# SIGTERM: the update at hand is finished and saved.
stopped TERM 143 "$work/term" "${train[@]}" --run.dir "$work/term" --run.save_every 0
pass "${train[@]}" --run.dir "$work/term" --run.save_every 0
grep -q 'going on from' "$work/log" || fail "did not go on"
same_files "$work/full/model" "$work/term/model"
note "SIGTERM saves and resumes"

# With a constant schedule a finished run can go on, and ends as one that was that long from the beginning.
longer=("${train[@]}" --optim.schedule constant)
pass "${longer[@]}" --run.dir "$work/longer" --ppo.total_episodes 64
pass "${longer[@]}" --run.dir "$work/longer" --ppo.total_episodes 96
grep -q 'going on from' "$work/log" || fail "a finished run did not go on"
pass "${longer[@]}" --run.dir "$work/long" --ppo.total_episodes 96
same_files "$work/long/model" "$work/longer/model"
note "a constant schedule goes on longer"

# A finished run: the same result at once, and nothing is written. Other settings cannot go on.
stamp=$(stat -c %Z "$work/full/model/model.safetensors")
expect '"output"' "${train[@]}" --run.dir "$work/full"
grep -q 'finished already' "$work/log" || fail "a finished run does not say so"
[[ $(stat -c %Z "$work/full/model/model.safetensors") == "$stamp" ]] || fail "a finished run wrote again"
refuse 2 'ppo.kl_coef' "${train[@]}" --run.dir "$work/full" --ppo.kl_coef 0.1
pass "${train[@]}" --run.dir "$work/full" --run.resume false --ppo.ema 0
[[ ! -e $work/full/ema ]] || fail "the former running mean is still there"
echo "ppo: killed and resumed runs end with the same bytes"
