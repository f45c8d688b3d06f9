#!/usr/bin/env bash
# On the GPU under a tool of compute-sanitizer: the tests of single operations, then SFT (LoRA and full weights, BF16 and
# fp32), the reward model and PPO of a tiny model, then SFT and PPO of one whose shapes are those of real models: heads
# of 128, texts of more than one tile and partition. $1: the folder of the executables, $2: memcheck, racecheck,
# synccheck or initcheck, $3: the folder of the tests, left out when not given.
bin=$1 tool=$2 tests=${3:+$(cd "$3" && pwd)}
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
checked=(compute-sanitizer --tool "$tool" --error-exitcode 99 --launch-timeout 120)

check() { # check NAME COMMAND...
  local name=$1 status=0
  shift
  "${checked[@]}" "$@" >"$work/out" 2>"$work/log" </dev/null || status=$?
  if ((status)); then
    grep '=========' "$work/out" "$work/log" | head -n 40 >&2
    fail "$tool: $name ended with $status: $(tail -n 3 "$work/log")"
  fi
  note "$tool: $name"
}

# stage NAME COMMAND...: likewise, of a stage.
stage() {
  check "$@" --device.backend cuda
}

if [[ $tests ]]; then
  export DROVER_TEST_BACKEND=cuda DROVER_TEST_BRIEF=1
  for name in ops paged invariance; do
    cd tests
    check "compute_$name" "$tests/test_unit_compute_$name"
    cd ..
  done
fi

stage 'sft, LoRA, bf16' "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/lora" \
  --model.dtype bf16 --model.recompute --lora.enabled --lora.r 4 --optim.max_steps 3
stage 'sft, full, fp32' "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" \
  --optim.max_steps 3
stage 'reward, LoRA' "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" \
  --lora.enabled --optim.max_steps 3
stage 'ppo, LoRA, bf16' "$bin/ppo" --model.path "$work/sft/model" --model.dtype bf16 --reward.path "$work/sft/model" \
  --reward.adapter "$work/rm/adapter" --data.prompts "$world/prompts.jsonl" --run.dir "$work/ppo" --lora.enabled \
  --lora.r 4 --ppo.total_episodes 32 --ppo.batch_size 16 --ppo.minibatches 2 --rollout.max_new_tokens 8

# Real shapes. A text is a dozen of the little ones, some 300 tokens.
cat >"$work/real.json" <<'END'
{"model_type": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 4,
 "num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
 "tie_word_embeddings": true}
END
for ((i = 0; i < 4; i++)); do
  text=$(jq -r .text "$world/text.jsonl" | sed -n "$((12 * i + 1)),$((12 * i + 12))p" | tr '\n' ' ')
  jq -cn --arg text "$text" '{prompt: $text, completion: "yes red green"}' >>"$work/long.jsonl"
  jq -cn --arg text "$text" '{prompt: $text, chosen: "yes red", rejected: "no red"}' >>"$work/long_prefs.jsonl"
done
pass "$bin/init" --config "$work/real.json" --tokenizer "$world/tokenizer" --out "$work/real" --seed 7
real=(--model.path "$work/real" --model.dtype bf16 --lora.enabled --lora.r 8)
stage 'sft, real shapes' "$bin/sft" "${real[@]}" --data.train "$work/long.jsonl" --run.dir "$work/real_sft" \
  --model.recompute --data.max_length 400 --optim.batch_size 2 --optim.max_steps 1
stage 'reward, real shapes' "$bin/reward" "${real[@]}" --data.train "$work/long_prefs.jsonl" --run.dir "$work/real_rm" \
  --data.max_length 400 --optim.batch_size 2 --optim.max_steps 1
stage 'ppo, real shapes' "$bin/ppo" "${real[@]}" --reward.path "$work/real" --reward.adapter "$work/real_rm/adapter" \
  --data.prompts "$work/long.jsonl" --data.max_length 400 --run.dir "$work/real_ppo" --ppo.total_episodes 4 \
  --ppo.batch_size 4 --ppo.minibatches 1 --ppo.epochs 1 --rollout.max_new_tokens 4
