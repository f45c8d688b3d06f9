#!/usr/bin/env bash
# sample as a user runs it: what it writes in each format and who reads it, that nothing depends on the batch or on kills, that a finished run
# chooses again, and what it says to mistakes. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
pass "$bin/sft" --model.path world/base --data.train world/sft.jsonl --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 6 --run.dir sft
pass "$bin/reward" --model.path sft/model --data.train world/prefs.jsonl --lora.enabled --optim.lr 3e-3 --optim.batch_size 8 \
  --optim.epochs 6 --run.dir reward
models=(--model.path sft/model --reward.path sft/model --reward.adapter reward/adapter)
sample=("$bin/sample" "${models[@]}" --data.prompts world/prompts.jsonl --rollout.max_new_tokens 10)

# -- best of n ------------------------------------------------------------------------------------------------

pass "${sample[@]}" --sample.n 8 --run.dir best --json
peak=$(sed -nE 's/.*peak memory ([0-9.]+) MiB, planned ([0-9.]+) MiB$/\1 <= \2/p' log)
[[ $peak ]] || fail "no peak memory: $(cat log)"
holds "$peak"
jq -e '.prompts == 70 and .answers == 560 and .records == 70 and .output == "best/data.jsonl"
  and ([.best_of[].n] == [1, 2, 4, 8]) and ([.best_of[].score] | . == sort and .[0] < .[3] - 2)
  and .record_score > .score + 2 and .unfinished > 0 and .duplicates > 0' out >/dev/null || fail "result: $(cat out)"
cp out best.json
# Of each prompt the best answer that ended, as the records of all answers say.
kept='[.answers[] | select(.finished != "length")]'
jq -c "$kept | max_by(.score) | [.text, .score]" best/answers.jsonl >expected
jq -c '[.completion, .score]' best/data.jsonl | cmp - expected || fail "not the best answers"
jq -rc .prompt best/data.jsonl | cmp - <(jq -rc .prompt world/prompts.jsonl) || fail "the prompts are not in order"
jq -se '[.[].answers[] | .score] | (add / length) as $m | ($m - '"$(jq .score best.json)"') | fabs < 1e-5' best/answers.jsonl >/dev/null ||
  fail "the mean score"
for name in score best eos_rate length tokens_per_second; do
  [[ -n $(metric best sample/$name) ]] || fail "no metric sample/$name"
done
note "best of 8: $(jq -c .best_of out)"

# The first answers are those that generate gives, and an answer's score is what inspect reads for it: other tokens that spell the same text
# have another, which is rare.
pass "$bin/generate" --model sft/model --prompts world/prompts.jsonl --chat --n 8 --max-new-tokens 10 --seed 1 --json
jq -r .response out | cmp - <(jq -r '.answers[].text' best/answers.jsonl) || fail "generate answers otherwise"
pass "${sample[@]}" --sample.n 8 --sample.format preference --run.dir best
pass "$bin/inspect" score --model sft/model --adapter reward/adapter --data best/data.jsonl --json
paste -d' ' <(jq -r '"\(.score_chosen) \(.score_rejected)"' best/data.jsonl) <(jq -r 'select(.chosen) | "\(.chosen) \(.rejected)"' out) | awk '
  { for (i = 1; i < 3; i++) { d = $i - $(i + 2); near += d < 1e-4 && d > -1e-4 } }
  END { exit !(NR == 70 && near > 1.3 * NR) }' || fail "scores are not those of inspect"
note "answers of generate, scores of inspect"

# -- nothing depends on the batch, on threads, or on where it was killed ----------------------------------------

pass "${sample[@]}" --sample.n 8 --run.dir few --rollout.batch 3 --device.threads 1
cmp few/answers.jsonl best/answers.jsonl || fail "a batch of 3 gives other answers or scores"
slow=("${sample[@]}" --sample.n 8 --rollout.batch 2) # a prompt at a time
timed "${slow[@]}" --run.dir whole
killed_and_resumed killed 70 3 "${slow[@]}" --run.dir killed
for file in answers.jsonl data.jsonl; do cmp "whole/$file" "killed/$file" || fail "killed and resumed: $file"; done
cmp whole/answers.jsonl best/answers.jsonl
stopped TERM 143 stopped "${slow[@]}" --run.dir stopped
printf '{"answers": [{"text": "a line that was begun' >>stopped/answers.jsonl
pass "${slow[@]}" --run.dir stopped
cmp whole/data.jsonl stopped/data.jsonl || fail "stopped and resumed"
pass "${sample[@]}" --sample.n 8 --run.dir seed --run.seed 2
differ seed/answers.jsonl whole/answers.jsonl
note "batches, threads, kills"

# -- every format, chosen of the same answers --------------------------------------------------------------------

