#!/usr/bin/env bash
# PPO beside its relatives on the demo (docs/demo.md): what each method makes of the same SFT model, reward model and
# questions, and what it costs. Seeds have data and weights of their own.
#
#   tests/real/methods.sh OUT [SEEDS [PROGRAMS]]    SEEDS: how many (3); PROGRAMS: their folder (build/release/bin)
#
# Writes OUT/results.jsonl, a line for each run, and prints what the tables of docs/demo.md have; OUT/methods.svg and OUT/methods-time.svg
# (gnuplot) are its pictures. Every method learns a LoRA adapter (r 16, alpha 32) with the settings of PPO's
# (configs/demo/pipeline.json) where it has them. NAME-time: as many answers, or for the best of n samples of each question, as 40 seconds are
# enough for, without evaluations; how many is found by a short run with the first seed, and is the same for all. NAME: 5,120 answers. Seconds
# are of the processor, one thread, so that other work on the machine disturbs them little. Equal time comes first; started again it goes
# on with what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:?usage: tests/real/methods.sh OUT [SEEDS [PROGRAMS]]} seeds=${2:-3}
export DROVER_BIN=${3:-build/release/bin}
bin=$DROVER_BIN
mkdir -p "$out"

episodes=5120 budget=40
method=() # the command of a method, but for run.dir and how many answers

on_policy() { # on_policy NAME SEED PPO-OPTIONS...
  local world=$out/seed-$2 config=$out/seed-$2/ppo.json
  [[ $1 != *-time ]] || config=${config%.json}-time.json
  jq '.stages[] | select(.name == "ppo") | .config | .data |= map_values(if type == "string" then sub("runs/demo"; $world) else . end)
    | if $name | endswith("-time") then del(.data.eval) else .run.eval_every = 5 end' \
    --arg world "$world" --arg name "$1" configs/demo/pipeline.json >"$config"
  method=("$bin/ppo" --config "$config" --model.path "$world/sft/model" --reward.path "$world/reward/model" --run.seed "$2" "${@:3}")
}

command_of() { # command_of NAME SEED
  local world=$out/seed-$2
  case ${1%-time} in
    ppo) on_policy "$@" ;;
    rloo) on_policy "$@" --ppo.advantage rloo --ppo.samples_per_prompt 4 ;;
    grpo) on_policy "$@" --ppo.advantage grpo --ppo.samples_per_prompt 8 ;;
    reinforce_pp) on_policy "$@" --ppo.advantage reinforce_pp ;;
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
    --batch 128 --threads 1 --logprobs --json 2>/dev/null
}

prompt_ids() { # prompt_ids WORLD: of the held-out questions, a list a line
  [[ -e $1/prompts.ids ]] && return
  jq -r .prompt "$1/data/heldout.jsonl" | while IFS= read -r prompt; do
    "$bin/inspect" chat --model "$1/sft/model" --generation-prompt --prompt "$prompt" --json | jq -c .ids
  done >"$1/prompts.part"
  mv "$1/prompts.part" "$1/prompts.ids"
}

# divergence WORLD ANSWERS: mean over answers, sampled at temperature 1, of log p - log q of policy and SFT model, nats
divergence() {
  local ids
  prompt_ids "$1"
  paste -d '\n' "$1/prompts.ids" "$2" | jq -rc '. + (input | .ids) | join(",")' | while IFS= read -r ids; do
    "$bin/inspect" logprobs --model "$1/sft/model" --ids "$ids" --json
  done | jq -s --slurpfile answers "$2" '[., $answers] | transpose | map((.[1].logprobs | length) as $n
    | (.[1].logprobs | add) - (.[0].logprobs[-$n:] | add)) | add / length'
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
  write "$1" "$2" "$folder" "$folder.answers" "$(divergence "$world" "$folder.answers1")" "$3"
}

alone() { # alone SEED: the SFT model
  local world=$out/seed-$1
  is_there "$1" sft && return
  answers "$world/sft/model" '' 0.7 "$1" "$world/data/heldout.jsonl" >"$out/sft-$1.answers"
  echo 0 0 0 >"$out/sft-$1.cost"
  write "$1" sft "$out/sft-$1" "$out/sft-$1.answers" 0 0
}

best_of_command() { # best_of_command SEED N QUESTIONS
  local world=$out/seed-$1
  method=("$bin/sample" --model.path "$world/sft/model" --reward.path "$world/reward/model" --data.prompts "$3"
    --data.max_length 64 --rollout.max_new_tokens 48 --rollout.temperature 0.7 --rollout.batch 128 --sample.n "$2" --sample.format sft
    --sample.unfinished keep --run.seed "$1")
}

