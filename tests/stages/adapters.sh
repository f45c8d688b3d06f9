#!/usr/bin/env bash
# Adapters on the embedding table and the LM head, and copies of both (lora.modules_to_save), over a base that ties them:
# trained by all stages, killed and resumed, decoded with a cache, merged and exported. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
world=world ids=5,17,250,31,8,99,120,44,3,260,17,5

shapes=(tables saved tied saved-tied)
declare -A shape=(
  [tables]="--lora.targets q_proj,embed_tokens,lm_head"
  [saved]="--lora.targets q_proj --lora.modules_to_save embed_tokens,lm_head"
  [tied]="--lora.targets q_proj,embed_tokens --lora.ensure_weight_tying"
  [saved-tied]="--lora.targets q_proj --lora.modules_to_save embed_tokens --lora.ensure_weight_tying")
sft=("$bin/sft" --model.path $world/base --data.train $world/sft.jsonl --optim.lr 5e-3 --optim.batch_size 8 --optim.epochs 4
  --optim.micro_batch_tokens 256 --lora.enabled --lora.r 4 --lora.dropout 0.1 --run.save_every 3 --json)

logprobs() { # ARGUMENTS...: of the ids, one a line
  pass "$bin/inspect" logprobs --ids $ids --json "$@"
  jq '.logprobs[]' out
}
largest() { # FILE FILE: the largest difference between numbers, line by line
  paste "$1" "$2" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d } END { print most + 0 }'
}
tensors() { # DIRECTORY STEM: names in a safetensors file
  local file=$1/$2.safetensors
  tail -c +9 "$file" | head -c "$(od -An -tu8 -N8 "$file")" | jq -r 'keys[] | select(. != "__metadata__")'
}
has() { [[ " $(tensors "$1" "$2" | tr '\n' ' ')" == *" $3 "* ]] || fail "$1 has no tensor $3: $(tensors "$1" "$2")"; }
lacks() { [[ " $(tensors "$1" "$2" | tr '\n' ' ')" != *" $3 "* ]] || fail "$1 has a tensor $3"; }

logprobs --model $world/base >base.txt
for name in "${shapes[@]}"; do
  # shellcheck disable=SC2086 # options
  timed "${sft[@]}" --run.dir "$name" ${shape[$name]}
  holds "$(metric "$name" train/loss) < 0.7 * $(metric "$name" train/loss first)"
  # shellcheck disable=SC2086
  killed_and_resumed "$name-killed" 36 2 "${sft[@]}" --run.dir "$name-killed" ${shape[$name]}
  same_files "$name/adapter" "$name-killed/adapter"
  pass "$bin/export" "$name" --out "made-$name"
  same_files "$name/adapter" "made-$name"
  pass "$bin/merge" --model $world/base --adapter "$name/adapter" --out "merged-$name"
  logprobs --model $world/base --adapter "$name/adapter" >"$name.txt"
  logprobs --model "merged-$name" >"merged-$name.txt"
  holds "$(largest "$name.txt" "merged-$name.txt") < 2e-5"
  holds "$(largest "$name.txt" base.txt) > 0.01"
  note "$name: trained, resumed, exported, merged"
done
has tables/adapter adapter_model base_model.model.model.embed_tokens.lora_embedding_A
has tables/adapter adapter_model base_model.model.lm_head.lora_B.weight
has saved/adapter adapter_model base_model.model.lm_head.weight
has saved-tied/adapter adapter_model base_model.model.lm_head.weight # as PEFT repeats it
[[ $(jq -c .modules_to_save saved/adapter/adapter_config.json) == '["embed_tokens","lm_head"]' ]] || fail "modules_to_save"
for name in tables saved; do
  has merged-$name model lm_head.weight
  jq -e '.tie_word_embeddings == false' merged-$name/config.json >log || fail "$name: merged, but still tied"
done
for name in tied saved-tied; do
  lacks merged-$name model lm_head.weight
  jq -e .tie_word_embeddings merged-$name/config.json >log || fail "$name: merged and untied"
  jq -e .ensure_weight_tying $name/adapter/adapter_config.json >log || fail "$name: ensure_weight_tying"
done

# What cached decoding says of its own greedy answer is what the full forward says of it.
for name in "${shapes[@]}"; do
  pass "$bin/generate" --model $world/base --adapter "$name/adapter" --ids 5,17,250 --max-new-tokens 12 --temperature 0 \
    --json --logprobs
  jq '.logprobs[]' out >cached.txt
  ids=5,17,250,$(jq -r '.ids | map(tostring) | join(",")' out) logprobs --model $world/base --adapter "$name/adapter" |
    tail -n +3 >full.txt
  [[ $(wc -l <cached.txt) == $(wc -l <full.txt) ]] || fail "$name: $(wc -l <cached.txt) log-probabilities"
  holds "$(largest cached.txt full.txt) < 2e-5"
