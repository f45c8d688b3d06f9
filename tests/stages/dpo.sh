#!/usr/bin/env bash
# The dpo stage as a user runs it: what it learns with each loss, what it writes, that its plan is its peak, and that a run
# that was killed ends with the same bytes. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft-lora" --lora.enabled \
  --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 4
train=("$bin/dpo" --model.path "$world/base" --data.train "$world/prefs.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --optim.batch_size 8 --optim.epochs 4)
lora=(--model.adapter "$work/sft-lora/adapter" --lora.enabled --optim.lr 1e-2)

# rises RUN: from chance to nearly all held-out pairs, and what is logged is what is told.
rises() {
  local run=$1 first last
  last=$(jq .eval_accuracy "$work/out")
  first=$(metric "$run" train/accuracy first)
  [[ $(jq -r .steps "$work/out") == 44 && $(jq -r .output "$work/out") == "$run"/* ]] || fail "result: $(cat "$work/out")"
  holds "$first <= 0.8 && $last >= 0.9"
  holds "($(metric "$run" eval/accuracy) - $last) ^ 2 < 1e-16"
  holds "$(metric "$run" eval/margin) > 0"
}

pass "${train[@]}" "${lora[@]}" --run.dir "$work/lora" --json
peak=$(sed -nE 's/.*peak memory ([0-9.]+) MiB, planned ([0-9.]+) MiB$/\1 <= \2/p' "$work/log")
[[ $peak ]] || fail "no peak memory: $(cat "$work/log")"
holds "$peak"
rises "$work/lora"
for part in train eval; do
  for name in loss accuracy margin reward_chosen reward_rejected logprob_chosen logprob_rejected; do
    [[ -n $(metric "$work/lora" $part/$name) ]] || fail "no metric $part/$name"
  done
done
# The policy is its own reference at first: no margin but rounding, a loss of log 2.
holds "$(metric "$work/lora" train/margin first) ^ 2 < 1e-8"
holds "($(metric "$work/lora" train/loss first) - log(2)) ^ 2 < 1e-8"
for file in config.json done.json run.db adapter/adapter_model.safetensors adapter/identity.json; do
  [[ -s $work/lora/$file ]] || fail "$file is missing"
done
[[ $(jq -r .task_type "$work/lora/adapter/adapter_config.json") == CAUSAL_LM ]] || fail "task_type"
pass "$bin/generate" --model "$world/base" --adapter "$work/lora/adapter" --prompt "red door?" --max-new-tokens 4 --json
note "LoRA from an SFT adapter"

# All weights, the adapter merged into them: the reference is the merged model.
pass "${train[@]}" --model.adapter "$work/sft-lora/adapter" --optim.lr 1e-3 --run.dir "$work/full" --json
rises "$work/full"
holds "($(metric "$work/full" train/loss first) - log(2)) ^ 2 < 1e-8"
[[ -s $work/full/model/model.safetensors ]] || fail "no model"
note "full from an SFT adapter"

losses=("ipo --dpo.beta 0.5" "orpo --dpo.beta 0.5" "simpo --dpo.beta 2" "sigmoid --dpo.label_smoothing 0.1 --dpo.sft_coef 0.2")
for loss in "${losses[@]}"; do
  # shellcheck disable=SC2086 # an option's value and further ones
  pass "${train[@]}" "${lora[@]}" --run.dir "$work/${loss%% *}-2" --json --dpo.loss $loss
  rises "$work/${loss%% *}-2"
  case $loss in
    orpo* | simpo*) ! grep -q 'of the reference' "$work/log" || fail "$loss reads a reference" ;;
    *) grep -q 'of the reference' "$work/log" || fail "$loss reads no reference" ;;
  esac
  note "$loss"
done
make_ranking "$world/prefs.jsonl" "$work/ranked.jsonl"
only_last "${train[@]}" --data.train "$work/ranked.jsonl"
pass "${arguments[@]}" "${lora[@]}" --run.dir "$work/ranked" --json
rises "$work/ranked"
note "several answers"

# Single answers: the same pairs apart, and pairs that are taken apart; both are as many examples in the same order.
for part in prefs prefs_eval; do
  jq -c '{prompt, completion: .chosen, label: true}, {prompt, completion: .rejected, label: false}' "$world/$part.jsonl" >"$world/single_$part.jsonl"
done
single=("$bin/dpo" --model.path "$world/base" --data.train "$world/single_prefs.jsonl" --data.eval "$world/single_prefs_eval.jsonl"
  --optim.batch_size 16 --optim.epochs 4)
kto=(--dpo.loss kto --optim.lr 1e-3)
pass "${single[@]}" "${kto[@]}" --run.dir "$work/kto" --json
rises "$work/kto"
for name in loss accuracy margin reward_chosen reward_rejected logprob_chosen logprob_rejected kl; do
  [[ -n $(metric "$work/kto" train/$name) && -n $(metric "$work/kto" eval/$name) ]] || fail "no metric $name"
done
holds "$(metric "$work/kto" train/kl first) < 1e-4"
holds "$(metric "$work/kto" train/kl) > 0.01"
holds "($(jq .eval_kl "$work/out") - $(metric "$work/kto" eval/kl)) ^ 2 < 1e-16"
holds "($(metric "$work/kto" train/loss first) - 0.5) ^ 2 < 1e-8"
holds "$(sed -nE 's/.*peak memory ([0-9.]+) MiB, planned ([0-9.]+) MiB$/\1 <= \2/p' "$work/log")"
pass "${train[@]}" "${kto[@]}" --optim.batch_size 16 --run.dir "$work/apart" --json
cmp "$work/kto/model/model.safetensors" "$work/apart/model/model.safetensors" || fail "pairs that are taken apart"
pass "${single[@]}" --dpo.loss apo_zero_unpaired --optim.lr 1e-3 --run.dir "$work/apo" --json
holds "$(metric "$work/apo" train/loss) < 0.48 && $(metric "$work/apo" eval/margin) > 0.2"
[[ -z $(metric "$work/apo" train/kl) ]] || fail "apo_zero_unpaired knows no KL"
! grep -q 'to other prompts' "$work/log" || fail "apo_zero_unpaired reads answers to other prompts"
# One kind alone has no margin; more of one kind than of the other is said, with the weights that help.
jq -c 'select(.label)' "$world/single_prefs.jsonl" >"$world/good.jsonl"
only_last "${single[@]}" --data.train "$world/good.jsonl" --optim.max_steps 1
pass "${arguments[@]}" "${kto[@]}" --run.dir "$work/good" --json
jq -e '.margin == null and .kl >= 0 and .eval_margin != null' "$work/out" >/dev/null || fail "good answers alone: $(cat "$work/out")"
grep -q 'data.train has no bad answers' "$work/log" || fail "no word of it: $(cat "$work/log")"
cat "$world/good.jsonl" "$world/single_prefs.jsonl" >"$world/more.jsonl"
only_last "${single[@]}" --data.train "$world/more.jsonl"
pass "${arguments[@]}" "${kto[@]}" --run.dir "$work/none" --check
grep -q 'dpo.desirable_weight 0.50 to 0.67, or dpo.undesirable_weight 1.50 to 2.00' "$work/log" || fail "weights: $(cat "$work/log")"
pass "${arguments[@]}" "${kto[@]}" --run.dir "$work/none" --dpo.undesirable_weight 2 --check
! grep -q 'should 1 to' "$work/log" || fail "weights that are right: $(cat "$work/log")"
note "single answers"

# Micro-batches, packing and recomputation change nothing but rounding.
one_step=("${train[@]}" "${lora[@]}" --optim.max_steps 1 --json)
pass "${one_step[@]}" --run.dir "$work/a"
loss=$(jq .eval_loss "$work/out")
i=0
for option in "--model.recompute true" "--optim.micro_batch_tokens 64" "--data.packing false"; do
  # shellcheck disable=SC2086 # an option and its value
  pass "${one_step[@]}" --run.dir "$work/a$((i += 1))" $option
  holds "($(jq .eval_loss "$work/out") - $loss) ^ 2 < 1e-8"
done
note "options"

# Refused, or said to be in vain.
refuse 2 dpo.loss "${train[@]}" --run.dir "$work/none" --dpo.loss bco
refuse 3 'no two answers to compare: drover dpo --dpo.loss kto learns from them' "${single[@]}" --run.dir "$work/none"
only_last "${single[@]}" --data.train "$world/sft.jsonl"
refuse 3 'answers with a verdict each (KTO) are expected' "${arguments[@]}" "${kto[@]}" --run.dir "$work/none"
refuse 2 'optim.batch_size is 1' "${single[@]}" "${kto[@]}" --optim.batch_size 1 --run.dir "$work/none" --check
pass "${single[@]}" "${kto[@]}" --run.dir "$work/none" --dpo.sft_coef 1 --check
grep -q 'dpo.sft_coef is given and has no effect' "$work/log" || fail "dpo.sft_coef given in vain: $(cat "$work/log")"
pass "${train[@]}" --run.dir "$work/none" --dpo.desirable_weight 2 --check
grep -q 'dpo.desirable_weight is given and has no effect' "$work/log" || fail "dpo.desirable_weight given in vain: $(cat "$work/log")"
refuse 2 dpo.beta "${train[@]}" --run.dir "$work/none" --dpo.beta 0
refuse 2 'dpo.label_smoothing is 0.5' "${train[@]}" --run.dir "$work/none" --dpo.loss robust --dpo.label_smoothing 0.5 --check
pass "${train[@]}" --run.dir "$work/none" --dpo.gamma 1 --check
grep -q 'dpo.gamma' "$work/log" || fail "dpo.gamma given in vain: $(cat "$work/log")"
pass "${train[@]}" --run.dir "$work/none" --dpo.loss orpo --dpo.sft_coef 1 --check
grep -q 'dpo.sft_coef' "$work/log" || fail "dpo.sft_coef given in vain: $(cat "$work/log")"
refuse 2 'dpo.beta' "${train[@]}" "${lora[@]}" --run.dir "$work/lora" --dpo.beta 0.2
note "refusals"

kill_and_compare() { # NAME OUTPUT STEPS ARGUMENTS... of the command `train`
  local name=$1 output=$2 steps=$3
  shift 3
  timed "${train[@]}" --run.save_every 3 --run.eval_every 20 --run.dir "$work/$name" "$@"
  killed_and_resumed "$work/$name-killed" "$steps" 3 "${train[@]}" --run.save_every 3 --run.eval_every 20 \
    --run.dir "$work/$name-killed" "$@"
  same_files "$work/$name/$output" "$work/$name-killed/$output"
  note "$name, killed and resumed"
}
kill_and_compare whole model 88 --optim.lr 1e-3 --optim.epochs 8
kill_and_compare adapter adapter 88 "${lora[@]}" --lora.dropout 0.1 --optim.epochs 8
(
  train=("${single[@]}")
  kill_and_compare single model 88 "${kto[@]}" --optim.epochs 8
)
pass "${train[@]}" --run.save_every 3 --run.dir "$work/other" "${lora[@]}" --lora.dropout 0.1 --optim.epochs 8 --run.seed 2
differ "$work/adapter/adapter/adapter_model.safetensors" "$work/other/adapter/adapter_model.safetensors"
# With other evaluation data a run goes on too: the reference of these is read then.
stopped TERM 143 "$work/term" "${train[@]}" "${lora[@]}" --optim.epochs 8 --run.save_every 0 --run.dir "$work/term"
only_last "${train[@]}" --data.eval "$world/prefs.jsonl"
pass "${arguments[@]}" "${lora[@]}" --optim.epochs 8 --run.save_every 0 --run.dir "$work/term" --json
grep -q 'going on from' "$work/log" || fail "did not go on"
holds "$(jq .eval_accuracy "$work/out") > 0.9"

# `export` makes the adapter of a checkpoint.
pass "$drover" export "$work/adapter" --out "$work/exported"
cmp "$work/exported/adapter_model.safetensors" "$work/adapter/adapter/adapter_model.safetensors" || fail "exported weights"
pass "$bin/dpo" --help all
grep -q 'dpo.label_smoothing' "$work/out" || fail "--help"
pass "$bin/dpo" --config configs/dpo_lora.json --model.path "$world/base" --data.train "$world/prefs.jsonl" \
  --run.dir "$work/none" --check
pass "$bin/dpo" --config configs/dpo_kto.json --model.path "$world/base" --data.train "$world/single_prefs.jsonl" \
  --run.dir "$work/none" --check
! grep -q 'no effect' "$work/log" || fail "configs/dpo_kto.json: $(cat "$work/log")"
note "export, --help, the configurations"

# A stage of a pipeline: it goes on from the SFT adapter.
cat >"$work/pipeline.json" <<END
{"dir": "$work/pipe", "stages": [
  {"stage": "sft", "model": "$world/base", "config": {"lora": {"enabled": true}, "data": {"train": "$world/sft.jsonl"},
    "optim": {"lr": 1e-2, "batch_size": 16}}},
  {"stage": "dpo", "model": "sft", "config": {"lora": {"enabled": true}, "data": {"train": "$world/prefs.jsonl"},
    "optim": {"lr": 1e-2, "batch_size": 8}, "dpo": {"beta": 0.2}}},
  {"name": "final", "stage": "merge", "model": "dpo"}]}
END
pass "$drover" run "$work/pipeline.json" --json
jq -e --arg out "$work/pipe/final/model" '.model == $out and .adapter == null' "$work/out" >"$work/log" || fail "pipeline: $(cat "$work/out")"
[[ $(jq -r .model.adapter "$work/pipe/dpo.json") == "$work/pipe/sft/adapter" ]] || fail "pipeline: $(cat "$work/pipe/dpo.json")"
note "a pipeline"
echo "dpo: all as expected"
