#!/usr/bin/env bash
# generate, as a user runs it: streamed text, JSON lines in the order of the prompts, and every kind of
# mistake with its exit code. $1 is the folder of the executables.
set -euo pipefail
generate=$1/generate
fixtures=$(dirname "$0")/../fixtures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}
equal() { [ "$2" = "$3" ] || fail "$1: '$2' is not '$3'"; }

# GPT-2's tokenizer over a model that knows its first 99 ids: single printable characters.
mkdir "$work/model"
cp "$fixtures"/models/gpt2/config.json "$fixtures"/models/gpt2/model.safetensors "$work/model"
cp "$fixtures"/tokenizer/gpt2/*.json "$work/model"
run() { "$generate" --model "$work/model" --max-new-tokens 12 --threads 1 "$@" 2>"$work/stderr"; }
field() { sed -E "s/.*\"$1\":(\"([^\"\\\\]|\\\\.)*\"|\\[[^]]*\\]|[^,}]*).*/\\1/"; }

# One prompt streams its text; --json gives the same answer in a line.
text=$(run --prompt Z --seed 4)
line=$(run --prompt Z --seed 4 --json --logprobs)
equal "ids again" "$(run --prompt Z --seed 4 --json | field ids)" "$(field ids <<<"$line")"
equal "ids of a prompt in ids" "$(run --ids 58 --seed 4 --json | field ids)" "$(field ids <<<"$line")"
[ "$(run --prompt Z --seed 5)" != "$text" ] || fail "another seed gives another answer"
commas() { tr -cd , | wc -c; }
equal "logprobs" "$(field logprobs <<<"$line" | commas)" "$(field ids <<<"$line" | commas)"
grep -q 'tokens/s' "$work/stderr" || fail "no rates on standard error: $(cat "$work/stderr")"

equal "a user turn in the plain template" \
  "$(run --prompt Z --seed 4 --chat --template plain --ignore-eos --json | field ids)" \
  "$(run --prompt Z --seed 4 --ignore-eos --json | field ids)"

# A file: the keys stay, the order too, in whatever batches; the first prompt's answer is the one it gives
# alone.
printf '%s\n' '{"prompt": "Z", "product": "lamp", "steps": [1, 2]}' '' '{"prompt": "Q"}' '{"prompt": "7"}' \
  >"$work/prompts.jsonl"
run --prompts "$work/prompts.jsonl" --seed 4 >"$work/all"
run --prompts "$work/prompts.jsonl" --seed 4 --batch 1 >"$work/one"
run --prompts "$work/prompts.jsonl" --seed 4 --batch 2 --prefill-chunk 1 --threads 2 >"$work/two"
cmp "$work/all" "$work/one" || fail "batches of one differ"
cmp "$work/all" "$work/two" || fail "batches of two differ"
equal "lines" "$(wc -l <"$work/all")" 3
equal "order" "$(field prompt <"$work/all" | tr -d '\n')" '"Z""Q""7"'
equal "first" "$(head -1 "$work/all" | field ids)" "$(field ids <<<"$line")"
head -1 "$work/all" | grep -q '"product":"lamp","steps":\[1,2\],"response":' ||
  fail "keys are lost: $(cat "$work/all")"
run --prompts "$work/prompts.jsonl" --n 3 >"$work/many"
equal "samples" "$(field sample <"$work/many" | tr -d '\n')" 012012012

# Greedy is one answer; a stop string ends it before the stop.
greedy=$(run --prompt Z --temperature 0 --json | field response)
equal "greedy" "$(run --prompt Z --temperature 0 --seed 9 --json | field response)" "$greedy"
run --prompt Z --temperature 0 --seed 9 >"$work/none"
grep -q "warning: seed is given and has no effect: it matters only with temperature > 0" "$work/stderr" || fail "--seed of greedy answers"
text=$(run --prompt Z --temperature 0)
stopped=$(run --prompt Z --temperature 0 --stop "${text:4:2},none such" --json)
equal "stop" "$(field response <<<"$stopped") $(field finished <<<"$stopped")" "\"${text:0:4}\" \"stop\""

