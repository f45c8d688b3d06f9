#!/usr/bin/env bash
# ppo divided over ranks (device.shard, device.shard_frozen): what each level keeps is another matter than what it samples and learns. $1: the
# folder of the executables.
bin=$1
source tests/support/ranks.sh
make_world "$work/world"
world=$work/world
# Blocks that take turns in two slots, and linears that 4 bits fit.
base_of "$world" '.num_hidden_layers = 4 | .hidden_size = 64 | .intermediate_size = 128' "$work/base"
pass "$bin/reward" --model.path "$work/base" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" --optim.batch_size 8 \
  --optim.max_steps 4 --optim.lr 1e-3 --lora.enabled
head -n 9 "$world/prompts.jsonl" >"$world/prompts_eval.jsonl"

ppo=("$bin/ppo" --model.path "$work/base" --reward.path "$work/base" --reward.adapter "$work/rm/adapter" --data.template chatml
  --data.prompts "$world/prompts.jsonl" --ppo.samples_logged 1000 --ppo.batch_size 8 --ppo.minibatches 2 --ppo.epochs 2
  --rollout.max_new_tokens 8 --rollout.temperature 1 --optim.lr 1e-3 --optim.micro_batch_tokens 256 --device.threads 1 --device.rank_timeout 60
  --json)
gae=("${ppo[@]}" --ppo.total_episodes 16 --ppo.ema 0.9 --run.keep_best reward --data.eval "$world/prompts_eval.jsonl" --run.eval_every 1)
rloo=("${ppo[@]}" --ppo.total_episodes 16 --ppo.advantage rloo --ppo.samples_per_prompt 4 --ppo.target_kl 2e-2)
lora=(--lora.enabled --lora.dropout 0.1)

samples() { # samples RUN: all answers of a run
  sqlite3 "$1/run.db" 'select step, prompt, response, length, finished, prompt_ids, response_ids from sample order by rowid'
}
same_results() { # same_results RUN RUN
  local result
  for result in model adapter ema/model ema/adapter best; do
    if [[ -d $1/$result ]]; then same_files "$1/$result" "$2/$result"; fi
  done
}
# same_run RUN RUN: answers, metrics and results, to the bit.
same_run() {
  cmp <(samples "$1") <(samples "$2") || fail "$1 and $2: other answers"
  cmp <(metrics "$1") <(metrics "$2") || fail "$1 and $2: other metrics"
  same_results "$1" "$2"
}
# levels NAME RANKS "LEVEL ..." COMMAND...: one micro-batch on each rank, and so the bits of every level are those of none. frozen: of
# device.shard_frozen.
levels() {
  local name=$1 ranks=$2 list=$3 level run
  shift 3
  run=$work/$name
  pass on 1 "$@" --run.dir "$run-1"
  pass on "$ranks" "$@" --run.dir "$run-none"
  cmp <(samples "$run-1") <(samples "$run-none") || fail "$name: other answers on $ranks ranks"
  for level in $list; do
    if [[ $level == frozen ]]; then
      pass on "$ranks" "$@" --run.dir "$run-$level" --device.shard_frozen
    else
      pass on "$ranks" "$@" --run.dir "$run-$level" --device.shard "$level"
    fi
    same_run "$run-none" "$run-$level"
  done
  note "$name on $ranks ranks: $list as none, to the bit"
}
levels full 2 'optimizer gradients weights frozen' "${gae[@]}"
levels lora 2 'weights' "${gae[@]}" "${lora[@]}" --model.quantize nf4
# Copies in 8 bits are made of blocks that are not all here.
levels narrow 2 'weights' "${gae[@]}" --rollout.weights int8
# Costs, with a model and a critic of theirs, on several ranks and divided.
levels costs 2 'weights frozen' "${gae[@]}" --cost.path "$work/base" --cost.adapter "$work/rm/adapter" --cost.threshold -1
for part in critic cost_critic; do
  for level in none weights; do pass "$bin/export" "$work/costs-$level" --part $part --out "$work/costs-$level-$part"; done
  same_files "$work/costs-none-$part" "$work/costs-weights-$part"
done
levels rloo 4 'weights' "${rloo[@]}" --model.dtype bf16 --model.recompute

# Bytes of an update with two steps, by the table of docs/ranks.md; one micro-batch on each of two ranks. The rest is answers and what is agreed on.
bytes=("${ppo[@]}" --ppo.total_episodes 16 --ppo.minibatches 1 --ppo.advantage rloo --ppo.samples_per_prompt 4)
blocks=$((4 * $(count_of "$work/base/model.safetensors" '[.]layers[.]')))
outer=$((4 * $(count_of "$work/base/model.safetensors" .) - blocks))
for level in none optimizer gradients weights; do pass on 2 "${bytes[@]}" --run.dir "$work/bytes-$level" --device.shard $level; done
for level in none optimizer gradients; do sends "ppo, $level" "$(sent "$work/bytes-$level" 2)" $((2 * (blocks + outer))); done
# Of four blocks: to sample 4; passes of actor, reference and reward model 4 each; two steps 4 and 2 each, for two are there still where a
# pass turns back.
sends 'ppo, weights' "$(sent "$work/bytes-weights" 2)" $((2 * (blocks / 2 + outer) + blocks * 28 / 4 / 2))
note "each level sends what the table says"

