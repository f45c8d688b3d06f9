#!/usr/bin/env bash
# PPO with a cost that is held at a threshold: what is in the log, the multiplier by its formula, cost models and their critic, exports, killed
# and resumed runs, and what is refused. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 4
reward=("$bin/reward" --model.path "$work/sft/model" --optim.batch_size 8 --optim.lr 1e-3 --lora.enabled)
pass "${reward[@]}" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" --optim.max_steps 6
# A cost model, of pairs as PKU-SafeRLHF has them: the answer that is not safe costs more than 0, and the other less.
jq -c '{prompt, response_0: .rejected, response_1: .chosen, better_response_id: 0, safer_response_id: 1, is_response_0_safe: false, is_response_1_safe: true}' \
  "$world/prefs.jsonl" >"$world/safe.jsonl"
safe=("${reward[@]}" --data.train "$world/safe.jsonl" --data.pair_label safer --reward.cost)
pass "${safe[@]}" --run.dir "$work/cm" --optim.epochs 20 --optim.lr 5e-3
grep -q 'next: drover ppo .*--reward.path REWARD .*--cost.adapter' "$work/out" || fail "no word of what comes next: $(cat "$work/out")"
pass "$bin/inspect" score --model "$work/sft/model" --adapter "$work/cm/adapter" --data "$world/prefs.jsonl" --json
[[ $(jq -s '[.[] | select(has("chosen"))] | ([.[] | select(.chosen < 0)] | length) > 0.8 * length and ([.[] | select(.rejected > 0)] | length) > 0.8 * length' "$work/out") == true ]] ||
  fail "the signs of costs: $(head -n 5 "$work/out")"
refuse 2 'data.pair_label: expected safer with reward.cost' "${safe[@]}" --run.dir "$work/no" --data.pair_label better
refuse 2 'data.reference: expected none with reward.cost' "${safe[@]}" --run.dir "$work/no" --data.reference "$world/sft.jsonl"
for check in '' --check; do
  refuse 3 'data.train: expected pairs that say which answers are safe' "${reward[@]}" --data.train "$world/prefs.jsonl" --data.pair_label safer --reward.cost --run.dir "$work/no" $check
done
note "a cost model"

updates=12
ppo=("$bin/ppo" --model.path "$work/sft/model" --data.prompts "$world/prompts.jsonl" --ppo.total_episodes $((updates * 16)) --ppo.batch_size 16
  --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 8 --rollout.temperature 1 --ppo.missing_eos keep --optim.lr 1e-3
  --optim.micro_batch_tokens 256 --ppo.samples_logged 16 --run.save_every 2 --json)
rm=(--reward.path "$work/sft/model" --reward.adapter "$work/rm/adapter")
cm=(--cost.path "$work/sft/model" --cost.adapter "$work/cm/adapter")
query() { sqlite3 "$work/$1/run.db" "$2"; }
at() { query "$1" "select value from metric where name = '$2' and step = $3"; }

# A rule that costs: it is no part of the score; lambda follows the mean over three rollouts, and waits for the first two.
rule='{"kind": "rules", "weight": 2, "length": 3}'
timed "${ppo[@]}" --run.dir "$work/rule" "${rm[@]}" --lora.enabled --cost.sources "$rule" --cost.threshold -0.9 --cost.lambda_lr 0.4 \
  --cost.lambda_delay 2 --cost.window 3 --data.eval "$world/prompts.jsonl"
