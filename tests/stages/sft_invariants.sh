#!/usr/bin/env bash
# What must not matter to the sft stage does not, what must matter does, and it learns. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world

train=("$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --data.eval "$world/sft.jsonl"
  --data.template chatml --data.max_length 96 --optim.lr 3e-3 --optim.max_steps 12 --optim.batch_size 12 --json)
# run NAME OPTIONS...: sets loss to the evaluation loss at the end.
run() {
  pass "${train[@]}" --run.dir "$work/$1" "${@:2}"
  loss=$(sed 's/.*"eval_loss": \([0-9.]*\).*/\1/' "$work/out")
}
near() { holds "($1) - ($2) < $3 && ($2) - ($1) < $3"; }

# The split into micro-batches: the loss is normalised over the whole update.
run large --optim.micro_batch_tokens 4096
large=$loss
run small --optim.micro_batch_tokens 64
near "$loss" "$large" 2e-5
run alone --data.packing false
near "$loss" "$large" 2e-5
run threads --device.threads 1
near "$loss" "$large" 2e-5
run recompute --model.recompute
near "$loss" "$large" 2e-5
note "micro-batches, packing and threads change rounding alone"

# And what does matter changes it by more than that.
run batch --optim.batch_size 11
holds "$loss - $large > 1e-4 || $large - $loss > 1e-4"
run inputs --data.train_on_inputs
holds "$loss - $large > 1e-3 || $large - $loss > 1e-3"
run bf16 --model.dtype bf16
near "$loss" "$large" 0.05
holds "$loss != $large"
note "other settings give other losses"

# It learns, and the log says so.
first=$(metric "$work/large" train/loss first)
holds "$first > 5 && $large < $first - 0.4"
run long --optim.max_steps 200
holds "$loss < 2"
near "$(metric "$work/long" eval/perplexity)" "exp($(metric "$work/long" eval/loss))" 1e-6
note "the loss falls from $first to $loss"

# The last update of an epoch has the examples that are left: each is learnt from once an epoch, whatever the batch.
head -n 33 "$world/sft.jsonl" >"$work/33.jsonl"
head -n 10 "$world/sft.jsonl" >"$work/10.jsonl"
epochs() { # epochs NAME FILE STEPS OPTIONS...: sets tokens to the loss tokens learnt from
  pass "$bin/sft" --model.path "$world/base" --data.train "$2" --run.dir "$work/$1" --optim.batch_size 32 --json "${@:4}"
  grep -q "\"steps\": $3," "$work/out" || fail "$1: expected $3 steps: $(cat "$work/out")"
  tokens=$(jq .tokens "$work/out")
}
epochs all_33 "$work/33.jsonl" 1 --optim.batch_size 33
all=$tokens
epochs of_33 "$work/33.jsonl" 2
[[ $tokens == "$all" ]] || fail "33 examples are $all loss tokens, learnt were $tokens"
grep -q '2 updates of 32 examples, the last of each epoch of 1$' "$work/log" || fail "no word of it: $(cat "$work/log")"
epochs two_of_33 "$work/33.jsonl" 4 --optim.epochs 2
[[ $tokens == $((2 * all)) ]] || fail "two epochs of $all loss tokens, learnt were $tokens"
epochs half_of_33 "$work/33.jsonl" 1 --optim.epochs 0.5
epochs of_10 "$work/10.jsonl" 1
grep -q '1 updates of 32 examples, the last of each epoch of 10$' "$work/log" || fail "no word of it: $(cat "$work/log")"
all=$tokens
epochs tens "$work/10.jsonl" 3 --optim.max_steps 3
[[ $tokens == $((3 * all)) ]] || fail "max_steps: three times $all loss tokens, learnt were $tokens"
epochs warm "$work/10.jsonl" 3 --optim.epochs 3 --optim.warmup_steps 3
grep -q "warning: a warm-up of 3 updates is not less than the run's 3 updates" "$work/log" || fail "$(cat "$work/log")"
note "short updates, and warm-ups as long as the run, are said"

# An adapter, used as it is and merged into the weights, is the same model; trained further it gets better.
run lora --lora.enabled --lora.r 8 --optim.max_steps 60 --optim.lr 1e-2
lora=$loss
holds "$lora < $first - 0.1"
still=(--optim.max_steps 1 --optim.lr 0)
run as_it_is --lora.enabled --model.adapter "$work/lora/adapter" "${still[@]}"
near "$loss" "$lora" 1e-6
run merged --model.adapter "$work/lora/adapter" "${still[@]}"
near "$loss" "$lora" 2e-5
run further --lora.enabled --model.adapter "$work/lora/adapter" --optim.max_steps 120 --optim.lr 1e-2
holds "$loss < $lora - 0.02"
note "an adapter goes on, and merges"

# Dropout is the same for an example wherever it is packed, and is there.
dropping=(--lora.enabled --lora.dropout 0.3 --optim.lr 1e-2)
run dropout "${dropping[@]}" --optim.micro_batch_tokens 4096
dropout=$loss
run dropout_small "${dropping[@]}" --optim.micro_batch_tokens 96
near "$loss" "$dropout" 2e-5
run dropout_alone "${dropping[@]}" --data.packing false --model.recompute
near "$loss" "$dropout" 2e-5
run dropout_none "${dropping[@]}" --lora.dropout 0
holds "$loss - $dropout > 1e-4 || $dropout - $loss > 1e-4"
note "dropout does not depend on micro-batches"

# Plain text: every token counts, and texts longer than the limit are cut in pieces, none left out.
awk '{ gsub(/^\{"text":"|"\}$/, ""); all = all " " $0 } END { print "{\"text\":\"" all "\"}" }' "$world/text.jsonl" >"$work/one.jsonl"
only_last "${train[@]}" --data.train "$work/one.jsonl" --data.eval "$work/one.jsonl"
pass "${arguments[@]}" --run.dir "$work/text" --data.max_length 64 \
  --optim.batch_size 4
grep -q '1 records\|examples, text' "$work/log" || fail "text is not recognised: $(cat "$work/log")"
pass "${arguments[@]}" --run.dir "$work/text_inputs" --data.train_on_inputs --check
grep -q 'warning: data.train_on_inputs has no effect' "$work/log" || fail "no word of it: $(cat "$work/log")"
note "plain text is pretraining"

# An option that is given and cannot matter is said, on the terminal and in the run log; in a resolved configuration, whose
# every key is given, only where it is not the default.
idle='lora.r is given and has no effect: it matters only with lora.enabled, no model.adapter'
pass "${train[@]}" --run.dir "$work/idle" --lora.r 4 --optim.max_steps 1
grep -qF "warning: $idle" "$work/log" || fail "no word of lora.r: $(cat "$work/log")"
[[ $(sqlite3 "$work/idle/run.db" "select text from event where level = 'warning'") == "$idle" ]] || fail "the run log"
pass "$bin/sft" --config "$work/idle/config.json" --run.dir "$work/idle_too" --check
[[ $(grep -c 'no effect' "$work/log") == 1 ]] || fail "a resolved configuration: $(cat "$work/log")"
pass "$bin/sft" --config "$work/large/config.json" --run.dir "$work/idle_too" --check
if grep 'no effect' "$work/log"; then fail "a resolved configuration of nothing but defaults"; fi
note "options given in vain are said"

# Held-out data by fraction, in other words than the training data.
pass "${train[@]}" --run.dir "$work/fraction" --data.eval '' --data.eval_fraction 0.2
grep -q 'held out' "$work/log" || fail "nothing held out: $(cat "$work/log")"
echo "sft: invariants hold"
