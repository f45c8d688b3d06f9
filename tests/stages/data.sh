#!/usr/bin/env bash
# drover data as a user runs it: what is kept, in which order and bytes; what is left out and why; the split, which stays; overlap
# with an evaluation file; the report; packed files, lists and pipes; mistakes.
bin=$1
source tests/support/stages.sh
data=("$drover" data)

# A little file: of each prompt several spellings and answers, in an order that mixes them, every tenth with odd spaces.
awk 'BEGIN {
  split("kettle lamp radio clock fan oven heater camera printer phone", things, " ")
  for (i = 0; i < 400; i++) {
    thing = things[i % 10 + 1]; number = int(i / 10) % 20
    prompt = sprintf("My %s number %d makes a noise when I turn it on in the morning.", thing, number)
    answer = sprintf("Please unplug the %s, wait for %d minutes and look for loose screws on its back.", thing, number)
    if (i >= 200) prompt = i % 3 ? toupper(prompt) : "  " prompt
    printf "{\"prompt\":%s\"%s\", \"completion\":\"%s\"}\n", i % 10 ? "" : "   ", prompt, answer
  }
}' >"$work/a.jsonl"
pass "${data[@]}" --data "$work/a.jsonl" --out "$work/exact.jsonl" --removed "$work/removed.jsonl" --report "$work/report.json"
# 200 to 399 say the same as 0 to 199, but for case and spaces.
head -n 200 "$work/a.jsonl" | cmp - "$work/exact.jsonl" || fail "exact: what is kept are not the first lines, as they were"
[[ $(jq -c '[.reason, .line, .like.line]' "$work/removed.jsonl" | head -n 1) == '["exact",201,1]' ]] || fail "removed"
[[ $(jq -c '.record' "$work/removed.jsonl" | wc -l) == 200 ]] || fail "removed: 200 records"
holds "$(jq '.all.kept == 200 and .all.left_out.exact == 200 and .texts.scripts.Latin.records == 400' "$work/report.json" |
  sed 's/true/1/; s/false/0/')"
expect '"kept":400' "${data[@]}" --data "$work/a.jsonl" --dedup none --json
plain=$(jq -c '[.prompt, .completion] | map(gsub("^ +"; ""))' "$work/a.jsonl" | sort -u | wc -l)
expect "\"kept\":$plain" "${data[@]}" --data "$work/a.jsonl" --normalize space --json
plain=$(jq -c '[.prompt, .completion]' "$work/a.jsonl" | sort -u | wc -l)
expect "\"kept\":$plain" "${data[@]}" --data "$work/a.jsonl" --normalize none --json
note "exact duplicates"

# Near: a long text with one word changed, and one that shares half of it.
words() { seq -s ' ' -f 'w%g' "$1" "$2"; }
{
  echo "{\"text\":\"$(words 1 100)\"}"
  echo "{\"text\":\"$(words 1 60) other $(words 62 100)\"}"
  echo "{\"text\":\"$(words 51 150)\"}"
  echo "{\"text\":\"$(words 1 100)!\"}"
} >"$work/near.jsonl"
pass "${data[@]}" --data "$work/near.jsonl" --dedup near --out "$work/near_kept.jsonl" --removed "$work/near_removed.jsonl"
sed -n '1p;3p' "$work/near.jsonl" | cmp - "$work/near_kept.jsonl" || fail "near: lines 1 and 3 are kept"
[[ $(jq -c '[.reason, .line, .like.line]' "$work/near_removed.jsonl" | tr -d '\n') == '["near",2,1]["near",4,1]' ]] || fail "near"
expect '"kept":4' "${data[@]}" --data "$work/near.jsonl" --dedup exact --json
expect '"kept":3' "${data[@]}" --data "$work/near.jsonl" --dedup near --threshold 0.95 --json
expect '"kept":1' "${data[@]}" --data "$work/near.jsonl" --dedup near --threshold 0.3 --shingle char --json
[[ -z $(find "$work" -name '*drover-draft*') ]] || fail "a draft was left"
note "near duplicates"

