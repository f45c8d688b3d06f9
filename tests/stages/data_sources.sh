#!/usr/bin/env bash
# The same records from anywhere and under any names train the same weights. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
common=(--model.path "$world/base" --data.template chatml --data.max_length 96 --optim.max_steps 3 --optim.batch_size 8)
options=("${common[@]}" --data.eval_fraction 0.2)

# trained NAME OPTIONS...: a run in $work/NAME from standard input.
trained() {
  local name=$1
  shift
  "$bin/sft" "${options[@]}" --run.dir "$work/$name" "$@" >"$work/out" 2>"$work/log" ||
    fail "$name: $(tail -n 5 "$work/log")"
}
# as_plain NAME: the run has learnt and evaluated what the plain file gives.
as_plain() {
  same_files "$work/plain/model" "$work/$1/model"
  [[ $(metric "$work/$1" eval/loss) == "$(metric "$work/plain" eval/loss)" ]] || fail "$1: another evaluation"
  note "$1"
}

trained plain --data.train "$world/sft.jsonl" </dev/null
gzip -c "$world/sft.jsonl" >"$work/packed"
trained gzip --data.train "$work/packed" </dev/null
as_plain gzip
jq -s . "$world/sft.jsonl" >"$work/list.json"
trained list --data.train "$work/list.json" </dev/null
as_plain list
trained stdin --data.train - < <(cat "$world/sft.jsonl")
as_plain stdin
trained pipe --data.train <(cat "$work/packed") </dev/null
as_plain pipe
mkdir "$work/shards"
cp "$world/sft.jsonl" "$work/shards/part-0.jsonl"
echo "about" >"$work/shards/README.md"
trained directory --data.train "$work/shards" </dev/null
grep -qF 'passed over: README.md' "$work/log" || fail "README.md was not named"
as_plain directory
jq -c '{question: .prompt, answer: .completion}' "$world/sft.jsonl" >"$work/renamed.jsonl"
trained columns --data.train "$work/renamed.jsonl" \
  --data.columns '{"prompt": "question", "completion": "answer"}' </dev/null
as_plain columns

# A run goes on with the same pipe, and with no other.
options=("${common[@]}")
trained again --data.train - <"$world/sft.jsonl"
trained again --data.train - --optim.max_steps 5 <"$world/sft.jsonl"
grep -qF 'going on from' "$work/log" || fail "the pipe's run was not resumed"
status=0
head -n 30 "$world/sft.jsonl" | "$bin/sft" "${options[@]}" --run.dir "$work/again" --data.train - --optim.max_steps 7 \
  >"$work/out" 2>"$work/log" || status=$?
[[ $status == 2 ]] || fail "another pipe: exit code $status"
grep -qF 'have changed since the run began' "$work/log" || fail "$(cat "$work/log")"
refuse 6 'a device, expected a file, a directory or a pipe' "$bin/sft" "${options[@]}" --run.dir "$work/nothing" --data.train -
refuse 2 "data.columns: no format has a key 'promt'; did you mean 'prompt'?" "$bin/sft" "${options[@]}" \
  --run.dir "$work/nothing" --data.train "$work/renamed.jsonl" --data.columns '{"promt": "question"}'

# The verdict that decides is the chosen side.
jq -c '{prompt, response_0: .rejected, response_1: .chosen, better_response_id: 1, safer_response_id: 0}' \
  "$world/prefs.jsonl" >"$work/verdicts.jsonl"
judged() { # NAME OPTIONS...
  local name=$1
  shift
  pass "$bin/reward" "${common[@]}" --run.dir "$work/$name" "$@"
}
judged preference --data.train "$world/prefs.jsonl"
judged better --data.train "$work/verdicts.jsonl"
judged safer --data.train "$work/verdicts.jsonl" --data.pair_label safer
same_files "$work/preference/model" "$work/better/model"
differ "$work/better/model/model.safetensors" "$work/safer/model/model.safetensors"
note "verdicts"

# The tools read the same files.
gzip -c "$world/text.jsonl" >"$work/text.jsonl.gz"
pass "$bin/train_tokenizer" --text "$work/text.jsonl.gz" --out "$work/tokenizer" --vocab 300
same_files "$world/tokenizer" "$work/tokenizer"
generated() {
  "$bin/generate" --model "$world/base" --max-new-tokens 3 --temperature 0 --json "$@" 2>"$work/log" ||
    fail "generate: $(cat "$work/log")"
}
head -n 3 "$world/prompts.jsonl" >"$work/prompts.jsonl"
generated --prompts "$work/prompts.jsonl" </dev/null >"$work/from_file"
generated --prompts - <"$work/prompts.jsonl" >"$work/from_pipe"
[[ -s $work/from_file ]] && cmp "$work/from_file" "$work/from_pipe" || fail "generate --prompts -"
expect 'preference' "$bin/inspect" data --model "$world/base" --data "$work/verdicts.jsonl" --template chatml \
  --columns '{"chosen": "response_1", "rejected": "response_0"}' --format preference
note "tools"
