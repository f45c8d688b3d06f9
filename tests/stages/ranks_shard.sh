#!/usr/bin/env bash
# Training that is divided over ranks (device.shard): what each level keeps is another matter than what it learns. $1: the folder of
# the executables.
bin=$1
source tests/support/ranks.sh
make_world "$work/world"
world=$work/world
# Blocks that take turns in two slots; and linears that 4 bits fit.
base_of "$world" '.num_hidden_layers = 4' "$work/base"
base_of "$world" '.num_hidden_layers = 3 | .hidden_size = 64 | .intermediate_size = 128' "$work/wide"
head -n 9 "$world/sft.jsonl" >"$work/eval.jsonl"
make_ranking "$world/prefs.jsonl" "$work/ranked.jsonl"

common=(--device.threads 1 --json)
sft=("$bin/sft" --model.path "$work/base" --data.train "$world/sft.jsonl" --data.eval "$work/eval.jsonl"
  --data.template chatml --data.max_length 96 --optim.batch_size 6 --optim.lr 3e-3 --optim.max_steps 20 --run.eval_every 10 "${common[@]}")
reward=("$bin/reward" --model.path "$work/base" --data.train "$work/ranked.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.reference "$world/sft.jsonl" --optim.lr 3e-4 --optim.batch_size 7 --optim.max_steps 10 "${common[@]}")
dpo=("$bin/dpo" --model.path "$work/base" --data.train "$work/ranked.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.template chatml --optim.lr 3e-4 --optim.batch_size 7 --optim.max_steps 10 "${common[@]}")
lora=(--lora.enabled --lora.dropout 0.1)

result() { # result RUN: its model or adapter
  if [[ -d $1/adapter ]]; then echo "$1/adapter"; else echo "$1/model"; fi
}

# levels NAME RANKS "LEVEL ..." COMMAND...: one micro-batch on each rank, and so the bits of every level are those of none.
levels() {
  local name=$1 ranks=$2 list=$3 level run
  shift 3
  run=$work/$name-$ranks
  [[ -d $work/$name-1 ]] || pass on 1 "$@" --run.dir "$work/$name-1"
  pass on "$ranks" "$@" --run.dir "$run-none"
  grep -E '^(train|eval)/loss' <(metrics "$work/$name-1") >"$work/a"
  grep -E '^(train|eval)/loss' <(metrics "$run-none") >"$work/b"
  near "$work/a" "$work/b" 1e-6
  for level in $list; do
    pass on "$ranks" "$@" --run.dir "$run-$level" --device.shard "$level"
    cmp <(metrics "$run-none") <(metrics "$run-$level") || fail "$name on $ranks ranks: $level and none have other metrics"
    same_files "$(result "$run-none")" "$(result "$run-$level")"
  done
  note "$name on $ranks ranks: $list as none, to the bit"
}
levels sft 2 'optimizer gradients weights' "${sft[@]}"
levels sft 4 'optimizer weights' "${sft[@]}"
levels sft-lora 2 'optimizer weights' "${sft[@]}" "${lora[@]}"
levels reward 4 'gradients' "${reward[@]}"
levels reward-lora 2 'weights' "${reward[@]}" "${lora[@]}"
levels dpo 2 'weights' "${dpo[@]}"
levels kto 2 'weights' "$bin/dpo" --model.path "$work/base" --data.train "$world/prefs.jsonl" --data.eval "$world/prefs_eval.jsonl" \
  --dpo.loss kto --optim.lr 3e-4 --optim.batch_size 7 --optim.max_steps 10 "${common[@]}"
levels sgd 2 'gradients' "${sft[@]}" --optim.name sgd --optim.lr 0.1 --optim.momentum 0.9 --optim.weight_decay 0.1
levels 8bit 4 'optimizer weights' "${sft[@]}" --optim.state 8bit
# On AMX activations are rounded to bf16: what differs in the last bit of fp32 is soon another number, on one rank and on two.
export DROVER_CPU=avx2
levels bf16 2 'optimizer weights' "${sft[@]}" --model.dtype bf16 --model.recompute
levels nf4 2 'weights' "${sft[@]}" --model.path "$work/wide" --model.quantize nf4 "${lora[@]}"
levels tables 2 'weights' "${sft[@]}" --model.dtype bf16 "${lora[@]}" --lora.modules_to_save embed_tokens
unset DROVER_CPU

# With several micro-batches slices of gradients are added up pass by pass: another order of sums, the same for both levels. Ranks have
# different numbers of them.
small=("${sft[@]}" --optim.micro_batch_tokens 110)
pass on 1 "${small[@]}" --run.dir "$work/small-1"
for level in none optimizer gradients weights; do
  pass on 3 "${small[@]}" --run.dir "$work/small-$level" --device.shard "$level"
  grep '^train/loss' <(metrics "$work/small-1") >"$work/a"
  grep '^train/loss' <(metrics "$work/small-$level") >"$work/b"
  near "$work/a" "$work/b" 1e-6
done
same_files "$work/small-none/model" "$work/small-optimizer/model"
same_files "$work/small-gradients/model" "$work/small-weights/model"
note "several micro-batches: two orders of sums, within rounding of each other"

# Bytes of an update on two ranks with two micro-batches each, by the table of docs/ranks.md.
for i in 1 2 3 4; do head -n 1 "$world/sft.jsonl"; done >"$work/equal.jsonl"
equal=("$bin/sft" --model.path "$work/base" --data.train "$work/equal.jsonl" --data.template chatml --data.packing false
  --optim.batch_size 4 --optim.max_steps 3 --optim.epochs 3 "${common[@]}")
for level in none optimizer gradients weights; do pass on 2 "${equal[@]}" --run.dir "$work/bytes-$level" --device.shard "$level"; done
blocks=$((4 * $(count_of "$work/base/model.safetensors" '[.]layers[.]'))) # bytes
outer=$((4 * $(count_of "$work/base/model.safetensors" .) - blocks))
sends none "$(sent "$work/bytes-none" 2)" $((blocks + outer))
sends optimizer "$(sent "$work/bytes-optimizer" 2)" $((blocks + outer))
sends gradients "$(sent "$work/bytes-gradients" 2)" $((blocks * 3 / 2 + outer))
# Of four blocks 4, 2, 2 and 2 come: two are there still where a pass turns back, or the next one begins.
sends weights "$(sent "$work/bytes-weights" 2)" $((blocks + blocks * 10 / 4 / 2 + outer))
note "each level sends what the table says"

# Checkpoints: each rank writes its slices.
long=("${sft[@]}" --optim.max_steps 150 --run.save_every 5 --optim.state 8bit --device.shard weights)
pass on 2 "${long[@]}" --run.dir "$work/whole"
[[ $(cd "$work/whole/checkpoints/step-150" && echo *) == 'manifest.json state-00001-of-00002.safetensors state-00002-of-00002.safetensors' ]] ||
  fail "files of a divided checkpoint: $(ls "$work/whole/checkpoints/step-150")"
signalled KILL "$work/killed" 10 2 $((RANDOM % 2)) "${long[@]}"
[[ $status == 137 ]] || fail "a killed rank: exit code $status: $(tail -n 5 "$work/log")"
for copy in 3 1 damaged; do cp -r "$work/killed" "$work/killed-$copy"; done
pass on 2 "${long[@]}" --run.dir "$work/killed"
grep -q 'going on from' "$work/log" || fail "nothing was resumed"
same_files "$work/whole/model" "$work/killed/model"
cmp <(metrics "$work/whole") <(metrics "$work/killed") || fail "the run logs differ"
note "a rank that is killed ends all, and the same number of ranks goes on with the same bits"

metrics "$work/whole" | grep '^train/loss' >"$work/a"
resumed() { # resumed RUN COMMAND...: goes on, to losses within rounding
  local run=$1
  shift
  pass "$@" --run.dir "$run"
  grep -q 'going on from' "$work/log" || fail "$run: nothing was resumed"
  metrics "$run" | grep '^train/loss' >"$work/b"
  near "$work/a" "$work/b" 1e-3
}
resumed "$work/killed-3" on 3 "${long[@]}" --device.shard gradients
resumed "$work/killed-1" "${long[@]}"
note "other numbers of ranks cut the slices again, and one has all"

newest=$work/killed-damaged/checkpoints/step-$(checkpoint_step "$work/killed-damaged")
printf X | dd of="$newest/state-00002-of-00002.safetensors" bs=1 seek="$(($(stat -c %s "$newest/state-00002-of-00002.safetensors") - 100))" conv=notrunc status=none
pass on 2 "${long[@]}" --run.dir "$work/killed-damaged"
grep -q "state-00002-of-00002.safetensors is damaged.*trying the checkpoint before it" "$work/log" || fail "a damaged slice: $(cat "$work/log")"
same_files "$work/whole/model" "$work/killed-damaged/model"
note "a slice that is damaged is found by whoever looks at it, and all take the checkpoint before"

pass "$bin/export" "$work/whole" --out "$work/exported"
cmp "$work/whole/model/model.safetensors" "$work/exported/model.safetensors" || fail "export of a divided checkpoint"
note "what is exported of slices is the whole model"

# The peak of each rank beside its plan, of a model that libraries are no large part of, with micro-batches that are full.
base_of "$world" '.hidden_size = 384 | .intermediate_size = 1152 | .num_attention_heads = 8 | .num_key_value_heads = 8 | .num_hidden_layers = 8 |
  .vocab_size = 32000 | .max_position_embeddings = 512' "$work/heavy"
jq -nc '{prompt: "red door?", completion: ("blue " * 300)}, {prompt: "red door?", completion: ("blue " * 300)}' >"$work/full.jsonl"
heavy=("$bin/sft" --model.path "$work/heavy" --data.train "$work/full.jsonl" --data.max_length 256 --data.truncation truncate --data.packing false
  --optim.batch_size 2 --optim.micro_batch_tokens 256 --optim.max_steps 1 "${common[@]}")
within() { # within NAME: the run that has ended
  sed -nE 's/^peak memory of ranks, and planned: //p' "$work/log" | tr ',' '\n' | awk '
    function mib(value, unit) { return value * (unit == "GiB" ? 1024 : 1) }
    { peak = mib($1, $2); plan = mib($4, $5); if (peak > plan || peak < 0.95 * plan) bad = 1 } END { exit bad || NR != 2 }' ||
    fail "$1: $(grep 'peak memory' "$work/log")"
}
for level in none optimizer gradients weights; do
  pass on 2 "${heavy[@]}" --run.dir "$work/heavy-$level" --device.shard $level
  within "$level"
  rm -r "$work/heavy-$level"
done
note "the peak of each rank is within 5 % of its plan"
