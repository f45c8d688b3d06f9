#!/usr/bin/env bash
# PPO whose flat groups make room for further prompts (ppo.refill_rounds): no flat group is left, what is known of an answer stays with it, the
# bound holds and is said, a judge outside is asked of what is new alone, and killed runs end with the same bytes. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 6

updates=20
ppo=("$bin/ppo" --model.path "$work/sft/model" --data.prompts "$world/prompts.jsonl" --lora.enabled --ppo.advantage rloo --ppo.samples_per_prompt 4
  --ppo.total_episodes $((updates * 24)) --ppo.batch_size 24 --ppo.epochs 1 --rollout.max_new_tokens 8 --rollout.temperature 0.6 --ppo.missing_eos keep
  --ppo.drop_flat_groups --ppo.kl_coef 0.01 --optim.lr 1e-4 --optim.micro_batch_tokens 256 --ppo.samples_logged 24 --run.save_every 1 --json)
rule=(--reward.sources '{"kind": "rules", "format": "^yes", "weight": 2}')
query() { sqlite3 "$work/$1/run.db" "$2"; }
flat() { # groups of a run whose answers all have one score
  query "$1" "select count(*) from (select min(s) as least, max(s) as most from (select step, (row_number() over (order by rowid) - 1) / 4 as g,
    json_extract(parts, '\$.$2') as s from sample) group by step, g) where least = most"
}
total() { query "$1" "select sum(value) from metric where name = '$2'"; }

pass "${ppo[@]}" "${rule[@]}" --run.dir "$work/plain"
[[ $(flat plain rules) -gt 3 && -z $(total plain ppo/refilled) ]] || fail "too few flat groups: $(flat plain rules)"
[[ $(jq .episodes "$work/out") == $((updates * 24)) ]] || fail "$(cat "$work/out")"
pass "${ppo[@]}" "${rule[@]}" --run.dir "$work/full" --ppo.refill_rounds 50
[[ $(flat full rules) == 0 && $(total full ppo/left_out_rate) == 0.0 ]] || fail "flat groups are left: $(flat full rules)"
refilled=$(total full ppo/refilled) refilled=${refilled%.0}
((refilled > 3)) || fail "refilled: $refilled"
[[ $(jq .episodes "$work/out") == $((updates * 24 + 4 * refilled)) ]] || fail "$refilled prompts more: $(cat "$work/out")"
[[ $(query full "select count(*) from sample") == $((updates * 24)) ]] || fail "samples"
# What is said of an answer is said of this one, wherever it was moved; the share of flat groups is that of all that were sampled.
[[ $(query full "select count(*) from sample where json_extract(parts, '\$.rules.format') = (response like 'yes%')") == $((updates * 24)) ]] ||
  fail "parts of other answers: $(query full 'select response, parts from sample limit 9')"
[[ $(query full "select count(*) from metric as r join metric as f on f.step = r.step where r.name = 'ppo/refilled' and f.name = 'ppo/flat_group_rate'
  and abs(f.value - r.value / (6 + r.value)) < 1e-9") == "$updates" ]] || fail "ppo/flat_group_rate"
holds "$(query full "select max(abs(value)) from metric where name = 'ppo/first_ratio_error'") < 1e-5"
holds "$(query full "select max(abs(value)) from metric where name = 'ppo/sampler_error'") < 1e-5" # log-probabilities moved with their answers
# Other prompts, not the same ones once more (one comes twice where an epoch ends, or in the data).
holds "$(query full "select avg(n) from (select count(distinct prompt) as n from sample group by step)") > 5.8"
note "no flat group is left"

pass "${ppo[@]}" "${rule[@]}" --run.dir "$work/bounded" --ppo.refill_rounds 1
holds "$(flat bounded rules) > 0 && $(flat bounded rules) < $(flat plain rules)"
[[ $(query bounded "select count(*) from event where level = 'warning' and text like '%after 1 rounds of further prompts%'") == 1 ]] || fail "not a word of the bound"
note "the bound"

# A judge outside says nothing twice of one answer; a run that is killed and goes on has the same prompts, answers and bytes.
cat >"$work/judge.sh" <<'JUDGE'
#!/bin/sh
exec jq --unbuffered -c '.answer | startswith("yes") | if . then 2 else 0 end'
JUDGE
judge=(--reward.sources "{\"kind\": \"command\", \"command\": [\"sh\", \"$work/judge.sh\"]}")
timed "${ppo[@]}" "${judge[@]}" --run.dir "$work/judged" --ppo.refill_rounds 50
same_files "$work/full/adapter" "$work/judged/adapter"
[[ $(query judged "select count(*), count(distinct id) from reward") == "$((updates * 24 + 4 * refilled))|$((updates * 24 + 4 * refilled))" ]] || fail "asked again"
killed_and_resumed "$work/killed" $updates 3 "${ppo[@]}" "${judge[@]}" --run.dir "$work/killed" --ppo.refill_rounds 50
same_files "$work/full/adapter" "$work/killed/adapter"
[[ $(total killed ppo/refilled) == $(total full ppo/refilled) ]] || fail "other prompts after a kill"
note "judges outside, killed and resumed"

pass "${ppo[@]}" "${rule[@]}" --run.dir "$work/vain" --ppo.drop_flat_groups false --ppo.refill_rounds 2 --check
grep -q 'ppo.refill_rounds is given and has no effect' "$work/log" || fail "rounds in vain, and not a word"
echo "ppo: flat groups make room for others"
