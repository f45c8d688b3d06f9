#!/usr/bin/env bash
# Whose model is this: ids that a model has no row for, models and adapters that do not belong together, and inputs that
# were exchanged under a run. Exit code and message, one line per case. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world base=$work/world/base
small=(--optim.max_steps 1 --optim.batch_size 4)
more=(--lora.enabled --optim.lr 0.01) lora=("${more[@]}" --lora.r 4)
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
  only_last "$bin/sft" --model.path "$1" --data.train "$world/sft.jsonl" --run.dir "$work/run" "${small[@]}" "${@:2}"
  "${arguments[@]}"
}
reward() { # MODEL OPTIONS...
  rm -rf "$work/run"
  only_last "$bin/reward" --model.path "$1" --data.train "$world/prefs.jsonl" --run.dir "$work/run" "${small[@]}" "${@:2}"
  "${arguments[@]}"
}
ppo() { # POLICY REWARD OPTIONS...
  rm -rf "$work/run"
  only_last "$bin/ppo" --model.path "$1" --reward.path "$2" --data.prompts "$world/prompts.jsonl" --run.dir "$work/run" \
    --ppo.total_episodes 4 --ppo.batch_size 4 --ppo.missing_eos subtract --rollout.max_new_tokens 4 "${@:3}"
  "${arguments[@]}"
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
jq 'del(.bos_token)' "$base/tokenizer_config.json" >"$work/bos/tokenizer_config.json"
pass sft "$work/bos" --data.train "$work/plain.jsonl" --check # nothing puts it anywhere
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

# -- models and adapters of the wrong kind ---------------------------------------------------------------------------------

cases=0
pass sft "$base" "${lora[@]}"
keep sft-lora
pass reward "$base" "${lora[@]}"
keep rm-lora
policy=$work/sft-lora/adapter scorer=$work/rm-lora/adapter
only_scores="$work/rm/model: a reward model (LlamaForSequenceClassification) has no LM head and only scores"
for check in '' --check; do
  bad 4 "$only_scores, and the policy must be a language model" sft "$work/rm/model" $check
  bad 4 "$only_scores, and the policy must be a language model" sft "$work/rm/model" "${lora[@]}" $check
  bad 4 "$only_scores, and the actor must be a language model" ppo "$work/rm/model" "$work/rm/model" $check
  bad 4 "$only_scores, and the actor must be a language model" ppo "$work/rm/model" "$work/rm/model" --lora.enabled $check
  bad 4 "$base: tensor score.weight is missing: not a reward model" ppo "$base" "$base" $check
  for mode in '' --lora.enabled; do
    scores="$scorer: a reward model's adapter (SEQ_CLS), and the"
    bad 4 "$scores policy needs a language model's (CAUSAL_LM)" sft "$base" --model.adapter "$scorer" $mode $check
    bad 4 "$scores actor needs a language model's" ppo "$base" "$work/rm/model" --model.adapter "$scorer" $mode $check
    bad 4 "$policy: a language model's adapter (CAUSAL_LM) without a score head, and the critic needs a reward model's" \
      ppo "$base" "$base" --reward.adapter "$policy" $mode $check
  done
done
bad 4 "only scores" "$bin/inspect" logprobs --model "$work/rm/model" --ids 1,2
bad 4 "no LM head" "$bin/generate" --model "$work/rm/model" --ids 1,2
bad 4 "a reward model's adapter" "$bin/inspect" logprobs --model "$base" --adapter "$scorer" --ids 1,2
bad 4 "a reward model's adapter" "$bin/generate" --model "$base" --adapter "$scorer" --ids 1,2
bad 4 "a language model's adapter" "$bin/inspect" score --model "$base" --adapter "$policy" --ids 1,2
cp -r "$scorer" "$work/untold"
jq 'del(.task_type)' "$scorer/adapter_config.json" >"$work/untold/adapter_config.json"
bad 4 "a reward model's adapter" sft "$base" --model.adapter "$work/untold" --lora.enabled
# A reward model that is trained on, whole or as an adapter, begins with the head that it has.
pass "$bin/inspect" score --model "$base" --adapter "$scorer" --ids 1,2,3
before=$(cat "$work/out")
for mode in '' --lora.enabled; do
  pass reward "$base" --model.adapter "$scorer" --optim.lr 0 $mode
  after=(--model "$work/run/model")
  [[ -z $mode ]] || after=(--model "$base" --adapter "$work/run/adapter")
  expect "$before" "$bin/inspect" score "${after[@]}" --ids 1,2,3
  cases=$((cases + 1))
done
note "models and adapters of the wrong kind: $cases cases"

# -- adapters and their bases ----------------------------------------------------------------------------------------------

cases=0
pass "$bin/init" --config "$world/model.json" --tokenizer "$world/tokenizer" --out "$work/other" --seed 8
other="this adapter was trained over other weights than those in $work/other"
pass reward "$work/other"
keep rm-other
for mode in '' --lora.enabled; do
  for check in '' --check; do
    bad 4 "$policy: $other" sft "$work/other" --model.adapter "$policy" $mode $check
    bad 4 "$policy: $other" reward "$work/other" --model.adapter "$policy" $mode $check
    bad 4 "$policy: $other" ppo "$work/other" "$work/rm/model" --model.adapter "$policy" $mode $check
    bad 4 "$scorer: $other" ppo "$base" "$work/other" --reward.adapter "$scorer" $mode $check
  done
done
bad 4 "$policy: $other" "$bin/generate" --model "$work/other" --adapter "$policy" --prompt a
bad 4 "$policy: $other" "$bin/generate" --model "$work/other" --adapter "$policy" --ids 1
bad 4 "$policy: $other" "$bin/inspect" logprobs --model "$work/other" --adapter "$policy" --ids 1,2
bad 4 "$policy: $other" "$bin/inspect" logprobs --model "$work/other" --adapter "$policy" --text 'a b'
bad 4 "$scorer: $other" "$bin/inspect" score --model "$work/other" --adapter "$scorer" --ids 1,2
bad 4 "$policy: $other" "$bin/inspect" chat --model "$work/other" --adapter "$policy" --prompt a
bad 4 "$policy: $other" "$bin/merge" --model "$work/other" --adapter "$policy" --out "$work/never"
said "remove the adapter's identity.json"
[[ ! -e $work/never ]] || fail "a wrong merge was written"

# A base that was moved is the same one; one in another precision may be meant; so may a name that tells nothing.
pass "$bin/init" --config "$world/model.json" --tokenizer "$world/tokenizer" --out "$work/bf16" --seed 7 --dtype bf16
cp -r "$base" "$work/moved"
over() { # MODEL ADAPTER
  pass "$bin/inspect" logprobs --model "$1" --adapter "$2" --ids 1,2
}
over "$work/moved" "$policy"
silent
over "$work/bf16" "$policy"
said "in another precision"
named() { # NAME: the adapter without digests, as PEFT makes it, over a base of that name
  rm -rf "$work/named"
  cp -r "$policy" "$work/named"
  rm -f "$work/named/identity.json"
  jq --arg name "$1" '.base_model_name_or_path = $name' "$policy/adapter_config.json" >"$work/named/adapter_config.json"
}
named "$base"
over "$base" "$work/named"
silent
over "$work/moved" "$work/named"
silent
bad 4 "by its base_model_name_or_path over those in $base" "$bin/inspect" logprobs --model "$work/other" \
  --adapter "$work/named" --ids 1,2
named someone/base
over "$base" "$work/named"
silent
over "$work/other" "$work/named"
said "this adapter names someone/base as its base, and is used over $work/other"
jq '._name_or_path = "someone/base"' "$base/config.json" >"$work/moved/config.json"
over "$work/moved" "$work/named"
silent
mkdir -p "$work/hub/models--someone--base/snapshots"
cp -r "$base" "$work/hub/models--someone--base/snapshots/0123abcd"
over "$work/hub/models--someone--base/snapshots/0123abcd" "$work/named"
silent
echo '{"base": 7, "template": {"name": 1}}' >"$work/named/identity.json"
bad 4 'identity.json: "name": expected a string' "$bin/inspect" logprobs --model "$base" --adapter "$work/named" --ids 1,2

# A tokenizer or template that lies beside an adapter is not used.
cp -r "$policy" "$work/beside"
cp "$base"/tokenizer*.json "$work/beside"
pass sft "$base" --model.adapter "$work/beside" "${more[@]}" --check
silent
jq '.chat_template = "{{ messages }}"' "$base/tokenizer_config.json" >"$work/beside/tokenizer_config.json"
pass sft "$base" --model.adapter "$work/beside" "${more[@]}" --check
said "$work/beside has a chat template of its own, which differs"
! grep -F 'a tokenizer of its own' "$work/log" || fail "a template is no vocabulary"
jq '.added_tokens += [{"id": 300, "content": "<new>", "single_word": false, "lstrip": false, "rstrip": false,
  "normalized": false, "special": true}]' "$base/tokenizer.json" >"$work/beside/tokenizer.json"
