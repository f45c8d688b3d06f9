#!/usr/bin/env bash
# model.offload and optim.offload with --device.backend cuda: the bits of a run without the former and the losses of one without
# the latter, killed and resumed to the bit, in the memory that the plan says; what is refused. $1: the folder of the executables. Without CUDA in them those of the emulated card are
# taken (../cuda_host/bin).
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world

card=$bin
if ! "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/probe" --device.backend cuda \
  --check >"$work/out" 2>"$work/log"; then
  if ! grep -q 'this build has no CUDA' "$work/log" || [[ ! -x $bin/../cuda_host/bin/sft ]]; then
    echo "skipped: $(tail -n 1 "$work/log")"
    exit 77
  fi
  card=$bin/../cuda_host/bin
fi

# Four blocks, so that two inputs are on the way while a third one waits.
jq '.num_hidden_layers = 4' "$world/model.json" >"$work/deep.json"
pass "$bin/init" --config "$work/deep.json" --tokenizer "$world/tokenizer" --out "$work/deep" --seed 7

common=(--model.path "$work/deep" --optim.micro_batch_tokens 64 --data.max_length 48 --device.backend cuda
  --model.recompute)
sft=("${common[@]}" --optim.batch_size 4 --data.train "$world/sft.jsonl" --optim.max_steps 3 --optim.lr 3e-3 --optim.schedule constant)
offload=(--model.offload activations)

# same STAGE NAME OUTPUT ARGUMENTS...: with and without it, from the same start to the same end.
same() {
  local stage=$1 name=$2 output=$3
  shift 3
  pass "$card/$stage" "$@" --run.dir "$work/$name"
  pass "$card/$stage" "$@" "${offload[@]}" --run.dir "$work/$name-offload"
  cp "$work/log" "$work/$name-offload.log"
  same_files "$work/$name/$output" "$work/$name-offload/$output"
  note "$name: the same bits"
}
same sft full model "${sft[@]}"
same sft lora adapter "${sft[@]}" --lora.enabled --lora.r 4 --lora.dropout 0.1
same reward reward model "${common[@]}" --optim.batch_size 4 --data.train "$world/prefs.jsonl" --optim.max_steps 2 --optim.lr 1e-3
same ppo ppo model "${common[@]}" --reward.path "$work/reward/model" --data.prompts "$world/prompts.jsonl" --ppo.total_episodes 8 \
  --ppo.batch_size 4 --ppo.epochs 1 --rollout.max_new_tokens 6 --rollout.temperature 1 --optim.lr 1e-3

# -- the plan: three inputs of [64, 32] fp32 on the host instead of as many on the device ------------------------------------
# planned FILE LINE: bytes of a line of the plan in KiB.
planned() {
  sed -nE "s/^ *$2 +([0-9.]+) (KiB|MiB|GiB).*/\1 \2/p" "$1" | awk '{ print $1 * ($2 == "MiB" ? 1024 : $2 == "GiB" ? 1048576 : 1); exit }'
}
"$card/sft" "${sft[@]}" --run.dir "$work/plan" --check >"$work/out" 2>"$work/whole"
"$card/sft" "${sft[@]}" "${offload[@]}" --run.dir "$work/plan" --check >"$work/out" 2>"$work/log"
sed -n "/beside it, of the host's memory:/,\$p" "$work/log" >"$work/host"
[[ $(planned "$work/host" 'activations, pinned') == 24 ]] || fail "host memory: $(cat "$work/log")"
[[ $(planned "$work/host" 'total of the host') == 24 ]] || fail "host memory: $(cat "$work/log")"
# told in MiB to two digits; on a real card the driver adds to the peak
holds "$(planned "$work/whole" activations) - $(planned "$work/log" activations) - 24 < 11 && \
  $(planned "$work/whole" activations) - $(planned "$work/log" activations) - 24 > -11"
peak=$(sed -nE 's/.*peak memory (.*), planned (.*)$/\1 = \2/p' "$work/full-offload.log")
[[ $card == "$bin" || $peak && ${peak% = *} == "${peak#* = }" ]] || fail "peak and plan: $peak"
note "the plan: $peak"

# -- killed and resumed, and the other way from where it stood ------------------------------------------------------------
train=("$card/sft" "${sft[@]}" "${offload[@]}" --optim.max_steps 12 --run.save_every 1)
timed "${train[@]}" --run.dir "$work/left"
killed_and_resumed "$work/killed" 12 3 "${train[@]}" --run.dir "$work/killed"
same_files "$work/left/model" "$work/killed/model"
pass "${train[@]}" --run.dir "$work/changed" --optim.max_steps 6
pass "$card/sft" "${sft[@]}" --optim.max_steps 12 --run.dir "$work/changed"
same_files "$work/left/model" "$work/changed/model"
note "killed and resumed"

