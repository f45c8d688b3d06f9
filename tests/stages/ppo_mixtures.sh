#!/usr/bin/env bash
# PPO over all four mixtures of full and LoRA stages before it, itself with LoRA and full: the models are what they
# should be (first update at the reference, scores those of the reward model on disk), and PPO finds the answers that the
# reward model likes. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
# A base that knows the language: adapters over random weights cannot.
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/pretrain" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 10
pretrained=$work/pretrain/model

# Sets MODEL to the options that name the result of a stage over BASE: --model.path DIR [--model.adapter DIR].
result_of() { # RUN BASE
  if [[ -d $1/adapter ]]; then
    model=(--model.path "$2" --model.adapter "$1/adapter")
  else
    model=(--model.path "$1/model")
  fi
}
lora_options() { # KIND SEED
  lora=()
  if [[ $1 == lora ]]; then lora=(--lora.enabled --lora.r 4 --run.seed "$2"); fi
}

# The samples of the first update have the score that `inspect score` gives, where their text has the same tokens.
check_scores() { # RUN SCORER...
  local run=$1
  shift
  sqlite3 -json "$run/run.db" "select prompt, response as chosen, 'x x x' as rejected, reward from sample
    where step = 1 and finished order by rowid" | jq -c '.[]' >"$work/samples.jsonl"
  pass "$bin/inspect" score "$@" --data "$work/samples.jsonl" --json
  jq -s 'map(.chosen | values)' "$work/out" >"$work/scores"
  jq -s --slurpfile scores "$work/scores" '[., $scores[0]] | transpose | map((.[0].reward - .[1] | fabs) < 1e-4)
    | (map(select(.)) | length) / length' "$work/samples.jsonl" >"$work/share"
  holds "$(cat "$work/share") >= 0.75"
}

# What the adapter or model writes greedily, with and without merging.
check_merged() { # RUN BASE
  [[ -d $1/adapter ]] || return 0
  pass "$bin/merge" --model "$2" --adapter "$1/adapter" --out "$1/merged"
  greedy=(--chat --prompts "$world/prompts.jsonl" --temperature 0 --max-new-tokens 8 --json)
  pass "$bin/generate" --model "$2" --adapter "$1/adapter" "${greedy[@]}"
  cp "$work/out" "$work/adapted"
  pass "$bin/generate" --model "$1/merged" "${greedy[@]}"
  cmp -s "$work/adapted" "$work/out" || fail "merged and adapted answers differ: $1"
}

mixture() { # SFT REWARD PPO: full or lora each
  local sft=$work/sft-$1 reward=$work/reward-$1-$2 ppo=$work/ppo-$1-$2-$3 base=$pretrained reward_model scorer text
  [[ $1 == lora ]] || base=$sft/model
  result_of "$reward" "$base"
  reward_model=("${model[@]/#--model./--reward.}")
  scorer=("${model[@]/#--model.path/--model}")
  scorer=("${scorer[@]/#--model.adapter/--adapter}")
  result_of "$sft" "$base"
  lora_options "$3" 5
  pass "$bin/ppo" "${model[@]}" "${reward_model[@]}" "${lora[@]}" --data.prompts "$world/prompts.jsonl" \
    --data.eval "$world/prompts.jsonl" --run.dir "$ppo" --ppo.total_episodes 768 --ppo.batch_size 32 \
    --ppo.minibatches 2 --ppo.epochs 2 --ppo.samples_logged 32 --rollout.max_new_tokens 12 --rollout.temperature 1 \
    --optim.lr 2e-3 --optim.micro_batch_tokens 512 --json
  case $3-$2 in
    full-*) text='four models of their own weights' ;;
    lora-lora) text='one frozen base; adapters for actor, critic, reference and reward' ;;
    lora-full) text='two frozen bases' ;;
  esac
  grep -qF "$text" "$work/log" || fail "expected '$text' in: $(cat "$work/log")"
  if [[ $3 == full ]]; then [[ -s $ppo/model/model.safetensors ]]; else [[ -s $ppo/adapter/adapter_config.json ]]; fi ||
    fail "no result in $ppo"
  holds "$(metric "$ppo" ppo/kl first) < 1e-6 && $(metric "$ppo" ppo/kl first) > -1e-6"
  holds "$(metric "$ppo" ppo/first_ratio_error first) < 1e-5"
  holds "$(metric "$ppo" ppo/kl) > 0.01"
  holds "$(metric "$ppo" eval/score) > $(metric "$ppo" eval/score first) + 0.5"
  check_scores "$ppo" "${scorer[@]}"
  check_merged "$ppo" "$base"
  note "sft $1, reward $2, ppo $3: score $(metric "$ppo" eval/score first) -> $(metric "$ppo" eval/score)"
}

for sft in full lora; do
  lora_options $sft 3
  pass "$bin/sft" --model.path "$pretrained" --data.train "$world/sft.jsonl" --run.dir "$work/sft-$sft" "${lora[@]}" \
    --optim.lr 2e-3 --optim.batch_size 16 --optim.epochs 3
  for reward in full lora; do
    base=$pretrained
    [[ $sft == lora ]] || base=$work/sft-$sft/model
    result_of "$work/sft-$sft" "$base"
    lora_options $reward 4
    pass "$bin/reward" "${model[@]}" "${lora[@]}" --data.train "$world/prefs.jsonl" --data.reference "$world/sft.jsonl" \
      --run.dir "$work/reward-$sft-$reward" --optim.batch_size 8 --optim.epochs 6 --optim.lr 2e-3
    for ppo in full lora; do mixture $sft $reward $ppo; done
  done
done
echo "ppo: all mixtures work"