pass sft "$base" --model.adapter "$work/beside" "${more[@]}" --check
said "$work/beside has a tokenizer of its own, which differs: that of $base is used"
note "adapters and their bases: $cases cases"

# -- a reward model for other ids ------------------------------------------------------------------------------------------

cases=0
awk 'BEGIN { for (i = 1; i < 300; i++) printf "{\"text\":\"%x quick %o foxes\"}\n", i * i * 7919, i * 613 }' \
  >"$work/foreign.jsonl"
pass "$bin/train_tokenizer" --text "$work/foreign.jsonl" --out "$work/foreign-tokenizer" --vocab "$rows"
pass "$bin/init" --config "$world/model.json" --tokenizer "$work/foreign-tokenizer" --out "$work/foreign" --seed 7
[[ $(jq .vocab_size "$work/foreign/config.json") == "$rows" ]] || fail "the sizes were to be equal"
pass reward "$work/foreign"
keep rm-foreign
for mode in '' --lora.enabled; do
  for check in '' --check; do
    bad 4 "$work/rm-foreign/model: its tokenizer is another than that of $base: the id " \
      ppo "$base" "$work/rm-foreign/model" $mode $check
  done
  pass ppo "$base" "$work/rm/model" $mode
  silent
done
pass reward "$work/foreign" "${lora[@]}"
keep rm-foreign-lora
bad 4 "its tokenizer is another than" ppo "$base" "$work/foreign" --reward.adapter "$work/rm-foreign-lora/adapter" \
  --lora.enabled
