#!/usr/bin/env bash
# model.quantize nf4: all stages over a base in 4 bits, killed and resumed to the bit, decoded, merged; the same of int8; and what is
# refused. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
world=world ids=5,17,250,31,8,99,120,44,3,260,17,5
jq '.hidden_size = 64 | .intermediate_size = 128 | .initializer_range = 0.2' $world/model.json >model.json
pass "$bin/init" --config model.json --tokenizer $world/tokenizer --out fresh --seed 7
pass "$bin/sft" --model.path fresh --data.train $world/sft.jsonl --optim.lr 2e-3 --optim.batch_size 8 --optim.epochs 4 --run.dir first
mv first/model base # a base that has something to lose

logprobs() { # ARGUMENTS...: of the ids, one a line
  pass "$bin/inspect" logprobs --ids $ids --json "$@"
  jq '.logprobs[]' out
}
largest() { # FILE FILE: the largest difference between numbers, line by line
  paste "$1" "$2" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d } END { print most + 0 }'
}
weights() { sed -nE 's/^  weights +([0-9.]+) KiB$/\1/p' "$1"; } # LOG: of the plan

quantized=(--model.quantize nf4 --model.quantize_tables int8)
sft=("$bin/sft" --model.path base --data.train $world/sft.jsonl --optim.lr 5e-3 --optim.batch_size 8 --optim.epochs 4
  --optim.micro_batch_tokens 256 --lora.enabled --lora.r 4 --run.save_every 3)
timed "${sft[@]}" --run.dir wide
wide=$(weights log)
timed "${sft[@]}" "${quantized[@]}" --run.dir sft
holds "$(metric sft train/loss) < 0.95 * $(metric sft train/loss first)"
holds "$(metric sft train/loss first) > $(metric wide train/loss first) + 0.01" # what 4 bits cost before any training
holds "$(weights log) < 0.25 * $wide" # from F32: 4.127 and 8.5 bits, and the norms
differ wide/adapter/adapter_model.safetensors sft/adapter/adapter_model.safetensors
killed_and_resumed killed 36 2 "${sft[@]}" "${quantized[@]}" --run.dir killed
same_files sft/adapter killed/adapter
refuse 2 'model.quantize (was "nf4", is "none")' "${sft[@]}" --run.dir sft
refuse 2 'model.quantize_tables (was "int8", is "none")' "${sft[@]}" --model.quantize nf4 --run.dir sft
pass "${sft[@]}" "${quantized[@]}" --run.dir recomputed --model.recompute
same_files sft/adapter recomputed/adapter
note "sft, resumed"

# A matrix unit would round what enters a product of the full forward, and not what enters one of decoding.
export DROVER_CPU=avx2
# The base is the 4-bit one, in whatever computes with it: without it the adapter says something else.
logprobs --model base --adapter sft/adapter --quantize nf4 --quantize-tables int8 >four.txt
logprobs --model base --adapter sft/adapter >wide.txt
holds "$(largest four.txt wide.txt) > 1e-4"
pass "$bin/generate" --model base --adapter sft/adapter --quantize nf4 --quantize-tables int8 --ids 5,17,250 --max-new-tokens 12 \
  --temperature 0 --json --logprobs
jq '.logprobs[]' out >cached.txt
ids=5,17,250,$(jq -r '.ids | map(tostring) | join(",")' out) logprobs --model base --adapter sft/adapter --quantize nf4 \
  --quantize-tables int8 | tail -n +3 >full.txt
[[ $(wc -l <cached.txt) == $(wc -l <full.txt) ]] || fail "$(wc -l <cached.txt) log-probabilities"
holds "$(largest cached.txt full.txt) < 2e-5"
unset DROVER_CPU
note "cached decoding"

pass "$bin/reward" --model.path base --model.adapter sft/adapter --data.train $world/prefs.jsonl --data.eval $world/prefs_eval.jsonl \
  --lora.enabled --optim.lr 3e-3 --optim.batch_size 8 --optim.epochs 6 --optim.micro_batch_tokens 256 "${quantized[@]}" --run.dir reward
holds "$(metric reward eval/accuracy) > 0.8"
ppo=("$bin/ppo" --model.path base --model.adapter sft/adapter --reward.path base --reward.adapter reward/adapter --data.prompts
  $world/prompts.jsonl --lora.enabled --rollout.max_new_tokens 6 --ppo.total_episodes 192 --ppo.batch_size 32 --ppo.minibatches 2
  --ppo.epochs 2 --optim.micro_batch_tokens 256 --optim.lr 1e-3 --run.save_every 1 "${quantized[@]}")
timed "${ppo[@]}" --run.dir ppo
grep -q 'one frozen base; adapters for actor, critic, reference and reward' log || fail "the four roles do not share the base"
# The first minibatch's ratios are those of the sampled answers themselves.
killed_and_resumed ppo-killed 6 2 "${ppo[@]}" --run.dir ppo-killed
same_files ppo/adapter ppo-killed/adapter
# Two reward models and a rule over the same 4 bits: the plan has all of it.
sources='[{"kind": "ensemble", "path": "base", "adapters": ["reward/adapter", "reward/checked"]}, {"kind": "rules", "length": 4}]'
cp -r reward/adapter reward/checked
pass "$bin/ppo" --model.path base --model.adapter sft/adapter --reward.sources "$sources" --data.prompts $world/prompts.jsonl --lora.enabled \
  --rollout.max_new_tokens 6 --ppo.total_episodes 64 --ppo.batch_size 32 --optim.micro_batch_tokens 256 "${quantized[@]}" --run.dir sources
