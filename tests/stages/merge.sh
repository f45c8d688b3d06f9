#!/usr/bin/env bash
# merge: adapters over bases in 4 bits, into what was trained over and into the 16 bits behind it; the distance that is printed, against
# one computed from single log-probabilities; and what is refused. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
cp -r tests/fixtures/runs/{policy_bnb,policy_bnb_whole,policy_bnb_adapter,sft_bnb.jsonl} "$work"
cd "$work"
mv policy_bnb four     # as bitsandbytes saves it
mv policy_bnb_whole wide # what it was made from, in bf16
mv policy_bnb_adapter adapter
jq '.base_model_name_or_path = "four"' adapter/adapter_config.json >named && mv named adapter/adapter_config.json
vocab=$(jq .vocab_size wide/config.json)
export DROVER_CPU=avx2 # a matrix unit would round what enters a product

merge() { # OUT ARGUMENTS...
  pass "$bin/merge" --adapter adapter --out "$1" --json "${@:2}"
}
figure() { jq ".distance.$1" out; }
logprobs() { # IDS ARGUMENTS...: one a line
  pass "$bin/inspect" logprobs --ids "$1" --json "${@:2}"
  jq '.logprobs[]' out
}
near() { # A B TOLERANCE
  holds "($1) - ($2) < $3 && ($2) - ($1) < $3"
}
same_weights() { cmp -s "$1/model.safetensors" "$2/model.safetensors" || fail "the weights of $1 and $2 differ"; }

# Into what was trained over, the values of the codes, and into the 16 bits that those were made from.
printf '{"prompt":"%.4s"}\n{"text":"%.4s"}\n' "$(jq -r .prompt sft_bnb.jsonl | head -n 1)" "$(jq -r .prompt sft_bnb.jsonl | sed -n 2p)" >texts.jsonl
merge exact --model four --dtype f32 --prompts texts.jsonl
holds "$(figure logprob_max) < 2e-5"
merge rounded --model four --prompts texts.jsonl
[[ $(jq -r .dtype out) == bf16 ]] || fail "$(cat out)"
rounded=$(figure logprob_mean)
holds "$rounded > 1e-4"
merge into --model four --into wide --dtype f32 --prompts texts.jsonl
cp out into.json
into=$(figure logprob_mean)
holds "$into > 10 * $rounded"
grep -q quantization_config rounded/config.json into/config.json && fail "a plain model calls itself quantised"
pass "$bin/merge" --model four --adapter adapter --into wide --out shown --prompts texts.jsonl
grep -q 'log-probability changed by' out || fail "$(cat out)"
note "both ways: $rounded nats from rounding alone, $into into 16 bits"

