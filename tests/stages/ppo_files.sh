#!/usr/bin/env bash
# Reference and reward models that stay in their files (ppo.frozen_in_files) give the bits of those in memory, in less of it: from files in F32 and BF16,
# trained in full, and with LoRA a reward model over another base. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
jq '.num_hidden_layers = 3' "$world/model.json" >"$work/three.json"
pass "$bin/init" --config "$work/three.json" --tokenizer "$world/tokenizer" --out "$work/wide" --seed 3
pass "$bin/init" --config "$work/three.json" --tokenizer "$world/tokenizer" --out "$work/narrow" --seed 3 --dtype bf16
pass "$bin/reward" --model.path "$work/wide" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" --optim.batch_size 8 --optim.max_steps 3

ppo() { # ppo NAME ARGUMENTS...
  local name=$1
  shift
  pass "$bin/ppo" --data.prompts "$world/prompts.jsonl" --reward.path "$work/rm/model" --ppo.batch_size 16 --ppo.total_episodes 48 \
    --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 10 --rollout.temperature 1 --optim.lr 1e-3 --optim.micro_batch_tokens 200 \
    --run.dir "$work/$name" "$@"
  sed -nE 's/^ *weights +([0-9.]+) KiB$/\1/p' "$work/log" >"$work/$name.weights"
}
metrics() {
  sqlite3 "$1/run.db" "select step, name, value from metric where name not like '%per_second' order by step, name;
    select step, prompt, response, reward, kl from sample order by rowid"
}
same() { # same NAME OUTPUT MODELS ARGUMENTS...: of three blocks of so many models one is in memory
  local name=$1 output=$2 models=$3
  shift 3
  ppo "$name" "$@"
  ppo "$name-files" "$@" --ppo.frozen_in_files
  same_files "$work/$name/$output" "$work/$name-files/$output"
  [[ $(metrics "$work/$name") == "$(metrics "$work/$name-files")" ]] || fail "$name: the run logs differ"
  holds "$(cat "$work/$name.weights") - $(cat "$work/$name-files.weights") >= $models * $two_blocks"
  note "$name"
}
# A block of the test's model: q, k, v, o and the feed-forward's three.
two_blocks=$(jq '(.hidden_size * (.hidden_size * (2 + 2 * .num_key_value_heads / .num_attention_heads) + 3 * .intermediate_size)) * 2 * 4 / 1024' "$work/three.json")
same f32 model 2 --model.path "$work/wide"
same bf16 model 2 --model.path "$work/narrow"
differ "$work/f32/model/model.safetensors" "$work/bf16/model/model.safetensors"
same other_base adapter 1 --model.path "$work/narrow" --lora.enabled --lora.r 4 --ppo.advantage rloo --ppo.samples_per_prompt 4
# What has no files of its own stays in memory.
same follows model 1 --model.path "$work/wide" --ppo.reference_every 1
echo "frozen models stay in their files"
