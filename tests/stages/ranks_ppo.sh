#!/usr/bin/env bash
# Data-parallel ppo: many ranks sample, judge and learn what one does, end together, and go on. $1: the folder of the
# executables; $2: how many times a rank is killed (2).
bin=$1 kills=${2:-2}
source tests/support/ranks.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 4
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" \
  --optim.batch_size 8 --optim.epochs 2 --optim.lr 1e-3 --lora.enabled
head -n 9 "$world/prompts.jsonl" >"$world/prompts_eval.jsonl"

updates=15
bare=("$bin/ppo" --model.path "$work/sft/model"
  --data.prompts "$world/prompts.jsonl" --data.eval "$world/prompts_eval.jsonl" --run.eval_every 7 --ppo.samples_logged 1000
  --rollout.max_new_tokens 10 --rollout.temperature 1 --optim.lr 3e-4 --optim.micro_batch_tokens 60 --device.threads 1 --json)
ppo=("${bare[@]}" --reward.path "$work/sft/model" --reward.adapter "$work/rm/adapter")
# With a critic, and all that a minibatch may have beside it, answers that are left out among it.
gae=("${ppo[@]}" --lora.enabled --lora.dropout 0.1 --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2
  --ppo.total_episodes $((updates * 16)) --data.ptx "$world/sft.jsonl" --ppo.ptx_coef 0.5 --ppo.entropy_coef 0.01 --ppo.ema 0.9
  --ppo.kl_adaptive --ppo.kl_horizon 100 --ppo.whiten_rewards --ppo.mask_cut)
