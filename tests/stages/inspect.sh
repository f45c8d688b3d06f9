#!/usr/bin/env bash
# inspect, demo_data and demo_check as a user runs them. $1: the folder of the executables.
set -euo pipefail
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
models=tests/fixtures/models

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# expect TEXT COMMAND...: succeeds and prints TEXT somewhere on standard output
expect() {
  local text=$1 output
  shift
  output=$("$@" 2>"$work/log") || fail "$*: $(cat "$work/log")"
  [[ $output == *"$text"* ]] || fail "$*: expected '$text' in: $output"
}

# refuse CODE TEXT COMMAND...: exits with CODE and TEXT somewhere on standard error
refuse() {
  local code=$1 text=$2 got=0
  shift 2
  "$@" >"$work/out" 2>"$work/log" || got=$?
  [[ $got == "$code" ]] || fail "$*: exit code $got, expected $code: $(cat "$work/log")"
  [[ $(cat "$work/log") == *"$text"* ]] || fail "$*: expected '$text' in: $(cat "$work/log")"
}

# Log-probabilities and scores are those of Transformers (float32, rounded).
expect '{"logprobs":[-5.6157' "$bin/inspect" logprobs --model $models/llama --ids 1,2,3,4 --json
expect '-6.0399' "$bin/inspect" logprobs --model $models/llama --ids 1,2,3,4
expect '{"score":0.66165' "$bin/inspect" score --model $models/llama_score --ids 1,2,3 --json
expect '"model_type":"qwen2"' "$bin/inspect" model --model $models/qwen2 --json
expect 'model.layers.1.mlp.down_proj.weight' "$bin/inspect" model --model $models/qwen2
expect 'adapter_r      4' "$bin/inspect" model --model $models/llama --adapter tests/fixtures/peft/llama_qv

# Demo data, a tokenizer of it, and what the data sets become.
"$bin/demo_data" --out "$work/demo" --seed 3 --scale 0.02
[[ $(wc -l <"$work/demo/sft.jsonl") == 120 ]] || fail "demo_data --scale"
"$bin/train_tokenizer" --text "$work/demo/pretrain.jsonl" --out "$work/model" --vocab 600 2>"$work/log"
expect '"format":"prompt_completion","kind":"sft","records":120,"examples":120' \
  "$bin/inspect" data --model "$work/model" --data "$work/demo/sft.jsonl" --json
expect 'preference records' "$bin/inspect" data --model "$work/model" --data "$work/demo/preferences.jsonl"
expect '<|im_end|>⟧' "$bin/inspect" data --model "$work/model" --data "$work/demo/sft.jsonl"
expect '"kind":"prompt"' "$bin/inspect" data --model "$work/model" --data "$work/demo/heldout.jsonl" --json
expect '"kind":"text"' "$bin/inspect" data --model "$work/model" --data "$work/demo/pretrain.jsonl" --json
expect '"text":"<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"' \
  "$bin/inspect" chat --model "$work/model" --prompt Hi. --json
expect '"loss":[' "$bin/inspect" chat --model "$work/model" --json \
  --messages '[{"role":"user","content":"Hi."},{"role":"assistant","content":"Hello."}]'