# chosen FORMAT OPTIONS...: a finished run chooses again, without sampling anything.
cp best/answers.jsonl answers
chosen() {
  local format=$1
  shift
  pass "${sample[@]}" --sample.n 8 --run.dir best --sample.format "$format" "$@" --json
  cmp answers best/answers.jsonl || fail "$format: sampled again"
  ! grep -q '^sample: ' log || fail "$format: sampled again: $(cat log)"
}
ended='[.answers[] | select(.finished != "length")] | reduce .[] as $a ([]; if any(.[]; .text == $a.text) then . else . + [$a] end) | sort_by(-.score)'
expect_data() { # FILTER of the sorted answers to a prompt -> lines; FILTER of a record
  jq -c "$ended | $1" answers >expected
  jq -c "$2" best/data.jsonl | cmp - expected || fail "$1: $(jq -c "$2" best/data.jsonl | diff - expected | head -4)"
}
read_by() { # STAGE
  pass "$bin/$1" --model.path sft/model --data.train best/data.jsonl --optim.micro_batch_tokens 2048 --run.dir read --check
}
chosen sft --sample.keep 3 --sample.threshold 1
expect_data '[.[:3][] | select(.score >= 1)][] | [.text, .score]' '[.completion, .score]'
read_by sft
chosen preference
expect_data '[.[0].text, .[-1].text, .[0].score, .[-1].score]' '[.chosen, .rejected, .score_chosen, .score_rejected]'
read_by reward
read_by dpo
chosen preference --sample.pairs all --sample.margin 2
expect_data '. as $a | [range(length) as $i | range($i + 1; length) as $j | [$a[$i], $a[$j]]][] | select(.[0].score - .[1].score >= 2) | [.[0].text, .[1].text]' \
  '[.chosen, .rejected]'
(($(jq .records out) > 700)) || fail "pairs: $(cat out)"
chosen ranking
expect_data '[map(.text), map(.score)]' '[.responses, .scores]'
read_by reward
read_by dpo
chosen unpaired --sample.threshold 0
expect_data '.[] | [.text, .score >= 0]' '[.completion, .label]'
chosen scored --sample.unfinished keep --sample.duplicates keep
jq -c '.answers | to_entries | sort_by(-.value.score)[] | [.key, .value.text, .value.score, .value.finished, .value.tokens]' answers >expected
jq -c '[.sample, .completion, .score, .finished, .tokens]' best/data.jsonl | cmp - expected || fail "scored"
(($(wc -l <best/data.jsonl) == 560)) || fail "scored: $(cat out)"
note "formats"

# Messages, tools and other keys: what is written is again a prompt with an answer beside it, of the same text.
cat >talks.jsonl <<'END'
{"id": 1, "messages": [{"role": "system", "content": "red"}, {"role": "user", "content": "red door?"}, {"role": "assistant", "content": "no"}], "note": {"a": [1.5]}}
{"id": 2, "messages": [{"role": "user", "content": "blue cup?"}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "blue door?"}]}
END
pass "$bin/sample" "${models[@]}" --data.prompts talks.jsonl --rollout.max_new_tokens 10 --sample.n 4 --sample.unfinished keep --run.dir talks
jq -ce '[.id, .note, [.prompt[] | [.role, .content, .train]], (.completion | length), .completion[0].role]' talks/data.jsonl >shown
cmp shown - <<'END' || fail "messages: $(cat shown)"
[1,{"a":[1.5]},[["system","red",null],["user","red door?",null]],1,"assistant"]
[2,null,[["user","blue cup?",null],["assistant","yes",false],["user","blue door?",null]],1,"assistant"]
END
pass "$bin/inspect" data --model sft/model --data talks/data.jsonl
[[ $(grep -c '⟧$' out) == 2 ]] || fail "earlier answers are learnt: $(cat out)"
# Its own output is a list of prompts again.
pass "$bin/sample" "${models[@]}" --data.prompts talks/data.jsonl --rollout.max_new_tokens 10 --sample.n 4 --sample.unfinished keep --run.dir again
cmp <(jq -c .prompt talks/data.jsonl) <(jq -c .prompt again/data.jsonl) || fail "prompts of its own output"
cmp talks/answers.jsonl again/answers.jsonl || fail "its own output asks otherwise"
note "messages and other keys"

# -- other rewards than one model's ------------------------------------------------------------------------------

sources='[{"kind": "model", "path": "sft/model", "adapter": "reward/adapter"}, {"kind": "rules", "name": "form", "weight": 20, "length": 4}]'
pass "$bin/sample" --model.path sft/model --reward.sources "$sources" --data.prompts world/prompts.jsonl --rollout.max_new_tokens 10 --sample.n 8 \
  --run.dir sources --json
