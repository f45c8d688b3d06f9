#!/usr/bin/env bash
# What the ppo stage says to bad input: exit code and message, one line per case. What it shares with sft (options, JSON,
# models, adapters) is in sft_bad_input.sh. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world bad=$work/bad
mkdir "$bad"
pass "$bin/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" --optim.max_steps 1 \
  --optim.batch_size 4
pass "$bin/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl" --run.dir "$work/rm-lora" \
  --optim.max_steps 1 --optim.batch_size 4 --lora.enabled --lora.r 4
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft-lora" --optim.max_steps 1 \
  --optim.batch_size 4 --lora.enabled --lora.r 4

train=("$bin/ppo" --model.path "$world/base" --reward.path "$work/rm/model" --data.prompts "$world/prompts.jsonl"
  --run.dir "$work/run" --ppo.total_episodes 16 --ppo.batch_size 8 --rollout.max_new_tokens 6)
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
pass "${train[@]}" # what the cases change works

# Usage and configuration: 2
refuse 2 "'reward.path' or 'reward.sources' is required" "$bin/ppo" --model.path "$world/base" --data.prompts p --run.dir "$work/run"
refuse 2 "'data.prompts' is required" "$bin/ppo" --model.path m --reward.path r --run.dir "$work/run"
bad 2 "unknown option '--ppo.kl_coeff'; did you mean '--ppo.kl_coef'?" --ppo.kl_coeff 0.1
bad 2 "unknown option '--data.train'" --data.train "$world/sft.jsonl"
bad 2 "'k4' is not one of k1, k2, k3" --ppo.kl_estimator k4
bad 2 "'punish' is not one of keep, replace, subtract" --ppo.missing_eos punish
bad 2 "out of range" --ppo.lam 1.5
bad 2 "out of range" --ppo.ema 1
bad 2 "ppo.minibatches: expected a divisor of ppo.batch_size 8, found 3" --ppo.minibatches 3
bad 2 "rollout.temperature: expected more than 0" --rollout.temperature 0
bad 2 "rollout.top_k, rollout.top_p: expected 0 and 1" --rollout.top_k 1
bad 2 "found 0 and 0.9. For likelier answers lower rollout.temperature" --rollout.top_p 0.9
bad 2 "expected at most 2147483647 tokens in a rollout" --ppo.batch_size 1048576 --rollout.max_new_tokens 2048
bad 2 "unknown option '--ppo.vf_coef'; here it is '--ppo.critic_lr': a rate" --ppo.vf_coef 0.1
bad 2 "data.ptx: expected a file, since ppo.ptx_coef is 0.5" --ppo.ptx_coef 0.5
bad 2 "optim.micro_batch_tokens: expected at least" --optim.micro_batch_tokens 16
lines long.jsonl "{\"text\": \"$(printf 'red door %.0s' {1..99})\"}"
bad 2 "(the longest example of data.ptx), found 128" --optim.micro_batch_tokens 128 --data.max_length 200 \
  --ppo.ptx_coef 0.5 --data.ptx "$bad/long.jsonl"
bad 2 "ppo.kl_target: expected more than 0" --ppo.kl_adaptive --ppo.kl_target 0
bad 2 "ppo.kl_horizon: expected more than a fifth of ppo.batch_size 8" --ppo.kl_adaptive --ppo.kl_horizon 1.6
make_short "$world" "$bad/short" 12
bad 2 "leaves no room for an answer: the model has positions for 12" --model.path "$bad/short"
make_short "$world" "$bad/short-base" 24
pass "$bin/reward" --model.path "$bad/short-base" --data.train "$world/prefs.jsonl" --run.dir "$bad/short-rm" \
  --optim.max_steps 1 --optim.batch_size 4 --data.max_length 24 --data.template plain
bad 2 "and $bad/short-rm/model has positions for 24" --reward.path "$bad/short-rm/model" --rollout.max_new_tokens 40
bad 2 "data.template" --data.template chatlm
lines type.json '{"ppo": {"epochs": "four"}}'
bad 2 "expected an integer, found a string" --config "$bad/type.json"
lines key.json '{"ppo": {"kl_penalty": 0.1}}'
bad 2 "unknown key 'ppo.kl_penalty'" --config "$bad/key.json"
bad 7 "no CUDA" --device.backend cuda

# Data: 3
: >"$bad/empty.jsonl"
bad 3 "empty.jsonl" --data.prompts "$bad/empty.jsonl"
lines broken.jsonl '{"prompt":"a"}' '{"prompt":"a"' '{"prompt":"b"}'
bad 3 "broken.jsonl:2:" --data.prompts "$bad/broken.jsonl"
lines number.jsonl '{"prompt":"a"}' '{"prompt":7}'
bad 3 "number.jsonl:2: key 'prompt'" --data.prompts "$bad/number.jsonl"
lines keys.jsonl '{"question":"a"}'
bad 3 "keys.jsonl:1" --data.prompts "$bad/keys.jsonl"
bad 3 "text records" --data.prompts "$world/text.jsonl"
bad 3 "prompts.jsonl" --data.max_length 2
bad 3 "max_length" --data.max_length 4 --data.truncation error
bad 3 "prompts records" --ppo.ptx_coef 0.5 --data.ptx "$world/prompts.jsonl"
bad 3 "broken.jsonl:2:" --data.eval "$bad/broken.jsonl"
bad 6 "absent.jsonl" --data.prompts "$bad/absent.jsonl"