[[ $(query rule "select count(*) from (select step, max(case name when 'ppo/cost' then value end) as cost, max(case name when 'ppo/cost/cost_rules' then value end) as said,
    max(case name when 'ppo/score' then value end) as score from metric where step > 0 group by step) as m
    where abs(cost - 2 * said) < 1e-6 and abs(score - (select avg(json_extract(parts, '\$.model')) from sample where sample.step = m.step)) < 1e-5") == "$updates" ]] ||
  fail "costs and scores in the log"
[[ $(query rule "select count(*) from (select step, avg(2 * json_extract(parts, '\$.cost_rules.length') <= -0.9) as safe from sample group by step) as s
    join metric as m on m.step = s.step and m.name = 'ppo/safe_rate' where abs(m.value - s.safe) < 1e-9") == "$updates" ]] || fail "ppo/safe_rate"
query rule "select value from metric where name = 'ppo/cost' order by step" >"$work/costs"
query rule "select value from metric where name = 'ppo/cost_lambda' order by step" >"$work/lambdas"
paste "$work/costs" "$work/lambdas" | awk 'BEGIN { l = 0 } { cost[NR] = $1
    if (NR > 2) { n = NR < 3 ? NR : 3; sum = 0; for (i = 0; i < n; i++) sum += cost[NR - i]; l += 0.4 * exp(l) * (sum / n + 0.9); if (l > log(5)) l = log(5) }
    d = $2 - exp(l); if (d * d > 1e-10) { print NR, $2, exp(l); bad = 1 } } END { exit bad || NR != '$updates' }' || fail "lambda"
[[ $(at rule ppo/cost_lambda 2) == 1.0 && $(at rule ppo/cost_lambda 3) != 1.0 ]] || fail "lambda_delay"
jq -e 'has("eval_cost") and has("eval_safe_rate")' "$work/out" >"$work/log" || fail "no cost in the result: $(cat "$work/out")"
note "a rule as a cost"

# A cost model: over the base of the others with LoRA, and a model of its own without; the critic of the costs begins as it.
for mode in true false; do
  pass "${ppo[@]}" --run.dir "$work/model-$mode" "${rm[@]}" "${cm[@]}" --lora.enabled $mode
  [[ $mode == true ]] && expected='one frozen base; adapters for actor, critic, critic of the costs, reference, reward and cost' ||
    expected='six models of their own weights: actor, critic, critic of the costs, reference, reward and cost'
  grep -q "$expected" "$work/log" || fail "$(grep -E 'frozen|own weights' "$work/log")"
  ! grep -q 'the cost model has no zero point' "$work/log" || fail "the zero point is learnt"
  [[ $(query "model-$mode" "select count(*) from metric where name = 'ppo/cost_value_loss'") == "$updates" ]] || fail "no critic of the costs"
done
[[ $(query model-true "select count(*) from metric where name like 'ppo/cost/%' or name like 'ppo/reward/%'") == 0 ]] || fail "parts of the short forms"
pass "$bin/export" "$work/model-true" --part cost_critic --out "$work/critic"
pass "$bin/inspect" score --model "$work/sft/model" --adapter "$work/critic" --data "$world/prefs.jsonl"
cmp -s "$work/critic/adapter_model.safetensors" "$work/cm/adapter/adapter_model.safetensors" && fail "the critic of the costs learnt nothing"
note "cost models"

killed_and_resumed "$work/killed" $updates 3 "${ppo[@]}" --run.dir "$work/killed" "${rm[@]}" --lora.enabled --cost.sources "$rule" --cost.threshold -0.9 \
  --cost.lambda_lr 0.4 --cost.lambda_delay 2 --cost.window 3 --data.eval "$world/prompts.jsonl"
same_files "$work/rule/adapter" "$work/killed/adapter"
[[ $(query rule "select step, name, value from metric where name not like '%per_second' order by step, name") == \
$(query killed "select step, name, value from metric where name not like '%per_second' order by step, name") ]] || fail "other metrics after a kill"
note "killed and resumed"

groups=("${ppo[@]}" "${rm[@]}" --lora.enabled --ppo.advantage rloo --ppo.samples_per_prompt 4 --ppo.total_episodes 32)
pass "${groups[@]}" --run.dir "$work/without"
for threshold in 100 -100; do
  pass "${groups[@]}" "${cm[@]}" --cost.threshold=$threshold --run.dir "$work/rloo$threshold"
done
pass "${groups[@]}" --cost.path "$work/sft/model" --cost.adapter "$work/rm/adapter" --run.dir "$work/anywhere"
grep -q 'the cost model has no zero point' "$work/log" || fail "no word of a threshold that means nothing"
differ "$work/rloo100/adapter/adapter_model.safetensors" "$work/without/adapter/adapter_model.safetensors"
holds "$(at rloo100 ppo/cost_lambda 2) < 1e-3 && $(at rloo-100 ppo/cost_lambda 2) == 5"
[[ $(query rloo-100 "select count(*) from event where text like '%the constraint does not hold%'") == 1 ]] || fail "no word of a constraint that does not hold"
refuse 2 '--part cost_critic: ' "$bin/export" "$work/rloo100" --part cost_critic
note "without a critic"

for check in '' --check; do
  refuse 2 'cost.lambda: expected more than 0' "${ppo[@]}" --run.dir "$work/no" "${rm[@]}" "${cm[@]}" --cost.lambda 0 $check
  refuse 2 'cost.lambda_max: expected at least cost.lambda 1, found 0.5' "${ppo[@]}" --run.dir "$work/no" "${rm[@]}" "${cm[@]}" --cost.lambda_max 0.5 $check
  refuse 2 'cost.sources and cost.path are both given' "${ppo[@]}" --run.dir "$work/no" "${rm[@]}" "${cm[@]}" --cost.sources "$rule" $check
  refuse 2 "'reward.path' or 'reward.sources' is required" "${ppo[@]}" --run.dir "$work/no" "${cm[@]}" $check
  refuse 2 "cost.sources[0]: 'name': 'model' is the name of reward.sources[0] already" "${ppo[@]}" --run.dir "$work/no" "${rm[@]}" \
    --cost.sources '{"kind": "rules", "length": 3, "name": "model"}' $check
done
expect 'the check found nothing wrong' "$bin/ppo" --config configs/ppo_cost.json --model.path "$work/sft/model" --data.prompts "$world/prompts.jsonl" \
  "${rm[@]}" "${cm[@]}" --model.dtype f32 --run.dir "$work/no" --check
! grep -q 'no effect' "$work/log" || fail "configs/ppo_cost.json: $(cat "$work/log")"
pass "${ppo[@]}" --run.dir "$work/vain" "${rm[@]}" --cost.threshold 1 --check
grep -q 'cost.threshold is given and has no effect' "$work/log" || fail "a threshold in vain, and not a word"
echo "ppo: a cost is held at its threshold"
