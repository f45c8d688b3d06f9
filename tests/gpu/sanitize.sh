#!/usr/bin/env bash
# The tiny stages on the GPU under a tool of compute-sanitizer: SFT (LoRA and full weights, BF16 and fp32), the reward
# model and PPO. $1: the folder of the executables, $2: memcheck or racecheck.
bin=$1 tool=$2
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
checked=(compute-sanitizer --tool "$tool" --error-exitcode 99 --launch-timeout 120)

check() { # check NAME COMMAND...
  local name=$1 status=0
  shift
  "${checked[@]}" "$@" --device.backend cuda >"$work/out" 2>"$work/log" </dev/null || status=$?
  if ((status)); then
    grep '=========' "$work/out" "$work/log" | head -n 40 >&2
    fail "$tool: $name ended with $status: $(tail -n 3 "$work/log")"
  fi
  note "$tool: $name"
}

check 'sft, LoRA, bf16' "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/lora" \
  --model.dtype bf16 --model.recompute --lora.enabled --lora.r 4 --optim.max_steps 3
check 'sft, full, fp32' "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" \
  --optim.max_steps 3
check 'reward, LoRA' "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" \
  --lora.enabled --optim.max_steps 3
check 'ppo, LoRA, bf16' "$bin/ppo" --model.path "$work/sft/model" --model.dtype bf16 --reward.path "$work/sft/model" \
  --reward.adapter "$work/rm/adapter" --data.prompts "$world/prompts.jsonl" --run.dir "$work/ppo" --lora.enabled \
  --lora.r 4 --ppo.total_episodes 32 --ppo.batch_size 16 --ppo.minibatches 2 --rollout.max_new_tokens 8
