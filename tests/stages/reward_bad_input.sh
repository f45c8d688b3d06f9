#!/usr/bin/env bash
# What the reward stage says to bad input: exit code and message, one line per case. What it shares with sft (options,
# JSON, models, adapters) is in sft_bad_input.sh. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world bad=$work/bad
mkdir "$bad"

train=("$bin/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl" --run.dir "$work/run"
  --data.max_length 96 --optim.max_steps 2 --optim.batch_size 4)
cases=0
# bad CODE TEXT OPTIONS...: the later options win over those of `train`.
bad() {
  local code=$1 text=$2
  shift 2
  rm -rf "$work/run"
  only_last "${train[@]}" "$@"
  refuse "$code" "$text" "${arguments[@]}"
  [[ ! -e $work/run/done.json && ! -e $work/run/model && ! -e $work/run/adapter ]] || fail "$*: a result was written"
  cases=$((cases + 1))
}
lines() { # NAME LINES...: becomes $bad/NAME
  printf '%s\n' "${@:2}" >"$bad/$1"
}
good='{"prompt":"a","chosen":"yes","rejected":"no"}'

# Usage and configuration: 2
refuse 2 "'data.train' is required" "$bin/reward" --model.path "$world/base" --run.dir "$work/run"
refuse 2 "'run.dir' is required" "$bin/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl"
bad 2 "unknown option '--reward.centering'; did you mean '--reward.centring'?" --reward.centering 1
bad 2 "expected a number, found 'much'" --reward.centring much
bad 2 "out of range" --reward.centring -1
bad 2 "unknown option '--data.prompts'" --data.prompts "$world/prompts.jsonl"
bad 2 "data.eval and data.eval_fraction" --data.eval "$world/prefs_eval.jsonl" --data.eval_fraction 0.1
bad 2 "optim.micro_batch_tokens is 16" --optim.micro_batch_tokens 16
bad 2 "data.template" --data.template chatlm
lines type.json '{"reward": {"centring": true}}'
bad 2 "expected a number, found a boolean" --config "$bad/type.json"
lines section.json '{"rewards": {"centring": 0.1}}'
bad 2 "unknown key 'rewards" --config "$bad/section.json"
bad 7 "no CUDA" --device.backend cuda

# Data: 3
: >"$bad/empty.jsonl"
bad 3 "empty.jsonl" --data.train "$bad/empty.jsonl"
bad 3 "prompt_completion records" --data.train "$world/sft.jsonl"
bad 3 "preference records, which are no supervised data" --data.reference "$world/prefs.jsonl"
lines broken.jsonl "$good" "$good" '{"prompt":"a","chosen":"yes","rejected":}'
bad 3 "broken.jsonl:3:41: broken JSON" --data.train "$bad/broken.jsonl"
lines missing.jsonl "$good" '{"prompt":"a","chosen":"yes"}'
bad 3 "missing.jsonl:2: key 'rejected'" --data.train "$bad/missing.jsonl"
lines number.jsonl "$good" '{"prompt":"a","chosen":1,"rejected":"no"}'
bad 3 "number.jsonl:2: key 'chosen'" --data.train "$bad/number.jsonl"
lines margin.jsonl '{"prompt":"a","chosen":"yes","rejected":"no","margin":"large"}'
bad 3 "margin.jsonl:1: key 'margin'" --data.train "$bad/margin.jsonl"
lines scores.jsonl '{"prompt":"a","responses":["yes","no"],"scores":[1]}'
bad 3 "scores.jsonl:1: key 'scores': expected 2 items" --data.train "$bad/scores.jsonl"
jq -nc '{prompt: "a", responses: [range(65) | tostring], scores: [range(65)]}' >"$bad/many.jsonl"
bad 3 "many.jsonl:1: 65 answers to one prompt, expected at most 64" --data.train "$bad/many.jsonl"
jq -nc '{prompt: "a", responses: [range(30) | tostring], scores: [range(30)]}' >"$bad/wide.jsonl"
bad 2 "the longest preference has" --data.train "$bad/wide.jsonl" --optim.micro_batch_tokens 64
lines role.jsonl '{"prompt":"a","chosen":[{"role":"robot","content":"x"}],"rejected":"no"}'
bad 3 "role.jsonl:1" --data.train "$bad/role.jsonl"
lines equal.jsonl '{"prompt":"a","chosen":"yes","rejected":"yes"}'
bad 3 "equal.jsonl" --data.train "$bad/equal.jsonl"
bad 2 "data.format is alpaca, and those are no preference data" --data.format alpaca
bad 3 "max_length" --data.max_length 8 --data.truncation error
bad 3 "prefs.jsonl" --data.max_length 2
bad 6 "absent.jsonl" --data.train "$bad/absent.jsonl"

# Longer than the model's table of positions: one side of a pair counts, not both together.
make_short "$world" "$bad/short" 12
bad 2 "and $bad/short has positions for 12: lower data.max_length" --model.path "$bad/short"
make_short "$world" "$bad/enough" 64
pass "${train[@]}" --check --model.path "$bad/enough"

# Model, adapter: 4
cp -r "$world/base" "$bad/cut" && truncate -s -1000 "$bad/cut/model.safetensors"
bad 4 "model.safetensors" --model.path "$bad/cut"
sed 's/"hidden_size": 32/"hidden_size": 48/' "$world/model.json" >"$bad/wide.json"
pass "$bin/init" --config "$bad/wide.json" --tokenizer "$world/tokenizer" --out "$bad/wide"
pass "${train[@]}" --run.dir "$work/lora" --lora.enabled --lora.r 4
nameless "$work/lora/adapter" "$bad/nameless"
bad 4 "[4, 48], found [4, 32]" --model.path "$bad/wide" --lora.enabled --model.adapter "$bad/nameless"
cp -r "$world/base" "$bad/nan"
size=$(stat -c %s "$bad/nan/model.safetensors")
printf '\000\000\300\177%.0s' {1..64} | dd of="$bad/nan/model.safetensors" bs=1 seek=$((size - 256)) conv=notrunc status=none
bad 4 "v_proj.weight: 32 of 1024 values are not finite" --model.path "$bad/nan"
bad 4 "optim.lr" --optim.lr 1e38 --optim.max_steps 9 --optim.clip 0 --optim.name sgd --optim.schedule constant
bad 4 "not finite (NaN or infinite): not saved; the last good checkpoint: none" --optim.lr 1e300 --optim.max_steps 1 --optim.clip 0 \
  --optim.name sgd --optim.schedule constant

# Memory: 5. File system: 6.
bad 5 "it fits with" --device.memory_limit "$(with_program 4)" --optim.micro_batch_tokens 8192
bad 5 "no setting of this stage" --device.memory_limit 1MiB
echo file >"$bad/file"
bad 6 "$bad/file" --run.dir "$bad/file/run"

# --check finds the same, and leaves no run behind.
refuse 3 "broken.jsonl:3:" "${train[@]}" --check --data.train "$bad/broken.jsonl"
refuse 4 "v_proj.weight: 32 of 1024 values are not finite" "${train[@]}" --check --model.path "$bad/nan"
refuse 4 "model.safetensors" "${train[@]}" --check --model.path "$bad/cut"
refuse 5 "it fits with" "${train[@]}" --check --device.memory_limit "$(with_program 4)" --optim.micro_batch_tokens 8192
[[ ! -e $work/run/run.db && ! -e $work/run/config.json ]] || fail "--check began a run"
echo "reward: $cases bad inputs refused as they should be"
