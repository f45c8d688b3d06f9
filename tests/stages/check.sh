#!/usr/bin/env bash
# --check with what there is: a config.json alone, without data, without a tokenizer, for a card that is not here. The plan
# is that of the whole model with data as long as data.max_length. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world base=$work/world/base
card=$bin/../cuda_host/bin # the emulated card, which can be told not to be there

mkdir "$work/bare" "$work/spoken"
cp "$base/config.json" "$work/bare"
cp "$base"/{config,tokenizer,tokenizer_config}.json "$work/spoken"

# table: the lines of the plan in $work/log.
table() { sed -n '/^memory plan:/,/^  total/p' "$work/log" | sed 's/ of [0-9.]* GiB$//'; }
# plan OUT COMMAND...: passes, and its plan stands in OUT.
plan() {
  local out=$1
  shift
  expect 'the check found nothing wrong' "$@"
  table >"$out"
  grep -q '^  total' "$out" || fail "$*: no plan: $(cat "$work/log")"
}
# says TEXT: the last command did on standard error.
says() { grep -qF -- "$1" "$work/log" || fail "expected '$1' in: $(cat "$work/log")"; }
# but for the heap of tokenizer and data, which is only known where they are
same_plan() { diff <(grep -vE 'tokenizer, data|more while|total' "$1") <(grep -vE 'tokenizer, data|more while|total' "$2") >"$work/diff" || fail "$1 and $2: $(cat "$work/diff")"; }

more=(--data.max_length 20 --optim.micro_batch_tokens 64)
long=(--data.max_length 20 --data.truncation truncate --optim.micro_batch_tokens 64)
lora=(--lora.enabled --lora.r 4)

# -- sft: the longest example has data.max_length tokens, cut to it
plan "$work/whole" "$bin/sft" --check --model.path "$base" --data.train "$world/text.jsonl" --run.dir "$work/run" "${lora[@]}" "${more[@]}"
plan "$work/nodata" "$bin/sft" --check --model.path "$base" "${lora[@]}" "${more[@]}"
says 'data.train is not given: the plan is for sequences of data.max_length 20 tokens'
plan "$work/alone" "$bin/sft" --check --model.path "$work/bare" "${lora[@]}" "${more[@]}"
says "$work/bare has no weights"
same_plan "$work/whole" "$work/nodata"
same_plan "$work/whole" "$work/alone"
# given data are read where there is a tokenizer, and left aside where there is none
plan "$work/read" "$bin/sft" --check --model.path "$work/spoken" --data.train "$world/text.jsonl" --data.cache "$work/cache" "${lora[@]}" "${more[@]}"
says 'data.train: the first example'
plan "$work/unread" "$bin/sft" --check --model.path "$work/bare" --data.train "$world/text.jsonl" "${lora[@]}" "${more[@]}"
says "$work/bare has no tokenizer"
same_plan "$work/whole" "$work/read"
same_plan "$work/whole" "$work/unread"
refuse 2 "'run.dir' is required to keep the tokenised data in" "$bin/sft" --check --model.path "$base" --data.train "$world/text.jsonl"
refuse 2 'raise it to that, or lower data.max_length' "$bin/sft" --check --model.path "$work/bare" --data.max_length 65 --optim.micro_batch_tokens 64
refuse 5 'it fits with' "$bin/sft" --check --model.path "$work/bare" "${lora[@]}" --optim.micro_batch_tokens 2048 --device.memory_limit "$(with_program 10)"
note "sft plans by config.json alone"

# -- a run needs what a plan does without
refuse 4 'no weights: expected model.safetensors' "$bin/sft" --model.path "$work/spoken" --data.train "$world/text.jsonl" --run.dir "$work/real"
[[ ! -e $work/real/run.db ]] || fail "a run without weights has begun"
refuse 2 "'data.train' is required" "$bin/sft" --model.path "$base" --run.dir "$work/real"
refuse 2 "'run.dir' is required" "$bin/sft" --model.path "$base" --data.train "$world/text.jsonl"
mkdir "$work/wordless"
cp "$base"/{config.json,model.safetensors} "$work/wordless"
refuse 6 'tokenizer.json' "$bin/sft" --check --model.path "$work/wordless" --data.train "$world/text.jsonl" --run.dir "$work/run"
refuse 6 'there is no directory' "$bin/sft" --check --model.path "$work/nowhere"
note "a run needs all of it"