# Several rewards, groups that lie across ranks, minibatches of two answers, and a KL that stops the updates of some rollouts.
rewards="[{\"kind\": \"model\", \"path\": \"$work/sft/model\", \"adapter\": \"$work/rm/adapter\"},
  {\"kind\": \"rules\", \"weight\": 0.5, \"length\": 5, \"repetition\": 1, \"format\": \"^yes \"}]"
rloo=("${bare[@]}" --reward.sources "$rewards" --ppo.advantage rloo --ppo.samples_per_prompt 5 --ppo.batch_size 10 --ppo.minibatches 5 --ppo.epochs 2
  --ppo.total_episodes $((updates * 10)) --ppo.target_kl 2e-4 --ppo.normalize_scores)

samples() { # samples RUN: all answers of a run
  sqlite3 "$1/run.db" 'select step, prompt, response, length, finished, prompt_ids, response_ids from sample order by rowid'
}
# alike NAME N METRIC MOST [LEAST]: a metric on one and on N ranks, where there is such; as near.
alike() {
  grep -E "^$3 " "$work/$1-1.metrics" >"$work/a" || return 0
  grep -E "^$3 " "$work/$1-$2.metrics" >"$work/b"
  near "$work/a" "$work/b" "${@:4}"
}
# Means of terms that cancel are compared by the size of the terms: advantages, and log-probabilities of whole answers.
compare() { # compare NAME FILE COMMAND...: on 1, 2 and 4 ranks
  local name=$1 file=$2 n
  shift 2
  for n in 1 2 4; do
    pass on $n "$@" --run.dir "$work/$name-$n"
    [[ $(grep -c "\"updates\": $updates" "$work/out") == 1 ]] || fail "$name on $n ranks: one result: $(cat "$work/out")"
    # What measures rounding itself is nobody's business here.
    metrics "$work/$name-$n" | grep -vE '^ppo/(sampler_|first_ratio)' >"$work/$name-$n.metrics"
    [[ $(grep -c '^ppo/policy_loss ' "$work/$name-$n.metrics") == "$updates" ]] || fail "$name on $n ranks: updates in the run log"
    samples "$work/$name-$n" >"$work/$name-$n.samples"
    [[ $n == 1 ]] || cmp "$work/$name-1.samples" "$work/$name-$n.samples" || fail "$name on $n ranks: other answers"
  done
  for n in 2 4; do
    alike $name $n 'ppo/(value|ptx)_loss' 1e-6
    alike $name $n ppo/policy_loss 1e-6 1
    alike $name $n '(ppo|eval)/kl' 1e-6 10
    near <(grep -vE '^(ppo|eval)/(policy_loss|kl) ' "$work/$name-1.metrics") \
      <(grep -vE '^(ppo|eval)/(policy_loss|kl) ' "$work/$name-$n.metrics") 1e-4
    close_weights "$work/$name-1/$file" "$work/$name-$n/$file" 1e-4
  done
  note "$name on 2 and 4 ranks is that on one"
}
compare gae adapter/adapter_model.safetensors "${gae[@]}"
close_weights "$work/gae-1/ema/adapter/adapter_model.safetensors" "$work/gae-4/ema/adapter/adapter_model.safetensors" 1e-4
compare rloo model/model.safetensors "${rloo[@]}"
stopped=$(grep -c '^ppo/steps .* [0-9]\.' "$work/rloo-1.metrics")
((stopped > 0 && stopped < updates)) || fail "target_kl stopped $stopped of $updates updates"
note "target_kl stopped $stopped of $updates rollouts, on any number of ranks the same"

# Of two ranks each sends half of a gradient to be summed and half of the sum, once for each step; the rest is small.
weights=$(numbers "$work/rloo-2/model/model.safetensors" | wc -l)
sqlite3 "$work/rloo-2/run.db" "select b.value, s.value from metric b join metric s using (step)
  where b.name = 'train/sent_bytes' and s.name = 'ppo/steps' and s.value > 0" | awk -F'|' -v w="$weights" '
  { beside = $1 - 4 * w * $2; if (beside < 0 || beside > 6000) { print; bad = 1 } }
  END { exit bad || NR == 0 }' >"$work/far" || fail "bytes and steps of updates, of $weights weights: $(cat "$work/far")"
note "what is sent is the gradients"

# Fewer answers than ranks.
few=("${ppo[@]}" --ppo.batch_size 2 --ppo.total_episodes 6 --ppo.epochs 1)
pass on 1 "${few[@]}" --run.dir "$work/few-1"
pass on 4 "${few[@]}" --run.dir "$work/few-4"
cmp <(samples "$work/few-1") <(samples "$work/few-4") || fail "fewer answers than ranks: other answers"
close_weights "$work/few-1/model/model.safetensors" "$work/few-4/model/model.safetensors" 1e-4
note "ranks without an answer wait"

# A random rank is killed at a random moment: all end, with one message, and the same command goes on.
long=("${gae[@]}" --ppo.total_episodes $((40 * 16)) --run.save_every 3)
pass on 2 "${long[@]}" --run.dir "$work/whole-2"
pass on 4 "${long[@]}" --run.dir "$work/whole-4"
for ((kill = 0; kill < kills; kill++)); do
  n=$((kill % 2 ? 4 : 2)) run=$work/killed-$kill
  rank=$((RANDOM % n))
  signalled KILL "$run" $((3 + RANDOM % 20)) $n $rank "${long[@]}"
  [[ $status == 137 ]] || fail "rank $rank of $n killed: exit code $status: $(tail -n 5 "$work/log")"
  [[ $(tr '\0\n' '  ' <"$work/log" | grep -oE "rank $rank with PID [0-9]+ on node [^ ]+ exited +on signal 9" | wc -l) == 1 ]] ||
    fail "rank $rank of $n killed: expected one word of it in: $(cat "$work/log")"
  ! grep -a 'error: ' "$work/log" || fail "rank $rank of $n killed: other ranks complain"
  rm -rf "$work/other" && cp -r "$run" "$work/other"
  pass on $n "${long[@]}" --run.dir "$run"
  grep -q 'going on from' "$work/log" || fail "rank $rank of $n killed: nothing was resumed"
  same_files "$work/whole-$n/adapter" "$run/adapter"
  cmp <(metrics "$work/whole-$n") <(metrics "$run") || fail "rank $rank of $n killed: the run logs differ"
  cmp <(samples "$work/whole-$n") <(samples "$run") || fail "rank $rank of $n killed: other answers"
done
note "$kills times a rank was killed: all ended, and the same number of ranks went on with the same bits"
other=$((6 - n))
pass on $other "${long[@]}" --run.dir "$work/other"
cmp <(samples "$work/whole-$n") <(samples "$work/other") || fail "resumed on $other ranks instead of $n: other answers"
metrics "$work/whole-$n" | grep -E '^ppo/(value|ptx)_loss' >"$work/a"
metrics "$work/other" | grep -E '^ppo/(value|ptx)_loss' >"$work/b"
near "$work/a" "$work/b" 1e-5
note "and another number within rounding"

# A signal to one rank during a rollout, which is most of the time here; rank 0 says what it came in the middle of.
slow=("${gae[@]}" --ppo.epochs 1 --ppo.minibatches 1 --ppo.batch_size 64 --ppo.total_episodes $((30 * 64)) --rollout.max_new_tokens 36
  --rollout.temperature 3 --run.save_every 1 --run.eval_every 0)
pass on 2 "${slow[@]}" --run.dir "$work/slow"
for attempt in 1 2 3 4 5; do
  signalled TERM "$work/term" 3 2 0 "${slow[@]}" --device.rank_timeout 20
  if grep -aq 'this rollout will be made again' "$work/log"; then break; fi
done
((attempt < 5)) || fail "SIGTERM: it never came during a rollout"
[[ $status == 143 ]] || fail "SIGTERM to a rank: exit code $status: $(tail -n 5 "$work/log")"
[[ $(sqlite3 "$work/term/run.db" 'select status from run') == interrupted ]] || fail "SIGTERM: status in the run log"
[[ $(grep -ac 'error: interrupted by SIGTERM' "$work/log") == 1 ]] || fail "SIGTERM: said once in: $(cat "$work/log")"
pass on 2 "${slow[@]}" --run.dir "$work/term"
same_files "$work/slow/adapter" "$work/term/adapter"
note "SIGTERM to one rank during a rollout: all give it up, save once and end"

signalled STOP "$work/stopped" 6 2 1 "${long[@]}" --device.rank_timeout 2
[[ $status == 7 ]] || fail "a rank that hangs: exit code $status: $(tail -n 5 "$work/log")"
tr -d '\0' <"$work/log" | grep -q 'for 2 s from rank 1 on ' || fail "no word of who hangs: $(cat "$work/log")"
note "a rank that hangs is named after device.rank_timeout"

said_once 4 '3 steps were left out, and run.max_skipped is 2' "${ppo[@]}" --run.dir "$work/nan" --ppo.batch_size 8 \
  --optim.lr 1e39 --optim.schedule constant --run.max_skipped 2
grep -a 'first at the answer of episode [0-9]* as the weights are now' "$work/log" >"$work/far" || fail "no word of where: $(cat "$work/log")"
note "losses that are not finite end all ranks"
cp "$work/whole-2/done.json" "$work/done"
said_once 0 '"updates": 40' "${long[@]}" --run.dir "$work/whole-2"
cmp "$work/done" "$work/whole-2/done.json" || fail "a finished run was written again"
said_once 0 '"ok": true' "${gae[@]}" --run.dir "$work/checked" --check
[[ ! -e $work/checked/run.db ]] || fail "--check wrote a run"
said_once 2 'data.prompts: - is a pipe, which only one of the 2 ranks could read' "${ppo[@]}" --run.dir "$work/pipe" --data.prompts -
note "results and errors are said once"

# A rank has the cache of its own answers alone.
rollout() { awk '/activations or rollout/ { print $(NF - 1) * ($NF == "MiB" ? 1024 : 1) }' "$work/log"; }
wide=("${ppo[@]}" --run.dir "$work/plan" --rollout.max_new_tokens 100 --ppo.batch_size 64 --optim.micro_batch_tokens 200 --check)
pass on 1 "${wide[@]}"
one=$(rollout)
pass on 2 "${wide[@]}"
holds "$(rollout) < 0.6 * $one && $(rollout) > 0.4 * $one"
note "the plan of a rank has its own answers"