# Mistakes: exit code, and a part of the message.
mistake() {
  local code=$1 part=$2 status=0
  shift 2
  run "$@" >"$work/stdout" || status=$?
  equal "exit code of $*" "$status" "$code"
  grep -qF -- "$part" "$work/stderr" || fail "$*: '$part' is not in: $(cat "$work/stderr")"
  [ ! -s "$work/stdout" ] || fail "$*: standard output is not empty"
}
printf '%s\n' '{"prompt": "Z"}' '{"prompt": 3}' >"$work/number.jsonl"
printf '%s\n' '{"prompt": "Z"' >"$work/broken.jsonl"
printf '%s\n' '{"prompt": [{"role": "user", "content": "Z"}]}' >"$work/messages.jsonl"
: >"$work/empty.jsonl"
mistake 2 "give one of --prompt" --seed 1
mistake 2 "give one of --prompt" --prompt Z --ids 1
mistake 2 "did you mean '--temperature'" --prompt Z --temprature 1
mistake 2 "1,x" --ids 1,x
mistake 2 "--system needs --chat" --prompt Z --system Y
mistake 3 "outside the model's vocabulary" --ids 1,99
mistake 3 "number.jsonl:2: key 'prompt': expected string" --prompts "$work/number.jsonl"
mistake 3 "broken.jsonl:1:" --prompts "$work/broken.jsonl"
mistake 3 "needs --chat" --prompts "$work/messages.jsonl"
mistake 3 "no prompts" --prompts "$work/empty.jsonl"
mistake 3 "no room for an answer" --ids "$(printf '1,%.0s' {1..40})1"
mistake 4 "chat" --prompt Z --chat
mistake 4 "no LM head" --model "$fixtures/models/gpt2_score" --ids 1
mistake 5 "memory" --prompt Z --memory-limit 1KiB
mistake 5 "one prompt with its response" --prompt Z --cache 1KiB
mistake 6 "missing.jsonl" --prompts "$work/missing.jsonl"
mkdir "$work/nothing"
mistake 6 "config.json" --model "$work/nothing" --ids 1
mistake 2 "did you mean $work/model?" --model "$work" --ids 1

# Control characters of a record keep their bytes in a file, and are spelled out on a terminal, as JSON.
printf '{"prompt": "Z", "note": "\177\302\233m"}\n' >"$work/control.jsonl"
command="$generate --model $work/model --max-new-tokens 2 --threads 1 --prompts $work/control.jsonl"
$command >"$work/plain" 2>"$work/stderr"
grep -q "$(printf '"note":"\177\302\233m"')" "$work/plain" || fail "the bytes of a record changed: $(cat "$work/plain")"
script -qec "$command 2>/dev/null" /dev/null </dev/null >"$work/terminal"
grep -qF '"note":"\u007f\u009bm"' "$work/terminal" || fail "control characters reach a terminal: $(cat -v "$work/terminal")"

# --kl. A base in 4 bits under an adapter against the same in all its bits, beside the log-probabilities of every token that inspect finds
# after each place of the answers: KL of the distributions at the temperature, k3 of the tokens that came, and their errors from two answers.
whole=(--model "$fixtures/runs/policy_bnb_whole") adapted=(--adapter "$fixtures/runs/policy_bnb_adapter")
kl() { DROVER_CPU=avx2 "$generate" "${whole[@]}" --threads 1 --json "$@" >"$work/out" 2>"$work/log" || fail "--kl: $(cat "$work/log")"; }
said() { sed -nE "s/^$1: ([^ ]+) nats a token, standard error ([^ ;]+).*/\1 \2/p" "$work/log"; }
nearly() { awk -v a="$2" -v b="$3" 'BEGIN { limit[1] = 0.006; limit[2] = 0.051; split(a, x); split(b, y); for (i = 1; i <= 2; i++) if (!(x[i] > 0 && x[i] / y[i] > 1 - limit[i] && x[i] / y[i] < 1 + limit[i])) exit 1 }' ||
  fail "$1: printed '$2', computed '$3'"; }
