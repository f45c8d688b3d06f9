#!/usr/bin/env bash
# How far a model of fewer bits is from the exact one on what it writes (generate --kl): answers to eight questions, sampled and greedy.
# docs/quantization.md has figures.
#
#   tests/real/kl.sh MODEL [TOKENS [SEED]]      answers of at most TOKENS tokens (64)
#
# DROVER_BIN holds the programs (default build/release/bin). Prints for each the tokens, the KL(sampler || exact weights) in nats a token with
# its standard error, the same by sampled tokens alone (k3), and how the tokens' log-probabilities changed.
set -euo pipefail
(($# >= 1 && $# <= 3)) || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2; }
model=$1 tokens=${2:-64} seed=${3:-1}
bin=${DROVER_BIN:-build/release/bin}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jq -cn --args '$ARGS.positional[] | {prompt: .}' "Tell me a story about a lighthouse." "How do I bake bread?" "Explain why the sky is blue." \
  "Write a letter to a friend." "What is the capital of France?" "Write a function in C that adds two numbers." "My radio is late. What can I do?" \
  "Give me three reasons to learn to swim." >"$work/questions.jsonl"

for temperature in 1 0; do
  for bits in "--quantize int8" "--quantize int8 --quantize-tables int8" "--quantize nf4" "--quantize nf4 --quantize-tables int8" \
    "--cache-dtype int8"; do
    echo "temperature $temperature $bits"
    # shellcheck disable=SC2086 # options
    "$bin/generate" --model "$model" --chat --prompts "$work/questions.jsonl" --max-new-tokens "$tokens" --temperature $temperature --seed "$seed" \
      $bits --kl 100000 2>&1 >/dev/null | grep -A2 '^KL(' || true
  done
done
