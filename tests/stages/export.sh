#!/usr/bin/env bash
# What export makes of a checkpoint is what the stage itself would have saved after that update, to the byte: at the end
# of a run, and in its middle, where the result of a shorter run is the other. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
world=world

# Twelve updates with a constant rate, a checkpoint at every third: RUN's step 6 is the end of RUN-short.
common=(--optim.schedule constant --optim.micro_batch_tokens 256 --run.save_every 3 --run.keep 10)
twice() { # RUN PROGRAM OPTIONS...
  local run=$1
  shift
  pass "$@" "${common[@]}" --run.dir "$run" "${long[@]}"
  pass "$@" "${common[@]}" --run.dir "$run-short" "${short[@]}"
}
agree() { # RUN RESULT: model or adapter
  pass "$bin/export" "$1" --out "made/$1"
  same_files "$1/$2" "made/$1"
  expect "\"kind\":\"$2\",\"step\":6" "$bin/export" "$1" --step 6 --json
  same_files "$1-short/$2" "$1/exports/step-6"
  ! diff -rq "$1/$2" "$1-short/$2" >log || fail "$1: both lengths have the same result"
}

long=(--optim.max_steps 12) short=(--optim.max_steps 6)
sft=("$bin/sft" --model.path $world/base --data.train $world/sft.jsonl --optim.lr 1e-2 --optim.batch_size 8 --optim.epochs 9)
twice sft "${sft[@]}"
agree sft model
twice sft-bf16 "${sft[@]}" --model.dtype bf16 --optim.state 8bit
agree sft-bf16 model
twice sft-lora "${sft[@]}" --lora.enabled --lora.r 4 --lora.dropout 0.1
agree sft-lora adapter
note "sft"

reward=("$bin/reward" --data.train $world/prefs.jsonl --data.reference $world/sft.jsonl --optim.lr 3e-3
  --optim.batch_size 8 --optim.epochs 9)
twice reward "${reward[@]}" --model.path $world/base
agree reward model
twice reward-lora "${reward[@]}" --model.path $world/base --model.adapter sft-lora/adapter --lora.enabled
agree reward-lora adapter
# Without done.json the zero point of the last step is computed again too.
rm reward/done.json reward-lora/done.json
pass "$bin/export" reward --step 12 && same_files reward/model reward/exports/step-12
pass "$bin/export" reward-lora --step 12 && same_files reward-lora/adapter reward-lora/exports/step-12
note "reward, with the zero point"

long=(--ppo.total_episodes 96) short=(--ppo.total_episodes 48)
ppo=("$bin/ppo" --data.prompts $world/prompts.jsonl --rollout.max_new_tokens 4 --ppo.batch_size 8 --ppo.epochs 1
  --ppo.ema 0.5 --optim.lr 1e-3)
twice ppo "${ppo[@]}" --model.path sft/model --reward.path reward/model
agree ppo model
twice ppo-lora "${ppo[@]}" --model.path $world/base --model.adapter sft-lora/adapter --reward.path $world/base \
  --reward.adapter reward-lora/adapter --lora.enabled
agree ppo-lora adapter
pass "$bin/export" ppo --part ema && same_files ppo/ema/model ppo/exports/step-12-ema
pass "$bin/export" ppo-lora --part ema --step 6 && same_files ppo-lora-short/ema/adapter ppo-lora/exports/step-6-ema
# The critic is a reward model like the one it began as, and another.
pass "$bin/export" ppo --part critic
pass "$bin/inspect" score --model ppo/exports/step-12-critic --data $world/prefs.jsonl
differ ppo/exports/step-12-critic/model.safetensors reward/model/model.safetensors
pass "$bin/export" ppo-lora --part critic
pass "$bin/inspect" score --model $world/base --adapter ppo-lora/exports/step-12-critic --data $world/prefs.jsonl
note "ppo, its running mean and its critic"

# An export is a model as any other.
pass "${sft[@]}" --optim.max_steps 1 --run.dir warm --model.adapter sft-lora/exports/step-6 --lora.enabled
pass "$bin/merge" --model $world/base --adapter sft-lora/exports/step-6 --out merged
# A run directory or a checkpoint is none, and what to do is said.
for key in model.path model.adapter; do
  for path in sft sft/ sft/checkpoints/step-6; do
    refuse 2 "$key: ${path%/} is" "${sft[@]}" --run.dir no "--$key" "$path"
    grep -q 'drover export sft --step' log || fail "$key $path: $(cat log)"
  done
done
refuse 2 "reward.adapter: ppo-lora is" "${ppo[@]}" --model.path sft/model --reward.path reward/model --reward.adapter ppo-lora --run.dir no
refuse 2 "--model: sft is" "$bin/merge" --model sft --adapter sft-lora/adapter --out no
refuse 2 "--adapter: sft-lora is" "$bin/merge" --model $world/base --adapter sft-lora --out no
refuse 2 "--model: sft is" "$bin/generate" --model sft --prompt x
refuse 2 "--adapter: sft-lora is" "$bin/generate" --model $world/base --adapter sft-lora --ids 1
refuse 2 "--model: sft is" "$bin/inspect" chat --model sft --messages '[]'
refuse 2 "--model: sft is" "$bin/inspect" tokens --model sft --text x
refuse 2 "--model: sft is" "$bin/inspect" model --model sft
refuse 2 "--adapter: sft-lora is" "$bin/inspect" logprobs --model $world/base --adapter sft-lora --ids 1,2

# Mistakes.
refuse 2 'no checkpoint of step 7; there are: 3, 6, 9, 12' "$bin/export" sft --step 7
refuse 2 'found config.json in it' "$bin/export" sft --out $world/base
refuse 2 'only runs of ppo' "$bin/export" sft --part critic
refuse 2 "'run' is required" "$bin/export"
refuse 4 'no intact checkpoint in nowhere/checkpoints' "$bin/export" nowhere
cp -r sft damaged
echo >>damaged/checkpoints/step-12/state.safetensors
refuse 4 'is damaged' "$bin/export" damaged --step 12
pass "$bin/export" damaged && [[ -d damaged/exports/step-9 ]]
grep -q 'trying the checkpoint before it' log || fail "a damaged checkpoint: $(cat log)"
expect 'nothing wrong' "$bin/export" sft --step 3 --check
[[ ! -e sft/exports/step-3 ]] || fail "--check wrote something"
echo "export: all as expected"
