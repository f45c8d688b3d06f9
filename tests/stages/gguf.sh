#!/usr/bin/env bash
# A model in GGUF with its vocabulary inside: trained in full and with LoRA, stopped and gone on with, merged. What is saved is a
# Hugging Face directory with the tokenizer that was in the file. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
fixtures=$PWD/tests/fixtures/gguf
make_world "$work/world"
cd "$work"
mkdir only && cp "$fixtures/llama_text.gguf" only/model.gguf
common=(--data.train world/sft.jsonl --data.template plain --data.max_length 60 --data.truncation truncate --optim.batch_size 2)
sft=("$bin/sft" --model.path "$fixtures/llama_text.gguf" "${common[@]}")

pass "${sft[@]}" --optim.max_steps 2 --run.dir full
for file in config.json model.safetensors tokenizer.json tokenizer_config.json; do
  [[ -s full/model/$file ]] || fail "full/model has no $file"
done
[[ $(jq -r .model_type full/model/config.json) == llama ]] || fail "$(cat full/model/config.json)"
text='the other thing, then'
pass "$bin/inspect" tokens --model "$fixtures/llama_text.gguf" --text "$text" --json
cp out before
pass "$bin/inspect" tokens --model full/model --text "$text" --json
cmp before out || fail "the saved tokenizer cuts otherwise: $(cat before out)"
note "full fine-tuning: a directory of Transformers', with the tokenizer that was in the file"

# The same weights in a directory of their own, and a run that is gone on with.
pass "$bin/sft" --model.path only "${common[@]}" --optim.max_steps 1 --run.dir lora --lora.enabled
pass "$bin/sft" --model.path only "${common[@]}" --optim.max_steps 3 --run.dir lora --lora.enabled
pass "$bin/sft" --model.path only "${common[@]}" --optim.max_steps 3 --run.dir alone --lora.enabled
[[ -s lora/adapter/adapter_model.safetensors ]] || fail "no adapter"
pass "$bin/merge" --model only --adapter alone/adapter --out merged
[[ -s merged/tokenizer.json ]] || fail "merged has no tokenizer"
pass "$bin/inspect" logprobs --model only --adapter alone/adapter --ids 3,4,5,6,7 --json
cp out before
pass "$bin/inspect" logprobs --model merged --ids 3,4,5,6,7 --json
jq -es '[.[0].logprobs, .[1].logprobs] | transpose | all((.[0] - .[1]) * (.[0] - .[1]) < 1e-8)' before out >log ||
  fail "merged: $(cat before out)"
note "LoRA over a GGUF file, gone on with, merged"

# An adapter knows the file that it was trained over, wherever it lies, and no other.
pass "$bin/merge" --model "$fixtures/llama_text.gguf" --adapter alone/adapter --out again
refuse 4 'llama' "$bin/merge" --model "$fixtures/llama.gguf" --adapter alone/adapter --out other
head -c 20000 only/model.gguf >torn.gguf
refuse 4 'truncated?' "$bin/sft" --model.path torn.gguf "${common[@]}" --optim.max_steps 1 --run.dir torn
cp only/model.gguf only/second.gguf
refuse 4 'several GGUF models, model.gguf and second.gguf' "$bin/sft" --model.path only "${common[@]}" --run.dir several
note "an adapter's base is known; torn files and two models in a directory are refused"
