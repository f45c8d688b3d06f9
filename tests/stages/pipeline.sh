#!/usr/bin/env bash
# drover as a user runs it: whole pipelines, killed and started again; mistakes in the pipeline file.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"

# In a folder of its own, so that the paths in the pipeline are short and relative.
cd "$work"
cat >pipeline.json <<'END'
{
  "about": "sft, reward model, PPO with LoRA, merge",
  "dir": "runs/DIR",
  "stages": [
    { "stage": "sft", "model": "world/base",
      "config": {
        "data": { "train": "world/sft.jsonl" },
        "optim": { "lr": 1e-2, "batch_size": 16, "epochs": 6 }, "run": { "save_every": 2 }
      } },
    { "name": "judge", "stage": "reward", "model": "sft",
      "config": {
        "lora": { "enabled": true },
        "data": { "train": [ { "path": "world/prefs.jsonl", "weight": 2 } ], "reference": "world/sft.jsonl" },
        "optim": { "lr": 1e-3, "batch_size": 8, "epochs": 4 }, "run": { "save_every": 2 }
      } },
    { "stage": "ppo", "model": "sft", "reward": "judge",
      "config": {
        "lora": { "enabled": true },
        "data": { "prompts": "world/prompts.jsonl" },
        "rollout": { "max_new_tokens": 10, "temperature": 1 },
        "ppo": { "total_episodes": 320, "batch_size": 16, "epochs": 2 },
        "optim": { "lr": 1e-3, "micro_batch_tokens": 512 }, "run": { "save_every": 2 }
      } },
    { "name": "final", "stage": "merge", "model": "ppo" }
  ]
}
END
change() { # FILTER NAME: the pipeline changed by jq, as NAME.json with a directory of its own
  jq "$1" pipeline.json | sed "s/DIR/$2/" >"$2.json"
}
change . plain

expect 'nothing wrong' "$drover" run plain.json --check
[[ ! -e runs ]] || fail "--check made a directory"
timed "$drover" run plain.json
[[ $(cat out) == runs/plain/final/model ]] || fail "standard output: $(cat out)"
for result in sft/model judge/adapter ppo/adapter final/model; do
  [[ -d runs/plain/$result ]] || fail "runs/plain/$result is missing"
done
pass "$bin/generate" --model runs/plain/final/model --chat --prompt 'red door?' --max-new-tokens 5
# The stages got each other's results: PPO's adapter is over the SFT model, its reward model the judge.
jq -e '.model.path == "runs/plain/sft/model" and .reward.path == "runs/plain/sft/model"
  and .reward.adapter == "runs/plain/judge/adapter" and .run.dir == "runs/plain/ppo"' runs/plain/ppo.json >log ||
  fail "the stage's configuration: $(cat runs/plain/ppo.json)"
note "sft, reward, ppo, merge"

# Finished: nothing is done again.
find runs/plain -name '*.safetensors' -exec stat -c '%n %Z %i' {} + | sort >before
first_seconds=$run_seconds
timed "$drover" run plain.json --json
[[ $(cat out) == '{"model":"runs/plain/final/model","adapter":null}' ]] || fail "--json: $(cat out)"
[[ $(grep -c 'finished already' log) == 4 ]] || fail "a finished pipeline: $(cat log)"
find runs/plain -name '*.safetensors' -exec stat -c '%n %Z %i' {} + | sort | cmp -s - before || fail "a finished pipeline wrote"
note "a finished pipeline takes $run_seconds s instead of $first_seconds s"

# Killed with everything it started, at several points of every stage, and started again.
change . killed
kill_when() { # CONDITION: starts the pipeline, kills its process group when the condition holds
  set -m
  "${yielding[@]}" "$drover" run killed.json >out 2>log </dev/null &
  local job=$!
  set +m
  until eval "$1" 2>/dev/null || ! kill -0 $job 2>/dev/null; do pause; done
  kill -9 -- -$job 2>/dev/null || fail "the pipeline was over before: $1"
  wait $job 2>/dev/null || true
  killed=$((killed + 1))
}
killed=0
kill_when '[[ -e runs/killed/sft/config.json ]]'
kill_when 'reached runs/killed/sft 10'
kill_when 'reached runs/killed/judge 20'
kill_when '[[ -e runs/killed/judge/done.json ]]'
kill_when 'reached runs/killed/ppo 6'
kill_when '[[ -e runs/killed/ppo/done.json ]]'
pass "$drover" run killed.json
for result in sft/model final/model; do same_files "runs/plain/$result" "runs/killed/$result"; done
for result in judge ppo; do # base_model_name_or_path has the folder's name
  cmp "runs/plain/$result/adapter/adapter_model.safetensors" "runs/killed/$result/adapter/adapter_model.safetensors" ||
    fail "$result: adapters differ"
