#!/usr/bin/env bash
# PPO with a list of sources of rewards: a list of one model is the short form, reward models of other templates and tokens, rules,
# several models at once; what the log says of each part; plans and peaks; resuming; what is refused. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/sft" --optim.lr 1e-2 \
  --optim.batch_size 16 --optim.epochs 8
rm_of=("$bin/reward" --data.train "$world/prefs.jsonl" --optim.batch_size 8 --optim.lr 2e-3)
pass "${rm_of[@]}" --model.path "$work/sft/model" --run.dir "$work/rm" --optim.epochs 4 --lora.enabled --data.reference "$world/sft.jsonl"
pass "${rm_of[@]}" --model.path "$work/sft/model" --run.dir "$work/rm2" --optim.max_steps 4 --lora.enabled --run.seed 2
pass "${rm_of[@]}" --model.path "$work/sft/model" --run.dir "$work/rm-full" --optim.epochs 2
pass "${rm_of[@]}" --model.path "$work/sft/model" --run.dir "$work/rm-plain" --optim.epochs 2 --lora.enabled --data.template plain
# Another vocabulary: half the size.
pass "$bin/train_tokenizer" --text "$world/text.jsonl" --out "$work/tokens" --vocab 270
pass "$bin/init" --config "$world/model.json" --tokenizer "$work/tokens" --out "$work/foreign" --seed 9
pass "${rm_of[@]}" --model.path "$work/foreign" --run.dir "$work/rm-foreign" --optim.epochs 6 --optim.lr 5e-3

# Prompts that say what the answer should be, and more.
jq -c '{prompt, reference: "yes \(.prompt | split(" ")[0])", id: input_line_number}' "$world/prompts.jsonl" >"$work/prompts.jsonl"

ppo=("$bin/ppo" --model.path "$work/sft/model" --data.prompts "$work/prompts.jsonl" --ppo.total_episodes 128 --ppo.batch_size 16
  --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 8 --rollout.temperature 1 --ppo.missing_eos keep --optim.lr 1e-3
  --optim.micro_batch_tokens 256 --run.save_every 2 --ppo.samples_logged 16 --json)
one="{\"kind\": \"model\", \"path\": \"$work/sft/model\", \"adapter\": \"$work/rm/adapter\"}"
query() { sqlite3 "$work/$1/run.db" "$2"; }
mib() { # mib WORD: the size after that word in the last log
  sed -nE "s/.*$1 +([0-9.]+) ([KMG]iB).*/\\1 \\2/p" "$work/log" | head -n 1 |
    awk '{ print $1 * ($2 == "GiB" ? 1024 : $2 == "MiB" ? 1 : 1 / 1024) }'
}
fits() { # the last run took no more than its plan
  [[ $(mib 'peak memory') && $(mib planned) ]] || fail "$1: no peak memory: $(cat "$work/log")"
  holds "$(mib 'peak memory') <= $(mib planned)"
}