grep -q 'one frozen base; adapters for actor, critic, reference and 2 reward models' log || fail "the reward models do not share the base: $(cat log)"
peak=$(sed -nE 's/.*peak memory ([0-9.]+) MiB, planned ([0-9.]+) MiB$/\1 <= \2/p' log)
[[ $peak ]] || fail "no peak memory: $(cat log)"
holds "$peak"
note "reward, ppo, resumed"

# Into the values of the 4 bits, as identity.json says that it was trained, and into the base as it is filed. stages/merge has the rest.
export DROVER_CPU=avx2
pass "$bin/merge" --model base --adapter ppo/adapter --out merged
logprobs --model base --adapter ppo/adapter --quantize nf4 --quantize-tables int8 >over.txt
logprobs --model merged >merged.txt
holds "$(largest over.txt merged.txt) < 2e-5"
pass "$bin/merge" --model base --adapter ppo/adapter --quantize none --out wide-merged
logprobs --model base --adapter ppo/adapter >over.txt
logprobs --model wide-merged >merged.txt
holds "$(largest over.txt merged.txt) < 2e-5"
unset DROVER_CPU

# With LoRA an adapter that is there goes on over the 4-bit base: it begins with what it has learned.
pass "$bin/sft" --model.path base --model.adapter sft/adapter --data.train $world/sft.jsonl --lora.enabled --optim.max_steps 1 \
  --optim.batch_size 8 "${quantized[@]}" --run.dir continued
holds "$(metric continued train/loss first) < 0.98 * $(metric sft train/loss first)"
note "merged, continued"

# In 8 bits: nearer to the wide model than 4 are, and as much a base of its own.
export DROVER_CPU=avx2
eight=(--model.quantize int8)
timed "${sft[@]}" "${eight[@]}" --run.dir eight --optim.epochs 1
holds "$(weights log) < 0.42 * $wide" # 8.5 bits of 32; the table, a third of this model, stays
[[ $(jq -r '.base | [.quantize, .tables] | tostring' eight/adapter/identity.json) == '["int8",null]' ]] || fail "$(cat eight/adapter/identity.json)"
holds "$(metric eight train/loss first) - $(metric wide train/loss first) < 0.01"
holds "$(metric eight train/loss first) - $(metric wide train/loss first) > -0.01"
killed_and_resumed eight-killed 9 2 "${sft[@]}" "${eight[@]}" --optim.epochs 1 --run.dir eight-killed
same_files eight/adapter eight-killed/adapter
refuse 2 'model.quantize (was "int8", is "nf4")' "${sft[@]}" --optim.epochs 1 --model.quantize nf4 --run.dir eight
logprobs --model base --adapter eight/adapter --quantize int8 >over.txt
logprobs --model base --adapter eight/adapter >wide.txt
holds "$(largest over.txt wide.txt) > 1e-5"
pass "$bin/merge" --model base --adapter eight/adapter --out eight-merged
logprobs --model eight-merged >merged.txt
holds "$(largest over.txt merged.txt) < 2e-5"
pass "$bin/merge" --model base --adapter eight/adapter --quantize int8 --into base --out eight-into
logprobs --model eight-into >merged.txt
holds "$(largest wide.txt merged.txt) < 2e-5"
pass "$bin/ppo" --model.path base --model.adapter eight/adapter --reward.path base --reward.adapter reward/adapter --data.prompts \
  $world/prompts.jsonl --lora.enabled --rollout.max_new_tokens 6 --ppo.total_episodes 32 --ppo.batch_size 32 \
  --optim.micro_batch_tokens 256 "${eight[@]}" --model.quantize_tables int8 --run.dir eight-ppo
grep -q 'one frozen base; adapters for actor, critic, reference and reward' log || fail "the four roles do not share the base"
unset DROVER_CPU
note "8 bits"

refuse 2 "actor: model.quantize is for a base that is not trained: set lora.enabled" "$bin/ppo" --model.path base --reward.path base \
  --data.prompts $world/prompts.jsonl "${quantized[@]}" --run.dir full
refuse 2 "model.quantize is for a base that is not trained: set lora.enabled" "$bin/sft" --model.path base --data.train \
  $world/sft.jsonl "${quantized[@]}" --run.dir full
refuse 2 "lora.modules_to_save: model.embed_tokens is in 8 bits" "${sft[@]}" "${quantized[@]}" --lora.modules_to_save embed_tokens \
  --run.dir saved
pass "${sft[@]}" --model.path $world/base --model.quantize nf4 --run.dir some --optim.max_steps 1
grep -q '12 of 14 linears are not quantised' log || fail "$(cat log)"
jq '.intermediate_size = 96' $world/model.json >odd.json
pass "$bin/init" --config odd.json --tokenizer $world/tokenizer --out odd
refuse 2 "quantize nf4: no linear of odd can be kept in 4 bits" "${sft[@]}" --model.path odd --model.quantize nf4 --run.dir none
refuse 2 "quantize int8: no linear of odd can be kept in 8 bits" "${sft[@]}" --model.path odd --model.quantize int8 --run.dir none
refuse 2 "model.quantize is for a base that is not trained: set lora.enabled" "$bin/sft" --model.path base --data.train \
  $world/sft.jsonl --model.quantize int8 --run.dir full
refuse 2 "sft/adapter cannot become part of 8-bit weights: set lora.enabled, or quantize none" "$bin/sft" --model.path base \
  --model.adapter sft/adapter --data.train $world/sft.jsonl --model.quantize int8 --run.dir full
note "refusals"