done
note "killed $killed times and resumed"

# One driver at a time, and what a killed driver left running still counts.
exec {held}>>runs/killed/.lock
flock -n "$held"
refuse 6 'runs/killed is in use by another drover run' "$drover" run killed.json
exec {held}>&-
note "two drivers of one pipeline"

# SIGTERM to the driver alone: the stage saves, and its code is the driver's.
# (A stage that would take long, so that the signal is never too late.)
change '.stages[0].config.run.save_every = 0 | .stages[0].config.optim.epochs = 2000' term
: >log
"${yielding[@]}" "$drover" run term.json >out 2>log </dev/null &
job=$! status=0
until grep -q '^sft: ' log || ! kill -0 $job 2>/dev/null; do pause; done
kill -TERM $job
wait $job || status=$?
[[ $status == 143 && $(checkpoint_step runs/term/sft) -gt 0 ]] || fail "SIGTERM: exit code $status: $(cat log)"
grep -q "stage 'sft' stopped" log || fail "SIGTERM: $(cat log)"
[[ ! -e runs/term/judge ]] || fail "SIGTERM: the next stage was begun"
note "SIGTERM saves and ends the driver"

# A damaged merge is never taken for a finished one; a full model needs no merging.
mkdir -p runs/killed/final/model.drover-draft-0123456789abcdef && rm -r runs/killed/final/model
pass "$drover" run killed.json
same_files runs/plain/final/model runs/killed/final/model
[[ $(ls runs/killed/final) == model ]] || fail "what a killed merge left: $(ls runs/killed/final)"
change 'del(.stages[1, 2]) | .stages[1].model = "sft"' full
pass "$drover" run full.json
[[ $(cat out) == runs/full/sft/model ]] || fail "a full model: $(cat out)"
grep -q 'nothing to merge' log || fail "a full model: $(cat log)"
change 'del(.stages[1:4])' lora
jq '.stages[0].config.lora.enabled = true' lora.json >x && mv x lora.json
pass "$drover" run lora.json --json
[[ $(cat out) == '{"model":"world/base","adapter":"runs/lora/sft/adapter"}' ]] || fail "an adapter: $(cat out)"

# An earlier stage done again with another outcome: what was made from it before is not passed off as current.
change 'del(.stages[2:4])' stale
pass "$drover" run stale.json
jq '.stages[0].config.run.seed = 2' stale.json >x && mv x stale.json
refuse 2 "stage 'sft' was refused, and what is done stays; to begin it again remove runs/stale/sft" "$drover" run stale.json
rm -r runs/stale/sft
refuse 2 "stage 'judge' was made from an earlier outcome of 'sft': remove runs/stale/judge" "$drover" run stale.json
rm -r runs/stale/judge
pass "$drover" run stale.json
note "a stale stage is noticed"

# The best model of a stage, of all weights and as an adapter, as what later ones begin with; and ppo, sample and ppo again on what was sampled.
change 'def keep(m): .data.eval = "world/others.jsonl" | .run = {eval_every: 4, keep_best: m};
  .stages[0].config |= (keep("loss") | .data.train = "world/few.jsonl" | .optim = {lr: 1e-2, schedule: "constant", batch_size: 5, epochs: 20}) | .stages[1].config |= (keep("auto") | .data.eval = "world/prefs_eval.jsonl" | .optim.epochs = 1)
  | .stages[2] |= (.model = "sft/best" | .reward = "judge/best" | .config |= (keep("score") | .ppo.total_episodes = 64)) | .stages[3].model = "ppo/best"
  | .stages += [{name: "more", stage: "sample", model: "ppo/best", reward: "judge/best", config: {data: {prompts: "world/prompts.jsonl"}, rollout: {max_new_tokens: 10}, sample: {n: 4}}},
    (.stages[2] | .name = "again" | .model = "ppo/best" | .config.data.prompts = "runs/DIR/more/data.jsonl" | .config.run = {seed: 2})]' best
head -n 10 world/sft.jsonl >world/few.jsonl # so that they are soon known by heart
tail -n 30 world/sft.jsonl >world/others.jsonl
pass "$drover" run best.json
jq -e '.model.path == "runs/best/sft/best" and .reward.path == "runs/best/sft/model" and .reward.adapter == "runs/best/judge/best"' runs/best/ppo.json >log ||
  fail "the best of earlier stages: $(cat runs/best/ppo.json)"