# Models and adapters: 4
bad 6 "$bad/absent" --reward.path "$bad/absent"
bad 4 "score" --reward.path "$world/base"
bad 4 "score" --reward.path "$world/base" --lora.enabled
bad 4 "score" --reward.path "$world/base" --reward.adapter "$work/sft-lora/adapter" --lora.enabled
bad 4 "LM head" --model.path "$work/rm/model"
sed 's/"hidden_size": 32/"hidden_size": 48/' "$world/model.json" >"$bad/wide.json"
pass "$bin/init" --config "$bad/wide.json" --tokenizer "$world/tokenizer" --out "$bad/wide"
nameless "$work/rm-lora/adapter" "$bad/rm-nameless"
nameless "$work/sft-lora/adapter" "$bad/sft-nameless"
bad 4 "expected the shape" --reward.path "$bad/wide" --reward.adapter "$bad/rm-nameless" --lora.enabled
bad 4 "expected the shape" --model.path "$bad/wide" --model.adapter "$bad/sft-nameless"
sed 's/^{/{"vocab_size": 320,/' "$world/model.json" >"$bad/vocab.json"
pass "$bin/init" --config "$bad/vocab.json" --tokenizer "$world/tokenizer" --out "$bad/vocab"
bad 4 "expected the vocabulary of" --model.path "$bad/vocab"
bad 4 "expected the vocabulary of" --model.path "$bad/vocab" --lora.enabled
cp -r "$work/rm/model" "$bad/cut" && truncate -s -1000 "$bad/cut/model.safetensors"
bad 4 "model.safetensors" --reward.path "$bad/cut"
cp -r "$world/base" "$bad/endless"
for name in config.json tokenizer_config.json; do sed -i '/"eos_token/d' "$bad/endless/$name"; done
bad 4 "EOS token" --model.path "$bad/endless" --data.template plain

# Numbers that are not finite.
nan() { # FROM TO [FILE]: a copy with NaN in its first tensor
  local file=$2/${3:-model.safetensors}
  cp -r "$1" "$2"
  printf '\000\000\300\177%.0s' {1..16} | dd of="$file" bs=1 conv=notrunc status=none seek=$((8 + $(od -An -tu8 -N8 "$file")))
}
nan "$world/base" "$bad/nan"
bad 4 "values are not finite" --model.path "$bad/nan"
nan "$work/rm/model" "$bad/nan-reward"
bad 4 "values are not finite" --reward.path "$bad/nan-reward"
bad 4 "updates made no step, for their loss or gradient was not finite" --optim.lr 1e38 --optim.clip 0 --optim.name sgd \
  --optim.schedule constant --ppo.total_episodes 80 --ppo.epochs 1 --run.save_every 1
bad 4 "not finite (NaN or infinite): not saved; the last good checkpoint: none" --optim.lr 1e300 --optim.clip 0 --optim.name sgd \
  --optim.schedule constant --ppo.total_episodes 8 --ppo.epochs 1 --ppo.minibatches 1

# Minibatches that are not finite are left out, up to a limit.
bad 4 "3 steps were left out, and run.max_skipped is 2" --optim.lr 1e38 --optim.clip 0 --optim.name sgd \
  --optim.schedule constant --ppo.epochs 4 --run.max_skipped 2
grep -qE 'update 1: a step is left out: (the (policy|value) loss|(actor|critic): the gradient) is ' "$work/log" || fail "a step left out is not said: $(cat "$work/log")"

# Memory: 5. File system: 6.
bad 5 "it fits with" --device.memory_limit "$(with_program 6)" --optim.micro_batch_tokens 8192
bad 5 "no setting of this stage" --device.memory_limit 1MiB
echo file >"$bad/file"
bad 6 "$bad/file" --run.dir "$bad/file/run"

# --check finds the same, and leaves no run behind.
rm -rf "$work/run"
refuse 3 "broken.jsonl:2:" "${train[@]}" --check --data.prompts "$bad/broken.jsonl"
refuse 2 "ppo.minibatches" "${train[@]}" --check --ppo.minibatches 3
refuse 2 "ppo.dual_clip: expected 0 or more than 1, found 0.9" "${train[@]}" --check --ppo.dual_clip 0.9
refuse 2 "ppo.overlong_tokens: expected at most rollout.max_new_tokens" "${train[@]}" --check --ppo.overlong_tokens 1000
refuse 2 "ppo.ratio: sequence goes with one advantage for a whole answer" "${train[@]}" --check --ppo.ratio sequence
refuse 4 "score" "${train[@]}" --check --reward.path "$world/base"
cp -r "$work/rm-lora/adapter" "$bad/torn" && truncate -s -100 "$bad/torn/adapter_model.safetensors"
refuse 4 "adapter_model.safetensors" "${train[@]}" --check --lora.enabled --reward.path "$world/base" --reward.adapter "$bad/torn"
refuse 4 "values are not finite" "${train[@]}" --check --model.path "$bad/nan"
refuse 4 "values are not finite" "${train[@]}" --check --reward.path "$bad/nan-reward"
refuse 4 "model.safetensors" "${train[@]}" --check --reward.path "$bad/cut"
nan "$work/sft-lora/adapter" "$bad/nan-sft-adapter" adapter_model.safetensors
nan "$work/rm-lora/adapter" "$bad/nan-rm-adapter" adapter_model.safetensors
adapters=(--lora.enabled --reward.path "$world/base" --model.adapter "$work/sft-lora/adapter" --reward.adapter "$work/rm-lora/adapter")
refuse 4 "nan-sft-adapter/adapter_model.safetensors: " "${train[@]}" --check "${adapters[@]}" --model.adapter "$bad/nan-sft-adapter"
refuse 4 "nan-rm-adapter/adapter_model.safetensors: " "${train[@]}" --check "${adapters[@]}" --reward.adapter "$bad/nan-rm-adapter"
expect "nothing wrong" "${train[@]}" --check "${adapters[@]}"
[[ ! -e $work/run/run.db && ! -e $work/run/config.json ]] || fail "--check began a run"
echo "ppo: $cases bad inputs refused as they should be"
