#!/usr/bin/env bash
# The sft stage killed with SIGKILL at random moments, and stopped by SIGTERM, ends with the same bytes as a run that was
# left alone; a finished run is left as it is; a constant schedule can go on longer. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world

train=("$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --data.eval "$world/prompts_eval.jsonl"
  --data.template chatml --data.max_length 96 --optim.batch_size 6 --optim.micro_batch_tokens 150 --optim.lr 3e-3
  --optim.warmup_steps 3 --optim.epochs 5 --run.save_every 3 --run.eval_every 20 --json)
head -n 9 "$world/sft.jsonl" >"$world/prompts_eval.jsonl"
steps=60 # 5 epochs of ceil(70 / 6)

# What the log has but times; and the result but for the folder's name.
metrics() {
  sqlite3 "$1/run.db" "select step, name, value from metric where name not like '%per_second' order by step, name"
}
result() { sed "s|$1|RUN|" "$work/out"; }

kill_and_compare() { # kill_and_compare NAME OUTPUT ARGUMENTS...
  local name=$1 output=$2 first
  shift 2
  timed "${train[@]}" --run.dir "$work/$name" "$@"
  first=$(result "$work/$name")
  grep -q "\"steps\": $steps," "$work/out" || fail "$name: expected $steps steps: $(cat "$work/out")"
  killed_and_resumed "$work/$name-killed" $steps 4 "${train[@]}" --run.dir "$work/$name-killed" "$@"
  same_files "$work/$name/$output" "$work/$name-killed/$output"
  [[ $(result "$work/$name-killed") == "$first" ]] || fail "$name: other results: $first, $(cat "$work/out")"
  [[ $(metrics "$work/$name") == "$(metrics "$work/$name-killed")" ]] || fail "$name: the run logs differ"
  [[ $(metrics "$work/$name" | grep -c train/loss) == "$steps" ]] || fail "$name: steps in the run log"
  note "$name, killed and resumed"
}

kill_and_compare full model
kill_and_compare lora adapter --lora.enabled --lora.r 4 --lora.dropout 0.1
kill_and_compare bf16 model --model.dtype bf16 --model.recompute --optim.name lion --optim.lr 3e-4 --optim.beta2 0.99
kill_and_compare codes model --optim.state 8bit
differ "$work/full/model/model.safetensors" "$work/codes/model/model.safetensors"
# Another seed gives other bytes: the comparison can fail.
pass "${train[@]}" --run.dir "$work/other" --run.seed 2
differ "$work/full/model/model.safetensors" "$work/other/model/model.safetensors"
# Recomputation and the size of micro-batches are no part of the mathematics; the former not even of the bits.
pass "${train[@]}" --run.dir "$work/recompute" --model.recompute
same_files "$work/full/model" "$work/recompute/model"
note "recomputation gives the same bits"

# SIGTERM: the step at hand is finished and saved.
stopped TERM 143 "$work/term" "${train[@]}" --run.dir "$work/term" --run.save_every 0
pass "${train[@]}" --run.dir "$work/term" --run.save_every 0
same_files "$work/full/model" "$work/term/model"
note "SIGTERM saves and resumes"

stopped HUP 129 "$work/hup" "${train[@]}" --run.dir "$work/hup" --run.save_every 0
grep -q 'waiting for the update at hand' "$work/log" || fail "SIGHUP is not answered: $(cat "$work/log")"
pass "${train[@]}" --run.dir "$work/hup" --run.save_every 0
same_files "$work/full/model" "$work/hup/model"
# Under nohup it is not for us.
mkdir "$work/nohup"
(cd "$work/nohup" && trap '' HUP && exec "${train[@]}" --run.dir "$work/nohup/run" >out 2>log </dev/null) &
job=$!
until grep -q '^sft: ' "$work/nohup/log" 2>/dev/null || ! kill -0 $job 2>/dev/null; do sleep 0.005; done
kill -HUP $job 2>/dev/null || true
wait $job || fail "SIGHUP under nohup: exit code $?"
same_files "$work/full/model" "$work/nohup/run/model"
note "SIGHUP saves and resumes, but not under nohup"

