#!/usr/bin/env bash
# Advantages without a critic (ppo.advantage): each estimator learns, ends with the same bytes when it is killed and resumed, and
# there is no critic in plan, log, checkpoint or metrics. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 8
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" \
  --optim.batch_size 8 --optim.epochs 4 --optim.lr 2e-3 --lora.enabled

updates=12
common=("$bin/ppo" --model.path "$work/sft/model" --data.prompts "$world/prompts.jsonl"
  --ppo.total_episodes $((updates * 32)) --ppo.batch_size 32 --ppo.minibatches 2
  --ppo.epochs 2 --rollout.max_new_tokens 10 --rollout.temperature 1 --ppo.missing_eos keep --optim.lr 1e-3
  --optim.micro_batch_tokens 256 --run.save_every 2 --ppo.samples_logged 32 --json)
train=("${common[@]}" --reward.path "$work/sft/model" --reward.adapter "$work/rm/adapter")
of() { # of NAME METRIC [STEPS]: its mean over some updates
  sqlite3 "$work/$1/run.db" "select avg(value) from metric where name = '$2' and ${3:-1}"
}
holds() { [[ $(awk "BEGIN { print ($1) ? 1 : 0 }") == 1 ]] || fail "expected $1"; }
metrics() {
  sqlite3 "$1/run.db" "select step, name, value from metric where name not like '%per_second' order by step, name;
    select step, prompt, response, reward, kl, length, finished from sample order by rowid"
}
kib() { # kib WORD: the size after that word in the last log
  sed -nE "s/.*$1 +([0-9.]+) ([KMG]iB).*/\\1 \\2/p" "$work/log" | head -n 1 |
    awk '{ print $1 * ($2 == "GiB" ? 1024 * 1024 : $2 == "MiB" ? 1024 : 1) }'
}

# The plan, with and without the critic, in full and with LoRA.
for mode in false true; do
  declare -A total=()
  for estimator in gae rloo; do
    pass "${train[@]}" --run.dir "$work/plan" --check --lora.enabled $mode --ppo.samples_per_prompt 4 --ppo.advantage $estimator
    total[$estimator]=$(kib total)
    [[ ${total[$estimator]} ]] || fail "no total in the plan: $(cat "$work/log")"
  done
  holds "${total[rloo]} < ${total[gae]}"
done
note "the plan is smaller without a critic"