# The figures, from every log-probability of every place, asked for one by one.
places=0
: >changes
while read -r text; do
  pass "$bin/inspect" tokens --model wide --text "$text" --json
  ids=($(jq -r '.ids[]' out))
  for ((n = 1; n < ${#ids[@]}; n++)); do
    prefix=$(IFS=,; echo "${ids[*]:0:n}")
    for ((v = 0; v < vocab; v++)); do
      before=$(logprobs "$prefix,$v" --model four --adapter adapter | tail -n 1)
      after=$(logprobs "$prefix,$v" --model into | tail -n 1)
      echo "$before $after $((v == ids[n]))" >>changes
    done
    places=$((places + 1))
  done
done < <(jq -r '.prompt // .text' texts.jsonl)
read -r mean most kl < <(awk -v n=$places '{ d = $1 - $2; kl += exp($1) * d; if (d < 0) d = -d
  if ($3) { sum += d; if (d > most) most = d } } END { print sum / n, most, kl / n }' changes)
cp into.json out
[[ $(figure tokens) == "$places" && $(figure texts) == 2 ]] || fail "$(cat out): expected $places places"
near "$(figure logprob_mean)" "$mean" 1e-5
near "$(figure logprob_max)" "$most" 1e-5
near "$(figure kl_mean)" "$kl" 1e-5
holds "$kl > 1e-3"
note "the distance: mean $mean, most $most, KL $kl"

# Quantised as it is read, the 16 bits are the same base; what an adapter was trained over is known from identity.json.
jq '.base_model_name_or_path = "wide"' adapter/adapter_config.json >named && mv named adapter/adapter_config.json
merge here --model wide --quantize nf4 --into wide --dtype f32
same_weights into here
merge codes --model four --quantize nf4
same_weights rounded codes # the values of the codes are in bf16 either way
grep -q 'was trained over wide; four has the same weights' log || fail "no word of the twin: $(cat log)"
pass "$bin/sft" --model.path wide --data.train sft_bnb.jsonl --data.template plain --lora.enabled --optim.max_steps 1 --model.quantize nf4 --run.dir run
[[ $(jq -r .base.quantize run/adapter/identity.json) == nf4 ]] || fail "identity.json: $(cat run/adapter/identity.json)"
pass "$bin/merge" --model wide --adapter run/adapter --out auto
pass "$bin/merge" --model wide --adapter run/adapter --quantize nf4 --out asked
pass "$bin/merge" --model wide --adapter run/adapter --quantize none --out plain
grep -q 'was trained over weights in 4 bits' log || fail "$(cat log)"
same_weights auto asked
differ auto/model.safetensors plain/model.safetensors
merge eight --model four --quantize int8 # of what 4 bits left: nearly that
logprobs 2,3,4 --model rounded >four.txt
logprobs 2,3,4 --model eight >eight.txt
differ rounded/model.safetensors eight/model.safetensors
near "$(tail -n 1 eight.txt)" "$(tail -n 1 four.txt)" 0.05
note "4 bits at load"

# A twin serves as a base, with a warning, here and there; what only looks like one does not.
logprobs 2,3,4 --model four --adapter run/adapter --quantize nf4 >codes.txt
grep -q 'was trained over wide; four has the same weights' log || fail "$(cat log)"
logprobs 2,3,4 --model wide --adapter run/adapter --quantize nf4 >loaded.txt
near "$(tail -n 1 codes.txt)" "$(tail -n 1 loaded.txt)" 1e-5
pass "$bin/sft" --model.path wide --data.train sft_bnb.jsonl --data.template plain --optim.max_steps 1 --optim.lr 1e-3 --model.dtype bf16 --run.dir tuned
refuse 4 "run/adapter: this adapter was trained over other weights than those in tuned/model" "$bin/inspect" logprobs --ids 2,3 \
  --model tuned/model --adapter run/adapter
# A name says little: what it names is other weights than those that were trained over.
pass "$bin/sft" --model.path tuned/model --data.train sft_bnb.jsonl --data.template plain --lora.enabled --optim.max_steps 1 \
  --run.dir renamed
jq '.base_model_name_or_path = "wide"' renamed/adapter/adapter_config.json >named && mv named renamed/adapter/adapter_config.json
refuse 4 "renamed/adapter: this adapter was trained over other weights than those in four" "$bin/inspect" logprobs --ids 2,3 \
  --model four --adapter renamed/adapter
refuse 4 "--into tuned/model: these are not the weights that those of four were made from" "$bin/merge" --model four \
  --adapter adapter --into tuned/model --out no
refuse 4 "--into tuned/model: these are not the weights that those of wide were made from" "$bin/merge" --model wide \
  --adapter adapter --quantize nf4 --into tuned/model --out no
refuse 2 "--into is for an adapter over a base in 4 or 8 bits: wide is not quantised" "$bin/merge" --model wide --adapter adapter \
  --into wide --out no
refuse 2 "--into four: expected weights in 16 or 32 bits, found NF4" "$bin/merge" --model four --adapter adapter --into four --out no
refuse 2 "--out wide is the directory of --into" "$bin/merge" --model four --adapter adapter --into wide --out wide
echo '{"prompt": ["a"]}' >list.jsonl
refuse 3 "list.jsonl:1: key 'prompt': expected a text, found a list" "$bin/merge" --model four --adapter adapter --prompts list.jsonl --out no
: >empty.jsonl
refuse 3 "empty.jsonl" "$bin/merge" --model four --adapter adapter --prompts empty.jsonl --out no
refuse 5 "the base under the adapter: needs" "$bin/merge" --model four --adapter adapter --memory-limit 1MiB --out no
[[ ! -e no ]] || fail "something was written"
cp -r wide silent && rm silent/tokenizer*.json
merge quiet --model silent --quantize nf4
[[ $(figure tokens) == null ]] && grep -q 'the distance is not measured' log || fail "$(cat out log)"
# A tokenizer with no ids that the model has: its own texts are left aside, a file is an error.
cp -r wide foreign
jq '.added_tokens = [] | .model.vocab |= with_entries(.value += 100)' wide/tokenizer.json >foreign/tokenizer.json
rm -f foreign/tokenizer_config.json
merge apart --model foreign --quantize nf4
[[ $(figure tokens) == null ]] && grep -q 'the distance is not measured' log || fail "$(cat out log)"
refuse 3 "texts.jsonl:1: a text has ids beyond the $vocab of the model" "$bin/merge" --model foreign --adapter adapter --quantize nf4 \
  --prompts texts.jsonl --out no
merge left --model four --distance false
[[ $(jq 'has("distance")' out) == false ]] || fail "$(cat out)"
same_weights left rounded
note "refusals"
