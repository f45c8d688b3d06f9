#!/usr/bin/env bash
# Weights in the forms that people have: every program that reads a model takes pytorch_model.bin, refuses one that is more than tensors, and
# holds little more than the weights while it loads. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
fixtures=$PWD/tests/fixtures
cd "$work"

# as_torch FROM TO FILE: the model FROM with FILE, a fixture of torch.save, as its weights.
as_torch() {
  mkdir -p "$2"
  cp "$1"/*.json "$2"
  cp "$3" "$2/pytorch_model.bin"
}

as_torch "$fixtures/models/llama" zip "$fixtures/torch/llama.bin"
cp -r "$fixtures/torch/shards" shards && cp "$fixtures/models/llama/config.json" shards
for model in zip shards; do
  expect 'model.layers.1.mlp.down_proj.weight' "$bin/inspect" model --model $model
  pass "$bin/inspect" logprobs --model $model --ids 1,2,3,4 --json
  cp out $model.logprobs
done
pass "$bin/inspect" logprobs --model "$fixtures/models/llama" --ids 1,2,3,4 --json
cmp out zip.logprobs && cmp out shards.logprobs || fail "the model is another one in another form"
note "inspect"

# What comes out is safetensors, and the same as from safetensors.
for model in "$fixtures/models/llama" zip shards; do
  pass "$bin/merge" --model "$model" --adapter "$fixtures/peft/llama_qv" --out "merged-${model##*/}"
  [[ ! -e merged-${model##*/}/pytorch_model.bin ]] || fail "pytorch_model.bin was written"
done
cmp merged-llama/model.safetensors merged-zip/model.safetensors || fail "merging differs"
cmp merged-llama/model.safetensors merged-shards/model.safetensors || fail "merging differs"
note "merge"

# A directory that is both: safetensors is read.
cp -r zip both && cp "$fixtures/models/llama/model.safetensors" both && echo x >both/pytorch_model.bin
pass "$bin/inspect" logprobs --model both --ids 1,2,3,4 --json
cmp out zip.logprobs || fail "model.safetensors does not go first"

# Refused with exit code 4 and the file, whatever the program; nothing was run.
rm -f /tmp/drover-was-here
as_torch "$fixtures/models/llama" evil "$fixtures/torch/refused/runs.bin"
as_torch "$fixtures/models/llama" torn "$fixtures/torch/llama.bin"
head -c 50000 "$fixtures/torch/llama.bin" >torn/pytorch_model.bin
refuse 4 'evil/pytorch_model.bin: pickle at byte' "$bin/inspect" logprobs --model evil --ids 1,2,3
refuse 4 'it names posix.system' "$bin/merge" --model evil --adapter "$fixtures/peft/llama_qv" --out never
cp "$fixtures/tokenizer/smollm2/tokenizer.json" evil
echo '{"prompt": "a", "completion": "b"}' >sft.jsonl
refuse 4 'it names posix.system' "$bin/sft" --check --model.path evil --data.train sft.jsonl --data.template plain --run.dir checked
refuse 4 'torn/pytorch_model.bin: broken zip archive' "$bin/inspect" logprobs --model torn --ids 1,2,3
[[ ! -e /tmp/drover-was-here ]] || fail "something was run"
[[ ! -e never ]] || fail "something was written: $(find never)"
note "refusals"

# Models of 100 MB: at its peak, loading holds at most a tenth more than it keeps. What was read from a disk lies in the page cache in large
# pieces, of which a fault maps the whole: many small tensors had left more and more of them behind.
echo '{"model_type": "llama", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "vocab_size": 4096,
  "num_attention_heads": 8, "max_position_embeddings": 128, "tie_word_embeddings": true}' >model.json
jq '.hidden_size = 320 | .intermediate_size = 768 | .num_hidden_layers = 40 | .num_attention_heads = 5' model.json >many.json
pass "$bin/init" --config model.json --tokenizer "$fixtures/tokenizer/smollm2" --out large
pass "$bin/init" --config many.json --tokenizer "$fixtures/tokenizer/smollm2" --dtype bf16 --out many
pass "$bin/bench_load" --model many --cold true
for run in 'large f32' 'large bf16' 'many f32' 'many bf16'; do
  pass "$bin/bench_load" --model "${run% *}" --dtype "${run#* }" --json
  jq -e '.kept_bytes > 40e6 and .peak_bytes < 1.1 * .kept_bytes' out >log || fail "$run: $(cat out)"
done
note "memory"