# -- reward: two answers of data.max_length tokens, and a head
echo '{"prompt": "red door? blue lamp? red door? blue lamp?", "chosen": "yes red", "rejected": "red yes"}' >"$work/pair.jsonl"
plan "$work/whole" "$bin/reward" --check --model.path "$base" --data.train "$work/pair.jsonl" --run.dir "$work/run" "${lora[@]}" "${long[@]}"
plan "$work/alone" "$bin/reward" --check --model.path "$work/bare" "${lora[@]}" "${long[@]}"
same_plan "$work/whole" "$work/alone"
refuse 2 'the longest preference has 66 tokens' "$bin/reward" --check --model.path "$work/bare" --data.max_length 33 --optim.micro_batch_tokens 64
# -- ppo: a reward model is taken to have its head
pass "$bin/reward" --model.path "$base" --data.train "$world/prefs.jsonl" --optim.max_steps 1 --run.dir "$work/rm"
mkdir "$work/judge"
cp "$work/rm/model/config.json" "$work/judge"
short=(--data.max_length 6 --data.truncation truncate --rollout.max_new_tokens 8 --optim.micro_batch_tokens 64 --ppo.batch_size 8)
plan "$work/whole" "$bin/ppo" --check --model.path "$base" --reward.path "$work/rm/model" --data.prompts "$world/prompts.jsonl" --run.dir "$work/run" "${short[@]}"
plan "$work/alone" "$bin/ppo" --check --model.path "$work/bare" --reward.path "$work/judge" "${short[@]}"
says "$work/judge has no weights"
same_plan "$work/whole" "$work/alone"
plan "$work/ptx" "$bin/ppo" --check --model.path "$work/bare" --reward.path "$work/judge" "${short[@]}" --ppo.ptx_coef 1 --data.ptx "$world/text.jsonl"
plan "$work/endless" "$bin/ppo" --check --model.path "$base" --reward.path "$work/rm/model" --data.prompts "$world/prompts.jsonl" --run.dir "$work/run" "${short[@]}" \
  --run.keep 2 --run.save_every 1 --ppo.total_episodes 9223372036854775807
says ', 3 checkpoints of ' # as many updates as a number holds
[[ ! -e $work/run ]] || [[ $(ls "$work/run") == cache ]] || fail "--check left a run: $(ls "$work/run")"
note "reward and ppo plan by config.json alone"

# -- advice: micro-batches and answers share their memory, so that only fewer of both make it less; and what is proposed fits
many=("$bin/ppo" --check --model.path "$work/bare" --reward.path "$work/judge" --lora.enabled --data.max_length 6 --data.truncation truncate
  --rollout.max_new_tokens 58 --ppo.batch_size 512)
batches=(--optim.micro_batch_tokens 16384 --rollout.batch 512)
limits=("$(with_program 16)" "$(with_program 6)")
# The process's own peak is part of a plan, and a sanitizer's is beyond these limits.
if [[ $(ldd "$bin/ppo") == *libasan* ]]; then limits=(); fi
for limit in "${limits[@]}"; do
  refuse 5 ' with rollout.batch ' "${many[@]}" "${batches[@]}" --device.memory_limit "$limit"
  advice=$(sed -nE 's/.*it fits with ([^(]*) \(.*/\1/p' "$work/log" | sed -E 's/ (with|and) |, /\n/g')
  proposed=()
  while read -r key value; do proposed+=("--$key" "$value"); done <<<"$advice"
  pass "${many[@]}" "${batches[@]}" "${proposed[@]}" --device.memory_limit "$limit"
  # neither would do alone
  refuse 5 'it fits with' "${many[@]}" "${batches[@]}" "${proposed[@]:0:2}" --device.memory_limit "$limit"
  refuse 5 'it fits with' "${many[@]}" "${batches[@]}" "${proposed[@]:2:2}" --device.memory_limit "$limit"
done
note "advice: ${proposed[*]-none asked for under a sanitizer}"

# -- one of many ranks: the plan of a rank that a launcher starts; the advice names the first level that is enough
divided=(--device.shard weights "${more[@]}")
plan "$work/imagined" "$bin/sft" --check --model.path "$base" "${divided[@]}" --device.plan_ranks 3
says 'planning for one of 3 ranks on this host'
plan "$work/launched" "$drover" launch -n 3 sft --check --model.path "$base" "${divided[@]}"
same_plan "$work/launched" "$work/imagined"
refuse 2 'device.plan_ranks 3 is for --check: drover launch -n 3 starts so many ranks' "$bin/sft" --model.path "$base" --data.train "$world/text.jsonl" \
  --run.dir "$work/real" --device.plan_ranks 3
refuse 2 'device.plan_ranks 3: expected no launcher, found WORLD_SIZE=2' env RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29507 \
  "$bin/sft" --check --model.path "$base" "${divided[@]}" --device.plan_ranks 3
