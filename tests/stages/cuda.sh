#!/usr/bin/env bash
# The stages with --device.backend cuda, tiny: the losses of the CPU, killed and resumed runs, the same greedy tokens, a
# limit on memory. $1: the folder of the executables. Without CUDA in them those of the emulated card are taken
# (../cuda_host/bin), where an update takes a tenth of a second.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world

# card PROGRAM ...: runs where the card is; `emulated` if it is no card.
card=$bin emulated=''
if "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/probe" --device.backend cuda \
  --check >"$work/out" 2>"$work/log"; then
  true
elif grep -q 'this build has no CUDA' "$work/log" && [[ -x $bin/../cuda_host/bin/sft ]]; then
  card=$bin/../cuda_host/bin emulated=1
else
  echo "skipped: $(tail -n 1 "$work/log")"
  exit 77
fi
note "on ${emulated:+the emulated card of }$card"

# A head of 64 elements, as kernels for bf16 want it; the base of make_world has 16, which no kernel is made for.
cat >"$work/wide.json" <<'END'
{"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
 "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
 "tie_word_embeddings": true}
END
pass "$bin/init" --config "$work/wide.json" --tokenizer "$world/tokenizer" --out "$work/wide" --seed 7

# both STAGE NAME TOLERANCE METRIC ARGUMENTS...: on the card and on the processor; METRIC agrees at every step.
values() { sqlite3 "$1/run.db" "select step, value from metric where name = '$2' order by step"; }
both() {
  local stage=$1 name=$2 tolerance=$3 metric=$4 worst
  shift 4
  timed "$card/$stage" "$@" --run.dir "$work/$name" --device.backend cuda
  pass "$bin/$stage" "$@" --run.dir "$work/$name-cpu" --device.backend cpu
  worst=$(paste -d '|' <(values "$work/$name" "$metric") <(values "$work/$name-cpu" "$metric") | awk -F '|' '
    $1 != $3 { print "steps " $1 " and " $3; bad = 1; exit }
    { d = $2 - $4; if (d < 0) d = -d; if (d > worst) worst = d }
    END { if (!bad) print NR ? worst + 0 : "nothing logged" }')
  holds "\"$worst\" == \"$worst\" + 0 && \"$worst\" + 0 <= $tolerance"
  note "$name: $metric differs by at most $worst ($run_seconds s)"
}

# -- sft ---------------------------------------------------------------------------------------------------
sft=(--model.path "$world/base" --data.train "$world/sft.jsonl" --data.max_length 48 --optim.batch_size 4
  --optim.max_steps 4 --optim.lr 3e-3)
wide=(--model.path "$work/wide" --model.dtype bf16)
lora=(--lora.enabled --lora.r 4)
# In fp32 only the order of sums differs: on the emulated card by 4e-7 over 50 updates, of losses from 5.7 to 2.8. Briefly, the
# runs of few updates are enough.
if [[ -z ${DROVER_TEST_BRIEF:-} ]]; then
  both sft long 1e-3 train/loss "${sft[@]}" --optim.max_steps 50
  both sft long_lora 1e-3 train/loss "${sft[@]}" "${lora[@]}" --optim.max_steps 50
  for run in long long_lora; do # else nothing was learnt, and agreement would say little
    holds "$(metric "$work/$run" train/loss first) - $(metric "$work/$run" train/loss) > 0.05"
  done
fi
both sft full 1e-5 train/loss "${sft[@]}"
both sft lora 1e-5 train/loss "${sft[@]}" "${lora[@]}" --lora.dropout 0.1 --optim.max_steps 2
both sft recompute 1e-5 train/loss "${sft[@]}" --model.recompute --optim.max_steps 2
# bf16 activations against the CPU's F32 ones.
both sft full_bf16 5e-3 train/loss "${sft[@]}" "${wide[@]}"
both sft lora_bf16 5e-3 train/loss "${sft[@]}" "${wide[@]}" "${lora[@]}" --model.recompute --optim.max_steps 2
# Recomputation changes nothing.
pass "$card/sft" "${sft[@]}" --run.dir "$work/again" --device.backend cuda --model.recompute
same_files "$work/full/model" "$work/again/model"
note "the same bits with recomputation"

# -- recorded passes -------------------------------------------------------------------------------------------
# On a card a library may choose by the padded number of tokens; in the emulation nothing rounds otherwise.
recorded() {
  local stage=$1 name=$2 metric=$3 output=$4 worst graphs
  shift 4
  pass "$card/$stage" "$@" --run.dir "$work/$name" --device.backend cuda --optim.micro_batch_tokens 64
  pass "$card/$stage" "$@" --run.dir "$work/$name-graphs" --device.backend cuda --optim.micro_batch_tokens 64 --device.graphs 64MiB
  graphs=$(grep -oE 'graphs of [1-9][0-9]* forward and [1-9][0-9]* backward passes' "$work/log") || fail "$name: $(grep 'graphs of' "$work/log")"
  [[ ! $emulated ]] || same_files "$work/$name/$output" "$work/$name-graphs/$output"
  worst=$(paste -d '|' <(values "$work/$name" "$metric") <(values "$work/$name-graphs" "$metric") | awk -F '|' '
    { d = $2 - $4; if (d < 0) d = -d; if (d > worst) worst = d } END { print NR ? worst + 0 : "nothing logged" }')
  holds "\"$worst\" == \"$worst\" + 0 && \"$worst\" + 0 <= 1e-3"
  note "$name: $metric differs by at most $worst; $graphs"
}
recorded sft plain train/loss model "${sft[@]}" --optim.max_steps 3 --data.eval_fraction 0.2 --run.eval_every 1
recorded sft dropout train/loss adapter "${sft[@]}" "${wide[@]}" "${lora[@]}" --lora.dropout 0.1 --model.recompute --optim.max_steps 3
recorded reward judge train/loss model --model.path "$world/base" --data.train "$world/prefs.jsonl" --optim.batch_size 4 \
  --optim.max_steps 3 --optim.lr 1e-3
recorded dpo pairs train/loss adapter --model.path "$world/base" --data.train "$world/prefs.jsonl" --optim.batch_size 4 \
  --optim.max_steps 3 --optim.lr 1e-3 "${lora[@]}"
recorded ppo policy ppo/score model --model.path "$world/base" --reward.path "$work/judge/model" --data.prompts "$world/prompts.jsonl" \
  --ppo.total_episodes 12 --ppo.batch_size 4 --ppo.epochs 2 --rollout.max_new_tokens 6 --rollout.temperature 1 --optim.lr 1e-3
# Resumed without, it goes on as it began.
pass "$card/sft" "${sft[@]}" --run.dir "$work/switched" --device.backend cuda --optim.micro_batch_tokens 64 --device.graphs 64MiB \
  --optim.schedule constant --optim.max_steps 2
pass "$card/sft" "${sft[@]}" --run.dir "$work/switched" --device.backend cuda --optim.micro_batch_tokens 64 --optim.schedule constant \
  --optim.max_steps 4
pass "$card/sft" "${sft[@]}" --run.dir "$work/straight" --device.backend cuda --optim.micro_batch_tokens 64 --optim.schedule constant \
  --optim.max_steps 4
[[ ! $emulated ]] || same_files "$work/straight/model" "$work/switched/model"
refuse 2 'device.graphs: expected a GPU, found cpu' "$bin/sft" "${sft[@]}" --device.graphs 64MiB --device.backend cpu \
  --run.dir "$work/refused"

# -- killed and resumed --------------------------------------------------------------------------------------
steps=12
train=("$card/sft" "${sft[@]}" "${wide[@]}" "${lora[@]}" --optim.max_steps $steps --run.save_every 1 --device.backend cuda)
timed "${train[@]}" --run.dir "$work/whole"
killed_and_resumed "$work/killed" $steps 3 "${train[@]}" --run.dir "$work/killed"
same_files "$work/whole/adapter" "$work/killed/adapter"
note "killed and resumed"

# -- reward, dpo, ppo -----------------------------------------------------------------------------------------------
both reward reward 1e-4 train/loss --model.path "$world/base" --data.train "$world/prefs.jsonl" --optim.batch_size 4 \
  --optim.max_steps 2 --optim.lr 1e-3 "${lora[@]}"
both dpo dpo 1e-4 train/loss --model.path "$world/base" --data.train "$world/prefs.jsonl" --optim.batch_size 4 \
  --optim.max_steps 2 --optim.lr 1e-3 "${lora[@]}"
ppo=(--data.prompts "$world/prompts.jsonl" --ppo.total_episodes 16 --ppo.batch_size 8 --ppo.minibatches 2 --ppo.epochs 1
  --rollout.max_new_tokens 6 --rollout.temperature 1 --optim.lr 1e-3)
reward=(--reward.path "$world/base" --reward.adapter "$work/reward/adapter")
# The tokens drawn are the same, and so is their score but for rounding.
both ppo ppo 1e-4 ppo/score --model.path "$world/base" "${reward[@]}" "${ppo[@]}" "${lora[@]}"
for metric in ppo/policy_loss ppo/value_loss ppo/entropy ppo/kl ppo/length; do
  paste -d '|' <(values "$work/ppo" $metric) <(values "$work/ppo-cpu" $metric) >"$work/side-by-side"
  awk -F '|' '{ d = $2 - $4; if (d > 1e-3 || d < -1e-3) exit 1 } END { exit !NR }' "$work/side-by-side" ||
    fail "$metric: $(cat "$work/side-by-side")"
done
pass "$card/reward" "${wide[@]}" --data.train "$world/prefs.jsonl" --optim.batch_size 4 --optim.max_steps 1 \
  --run.dir "$work/reward_bf16" --device.backend cuda
pass "$card/ppo" "${wide[@]}" --reward.path "$work/reward_bf16/model" "${ppo[@]}" --ppo.total_episodes 8 \
  --run.dir "$work/ppo_bf16" --device.backend cuda --model.recompute
holds "$(metric "$work/ppo_bf16" ppo/entropy) > 1"
pass "$card/ppo" "${wide[@]}" --reward.path "$work/reward_bf16/model" "${ppo[@]}" --ppo.total_episodes 8 \
  --run.dir "$work/ppo_codes" --device.backend cuda --rollout.cache_dtype int8
holds "$(metric "$work/ppo_codes" ppo/sampler_kl) > 0 && $(metric "$work/ppo_codes" ppo/sampler_kl) < 0.01"
holds "$(metric "$work/ppo_codes" ppo/sampler_error) != $(metric "$work/ppo_bf16" ppo/sampler_error)"
note "ppo, full, in bf16, and over a cache in 8 bits"

# -- generate ---------------------------------------------------------------------------------------------------
greedy=(--model "$work/full/model" --ids 5,9,14 --temperature 0 --max-new-tokens 12 --ignore-eos --json)
pass "$card/generate" "${greedy[@]}" --device cuda
cp "$work/out" "$work/tokens"
pass "$bin/generate" "${greedy[@]}" --device cpu
[[ $(jq -c .ids "$work/tokens") == "$(jq -c .ids "$work/out")" ]] || fail "greedy tokens: $(cat "$work/tokens" "$work/out")"
# On either with F32 weights, and so nearly the same figure.
kl() { sed -nE 's/^KL\(sampler \|\| exact weights\): ([^ ]+) .*/\1/p' "$work/log"; }
pass "$card/generate" "${greedy[@]}" --device cuda --cache-dtype int8 --kl 8
on_card=$(kl)
pass "$bin/generate" "${greedy[@]}" --device cpu --cache-dtype int8 --kl 8
holds "$on_card > 0 && $on_card / $(kl) > 0.9 && $on_card / $(kl) < 1.1"
note "the same greedy tokens, and how far a cache in 8 bits is off"

# -- memory -----------------------------------------------------------------------------------------------------
refuse 5 'device.memory_limit' "$card/sft" "${sft[@]}" --run.dir "$work/small" --device.backend cuda \
  --device.memory_limit 1MiB
[[ ! -e $work/small/model ]] || fail "a run without memory left a model"
note "too little memory is told"
# Only of the emulated card is it known how much it has: all but what is left for the driver.
if [[ $("$card/sft" "${sft[@]}" --run.dir "$work/small" --device.backend cuda --check 2>&1) == *emulated* ]]; then
  DROVER_CUDA_HOST_DEVICE=memory=4G "$card/sft" "${sft[@]}" --run.dir "$work/small" --device.backend cuda --check >"$work/log" 2>&1
  grep -q ' of 3\.75 GiB$' "$work/log" || fail "the limit of a card of 4 GiB: $(grep total "$work/log")"
fi
echo "cuda: the card does what the processor does"