done
note "cached decoding"

# bf16 with exact master copies and 8-bit moments: it trains, and goes on to the same bytes.
narrow=("${sft[@]}" --model.dtype bf16 --optim.state 8bit --lora.targets q_proj,lm_head --lora.modules_to_save embed_tokens)
timed "${narrow[@]}" --run.dir narrow
killed_and_resumed narrow-killed 36 2 "${narrow[@]}" --run.dir narrow-killed
same_files narrow/adapter narrow-killed/adapter
holds "$(metric narrow train/loss) < 0.7 * $(metric narrow train/loss first)"
note "bf16"

# Training all weights from such an adapter: a base that stays tied takes it, one that would not does not.
full=("$bin/sft" --model.path $world/base --data.train $world/sft.jsonl --optim.max_steps 1)
pass "${full[@]}" --run.dir full --model.adapter tied/adapter
refuse 4 "changes the embedding table and the LM head apart" "${full[@]}" --run.dir no --model.adapter tables/adapter

# A reward model has no LM head: by name that is an error, and what an adapter to start from has there stays behind.
reward=("$bin/reward" --model.path $world/base --data.train $world/prefs.jsonl --optim.max_steps 20 --optim.batch_size 8
  --optim.lr 3e-3 --lora.enabled)
refuse 4 "adapter target \"lm_head\": a model that scores has no LM head" "${reward[@]}" --run.dir no --lora.targets q_proj,lm_head
refuse 4 "module to save \"lm_head\": a model that scores has no LM head" "${reward[@]}" --run.dir no \
  --lora.modules_to_save lm_head
refuse 4 "expected the embedding table or the LM head" "${reward[@]}" --run.dir no --lora.modules_to_save q_proj
for name in tables saved; do
  pass "${reward[@]}" --model.adapter $name/adapter --run.dir rm-$name
  [[ $(tensors rm-$name/adapter adapter_model) != *lm_head* ]] || fail "rm-$name has an LM head"
  holds "$(metric rm-$name train/loss) < 0.693"
done
has rm-saved/adapter adapter_model base_model.model.model.embed_tokens.weight
has rm-saved/adapter adapter_model base_model.model.score.weight
pass "$bin/merge" --model $world/base --adapter rm-saved/adapter --out rm-merged
scores() { # ARGUMENTS...: of both answers of each pair, one a line
  pass "$bin/inspect" score --data $world/prefs_eval.jsonl --json "$@"
  jq -c 'select(has("chosen")) | .chosen, .rejected' out
}
scores --model rm-merged >scores-merged.txt
scores --model $world/base --adapter rm-saved/adapter >scores-adapter.txt
[[ -s scores-merged.txt ]] || fail "no scores"
holds "$(largest scores-merged.txt scores-adapter.txt) < 2e-5"
note "reward"

# PPO: one base under four adapters. At first policy and reference are one, though both are far from the base; the critic
# starts without one and passes over what is said of the LM head. How many answers are generated at once does not matter.
ppo=("$bin/ppo" --model.path $world/base --reward.path $world/base --reward.adapter rm-saved/adapter
  --data.prompts $world/prompts.jsonl --ppo.total_episodes 48 --ppo.batch_size 16 --rollout.max_new_tokens 8
  --rollout.temperature 1 --optim.lr 1e-3 --lora.enabled --lora.dropout 0 --run.save_every 1)
for name in tables saved tied; do
  pass "${ppo[@]}" --model.adapter $name/adapter --run.dir ppo-$name
  holds "($(metric ppo-$name ppo/kl first)) ^ 2 < 1e-10"
  holds "($(metric ppo-$name ppo/kl)) ^ 2 > 1e-6"
  holds "$(metric ppo-$name ppo/first_ratio_error first) < 1e-5"
  pass "${ppo[@]}" --model.adapter $name/adapter --run.dir ppo-$name-batch --rollout.batch 3
  same_files ppo-$name/adapter ppo-$name-batch/adapter
done
pass "$bin/reward" --model.path $world/base --data.train $world/prefs.jsonl --optim.max_steps 4 --run.dir rm-full
pass "$bin/ppo" --model.path $world/base --reward.path rm-full/model --data.prompts $world/prompts.jsonl --run.dir ppo-fresh \
  --ppo.total_episodes 32 --ppo.batch_size 16 --rollout.max_new_tokens 8 --optim.lr 1e-3 --lora.enabled \
  --lora.targets q_proj,lm_head --lora.modules_to_save embed_tokens
holds "($(metric ppo-fresh ppo/kl first)) ^ 2 < 1e-10"
has ppo-fresh/adapter adapter_model base_model.model.lm_head.lora_A.weight
has ppo-fresh/adapter adapter_model base_model.model.model.embed_tokens.weight
note "ppo"
echo "adapters on tables: every stage"