# The split is by the prompt: no prompt on both sides, nobody changes sides when the file grows, order is kept.
split=(--eval-fraction 0.3 --seed 5 --dedup none)
head -n 250 "$work/a.jsonl" >"$work/short.jsonl"
pass "${data[@]}" --data "$work/short.jsonl" --out "$work/t1" --eval-out "$work/e1" "${split[@]}"
pass "${data[@]}" --data "$work/near.jsonl,$work/a.jsonl" --out "$work/t2" --eval-out "$work/e2" "${split[@]}"
prompts() { jq -r '.prompt // empty | ascii_downcase | gsub("^ +"; "")' "$1" | sort -u; }
(($(wc -l <"$work/e1") > 40 && $(wc -l <"$work/e1") < 110)) || fail "split: $(wc -l <"$work/e1") of 250 for 0.3"
[[ $(cat "$work/t1" "$work/e1" | sort | md5sum) == "$(sort "$work/short.jsonl" | md5sum)" ]] || fail "split: something is lost"
[[ -z $(comm -12 <(prompts "$work/t2") <(prompts "$work/e2")) ]] || fail "split: a prompt on both sides"
[[ -z $(comm -12 <(prompts "$work/e1") <(prompts "$work/t2")) ]] || fail "split: a prompt has changed sides"
pass "${data[@]}" --data "$work/short.jsonl" --out "$work/t3" --eval-out "$work/e3" --eval-fraction 0.3 --seed 6 --dedup none
! cmp -s "$work/e1" "$work/e3" || fail "split: the seed changes nothing"
# With split-near prompts that differ in their last word go together; without it they do not.
awk 'BEGIN {
  for (i = 0; i < 200; i++) {
    text = ""
    for (k = 0; k < 30; k++) text = text "t" i % 20 "w" k " "
    printf "{\"prompt\":\"%s%d\"}\n", text, i
  }
}' >"$work/themes.jsonl"
pass "${data[@]}" --data "$work/themes.jsonl" --out "$work/t4" --eval-out "$work/e4" "${split[@]}" --split-near
pass "${data[@]}" --data "$work/themes.jsonl" --out "$work/t5" --eval-out "$work/e5" "${split[@]}"
themes() { prompts "$1" | sed 's/w0 .*//' | sort -u; }
[[ -s $work/t4 && -s $work/e4 && -z $(comm -12 <(themes "$work/t4") <(themes "$work/e4")) ]] || fail "split-near"
[[ -n $(comm -12 <(themes "$work/t5") <(themes "$work/e5")) ]] || fail "split: themes are apart by themselves"
note "split"

# Overlap: the evaluation file has one of the texts, one half of one, and one that nobody has.
{
  echo "{\"prompt\":\"$(words 51 150)\"}"
  echo "{\"prompt\":\"$(words 80 120)\"}"
  echo "{\"prompt\":\"$(words 500 600)\"}"
} >"$work/eval.jsonl"
expect '"records":3,"with_any":2,"with_half":2,"with_all":2' "${data[@]}" --data "$work/near.jsonl" --against "$work/eval.jsonl" --json
expect 'of 3 evaluation records 2 (66.67 %)' "${data[@]}" --data "$work/near.jsonl" --against "$work/eval.jsonl"
expect '"kept":0' "${data[@]}" --data "$work/near.jsonl" --against "$work/eval.jsonl" --drop-overlap --json
expect '"overlap":1' "${data[@]}" --data "$work/near.jsonl" --against "$work/eval.jsonl" --drop-overlap --overlap-share 0.9 --json
echo '{"prompt":"What is 2 and 2?"}' >"$work/eval2.jsonl"
echo '{"prompt":"what is 2 AND 2","completion":"Four, as everybody knows, and as is shown by counting on the fingers."}' >"$work/b.jsonl"
expect '"with_all":1' "${data[@]}" --data "$work/b.jsonl" --against "$work/eval2.jsonl" --json
note "overlap"

# Files of every kind give the same lines.
gzip -c "$work/a.jsonl" >"$work/a.jsonl.gz"
jq -s . "$work/a.jsonl" >"$work/a.json"
pass "${data[@]}" --data "$work/a.jsonl.gz" --out "$work/gz.jsonl"
cmp "$work/exact.jsonl" "$work/gz.jsonl" || fail "gzip"
pass "${data[@]}" --data "$work/a.json" --out "$work/list.jsonl"
cmp <(jq -c . "$work/exact.jsonl") <(jq -c . "$work/list.jsonl") || fail "list"
[[ $(wc -l <"$work/list.jsonl") == 200 ]] || fail "list: one record a line"
cat "$work/a.jsonl" | "${data[@]}" --data - --out "$work/pipe.jsonl" >"$work/out" 2>"$work/log" || fail "pipe: $(cat "$work/log")"
cmp "$work/exact.jsonl" "$work/pipe.jsonl" || fail "pipe"
[[ -z $(find "$work" -name '*drover-draft*') ]] || fail "what came through the pipe was left"
note "files, lists and pipes"

# Every format is read; broken records are refused by line, or left out and counted.
for format in alpaca messages sharegpt prompt_completion text preference ranking prompts; do
  expect "\"format\":\"$format\"" "${data[@]}" --data "tests/fixtures/data/$format.jsonl" --dedup near --json
