#!/usr/bin/env bash
# The peak of PPO lies within 5 % below its plan: without a critic and with one, with two reward models, over a base in 4 bits. The model is so large, and
# micro-batches so full, that the constant for program and libraries is less than an eighth; of many threads, whose buffers differ from run to run more, within 10 %. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
if [[ $(ldd "$bin/ppo") == *libasan* ]]; then exit 77; fi # its shadow of all memory is in no plan
make_world "$work/world"
world=$work/world
jq '.hidden_size = 512 | .intermediate_size = 1536 | .num_attention_heads = 8 | .num_key_value_heads = 8 | .num_hidden_layers = 6 |
  .vocab_size = 8000' "$world/model.json" >"$work/heavy.json"
pass "$bin/init" --config "$work/heavy.json" --tokenizer "$world/tokenizer" --out "$work/heavy" --seed 7
judge=("$bin/reward" --model.path "$work/heavy" --data.train "$world/prefs.jsonl" --optim.batch_size 2 --optim.max_steps 1)
pass "${judge[@]}" --run.dir "$work/rm" --lora.enabled --lora.r 4
pass "${judge[@]}" --run.dir "$work/rm-full"
for _ in {1..4}; do echo '{"prompt": "red door?"}'; done >"$work/prompts.jsonl"

within() { # within NAME MICRO OPTIONS...: a rollout of 16 answers that hardly ever end before their last token, and one step of all of them
  local name=$1 micro=$2 peak planned
  shift 2
  pass "$bin/ppo" --model.path "$work/heavy" --data.prompts "$work/prompts.jsonl" --ppo.total_episodes 16 --ppo.batch_size 16 \
    --ppo.samples_per_prompt 4 --ppo.minibatches 1 --ppo.epochs 1 --ppo.missing_eos keep --rollout.max_new_tokens 74 \
    --optim.micro_batch_tokens "$micro" --run.dir "$work/$name" "$@"
  read -r peak planned < <(sed -nE 's/^peak memory ([0-9.]+) MiB, planned ([0-9.]+) MiB$/\1 \2/p' "$work/log") || fail "$name: no peak in MiB: $(cat "$work/log")"
  holds "$planned >= 300 && $peak <= $planned && $peak >= ${least:-0.95} * $planned"
  rm -r "${work:?}/$name"
  note "$name: peak $peak MiB of $planned"
}
adapter="{\"kind\": \"model\", \"path\": \"$work/heavy\", \"adapter\": \"$work/rm/adapter\"}"
second="{\"kind\": \"model\", \"name\": \"second\", \"path\": \"$work/rm-full/model\"}"
within no_critic 640 --ppo.advantage rloo --reward.sources "[$adapter]"
grep -q 'no critic' "$work/log" || fail "$(cat "$work/log")"
alone=$(sed -n 's/^ *gradients  *//p' "$work/log")
within critic 320 --reward.path "$work/rm-full/model"
[[ -n $alone && $(sed -n 's/^ *gradients  *//p' "$work/log") == "$alone" ]] ||
  fail "the critic's gradients, expected in the memory of the actor's $alone: $(cat "$work/log")"
note "actor and critic have one memory for gradients"
within two_rewards 1280 --lora.enabled --reward.sources "[$adapter, $second]"
grep -q 'two frozen bases; adapters for actor, critic, reference and 2 reward models' "$work/log" || fail "$(cat "$work/log")"
within four_bits 1280 --lora.enabled --lora.r 128 --model.quantize nf4 --reward.sources "[$adapter]"
grep -q 'one frozen base; adapters for actor, critic, reference and reward' "$work/log" || fail "$(cat "$work/log")"
least=0.9 within sixteen_threads 1280 --device.threads 16 --lora.enabled --reward.sources "[$adapter, $second]"
echo "plan and peak of PPO"
