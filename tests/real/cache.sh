#!/usr/bin/env bash
# How far answers sampled from a KV cache in 8 bits are from the model's own: log-probabilities of sampled tokens as the sampler had them,
# and as the full forward has them, at temperature 1. docs/rollout.md has figures.
#
#   tests/real/cache.sh MODEL [N [TOKENS]]      N answers (8) of at most TOKENS tokens (300) to each of four prompts
#
# DROVER_BIN holds the programs (default build/release/bin). Prints for each cache the tokens, the mean |difference|, the largest, and the
# mean of e^d - 1 - d with d = log exact - log sampled: an estimate of KL(sampler || model), nats a token.
set -euo pipefail
(($# >= 1 && $# <= 3)) || { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2; }
model=$1 n=${2:-8} tokens=${3:-300}
bin=${DROVER_BIN:-build/release/bin}
prompts=("Tell me a story about a lighthouse." "How do I bake bread?" "Explain why the sky is blue." "Write a letter to a friend.")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '%-6s %8s %10s %10s %10s\n' cache tokens "mean |d|" "largest" KL
for cache in auto int8; do
  : >"$work/pairs"
  for prompt in "${prompts[@]}"; do
    ids=$("$bin/inspect" chat --model "$model" --prompt "$prompt" --json 2>/dev/null | jq -r '.ids | map(tostring) | join(",")')
    "$bin/generate" --model "$model" --ids "$ids" --n "$n" --max-new-tokens "$tokens" --temperature 1 --seed 1 --batch "$n" \
      --cache-dtype $cache --json --logprobs 2>/dev/null >"$work/answers"
    while read -r answer; do
      "$bin/inspect" logprobs --model "$model" --ids "$(jq -r '.prompt_ids + .ids | map(tostring) | join(",")' <<<"$answer")" --json \
        2>/dev/null | jq '.logprobs[]' | tail -n "$(jq '.ids | length' <<<"$answer")" |
        paste - <(jq '.logprobs[]' <<<"$answer") >>"$work/pairs"
    done <"$work/answers"
  done
  awk -v cache=$cache '
    { d = $1 - $2; a = d < 0 ? -d : d; sum += a; if (a > most) most = a; kl += exp(d) - 1 - d }
    END { printf "%-6s %8d %10.2g %10.2g %10.2g\n", cache, NR, sum / NR, most, kl / NR }' "$work/pairs"
done