differ runs/best/sft/{best,model}/model.safetensors
pass "$bin/merge" --model runs/best/sft/best --adapter runs/best/ppo/best --out merged-best
same_files merged-best runs/best/final/model
pass "$drover" run best.json --json
[[ $(cat out) == '{"model":"runs/best/sft/best","adapter":"runs/best/again/adapter"}' && $(grep -c 'finished already' log) == 6 ]] || fail "finished, with best models: $(cat log)"
rm -r runs/best/sft && jq '.stages[0].config.run.seed = 2' best.json >x && mv x best.json
refuse 2 "stage 'judge' was made from an earlier outcome of 'sft'" "$drover" run best.json
rm -r runs/best/judge*
refuse 2 "stage 'ppo' was made from an earlier outcome of 'sft/best' 'judge/best'" "$drover" run best.json
note "best models"

# Rounds of sampling and learning: a stage's data are what an earlier one sampled.
jq '.dir = "runs/raft" | .stages |= (.[:2] + [
    { name: "best", stage: "sample", model: "sft", reward: "judge",
      config: { data: { prompts: "world/prompts.jsonl" }, rollout: { max_new_tokens: 10 }, sample: { n: 8 } } },
    { name: "raft", stage: "sft", model: "sft",
      config: { data: { train: [ { path: "runs/raft/best/data.jsonl", weight: 2 } ] }, optim: { lr: 3e-3, batch_size: 16, epochs: 4 } } },
    { name: "again", stage: "sample", model: "raft", reward: "judge",
      config: { data: { prompts: "world/prompts.jsonl" }, rollout: { max_new_tokens: 10 }, sample: { n: 8 }, run: { seed: 2 } } } ])' \
  plain.json >raft.json
pass "$drover" run raft.json --json
[[ $(cat out) == '{"model":"runs/raft/raft/model","adapter":null,"data":"runs/raft/again/data.jsonl"}' ]] || fail "sampling at the end: $(cat out)"
mean() { jq .result.score "runs/raft/$1/done.json"; }
holds "$(mean again) > $(mean best) + 1"
cp -r runs/raft runs/first
rm -r runs/raft/raft
pass "$drover" run raft.json
[[ $(cat out) == runs/raft/again/data.jsonl ]] || fail "sampling at the end: $(cat out)"
for stage in best again; do cmp runs/{first,raft}/$stage/data.jsonl || fail "done again: $stage"; done
jq '.stages[2].config.sample.keep = 2' raft.json >x && mv x raft.json
refuse 2 "stage 'raft' was made from an earlier outcome of" "$drover" run raft.json
grep -q "'best': remove runs/raft/raft" log || fail "stale data: $(cat log)"
jq '.stages |= [.[0], .[4]] | .dir = "runs/rules" | .stages[1] |= (.model = "sft" | del(.reward)
  | .config.reward.sources = [{kind: "rules", length: 3}])' raft.json >rules.json
pass "$drover" run rules.json
[[ -s $(cat out) ]] || fail "sources of rewards in a pipeline: $(cat log)"
note "rounds of sampling and learning: mean score $(mean best), then $(mean again)"