every() { # BIN CONTEXT ARGUMENTS...: the log-probability of each of 31 tokens after it
  local id
  for ((id = 0; id < 31; id++)); do
    DROVER_CPU=avx2 "$1/inspect" logprobs "${whole[@]}" "${adapted[@]}" --threads 1 --json --ids "$2,$id" "${@:3}"
  done | jq '.logprobs[-1]'
}
kl "${adapted[@]}" --ids 5,9 --n 2 --seed 4 --temperature 0.7 --max-new-tokens 2 --ignore-eos --quantize nf4 --kl 100
grep -q "at temperature 0.7, at 4 tokens of 2 answers" "$work/log" || fail "--kl: $(cat "$work/log")"
jq -r '.ids | "5,9 \(.[0])\n5,9,\(.[0]) \(.[1])"' "$work/out" | while read -r context token; do
  # Both answers begin after the same one.
  [ -e "$work/after-$context" ] || paste <(every "$1" "$context" --quantize nf4) <(every "$1" "$context") >"$work/after-$context"
  awk -v token="$token" '
    { p[NR - 1] = exp($1 / 0.7); q[NR - 1] = exp($2 / 0.7); ps += p[NR - 1]; qs += q[NR - 1] }
    END { for (v = 0; v < NR; v++) kl += p[v] / ps * log(p[v] / ps / (q[v] / qs))
          l = log(q[token] / qs / (p[token] / ps)); printf "%.9g %.9g\n", kl, exp(l) - 1 - l }' "$work/after-$context"
done >"$work/places"
computed() { # COLUMN: of as many places in both answers the error is half the difference of their means
  awk -v c="$1" '{ s[NR > 2] += $c / 2 } END { d = s[0] - s[1]; print (s[0] + s[1]) / 2, (d < 0 ? -d : d) / 2 }' "$work/places"
}
nearly "KL" "$(said 'KL\(sampler \|\| exact weights\)')" "$(computed 1)"
nearly "k3" "$(said 'by the sampled tokens alone, as ppo\/sampler_kl \(k3\)')" "$(computed 2)"

# The model's files are in bf16: nothing is lost, whatever is done to logits. Keys and values in 8 bits alone are another policy.
edited=(--ids 5,9 --max-new-tokens 12 --n 3 --seed 4 --min-new-tokens 6 --repetition-penalty 1.7 --kl 100)
figure() { sed -nE 's/^KL\(sampler \|\| exact weights\): ([^ ]+) .*/\1/p' "$work/log"; }
holds() { awk "BEGIN { exit !($1) }" || fail "expected: $1; $(cat "$work/log")"; }
kl "${edited[@]}" --dtype bf16
holds "$(figure) < 1e-9"
grep -q 'the same at 100.0%' "$work/log" || fail "--kl of bf16: $(cat "$work/log")"
kl "${edited[@]}" --cache-dtype int8
holds "$(figure) > 1e-9"
# Of more tokens than are looked at the same ones are, in whatever batches. Greedy answers and a top-p have no k3.
kl "${edited[@]}" --quantize int8 --kl 7 --batch 1
grep -q "at 7 tokens of" "$work/log" || fail "--kl 7: $(cat "$work/log")"
chosen=$(grep KL "$work/log")
kl "${edited[@]}" --quantize int8 --kl 7 --prefill-chunk 1
equal "--kl in another batch" "$(grep KL "$work/log")" "$chosen"
kl --ids 5,9 --max-new-tokens 5 --ignore-eos --temperature 0 --quantize nf4 --quantize-tables int8 --kl 7
grep -q "nats a token, no standard error of one answer; of whole distributions at temperature 1, since greedy answers have none, at 5 tokens of 1 answer$" "$work/log" ||
  fail "--kl of a greedy answer: $(cat "$work/log")"
holds "$(figure) > 1e-9"
kl "${edited[@]}" --quantize nf4 --top-p 0.9
holds "$(figure) > 1e-9 && $(grep -c k3 "$work/log") == 0"
mistake 2 "--kl: the answers are the exact weights' own, and the divergence is 0" --prompt Z --kl 5
mistake 2 "quantised already (NF4), and no more exact ones are there to compare with" --model "$fixtures/runs/policy_bnb" --ids 1 --quantize nf4 --kl 5

[[ $("$generate" --help) == *--max-new-tokens* ]] || fail "--help"
[ "$failures" = 0 ] || exit 1
echo "generate: all checks passed"
