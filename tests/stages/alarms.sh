#!/usr/bin/env bash
# Alarms: a reward that can be hacked raises its alarm before the held-out judge has fallen far, a healthy run none; stopping and going back
# (run.on_alarm), killed and resumed, and on two ranks. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 8

updates=32
ppo=("$bin/ppo" --model.path "$work/sft/model" --data.prompts "$world/prompts.jsonl" --lora.enabled --ppo.advantage reinforce_pp
  --ppo.batch_size 256 --ppo.total_episodes $((updates * 256)) --ppo.minibatches 2 --ppo.epochs 1 --ppo.missing_eos keep
  --rollout.max_new_tokens 16 --rollout.batch 256 --rollout.temperature 1 --optim.schedule constant --optim.lr 1.2e-4
  --optim.micro_batch_tokens 4096 --ppo.samples_logged 0 --run.save_every 5 --json)
# The longer the better, however it is said; nothing is learnt from whether it repeats itself.
gold='{"kind": "rules", "name": "gold", "weight": 0, "repetition": 1}'
hacked=(--ppo.kl_coef 0.001 --reward.sources "[{\"kind\": \"rules\", \"length\": 16}, $gold]")
query() { sqlite3 "$work/$1/run.db" "$2"; }
alarms() { query "$1" "select step, text from event where level = 'warning' and text like '%alarm %' order by step"; }
# killed_when CONDITION COMMAND...: starts the command and kills it once the condition holds, a command of the shell.
killed_when() {
  local condition=$1 job status=0
  shift
  "${yielding[@]}" "$@" >"$work/out" 2>"$work/log" </dev/null &
  job=$!
  until eval "$condition" || ! kill -0 $job 2>/dev/null; do pause; done
  kill -9 $job 2>/dev/null || true
  wait $job 2>/dev/null || status=$?
  [[ $status == 137 ]] || fail "over before it was killed: $condition: $(tail -n 3 "$work/log")"
}
metrics() { query "$1" "select step, name, value from metric where name not like '%per_second' order by step, name"; }

pass "${ppo[@]}" "${hacked[@]}" --run.dir "$work/hacked"
cp "$work/log" "$work/hacked.log"
at=$(query hacked "select step from event where text like '%: alarm heldout: gold falls while the score rises%'")
grep -q "^warning: update $at: alarm heldout: gold falls" "$work/hacked.log" || fail "no warning: $(cat "$work/hacked.log")"
grep -q 'the reward is being exploited: read the samples, mend it, or raise ppo.kl_coef' "$work/hacked.log" || fail "no remedy"
mean() { query "$1" "select avg(value) from metric where name = '$2' and step > $3 - 8 and step <= $3"; } # of eight updates
holds "$(mean hacked ppo/reward/gold 8) - $(mean hacked ppo/reward/gold "$at") < 0.05"
holds "$(mean hacked ppo/reward/gold 8) - $(mean hacked ppo/reward/gold $updates) > 0.05" # and then it does
holds "$(mean hacked ppo/score "$at") > $(mean hacked ppo/score 8)"
note "the reward is hacked, said at update $at"

healthy=(--reward.sources "[{\"kind\": \"rules\", \"length\": 4}, $gold]")
pass "${ppo[@]}" "${healthy[@]}" --run.dir "$work/healthy"
[[ -z $(alarms healthy) ]] || fail "a healthy run: $(alarms healthy)"
holds "$(mean healthy ppo/score $updates) > $(mean healthy ppo/score 8)"
note "a healthy run raises none"

# Killed and resumed across the alarm: the same alarms, once, and the same bytes.
again=("${ppo[@]}" "${hacked[@]}" --run.dir "$work/hacked-killed")
killed_when "reached '$work/hacked-killed' 20" "${again[@]}" # gauges are full
killed_when "reached '$work/hacked-killed' 25" "${again[@]}" # it is raised
pass "${again[@]}"
same_files "$work/hacked/adapter" "$work/hacked-killed/adapter"
[[ $(alarms hacked) == "$(alarms hacked-killed)" ]] || fail "other alarms: $(alarms hacked), and $(alarms hacked-killed)"
note "killed and resumed"

# Stopped: saved at that update, and again so; then on with a warning.
refuse 8 "update $at: stopped by an alarm (heldout); it is saved in $work/stopped/checkpoints/step-$at" \
  "${ppo[@]}" "${hacked[@]}" --run.dir "$work/stopped" --run.on_alarm stop
[[ $(query stopped 'select status from run') == stopped ]] || fail "status: $(query stopped 'select status from run')"
refuse 8 "stopped by an alarm (heldout)" "${ppo[@]}" "${hacked[@]}" --run.dir "$work/stopped" --run.on_alarm stop
[[ $(checkpoint_step "$work/stopped") == "$at" && ! -e $work/stopped/done.json ]] || fail "it went on"
pass "$bin/export" "$work/stopped" --out "$work/exported"
pass "${ppo[@]}" "${hacked[@]}" --run.dir "$work/stopped"
same_files "$work/hacked/adapter" "$work/stopped/adapter"
note "stopped"