# A list of the one model is the short form: the same bytes, and parts in the log besides.
for mode in false true; do
  pass "${ppo[@]}" --run.dir "$work/short-$mode" --reward.path "$work/sft/model" --reward.adapter "$work/rm/adapter" --lora.enabled $mode
  fits "short-$mode"
  pass "${ppo[@]}" --run.dir "$work/list-$mode" --reward.sources "[$one]" --lora.enabled $mode
  fits "list-$mode"
  for kind in model adapter; do
    [[ ! -e $work/short-$mode/$kind ]] || diff -r "$work/short-$mode/$kind" "$work/list-$mode/$kind" >"$work/diff" || fail "$mode: $(cat "$work/diff")"
  done
  [[ $(query "list-$mode" "select count(*) from metric as a join metric as b on a.step = b.step where a.name = 'ppo/score'
    and b.name = 'ppo/reward/model' and abs(a.value - b.value) < 1e-6") == 8 ]] || fail "ppo/reward/model is not the score"
  [[ $(query "short-$mode" "select count(*) from metric where name like 'ppo/reward/%'") == 0 ]] || fail "parts of the short form"
done
note "a list of one model is the short form"

# Rules alone: no reward model in memory, and none but the policy to begin the critic as.
rules='{"kind": "rules", "name": "form", "weight": 2, "length": 5, "repetition": 1, "format": "^yes ", "exact": "reference"}'
pass "${ppo[@]}" --run.dir "$work/rules" --reward.sources "$rules" --ppo.total_episodes 256
fits rules
grep -q 'three models of their own weights: actor, critic and reference' "$work/log" || fail "$(cat "$work/log")"
planned=$(mib planned)
[[ $(query rules "select group_concat(distinct name) from (select name from metric where name like 'ppo/reward/%' order by name)") == \
ppo/reward/form,ppo/reward/form/exact,ppo/reward/form/format,ppo/reward/form/length,ppo/reward/form/repetition ]] || fail "the parts of rules"
# Each answer's parts again, by SQL; "(1 - distinct / all)" of single tokens needs more, and is in the unit test.
[[ $(query rules "select count(*), count(case when abs(json_extract(parts, '\$.form.length') + min(1, abs(length - finished - 5) / 5.0)) < 1e-6
    and json_extract(parts, '\$.form.format') = (response like 'yes %')
    and json_extract(parts, '\$.form.exact') = (trim(response) = 'yes ' || substr(prompt, 1, instr(prompt, ' ') - 1)) then 1 end)
  from sample") == '256|256' ]] || fail "parts: $(query rules "select prompt, response, length, finished, parts from sample limit 5")"
[[ $(query rules "select count(*) from metric as a join metric as b on a.step = b.step where a.name = 'ppo/score'
    and b.name = 'ppo/reward/form' and abs(a.value - 2 * b.value) < 1e-5") == 16 ]] || fail "the weight"
mean() { query "$1" "select avg(value) from metric where name = '$2' and $3"; }
holds "$(mean rules ppo/score 'step > 12') > $(mean rules ppo/score 'step < 5')"
pass "${ppo[@]}" --run.dir "$work/rules-lora" --reward.sources "$rules" --lora.enabled --data.eval "$work/prompts.jsonl" --ppo.total_episodes 32
fits rules-lora
grep -q 'one frozen base; adapters for actor, critic and reference' "$work/log" || fail "$(cat "$work/log")"
[[ $(jq .eval_score "$work/out") == *[0-9]* ]] || fail "no evaluation"
pass "$bin/export" "$work/rules-lora" --part critic --out "$work/critic-lora"
pass "$bin/inspect" score --model "$work/sft/model" --adapter "$work/critic-lora" --data "$world/prefs.jsonl"
pass "$bin/export" "$work/rules" --part critic --out "$work/critic"
pass "$bin/inspect" score --model "$work/critic" --data "$world/prefs.jsonl"
note "rules"

# Two models and a rule, at weights, with LoRA over one base: what is logged is what the models say.
two="[$one, {\"kind\": \"model\", \"name\": \"second\", \"weight\": 0.5, \"path\": \"$work/sft/model\", \"adapter\": \"$work/rm2/adapter\"},
  {\"kind\": \"rules\", \"weight\": -1, \"format\": \"no\"}, {\"kind\": \"model\", \"name\": \"gold\", \"weight\": 0, \"path\": \"$work/rm-full/model\"}]"
for mode in false true; do
  pass "${ppo[@]}" --run.dir "$work/two-$mode" --reward.sources "$two" --lora.enabled $mode
  fits "two-$mode"
  [[ $(query "two-$mode" "select count(*) from (select step, sum(case name when 'ppo/score' then -value when 'ppo/reward/model' then value
    when 'ppo/reward/second' then value / 2 when 'ppo/reward/rules' then -value else 0 end) as left from metric group by step)
    where abs(left) < 1e-5") == 8 ]] || fail "the weighted sum"
done
grep -q 'two frozen bases; adapters for actor, critic, reference and 3 reward models' "$work/log" || fail "$(cat "$work/log")"
[[ $(query two-true "select count(distinct json_extract(parts, '\$.second')) > 20 and count(json_extract(parts, '\$.gold')) = 128 from sample") == 1 ]] ||
  fail "parts of models"
killed_and_resumed "$work/two-killed" 8 2 "${ppo[@]}" --run.dir "$work/two-killed" --reward.sources "$two" --lora.enabled
same_files "$work/two-true/adapter" "$work/two-killed/adapter"
note "several models"

# An ensemble of adapters over one base, beside its members as sources of their own that count for nothing; and what it makes of them.
ensemble() { # ensemble COMBINE [KEYS]
  echo "[{\"kind\": \"ensemble\", \"path\": \"$work/sft/model\", \"adapters\": [\"$work/rm/adapter\", \"$work/rm2/adapter\", \"$work/rm3/adapter\"],
    \"combine\": \"$1\"${2:+, $2}}, {\"kind\": \"model\", \"name\": \"a\", \"weight\": 0, \"path\": \"$work/sft/model\", \"adapter\": \"$work/rm/adapter\"},
    {\"kind\": \"model\", \"name\": \"c\", \"weight\": 0, \"path\": \"$work/sft/model\", \"adapter\": \"$work/rm3/adapter\"}]"
}
pass "${rm_of[@]}" --model.path "$work/sft/model" --run.dir "$work/rm3" --optim.max_steps 9 --lora.enabled --run.seed 3
bases() { grep -oE '(one|two|three|four|five|six) (frozen base|models of their own weights)' "$work/log"; }
for mode in true false; do
  for how in mean minimum mean_minus_std; do
    pass "${ppo[@]}" --run.dir "$work/$how-$mode" --reward.sources "$(ensemble $how '"k": 0.5')" --lora.enabled $mode --ppo.total_episodes 32
    fits "$how-$mode"
    # With LoRA all stand over the policy's base; without, the members of the ensemble over the reference's, and the others have their own.
    [[ $(bases) == "$([[ $mode == true ]] && echo 'one frozen base' || echo 'five models of their own weights')" ]] || fail "$how: $(cat "$work/log")"
    query "$how-$mode" "select json_extract(parts, '\$.ensemble.1'), json_extract(parts, '\$.ensemble.2'), json_extract(parts, '\$.ensemble.3'),
      json_extract(parts, '\$.ensemble.std'), json_extract(parts, '\$.ensemble.score'), json_extract(parts, '\$.a'), json_extract(parts, '\$.c') from sample" >"$work/members"
    awk -F'|' -v how=$how 'function off(x, y) { return (x - y) ^ 2 > 1e-9 }
      { m = ($1 + $2 + $3) / 3; s = sqrt((($1 - m) ^ 2 + ($2 - m) ^ 2 + ($3 - m) ^ 2) / 3); least = $1 < $2 ? $1 : $2; least = least < $3 ? least : $3
        score = how == "mean" ? m : how == "minimum" ? least : m - s / 2
        bad += off($4, s) || off($5, score) || ('$([[ $mode == true ]] && echo 1 || echo 0)' && (off($1, $6) || off($3, $7))) || (off($1, $2) == 0 && off($1, $3) == 0) }
      END { exit bad > 0 || NR != 32 }' "$work/members" || fail "$how, $mode: $(head -n 3 "$work/members")"
  done
done
note "ensembles"

# A reward model of another template reads its own; one of other tokens as well, and then the critic has to begin as something else.
# What either says of an answer is what `inspect score` says of it beside its prompt.
says() { # says RUN NAME OPTIONS...: the samples of a run that ended, scored by inspect
  local run=$1 name=$2
  shift 2
  query "$run" "select json_object('prompt', prompt, 'chosen', response, 'rejected', 'x') from sample where finished and length > 1" >"$work/said.jsonl"
  query "$run" "select json_extract(parts, '\$.$name') from sample where finished and length > 1" >"$work/known"
  pass "$bin/inspect" score --json --data "$work/said.jsonl" "$@"
  jq -r 'select(has("chosen")) | .chosen' "$work/out" >"$work/found"
  (($(wc -l <"$work/found") > 20)) || fail "$run: too few answers ended"
  paste "$work/known" "$work/found" | awk '{ d = $1 - $2; if (d * d > 1e-8) { print; bad = 1 } } END { exit bad }' ||
    fail "$run: other scores than those of inspect"
}
plain="{\"kind\": \"model\", \"path\": \"$work/sft/model\", \"adapter\": \"$work/rm-plain/adapter\"}"
pass "${ppo[@]}" --run.dir "$work/plain" --reward.sources "[$plain]" --lora.enabled
grep -q 'answers are rendered by the chat template plain for it' "$work/log" || fail "$(cat "$work/log")"
fits plain
says plain model --model "$work/sft/model" --adapter "$work/rm-plain/adapter"
foreign="{\"kind\": \"model\", \"path\": \"$work/rm-foreign/model\"}"
refuse 4 'give critic.path (a model with the policy' "${ppo[@]}" --run.dir "$work/no" --reward.sources "[$foreign]"
pass "${ppo[@]}" --run.dir "$work/foreign-critic" --reward.sources "[$foreign]" --critic.path "$work/sft/model" --ppo.total_episodes 256
grep -q 'and tokenised again by its own tokenizer' "$work/log" || fail "$(cat "$work/log")"
fits foreign-critic
says foreign-critic model --model "$work/rm-foreign/model"
holds "$(mean foreign-critic ppo/score 'step > 12') > $(mean foreign-critic ppo/score 'step < 5')"
pass "${ppo[@]}" --run.dir "$work/foreign-rloo" --reward.path "$work/rm-foreign/model" --ppo.advantage rloo --ppo.samples_per_prompt 4 --lora.enabled
fits foreign-rloo
note "other templates and tokens"

# Refused, and before any work.
cases=0
bad() { # bad CODE TEXT SOURCES [OPTIONS...]
  local code=$1 text=$2 sources=$3
  shift 3
  for check in '' --check; do
    rm -rf "$work/no"
    refuse "$code" "$text" "${ppo[@]}" --run.dir "$work/no" --reward.sources "$sources" $check "$@"
  done
  cases=$((cases + 1))
}
bad 2 "reward.sources[0]: unknown key 'wieght'; did you mean 'weight'?" '{"kind": "rules", "json": "any", "wieght": 1}'
bad 2 "reward.sources[0]: 'adapters': expected a list of 2 to 31 directories, found 1" "{\"kind\": \"ensemble\", \"path\": \"$work/sft/model\", \"adapters\": [\"$work/rm/adapter\"]}"
bad 6 "reward.sources[0].adapters: there is no directory $work/absent" "{\"kind\": \"ensemble\", \"path\": \"$work/sft/model\", \"adapters\": [\"$work/rm/adapter\", \"$work/absent\"]}"
bad 4 "reward source 'ensemble': $work/rm-plain/adapter: it was trained with another chat template than $work/rm/adapter" \
  "{\"kind\": \"ensemble\", \"path\": \"$work/sft/model\", \"adapters\": [\"$work/rm/adapter\", \"$work/rm-plain/adapter\"]}"
bad 2 "reward.sources[0]: 'format': " '{"kind": "rules", "format": "("}'
bad 2 "reward.sources and reward.path are both given: choose one" "$rules" --reward.path "$work/rm-full/model"
bad 2 "critic.adapter: expected critic.path with it" "$rules" --critic.adapter "$work/rm/adapter"
bad 2 "reward.sources[0].path: $work/rm is the directory of a run" "{\"kind\": \"model\", \"path\": \"$work/rm\"}"
bad 3 "data.prompts: $work/world/prompts.jsonl:1: reward source 'rules': expected 'reference' with the right answer" \
  '{"kind": "rules", "exact": "reference"}' --data.prompts "$world/prompts.jsonl"
bad 4 "reward source 'model': $work/sft/model: tensor score.weight is missing" "[$rules, {\"kind\": \"model\", \"path\": \"$work/sft/model\"}]"
bad 6 "$work/absent" "{\"kind\": \"model\", \"path\": \"$work/absent\"}"
bad 2 "reward source 'model': 'template': unknown chat template \"chatlm\"" "{\"kind\": \"model\", \"path\": \"$work/rm-foreign/model\", \"template\": \"chatlm\"}" --ppo.advantage reinforce_pp
note "$cases bad lists are refused"
echo "reward sources: models and rules"
