#!/usr/bin/env bash
# PPO beside its relatives on the demo (docs/demo.md): what each method makes of the same SFT model, reward model and
# questions, and what it costs. Seeds have data and weights of their own.
#
#   tests/real/methods.sh OUT [SEEDS [PROGRAMS]]    SEEDS: how many (3); PROGRAMS: their folder (build/release/bin)
#
# Writes OUT/results.jsonl, a line for each run, and prints what the table of docs/demo.md has; OUT/methods.svg (gnuplot) is its
# picture. Every method learns a LoRA adapter (r 16, alpha 32) with the settings of PPO's (configs/demo/pipeline.json)
# where it has them, and 5,120 answers. NAME-time: as many answers as fit the processor time of PPO's run of the
# same seed. Seconds are of the processor, one thread, so that other work on the machine disturbs them little.
# Started again it goes on with what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:?usage: tests/real/methods.sh OUT [SEEDS [PROGRAMS]]} seeds=${2:-3}
export DROVER_BIN=${3:-build/release/bin}
bin=$DROVER_BIN
mkdir -p "$out"

episodes=5120
method=() # the command of a method, but for run.dir and how many answers

on_policy() { # on_policy SEED PPO-OPTIONS...
  local world=$out/seed-$1
  jq '.stages[] | select(.name == "ppo") | .config | .data |= map_values(if type == "string" then sub("runs/demo"; $world) else . end)' \
    --arg world "$world" configs/demo/pipeline.json >"$world/ppo.json"
  method=("$bin/ppo" --config "$world/ppo.json" --model.path "$world/sft/model" --reward.path "$world/reward/model"
    --run.seed "$1" --run.eval_every 5 "${@:2}")
}

command_of() { # command_of NAME SEED
  local world=$out/seed-$2
  case ${1%-time} in
    ppo) on_policy "$2" ;;
    rloo) on_policy "$2" --ppo.advantage rloo --ppo.samples_per_prompt 4 ;;
    grpo) on_policy "$2" --ppo.advantage grpo --ppo.samples_per_prompt 8 ;;
    reinforce_pp) on_policy "$2" --ppo.advantage reinforce_pp ;;
    dpo) # its answers are those of the pairs, two to a pair
      method=("$bin/dpo" --model.path "$world/sft/model" --data.train "$world/data/preferences.jsonl" --data.max_length 128
        --lora.enabled --lora.r 16 --lora.alpha 32 --optim.lr 5e-4 --optim.schedule linear --optim.batch_size 16
        --optim.micro_batch_tokens 4096 --run.seed "$2") ;;
  esac
}

how_long() { # how_long NAME ANSWERS, a multiple of 256: the options
  case $1 in
    dpo*) echo "--optim.max_steps $(($2 / 32))" ;;
    *) echo "--ppo.total_episodes $2" ;;
  esac
}

# measured FOLDER COMMAND...: leaves processor seconds and peak memory (KiB) in FOLDER.cost
measured() {
  local folder=$1
  shift
  /usr/bin/time -f '%U %S %M' -o "$folder.cost" "$@" --run.dir "$folder" --device.threads 1 >"$folder.out" 2>"$folder.log" ||
    { tail -n 5 "$folder.log" >&2; exit 1; }
}
cost() { awk -v field="$2" 'END { print field == "seconds" ? $1 + $2 : $3 / 1024 }' "$1.cost"; }

# answers MODEL ADAPTER TEMPERATURE SEED HELDOUT
answers() {
  "$bin/generate" --model "$1" ${2:+--adapter "$2"} --prompts "$5" --chat --max-new-tokens 48 --temperature "$3" --seed "$4" \
    --batch 128 --threads 1 --json 2>/dev/null
}

# divergence MODEL ADAPTER ANSWERS: mean over answers, sampled at temperature 1, of log p - log q of policy and model, nats
divergence() {
  local line prompt ids adapter
  while IFS= read -r line; do
    prompt=$("$bin/inspect" chat --model "$1" --generation-prompt --prompt "$(jq -r .prompt <<<"$line")" --json | jq -c .ids)
    ids=$(jq -rc --argjson prompt "$prompt" '$prompt + .ids | join(",")' <<<"$line")
    for adapter in "$2" ''; do
      "$bin/inspect" logprobs --model "$1" ${adapter:+--adapter "$adapter"} --ids "$ids" --json |
        jq --argjson n "$(jq '.ids | length' <<<"$line")" '[.logprobs[-$n:][]] | add'
    done | paste -sd ' '
  done <"$3" | awk '{ sum += $1 - $2 } END { print sum / NR }'
}

checked() { # checked ANSWERS HELDOUT
  "$bin/demo_check" --heldout "$2" --answers "$1" --json
}

write() { # write SEED NAME FOLDER ANSWERS KL HOW-MANY: a line of results
  jq -c --argjson seed "$1" --arg name "$2" --argjson seconds "$(cost "$3" seconds)" --argjson mib "$(cost "$3" memory)" \
    --argjson kl "$5" --argjson answers "$6" \
    '{method: $name, seed: $seed, answers: $answers, checker: .score, perfect, kl: $kl, seconds: $seconds, mib: $mib}' \
    <(checked "$4" "$out/seed-$1/data/heldout.jsonl") >>"$out/results.jsonl"
}
is_there() { [[ -e $out/results.jsonl ]] && jq -e -s --arg name "$2" --argjson seed "$1" 'any(.[]; .method == $name and .seed == $seed)' "$out/results.jsonl" >/dev/null; }

