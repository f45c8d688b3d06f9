#!/usr/bin/env bash
# The reward stage as a user runs it: what it learns, what it writes, and what its options do.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 2
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft-lora" --lora.enabled \
  --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 2
train=("$bin/reward" --data.train "$world/prefs.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.reference "$world/sft.jsonl" --optim.lr 1e-3 --optim.batch_size 8 --optim.epochs 6)

# SFT answers as the chosen sides of pairs, so that `inspect score` gives their scores.
sed 's/"completion"\(.*\)}/"chosen"\1,"rejected":"no"}/' "$world/sft.jsonl" >"$work/reference.jsonl"
mean_reference() { # of the reward model in the arguments
  pass "$bin/inspect" score "$@" --data "$work/reference.jsonl" --json
  jq -s 'map(.chosen | values) | add / length' "$work/out"
}

# judge RUN SCORER...: accuracy has risen, and the scores of the model on disk are those that the stage saw.
judge() {
  local run=$1 first last mean
  shift
  [[ $(jq -r .steps "$work/out") == 66 && $(jq -r .output "$work/out") == "$run"/* ]] || fail "result: $(cat "$work/out")"
  last=$(jq .eval_accuracy "$work/out")
  first=$(sqlite3 "$run/run.db" "select value from metric where name = 'train/accuracy' and step = 1")
  holds "$first < 0.8 && $last >= 0.95"
  holds "$(metric "$run" eval/accuracy) == $last"
  mean=$(mean_reference "$@")
  holds "$mean < 1e-4 && $mean > -1e-4"
  pass "$bin/inspect" score "$@" --data "$world/prefs_eval.jsonl" --json
  holds "$(tail -n 1 "$work/out" | jq .accuracy) == $last"
}

pass "${train[@]}" --model.path "$work/sft/model" --run.dir "$work/full" --json
judge "$work/full" --model "$work/full/model"
for name in eval/loss eval/accuracy eval/margin train/loss train/accuracy train/margin train/grad_norm train/lr \
  train/tokens_per_second reward/shift; do
  [[ -n $(metric "$work/full" $name) ]] || fail "no metric $name"
done
for file in config.json done.json run.db model/config.json model/model.safetensors model/tokenizer.json; do
  [[ -s $work/full/$file ]] || fail "$file is missing"
done
[[ $(jq -r '.architectures[0]' "$work/full/model/config.json") == LlamaForSequenceClassification ]] || fail "architecture"
note "full"

pass "${train[@]}" --model.path "$world/base" --model.adapter "$work/sft-lora/adapter" --lora.enabled \
  --run.dir "$work/lora" --json
judge "$work/lora" --model "$world/base" --adapter "$work/lora/adapter"
[[ $(jq -r .task_type "$work/lora/adapter/adapter_config.json") == SEQ_CLS ]] || fail "task_type"
# The adapter goes on from the SFT adapter: its shape, and not LoRA's options.
[[ $(jq -r .r "$work/lora/adapter/adapter_config.json") == $(jq -r .r "$work/sft-lora/adapter/adapter_config.json") ]] ||
  fail "the SFT adapter's rank"
note "LoRA from an SFT adapter"

# Merged at load where all weights are trained.
pass "${train[@]}" --model.path "$world/base" --model.adapter "$work/sft-lora/adapter" --run.dir "$work/merged" --json
judge "$work/merged" --model "$work/merged/model"
note "full from an SFT adapter"

# Options. bf16 weights; parts of one file; recomputation and micro-batches change nothing but rounding.
pass "${train[@]}" --model.path "$work/sft/model" --model.dtype bf16 --run.dir "$work/bf16" --json
holds "$(jq .eval_accuracy "$work/out") >= 0.95"
pass "$bin/reward" --model.path "$work/sft/model" --data.train "$world/prefs.jsonl" --data.eval_fraction 0.25 \
  --run.dir "$work/split" --reward.centring 0.01 --optim.batch_size 8 --optim.lr 3e-3 --json
jq -e '.eval_accuracy != null and .shift == 0' "$work/out" >"$work/log" || fail "eval_fraction: $(cat "$work/out")"
one_step=(--model.path "$work/sft/model" --optim.max_steps 1 --json)
pass "${train[@]}" "${one_step[@]}" --run.dir "$work/a"
loss=$(jq .loss "$work/out") eval_loss=$(jq .eval_loss "$work/out")
i=0
for option in "--model.recompute true" "--optim.micro_batch_tokens 96" "--data.packing false"; do
  # shellcheck disable=SC2086 # an option and its value
  pass "${train[@]}" "${one_step[@]}" --run.dir "$work/a$((i += 1))" $option
  holds "$(jq .loss "$work/out") - $loss < 1e-5 && $loss - $(jq .loss "$work/out") < 1e-5"
  holds "$(jq .eval_loss "$work/out") - $eval_loss < 1e-4 && $eval_loss - $(jq .eval_loss "$work/out") < 1e-4"
done
note "options"

# Several answers to a prompt: what is learnt holds for the pairs, and `inspect score` sees the same.
make_ranking "$world/prefs.jsonl" "$work/ranked.jsonl"
make_ranking "$world/prefs_eval.jsonl" "$work/ranked_eval.jsonl"
only_last "${train[@]}" --model.path "$work/sft/model" --data.train "$work/ranked.jsonl" --data.eval "$work/ranked_eval.jsonl"
pass "${arguments[@]}" --run.dir "$work/ranked" --json
ranked=$(jq .eval_accuracy "$work/out") tau=$(jq .eval_kendall_tau "$work/out")
holds "$ranked >= 0.9 && $tau >= 0.8"
holds "$(metric "$work/ranked" eval/kendall_tau) - $tau < 1e-8 && $tau - $(metric "$work/ranked" eval/kendall_tau) < 1e-8"
[[ -n $(metric "$work/ranked" eval/accuracy_by_margin/4) ]] || fail "no accuracy by margin"
pass "$bin/inspect" score --model "$work/ranked/model" --data "$work/ranked_eval.jsonl" --json
holds "$(tail -n 1 "$work/out" | jq .accuracy) == $ranked"
jq -se '.[0].ranks == [1, 2, 3] and (.[0].scores | length) == 3' "$work/out" >"$work/log" || fail "inspect score: $(cat "$work/out")"
# Dropout is a function of the training data alone.
dropped=("${one_step[@]}" --model.path "$work/sft/model" --lora.enabled --lora.dropout 0.3)
pass "${train[@]}" "${dropped[@]}" --run.dir "$work/d0"
only_last "${train[@]}" "${dropped[@]}" --run.dir "$work/d1" --data.eval "$work/ranked_eval.jsonl"
pass "${arguments[@]}"
same_files "$work/d0/adapter" "$work/d1/adapter"
note "several answers"

# A finished run has nothing to do, and tells its result again.
cp "$work/full/model/model.safetensors" "$work/before"
pass "${train[@]}" --model.path "$work/sft/model" --run.dir "$work/full" --json
[[ $(jq .steps "$work/out") == 66 ]] || fail "a finished run: $(cat "$work/out")"
grep -q 'finished already' "$work/log" || fail "a finished run: $(cat "$work/log")"
cmp "$work/before" "$work/full/model/model.safetensors" || fail "a finished run changed its result"

# --help, --print-config, --check, --version.
expect 'reward.centring' "$bin/reward" --help all
expect 'usage: drover reward' "$bin/reward" --help
pass "${train[@]}" --model.path "$work/sft/model" --run.dir "$work/none" --print-config
jq -e '.optim.batch_size == 8 and .run.seed == 1' "$work/out" >"$work/log" || fail "--print-config"
cp "$work/out" "$work/config.json"
pass "$bin/reward" --config "$work/config.json" --print-config
cmp "$work/config.json" "$work/out" || fail "--print-config read back gives another configuration"
expect 'nothing wrong' "${train[@]}" --model.path "$work/sft/model" --run.dir "$work/none" --check
grep -q 'memory plan' "$work/log" || fail "--check shows no memory plan"
[[ ! -e $work/none/run.db ]] || fail "--check began a run"
expect '{"ok": true}' "${train[@]}" --model.path "$work/sft/model" --run.dir "$work/none" --check --json
echo "reward: all as expected"
