#!/usr/bin/env bash
# PPO with a judge behind HTTP (tests/http/judge.c, on 127.0.0.1): both formats, several requests at once, the cache, faults that pass and those
# that do not, the key, and going on. $1: the folder of the executables.
bin=$(realpath "$1")
source tests/support/stages.sh
house=$PWD
server=$(realpath -e "$bin/../tests/http_judge" 2>/dev/null) || { echo "no tests/http_judge beside $bin" >&2 && exit 77; }
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY
make_world "$work/world"
cd "$work"
head -n 4 world/prompts.jsonl >prompts.jsonl # few, so that answers come again
pass "$bin/sft" --model.path world/base --data.train world/sft.jsonl --run.dir sft --optim.lr 1e-2 --optim.batch_size 16 --optim.epochs 8
ppo=("$bin/ppo" --model.path sft/model --data.prompts prompts.jsonl --ppo.total_episodes 48 --ppo.batch_size 16
  --ppo.minibatches 2 --ppo.epochs 2 --ppo.advantage reinforce_pp --rollout.max_new_tokens 8 --rollout.temperature 0.3 --rollout.batch 4
  --ppo.missing_eos keep --optim.lr 1e-3 --optim.micro_batch_tokens 256 --run.save_every 1 --ppo.samples_logged 16 --json)
query() { sqlite3 "$1/run.db" "$2"; }

# serve LOG: starts the judge, in place of the last; its address is $judge.
server_id=
hush() {
  [[ -z $server_id ]] || { kill "$server_id" && wait "$server_id" || true; } 2>/dev/null
  server_id=
}
serve() {
  hush
  "$server" "$1" >port &
  server_id=$!
  until [[ -s port ]]; do kill -0 "$server_id"; sleep 0.01; done # fails if it could not start
  judge=http://127.0.0.1:$(<port)
  rm port
}
# judged PATH [KEYS]: a source of that path
judged() { echo "{\"kind\": \"http\", \"url\": \"$judge$1\", \"backoff\": 0.02${2:+, $2}}"; }

serve requests
if refused=$("${ppo[@]}" --run.dir none --check --reward.sources "$(judged /json)" 2>&1 >out) ; then :; else
  [[ $refused == *"reward.sources[0]: kind http: this build has no libcurl"* ]] || fail "$refused"
  hush
  echo "this build has no libcurl, which it says" >&2
  exit 77
fi
[[ ! -s requests ]] || fail "--check asked: $(cat requests)"
note "--check asks nobody"

# The same answers are worth the same, whoever counts: the same bytes as with a program.
cat >count.sh <<'E2'
#!/bin/sh
exec jq --unbuffered -c '.answer | [scan("yes")] | length'
E2
chmod +x count.sh
pass "${ppo[@]}" --run.dir program --reward.sources '{"kind": "command", "command": ["./count.sh"]}'
pass "${ppo[@]}" --run.dir json --reward.sources "$(judged /json '"name": "judge"')"
same_files program/model json/model
[[ $(query json "select count(*) from sample where json_extract(parts, '\$.judge.yes') = json_extract(parts, '\$.judge.score')") == 48 ]] || fail "parts"
openai="\"format\": \"openai\", \"model\": \"m\", \"system\": \"Be just.\", \"parameters\": {\"temperature\": 0, \"max_tokens\": 99}"
chat="$openai, \"prompt\": \"{% if reference %}{{ reference }}{% endif %}To {{ messages[0].content }}:\nRate: {{ answer }} END\", \"score\": \"Score: ([0-9]+)\""
pass "${ppo[@]}" --run.dir chat --reward.sources "$(judged /chat "$chat")"
same_files program/model chat/model
printf 'Rate: {{ answer }} END {{ record.none | default("") }}' >prompt.jinja
pass "${ppo[@]}" --run.dir chat-file --reward.sources "$(judged /chat "$openai, \"prompt_file\": \"prompt.jinja\"")" # and the last number
same_files program/model chat-file/model
note "both formats"