# Other merges of the same tokens, tokens that one has alone, or no tokenizer at all, may be meant.
cp -r "$work/rm/model" "$work/rm-merges"
jq '.model.merges |= (.[1:2] + .[0:1] + .[2:])' "$base/tokenizer.json" >"$work/rm-merges/tokenizer.json"
pass ppo "$base" "$work/rm-merges" --check
said "have the same tokens and cut texts into them by other merges"
jq '.vocabulary = "0"' "$work/rm/model/identity.json" >"$work/rm-merges/identity.json"
pass ppo "$base" "$work/rm-merges" --check
said "$work/rm-merges was trained with another tokenizer than the one that is used"
cp -r "$work/rm/model" "$work/rm-names"
jq '(.added_tokens[-1].content) = "<other>"' "$base/tokenizer.json" |
  jq '.model.vocab |= with_entries(if .key == "'"$(jq -r '.added_tokens[-1].content' "$base/tokenizer.json")"'" then
    .key = "<other>" else . end)' >"$work/rm-names/tokenizer.json"
pass ppo "$base" "$work/rm-names" --check
said "1 added tokens have other names in $base and $work/rm-names"
jq --argjson id "$((rows - 1))" '.model.vocab |= with_entries(if .value == $id then .key = "zz" else . end) |
  .model.merges |= .[:-1]' "$base/tokenizer.json" >"$work/rm-names/tokenizer.json"
bad 4 "$work/rm-names: its tokenizer is another than that of $base: the id $((rows - 1)) is \"zz\" in it" \
  ppo "$base" "$work/rm-names" --check
cp -r "$work/rm/model" "$work/rm-none"
rm "$work"/rm-none/tokenizer*.json
pass ppo "$base" "$work/rm-none" --check
said "$work/rm-none has no tokenizer.json"

