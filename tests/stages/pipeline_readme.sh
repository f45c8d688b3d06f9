#!/usr/bin/env bash
# The commands of README.md under "Your own model", as they stand there, on a tiny model. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
house=$PWD
cd "$work"
cp -r world/base my-model
cp world/sft.jsonl world/prompts.jsonl .
cp world/prefs.jsonl preferences.jsonl
ln -s "$house/tools" tools
mkdir configs
cp "$house"/configs/*.json configs
# The same configurations, but for the time they take.
jq '.ppo.total_episodes = 128 | .rollout.max_new_tokens = 16' "$house/configs/ppo_lora.json" >configs/ppo_lora.json

sed -n '/^## Your own model/,/^## /{/^    export PATH/,/^    drover generate/s/^    //p}' "$house/README.md" >commands
[[ $(grep -c '^drover' commands) == 5 ]] || fail "README.md: expected five commands, found: $(cat commands)"
bash -euo pipefail commands >out 2>log || fail "README.md: $(tail -n 5 log)"
[[ -s my-model-tuned/model.safetensors && -s runs/ppo/adapter/adapter_config.json ]] || fail "README.md: no result"
note "the commands of README.md"

# The records shown there are read as what they are said to be.
sed -nE 's/^    (\{.*\}) +([a-z]+\.jsonl)$/\2 \1/p' "$house/README.md" >records
[[ $(wc -l <records) == 3 ]] || fail "README.md: expected three records"
while read -r file record; do
  echo "$record" >"shown-$file"
  pass "$bin/inspect" data --model my-model --data "shown-$file" --json
  jq -e '.examples == 1' out >log || fail "README.md, $file: $(cat out)"
done <records

# The example pipelines and the stage configurations are what their programs accept.
mkdir data
cp sft.jsonl preferences.jsonl prompts.jsonl data
for file in configs/pipeline_*.json; do pass "$drover" run "$file" --check; done
for file in configs/{sft,reward,ppo,dpo}*.json; do
  stage=$(basename "$file" .json)
  stage=${stage%%_*}
  inputs=(--data.train sft.jsonl)
  if [[ $stage == ppo ]]; then inputs=(--data.prompts prompts.jsonl); fi
  if [[ $stage == ppo && $file != *sources* ]]; then inputs+=(--reward.path my-model); fi
  if [[ $file == *cost* ]]; then inputs+=(--cost.path my-model); fi
  pass "$bin/$stage" --config "$house/$file" --model.path my-model --run.dir runs/none "${inputs[@]}" --print-config
done
echo "README.md and configs: all as they should be"