mkdir "$work/large"
jq '.hidden_size = 1024 | .intermediate_size = 4096 | .num_hidden_layers = 8' "$base/config.json" >"$work/large/config.json"
large=("$bin/sft" --check --model.path "$work/large" --device.plan_ranks 4 "${more[@]}")
before=none
for level in optimizer gradients weights; do
  pass "${large[@]}" --device.shard $level
  limit=$(sed -nE 's/^  total +([0-9.]+ [A-Za-z]+) of .*/\1/p' "$work/log" | awk '{ printf "%d\n", ($2 == "GiB" ? 1024 : 1) * $1 + 9 }')MiB
  refuse 5 "it fits with device.shard $level (" "${large[@]}" --device.shard $before --device.memory_limit "$limit"
  before=$level
done
note "the plan of one of many ranks, and the level that it needs"

# -- the disk: what a run writes is known before it, and no disk has room for this one
mkdir "$work/huge"
jq '.hidden_size = 65536 | .intermediate_size = 262144 | .num_hidden_layers = 100' "$base/config.json" >"$work/huge/config.json"
refuse 6 'make room, or choose another run.dir' "$bin/sft" --check --model.path "$work/huge" --run.dir "$work/new/run" --device.memory_limit 8000TiB "${more[@]}"
pass "$bin/sft" --check --model.path "$work/huge" --device.memory_limit 8000TiB "${more[@]}" # no directory, no question
[[ ! -e $work/new ]] || fail "--check made a directory"
# what is announced is what is written, but for names and small files
announced() { sed -nE 's/.* checkpoints? of ([0-9.]+ [A-Za-z]+) among it.*/\1/p' "$work/log" | awk '{ printf "%d\n", ($2 == "GiB" ? 1024 : $2 == "MiB" ? 1 : 1 / 1024) * $1 * 1024 * 1024 }'; }
written=("$bin/sft" --model.path "$base" --data.train "$world/sft.jsonl" --optim.max_steps 1 --run.dir "$work/written" --data.max_length 64)
for how in '' '--lora.enabled' '--model.dtype bf16' '--optim.name lion --optim.state 8bit'; do
  rm -rf "$work/written"
  read -ra options <<<"$how"
  pass "${written[@]}" "${options[@]}"
  bytes=$(announced)
  size=$(stat -c %s "$work/written/checkpoints/step-1/state.safetensors")
  holds "$bytes > 0.75 * $size && $bytes <= $size"
done
pass "$bin/ppo" --model.path "$base" --reward.path "$work/rm/model" --data.prompts "$world/prompts.jsonl" --run.dir "$work/written.ppo" "${short[@]}" --ppo.total_episodes 8 --ppo.ema 0.9
bytes=$(announced)
size=$(stat -c %s "$work/written.ppo/checkpoints/step-1/state.safetensors")
holds "$bytes > 0.75 * $size && $bytes <= $size"
note "the disk"

# -- a card that is not here
if [[ ! -x $card/sft ]]; then
  note "no emulated card to plan beside"
  exit 0
fi
narrow=(--device.backend cuda --model.dtype bf16 --device.memory_limit 8GiB "${lora[@]}" "${more[@]}")
plan "$work/there" env DROVER_CUDA_HOST_DEVICE=capability=89,multiprocessors=128 "$card/sft" --check --model.path "$work/bare" "${narrow[@]}"
plan "$work/absent" env DROVER_CUDA_HOST_DEVICE=driver=0 "$card/sft" --check --model.path "$work/bare" "${narrow[@]}"
says 'no NVIDIA driver on this machine. The plan is for a card with 8.00 GiB that is not here'
says 'taken to need 544 MiB'
for there in there absent; do sed -i '/program and libraries/d' "$work/$there"; done
same_plan "$work/there" "$work/absent"
refuse 7 'say by device.memory_limit' env DROVER_CUDA_HOST_DEVICE=driver=0 "$card/sft" --check --model.path "$work/bare" --device.backend cuda
refuse 7 'no NVIDIA driver' env DROVER_CUDA_HOST_DEVICE=driver=0 "$card/sft" --model.path "$base" --data.train "$world/text.jsonl" --run.dir "$work/real" "${narrow[@]}"
refuse 5 'it fits with' env DROVER_CUDA_HOST_DEVICE=driver=0 "$card/sft" --check --model.path "$work/bare" "${narrow[@]}" --device.memory_limit 806MiB --optim.micro_batch_tokens 2048
plan "$work/policy" env DROVER_CUDA_HOST_DEVICE=driver=0 "$card/ppo" --check --model.path "$work/bare" --reward.path "$work/judge" "${short[@]}" --device.backend cuda --device.memory_limit 1GiB
note "a card that is not here"
echo "check: the plan of what is there"
