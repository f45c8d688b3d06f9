#!/usr/bin/env bash
# rollout.repetition_penalty, min_new_tokens, stop, max_new_tokens_from and cache in ppo, sample and generate: PPO learns from the distribution that it samples
# from, is killed and resumed to the bit, and nothing depends on the batch. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
pass "$bin/sft" --model.path world/base --data.train world/sft.jsonl --run.dir sft --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 8
pass "$bin/reward" --model.path sft/model --data.train world/prefs.jsonl --data.reference world/sft.jsonl --run.dir rm --optim.batch_size 8 \
  --optim.epochs 4 --optim.lr 2e-3

updates=8
ppo=("$bin/ppo" --model.path sft/model --reward.path rm/model --data.prompts world/prompts.jsonl --lora.enabled
  --ppo.total_episodes $((updates * 16)) --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 8
  --rollout.temperature 1 --optim.lr 3e-3 --optim.micro_batch_tokens 256 --ppo.entropy_coef 0.01 --ppo.samples_logged 16 --run.save_every 1)
at() { # RUN METRIC STEP
  sqlite3 "$1/run.db" "select value from metric where name = '$2' and step = $3"
}
edits=(--rollout.repetition_penalty 1.5 --rollout.min_new_tokens 3)

pass "${ppo[@]}" --run.dir plain
timed "${ppo[@]}" "${edits[@]}" --run.dir edited
differ plain/adapter/adapter_model.safetensors edited/adapter/adapter_model.safetensors
for ((step = 1; step <= updates; step++)); do # the training forward has the sampler's distribution
  holds "$(at edited ppo/sampler_error $step) < 1e-5 && $(at edited ppo/sampler_error_max $step) < 1e-3 && $(at edited ppo/sampler_kl $step) < 1e-8"
  holds "$(at edited ppo/first_ratio_error $step) < 1e-5"
done
holds "$(at edited ppo/kl 1) ^ 2 < 1e-10 && $(at edited ppo/kl $updates) > 1e-3" # so has the reference
[[ $(sqlite3 edited/run.db 'select min(length) from sample') -ge 4 ]] || fail "an answer ended too soon" # three tokens and the end mark
[[ $(sqlite3 plain/run.db 'select min(length) from sample') -lt 4 ]] || fail "no answer would have ended sooner"
note "penalty and least length in ppo"

killed_and_resumed killed $updates 3 "${ppo[@]}" "${edits[@]}" --run.dir killed
same_files edited/adapter killed/adapter
pass "${ppo[@]}" "${edits[@]}" --run.dir company --rollout.batch 3
same_files edited/adapter company/adapter
note "killed and resumed; rollout.batch does not matter"

