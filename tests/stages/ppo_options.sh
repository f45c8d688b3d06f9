#!/usr/bin/env bash
# What the options of the ppo stage do, as its run log shows it, and what the log and the command line contain.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 8
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --data.reference "$world/sft.jsonl" \
  --run.dir "$work/rm" --optim.batch_size 8 --optim.epochs 4 --optim.lr 2e-3
pass "$bin/sft" --model.path "$work/sft/model" --data.train "$world/sft.jsonl" --run.dir "$work/sft-lora" --optim.max_steps 4 \
  --optim.lr 1e-2 --lora.enabled

# ppo NAME ARGUMENTS...: a run of six updates, of the questions in `prompts`.
prompts=$world/prompts.jsonl
ppo() {
  local name=$1
  shift
  pass "$bin/ppo" --model.path "$work/sft/model" --reward.path "$work/rm/model" --data.prompts "$prompts" \
    --run.dir "$work/$name" --ppo.total_episodes 96 --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 \
    --rollout.max_new_tokens 8 --rollout.temperature 1 --optim.lr 1e-3 --optim.micro_batch_tokens 512 --json "$@"
}
at() { # NAME METRIC STEP
  sqlite3 "$work/$1/run.db" "select value from metric where name = '$2' and step = $3"
}

# The log of a plain run: every metric of every update, and samples.
ppo plain --data.eval "$world/prompts.jsonl" --ppo.samples_logged 3
[[ $(jq -r .updates "$work/out") == 6 && $(jq -r .episodes "$work/out") == 96 ]] || fail "result: $(cat "$work/out")"
for name in reward score score_std score_ended score_judged kl kl_coef entropy length eos_rate empty_rate sampler_error \
  sampler_error_max sampler_kl advantage_std return_std explained_variance policy_loss clip_fraction approx_kl ratio ratio_bounded \
  first_ratio_error value_loss value_clip_fraction steps; do
  [[ $(sqlite3 "$work/plain/run.db" "select count(value) from metric where name = 'ppo/$name'") == 6 ]] || fail "ppo/$name"
done
for name in grad_norm critic_grad_norm lr critic_lr tokens_per_second; do
  [[ $(sqlite3 "$work/plain/run.db" "select count(value) from metric where name = 'train/$name'") == 6 ]] ||
    fail "train/$name"
done
for name in score kl length eos_rate; do # before the first update and after the last
  [[ $(sqlite3 "$work/plain/run.db" "select group_concat(step) from metric where name = 'eval/$name'") == 0,6 ]] ||
    fail "eval/$name"