# -- the template of the training -----------------------------------------------------------------------------------------

chat() { # TEMPLATE MODEL OPTIONS...: the template that inspect and generate take
  expect "\"template\":\"$1\"" "$bin/inspect" chat --json --prompt 'red door?' --model "$2" "${@:3}"
  cases=$((cases + 1))
}
answer() { # MODEL OPTIONS...: of generate, as JSON
  pass "$bin/generate" --model "$1" --chat --prompt 'red door?' --max-new-tokens 8 --seed 3 --json "${@:2}"
  cat "$work/out"
}
pass sft "$base" --data.template plain "${lora[@]}"
keep plain-lora
pass sft "$base" --data.template plain
keep plain
plain=$work/plain-lora/adapter
[[ $(jq -r .template.name "$plain/identity.json") == plain ]] || fail "the template is not kept"
chat "the model's own" "$base"
chat plain "$base" --adapter "$plain"
chat plain "$work/plain/model"
expect '⟦' "$bin/inspect" data --model "$base" --data "$world/sft.jsonl" --examples 1
own=$(cat "$work/out")
expect '⟦' "$bin/inspect" data --model "$base" --adapter "$plain" --data "$world/sft.jsonl" --examples 1
[[ $(cat "$work/out") != "$own" && $own == *'<|im_start|>'* && $(cat "$work/out") != *'<|im_start|>'* ]] ||
  fail "inspect data: the adapter's template is not taken"
for model in "$base --adapter $plain" "$work/plain/model"; do
  # shellcheck disable=SC2086 # two options in one word
  kept=$(answer $model)
  # shellcheck disable=SC2086
  [[ $kept == "$(answer $model --template plain)" && $kept != "$(answer $model --template chatml)" ]] ||
    fail "generate: the template of the training is not taken"
  cases=$((cases + 1))
done
# The next stages take it, hand it on, and warn of another one.
pass reward "$base" --model.adapter "$plain" "${more[@]}"
silent
keep rm-plain
[[ $(jq -r .template.name "$work/rm-plain/adapter/identity.json") == plain ]] || fail "reward: another template"
pass reward "$work/plain/model"
silent
[[ $(jq -r .template.name "$work/run/model/identity.json") == plain ]] || fail "reward: another template"
pass reward "$base" --model.adapter "$plain" "${more[@]}" --data.template chatml
said "$plain was trained with the chat template plain, and chatml, which is used, gives other text"
pass reward "$work/plain/model" --data.template chatml --check
said "$work/plain/model was trained with the chat template plain, and chatml, which is used"
pass ppo "$base" "$base" --model.adapter "$plain" --reward.adapter "$work/rm-plain/adapter" "${more[@]}"
silent
[[ $(jq -r .template.name "$work/run/adapter/identity.json") == plain ]] || fail "ppo: another template"
pass ppo "$base" "$base" --model.adapter "$plain" --reward.adapter "$work/rm-plain/adapter" --lora.enabled \
  --data.template chatml
said "$plain was trained with the chat template plain, and chatml, which is used"
said "$work/rm-plain/adapter was trained with the chat template plain, and chatml, which is used"
pass ppo "$work/plain/model" "$work/rm/model"
said "$work/rm/model was trained with the chat template auto (the model's own), and plain, which is used"
pass "$bin/merge" --model "$base" --adapter "$plain" --out "$work/merged"
chat plain "$work/merged"
[[ -s $work/merged/chat_template.jinja ]] || fail "merge: the template stays behind"
# One of a file goes with the result, and the file may go.
echo '{% for m in messages %}{{ m.role ~ ": " ~ m.content ~ eos_token }}{% endfor %}{{ "assistant: " if add_generation_prompt }}' \
  >"$work/mine.jinja"
