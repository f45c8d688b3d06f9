#!/usr/bin/env bash
# The reward stage killed with SIGKILL at random moments, and stopped by SIGTERM, ends with the same bytes as a run that
# was left alone. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world

train=("$bin/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.reference "$world/sft.jsonl" --optim.lr 3e-3 --optim.batch_size 8 --optim.epochs 8 --run.save_every 3
  --run.eval_every 20)
lora=(--lora.enabled --lora.r 4 --lora.dropout 0.1)

kill_and_compare() { # kill_and_compare NAME OUTPUT STEPS ARGUMENTS...
  local name=$1 output=$2 steps=$3
  shift 3
  only_last "${train[@]}" "$@"
  timed "${arguments[@]}" --run.dir "$work/$name"
  killed_and_resumed "$work/$name-killed" "$steps" 4 "${arguments[@]}" --run.dir "$work/$name-killed"
  same_files "$work/$name/$output" "$work/$name-killed/$output"
  # The log has each step once, whatever was done twice.
  [[ $(sqlite3 "$work/$name-killed/run.db" "select count(*), count(distinct step) from metric
    where name = 'train/loss'") == "$steps|$steps" ]] || fail "$name: steps in the run log"
  [[ $(sqlite3 "$work/$name-killed/run.db" 'select status from run order by id desc limit 1') == done ]] ||
    fail "$name: status in the run log"
  note "$name, killed and resumed"
}

kill_and_compare full model 88
kill_and_compare lora adapter 88 "${lora[@]}"
make_ranking "$world/prefs.jsonl" "$work/ranked.jsonl"
kill_and_compare ranked adapter 33 "${lora[@]}" --optim.epochs 3 --data.train "$work/ranked.jsonl"
# Another seed gives other bytes: the comparison can fail.
pass "${train[@]}" --run.dir "$work/other" "${lora[@]}" --run.seed 2
differ "$work/lora/adapter/adapter_model.safetensors" "$work/other/adapter/adapter_model.safetensors"

# SIGTERM and SIGINT: the step at hand is finished and saved, and the exit code says which it was.
interrupted() { # NAME SIGNAL CODE
  local run=$work/$1
  stopped "$2" "$3" "$run" "${train[@]}" --run.dir "$run" --run.save_every 0
  pass "${train[@]}" --run.dir "$run" --run.save_every 0
  grep -q 'going on from' "$work/log" || fail "$1: did not go on"
  same_files "$work/full/model" "$run/model"
  note "$1 saves and resumes"
}
interrupted sigterm TERM 143
# A background job of a script ignores SIGINT, unless job control is on.
set -m
interrupted sigint INT 130
set +m

# A damaged checkpoint is passed over for the one before it, with a warning.
cp -r "$work/lora-killed" "$work/damaged"
rm -r "$work/damaged/done.json" "$work/damaged/adapter"
state=$(ls -d "$work/damaged/checkpoints/"* | sort -V | tail -n 1)/state.safetensors
printf 'X' | dd of="$state" bs=1 seek=1000 conv=notrunc status=none
pass "${train[@]}" --run.dir "$work/damaged" "${lora[@]}"
grep -qF "$state is damaged" "$work/log" || fail "a damaged checkpoint is not mentioned: $(cat "$work/log")"
same_files "$work/lora/adapter" "$work/damaged/adapter"
note "a damaged checkpoint is passed over"

# Another configuration cannot go on here; run.resume false starts over.
refuse 2 'optim.lr' "${train[@]}" --run.dir "$work/lora" "${lora[@]}" --optim.lr 1e-3
pass "${train[@]}" --run.dir "$work/lora" --run.resume false
[[ ! -e $work/lora/adapter ]] || fail "the former result is still there"
same_files "$work/full/model" "$work/lora/model"
echo "reward: killed and resumed runs end with the same bytes"