[[ -n $(metric sources sample/reward/form) && -n $(metric sources sample/reward/model) && -z $(metric best sample/reward/model) ]] || fail "means of sources"
# The same answers; the score of the model, to the bit, and twenty times that of the rule: -|n - 4| / 4 without the end token.
jq -c '[.answers[] | [.text, .tokens - (if .finished == "eos" then 1 else 0 end)]]' answers >texts
cmp texts <(jq -c '[.answers[] | [.text, .tokens - (if .finished == "eos" then 1 else 0 end)]]' sources/answers.jsonl) || fail "other answers"
paste -d' ' <(jq -r '.answers[] | "\(.score) \(.tokens - (if .finished == "eos" then 1 else 0 end))"' answers) <(jq -r '.answers[].score' sources/answers.jsonl) |
  awk '{ d = $2 - 4; d = d < 0 ? -d : d; e = d > 4 ? 1 : d / 4; x = $3 - ($1 - 20 * e); if (x > 1e-4 || x < -1e-4) bad++ } END { exit !(NR == 560 && !bad) }' ||
  fail "the sum of the sources"
cat >judge.sh <<'END'
#!/bin/bash
while IFS= read -r line; do jq -c '{id, score: (.answer | length)}' <<<"$line"; done
END
chmod +x judge.sh
command='{"kind": "command", "command": ["./judge.sh"]}'
outside=("$bin/sample" --model.path sft/model --reward.sources "$command" --data.prompts world/prompts.jsonl --rollout.max_new_tokens 10 --sample.n 2)
pass "${outside[@]}" --run.dir outside
jq -e '.answers | all(.score == (.text | length))' outside/answers.jsonl >log || fail "a program's scores: $(head -n 3 outside/answers.jsonl)"
# Correct answers alone: rules with a threshold.
jq -c '. + {reference: "yes"}' world/prompts.jsonl >solved.jsonl
pass "$bin/sample" --model.path sft/model --reward.sources '{"kind": "rules", "exact": "reference", "exact_extract": "yes|no"}' --data.prompts solved.jsonl \
  --rollout.max_new_tokens 10 --sample.n 8 --sample.keep 0 --sample.threshold 1 --run.dir right
jq -e '.completion | (contains("yes") and (test("no[^a-z]*$") | not))' right/data.jsonl >log || fail "not only right answers"
refuse 2 'reward.path' "$bin/sample" --model.path sft/model --data.prompts world/prompts.jsonl --run.dir x
note "sources of rewards"

# -- plan and mistakes -------------------------------------------------------------------------------------------

pass "${sample[@]}" --run.dir check --check
[[ ! -e check/lock ]] || fail "--check began a run"
total=$(awk '$1 == "total" { print $2; exit }' log)
refuse 5 'it fits with rollout.batch ' "${sample[@]}" --rollout.batch 1024 --rollout.max_new_tokens 100 --run.dir check --check \
  --device.memory_limit "$(awk "BEGIN { print $total + 2 }")MiB"
! grep -qE 'lora|recompute|micro_batch' log || fail "advice for training: $(cat log)"
refuse 2 'sample.n (was 8, is 9)' "${sample[@]}" --sample.n 9 --run.dir whole
refuse 2 'run.seed' "${sample[@]}" --sample.n 8 --run.seed 5 --run.dir whole
refuse 2 'world/prompts.jsonl has the weight 2' "$bin/sample" "${models[@]}" --data.prompts '[{"path": "world/prompts.jsonl", "weight": 2}]' --run.dir x
refuse 2 'sample.n: expected at least 2' "${sample[@]}" --sample.n 1 --sample.format preference --run.dir x
refuse 2 'sample.threshold: expected' "${sample[@]}" --sample.format unpaired --run.dir x
refuse 3 'nothing is to be written' "${sample[@]}" --sample.n 8 --sample.threshold 1000 --run.dir whole
refuse 3 'which are no prompt data' "${sample[@]}" --data.prompts world/text.jsonl --run.dir x
refuse 4 'score' "$bin/sample" --model.path sft/model --reward.path sft/model --data.prompts world/prompts.jsonl --run.dir x
# What a run goes on from is what it began with.
head -c -1 killed/answers.jsonl >cut && cp cut killed/answers.jsonl
refuse 6 'answers.jsonl has' "${slow[@]}" --run.dir killed --sample.keep 2
pass "$bin/sft" --model.path sft/model --data.train world/sft.jsonl --optim.lr 1e-3 --optim.max_steps 1 --run.dir other
cp -r sft/model policy
apart=("$bin/sample" --model.path policy --reward.path sft/model --reward.adapter reward/adapter --data.prompts world/prompts.jsonl
  --rollout.max_new_tokens 10 --sample.n 8 --run.dir apart)
pass "${apart[@]}"
cmp apart/answers.jsonl best/answers.jsonl || fail "two bases of the same weights"
cp other/model/model.safetensors policy/
refuse 4 'the weights in policy are not those that the run began with' "${apart[@]}" --sample.keep 2
mkdir mine && echo '{"prompt": "x"}' >mine/data.jsonl
refuse 2 "would write over its data.jsonl" "${sample[@]}" --run.dir mine
refuse 2 'lies in best/data.jsonl, which this run writes' "$bin/sample" "${models[@]}" --data.prompts best/data.jsonl --run.dir best
note "mistakes"
echo "sample: all as expected"