done
[[ $(sqlite3 "$work/plain/run.db" 'select count(*), count(distinct step), min(length) > 0, min(finished) >= 0,
  max(finished) <= 1, min(length(prompt)) > 0 from sample') == '18|6|1|1|1|1' ]] || fail "samples"
[[ $(sqlite3 "$work/plain/run.db" 'select stage, status from run') == 'ppo|done' ]] || fail "the run's row"
[[ $(sqlite3 "$work/plain/run.db" 'select count(*) from event where step = -1') -gt 5 ]] || fail "events"
[[ $(sqlite3 "$work/plain/run.db" "select group_concat(step) from event where text like 'eval at%'") == 0,6 ]] || fail "evaluations among the events"
grep -q 'peak memory' "$work/log" || fail "no peak memory"
for step in 1 4; do # what the names mean: reward = score - kl_coef * kl
  holds "($(at plain ppo/reward $step) - ($(at plain ppo/score_judged $step) - 0.05 * $(at plain ppo/kl $step))) ^ 2 < 1e-12"
done
holds "$(at plain ppo/first_ratio_error 1) < 1e-5 && $(at plain ppo/first_ratio_error 5) < 1e-5"
holds "$(at plain train/lr 1) == 1e-3 && $(at plain train/lr 4) == 5e-4" # linear
ppo warm --ppo.total_episodes 48 --optim.warmup_steps 2 --optim.schedule constant --ppo.critic_lr 3e-3 # no update at rate 0
for step in 1 2 3; do
  holds "($(at warm train/lr $step) - 1e-3 * $step / 3) ^ 2 < 1e-18 && ($(at warm train/critic_lr $step) - 3e-3 * $step / 3) ^ 2 < 1e-18"
done
note "metrics and samples"

# Adaptive KL: Ziegler's rule, from the logged KL of each update.
ppo adaptive --ppo.kl_adaptive --ppo.kl_target 0.5 --ppo.kl_horizon 64 --optim.lr 5e-3
for step in 1 2 3 4 5; do
  holds "$(awk -v beta="$(at adaptive ppo/kl_coef $step)" -v kl="$(at adaptive ppo/kl $step)" \
    -v next_beta="$(at adaptive ppo/kl_coef $((step + 1)))" 'BEGIN {
      e = kl / 0.5 - 1; e = e > 0.2 ? 0.2 : e < -0.2 ? -0.2 : e
      d = next_beta - beta * (1 + e * 16 / 64)
      print (d < 1e-9 && d > -1e-9) }') == 1"
done
holds "$(at adaptive ppo/kl_coef 2) < 0.05" # no KL yet
note "kl_adaptive"

# target_kl: the second minibatch of each rollout is already too far; without it all four steps are taken.
ppo target --ppo.target_kl 1e-9
for step in 1 3 6; do
  holds "$(at target ppo/steps $step) == 1 && $(at plain ppo/steps $step) == 4"
done
note "target_kl"

# ptx: its loss is in the log and falls; it counts in the gradient.
ppo ptx --data.ptx "$world/text.jsonl" --ppo.ptx_coef 2 --optim.schedule constant
holds "$(at ptx ppo/ptx_loss 6) < 0.9 * $(at ptx ppo/ptx_loss 1)"
[[ -z $(at plain ppo/ptx_loss 1) ]] || fail "ptx_loss without ptx"
holds "$(at ptx train/grad_norm 1) != $(at plain train/grad_norm 1)"
note "ptx"

# EMA: a running mean beside the result. With a decay near 1 it stays at the start.
ppo ema --ppo.ema 0.5
same_files "$work/plain/model" "$work/ema/model" # it changes nothing
differ "$work/ema/model/model.safetensors" "$work/ema/ema/model/model.safetensors"
ppo slow --ppo.ema 0.999999
logprobs() {
  pass "$bin/inspect" logprobs --model "$1" --ids 5,6,7,8 --json
  jq '.logprobs | add' "$work/out"
}
holds "($(logprobs "$work/slow/ema/model") - $(logprobs "$work/sft/model")) ^ 2 < 1e-6"
holds "($(logprobs "$work/plain/model") - $(logprobs "$work/sft/model")) ^ 2 > 1e-6"
note "ema"

# Answers that do not end.
for rule in replace subtract keep; do
  ppo $rule --rollout.max_new_tokens 1 --ppo.missing_eos $rule --ppo.missing_eos_penalty 3
  holds "$(at $rule ppo/eos_rate 1) < 1"
done
holds "$(at keep ppo/score_judged 1) == $(at keep ppo/score 1)"
holds "($(at subtract ppo/score_judged 1) - $(at subtract ppo/score 1) + 3 * (1 - $(at subtract ppo/eos_rate 1))) ^ 2 < 1e-9"
ppo unfinished --rollout.max_new_tokens 1 --ppo.missing_eos_penalty 3 --rollout.temperature 0.01 # nothing ends at once
holds "$(at unfinished ppo/eos_rate 1) == 0 && $(at unfinished ppo/score_judged 1) == -3"
note "missing_eos"

# The sampler and the trainer are at the same temperature, whatever it is. The rewards are those of the estimator.
ppo cool --rollout.temperature 0.3
ppo hot --rollout.temperature 2.5 --ppo.kl_estimator k2 --ppo.kl_coef 1 --ppo.whiten_rewards --ppo.samples_logged 16
for run in cool hot; do
  for step in 1 6; do
    holds "$(at $run ppo/sampler_error $step) < 1e-5 && $(at $run ppo/sampler_error_max $step) < 1e-3 && $(at $run ppo/sampler_kl $step) < 1e-8"
    holds "$(at $run ppo/first_ratio_error $step) < 1e-5"
  done
done
holds "$(at cool ppo/entropy 1) < 0.7 * $(at plain ppo/entropy 1) && $(at hot ppo/entropy 1) > 1.3 * $(at plain ppo/entropy 1)"
penalty="($(at hot ppo/score_judged 6) - $(at hot ppo/reward 6))" # k2 is not k1, and positive
holds "$penalty > 0 && ($penalty - $(at hot ppo/kl 6)) ^ 2 > 1e-4"
[[ $(sqlite3 "$work/hot/run.db" "select abs(avg(reward) - (select value from metric where name = 'ppo/reward' and step = 6))
  < 1e-5 from sample where step = 6") == 1 ]] || fail "the samples' rewards are not ppo/reward"
holds "$(at plain ppo/ratio_bounded 6) == 0"
note "temperature"

# The ids beside the text of a sample are the answer: they decode to it.
sample() { sqlite3 "$work/plain/run.db" "select $1 from sample order by rowid limit 1"; }
pass "$bin/inspect" decode --model "$work/sft/model" --ids "$(sample response_ids)" --skip-special --json
[[ $(jq -r .text "$work/out") == "$(sample response)" ]] || fail "response_ids: $(sample response_ids) are not $(sample response)"
[[ $(sample "length(response_ids) - length(replace(response_ids, ',', '')) + 1 = length") == 1 ]] || fail "response_ids"
[[ $(sample prompt_ids) =~ ^[0-9]+(,[0-9]+)+$ ]] || fail "prompt_ids"
note "sample ids"

# What may go wrong unseen is said. A reward model without a zero point, and one whose scores lie below what an answer gets
# that does not end.
warned() { # NAME TEXT: among the events of a run
  [[ $(sqlite3 "$work/$1/run.db" "select count(*) from event where level = 'warning' and text like '%$2%'") == "${3:-1}" ]] ||
    fail "$1: expected $2 among the warnings: $(sqlite3 "$work/$1/run.db" 'select text from event')"
}
short=(--ppo.total_episodes 32)
warned plain 'zero point' 0
warned plain 'taught not to end' 0
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm-any" --optim.batch_size 8 \
  --optim.max_steps 1
ppo any "${short[@]}" --reward.path "$work/rm-any/model"
warned any 'the reward model has no zero point'
ppo any-subtract "${short[@]}" --reward.path "$work/rm-any/model" --ppo.missing_eos subtract
warned any-subtract 'zero point' 0
cp -r "$work/rm/model" "$work/rm-low"
jq '.score_shift += 20' "$work/rm/model/config.json" >"$work/rm-low/config.json"
ppo low "${short[@]}" --reward.path "$work/rm-low"
warned low 'zero point' 0
warned low 'the policy is taught not to end'
holds "$(at low ppo/score_ended 1) < -10"
# target_kl below what dropout alone makes of the first minibatch: no step at all.
ppo stuck "${short[@]}" --ppo.target_kl 1e-7 --lora.enabled --lora.dropout 0.5 --model.adapter "$work/sft-lora/adapter"
warned stuck 'update 1 made no step'
warned stuck '2 of 2 updates made no step'
holds "$(at stuck ppo/steps 1) == 0"
ppo unused "${short[@]}" --data.ptx "$world/text.jsonl" --ppo.kl_target 3 --ppo.missing_eos keep --ppo.missing_eos_penalty 2
for option in data.ptx ppo.kl_target ppo.missing_eos_penalty; do
  grep -q "$option.*no effect" "$work/log" || fail "$option is given in vain, and not a word: $(cat "$work/log")"
done
ppo still "${short[@]}" --optim.lr 0 --ppo.critic_warmup 2 --ppo.cliprange 0
warned still 'optim.lr 0: no update changes anything'
warned still 'ppo.critic_warmup 2: the run has 2 updates'
warned still 'ppo.cliprange 0: the narrowest limit, not none'
note "warnings"

# Limits and other terms.
ppo clip --ppo.reward_clip 0.25 --ppo.samples_logged 16
[[ $(sqlite3 "$work/clip/run.db" 'select max(abs(reward)) <= 0.25 + 1e-6 from sample where step = 1') == 1 ]] || fail "reward_clip"
ppo entropy --ppo.entropy_coef 1
holds "$(at entropy ppo/entropy 6) > $(at plain ppo/entropy 6)"
for option in "--ppo.kl_estimator k2" "--ppo.kl_estimator k3" "--ppo.whiten_rewards true" "--ppo.cliprange_value 0" \
  "--ppo.gamma 0.9" "--model.dtype bf16" "--ppo.critic_lr 1e-2" "--optim.name lion" "--ppo.cliprange_high 1" "--ppo.dual_clip 1.01" \
  "--ppo.loss_mean answer" "--ppo.loss_mean constant" "--ppo.kl_in loss" "--ppo.mask_cut true" \
  "--ppo.normalize_scores true" "--ppo.overlong_tokens 6" "--ppo.whiten_advantages false" "--ppo.lam_critic 1" "--ppo.lam_alpha 0.5" \
  "--ppo.critic_warmup 2"; do
  # shellcheck disable=SC2086 # an option and its value
  ppo "other${option//[^a-z0-9]/}" $option
  differ "$work/plain/model/model.safetensors" "$work/other${option//[^a-z0-9]/}/model/model.safetensors"
done
ppo recompute --model.recompute
same_files "$work/plain/model" "$work/recompute/model"
note "other options"

# Scores against those of reference answers: the sigmoid of the difference, with the answers' scores as the log has them and the references' as `inspect`
# reads them in whole conversations; for each answer by itself and in groups.
jq -c '{prompt, chosen: .completion, rejected: "no"}' "$world/sft.jsonl" | jq -sc 'unique_by(.prompt)[]' >"$world/pairs.jsonl"
jq -c '{prompt, completion: .chosen}' "$world/pairs.jsonl" >"$world/answered.jsonl"
pass "$bin/inspect" score --model "$work/rm/model" --data "$world/pairs.jsonl" --json
jq -c 'select(has("chosen")) | .chosen' "$work/out" | paste -d ' ' <(jq -c .prompt "$world/pairs.jsonl") - | jq -c --slurp '[range(0; length; 2) as $i | {(.[$i]): .[$i + 1]}] | add' >"$work/references"
for more in "" "--ppo.advantage rloo --ppo.samples_per_prompt 4" "--ppo.advantage remax --ppo.samples_per_prompt 2"; do
  # shellcheck disable=SC2086 # options and their values
  prompts=$world/answered.jsonl ppo "against${more//[^a-z]/}" $more --ppo.sigmoid_scores --ppo.kl_coef 0 --ppo.missing_eos keep --ppo.samples_logged 16
  sqlite3 -json "$work/against${more//[^a-z]/}/run.db" "select prompt, reward, json_extract(parts, '\$.model') as score from sample" |
    jq -e --slurpfile of "$work/references" 'length == 96 and all(.[]; (.reward - 1 / (1 + (($of[0][.prompt] - .score) | exp))) | fabs < 1e-4)
      and ([.[].reward] | max - min > 0.1)' >"$work/log" || fail "sigmoid_scores $more"
  holds "$(at "against${more//[^a-z]/}" ppo/reference_score 1) != 0"
done
refuse 3 "prompts.jsonl:1: ppo.sigmoid_scores: expected a reference answer in the record" "$bin/ppo" --model.path "$work/sft/model" \
  --reward.path "$work/rm/model" --data.prompts "$world/prompts.jsonl" --run.dir "$work/no" --ppo.sigmoid_scores --check
for other in --ppo.normalize_scores "--ppo.refill_rounds 1"; do
  # shellcheck disable=SC2086 # an option and its value
  refuse 2 "ppo.sigmoid_scores: expected false with $(sed "s/--//; s/ .*//" <<<"$other")" "$bin/ppo" --model.path "$work/sft/model" --reward.path "$work/rm/model" \
    --data.prompts "$world/answered.jsonl" --run.dir "$work/no" --ppo.sigmoid_scores $other
done
note "scores against reference answers"

# The command line.
expect 'ppo.kl_estimator' "$bin/ppo" --help all
pass "$bin/ppo" --model.path m --reward.path r --data.prompts p --run.dir d --print-config
jq -e '.optim.lr == 3e-6 and .ppo.kl_coef == 0.05 and .ppo.epochs == 4 and .ppo.lam == 0.95 and .ppo.batch_size == 512
  and .optim.clip == 0 and .rollout.temperature == 0.7 and .rollout.max_new_tokens == 53
  and .ppo.missing_eos == "replace" and .ppo.missing_eos_penalty == 1 and .optim.eps == 1e-5' "$work/out" >"$work/log" ||
  fail "defaults are not those of the N+ implementation details"
cp "$work/out" "$work/config.json"
pass "$bin/ppo" --config "$work/config.json" --print-config
cmp "$work/config.json" "$work/out" || fail "--print-config read back gives another configuration"
ppo check --check
[[ $(cat "$work/out") == '{"ok": true}' && ! -e $work/check/run.db ]] || fail "--check: $(cat "$work/out")"
grep -q 'activations or rollout' "$work/log" || fail "--check shows no memory plan"
echo "ppo: options do what they say"
