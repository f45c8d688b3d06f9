#!/usr/bin/env bash
# What a user does with the `drover` on PATH, which finds its programs by itself: the first run of docs/tutorial.md from the page that is
# installed beside it, on a tiny model in the place of SmolLM2; then ranks and pipelines.
#
#   tests/support/installed.sh BIN     BIN: the folder of the same programs, for making a model to work on
#
# tests/packaging/install.sh runs it with a folder that was moved, tools/test_fresh.sh on a system that has only the package.
bin=$1
source "$(dirname "${BASH_SOURCE[0]}")/stages.sh"
unset DROVER_BIN
make_world "$work/world"
page=$bin/../../share/doc/drover/docs/tutorial.md
cd "$work"
sed 's/"max_position_embeddings": 128/"max_position_embeddings": 1024/' world/model.json >model.json
pass "$bin/init" --config model.json --tokenizer world/tokenizer --out smollm2 --seed 7

# Every command of the page, in its order and as it stands there, its data included.
sed -n 's/^    \(drover .*\)/\1/p' "$page" >commands
[[ $(wc -l <commands) == 7 ]] || fail "$page: expected seven commands, found: $(cat commands)"
bash -euo pipefail commands >out 2>log </dev/null || fail "$page: $(tail -n 5 log)"
[[ -s runs/sft/adapter/adapter_config.json && -s tuned/model.safetensors ]] || fail "$page: no result"
grep -q '^next: drover generate' out || fail "$page: the run does not say what comes next: $(tail -n 3 out)"
# Those in its sentences, up to the check of what they would train.
grep -oE '`drover [a-z]+ [^`]+`' "$page" | tr -d '`' | sed '/^drover new /!s/$/ --check/' >named
[[ $(wc -l <named) == 4 ]] || fail "$page: expected four commands in its sentences, found: $(cat named)"
bash -euo pipefail named >out 2>log </dev/null || fail "$page: $(tail -n 5 log)"
note "the tutorial: $(wc -l <commands) commands, and $(wc -l <named) in its sentences"

world=$work/world
pass drover launch -n 2 sft --model.path "$world/base" --data.train "$world/sft.jsonl" --optim.max_steps 1 --run.dir runs/ranks
jq -n --arg model "$world/base" --arg data "$world/sft.jsonl" '{dir: "runs/pipeline", stages: [
  {stage: "sft", model: $model, config: {data: {train: $data}, optim: {max_steps: 1}}}]}' >pipeline.json
pass drover run pipeline.json --launcher 'drover launch -n 2'
note "launch, run"