# Mistakes in the file, all found before the first stage.
cases=0
bad() { # CODE TEXT FILTER
  change "$3" bad
  refuse "$1" "$2" "$drover" run bad.json
  [[ ! -e runs/bad ]] || fail "$3: something was begun"
  cases=$((cases + 1))
}
bad 2 "key 'dir' is missing" 'del(.dir)'
bad 2 "key 'dir': expected a string, found number" '.dir = 1'
bad 2 "unknown key 'stage'; known are about, dir, stages" '.stage = []'
bad 2 "key 'stages' is missing" 'del(.stages)'
bad 2 "key 'stages': expected a list" '.stages = {}'
bad 2 "key 'stages': expected a list" '.stages = []'
bad 2 "expected an object of keys and values, found a list" '[.]'
bad 2 "stage 2: expected an object, found string" '.stages[1] = "ppo"'
bad 2 "stage 1: key 'stage' is missing" 'del(.stages[0].stage)'
bad 2 "stage 3: key 'stage': expected sft, reward, ppo, dpo, sample or merge, found 'kto'" '.stages[2].stage = "kto"'
bad 2 "stage 1: key 'model' is missing" 'del(.stages[0].model)'
bad 2 "stage 3: key 'reward' is missing" 'del(.stages[2].reward)'
bad 2 "stage 1: key 'reward' is for ppo and sample" '.stages[0].reward = "judge"'
bad 2 "stage 2: unknown key 'modle'" '.stages[1].modle = "sft"'
bad 2 "stage 4: key 'config': merge has none" '.stages[3].config = {}'
bad 2 "stage 1: key 'name': expected letters" '.stages[0].name = "../x"'
bad 2 "stage 1: key 'name': expected letters" '.stages[0].name = "ok\n"'
bad 2 "two stages have the name 'sft'" '.stages[1].name = "sft"'
bad 2 "stage 3: config: run.dir is set by the pipeline" '.stages[2].config.run.dir = "x"'
bad 2 "stage 1: config: run.resume: a stage of a pipeline goes on; to begin it again remove its directory" '.stages[0].config.run.resume = false'
bad 2 "stage 'sft': run.keep_best: expected data.eval, which it chooses by; found none" '.stages[0].config.run.keep_best = "auto"'
bad 2 "stage 'judge': data.pair_label: expected safer with reward.cost" '.stages[1].config.reward.cost = true | del(.stages[1].config.data.reference)'
bad 2 "stage 'ppo': ppo.samples_per_prompt: expected a divisor of ppo.batch_size" '.stages[2].config.ppo += {advantage: "rloo", samples_per_prompt: 7, batch_size: 8}'
bad 2 "stage 3: config: model.path is set by the pipeline" '.stages[2].config.model.path = "x"'
bad 2 "stage 3: config: key 'data': expected an object, found string" '.stages[2].config.data = "x"'
bad 2 "stage 'judge': key 'model': expected an earlier stage or a model, found 'ppo': there is no directory ppo" '.stages[1].model = "ppo"'
bad 2 "stage 'ppo': key 'model': 'sft' keeps no best model (run.keep_best)" '.stages[2].model = "sft/best"'
bad 2 "stage 'final': key 'model': expected an earlier stage or a model, found 'final/best'" '.stages[3].model = "final/best"'
bad 2 "stage 'sft': key 'model': expected an earlier stage or a model, found ''" '.stages[0].model = ""'
bad 2 "stage 'ppo': 'ppo.epochs': expected an integer, found a string" '.stages[2].config.ppo.epochs = "two"'
bad 2 "stage 'ppo': unknown key 'ppo.epoch'; did you mean 'ppo.epochs'?" '.stages[2].config.ppo.epoch = 2'
bad 2 "stage 4: key 'reward' is missing" '.stages[3] = {stage: "sample", model: "ppo"}'
bad 6 "stage 'sft': data file runs/bad/best/data.jsonl cannot be read" \
  '.stages[0].config.data.train = "runs/bad/best/data.jsonl" | .stages[3] = {name: "best", stage: "sample", model: "ppo", reward: "judge", config: {data: {prompts: "world/prompts.jsonl"}}}'
bad 6 "stage 'judge': data file world/absent.jsonl cannot be read" '.stages[1].config.data.train[0].path = "world/absent.jsonl"'
echo '{"dir": "runs/bad", "stages": [' >broken.json
printf 'dir: runs/bad\nstages:\n  - stage: sft\n    model: world/base\n    config:\n      data: {train: world/sft.jsonl}\n      optim:\n        lr: fast\n' >bad.yaml
refuse 2 "bad.yaml:8: stage 'sft': 'optim.lr': expected a number, found a string" "$drover" run bad.yaml
refuse 2 'broken.json:2:0: broken JSON' "$drover" run broken.json
refuse 6 'absent.json: cannot be read' "$drover" run absent.json
refuse 2 "unknown option '--chekc'" "$drover" run plain.json --chekc
refuse 2 'usage: drover run' "$drover" run
refuse 2 "unknown command 'sfft'" "$drover" sfft
refuse 2 "unknown command '../bin/sft'" "$drover" ../bin/sft
# A stage that fails gives its own code, and what is done before it stays.
change '.stages[1].config.data.train = "world/text.jsonl"' fails
refuse 3 "stage 'judge' stopped" "$drover" run fails.json
[[ -d runs/fails/sft/model && ! -e runs/fails/ppo ]] || fail "a failing stage"
# A finished stage whose configuration has changed says so.
jq '.stages[0].config.optim.lr = 2e-2' plain.json >changed.json
refuse 2 'optim.lr' "$drover" run changed.json
note "$((cases + 8)) mistakes refused"

expect 'drover run PIPELINE' "$drover" run --help
expect 'optim.lr' "$drover" sft --help
echo "drover: all as expected"