# Answers of several lengths: those to one prompt may be equally long, and cut answers have different lengths.
lengths=("${ppo[@]}" --ppo.advantage rloo --ppo.samples_per_prompt 4 --rollout.max_new_tokens_from 1)
timed "${lengths[@]}" --run.dir lengths
cut_lengths() { sqlite3 "$1/run.db" "select count(distinct length) from sample where not finished"; }
[[ $(cut_lengths lengths) -ge 4 ]] || fail "cut answers have $(cut_lengths lengths) lengths"
[[ $(sqlite3 lengths/run.db "select count(*) from (select 1 from (select *, (rowid - 1) / 4 as prompt_of from sample) where not finished
  group by prompt_of having count(distinct length) > 1)") == 0 ]] || fail "answers to one prompt were cut at different lengths"
killed_and_resumed lengths-killed $updates 2 "${lengths[@]}" --run.dir lengths-killed
same_files lengths/adapter lengths-killed/adapter
note "several lengths"

# A cache that is too small for all: answers wait for each other and give up their places, and are the same.
long=("${ppo[@]}" --ppo.total_episodes 32 --rollout.max_new_tokens 40 --rollout.min_new_tokens 30)
pass "${long[@]}" --run.dir wide
pass "${long[@]}" --run.dir narrow --rollout.cache 56KiB
grep -q 'gave up its place in the full cache' "$work/log" || fail "no answer gave up its place"
same_files wide/adapter narrow/adapter
refuse 5 'a KV cache of 1024 bytes holds' "${ppo[@]}" --run.dir x --rollout.cache 1KiB
note "a small cache"

# An answer that meets a stop string has ended: it keeps its score.
pass "${ppo[@]}" --rollout.stop '["yes","no"]' --ppo.missing_eos_penalty 50 --run.dir stops
[[ $(sqlite3 stops/run.db "select count(*) > 50 and count(*) = sum(finished) from sample where response like '%yes%' or response like '%no%'") == 1 ]] ||
  fail "stopped answers: $(sqlite3 stops/run.db "select response, finished, length from sample limit 20")"
[[ $(sqlite3 stops/run.db "select max(length(response) - max(instr(response, 'yes'), instr(response, 'no'))) from sample where finished and (response like '%yes%' or response like '%no%')") -le 2 ]] ||
  fail "answers go on after a stop"
holds "$(at stops ppo/eos_rate 1) > $(at plain ppo/eos_rate 1) - 0.2"
note "stop strings in ppo"

# generate and sample: the same answers alone and in company, and those of both alike.
options=(--repetition-penalty 1.5 --min-new-tokens 3 --stop yes)
generate=("$bin/generate" --model sft/model --prompts world/prompts.jsonl --chat --max-new-tokens 10 --n 4 --seed 3 --json --logprobs)
pass "${generate[@]}" "${options[@]}"
cp out together
pass "${generate[@]}" "${options[@]}" --batch 3 --prefill-chunk 2
cmp out together || fail "an answer depends on its company"
jq -se 'all(.[]; .finished != "eos" or (.ids | length) > 3) and any(.[]; .finished == "stop") and all(.[]; .response | contains("yes") | not)' together >/dev/null ||
  fail "generate: $(head -3 together)"
pass "${generate[@]}"
jq -se 'any(.[]; .finished == "eos" and (.ids | length) <= 3)' out >/dev/null || fail "no answer would have ended sooner"
pass "$bin/sample" --model.path sft/model --reward.path rm/model --data.prompts world/prompts.jsonl --rollout.max_new_tokens 10 --sample.n 4 \
  --run.seed 3 "${edits[@]}" --rollout.stop yes --run.dir best
cmp <(jq -r .response together) <(jq -r '.answers[].text' best/answers.jsonl) || fail "sample answers otherwise than generate"
note "generate and sample"

# Evaluations at their own temperature, of several answers.
evaluated=("${ppo[@]}" --data.eval world/prompts.jsonl --ppo.total_episodes 32)
pass "${evaluated[@]}" --run.dir once --rollout.eval_temperature 1
pass "${evaluated[@]}" --run.dir same
pass "${evaluated[@]}" --run.dir often --rollout.eval_samples 5
pass "${evaluated[@]}" --run.dir greedy --rollout.eval_temperature 0 --rollout.eval_samples 2
for run in once often greedy; do same_files same/adapter $run/adapter; done # learning goes on as without
first() { metric "$1" "eval/$2" first; }
holds "$(first once score) == $(first same score) && $(first once kl) ^ 2 < 1e-10"
holds "$(first often score) != $(first same score) && ($(first often score) - $(first same score)) ^ 2 < 1"
holds "$(first often score_best) > $(first often score) + 0.5"
holds "$(first greedy score_best) == $(first greedy score) && $(first greedy score) != $(first same score)"
[[ -z $(first same score_best) ]] || fail "the best of one answer"
pass "$bin/generate" --model sft/model --prompts world/prompts.jsonl --chat --max-new-tokens 8 --temperature 0 --json
holds "($(jq -s '[.[].ids | length] | add / length' out) - $(first greedy length)) ^ 2 < 1e-9"
pass "${evaluated[@]}" --run.dir same --ppo.total_episodes 48 --optim.schedule constant --rollout.eval_samples 3
grep -q 'rollout.eval_samples (was 1, is 3): evaluations before and after are of other answers' log || fail "not told: $(cat log)"
note "evaluations"

refuse 2 'rollout.min_new_tokens: expected at most the longest answer, 8 tokens, found 9' "${ppo[@]}" --rollout.min_new_tokens 9 --run.dir x
refuse 2 '--min-new-tokens: expected at most' "${generate[@]}" --min-new-tokens 11
refuse 2 'stop: expected texts, found an empty one' "${ppo[@]}" --rollout.stop '["a",""]' --run.dir x
refuse 2 'rollout.repetition_penalty (was 1.5, is 1.4)' "${ppo[@]}" "${edits[@]}" --rollout.repetition_penalty 1.4 --run.dir edited
refuse 2 'rollout.max_new_tokens_from: expected from rollout.min_new_tokens 3 to rollout.max_new_tokens 8, found 9' "${ppo[@]}" "${edits[@]}" --rollout.max_new_tokens_from 9 --run.dir x
refuse 2 'rollout.max_new_tokens_from: expected from rollout.min_new_tokens 3 to rollout.max_new_tokens 8, found 2' "${ppo[@]}" "${edits[@]}" --rollout.max_new_tokens_from 2 --run.dir x
mkdir capped # Gemma 2 caps its logits
cat >capped/config.json <<'END'
{"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
 "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "final_logit_softcapping": 30.0,
 "attn_logit_softcapping": 50.0, "query_pre_attn_scalar": 16, "sliding_window": 64, "tie_word_embeddings": true}
END
check=("$bin/ppo" --model.path capped --reward.path capped --lora.enabled --check --data.max_length 64)
pass "${check[@]}"
refuse 2 'the logits of capped are capped' "${check[@]}" --rollout.min_new_tokens 1
note "mistakes"
echo "rollout_sampling: all as expected"
