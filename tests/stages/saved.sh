#!/usr/bin/env bash
# What trained models tell their readers: the end marks of training, padding, the tokenizer's files; and whose files are
# not touched while they are written. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
fixtures=$PWD/tests/fixtures
make_world "$work/world"
cd "$work"

# A base whose end of text (id 0) is not the end mark of its template (id 2), as before instruction tuning.
mkdir -p tokenizer/additional_chat_templates
cp "$fixtures/tokenizer/smollm2/tokenizer.json" tokenizer
echo '{"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}' >tokenizer/tokenizer_config.json
echo '{{ messages }}' >tokenizer/additional_chat_templates/tool_use.jinja
echo '{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
  "num_attention_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": true}' >model.json
mkdir base.tmp && echo precious >base.tmp/notes
pass "$bin/init" --config model.json --tokenizer tokenizer --out base
jq -e '.eos_token_id == 0 and has("pad_token_id") == false' base/config.json >log || fail "$(cat base/config.json)"

# ends DIRECTORY FILE LIST
ends() {
  [[ $(jq -c .eos_token_id "$1/$2") == "$3" ]] || fail "$1/$2: expected $3, found $(jq -c .eos_token_id "$1/$2")"
}
common=(--optim.max_steps 1 --optim.batch_size 4 --data.template chatml)
sft=("$bin/sft" --model.path base --data.train world/sft.jsonl "${common[@]}")
pass "${sft[@]}" --run.dir full
for file in config.json generation_config.json; do ends full/model $file '[0,2]'; done
[[ -s full/model/additional_chat_templates/tool_use.jinja ]] || fail "additional_chat_templates stayed behind"
# The other keys of a generation_config.json stay, and what is there needs nothing more: the same bytes.
cp -r base base-generation
echo '{"eos_token_id": [2, 0], "top_p": 0.5}' >base-generation/generation_config.json
pass "$bin/sft" --model.path base-generation --data.train world/sft.jsonl "${common[@]}" --run.dir generation
cmp base-generation/generation_config.json generation/model/generation_config.json || fail "generation_config.json changed"
# An adapter has them beside it, and a merged model then has them too.
pass "${sft[@]}" --run.dir lora --lora.enabled
ends lora/adapter generation_config.json '[0,2]'
[[ ! -e lora/adapter/tokenizer.json ]] || fail "the adapter has a tokenizer of its own"
mkdir merged.tmp && echo precious >merged.tmp/notes
pass "$bin/merge" --model base --adapter lora/adapter --out merged
for file in config.json generation_config.json; do ends merged $file '[0,2]'; done
note "end marks"

# What does not fit is refused before anything is made, with the table; --check finds it, and what reading would find.
merge=("$bin/merge" --model base --adapter lora/adapter --out no)
for how in '' --check; do
  refuse 5 "MiB of memory, and 1.00 MiB can be used" "${merge[@]}" --memory-limit 1MiB $how
  grep -q 'log-probabilities of the texts  *[0-9.]* KiB' "$work/log" || fail "no table: $(cat "$work/log")"
  refuse 5 "1.00 MiB can be used; less is needed with --dtype bf16" "$bin/init" --config model.json --tokenizer tokenizer \
    --out no --memory-limit 1MiB $how
done
damaged() { # FROM TO FILE: a copy with NaN in its first tensor
  cp -r "$1" "$2"
  printf '\000\000\300\177' | dd of="$2/$3" bs=1 conv=notrunc status=none seek=$((8 + $(od -An -tu8 -N8 "$2/$3")))
}
damaged base base-nan model.safetensors
damaged lora/adapter adapter-nan adapter_model.safetensors
cp -r lora/adapter adapter-torn && truncate -s -100 adapter-torn/adapter_model.safetensors
pass "${merge[@]}" --check
nameless lora/adapter adapter-nameless
refuse 4 "values are not finite" "${merge[@]}" --check --model base-nan --adapter adapter-nameless
refuse 4 "values are not finite" "${merge[@]}" --check --adapter adapter-nan
refuse 4 "adapter_model.safetensors" "${merge[@]}" --check --adapter adapter-torn
[[ ! -e no ]] || fail "a check has made a model"
note "memory and checks"

# The padding of a reward model is no end: here none is left but a row beyond the tokenizer, or a token of that name.
reward=("$bin/reward" --data.train world/prefs.jsonl "${common[@]}" --model.dtype bf16)
padding() { # DIRECTORY VALUE
  [[ $(jq -c .pad_token_id "$1/config.json") == "$2" ]] || fail "$1: padding $(jq -c .pad_token_id "$1/config.json"), expected $2"
}
pass "${reward[@]}" --model.path base --run.dir reward
padding reward/model null
jq '.vocab_size += 10' base/config.json >model.json
pass "$bin/init" --config model.json --tokenizer tokenizer --out larger
pass "${reward[@]}" --model.path larger --run.dir reward-larger
padding reward-larger/model "$(jq .vocab_size base/config.json)"
pass "${reward[@]}" --model.path larger --run.dir reward-lora --lora.enabled
pass "$bin/merge" --model larger --adapter reward-lora/adapter --out reward-merged
padding reward-merged "$(jq .vocab_size base/config.json)"
cp -r base base-pad && jq '.pad_token = "<|im_end|>"' tokenizer/tokenizer_config.json >base-pad/tokenizer_config.json
pass "${reward[@]}" --model.path base-pad --run.dir reward-pad
padding reward-pad/model null
jq '.pad_token = "<file_sep>"' tokenizer/tokenizer_config.json >base-pad/tokenizer_config.json
pass "${reward[@]}" --model.path base-pad --run.dir reward-named
padding reward-named/model 4
# Its head is in fp32, whatever the weights are.
head=$(head -c 100000 reward/model/model.safetensors | grep -ao '"score.weight":{"dtype":"[A-Z0-9]*"')
[[ $head == *F32* ]] || fail "the score head: $head"
note "padding and head"

# Others' files stay.
for name in base merged; do
  [[ $(cat $name.tmp/notes) == precious ]] || fail "$name.tmp is gone"
done
jq '.initializer_range = 1e30' model.json >wide.json
refuse 4 '"initializer_range": expected a standard deviation' "$bin/init" --config wide.json --tokenizer tokenizer --out no
echo "saved: all as expected"
