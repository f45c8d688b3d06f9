#!/usr/bin/env bash
# What `cmake --install` lays out works wherever it is moved to, knowing nothing of the tree. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world
house=$PWD

pass cmake --install "$(dirname "$bin")" --prefix "$work/first place"
mv "$work/first place" "$work/moved"
mkdir "$work/elsewhere"
ln -s "$work/moved/bin/drover" "$work/elsewhere/drover"
cd "$work/elsewhere"
drover() { env -u DROVER_BIN PATH="$work/elsewhere:/usr/bin:/bin" drover "$@"; }

# The commands that drover lists, no more and no less.
drover help | sed -nE 's/^  ([a-z_]+)  +[^ ].*/\1/p' | sort >listed
{ ls "$work/moved/libexec/drover" && echo run; } | sort >installed
diff listed installed >difference || fail "listed and installed programs: $(cat difference)"
[[ $(ls "$work/moved/bin") == drover ]] || fail "on PATH: $(ls "$work/moved/bin")"
expect "drover " drover --version
note "$(wc -l <listed) commands, moved and linked to"

# As a user works: a configuration, a model, its answers; ranks and pipelines find their programs too.
pass drover new sft --model "$world/base" --data "$world/sft.jsonl" --out sft.yaml
pass drover sft --config sft.yaml --optim.max_steps 2 --run.dir runs/sft
pass drover generate --model "$world/base" --adapter runs/sft/adapter --prompt "red door?" --max-new-tokens 4
pass drover launch -n 2 sft --model.path "$world/base" --data.train "$world/sft.jsonl" --optim.max_steps 1 --run.dir runs/ranks
jq -n --arg model "$world/base" --arg data "$world/sft.jsonl" '{dir: "runs/pipeline", stages: [
  {stage: "sft", model: $model, config: {data: {train: $data}, optim: {max_steps: 1}}}]}' >pipeline.json
pass drover run pipeline.json --launcher 'drover launch -n 2'
note "new, sft, generate, launch, run"

# Configurations, and pages whose links lead somewhere.
share=$work/moved/share
for file in "$share"/drover/configs/{sft,dpo}*.json; do
  stage=$(basename "$file" .json)
  pass drover "${stage%%_*}" --config "$file" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir runs/none --print-config
done
cd "$share/doc/drover"
for page in README.md docs/*.md; do
  while read -r link; do
    [[ -e $(dirname "$page")/$link || $link == ../[a-z]*/*.[ch] ]] || fail "$page: links to $link, which is not installed"
  done < <(grep -oE '\]\([^)#: ]+' "$page" | cut -c3- | sort -u)
done
if grep -rlF "$house/" "$share"; then fail "the files above name the folder they were built in"; fi
note "configurations and pages"
echo "install: moved, it works as it did"
