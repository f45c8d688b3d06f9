#!/usr/bin/env bash
# PPO whose reference follows the policy (ppo.reference_every): the divergence begins at 0 again after each copy, with all weights and with LoRA, reward
# models do not change with it, killed runs end with the same bytes, and what cannot be is refused. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 4
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" --optim.batch_size 8 --optim.max_steps 6 \
  --optim.lr 1e-3 --lora.enabled

updates=9
ppo=("$bin/ppo" --model.path "$work/sft/model" --data.prompts "$world/prompts.jsonl" --reward.path "$work/sft/model" --reward.adapter "$work/rm/adapter"
  --ppo.total_episodes $((updates * 16)) --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 8 --rollout.temperature 1
  --ppo.missing_eos keep --optim.lr 1e-3 --optim.micro_batch_tokens 256 --run.save_every 1 --ppo.reference_every 4 --json)
zeros() { # the updates whose policy is the reference: nothing between their log-probabilities, and something at the others
  sqlite3 "$work/$1/run.db" "select group_concat(step) from (select step from metric where name = 'ppo/kl' and value = 0 order by step)"
}
for mode in true false; do
  timed "${ppo[@]}" --run.dir "$work/run-$mode" --lora.enabled $mode
  [[ $(zeros "run-$mode") == 1,5,9 ]] || fail "$mode: no divergence at $(zeros "run-$mode")"
  killed_and_resumed "$work/killed-$mode" $updates 2 "${ppo[@]}" --run.dir "$work/killed-$mode" --lora.enabled $mode
  for kind in model adapter; do
    [[ ! -e $work/run-$mode/$kind ]] || same_files "$work/run-$mode/$kind" "$work/killed-$mode/$kind"
  done
  pass "${ppo[@]}" --run.dir "$work/stays-$mode" --lora.enabled $mode --ppo.reference_every 0
  [[ $(zeros "stays-$mode") == 1 ]] || fail "$mode: a reference that stays: $(zeros "stays-$mode")"
done
note "the reference follows, killed and resumed"

# Reward models that could stand over the reference's weights have their own.
two="[{\"kind\": \"ensemble\", \"path\": \"$work/sft/model\", \"adapters\": [\"$work/rm/adapter\", \"$work/rm/adapter\"]}]"
only_sources=("$bin/ppo" "${ppo[@]:1:4}" "${ppo[@]:9}" --reward.sources "$two" --ppo.advantage rloo --ppo.samples_per_prompt 4)
pass "${only_sources[@]}" --run.dir "$work/shared" --ppo.reference_every 0
grep -q 'two models of their own weights' "$work/log" || fail "$(grep weights "$work/log")"
pass "${only_sources[@]}" --run.dir "$work/own"
grep -q 'three models of their own weights' "$work/log" || fail "$(grep weights "$work/log")"
note "reward models have their own weights"

for check in '' --check; do
  refuse 2 'ppo.reference_every: expected 0 where weights are divided over ranks (device.shard weights)' "${ppo[@]}" --run.dir "$work/no" --device.shard weights $check
  refuse 2 'ppo.reference_every: expected 0 where weights are divided over ranks (device.shard_frozen)' "${ppo[@]}" --run.dir "$work/no" --device.shard_frozen $check
done
pass "${ppo[@]}" --run.dir "$work/vain" --ppo.kl_coef 0 --check
grep -q 'ppo.reference_every is given and has no effect' "$work/log" || fail "a reference in vain, and not a word"
echo "ppo: the reference follows the policy"
