#!/usr/bin/env bash
# SFT, reward model, PPO and merge in a few steps, of every architecture that there is a tiny checkpoint of.
# $1: the folder of the executables. $2...: names under tests/fixtures/arch, instead of all. DROVER_TEST_BACKEND: where they compute,
# "cuda" on the emulated card.
bin=$1
shift
source tests/support/stages.sh
backend=${DROVER_TEST_BACKEND:-auto}
all=$((${#@} == 0))
((${#@})) || set -- tests/fixtures/arch/*

# A tokenizer of single characters that fits the smallest vocabulary of the checkpoints (VOCAB in make_architectures.py).
jq -n '(["<|end|>", "<unk>", "Ġ", "?", "."] + ("abcdefghijklmnopqrstuvwxyz" | split(""))) as $tokens | {
  version: "1.0", normalizer: null, post_processor: null,
  pre_tokenizer: {type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true},
  decoder: {type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true},
  added_tokens: [{id: 0, content: "<|end|>", single_word: false, lstrip: false, rstrip: false, normalized: false, special: true}],
  model: {type: "BPE", unk_token: "<unk>", vocab: ($tokens | to_entries | map({(.value): .key}) | add), merges: []}
}' >"$work/tokenizer.json"
echo '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}' >"$work/tokenizer_config.json"
awk -v work="$work" 'BEGIN {
  for (i = 0; i < 16; i++) {
    a = sprintf("%c", 97 + i); b = sprintf("%c", 97 + i * 7 % 16)
    printf "{\"prompt\":\"%s%s?\",\"completion\":\"yes %s\"}\n", a, b, b >(work "/sft.jsonl")
    printf "{\"prompt\":\"%s%s?\"}\n", a, b >(work "/prompts.jsonl")
    printf "{\"prompt\":\"%s%s?\",\"chosen\":\"yes %s\",\"rejected\":\"no %s\"}\n", a, b, b, a >(work "/prefs.jsonl")
  }
}'
common=(--data.template plain --optim.batch_size 8 --run.save_every 0 --device.backend "$backend")

# pipeline NAME: everything in $work/NAME.
pipeline() {
  local name=$1 from=tests/fixtures/arch/$1 run=$work/$1
  mkdir -p "$run/base"
  cp "$from"/config.json "$from"/*.safetensors "$work"/tokenizer*.json "$run/base"
  rm "$run/base/expected.safetensors"
  sft=("$bin/sft" --model.path "$run/base" --data.train "$work/sft.jsonl" --run.dir "$run/sft" "${common[@]}" --optim.lr 1e-2 --optim.epochs 3)
  if [[ $name == baichuan2_* ]]; then # rows of length 1 in the head: an adapter alone
    refuse 4 'full fine-tuning of this model is not supported' "${sft[@]}"
    pass "${sft[@]}" --lora.enabled
    pass "$bin/merge" --model "$run/base" --adapter "$run/sft/adapter" --out "$run/sft/model"
  else
    pass "${sft[@]}"
  fi
  holds "$(metric "$run/sft" train/loss) < $(metric "$run/sft" train/loss first)"
  pass "$bin/reward" --model.path "$run/sft/model" --data.train "$work/prefs.jsonl" --run.dir "$run/judge" "${common[@]}" --lora.enabled \
    --optim.lr 1e-2 --optim.epochs 3
  holds "$(metric "$run/judge" train/loss) < $(metric "$run/judge" train/loss first)"
  pass "$bin/ppo" --model.path "$run/sft/model" --reward.path "$run/sft/model" --reward.adapter "$run/judge/adapter" \
    --data.prompts "$work/prompts.jsonl" --data.template plain --run.dir "$run/ppo" --run.save_every 0 --lora.enabled --optim.lr 1e-2 \
    --ppo.total_episodes 16 --ppo.batch_size 8 --ppo.epochs 1 --rollout.max_new_tokens 5 --optim.micro_batch_tokens 256 --device.backend "$backend"
  pass "$bin/merge" --model "$run/sft/model" --adapter "$run/ppo/adapter" --out "$run/final"
  differ "$run/final/model.safetensors" "$run/sft/model/model.safetensors"
  pass "$bin/generate" --model "$run/final" --prompt 'ab?' --max-new-tokens 3 --device "$backend"
  rm -r "$run"
}

# The language model inside a multimodal directory is what is trained, and saved.
text_part() {
  local from=tests/fixtures/multimodal/gemma3 run=$work/multimodal
  mkdir -p "$run/base"
  cp "$from"/* "$work"/tokenizer*.json "$run/base"
  pass "$bin/sft" --model.path "$run/base" --data.train "$work/sft.jsonl" --run.dir "$run/sft" "${common[@]}" --lora.enabled --optim.lr 1e-2
  grep -q 'the language model of a multimodal one' "$work/log" || fail "sft does not say that it passes tensors over"
  pass "$bin/merge" --model "$run/base" --adapter "$run/sft/adapter" --out "$run/final"
  jq -e '.model_type == "gemma3_text" and .architectures == ["Gemma3ForCausalLM"] and (has("vision_config") | not)' \
    "$run/final/config.json" >/dev/null || fail "what is saved is not the language model alone"
  pass "$bin/generate" --model "$run/final" --prompt 'ab?' --max-new-tokens 3
  rm -r "$run"
}

for name in "$@"; do pipeline "$(basename "$name")"; done
((!all)) || text_part
note "sft, reward, ppo and merge of $# checkpoints"
