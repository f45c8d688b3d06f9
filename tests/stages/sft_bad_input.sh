#!/usr/bin/env bash
# What the sft stage says to bad input: exit code and message, one line per case. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world bad=$work/bad
mkdir "$bad"

train=("$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/run"
  --data.template chatml --data.max_length 96 --optim.max_steps 2 --optim.batch_size 4)
cases=0
# bad CODE TEXT OPTIONS...: the later options win over those of `train`.
bad() {
  local code=$1 text=$2
  shift 2
  rm -rf "$work/run"
  only_last "${train[@]}" "$@"
  refuse "$code" "$text" "${arguments[@]}"
  cases=$((cases + 1))
}
file() { # NAME: standard input becomes $bad/NAME
  cat >"$bad/$1"
}
copy_base() { cp -r "$world/base" "$bad/$1"; }

# Usage and configuration: 2
refuse 2 "'model.path', 'data.train' and 'run.dir' are required: give --model.path (" "$bin/sft"
refuse 2 "'model.path' is required" "$bin/sft" --check
bad 2 "unknown option '--learning_rate'; here it is '--optim.lr'" --learning_rate 1e-4
bad 2 "unknown option '--per_device_train_batch_size'; here it is '--optim.batch_size': per_device_train_batch_size x gradient_accumulation_steps x devices" --per_device_train_batch_size 4
bad 2 "unknown option '--response_length'; it is '--rollout.max_new_tokens' of ppo" --response_length 53
bad 2 "unknown option '--fp16'; it has no equal here: computing is in f32 or bf16" --fp16
bad 2 "unknown option '--optim.lrr'; did you mean '--optim.lr'?" --optim.lrr 1
bad 2 "expected a number, found 'fast'" --optim.lr fast
bad 2 "'lienar' is not one of constant, linear, cosine; did you mean 'linear'?" --optim.schedule lienar
bad 2 "out of range" --lora.dropout 1
bad 2 "unexpected argument 'file.json'" file.json
bad 2 "'4bit' is not one of f32, 8bit; did you mean '8bit'?" --optim.state 4bit
echo '{"optim": {"lr": "high"}}' | file type.json
bad 2 "expected a number, found a string" --config "$bad/type.json"
echo '{"optim": {"learning_rate": 1}}' | file key.json
bad 2 "$bad/key.json:1: unknown key 'optim.learning_rate'; here it is 'optim.lr'" --config "$bad/key.json"
printf '{\n"optim": {\n"lr": 1,,\n}}' | file broken.json
bad 2 "broken.json:3:" --config "$bad/broken.json"
bad 2 "absent.json" --config "$bad/absent.json"
bad 2 "data.template" --data.template chatlm
bad 2 "data.eval and data.eval_fraction" --data.eval "$world/sft.jsonl" --data.eval_fraction 0.1
bad 2 "optim.micro_batch_tokens is 8" --optim.micro_batch_tokens 8
bad 7 "no CUDA" --device.backend cuda
make_short "$world" "$bad/short" 12
bad 2 "and $bad/short has positions for 12: lower data.max_length" --model.path "$bad/short"

# Data: 3
: | file empty.jsonl
bad 3 "empty.jsonl" --data.train "$bad/empty.jsonl"
printf '{"prompt":"a","completion":"b"}\n{"prompt":"a","completion":"b"}\n{"prompt":"a","completion:"b"}\n' | file torn.jsonl
bad 3 "torn.jsonl:3:" --data.train "$bad/torn.jsonl"
printf '{"prompt":"a","completion":"b"}\n{"prompt":"a"}\n' | file missing.jsonl
bad 3 "missing.jsonl:2: key 'completion'" --data.train "$bad/missing.jsonl"
printf '{"prompt":"a","completion":7}\n' | file number.jsonl
bad 3 "number.jsonl:1: key 'completion'" --data.train "$bad/number.jsonl"
echo '{"question":"a"}' | file keys.jsonl
bad 3 "keys.jsonl:1" --data.train "$bad/keys.jsonl"
bad 3 "prefs.jsonl" --data.train "$world/prefs.jsonl" --data.format alpaca
bad 3 "preference records" --data.train "$world/prefs.jsonl"
bad 3 "max_length" --data.max_length 4 --data.truncation error
bad 3 "sft.jsonl" --data.max_length 2
bad 6 "absent.jsonl" --data.train "$bad/absent.jsonl"

# Model, adapter, tokenizer: 4
bad 6 "absent" --model.path "$bad/absent"
copy_base cut && truncate -s -1000 "$bad/cut/model.safetensors"
bad 4 "model.safetensors" --model.path "$bad/cut"
copy_base header && printf '\377\377\377\377' | dd of="$bad/header/model.safetensors" bs=1 seek=4 conv=notrunc status=none
bad 4 "model.safetensors" --model.path "$bad/header"
copy_base shape && sed -i 's/"intermediate_size": *64/"intermediate_size": 48/' "$bad/shape/config.json"
bad 4 "expected the shape" --model.path "$bad/shape"
copy_base type && sed -i 's/"model_type": *"llama"/"model_type": "lama"/' "$bad/type/config.json"
bad 4 "lama" --model.path "$bad/type"
copy_base nokey && sed -i 's/"hidden_size"/"hidden_seize"/' "$bad/nokey/config.json"
bad 4 "hidden_size" --model.path "$bad/nokey"
copy_base tok && echo '{"model": {' >"$bad/tok/tokenizer.json"
bad 4 "tokenizer.json" --model.path "$bad/tok"
copy_base plain && sed -i 's/"chat_template"/"chat_tmpl"/' "$bad/plain/tokenizer_config.json"
bad 4 "template" --model.path "$bad/plain" --data.template auto