# With several micro-batches, of which ranks have different numbers, gradients are added up in another order; answers stay the same as long as
# that does not reach the digits that choose them.
small=("${gae[@]}" --data.ptx "$world/sft.jsonl" --ppo.ptx_coef 0.5 --ppo.critic_warmup 1 --ppo.whiten_rewards --optim.micro_batch_tokens 64)
pass on 1 "${small[@]}" --run.dir "$work/small-1"
for level in gradients weights frozen; do
  if [[ $level == frozen ]]; then
    pass on 3 "${small[@]}" --run.dir "$work/small-frozen" --device.shard gradients --device.shard_frozen
  else
    pass on 3 "${small[@]}" --run.dir "$work/small-$level" --device.shard "$level"
  fi
  cmp <(samples "$work/small-1") <(samples "$work/small-$level") || fail "several micro-batches, $level: other answers"
  metrics "$work/small-1" | grep -E '^(ppo/(value|ptx)_loss|eval/score) ' >"$work/a"
  metrics "$work/small-$level" | grep -E '^(ppo/(value|ptx)_loss|eval/score) ' >"$work/b"
  near "$work/a" "$work/b" 1e-5
done
same_run "$work/small-gradients" "$work/small-weights"
same_run "$work/small-gradients" "$work/small-frozen"
note "several micro-batches: the same answers, and two orders of sums within rounding of each other"

# Fewer answers than ranks.
few=("${ppo[@]}" --ppo.batch_size 2 --ppo.total_episodes 4 --ppo.epochs 1)
pass on 1 "${few[@]}" --run.dir "$work/few-1"
pass on 4 "${few[@]}" --run.dir "$work/few-4" --device.shard weights
cmp <(samples "$work/few-1") <(samples "$work/few-4") || fail "fewer answers than ranks: other answers"
close_weights "$work/few-1/model/model.safetensors" "$work/few-4/model/model.safetensors" 1e-4
note "ranks without an answer go in step"

# Checkpoints: each rank writes its slices, of the running means too.
long=("${gae[@]}" --run.keep_best none --run.eval_every 0 --ppo.total_episodes $((20 * 8)) --ppo.epochs 1 --run.save_every 2 --optim.state 8bit --device.shard weights)
pass on 2 "${long[@]}" --run.dir "$work/whole"
signalled KILL "$work/killed" 4 2 $((RANDOM % 2)) "${long[@]}"
[[ $status == 137 ]] || fail "a killed rank: exit code $status: $(tail -n 5 "$work/log")"
cp -r "$work/killed" "$work/killed-3"
pass on 2 "${long[@]}" --run.dir "$work/killed"
grep -q 'going on from' "$work/log" || fail "nothing was resumed"
same_run "$work/whole" "$work/killed"
note "a rank that is killed ends all, and the same number of ranks goes on with the same bits"
pass on 3 "${long[@]}" --run.dir "$work/killed-3" --device.shard gradients
grep -q 'going on from' "$work/log" || fail "nothing was resumed"
for run in whole killed-3; do metrics "$work/$run" | grep '^ppo/value_loss ' >"$work/$run.losses"; done
near "$work/whole.losses" "$work/killed-3.losses" 1e-4
note "another number of ranks cuts the slices again"
for part in result critic ema; do pass "$bin/export" "$work/whole" --part $part --out "$work/exported-$part"; done
cmp "$work/whole/model/model.safetensors" "$work/exported-result/model.safetensors" || fail "export of a divided policy"
cmp "$work/whole/ema/model/model.safetensors" "$work/exported-ema/model.safetensors" || fail "export of divided running means"
note "what is exported of slices is whole"

# A signal to one rank at several moments of an update, which is mostly passes with answers of two tokens: it goes in step to the end of
# those, without computing.
slow=("${gae[@]}" --run.keep_best none --run.eval_every 0 --ppo.epochs 1 --ppo.minibatches 1 --ppo.batch_size 128 --ppo.total_episodes $((4 * 128))
  --rollout.max_new_tokens 2 --run.save_every 1 --device.shard weights --optim.micro_batch_tokens 32)
pass on 2 "${slow[@]}" --run.dir "$work/slow"
given_up=0
for later in 0.05 0.1 0.2; do
  signalled TERM "$work/term" 1 2 0 "${slow[@]}"
  [[ $status == 143 ]] || fail "SIGTERM to a rank: exit code $status: $(tail -n 5 "$work/log")"
  if grep -aq 'this rollout will be made again' "$work/log"; then given_up=$((given_up + 1)); fi
done
later=0
((given_up > 0)) || fail "SIGTERM: it never came during a rollout"
pass on 2 "${slow[@]}" --run.dir "$work/term"
same_run "$work/slow" "$work/term"
note "SIGTERM to one rank during a rollout: all give it up, save once and end"