# -- the optimiser's state ------------------------------------------------------------------------------------------------
# near STAGE NAME TOLERANCE METRIC ARGUMENTS...: the processor's updates beside the card's.
state=(--optim.offload state)
values() { sqlite3 "$1/run.db" "select step, value from metric where name = '$2' order by step"; }
near() {
  local stage=$1 name=$2 tolerance=$3 metric=$4 worst
  shift 4
  pass "$card/$stage" "$@" --run.dir "$work/$name"
  pass "$card/$stage" "$@" "${state[@]}" --run.dir "$work/$name-state"
  peak=$(sed -nE 's/.*peak memory (.*), planned (.*)$/\1 = \2/p' "$work/log")
  [[ $card == "$bin" || $peak && ${peak% = *} == "${peak#* = }" ]] || fail "$name: peak and plan: $peak"
  worst=$(paste -d '|' <(values "$work/$name" "$metric") <(values "$work/$name-state" "$metric") | awk -F '|' '
    { d = $2 - $4; if (d < 0) d = -d; if (d > worst) worst = d } END { print NR ? worst + 0 : "nothing logged" }')
  holds "\"$worst\" == \"$worst\" + 0 && \"$worst\" + 0 <= $tolerance"
  note "$name: $metric differs by at most $worst; $peak"
}
near sft state 1e-5 train/loss "${sft[@]}" --optim.max_steps 8 --optim.weight_decay 0.1 --optim.clip 0.5
near sft state_8bit 1e-3 train/loss "${sft[@]}" --optim.state 8bit --model.recompute false
near reward state_reward 1e-5 train/loss "${common[@]}" --optim.batch_size 4 --data.train "$world/prefs.jsonl" --optim.max_steps 3 \
  --optim.lr 1e-3 --optim.name lion
ppo=("${common[@]}" --reward.path "$work/reward/model" --data.prompts "$world/prompts.jsonl" --ppo.total_episodes 12 --ppo.batch_size 4
  --ppo.epochs 1 --rollout.max_new_tokens 6 --rollout.temperature 1 --optim.lr 1e-3 --optim.schedule constant --ppo.ema 0.9)
near ppo state_ppo 1e-4 ppo/score "${ppo[@]}" "${offload[@]}"
[[ -e $work/state_ppo-state/ema/model/model.safetensors ]] || fail "no running mean was saved"

# Killed and resumed, with weights in bf16 and all that can be in the host's memory.
cat >"$work/wide.json" <<'JSON'
{"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
 "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}
JSON
pass "$bin/init" --config "$work/wide.json" --tokenizer "$world/tokenizer" --out "$work/wide" --seed 7
train=("$card/sft" "${sft[@]}" "${offload[@]}" "${state[@]}" --model.path "$work/wide" --model.dtype bf16 --optim.state 8bit
  --optim.max_steps 9 --run.save_every 1)
timed "${train[@]}" --run.dir "$work/away"
killed_and_resumed "$work/away-killed" 9 3 "${train[@]}" --run.dir "$work/away-killed"
same_files "$work/away/model" "$work/away-killed/model"
if [[ $card == "$bin" ]]; then # where the run was, a model is made of its checkpoint
  pass "$bin/export" "$work/away" --step 9 --out "$work/exported"
  same_files "$work/away/model" "$work/exported"
fi
train=("$card/reward" "${common[@]}" "${offload[@]}" "${state[@]}" --optim.batch_size 4 --data.train "$world/prefs.jsonl"
  --optim.lr 1e-3 --optim.max_steps 8 --run.save_every 1)
timed "${train[@]}" --run.dir "$work/judge"
killed_and_resumed "$work/judge-killed" 8 2 "${train[@]}" --run.dir "$work/judge-killed"
same_files "$work/judge/model" "$work/judge-killed/model"
train=("$card/ppo" "${ppo[@]}" "${offload[@]}" "${state[@]}" --ppo.total_episodes 24 --run.save_every 1)
timed "${train[@]}" --run.dir "$work/policy"
killed_and_resumed "$work/policy-killed" 6 2 "${train[@]}" --run.dir "$work/policy-killed"
same_files "$work/policy/model" "$work/policy-killed/model"
same_files "$work/policy/ema/model" "$work/policy-killed/ema/model"
# The checkpoint is the same whichever made it.
pass "$card/sft" "${sft[@]}" "${state[@]}" --run.dir "$work/either" --optim.max_steps 4
pass "$card/sft" "${sft[@]}" --run.dir "$work/either" --optim.max_steps 6
pass "$card/sft" "${sft[@]}" "${state[@]}" --run.dir "$work/either" --optim.max_steps 8
note "the state: killed and resumed"

# -- refusals --------------------------------------------------------------------------------------------------------------
refuse 2 'model.offload activations: expected a GPU, found cpu' "$bin/sft" "${sft[@]}" "${offload[@]}" --device.backend cpu \
  --run.dir "$work/refused"
refuse 2 'model.offload activations: expected model.recompute true' "$card/sft" "${sft[@]}" "${offload[@]}" \
  --model.recompute false --run.dir "$work/refused"
refuse 2 'model.offload activations: expected model.recompute true' "$card/ppo" "${common[@]}" "${offload[@]}" --model.recompute false \
  --reward.path "$work/reward/model" --data.prompts "$world/prompts.jsonl" --run.dir "$work/refused"
refuse 2 'optim.offload state: expected a GPU, found cpu' "$bin/sft" "${sft[@]}" "${state[@]}" --device.backend cpu \
  --run.dir "$work/refused"
refuse 2 'optim.offload state: expected lora.enabled false' "$card/sft" "${sft[@]}" "${state[@]}" --lora.enabled \
  --run.dir "$work/refused"
# Of the emulated card alone it can be said how much memory of the host it may pin: more than what every run takes for its
# uploads, and less than that and 24 KiB.
if [[ $card != "$bin" ]]; then
  DROVER_CUDA_HOST_DEVICE=pinned=36880K refuse 5 "of the host's memory, pinned, and the driver could not take it" "$card/sft" \
    "${sft[@]}" "${offload[@]}" --run.dir "$work/refused"
fi
[[ ! -e $work/refused/model && ! -e $work/refused/checkpoints/step-1 ]] || fail "a run that was refused trained"
echo "offload: activations and the state of the optimiser may lie in the host's memory"