done
expect_one() { # FORMAT PROMPT-CHARACTERS ANSWER-CHARACTERS RECORD
  echo "$4" >"$work/one.jsonl"
  pass "${data[@]}" --data "$work/one.jsonl" --json
  [[ $(jq -c '[.files[0].format, .texts.lengths["prompt characters"].sum, .texts.lengths["answer characters"].sum]' "$work/out") == \
    "[\"$1\",$2,$3]" ]] || fail "$1: $(cat "$work/out")"
}
expect_one dolly 9 2 '{"instruction":"Who?","context":"Ann.","response":"An"}'
expect_one oasst 2 5 '{"prompt":{"text":"Hi","role":"prompter","replies":[{"text":"Hello","role":"assistant","rank":0,"replies":[]}]}}'
expect_one safe_pair 2 8 '{"prompt":"Hi","response_0":"Hello","response_1":"Ho","better_response_id":0,"safer_response_id":1}'
expect_one unpaired 2 5 '{"prompt":"Hi","completion":"Hello","label":false}'
expect_one ranking 2 8 '{"prompt":"Hi","responses":["Hello","Ho"],"scores":[1,2]}'
expect_one preference 2 8 '{"prompt":"Hi","chosen":"Hello","rejected":"Ho"}'
expect_one messages 5 5 '{"messages":[{"role":"system","content":"unseen"},{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"},{"role":"user","content":""},{"role":"assistant","content":"Hello"}]}'
# An answer counts whatever its label; the user's own names of keys; the same conversation in another format is the same.
printf '{"prompt":"a","completion":"no","label":false}\n{"prompt":"a","completion":"yes","label":true}\n' >"$work/labels.jsonl"
expect '"kept":2' "${data[@]}" --data "$work/labels.jsonl" --json
printf '{"question":"a","reply":"yes"}\n' >"$work/named.jsonl"
columns=(--columns '{"prompt":"question","completion":"reply"}')
expect '"kept":1' "${data[@]}" --data "$work/named.jsonl" "${columns[@]}" --json
printf '{"messages":[{"role":"user","content":"A"},{"role":"assistant","content":"Yes"}]}\n' >"$work/messages.jsonl"
expect '"all":{"records":2,"kept":1' "${data[@]}" --data "$work/named.jsonl,$work/messages.jsonl" "${columns[@]}" --json
printf '{"messages":[{"role":"system","content":"B"},{"role":"user","content":"A"},{"role":"assistant","content":"Yes"}]}\n' >"$work/system.jsonl"
expect '"all":{"records":2,"kept":2' "${data[@]}" --data "$work/messages.jsonl,$work/system.jsonl" --json
{ head -n 3 "$work/a.jsonl"; echo '{"prompt":"x","completion":7}'; echo '{"prompt"'; sed -n 4p "$work/a.jsonl"; } >"$work/broken.jsonl"
refuse 3 "broken.jsonl:4: key 'completion': expected string or list of messages, found a number (--drop-broken" "${data[@]}" --data "$work/broken.jsonl" --out "$work/never"
expect '"kept":4' "${data[@]}" --data "$work/broken.jsonl" --drop-broken --out "$work/sound.jsonl" --removed "$work/broken_removed" --json
grep -q 'broken.jsonl:5:' "$work/log" || fail "a broken record is told"
head -n 4 "$work/a.jsonl" | cmp - "$work/sound.jsonl" || fail "the sound ones are kept"
[[ $(jq -c '[.reason, .line, .record]' "$work/broken_removed" | tail -n 1) == '["broken",5,"{\"prompt\""]' ]] || fail "broken ones in removed"
printf '{"prompt":"a","completion":""}\n{"prompt":"b","completion":"c"}\n' >"$work/empty.jsonl"
expect 'empty answers: 1' "${data[@]}" --data "$work/empty.jsonl"
expect '"kept":1' "${data[@]}" --data "$work/empty.jsonl" --drop-empty --json

# Mistakes, each with its exit code; nothing is written.
refuse 2 '--data' "${data[@]}" --out "$work/never"
refuse 2 'expected a new file' "${data[@]}" --data "$work/a.jsonl" --out "$work/a.jsonl"
refuse 2 'are one file' "${data[@]}" --data "$work/a.jsonl" --out "$work/never" --eval-out "$work/never"
refuse 2 'expected --out too' "${data[@]}" --data "$work/a.jsonl" --eval-out "$work/never"
refuse 2 '--against' "${data[@]}" --data "$work/a.jsonl" --drop-overlap
refuse 2 "did you mean '--threshold'" "${data[@]}" --data "$work/a.jsonl" --treshold 0.5
: >"$work/nothing"
refuse 3 'the file is empty' "${data[@]}" --data "$work/nothing" --out "$work/never"
refuse 6 'absent' "${data[@]}" --data "$work/absent" --out "$work/never"
refuse 6 'nowhere' "${data[@]}" --data "$work/a.jsonl" --report "$work/nowhere/x/y" --out /proc/nowhere
[[ ! -e $work/never ]] || fail "something was written"
expect 'nothing wrong' "${data[@]}" --data "$work/a.jsonl" --out "$work/never" --check
[[ ! -e $work/never ]] || fail "--check wrote something"
pass "${data[@]}" --data "$work/near.jsonl" --threshold 0.5
grep -q 'threshold' "$work/log" || fail "an option given in vain is said"
note "mistakes"
