#!/usr/bin/env bash
# device.threads and --threads are of all that a program does: data, files, passes. OpenMP says of each team how many threads it has, and
# nothing of one thread.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"

# Weights that are large enough to be read by several threads.
jq '.hidden_size = 256 | .intermediate_size = 512' world/model.json >model.json
pass "$bin/init" --config model.json --tokenizer world/tokenizer --out base
export OMP_NUM_THREADS=3 OMP_DISPLAY_AFFINITY=true OMP_AFFINITY_FORMAT='a team of %N'
teams() { grep -ho 'a team of [0-9]*' out log | sort -u || true; }

common=(--model.path base --optim.batch_size 8 --optim.max_steps 1 --data.cache cache)
supervised=("${common[@]}" --lora.enabled true)
declare -A stages=(
  [sft]="${supervised[*]} --data.train world/sft.jsonl"
  [reward]="${supervised[*]} --data.train world/prefs.jsonl --data.reference world/sft.jsonl"
  [dpo]="${supervised[*]} --data.train world/prefs.jsonl"
  [ppo]="--model.path base --lora.enabled true --data.prompts world/prompts.jsonl --data.cache cache --ppo.total_episodes 8 --ppo.batch_size 8
    --rollout.max_new_tokens 4 --reward.path base --reward.adapter reward/adapter"
  [sample]="--model.path base --data.prompts world/prompts.jsonl --data.cache cache --rollout.max_new_tokens 4 --sample.n 2
    --reward.path base --reward.adapter reward/adapter"
)
for stage in sft reward dpo ppo sample; do
  for threads in 1 0; do
    rm -rf cache "$stage"
    # shellcheck disable=SC2086 # words
    pass "$bin/$stage" ${stages[$stage]} --data.template plain --run.dir "$stage" --device.threads $threads
    found=$(teams)
    [[ $threads == 1 || $found == *"a team of 3"* ]] || fail "$stage: this test sees no threads: $found"
    [[ $threads == 0 || ! $found ]] || fail "$stage: device.threads 1, found $found"
    # shellcheck disable=SC2086
    pass "$bin/$stage" ${stages[$stage]} --data.template plain --run.dir checked --device.threads $threads --check
    found=$(teams)
    [[ $threads == 0 || ! $found ]] || fail "$stage --check: device.threads 1, found $found"
  done
done
note "stages"

declare -A tools=(
  [generate]="--model base --prompt red --max-new-tokens 4"
  [inspect]="score --model base --adapter reward/adapter --data world/prefs.jsonl"
)
for tool in generate inspect; do
  # shellcheck disable=SC2086
  pass "$bin/$tool" ${tools[$tool]} --threads 1
  found=$(teams)
  [[ ! $found ]] || fail "$tool: threads 1, found $found"
done
note "tools"
