#!/usr/bin/env bash
# The commands of docs/tutorial.md, in their order as they stand there, on a tiny model. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
house=$PWD
cd "$work"
cp -r world/base smollm2
mkdir data
cp world/sft.jsonl world/prompts.jsonl data
cp world/prefs.jsonl data/preferences.jsonl
export PATH=$house/tools:$PATH

grep -E '^    drover ' "$house/docs/tutorial.md" | sed 's/^    //' >commands
[[ $(wc -l <commands) -ge 6 ]] || fail "docs/tutorial.md: expected six commands or more, found: $(cat commands)"
bash -euo pipefail commands >out 2>log </dev/null || fail "docs/tutorial.md: $(tail -n 5 log)"
[[ -s runs/sft/adapter/adapter_config.json && -s tuned/model.safetensors ]] || fail "docs/tutorial.md: no result"
grep -q '^next: drover generate' out || fail "docs/tutorial.md: the run does not say what comes next: $(tail -n 3 out)"

# What is only named in the text can be run too, up to its check.
pass drover new dpo --model smollm2 --adapter runs/sft/adapter --data data/preferences.jsonl --out dpo.yaml
pass drover dpo --config dpo.yaml --check
pass drover new pipeline --model smollm2 --data data/sft.jsonl --preferences data/preferences.jsonl --prompts data/prompts.jsonl --out all.yaml
pass drover run all.yaml --check
for command in 'drover new dpo' 'drover dpo --config dpo.yaml' 'drover new pipeline' 'drover run all.yaml'; do
  grep -qF "$command" "$house/docs/tutorial.md" || fail "docs/tutorial.md does not name: $command"
done
echo "docs/tutorial.md: all as it should be"