pass sft "$base" --data.template "$work/mine.jinja" "${lora[@]}"
keep mine
mine=$work/mine/adapter
cmp -s "$mine/chat_template.jinja" "$work/mine.jinja" || fail "the template of a file is not kept"
rm "$work/mine.jinja"
expect '"text":"user: red door?' "$bin/inspect" chat --json --prompt 'red door?' --model "$base" --adapter "$mine"
pass reward "$base" --model.adapter "$mine" "${more[@]}" --check
silent
pass "$bin/merge" --model "$base" --adapter "$mine" --out "$work/merged-mine"
expect '"text":"user: red door?' "$bin/inspect" chat --json --prompt 'red door?' --model "$work/merged-mine"
# The model's own, changed since.
cp -r "$work/rm/model" "$work/changed"
jq '.template.rendering = "0"' "$work/rm/model/identity.json" >"$work/changed/identity.json"
pass reward "$work/changed" --check
said "$work/changed was trained with the chat template auto (the model's own), which gives other text now"
note "reward models for other ids, and templates: $cases cases"

# -- inputs exchanged under a run ------------------------------------------------------------------------------------------

cases=0
# exchanged NAME PATH WITH COMMAND...: runs one step, exchanges the directory PATH for WITH, and must be refused the second
# with a message about NAME; with the former one it goes on.
exchanged() {
  local name=$1 path=$2 with=$3
  shift 3
  rm -rf "$work/inputs" "$work/resumed"
  mkdir "$work/inputs"
  cp -r "$base" "$work/inputs/base"
  cp -r "$work/rm/model" "$work/inputs/rm"
  cp -r "$policy" "$work/inputs/policy"
  cp -r "$scorer" "$work/inputs/scorer"
  pass "$@" "${first[@]}"
  mv "$path" "$work/inputs/kept"
  cp -r "$with" "$path"
  refuse 4 "$name: the weights in $path are not those that the run began with" "$@" "${second[@]}"
  rm -rf "$path"
  mv "$work/inputs/kept" "$path"
  pass "$@" "${second[@]}"
  said "going on from"
}
inputs=$work/inputs
common=(--run.dir "$work/resumed" --run.save_every 1 --optim.schedule constant)
first=(--optim.max_steps 1) second=(--optim.max_steps 2)
stage=("$bin/sft" --model.path "$inputs/base" --data.train "$world/sft.jsonl" --optim.batch_size 4 "${common[@]}")
exchanged policy "$inputs/base" "$work/other" "${stage[@]}"
exchanged policy "$inputs/base" "$work/other" "${stage[@]}" "${lora[@]}"
pass sft "$base" "${lora[@]}" --optim.lr 0.02
keep sft-again
exchanged policy "$inputs/policy" "$work/sft-again/adapter" "${stage[@]}" "${more[@]}" --model.adapter "$inputs/policy"
exchanged policy "$inputs/policy" "$work/sft-again/adapter" "${stage[@]}" --model.adapter "$inputs/policy"
stage=("$bin/reward" --model.path "$inputs/base" --data.train "$world/prefs.jsonl" --optim.batch_size 4 "${common[@]}")
exchanged reward "$inputs/base" "$work/other" "${stage[@]}" "${lora[@]}"
first=(--ppo.total_episodes 4) second=(--ppo.total_episodes 8)
stage=("$bin/ppo" --model.path "$inputs/base" --data.prompts "$world/prompts.jsonl" --ppo.batch_size 4
  --rollout.max_new_tokens 4 "${common[@]}")
exchanged actor "$inputs/base" "$work/other" "${stage[@]}" --reward.path "$inputs/rm"
exchanged actor "$inputs/base" "$work/other" "${stage[@]}" --reward.path "$inputs/rm" "${lora[@]}"
exchanged critic "$inputs/rm" "$work/rm-other/model" "${stage[@]}" --reward.path "$inputs/rm"
exchanged critic "$inputs/rm" "$work/rm-other/model" "${stage[@]}" --reward.path "$inputs/rm" "${lora[@]}"
pass reward "$base" "${lora[@]}" --optim.lr 0.02
keep rm-again
stage+=(--model.adapter "$inputs/policy" --reward.path "$inputs/base" --reward.adapter "$inputs/scorer")
for mode in '' --lora.enabled; do
  exchanged actor "$inputs/policy" "$work/sft-again/adapter" "${stage[@]}" $mode
  exchanged critic "$inputs/scorer" "$work/rm-again/adapter" "${stage[@]}" $mode
done
note "inputs exchanged under a run: $cases cases"