pass "${train[@]}" --run.dir "$work/lora" --lora.enabled --lora.r 4 --lora.targets q_proj,v_proj
bad 4 "is no linear of this model (there are: q_proj" --lora.enabled --lora.targets queery
# Starting over removes the former result only once the new run can begin, and never what it reads itself.
again=("${train[@]}" --run.dir "$work/lora" --run.resume false --lora.enabled)
refuse 6 "absent.jsonl" "${again[@]}" --data.train "$bad/absent.jsonl"
refuse 4 "queery" "${again[@]}" --lora.targets queery
refuse 2 "model.adapter: $work/lora/adapter lies in $work/lora/adapter, which this run writes" "${again[@]}" \
  --model.adapter "$work/lora/adapter"
[[ -s $work/lora/adapter/adapter_model.safetensors && -s $work/lora/done.json ]] || fail "the former result is lost"
adapter() { cp -r "$work/lora/adapter" "$bad/$1"; }
sed 's/"hidden_size": 32/"hidden_size": 48/' "$world/model.json" >"$bad/wide.json"
pass "$bin/init" --config "$bad/wide.json" --tokenizer "$world/tokenizer" --out "$bad/wide"
nameless "$work/lora/adapter" "$bad/nameless"
bad 4 "expected the shape [4, 48], found [4, 32]" --model.path "$bad/wide" --lora.enabled --model.adapter "$bad/nameless"
bad 4 "expected the shape [4, 48], found [4, 32]" --model.path "$bad/wide" --model.adapter "$bad/nameless" # merged
adapter torn && truncate -s 100 "$bad/torn/adapter_model.safetensors"
bad 4 "adapter_model.safetensors" --lora.enabled --model.adapter "$bad/torn"
adapter dora && sed -i 's/"use_dora": *false/"use_dora": true/' "$bad/dora/adapter_config.json"
grep -q use_dora "$bad/dora/adapter_config.json" || sed -i 's/^{/{"use_dora": true,/' "$bad/dora/adapter_config.json"
bad 4 "use_dora" --lora.enabled --model.adapter "$bad/dora"
bad 6 "nowhere" --lora.enabled --model.adapter "$bad/nowhere"

# Weights with NaN, and a loss that is not finite after a step far too large.
copy_base nan
nan() { # DIRECTORY FILE: NaN in the last 64 values
  printf '\000\000\300\177%.0s' {1..64} | dd of="$1/$2" bs=1 seek=$(($(stat -c %s "$1/$2") - 256)) conv=notrunc status=none
}
nan "$bad/nan" model.safetensors
bad 4 "v_proj.weight: 32 of 1024 values are not finite (NaN or infinite)" --model.path "$bad/nan"
rm -rf "$work/run"
refuse 4 "last good checkpoint: $work/run/checkpoints/step-" "${train[@]}" --optim.lr 1e38 --optim.max_steps 9 --optim.clip 0 \
  --run.save_every 1 --optim.name sgd --optim.schedule constant --run.max_skipped 2
grep -q 'run.max_skipped is 2' "$work/log" || fail "the limit is not named: $(cat "$work/log")"
rm -rf "$work/run"
refuse 4 "the last 8 updates made no step" "${train[@]}" --optim.lr 1e38 --optim.max_steps 9 --optim.clip 0 \
  --optim.name sgd --optim.schedule constant
cases=$((cases + 1))
# The last step goes too far: no loss says so any more.
last=("${train[@]}" --optim.lr 1e300 --optim.clip 0 --optim.name sgd --optim.schedule constant)
for how in true false; do
  rm -rf "$work/run"
  refuse 4 "not finite (NaN or infinite): not saved; the last good checkpoint: none. A lower optim.lr" "${last[@]}" \
    --optim.max_steps 1 --lora.enabled "$how"
  [[ ! -e $work/run/model && ! -e $work/run/adapter && ! -e $work/run/done.json ]] || fail "a broken result is there"
  cases=$((cases + 1))
done

# Memory: 5. File system: 6.
bad 5 "it fits with" --device.memory_limit "$(with_program 4)" --optim.micro_batch_tokens 8192
bad 5 "no setting of this stage" --device.memory_limit 1MiB
echo file >"$bad/file"
bad 6 "$bad/file" --run.dir "$bad/file/run"

# --check finds the same, and leaves no run behind.
refuse 4 "model.safetensors" "${train[@]}" --check --model.path "$bad/cut"
refuse 4 "expected the shape" "${train[@]}" --check --model.path "$bad/shape"
for how in true false; do # continued, merged
  refuse 4 "expected the shape [4, 48], found [4, 32]" "${train[@]}" --check --model.path "$bad/wide" --lora.enabled "$how" \
    --model.adapter "$bad/nameless"
done
refuse 3 "torn.jsonl:3:" "${train[@]}" --check --data.train "$bad/torn.jsonl"
refuse 4 "v_proj.weight: 32 of 1024 values are not finite (NaN or infinite)" "${train[@]}" --check --model.path "$bad/nan"
adapter nan-adapter && nan "$bad/nan-adapter" adapter_model.safetensors
for how in true false; do
  refuse 4 "values are not finite" "${train[@]}" --check --lora.enabled "$how" --model.adapter "$bad/nan-adapter"
  refuse 4 "adapter_model.safetensors" "${train[@]}" --check --lora.enabled "$how" --model.adapter "$bad/torn"
done
rm -rf "$work/run"
expect "nothing wrong" "${train[@]}" --check
[[ ! -e $work/run/run.db && ! -e $work/run/config.json ]] || fail "--check began a run"
echo "sft: $cases bad inputs refused as they should be"
