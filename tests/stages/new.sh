#!/usr/bin/env bash
# drover new: what it writes passes --check and runs, fits the memory, and says what is still to be filled in. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
# Data of several lengths: max_length is that of the longest, in steps of 32.
awk 'BEGIN { for (i = 0; i < 700; i++) { s = "red"; for (k = 0; k < i % 25; k++) s = s " door"; printf "{\"prompt\":\"%s?\",\"completion\":\"yes %d\"}\n", s, i } }' >many.jsonl
value() { "$bin/config" "$1" | jq -c "$2"; }

# -- of a model and data: checked, then run
made() { # KIND FILE ARGUMENTS...
  pass "$drover" new "$1" --model world/base --out "$2" "${@:3}"
  [[ $(cat out) == "$2" ]] || fail "standard output: $(cat out)"
  expect 'the check found nothing wrong' "$drover" "$1" --config "$2" --check
}
made sft sft.yaml --data world/sft.jsonl
[[ $(value sft.yaml '[.data.max_length, .data.template, .optim.batch_size, .optim.epochs, .data.eval_fraction, .lora.enabled, .optim.lr]') == '[32,"auto",8,3,0.1,true,0.0002]' ]] ||
  fail "sft.yaml: $(cat sft.yaml)"
grep -q 'LlamaForCausalLM, 30,240 parameters' sft.yaml || fail "no word of the model: $(cat sft.yaml)"
grep -qE 'planned$' sft.yaml || fail "no word of the memory: $(cat sft.yaml)"
[[ $(ls runs/sft) == cache ]] || fail "something was run: $(ls runs/sft)"
pass "$drover" sft --config sft.yaml
made sft again.yaml --data world/sft.jsonl
[[ $(value again.yaml .run.dir) == '"runs/sft-2"' ]] || fail "a second run's directory: $(cat again.yaml)"
made reward reward.yaml --data world/prefs.jsonl,world/prefs_eval.jsonl --adapter runs/sft/adapter
[[ $(value reward.yaml .data.train) == '["world/prefs.jsonl","world/prefs_eval.jsonl"]' ]] || fail "two files: $(cat reward.yaml)"
grep -q '# 105 examples (preference)' reward.yaml || fail "two files together: $(cat reward.yaml)"
pass "$drover" reward --config reward.yaml
made dpo dpo.yaml --data world/prefs.jsonl --adapter runs/sft/adapter
pass "$drover" dpo --config dpo.yaml --optim.max_steps 2
made ppo ppo.yaml --data world/prompts.jsonl --adapter runs/sft/adapter --reward world/base --reward-adapter runs/reward/adapter
[[ $(value ppo.yaml '[.ppo.batch_size, .data.max_length]') == '[64,32]' ]] || fail "ppo.yaml: $(cat ppo.yaml)"
pass "$drover" ppo --config ppo.yaml --ppo.total_episodes 64
made sft full.yaml --full --data many.jsonl --run-dir runs/full
[[ $(value full.yaml '[.lora.enabled, .optim.lr, .data.eval_fraction, .run.dir]') == '[false,2e-05,0.02,"runs/full"]' ]] || fail "full.yaml: $(cat full.yaml)"
longest=$("$bin/inspect" data --model world/base --data many.jsonl --json --examples 0 2>log | jq .lengths.longest)
holds "$(value full.yaml .data.max_length) >= $longest && $(value full.yaml .data.max_length) < $longest + 32 && $longest > 64"
pass "$drover" new pipeline --model world/base --data world/sft.jsonl --preferences world/prefs.jsonl --prompts world/prompts.jsonl --out all.yaml
pass "$drover" run all.yaml --check
note "what is written is checked and runs"

# -- a model without a template, one with few positions, plain text
cp -r world/base bare
jq 'del(.chat_template)' world/base/tokenizer_config.json >bare/tokenizer_config.json
expect 'template: chatml' "$drover" new sft --model bare --data world/sft.jsonl
make_short world short 40
expect 'max_length: 40 ' "$drover" new sft --model short
expect 'max_length: 40 ' "$drover" new sft --model short --data many.jsonl
pass "$drover" new sft --model world/base --data world/text.jsonl --out text.yaml
pass "$drover" sft --config text.yaml --check
note "templates, positions, text"

# -- memory: the stage's advice is taken until it fits
if [[ $(ldd "$bin/sft") != *libasan* ]]; then
  pass "$drover" new sft --model world/base --data many.jsonl --memory-limit 40MiB --out tight.yaml
  [[ $(value tight.yaml .device.memory_limit) == '"40MiB"' ]] || fail "tight.yaml: $(cat tight.yaml)"
  holds "$(value tight.yaml .optim.micro_batch_tokens) < 2048"
  pass "$drover" sft --config tight.yaml --check
  refuse 5 'the plan needs' "$drover" new sft --model world/base --data many.jsonl --memory-limit 24MiB --out none.yaml
  [[ ! -e none.yaml ]] || fail "a file that does not fit was written"
fi
note "a plan that fits"

# -- without a model or data: what is to be filled in is said by all programs
for kind in sft reward dpo ppo; do
  pass "$drover" new $kind --out empty-$kind.yaml
  data=train && [[ $kind != ppo ]] || data=prompts
  refuse 2 "still to be filled in, in the file or on the command line: model.path (the model: a directory, or a name like Qwen/Qwen2.5-0.5B)" \
    "$drover" $kind --config empty-$kind.yaml --check
  grep -qF "data.$data (the " log || fail "$kind: no word of the data: $(cat log)"
done
pass "$drover" sft --config empty-sft.yaml --model.path world/base --data.train world/sft.jsonl --data.max_length 64 --check
refuse 2 "still to be filled in, in the file or on the command line: data.train (the data" "$drover" sft --config empty-sft.yaml --model.path world/base
pass "$drover" new pipeline --out empty.yaml
refuse 2 "still to be filled in" "$drover" run empty.yaml --check
note "what is to be filled in"

# -- mistakes
refuse 2 "expected sft, reward, dpo, ppo or pipeline, found 'stf'" "$drover" new stf
refuse 2 "'kind' is required" "$drover" new
refuse 2 "--out: sft.yaml exists" "$drover" new sft --out sft.yaml
refuse 6 "there is no directory wrld" "$drover" new sft --model wrld
refuse 2 "runs/sft/adapter is an adapter" "$drover" new sft --model runs/sft/adapter
refuse 6 "absent.jsonl" "$drover" new sft --model world/base --data absent.jsonl
refuse 3 "prompts.jsonl" "$drover" new reward --model world/base --data world/prompts.jsonl
refuse 2 "--reward and --reward-adapter are for ppo" "$drover" new sft --reward world/base
refuse 2 "--preferences and --prompts are for a pipeline" "$drover" new sft --prompts world/prompts.jsonl
refuse 2 "--adapter: a pipeline begins with a model" "$drover" new pipeline --adapter runs/sft/adapter
[[ -z $(ls -d "${TMPDIR:-/tmp}"/drover-new* 2>/dev/null) ]] || fail "something is left in ${TMPDIR:-/tmp}"
note "mistakes"
echo "new: configurations that fit"
