#!/usr/bin/env bash
# rollout.cache_dtype int8 and generate --cache-dtype: PPO whose answers come from a cache in 8 bits learns, is killed and resumed to
# the bit, says how far its samples are from the policy's, and takes the memory that it plans. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
world=world
jq '.hidden_size = 64 | .intermediate_size = 128 | .initializer_range = 0.2' $world/model.json >model.json
pass "$bin/init" --config model.json --tokenizer $world/tokenizer --out fresh --seed 7
pass "$bin/sft" --model.path fresh --data.train $world/sft.jsonl --optim.lr 2e-3 --optim.batch_size 8 --optim.epochs 8 --run.dir sft
mv sft/model base
pass "$bin/reward" --model.path base --data.train $world/prefs.jsonl --lora.enabled --optim.lr 3e-3 --optim.batch_size 8 \
  --optim.epochs 6 --optim.micro_batch_tokens 256 --run.dir reward

updates=12
ppo=("$bin/ppo" --model.path base --reward.path base --reward.adapter reward/adapter --data.prompts $world/prompts.jsonl
  --data.eval $world/prompts.jsonl --lora.enabled --rollout.max_new_tokens 8 --rollout.temperature 1
  --ppo.total_episodes $((updates * 16)) --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 --optim.micro_batch_tokens 256
  --optim.lr 3e-3 --run.save_every 1)
narrow=(--rollout.cache_dtype int8)
pass "${ppo[@]}" --run.dir wide
timed "${ppo[@]}" "${narrow[@]}" --run.dir narrow
grep -qE '^ppo: .*sampler kl [0-9.e-]+' log || fail "the KL of the samples is not printed: $(tail -n 3 log)"
differ wide/adapter/adapter_model.safetensors narrow/adapter/adapter_model.safetensors
holds "$(metric narrow eval/score) > $(metric narrow eval/score first)"
for ((step = 1; step <= updates; step++)); do
  at() { sqlite3 "$1/run.db" "select value from metric where name = '$2' and step = $step"; }
  holds "$(at narrow ppo/sampler_kl) > 1e-8 && $(at narrow ppo/sampler_kl) < 0.01 && $(at wide ppo/sampler_kl) < 1e-9"
  holds "$(at narrow ppo/sampler_error) < 0.1 && $(at narrow ppo/first_ratio_error) < 1e-5" # both sides are the training forward
done
note "learns; its samples are nearly the policy's"

killed_and_resumed killed $updates 3 "${ppo[@]}" "${narrow[@]}" --run.dir killed
same_files narrow/adapter killed/adapter
pass "${ppo[@]}" "${narrow[@]}" --run.dir company --rollout.batch 3 # how many there are at once is no part of an answer
same_files narrow/adapter company/adapter
note "killed and resumed; rollout.batch does not matter"

# Long answers, so that the cache is what counts: a code and its share of a scale for four bytes.
long=("${ppo[@]}" --rollout.max_new_tokens 400 --optim.micro_batch_tokens 450 --ppo.batch_size 128
  --rollout.batch 128 --model.recompute --run.dir check --check)
mebibytes() { awk -v line="$1" 'index($0, "  " line " ") == 1 { print $(NF - 1) * ($NF == "KiB" ? 1 / 1024 : 1) }' log; }
pass "${long[@]}"
wide=$(mebibytes 'activations or rollout') total=$(awk '$1 == "total" { print $2 }' log)
pass "${long[@]}" "${narrow[@]}"
holds "$(mebibytes 'activations or rollout') < 0.6 * $wide"
note "the plan: $wide MiB, in 8 bits $(mebibytes 'activations or rollout') MiB"
refuse 5 'or rollout.cache_dtype int8 (' "${long[@]}" --device.memory_limit "$(awk "BEGIN { print $total - 0.3 * $wide }")MiB"
note "advice"

# A finished run goes on with another, and says so.
pass "${ppo[@]}" --run.dir wide --optim.schedule constant --ppo.total_episodes $((updates * 16 + 16)) "${narrow[@]}"
grep -q 'rollout.cache_dtype (was "auto", is "int8")' log || fail "not told: $(cat log)"
refuse 2 'rollout.cache_dtype' "${ppo[@]}" --run.dir other --rollout.cache_dtype fp8

# generate: log-probabilities are those of the exact forward but for the codes; alone and in company the same answers.
generate=("$bin/generate" --model base --prompts $world/prompts.jsonl --max-new-tokens 12 --temperature 0.7 --seed 3 --json --logprobs)
pass "${generate[@]}" --batch 8 --cache-dtype int8
cp out together
pass "${generate[@]}" --batch 1 --prefill-chunk 2 --cache-dtype int8
cmp out together || fail "an answer depends on its company"
pass "${generate[@]}" --batch 8
jq -r '"\(.ids[0]) \(.logprobs[0])"' out >wide.txt
jq -r '"\(.ids[0]) \(.logprobs[0])"' together >narrow.txt
paste -d' ' wide.txt narrow.txt | awk '
  $1 == $3 { same++; d = $2 - $4; d = d < 0 ? -d : d; if (d > most) most = d }
  END { exit !(same > NR / 2 && most > 0 && most < 0.1) }' || fail "first tokens: $(paste wide.txt narrow.txt | head -n 4)"
note "generate"
echo "rollout_cache: a cache in 8 bits"