learn() { # learn SEED NAME ANSWERS
  local world=$out/seed-$1 folder=$out/$2-$1 how
  is_there "$1" "$2" && return
  command_of "$2" "$1"
  read -ra how <<<"$(how_long "$2" "$3")"
  rm -rf "$folder"
  measured "$folder" "${method[@]}" "${how[@]}"
  answers "$world/sft/model" "$folder/adapter" 0.7 "$1" "$world/data/heldout.jsonl" >"$folder.answers"
  answers "$world/sft/model" "$folder/adapter" 1 "$1" "$world/data/heldout.jsonl" >"$folder.answers1"
  write "$1" "$2" "$folder" "$folder.answers" "$(divergence "$world/sft/model" "$folder/adapter" "$folder.answers1")" "$3"
}

# The SFT model itself, and the best of 16 of its answers by the reward model; its KL is the bound log n - (n - 1) / n.
without_learning() {
  local seed=$1 world=$out/seed-$1
  if ! is_there "$seed" sft; then
    answers "$world/sft/model" '' 0.7 "$seed" "$world/data/heldout.jsonl" >"$out/sft-$seed.answers"
    echo 0 0 0 >"$out/sft-$seed.cost"
    write "$seed" sft "$out/sft-$seed" "$out/sft-$seed.answers" 0 0
  fi
  is_there "$seed" best_of_16 && return
  rm -rf "$out/best_of_16-$seed"
  measured "$out/best_of_16-$seed" "$bin/sample" --model.path "$world/sft/model" --reward.path "$world/reward/model" \
    --data.prompts "$world/data/heldout.jsonl" --data.max_length 64 --rollout.max_new_tokens 48 --rollout.temperature 0.7 \
    --rollout.batch 128 --sample.n 16 --sample.format sft --sample.unfinished keep --run.seed "$seed"
  write "$seed" best_of_16 "$out/best_of_16-$seed" "$out/best_of_16-$seed/data.jsonl" \
    "$(awk 'BEGIN { print log(16) - 15 / 16 }')" 3200
}

for ((seed = 1; seed <= seeds; seed++)); do
  tools/demo.sh --dir "$out/seed-$seed" --seed "$seed" --until reward >/dev/null 2>"$out/seed-$seed.log"
  without_learning "$seed"
  for name in ppo rloo grpo reinforce_pp dpo; do learn "$seed" "$name" $episodes; done
done
for ((seed = 1; seed <= seeds; seed++)); do
  for name in rloo grpo reinforce_pp dpo; do
    learn "$seed" "$name-time" "$(awk -v answers=$episodes -v ours="$(cost "$out/ppo-$seed" seconds)" \
      -v theirs="$(cost "$out/$name-$seed" seconds)" 'BEGIN { print 256 * int(answers * ours / theirs / 256) }')"
  done
done

# --- the table and the picture -----------------------------------------------------------------------------------

jq -rs 'def spread: (add / length) as $mean | [$mean, (map(. - $mean | . * .) | add / ([length - 1, 1] | max) | sqrt)];
  def text(d): spread | map(. * pow(10; d) | round / pow(10; d)) | "\(.[0]) ± \(.[1])";
  group_by(.method)[] | [.[0].method, (map(.answers) | add / length | round), (map(.checker) | text(3)), (map(100 * .perfect) | text(1)),
    (map(.kl) | text(2)), (map(.seconds) | text(0)), (map(.mib) | text(0))] | "| " + (map(tostring) | join(" | ")) + " |"' \
  "$out/results.jsonl" | cat <(printf '%s\n' '| method | answers | checker | rules all kept, % | KL, nats | seconds | MiB |' \
    '| --- | --- | --- | --- | --- | --- | --- |') -

command -v gnuplot >/dev/null || { echo 'methods.sh: no gnuplot, so no picture' >&2 && exit 0; }
for name in ppo rloo grpo reinforce_pp; do
  for ((seed = 1; seed <= seeds; seed++)); do
    sqlite3 -separator ' ' "$out/$name-$seed/run.db" "select step, value from metric where name = 'eval/score'"
  done | awk '{ sum[$1] += $2; n[$1]++ } END { for (step in sum) print 256 * step, sum[step] / n[step] }' | sort -n >"$out/$name.curve"
done
gnuplot <<END
set terminal svg size 720,420 dynamic font 'sans-serif,13' background '#ffffff'
set output '$out/methods.svg'
set xlabel 'answers learnt from'
set ylabel "reward model's score, held-out questions"
set key bottom right
set grid
plot '$out/ppo.curve' with lines lw 2 title 'PPO', '$out/rloo.curve' with lines lw 2 title 'RLOO', \
  '$out/grpo.curve' with lines lw 2 title 'GRPO', '$out/reinforce_pp.curve' with lines lw 2 title 'REINFORCE++'
END
