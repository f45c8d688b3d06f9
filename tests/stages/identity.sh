#!/usr/bin/env bash
# Whose model is this: ids that a model has no row for, models and adapters that do not belong together, and inputs that
# were exchanged under a run. Exit code and message, one line per case. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world base=$work/world/base
small=(--optim.max_steps 1 --optim.batch_size 4)
lora=(--lora.enabled --lora.r 4 --optim.lr 0.01)
cases=0

# said TEXT: the log of the last command has it.
said() {
  grep -qF -- "$1" "$work/log" || fail "expected '$1' in: $(cat "$work/log")"
  cases=$((cases + 1))
}
silent() {
  ! grep -F 'warning' "$work/log" || fail "expected no warning"
  cases=$((cases + 1))
}
bad() {
  rm -rf "$work/run"
  refuse "$@"
  cases=$((cases + 1))
}
sft() { # MODEL OPTIONS...
  rm -rf "$work/run"
  "$bin/sft" --model.path "$1" --data.train "$world/sft.jsonl" --run.dir "$work/run" "${small[@]}" "${@:2}"
}
reward() { # MODEL OPTIONS...
  rm -rf "$work/run"
  "$bin/reward" --model.path "$1" --data.train "$world/prefs.jsonl" --run.dir "$work/run" "${small[@]}" "${@:2}"
}
ppo() { # POLICY REWARD OPTIONS...
  rm -rf "$work/run"
  "$bin/ppo" --model.path "$1" --reward.path "$2" --data.prompts "$world/prompts.jsonl" --run.dir "$work/run" \
    --ppo.total_episodes 4 --ppo.batch_size 4 --rollout.max_new_tokens 4 "${@:3}"
}
# keep NAME: the last run's directory, out of the way of the next.
keep() {
  rm -rf "${work:?}/$1"
  mv "$work/run" "$work/$1"
}

# -- ids outside the model -----------------------------------------------------------------------------------------------

rows=$(jq .vocab_size "$base/config.json")
# larger NAME: the base, with a tokenizer that has one token more than the table has rows.
larger() {
  cp -r "$base" "$work/$1"
  jq --argjson id "$rows" '.added_tokens += [{"id": $id, "content": "<new>", "single_word": false, "lstrip": false,
    "rstrip": false, "normalized": false, "special": true}]' "$base/tokenizer.json" >"$work/$1/tokenizer.json"
}
larger larger
named="token \"<new>\" has the id $rows, and the embedding table of $work/larger has $rows rows (its tokenizer has $((rows + 1)) tokens)"
# Such a tokenizer is worth a warning; data that use the token are refused, wherever they come in.
pass sft "$work/larger" --check
said "the tokenizer has $((rows + 1)) tokens, and the embedding table $rows rows"
pass sft "$base" --check
silent
printf '{"prompt":"a","completion":"b"}\n{"prompt":"a<new>","completion":"b"}\n' >"$work/new.jsonl"
printf '{"prompt":"a","chosen":"b","rejected":"c<new>"}\n' >"$work/new_prefs.jsonl"
pass reward "$base"
keep rm
for check in '' --check; do
  bad 4 "data.train: $named" sft "$work/larger" --data.train "$work/new.jsonl" $check
  bad 4 "data.eval: $named" sft "$work/larger" --data.eval "$work/new.jsonl" $check
  bad 4 "data.train: $named" reward "$work/larger" --data.train "$work/new_prefs.jsonl" $check
  bad 4 "data.eval: $named" reward "$work/larger" --data.eval "$work/new_prefs.jsonl" $check
  bad 4 "data.reference: $named" reward "$work/larger" --data.reference "$work/new.jsonl" $check
  bad 4 "data.prompts: $named" ppo "$work/larger" "$work/rm/model" --data.prompts "$work/new.jsonl" $check
  bad 4 "data.eval: $named" ppo "$work/larger" "$work/rm/model" --data.eval "$work/new.jsonl" $check
  bad 4 "data.ptx: $named" ppo "$work/larger" "$work/rm/model" --data.ptx "$work/new.jsonl" --ppo.ptx_coef 1 $check
done
# A cache that is there is asked too.
bad 4 "$named" sft "$work/larger" --data.train "$work/new.jsonl" --data.cache "$work/cache"
bad 4 "$named" sft "$work/larger" --data.train "$work/new.jsonl" --data.cache "$work/cache"
bad 4 "the prompt: $named" "$bin/generate" --model "$work/larger" --prompt 'a<new>'
bad 4 "new.jsonl:2: the prompt: $named" "$bin/generate" --model "$work/larger" --prompts "$work/new.jsonl"
bad 4 "the prompt: $named" "$bin/generate" --model "$work/larger" --chat --template plain --prompt 'a<new>'
bad 4 "$named" "$bin/inspect" logprobs --model "$work/larger" --text 'a<new>'
bad 4 "$named" "$bin/inspect" score --model "$work/larger" --text 'a<new>'
bad 4 "$named" "$bin/inspect" score --model "$work/larger" --data "$work/new_prefs.jsonl"
bad 4 "$named" "$bin/inspect" chat --model "$work/larger" --template plain --prompt 'a<new>'
bad 4 "$named" "$bin/inspect" data --model "$work/larger" --template plain --data "$work/new.jsonl"

# Ids that no text has: of configurations and of what a tokenizer puts around texts.
special() { # NAME FILE FILTER
  cp -r "$base" "$work/$1"
  jq "$3" "$base/$2" >"$work/$1/$2"
}
printf '{"text":"red door"}\n' >"$work/plain.jsonl"
special bos config.json '.bos_token_id = 2147483646'
jq '.add_bos_token = true | del(.bos_token)' "$base/tokenizer_config.json" >"$work/bos/tokenizer_config.json"
bad 4 "no token has the id 2147483646, and the embedding table of $work/bos has $rows rows" \
  sft "$work/bos" --data.train "$work/plain.jsonl" --check
said "its BOS token has the id 2147483646"
special around tokenizer.json '.post_processor = {"type": "TemplateProcessing", "pair": [],
  "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
  "special_tokens": {"<s>": {"id": "<s>", "ids": [2147483000], "tokens": ["<s>"]}}}'
bad 4 "no token has the id 2147483000" sft "$work/around" --data.train "$work/plain.jsonl"
special ends config.json '.eos_token_id = 400'
rm -f "$work/ends/generation_config.json"
jq 'del(.eos_token)' "$base/tokenizer_config.json" >"$work/ends/tokenizer_config.json"
bad 4 "no token has the id 400, and the embedding table" sft "$work/ends" --data.train "$work/plain.jsonl" --check
said "its EOS token has the id 400"
for key in bos_token_id eos_token_id pad_token_id; do
  jq ".$key = 300" "$world/model.json" >"$work/$key.json"
  bad 4 "\"$key\" is 300, and \"vocab_size\" $rows" "$bin/init" --config "$work/$key.json" --tokenizer "$base" \
    --out "$work/never"
done
jq ".vocab_size = 200" "$world/model.json" >"$work/small.json"
bad 4 'but the tokenizer in' "$bin/init" --config "$work/small.json" --tokenizer "$base" --out "$work/never"
cp -r "$work/around" "$work/around-tokenizer"
rm "$work/around-tokenizer/config.json"
bad 4 'puts the id 2147483000 around texts' "$bin/init" --config "$world/model.json" \
  --tokenizer "$work/around-tokenizer" --out "$work/never"
note "ids outside the model: $cases cases"