# Back: to a checkpoint of run.save_every from before, with half the rate and twice the coefficient; killed and resumed to the same.
back=("${ppo[@]}" "${hacked[@]}" --run.on_alarm rollback --run.rollbacks 1 --run.keep 5 --ppo.total_episodes $(((at + 2) * 256)))
pass "${back[@]}" --run.dir "$work/back"
to=$(query back "select step from event where text like '%the run has gone back to update%'")
[[ $to == 5 ]] || fail "it has gone back to update $to: $(alarms back)" # all was well at update 8, and there is one each 5
grep -q "update $at: alarm (heldout): the run has gone back to update $to, time 1 of run.rollbacks 1, and goes on with 0.5 of the rates" "$work/log" ||
  fail "$(cat "$work/log")"
value() { query back "select value from metric where name = '$1' and step = $2"; }
holds "$(value train/lr $to) == 1.2e-4 && $(value train/lr $((to + 1))) == 0.6e-4 && $(value ppo/kl_coef $((to + 1))) == 0.002"
[[ $(metrics back | grep -c ppo/score_std) == $((at + 2)) ]] || fail "updates in the log"
again=("${back[@]}" --run.dir "$work/back-killed")
killed_when "reached '$work/back-killed' 20" "${again[@]}"
killed_when "grep -q 'gone back' '$work/log'" "${again[@]}"
(($(checkpoint_step "$work/back-killed") < 20)) || fail "checkpoints from before it has gone back are there still"
killed_when "reached '$work/back-killed' $((to + 5))" "${again[@]}"
pass "${again[@]}"
same_files "$work/back/adapter" "$work/back-killed/adapter"
[[ $(metrics back) == "$(metrics back-killed)" ]] || fail "the run logs differ"
note "gone back"

# Learning by heart, and a rate that is far too large.
head -n 10 "$world/sft.jsonl" >"$world/few.jsonl"
tail -n 30 "$world/sft.jsonl" >"$world/others.jsonl"
sft=("$bin/sft" --model.path "$world/base" --data.train "$world/few.jsonl" --data.eval "$world/others.jsonl" --optim.schedule constant
  --optim.batch_size 5 --optim.epochs 30 --run.eval_every 4 --run.save_every 4)
pass "${sft[@]}" --run.dir "$work/by-heart" --optim.lr 1e-2
alarms by-heart | grep -q "alarm eval: the evaluation's loss rises while that of training falls" || fail "by heart: $(alarms by-heart)"
refuse 8 'stopped by an alarm (eval)' "${sft[@]}" --run.dir "$work/heart-stopped" --optim.lr 1e-2 --run.on_alarm stop
pass "${sft[@]}" --run.dir "$work/others" --optim.lr 1e-2 --run.on_alarm stop --run.alarms loss,gradient
[[ -z $(alarms others) ]] || fail "an alarm that is left out: $(alarms others)"
pass "${sft[@]}" --run.dir "$work/heart-back" --optim.lr 1e-2 --run.on_alarm rollback --run.rollbacks 20 --run.keep 20
[[ $(query heart-back "select count(*) from event where text like '%gone back%'") -ge 1 ]] || fail "$(alarms heart-back)"
# Two checkpoints do not reach far enough, and then it ends.
refuse 8 'stopped by an alarm (eval), for run.rollbacks are used up' "${sft[@]}" --run.dir "$work/worn" --optim.lr 1e-2 \
  --run.on_alarm rollback --run.rollbacks 1 --run.keep 2
grep -q 'none from before update [0-9]* is left: a larger run.keep keeps some' "$work/log" || fail "$(cat "$work/log")"
refuse 8 'stopped by an alarm (eval), for no earlier checkpoint is left' "${sft[@]}" --run.dir "$work/alone" --optim.lr 1e-2 \
  --run.on_alarm rollback --run.keep 1
note "learning from data"

# On two ranks all do the same.
if "$drover" launch --help >"$work/launch" 2>&1; then
  refuse 8 'stopped by an alarm (eval)' "$drover" launch -n 2 "${sft[@]}" --run.dir "$work/ranks" --optim.lr 1e-2 --run.on_alarm stop
  pass "$drover" launch -n 2 "${sft[@]}" --run.dir "$work/ranks-back" --optim.lr 1e-2 --run.on_alarm rollback --run.rollbacks 20 --run.keep 20
  [[ $(query ranks-back "select count(*) from event where text like '%gone back%'") -ge 1 ]] || fail "$(alarms ranks-back)"
  note "two ranks"
fi

refuse 2 "run.alarms: there is no alarm 'held_out'; there are: all, none, heldout, reward" "${sft[@]}" --run.dir "$work/no" --run.alarms held_out --check
refuse 2 'run.on_alarm rollback: expected run.save_every of 1 or more' "${sft[@]}" --run.dir "$work/no" --run.on_alarm rollback \
  --run.save_every 0 --check
echo "alarms: raised, stopped by, gone back at"