for estimator in rloo grpo dr_grpo reinforce_pp remax; do
  run=("${train[@]}" --ppo.advantage "$estimator" --ppo.samples_per_prompt 4)
  timed "${run[@]}" --run.dir "$work/$estimator"
  grep -q 'no critic' "$work/log" || fail "$estimator: the log does not say that there is no critic: $(cat "$work/log")"
  ! grep -q 'no effect' "$work/log" || fail "$estimator: $(grep 'no effect' "$work/log")"
  # What there is of memory is in the plan.
  [[ $(kib 'peak memory') && $(kib planned) ]] || fail "no peak memory: $(cat "$work/log")"
  holds "$(kib 'peak memory') <= $(kib planned)"
  holds "$(of $estimator ppo/score 'step > 9') > $(of $estimator ppo/score 'step < 3')"
  [[ -z $(sqlite3 "$work/$estimator/run.db" "select distinct name from metric where name like '%critic%' or name like '%value%'
    or name like '%explained%' or name = 'ppo/return_std'") ]] || fail "$estimator: metrics of a critic"
  ! grep -qa 'critic' "$work/$estimator/checkpoints/step-$updates/"*.safetensors || fail "$estimator: a critic in the checkpoint"
  # Each prompt has four answers one after the other, and they are not all the same.
  [[ $(sqlite3 "$work/$estimator/run.db" "select count(*) from (select distinct step, (id - 1) / 4, prompt from
    (select row_number() over (order by rowid) as id, step, prompt from sample))") == $((updates * 8)) ]] ||
    fail "$estimator: groups of other prompts"
  [[ $(sqlite3 "$work/$estimator/run.db" "select count(distinct response) > 8 from sample where step = 1") == 1 ]] ||
    fail "$estimator: the answers to a prompt are one"
  if [[ $estimator != re* ]]; then
    holds "$(of $estimator ppo/flat_group_rate) >= 0 && $(of $estimator ppo/flat_group_rate) < 0.5"
  fi
  killed_and_resumed "$work/$estimator-killed" $updates 2 "${run[@]}" --run.dir "$work/$estimator-killed"
  same_files "$work/$estimator/model" "$work/$estimator-killed/model"
  [[ $(metrics "$work/$estimator") == "$(metrics "$work/$estimator-killed")" ]] || fail "$estimator: the run logs differ"
  note "$estimator, killed and resumed: score $(of $estimator ppo/score 'step < 3') to $(of $estimator ppo/score 'step > 9')"
done
differ "$work/rloo/model/model.safetensors" "$work/grpo/model/model.safetensors"
differ "$work/dr_grpo/model/model.safetensors" "$work/grpo/model/model.safetensors"
# How many answers are generated at once is no part of the result.
pass "${train[@]}" --ppo.advantage rloo --ppo.samples_per_prompt 4 --run.dir "$work/batch" --rollout.batch 3
same_files "$work/rloo/model" "$work/batch/model"

# The other arrangements of the models.
short=(--ppo.total_episodes 64 --ppo.samples_per_prompt 4)
pass "${train[@]}" "${short[@]}" --run.dir "$work/lora" --ppo.advantage grpo --lora.enabled --lora.r 4
grep -q 'one frozen base; adapters for actor, reference and reward; no critic' "$work/log" || fail "$(cat "$work/log")"
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm-full" \
  --optim.batch_size 8 --optim.max_steps 2
pass "${common[@]}" "${short[@]}" --run.dir "$work/two" --ppo.advantage grpo --lora.enabled --reward.path "$work/rm-full/model"
grep -q 'two frozen bases; adapters for actor, reference and reward; no critic' "$work/log" || fail "$(cat "$work/log")"
# Several answers to a prompt with a critic.
pass "${train[@]}" "${short[@]}" --run.dir "$work/several"
[[ $(sqlite3 "$work/several/run.db" "select count(*) from metric where name = 'ppo/value_loss'") == 2 ]] || fail "gae with groups"
note "other arrangements"

# Refused, and given in vain.
refuse 2 "ppo.normalize_scores: remax" "${train[@]}" --run.dir "$work/no" --ppo.advantage remax --ppo.normalize_scores
refuse 2 "ppo.samples_per_prompt: expected at least 2, since ppo.advantage grpo" "${train[@]}" --run.dir "$work/no" --ppo.advantage grpo
refuse 2 "ppo.samples_per_prompt: expected a divisor of ppo.batch_size 32, which counts answers, found 5" "${train[@]}" \
  --run.dir "$work/no" --ppo.advantage rloo --ppo.samples_per_prompt 5
refuse 2 "'ppo' is not one of gae, rloo, grpo, dr_grpo, reinforce_pp, remax" "${train[@]}" --run.dir "$work/no" --ppo.advantage ppo
refuse 2 "ppo.advantage" "${train[@]}" --ppo.samples_per_prompt 4 --ppo.advantage grpo --run.dir "$work/rloo"
refuse 2 "--part critic: $work/rloo has none, its ppo.advantage is rloo" "$bin/export" "$work/rloo" --part critic
pass "${train[@]}" "${short[@]}" --run.dir "$work/vain" --check --ppo.advantage rloo --ppo.lam 0.9 --ppo.cliprange_value 0.1 \
  --ppo.critic_lr 1e-4 --ppo.whiten_rewards true --ppo.gamma 0.9 --ppo.lam_critic 1 --ppo.lam_alpha 0.1 --ppo.critic_warmup 3 \
  --ppo.whiten_advantages false --ppo.kl_in loss --ppo.kl_estimator k2
for option in lam cliprange_value critic_lr whiten_rewards gamma lam_critic lam_alpha critic_warmup whiten_advantages kl_estimator; do
  grep -q "ppo.$option is given and has no effect" "$work/log" || fail "$option is given in vain, and not a word: $(cat "$work/log")"
done
pass "${train[@]}" "${short[@]}" --run.dir "$work/vain" --check --ppo.advantage reinforce_pp --ppo.gamma 0.9
! grep -q 'no effect' "$work/log" || fail "gamma: $(cat "$work/log")"
echo "ppo: estimators without a critic"