# The judge of docs/rewards.md, but for its port, and the configuration that comes along.
if command -v python3 >/dev/null; then
  page_example "$house/docs/rewards.md" server.py
  sed -i 's/^http.server.Threading.*8080/server = http.server.ThreadingHTTPServer(("127.0.0.1", 0/; s/, Judge).serve_forever()/, Judge)/' server.py
  printf 'print(server.server_port, flush=True)\nserver.serve_forever()\n' >>server.py
  python3 server.py >port-python 2>said &
  until [[ -s port-python ]] || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
  pass "${ppo[@]}" --run.dir python --reward.sources "{\"kind\": \"http\", \"url\": \"http://127.0.0.1:$(<port-python)/judge\"}"
  { kill $! && wait $! || true; } 2>/dev/null
  [[ $(query python "select count(*) from sample where json_extract(parts, '\$.http.words') >= json_extract(parts, '\$.http.score')
    and json_extract(parts, '\$.http.words') > 0") == 48 ]] || fail "server.py: $(query python 'select response, parts from sample limit 5')"
  note "the judge of the page"
fi
jq -c '{question: .prompt, answer: "4 + 3 = 7\n#### 7"}' prompts.jsonl >questions.jsonl
jq --arg url "$judge/chat" '.reward.sources[2].url = $url' "$house/configs/ppo_sources.json" >sources.json
pass "$bin/ppo" --config sources.json --model.path sft/model --model.dtype f32 --data.prompts questions.jsonl --run.dir shipped --ppo.total_episodes 16 \
  --ppo.batch_size 16 --rollout.max_new_tokens 8
[[ $(query shipped "select count(distinct name) from metric where name in ('ppo/reward/right', 'ppo/reward/form/format', 'ppo/reward/clear')") == 3 ]] ||
  fail "shipped: $(query shipped 'select distinct name from metric')"
note "configs/ppo_sources.json"

# What was said of a question holds in the whole run, unless it is to be asked each time; then there is a request for each answer.
distinct=$(query json 'select count(distinct digest) from reward')
((distinct < 40)) || fail "$distinct different answers of 48: nothing to keep"
asked=$(grep -c '^/json ' requests)
((asked >= distinct && asked < 48)) || fail "$asked requests for $distinct different answers"
: >requests
pass "${ppo[@]}" --run.dir each --reward.sources "$(judged /slow '"concurrency": 3, "cache": false')"
same_files program/model each/model
[[ $(wc -l <requests) == 48 && $(awk '{ print $5 }' requests | sort -n | tail -n 1) == [23] ]] || fail "requests: $(cat requests)"
[[ $(cut -d ' ' -f 2 requests | sort -n | uniq | wc -l) == 48 ]] || fail "ids: $(cat requests)"
note "the cache; several at once"

# Faults that pass.
pass "${ppo[@]}" --run.dir flaky --reward.sources \
  "{\"kind\": \"http\", \"url\": \"$judge/flaky\", \"backoff\": 0, \"concurrency\": 1}"
same_files program/model flaky/model
[[ $(query flaky "select count(*) > 3 from event where level = 'warning' and text like
  'reward source ''http'': HTTP status 500: ''oops'', about the answer of id %: asked again in 0 s, 1 of 5 times'") == 1 ]] || fail "$(query flaky 'select text from event')"
[[ $(query flaky "select count(*) > 0 from event where text like '%HTTP status 429: ''too fast''%'") == 1 ]] || fail "no 429"
[[ $(query flaky "select count(*) from event where level = 'warning'") -lt 40 ]] || fail "too many warnings"
note "faults that pass"

# Those that do not: in the second rollout, with a bounded number of requests, the message, and nothing lost; and with a judge that works the
# same run goes on to the same end, though it has another address.
export JUDGE_KEY=sk-very-secret-7
cases=0
bad() { # bad WHAT TEXT [KEYS [REQUESTS]]
  local what=$1 text=$2 keys=${3:-\"retries\": 2} requests=${4:-}
  rm -rf run
  : >requests
  refuse 3 "$text" "${ppo[@]}" --run.dir run --reward.sources "$(judged "/then/16$what" "$keys, \"key_env\": \"JUDGE_KEY\", \"cache\": false, \"concurrency\": 1")"
  grep -qF "reward source 'http': $judge/then/16$what: " log || fail "$what: the source is not named: $(cat log)"
  [[ $(checkpoint_step run) == 1 && ! -e run/done.json && $(query run 'select status from run') == failed ]] || fail "$what: $(ls run/checkpoints)"
  (($(wc -l <requests) <= 16 + 3 * 16)) || fail "$what: $(wc -l <requests) requests"
  [[ -z $requests || $(wc -l <requests) == $((16 + requests)) ]] || fail "$what: $(wc -l <requests) requests"
  # The key goes to the judge, and nowhere else.
  [[ $(cut -d ' ' -f 4- requests | sed 's/ [0-9]*$//' | sort -u) == "Bearer $JUDGE_KEY" ]] || fail "the key: $(head -n 2 requests)"
  ! grep -rqF "$JUDGE_KEY" run log || fail "$what: the key is in $(grep -rlF "$JUDGE_KEY" run log)"
  serve requests2
  pass "${ppo[@]}" --run.dir run --reward.sources "$(judged /json "$keys, \"cache\": false")"
  grep -q "reward.sources\[0\].url (was .*): the answers to come are judged there" log || fail "$what: $(cat log)"
  same_files program/model run/model
  mv requests2 requests
  cases=$((cases + 1))
  serve requests
}
bad /status/401 "HTTP status 401: 'no, not with Bearer ***', about the answer of id 1" '"retries": 9' 1
bad /status/500 "HTTP status 500: 'no, not with Bearer ***', at the last of 3 requests, about the answer of id " '"retries": 2'
bad /status/429 "HTTP status 429: " '"retries": 1' 2
bad /moved "HTTP status 302 (what it leads to is not followed), about the answer of id " '"retries": 9' 1
bad /garbage "expected a number or {\"score\": ..., \"parts\": {...}}, found '<html>hello</html>'" '"retries": 9' 1
bad /echo "a reply that is no score, and has the key in it" '"retries": 9' 1
bad /nan "found 'NaN'" '"retries": 9' 1
bad /empty "found nothing" '"retries": 9' 1
bad /huge "a reply of more than 4 MiB" '"retries": 9' 1
bad /close "at the last of 3 requests" '"retries": 2'
bad /hang "no reply within 0.5 seconds, at the last of 2 requests" '"retries": 1, "timeout": 0.5'
bad /chat "its score is no finite number" '"retries": 9' 1
: >requests
refuse 3 "there is no score in what the model says: 'I cannot say.', at the last of 3 requests" "${ppo[@]}" --run.dir mute \
  --reward.sources "$(judged /mute "$chat, \"retries\": 2, \"concurrency\": 1")"
(($(wc -l <requests) <= 3 * 16)) || fail "mute: $(wc -l <requests) requests"
hush
refuse 3 "at the last of 3 requests, about the answer of id " "${ppo[@]}" --run.dir refused --reward.sources "$(judged /json '"retries": 2')" # nobody listens
serve requests
note "$((cases + 2)) faults that do not pass"

# Time in which nobody looks is none that a judge takes: here both stop, with a request on its way.
: >requests
"${ppo[@]}" --run.dir stopped --reward.sources "$(judged /slow '"timeout": 2, "retries": 0, "cache": false, "concurrency": 1')" >out 2>log </dev/null &
job=$!
until (($(wc -l <requests) > 20)) || ! kill -0 $job 2>/dev/null; do sleep 0.005; done
kill -STOP "$server_id" && kill -STOP $job
sleep 2.5
kill -CONT $job && sleep 0.1 && kill -CONT "$server_id"
wait $job || fail "stopped: $(cat log)"
same_files program/model stopped/model
note "a pause of everybody"

# A judge that throws dice: what it said first is what was learned from, whenever the run was killed. Each kill comes some steps after the last
# checkpoint, and what is asked again is only what was asked and not yet answered: of one rollout.
updates=14 kills=0
dice=("${ppo[@]}" --ppo.total_episodes $((16 * updates)) --run.save_every 4 --run.dir dice --reward.sources "$(judged /dice '"cache": false')")
: >requests
for target in $((16 * 7)) $((16 * 11)); do
  "${yielding[@]}" "${dice[@]}" >out 2>log </dev/null &
  job=$!
  while (($(grep -c '^threw ' requests) < target)) && kill -0 $job 2>/dev/null; do sleep 0.003; done
  kill -9 $job 2>/dev/null || true
  wait $job 2>/dev/null || kills=$((kills + 1))
done
[[ $kills == 2 ]] || fail "$kills kills came in time"
pass "${dice[@]}"
grep '^threw ' requests >thrown
(($(wc -l <thrown) <= 16 * (updates + kills))) || fail "$(wc -l <thrown) requests for $((16 * updates)) answers"
cat >again.sh <<'E2'
#!/usr/bin/env bash
declare -A thrown
while read -r _ id throw; do thrown[$id]=$throw; done <thrown
while read -r line; do
  id=${line#*\"id\":}; id=${id%%,*}; throw=${thrown[$id]}
  echo "{\"id\": $id, \"score\": $((throw / 1000)).$((throw % 1000 + 1000))}"
done
E2
chmod +x again.sh
pass "${ppo[@]}" --ppo.total_episodes $((16 * updates)) --run.dir again --reward.sources '{"kind": "command", "command": ["./again.sh"]}'
same_files again/model dice/model
note "dice: $(wc -l <thrown) requests for $((16 * updates)) answers, killed twice"

# Refused, by --check too.
: >requests
refused() { # refused TEXT KEYS
  refuse 2 "reward.sources[0]: $1" "${ppo[@]}" --run.dir none --check --reward.sources "{\"kind\": \"http\", $2}"
}
refused "'url' is required" '"timeout": 3'
refused "'url': expected http://... or https://..., found 'ftp://x'" '"url": "ftp://x"'
refused "'url': expected a host, found 'http:///x'" '"url": "http:///x"'
refused "'url': a name and password do not belong into a configuration" '"url": "http://me:secret@host/x"'
refused "'url': expected ASCII without spaces" '"url": "http://host/a b"'
refused "'key_env': the environment has no NO_SUCH_KEY" '"url": "http://host", "key_env": "NO_SUCH_KEY"'
refused "'prompt' is of format openai, and the format is json" '"url": "http://host", "prompt": "x"'
refused "'model' is required with format openai" '"url": "http://host", "format": "openai"'
refused "expected 'prompt' or 'prompt_file', found none" '"url": "http://host", "format": "openai", "model": "m"'
refused "'prompt':1:1" '"url": "http://host", "format": "openai", "model": "m", "prompt": "{{ answer"'
refused "'prompt': it does not read 'answer'" '"url": "http://host", "format": "openai", "model": "m", "prompt": "rate this"'
refused "'prompt': it reads 'answr'" '"url": "http://host", "format": "openai", "model": "m", "prompt": "{{ answr }}"'
refused "'score': missing closing parenthesis" '"url": "http://host", "format": "openai", "model": "m", "prompt": "{{ answer }}", "score": "("'
refused "'parameters': 'messages' is not to be set there" '"url": "http://host", "format": "openai", "model": "m", "prompt": "{{ answer }}", "parameters": {"messages": []}'
refused "unknown key 'concurency'; did you mean 'concurrency'?" '"url": "http://host", "concurency": 3'
JUDGE_KEY=$'two\nlines' refused "'key_env': what JUDGE_KEY holds is no key" '"url": "http://host", "key_env": "JUDGE_KEY"'
[[ ! -s requests ]] || fail "--check asked: $(cat requests)"
hush
echo "reward http: judges behind HTTP"