# Other data under the same name: the place in them would mean nothing.
cp "$world/sft.jsonl" "$work/data.jsonl"
only_last "${train[@]}" --run.dir "$work/changed" --data.train "$work/data.jsonl" --optim.schedule constant
interrupted=("${arguments[@]}")
pass "${interrupted[@]}" --optim.max_steps 4
head -n 60 "$world/sft.jsonl" >"$work/data.jsonl"
refuse 2 "data.train: the files, the tokenizer or the template have changed since the run began" "${interrupted[@]}" \
  --optim.max_steps 8
cp "$world/sft.jsonl" "$work/data.jsonl"
pass "${interrupted[@]}" --optim.max_steps 8
grep -q 'going on from' "$work/log" || fail "the former data do not go on"
note "changed data are noticed"

# A finished run: the same result at once, and nothing is written.
stamp=$(stat -c %Z "$work/full/model/model.safetensors")
expect '"output"' "${train[@]}" --run.dir "$work/full"
grep -q 'finished already' "$work/log" || fail "a finished run does not say so"
[[ $(stat -c %Z "$work/full/model/model.safetensors") == "$stamp" ]] || fail "a finished run wrote again"
refuse 2 'optim.lr' "${train[@]}" --run.dir "$work/full" --optim.lr 1e-3
note "a finished run is left as it is"

# With a constant schedule, 12 steps and then up to 24 are the same as 24.
constant=("${train[@]}" --optim.schedule constant)
pass "${constant[@]}" --run.dir "$work/long" --optim.max_steps 24
pass "${constant[@]}" --run.dir "$work/longer" --optim.max_steps 12
pass "${constant[@]}" --run.dir "$work/longer" --optim.max_steps 24
grep -q 'going on from' "$work/log" || fail "did not go on: $(cat "$work/log")"
same_files "$work/long/model" "$work/longer/model"
# An end that has been passed already: nothing could be made of the newest checkpoint.
refuse 2 'of update 24, and the run is to end with update 20' "${constant[@]}" --run.dir "$work/longer" --optim.max_steps 20
note "a constant schedule goes on longer"

# What followed the last update is lost with the disk, not the training: the result is made again from the checkpoint.
broken=("${train[@]}" --run.dir "$work/broken")
mkdir -p "$work/broken" && pass "${broken[@]}" --optim.max_steps 8
rm -rf "$work/broken/model" "$work/broken/done.json"
pass "${broken[@]}" --optim.max_steps 8
grep -q 'going on from .*step-8' "$work/log" || fail "no checkpoint at the end: $(cat "$work/log")"
rm -rf "$work/broken/model"
refuse 6 'its result' "${broken[@]}" --optim.max_steps 8
note "the end is saved before the result; a result that is gone is said"

# The newest checkpoint cannot be read (a link in a circle stands for a disk that is away): no older one in its place.
newest=$work/broken/checkpoints/step-8
mv "$newest/state.safetensors" "$work/away"
ln -s state.safetensors "$newest/state.safetensors"
refuse 6 'cannot read' "${broken[@]}" --optim.max_steps 12
rm "$newest/state.safetensors" && mv "$work/away" "$newest/state.safetensors"
pass "${broken[@]}" --optim.max_steps 12
grep -q 'going on from .*step-8' "$work/log" || fail "not from the newest: $(cat "$work/log")"
note "a checkpoint that cannot be read is not passed over"

# Another rate from here on is told; in bf16 too.
pass "${broken[@]}" --optim.max_steps 16 --optim.lr 1e-3 --model.dtype bf16
sqlite3 "$work/broken/run.db" "select text from event where level = 'warning'" | grep -q '^optim.lr (was 0.003, is 0.001)' ||
  fail "the new rate is not in the run log"
grep -q 'model.dtype (was "auto", is "bf16")' "$work/log" || fail "the new dtype is not told: $(cat "$work/log")"
note "another rate and another dtype are told"

# Two processes cannot share a run directory.
exec 9<"$work/term/lock"
flock -n 9
refuse 6 'in use by another process' "${train[@]}" --run.dir "$work/term" --run.seed 1
exec 9>&-
echo "sft: killed and resumed runs end with the same bytes"
