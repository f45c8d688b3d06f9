#!/usr/bin/env bash
# The whole recipe on the embedded demo: builds Drover, makes the data and a small model from nothing, then
# pretraining -> SFT -> reward model -> PPO -> merge, and shows what came of it (docs/demo.md).
#
#   tools/demo.sh [--dir DIR] [--seed N] [--shuffle-preferences] [--scale X] [--until STAGE] [--launcher COMMAND]
#
#   --dir DIR               where to (default runs/demo)
#   --seed N                of the data, the weights and every stage (default 1)
#   --shuffle-preferences   the control: preference labels are coin flips, so there is nothing to learn from them
#   --scale X               so much of the data and of PPO's answers (default 1): with 0.1 all is seen in half a minute, little learnt
#   --until STAGE           the last stage to run, of pretrain, sft, reward, ppo; then no result is shown
#   --launcher COMMAND      stages on many ranks, 'drover launch -n 2' (docs/ranks.md)
#
# Started again after an interruption it goes on where it was; when all is done it only shows the result.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
  exit "$1"
}

dir=runs/demo seed=1 scale=1 until=final data_options=() run_options=()
while (($#)); do
  case $1 in
    --dir) dir=${2:?--dir needs a directory} && shift ;;
    --seed) seed=${2:?--seed needs a number} && shift ;;
    --shuffle-preferences) data_options+=(--shuffle-preferences) ;;
    --scale) scale=${2:?--scale needs a number} data_options+=(--scale "$scale") && shift ;;
    --until) until=${2:?--until needs a stage} && shift ;;
    --launcher) run_options=(--launcher "${2:?--launcher needs a command}") && shift ;;
    --help | -h) usage 0 ;;
    *) echo "demo.sh: unknown argument '$1'" >&2 && usage 2 >&2 ;;
  esac
  shift
done

say() { printf '\n== %s\n' "$*" >&2; }

if [[ -z ${DROVER_BIN:-} ]]; then
  say "building"
  tools/setup.sh >&2
  {
    cmake --preset release
    cmake --build build/release -j "$(nproc)" --target programs
  } >build.log 2>&1 || { cat build.log >&2; exit 1; }
  rm -f build.log
  export DROVER_BIN=$PWD/build/release/bin
fi
bin=$DROVER_BIN
began=$SECONDS

# A step's outputs appear under their name only when they are complete, so an interrupted step starts over.
if [[ ! -d $dir/data ]]; then
  say "data: a help desk, seed $seed"
  rm -rf "$dir/data.part" && mkdir -p "$dir"
  "$bin/demo_data" --out "$dir/data.part" --seed "$seed" "${data_options[@]}" >&2
  mv "$dir/data.part" "$dir/data"
fi
if [[ ! -d $dir/base ]]; then
  say "a tokenizer, and a model with random weights"
  rm -rf "$dir/base.part" "$dir/tokenizer"
  "$bin/train_tokenizer" --text "$dir/data/pretrain.jsonl" --vocab 768 --out "$dir/tokenizer" >&2
  "$bin/init" --config configs/demo/model.json --tokenizer "$dir/tokenizer" --out "$dir/base.part" --seed "$seed" >&2
  mv "$dir/base.part" "$dir/base"
fi

sed "s#runs/demo#$dir#g" configs/demo/pipeline.json |
  jq --argjson seed "$seed" --argjson scale "$scale" --arg until "$until" '
    .stages |= map(if .config then .config.run.seed = $seed else . end)
    | (.stages[].config.ppo? // empty) |= (.total_episodes = .batch_size * ([.total_episodes * $scale / .batch_size | floor, 1] | max))
    | ([.stages[].name] | index($until)) as $last
    | if $last then .stages |= .[:$last + 1] else error("--until: no stage is named \($until)") end' >"$dir/pipeline.json"
tools/drover run "$dir/pipeline.json" "${run_options[@]}" >/dev/null
[[ $until == final ]] || exit 0

say "answers to questions that no training has seen"
answer() { # NAME MODEL
  [[ -e $dir/$1.jsonl ]] && return
  "$bin/generate" --model "$2" --prompts "$dir/data/heldout.jsonl" --chat --max-new-tokens 48 --temperature 0.7 \
    --seed "$seed" --batch 128 --json >"$dir/$1.part" 2>/dev/null
  mv "$dir/$1.part" "$dir/$1.jsonl"
}
answer answers-sft "$dir/sft/model"
answer answers-ppo "$dir/final/model"

# --- the result ----------------------------------------------------------------------------------------------

checked() { # NAME KEY
  "$bin/demo_check" --heldout "$dir/data/heldout.jsonl" --answers "$dir/answers-$1.jsonl" --json | jq -r ".$2"
}
metric() { # FIRST|LAST NAME: of the ppo run's evaluations, before and after training
  local order=asc
  [[ $1 == last ]] && order=desc
  sqlite3 "$dir/ppo/run.db" "select value from metric where name = '$2' order by step $order limit 1"
}
row() { printf '%-34s %10s %10s\n' "$@"; }
number() { printf '%.3f' "$1"; }
percent() { awk -v x="$1" 'BEGIN { printf "%.1f%%", 100 * x }'; }

echo
row "$(wc -l <"$dir/data/heldout.jsonl") held-out questions" SFT PPO
row "checker score (0 to 1)" "$(number "$(checked sft score)")" "$(number "$(checked ppo score)")"
row "answers that keep every rule" "$(percent "$(checked sft perfect)")" "$(percent "$(checked ppo perfect)")"
row "reward model's score" "$(number "$(metric first eval/score)")" "$(number "$(metric last eval/score)")"
row "KL from SFT, nats per answer" "$(number "$(metric first eval/kl)")" "$(number "$(metric last eval/kl)")"
row "length, tokens" "$(number "$(metric first eval/length)")" "$(number "$(metric last eval/length)")"
row "answers that end by themselves" "$(percent "$(metric first eval/eos_rate)")" "$(percent "$(metric last eval/eos_rate)")"
echo
accuracy=$(sqlite3 "$dir/reward/run.db" "select value from metric where name = 'eval/accuracy' order by step desc limit 1")
echo "Reward model: $(percent "$accuracy") of $(wc -l <"$dir/data/preferences_eval.jsonl") held-out pairs right; 5% of the labels are flipped, so 95% is the ceiling."

echo
echo "Some of the answers:"
paste -d '\n' <(head -n 4 "$dir/answers-sft.jsonl" | jq -c '{prompt, sft: .response}') \
  <(head -n 4 "$dir/answers-ppo.jsonl" | jq -c '{ppo: .response}') |
  jq -r 'if .prompt then "\n  \(.prompt)\n    SFT: \(.sft)" else "    PPO: \(.ppo)" end'
echo
echo "The model is in $dir/final/model. Try it:"
echo "  tools/drover generate --model $dir/final/model --chat --temperature 0.7 --prompt 'Hello. My lamp does not start.'"
echo "Done in $((SECONDS - began)) seconds."