ids=$("$bin/inspect" tokens --model "$work/model" --text 'The kettle, über 100°.' --special false --json)
ids=${ids#*\[}
expect 'The kettle, über 100°.' "$bin/inspect" decode --model "$work/model" --ids "${ids%%]*}"
expect "$(printf 'piped')" bash -c "printf piped | '$bin/inspect' tokens --model '$work/model' --json |
  sed 's/.*\\[\\(.*\\)\\],.*/\\1/' | xargs '$bin/inspect' decode --skip-special --model '$work/model' --ids"

# Several answers to a prompt, the best one first; the scores of a ranking model.
ranking=(--data tests/fixtures/runs/ranked.jsonl --template plain)
expect '"answers":24,"pairs":38,"answers_too_long":0' "$bin/inspect" data --model tests/fixtures/runs/reward "${ranking[@]}" --json
expect '"ranks":[1,2,2,2,3,3,4],"scores":[2.5,2,2,2,1.5,1.5,0.5]' "$bin/inspect" data --model tests/fixtures/runs/reward \
  "${ranking[@]}" --json
expect 'rank 4, score 0.5' "$bin/inspect" data --model tests/fixtures/runs/reward "${ranking[@]}"
echo '{"prompt":"a","response_0":"b","response_1":"c","better_response_id":1,"safer_response_id":0,"is_response_0_safe":true}' \
  >"$work/safe.jsonl"
expect '"margin":0,"labels":{"better":1,"safer":-1,"chosen_safe":0,"rejected_safe":1}' "$bin/inspect" data --template plain \
  --model tests/fixtures/runs/reward --data "$work/safe.jsonl" --json
expect 'over 38 pairs' "$bin/inspect" score --model tests/fixtures/runs/reward "${ranking[@]}"
expect '"ranks":[1,2,3,4]}' "$bin/inspect" score --model tests/fixtures/runs/reward "${ranking[@]}" --json

# Every kind of mistake has its exit code.
refuse 2 "did you mean 'score'" "$bin/inspect" scor
refuse 2 "did you mean '--model'" "$bin/inspect" data --modle x
refuse 2 "'model' is required" "$bin/inspect" tokens --text x
refuse 2 'unknown' "$bin/inspect" chat --model "$work/model" --prompt x --template nonsense
refuse 2 'id 999' "$bin/inspect" logprobs --model $models/llama --ids 1,2,999
refuse 2 'numbers with commas' "$bin/inspect" logprobs --model $models/llama --ids 1,x
refuse 3 'number.jsonl:2: ' "$bin/inspect" data --model "$work/model" --data tests/fixtures/data/bad/number.jsonl
refuse 4 'no LM head' "$bin/inspect" logprobs --model $models/llama_score --ids 1,2
refuse 4 'score' "$bin/inspect" score --model $models/llama --ids 1,2
refuse 6 'absent.jsonl' "$bin/inspect" data --model "$work/model" --data "$work/absent.jsonl"
refuse 2 'above 0' "$bin/demo_data" --out "$work/x" --scale -1
learn=("$bin/train_tokenizer" --out "$work/learnt")
refuse 2 'no file to learn from' "${learn[@]}"
refuse 3 "number.jsonl:2: key 'completion': expected string, found a number" "${learn[@]}" --text tests/fixtures/data/bad/number.jsonl \
  --key completion
refuse 6 'absent.jsonl' "${learn[@]}" --text "$work/absent.jsonl"
printf '\xef\xbb\xbf{"text":"red door"}\r\n\r\n{"text":"blue"}\r\n' >"$work/windows.jsonl" # as on Windows
expect 'nothing wrong' "${learn[@]}" --text "$work/windows.jsonl" --check
[[ ! -e $work/learnt ]] || fail "--check wrote a tokenizer"
expect 'tokens' "${learn[@]}" --text "$work/windows.jsonl"

# The rule checker on answers whose scores are known.
heldout=$work/known.jsonl answers=$work/answers.jsonl
prompt='"prompt":"My kettle does not start."'
echo "{$prompt,\"product\":\"kettle\",\"steps\":[\"check the plug\",\"press the reset button\"]}" >"$heldout"
judge() { # judge SCORE RESPONSE [FINISHED]
  echo "{$prompt,\"response\":\"$2\",\"finished\":${3:-true}}" >"$answers"
  expect "\"score\":$1" "$bin/demo_check" --heldout "$heldout" --answers "$answers" --json
}
good='Thank you for writing. For your kettle, please check the plug and press the reset button. Have a nice day.'
judge 1.0000 "$good"
judge 0.9000 "$good" false
judge 0.9000 "$good" '"length"'
judge 1.0000 "$good" '"eos"'
judge 0.8500 "${good/kettle/lamp}"
judge 0.8500 "${good/kettle/kettle or lamp}"
judge 0.8500 "${good/ and press the reset button/}"
judge 0.8500 "${good/press the reset button/clean the filter, press the reset button}"
judge 0.8500 "${good/Thank you for writing. /}"
judge 0.8500 "${good/ Have a nice day./}"
judge 0.8500 "${good/For your/This is your own fault. For your}"
judge 0.9000 "$good Have a nice day."
judge 0.9000 "${good%.}"
judge 0.0000 ""
echo '{"prompt":"Another question.","response":"x"}' >"$answers"
refuse 3 'no held-out prompt belongs' "$bin/demo_check" --heldout "$heldout" --answers "$answers"

# The same rules as a source of rewards, which knows a good answer by the record of the prompt.
asked() { jq -nc --arg answer "$2" --argjson finished "${3:-true}" --slurpfile record "$1" '{id: 7, answer: $answer, $finished, record: $record[0]}'; }
for said in "$good true" "$good false" "${good/kettle/lamp} true"; do asked "$heldout" "${said% *}" "${said##* }"; done >"$work/questions"
[[ $("$bin/demo_check" --judge <"$work/questions" | jq -c '[.score, .parts.product, .parts.ending]') == $'[1,1,1]\n[0.9,1,0]\n[0.85,0,1]' ]] ||
  fail "$("$bin/demo_check" --judge <"$work/questions")"
asked <(head -n 1 "$work/demo/prompts.jsonl") "$good" >"$work/questions" # prompts to learn from have what it needs
"$bin/demo_check" --judge <"$work/questions" | jq -e '.score > 0' >/dev/null || fail "no score"
asked "$answers" "$good" >"$work/questions"
refuse 3 'expected an answer, and product and steps in the record' bash -c "'$bin/demo_check' --judge <'$work/questions'"
refuse 2 'no other option goes with it' "$bin/demo_check" --judge --json
echo "inspect, demo_data and demo_check: all as expected"