best_of() { # best_of SEED NAME N: of its answers by the reward model; the KL is the bound log n - (n - 1) / n
  local folder=$out/$2-$1
  is_there "$1" "$2" && return
  best_of_command "$1" "$3" "$out/seed-$1/data/heldout.jsonl"
  rm -rf "$folder"
  measured "$folder" "${method[@]}"
  write "$1" "$2" "$folder" "$folder/data.jsonl" "$(awk -v n="$3" 'BEGIN { print log(n) - (n - 1) / n }')" $((200 * $3))
}

# How many answers, a multiple of STEP, fit the time, by what runs of 1,024 and 2,048 took with the first seed: what is done once for
# all of them (DPO's reference, for one) is in both.
in_time() { # in_time NAME STEP
  local answers folder
  for answers in 1024 2048; do
    folder=$out/pace-$1-$answers
    [[ ! -e $folder.cost ]] || continue
    rm -rf "$folder"
    pace "$1" "$folder" "$answers"
  done
  awk -v step="$2" -v budget=$budget -v one="$(cost "$out/pace-$1-1024" seconds)" -v two="$(cost "$out/pace-$1-2048" seconds)" \
    'BEGIN { print step * int((1024 + 1024 * (budget - one) / (two - one)) / step) }'
}

pace() { # pace NAME FOLDER ANSWERS
  local how
  if [[ $1 == best_of ]]; then
    head -n $(($3 / 16)) "$out/seed-1/data/heldout.jsonl" >"$out/pace.jsonl"
    best_of_command 1 16 "$out/pace.jsonl"
    measured "$2" "${method[@]}"
  else
    command_of "$1-time" 1
    read -ra how <<<"$(how_long "$1" "$3")"
    measured "$2" "${method[@]}" "${how[@]}"
  fi
}

methods=(ppo rloo grpo reinforce_pp dpo)
for ((seed = 1; seed <= seeds; seed++)); do
  tools/demo.sh --dir "$out/seed-$seed" --seed "$seed" --until reward >/dev/null 2>"$out/seed-$seed.log"
  alone "$seed"
  for name in "${methods[@]}"; do learn "$seed" "$name-time" "$(in_time "$name" 256)"; done
  best_of "$seed" best_of_n-time $(($(in_time best_of 200) / 200))
done
for ((seed = 1; seed <= seeds; seed++)); do
  best_of "$seed" best_of_16 16
  for name in "${methods[@]}"; do learn "$seed" "$name" $episodes; done
done

# --- the table and the picture -----------------------------------------------------------------------------------

jq -rs 'def spread: (add / length) as $mean | [$mean, (map(. - $mean | . * .) | add / ([length - 1, 1] | max) | sqrt)];
  def text(d): spread | map(. * pow(10; d) | round / pow(10; d)) | "\(.[0]) ± \(.[1])";
  group_by(.method)[] | [.[0].method, (map(.answers) | add / length | round), (map(.checker) | text(3)), (map(100 * .perfect) | text(1)),
    (map(.kl) | text(2)), (map(.seconds) | text(0)), (map(.mib) | text(0))] | "| " + (map(tostring) | join(" | ")) + " |"' \
  "$out/results.jsonl" | cat <(printf '%s\n' '| method | answers | checker | rules all kept, % | KL, nats | seconds | MiB |' \
    '| --- | --- | --- | --- | --- | --- | --- |') -

command -v gnuplot >/dev/null || { echo 'methods.sh: no gnuplot, so no picture' >&2 && exit 0; }
# The course of a method's 5,120 answers: answers, processor seconds by then, the score of held-out questions; means over seeds.
for name in ppo rloo grpo reinforce_pp; do
  for ((seed = 1; seed <= seeds; seed++)); do
    sqlite3 -separator ' ' "$out/$name-$seed/run.db" "select 256 * step, value from metric where name = 'eval/score'" |
      awk -v took="$(cost "$out/$name-$seed" seconds)" -v all=$episodes '{ print $1, took * $1 / all, $2 }'
  done | awk '{ time[$1] += $2; sum[$1] += $3; n[$1]++ } END { for (at in sum) print at, time[at] / n[at], sum[at] / n[at] }' | sort -n >"$out/$name.curve"
done
picture() { # picture FILE COLUMN LABEL
  gnuplot <<END
set terminal svg size 720,420 dynamic font 'sans-serif,13' background '#ffffff'
set output '$1'
set xlabel '$3'
set ylabel "reward model's score, held-out questions"
set key bottom right
set grid
plot '$out/ppo.curve' using $2:3 with lines lw 2 title 'PPO', '$out/rloo.curve' using $2:3 with lines lw 2 title 'RLOO', \
  '$out/grpo.curve' using $2:3 with lines lw 2 title 'GRPO', '$out/reinforce_pp.curve' using $2:3 with lines lw 2 title 'REINFORCE++'
END
}
picture "$out/methods.svg" 1 'answers learnt from'
picture "$out/methods-time.svg" 2 'processor seconds'
