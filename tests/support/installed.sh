#!/usr/bin/env bash
# What a user does with the `drover` on PATH, which finds its programs by itself: a configuration, a model, its answers; ranks and pipelines.
#
#   tests/support/installed.sh BIN     BIN: the folder of the same programs, for making a model to work on
#
# tests/packaging/install.sh runs it with a folder that was moved, tools/test_fresh.sh on a system that has only the package.
bin=$1
source "$(dirname "${BASH_SOURCE[0]}")/stages.sh"
unset DROVER_BIN
make_world "$work/world"
world=$work/world
cd "$work"

pass drover new sft --model "$world/base" --data "$world/sft.jsonl" --out sft.yaml
pass drover sft --config sft.yaml --optim.max_steps 2 --run.dir runs/sft
pass drover generate --model "$world/base" --adapter runs/sft/adapter --prompt "red door?" --max-new-tokens 4
pass drover launch -n 2 sft --model.path "$world/base" --data.train "$world/sft.jsonl" --optim.max_steps 1 --run.dir runs/ranks
jq -n --arg model "$world/base" --arg data "$world/sft.jsonl" '{dir: "runs/pipeline", stages: [
  {stage: "sft", model: $model, config: {data: {train: $data}, optim: {max_steps: 1}}}]}' >pipeline.json
pass drover run pipeline.json --launcher 'drover launch -n 2'
note "new, sft, generate, launch, run"
