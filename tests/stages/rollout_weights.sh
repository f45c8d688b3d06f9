#!/usr/bin/env bash
# rollout.weights int8: PPO whose answers come from copies of its weights in 8 bits says how far they are from the policy's, of all weights
# and of an adapter, is killed and resumed to the bit, takes the memory that it plans, and refuses what would be of no use. $1: the folder
# of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
world=world
jq '.hidden_size = 64 | .intermediate_size = 128 | .initializer_range = 0.2' $world/model.json >model.json
pass "$bin/init" --config model.json --tokenizer $world/tokenizer --out base --seed 7
pass "$bin/reward" --model.path base --data.train $world/prefs.jsonl --lora.enabled --optim.lr 3e-3 --optim.batch_size 8 \
  --optim.max_steps 8 --optim.micro_batch_tokens 256 --run.dir reward

updates=6
ppo=("$bin/ppo" --model.path base --reward.path base --reward.adapter reward/adapter --data.prompts $world/prompts.jsonl
  --data.eval $world/prompts.jsonl --rollout.max_new_tokens 8 --rollout.temperature 1
  --ppo.total_episodes $((updates * 16)) --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 --optim.micro_batch_tokens 256
  --optim.lr 1e-3 --run.save_every 1)
narrow=(--rollout.weights int8)

at() { sqlite3 "$1/run.db" "select value from metric where name = '$2' and step = $3"; }
# Small, and not nothing; the ratio of the first minibatch is 1, for both of its sides are the exact policy's.
nearly() { # nearly RUN EXACT_RUN
  local step
  for ((step = 1; step <= updates; step++)); do
    holds "$(at "$1" ppo/sampler_kl $step) > 1e-6 && $(at "$1" ppo/sampler_kl $step) < 0.02"
    holds "$(at "$2" ppo/sampler_kl $step) < 1e-9"
    holds "$(at "$1" ppo/sampler_error $step) < 0.1 && $(at "$1" ppo/first_ratio_error $step) < 1e-5"
  done
}

pass "${ppo[@]}" --run.dir exact
if grep -q 'sampler kl' log; then fail "the KL of exact samples is printed"; fi
pass "${ppo[@]}" --rollout.weights exact --run.dir same
same_files exact/model same/model
timed "${ppo[@]}" "${narrow[@]}" --run.dir narrow
grep -qE '^ppo: .*sampler kl [0-9.e-]+' log || fail "the KL of the samples is not printed: $(tail -n 3 log)"
differ exact/model/model.safetensors narrow/model/model.safetensors
nearly narrow exact
# Copies that were not renewed would stay where the run began.
holds "$(at narrow ppo/sampler_kl $updates) < 10 * $(at narrow ppo/sampler_kl 1)"
holds "$(at narrow ppo/kl $updates) > 100 * $(at narrow ppo/sampler_kl $updates)"
killed_and_resumed killed $updates 3 "${ppo[@]}" "${narrow[@]}" --run.dir killed
same_files narrow/model killed/model
pass "${ppo[@]}" "${narrow[@]}" --run.dir company --rollout.batch 3
same_files narrow/model company/model
note "all weights: nearly the policy's samples; killed and resumed; rollout.batch does not matter"

lora=("${ppo[@]}" --lora.enabled)
pass "${lora[@]}" --run.dir exact-lora
timed "${lora[@]}" "${narrow[@]}" --run.dir narrow-lora
nearly narrow-lora exact-lora
killed_and_resumed killed-lora $updates 2 "${lora[@]}" "${narrow[@]}" --run.dir killed-lora
same_files narrow-lora/adapter killed-lora/adapter
note "adapters: the same"

# Copies and activations lie in the same memory; where copies are what counts, advice leaves them out.
# (On AVX2, since with AMX products of F32 weights need the larger workspace.)
few=(env DROVER_CPU=avx2 "${ppo[@]}" --optim.micro_batch_tokens 40 --model.recompute --rollout.batch 1 --run.dir check --check)
mebibytes() { awk -v line="$1" 'index($0, "  " line " ") == 1 { print $(NF - 1) * ($NF == "KiB" ? 1 / 1024 : 1) }' log; }
pass "${few[@]}"
wide=$(mebibytes 'activations or rollout') total=$(awk '$1 == "total" { print $2 }' log)
pass "${few[@]}" "${narrow[@]}"
beside=$(mebibytes 'activations or rollout')
holds "$beside > $wide"
refuse 5 'fits with rollout.weights exact (' "${few[@]}" "${narrow[@]}" --device.memory_limit "$(awk "BEGIN { print $total + ($beside - $wide) / 2 }")MiB"
note "the plan: $wide MiB, with copies in 8 bits $beside MiB; advice"

# A finished run goes on with others, and says so.
pass "${ppo[@]}" --run.dir exact --optim.schedule constant --ppo.total_episodes $((updates * 16 + 16)) "${narrow[@]}"
grep -q 'rollout.weights (was "exact", is "int8")' log || fail "not told: $(cat log)"
refuse 2 "rollout.weights: expected exact with model.quantize int8, since the policy's linears are in 8 bits already" "${lora[@]}" \
  "${narrow[@]}" --model.quantize int8 --run.dir none
jq '.hidden_size = 48 | .intermediate_size = 96' model.json >odd.json
pass "$bin/init" --config odd.json --tokenizer $world/tokenizer --out odd --seed 7
refuse 2 "rollout.weights int8: no linear of odd can be kept in 8 bits" "${ppo[@]}" --model.path odd \
  "${narrow[@]}" --run.dir none
note "told and refused"
echo "rollout_weights: answers from copies in 8 bits"
