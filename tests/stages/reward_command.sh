#!/usr/bin/env bash
# PPO with a program as a source of rewards: the examples of docs/rewards.md; answers in and out of order, crashes that it survives and
# those that it does not, silence, nonsense; and nothing that is left behind. $1: the folder of the executables.
bin=$(realpath "$1")
source tests/support/stages.sh
page=$PWD/docs/rewards.md
make_world "$work/world"
cd "$work"
pass "$bin/sft" --model.path world/base --data.train world/sft.jsonl --run.dir sft --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 8
jq -c '{prompt, word: "yes"}' world/prompts.jsonl >prompts.jsonl
head -n 16 prompts.jsonl >eval.jsonl

ppo=("$bin/ppo" --model.path sft/model --data.prompts prompts.jsonl --ppo.total_episodes 48 --ppo.batch_size 16
  --ppo.minibatches 2 --ppo.epochs 2 --ppo.advantage reinforce_pp --rollout.max_new_tokens 8 --rollout.temperature 1 --rollout.batch 4
  --ppo.missing_eos keep --optim.lr 1e-3 --optim.micro_batch_tokens 256 --run.save_every 1 --ppo.samples_logged 16 --json)
query() { sqlite3 "$1/run.db" "$2"; }
# judged NAME [KEYS]: a source that runs ./NAME
judged() { echo "{\"kind\": \"command\", \"command\": [\"./$1\"]${2:+, $2}}"; }
# judge NAME: a program, from standard input. Each says the number of its process first, where it can be found when it should be gone.
judge() {
  { echo '#!/usr/bin/env bash'; echo 'echo $$ >>pids'; cat; } >"$1"
  chmod +x "$1"
}
# Of a line, without any other program.
cat >line.sh <<'E2'
id_of() { id=${1#*\"id\":}; id=${id%%,*}; }
yes_of() { said=${1#*\"answer\":\"}; said=${said%%\",\"finished\"*}; yes=${said//yes/}; yes=$(((${#said} - ${#yes}) / 3)); }
E2
gone() { # nothing of a judge is left
  local pid
  while read -r pid; do
    for ((i = 0; i < 200; i++)); do [[ $(ps -o stat= -g "$pid" 2>/dev/null | grep -v Z) ]] || continue 2; sleep 0.01; done
    fail "$1: process group $pid is there still: $(ps -o pid,stat,args -g "$pid")"
  done <pids
  : >pids
}
: >pids

# The examples of the page, as they stand there.
page_example "$page" judge.sh
chmod +x judge.sh
pass "${ppo[@]}" --run.dir shell --reward.sources "$(judged judge.sh)"
words() { query shell "select json_extract(parts, '\$.command'), response from sample" | awk -F'|' '{ n = split($2, w, " "); c = 0; for (i = 1; i <= n; i++) c += w[i] == "yes"; if (c != $1) bad++; sum += c } END { print bad + 0, (sum > 10) }'; }
[[ $(words) == '0 1' ]] || fail "judge.sh: $(query shell 'select response, parts from sample limit 5')"
if command -v python3 >/dev/null; then
  page_example "$page" judge.py
  pass "${ppo[@]}" --run.dir python --reward.sources '{"kind": "command", "name": "own", "command": ["python3", "judge.py"]}'
  [[ $(query python "select count(*) from sample where abs(json_extract(parts, '\$.own.score') - json_extract(parts, '\$.own.polite') - json_extract(parts, '\$.own.short')) < 1e-6
    and json_extract(parts, '\$.own.short') < 0") == 48 ]] || fail "judge.py: $(query python 'select response, parts from sample limit 5')"
  note "the program in Python"
fi
note "the programs of the page"

# In order, out of order with ids, crashing now and then: the same bytes. What it says on standard error is in the log.
judge plain <<'E2'
. ./line.sh
echo 'here I am' >&2
while read -r line; do yes_of "$line"; echo "$yes"; done
E2
judge backwards <<'E2'
. ./line.sh
while read -r line; do
  id_of "$line"; yes_of "$line"; out="{\"score\": $yes, \"id\": $id}"$'\n'$out
  ((++n % 16)) || { printf '%s\n' "$out"; out=; }
done
E2
judge crashing <<'E2'
. ./line.sh
for ((n = 0; n < 5; n++)); do read -r line || exit 0; yes_of "$line"; echo "$yes"; done
echo 'that is too much' >&2
exit 3
E2
for name in plain backwards crashing; do
  pass "${ppo[@]}" --run.dir "run-$name" --reward.sources "$(judged $name)" --data.eval eval.jsonl
  [[ $name == plain ]] || same_files run-plain/model "run-$name/model"
  [[ $(query "run-$name" "select group_concat(value) from metric where name = 'eval/score'") == "$(query run-plain "select group_concat(value) from metric where name = 'eval/score'")" ]] || fail "$name: evaluations"
  gone $name
done
[[ $(query run-plain "select count(*) from event where text = 'command: here I am'") == 1 ]] || fail "standard error is not in the log"
[[ $(query run-crashing "select count(*) = 5 from event where level = 'warning' and text like
  '%: its program has ended (exit code 3) with % answers to come: it is started again, 1 of 3 times in a rollout; the last it said: that is too much'") == 1 ]] || fail "$(query run-crashing 'select text from event')"
note "in order, out of order, crashing"

# What it does not survive: the message, no result, nothing lost, nothing left behind, and on from there with a judge that works.
cases=0
bad() { # bad NAME TEXT [KEYS]: ./NAME fails in the second rollout
  local name=$1 text=$2 keys=${3:-\"timeout\": 20}
  rm -rf run
  refuse 3 "$text" "${ppo[@]}" --run.dir run --reward.sources "$(judged "$name" "$keys")"
  grep -q "reward source 'command': " log || fail "$name: the source is not named: $(cat log)"
  [[ $(checkpoint_step run) == 1 && ! -e run/done.json && $(query run 'select status from run') == failed ]] || fail "$name: $(ls run/checkpoints)"
  gone "$name"
  cases=$((cases + 1))
}
# second NAME: a judge that answers sixteen lines as it should, then does what standard input says, with the next line in $line.
second() {
  { cat <<'E2'; cat; } | judge "$1"
. ./line.sh
for ((n = 0; n < 16; n++)); do read -r line; yes_of "$line"; echo "$yes"; done
read -r line
E2
}
second nonsense <<<'echo "I rather like it"; cat'
bad nonsense "line 17 of its output: expected a number or {\"score\": ..., \"parts\": {...}}, found 'I rather like it'"
second not_a_number <<<'echo NaN; cat'
bad not_a_number "line 17 of its output: expected a number or {\"score\": ..., \"parts\": {...}}, found 'NaN'"
second infinite <<<'echo "{\"score\": Infinity}"; cat'
bad infinite "its score is no finite number"
second huge <<<'head -c 3000000 /dev/zero | tr "\0" 7; cat'
bad huge "line 17 of its output has more than 1048576 bytes"
second unknown <<<'echo "{\"score\": 1, \"id\": 99}"; cat'
bad unknown 'line 17 of its output: no answer waits for {"score": 1, "id": 99}'
second twice <<<'id_of "$line"; echo "{\"score\": 1, \"id\": $id}"; echo "{\"score\": 1, \"id\": $id}"; cat'
bad twice 'line 18 of its output: no answer waits for {"score": 1, "id": 17}'
second dying <<<'echo alas >&2; exit 9'
bad dying "its program has ended (exit code 9) with " '"restarts": 0'
grep -q ' answers to come, the first of id 17; it was started again 0 times in this rollout; the last it said: alas$' log || fail "$(cat log)"
second partial <<<'printf 0.; exit 0'
bad partial "its program has ended within the line '0.' (exit code 0) with " '"restarts": 0'
second killed <<<'kill -9 $$'
bad killed "its program has ended (killed by signal 9 (Killed)) with " '"restarts": 0'
second silent <<<'sleep 1000'
bad silent "no answer within 1.5 seconds (killed by signal " '"restarts": 0, "timeout": 1.5'
second stubborn <<<'trap "" TERM; sleep 1000 & wait; sleep 1000'
bad stubborn "no answer within 1.5 seconds (killed by signal 9 (Killed)) with " '"restarts": 0, "timeout": 1.5'
second mute <<<'exec >&-; sleep 1000'
bad mute "its program has ended (killed by signal 15 (Terminated)) with " '"restarts": 0'
# A crash at the same answer again and again.
judge hopeless <<'E2'
. ./line.sh
while read -r line; do id_of "$line"; yes_of "$line"; ((id != 20)) || exit 5; echo "$yes"; done
E2
bad hopeless "its program has ended (exit code 5) with " '"restarts": 2'
grep -q 'the first of id 20; it was started again 2 times' log || fail "$(cat log)"
# The program is mended, and the same command goes on: as if nothing had been.
cp plain hopeless
pass "${ppo[@]}" --run.dir run --reward.sources "$(judged hopeless '"restarts": 2')" --data.eval eval.jsonl
grep -q 'going on from' log || fail "it began anew"
same_files run-plain/model run/model
gone mended
note "$cases ways to fail"

# Signals: to us while it thinks, and one that nobody can take.
judge slow <<'E2'
. ./line.sh
while read -r line; do sleep 0.02; yes_of "$line"; echo "$yes"; done
E2
judge stuck <<<'cat >/dev/null'
for signal in TERM KILL; do
  rm -rf run
  "${ppo[@]}" --run.dir run --reward.sources "$(judged stuck)" >out 2>log </dev/null &
  job=$!
  until [[ -s pids ]] || ! kill -0 $job 2>/dev/null; do sleep 0.01; done
  sleep 0.2
  kill -$signal $job
  status=0
  wait $job 2>/dev/null || status=$?
  [[ $status == 1[34]? ]] || fail "SIG$signal: exit code $status"
  gone "$signal"
done
pass "${ppo[@]}" --run.dir run --reward.sources "$(judged slow)"
gone slow
note "signals"

# A judge that throws dice: what it said is kept with the rollout, so that a run that is killed and resumed learns from what was said, and asks
# again only what was lost before it was learned from. $given has all that was ever said; the last of an answer is what counts.
judge dice <<'E2'
. ./line.sh
while read -r line; do
  id_of "$line"
  throw=$RANDOM
  echo "$id $throw" >>given
  echo "{\"id\": $id, \"score\": $((throw % 100)).$throw, \"parts\": {\"throw\": $throw}}"
done
E2
judge again <<'E2'
. ./line.sh
declare -A said
while read -r id throw; do said[$id]=$throw; done <given
while read -r line; do
  id_of "$line"
  throw=${said[$id]}
  echo "{\"id\": $id, \"score\": $((throw % 100)).$throw, \"parts\": {\"throw\": $throw}}"
done
E2
updates=18
long=("${ppo[@]}" --ppo.total_episodes $((16 * updates)) --run.save_every 4)
dice='{"kind": "command", "name": "judge", "command": ["./dice"]}'
timed "${long[@]}" --run.dir dice-alone --reward.sources "$dice"
rm given
killed_and_resumed dice-killed $updates 3 "${long[@]}" --run.dir dice-killed --reward.sources "$dice"
sort -u -k 1,1n given | wc -l >known
[[ $(<known) == $((16 * updates)) ]] || fail "answers that were judged: $(<known)"
asked=$(wc -l <given)
((asked < 16 * updates + 3 * 16 + 1)) || fail "$asked questions for $((16 * updates)) answers"
pass "${long[@]}" --run.dir dice-again --reward.sources "${dice/dice/again}"
same_files dice-killed/model dice-again/model
differ dice-killed/model/model.safetensors dice-alone/model/model.safetensors
parts() { query "$1" "select step, prompt, response, parts from sample order by rowid; select step, name, value from metric where name not like '%per_second' order by step, name"; }
[[ $(parts dice-killed) == "$(parts dice-again)" ]] || fail "the run logs differ: $(diff <(parts dice-killed) <(parts dice-again) | head -n 4)"
# And a failure in the middle of a rollout: what was said before it is not asked again.
judge weak <<'E2'
. ./line.sh
while read -r line; do
  id_of "$line"
  [[ $id != 25 || -e mended ]] || exit 1
  echo "$id" >>asked
  echo "{\"id\": $id, \"score\": $RANDOM}"
done
E2
refuse 3 "its program has ended" "${ppo[@]}" --run.dir weak-run --reward.sources "$(judged weak '"restarts": 0')"
before=$(sort -un asked | wc -l)
touch mended
pass "${ppo[@]}" --run.dir weak-run --reward.sources "$(judged weak '"restarts": 0')"
[[ $before -gt 16 && $(sort -n asked | uniq -d | wc -l) -lt 8 && $(sort -un asked | wc -l) == 48 ]] || fail "$before before, then: $(sort -n asked | uniq -c)"
gone dice
note "dice: $asked questions for $((16 * updates)) answers, killed three times"

# --check starts nothing.
pass "${ppo[@]}" --run.dir checked --reward.sources "$(judged plain)" --check
[[ ! -s pids ]] || fail "--check started a program"
refuse 2 "reward.sources[0]: 'command': there is no ./nobody" "${ppo[@]}" --run.dir checked --reward.sources "$(judged nobody)" --check
refuse 2 "reward.sources[0]: 'command': ./line.sh is no program that may be run (chmod +x)" "${ppo[@]}" --run.dir checked --reward.sources "$(judged line.sh)"
refuse 2 "a command is a list, [\"python3\", \"judge.py\"]" "${ppo[@]}" --run.dir checked --reward.sources '{"kind": "command", "command": "python3 judge.py"}'
refuse 2 "reward.sources[0]: 'command' is required" "${ppo[@]}" --run.dir checked --reward.sources '{"kind": "command"}'
[[ ! -e checked/run.db ]] || fail "a run has begun"
echo "reward command: programs that judge"
