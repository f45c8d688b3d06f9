#!/usr/bin/env bash
# What is seen at a real terminal of several widths: lines of progress, the last words, Ctrl-C and going on.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
world=$work/world

# seen COLUMNS SCREEN COMMAND...: the command at a terminal of so many columns; what it was sent goes to SCREEN, a drawing a line. Ctrl-C is
# typed when $stop_at, a text, has been shown.
stop_at=
seen() {
  local columns=$1 screen=$2 command status=0
  shift 2
  printf -v command '%q ' "$@"
  : >"$screen.raw"
  { 
    if [[ $stop_at ]]; then
      until grep -qF -- "$stop_at" "$screen.raw"; do sleep 0.02; done
      printf '\003'
    fi
    sleep 0.2
  } | TERM=${terminal:-xterm} script -qefc "stty cols $columns; $command" "$screen.raw" >/dev/null || status=$?
  sed -e '1d' -e '/^Script done/d' "$screen.raw" | tr '\r' '\n' | grep -v '^$' >"$screen" || true
  return "$status"
}

# drawn SCREEN LABEL: the drawings of a line of progress, without the sign that clears the rest of the line.
drawn() { grep -E "^$2 .*"$'\033\\[K' "$1" | sed 's/\x1b\[K//g'; }

sft=("$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --data.eval "$world/sft.jsonl" --run.eval_every 10
  --optim.batch_size 16 --optim.lr 1e-2 --optim.epochs 1000 --optim.max_steps 30)
for columns in 120 100 80 60 40; do
  screen=$work/screen-$columns
  seen "$columns" "$screen" "${sft[@]}" --run.dir "$work/run-$columns" || fail "sft at $columns columns: $(tail -n 5 "$screen")"
  drawn "$screen" sft >"$work/drawn"
  awk -v most=$((columns - 1)) 'length > most { exit 1 }' "$work/drawn" || fail "$columns columns: too long: $(cat "$work/drawn")"
  # Numbers before the bar: counts always, a bar where there is room, and items whole.
  if grep -vE '^sft (\[[#.]{8,24}\] )?[0-9]+/30(  |$)' "$work/drawn"; then fail "$columns columns"; fi
  if grep -E '  (E|ET|ETA|i|in|l|lo|los|loss|g|gr|gra|grad|lr|[0-9.]+)$' "$work/drawn"; then fail "$columns columns: a part of an item"; fi
  grep -qE '^(sft.*30/30.*)' "$work/drawn" || fail "$columns columns: the last update is not there"
  if ((columns >= 60)); then grep -qE '  loss [0-9.]+ \([0-9.]+\)' "$work/drawn" || fail "$columns columns: no loss"; fi
  if ((columns == 120)); then grep -qE '^sft \[#+\.*\] 30/30' "$work/drawn" || fail "$columns columns: no bar"; fi
  grep -qE "^30 updates in [0-9]+s: loss [0-9.]+ -> [0-9.]+, eval loss [0-9.]+ -> [0-9.]+ \(best [0-9.]+ at update [0-9]+\): $work/run-$columns/model$" "$screen" ||
    fail "$columns columns: the last words: $(tail -n 3 "$screen")"
  grep -qF "next: drover generate --model $work/run-$columns/model" "$screen" || fail "$columns columns: what may come next"
done
note "sft at 120, 100, 80, 60 and 40 columns"

terminal=dumb seen 80 "$work/screen" "${sft[@]}" --run.dir "$work/dumb" || fail "TERM=dumb: $(tail -n 5 "$work/screen")"
if grep -q $'\033' "$work/screen"; then fail "TERM=dumb: control sequences"; fi
grep -qE '^sft: 30/30  in ' "$work/screen" || fail "TERM=dumb: $(cat "$work/screen")"
note "plain lines at a dumb terminal"

# Ctrl-C: what was saved is said once; the same command goes on from there.
long=("${sft[@]}" --optim.max_steps 100000 --run.dir "$work/long")
status=0
stop_at='/100000  ETA' seen 100 "$work/screen" "${long[@]}" || status=$?
[[ $status == 130 ]] || fail "Ctrl-C: exit code $status: $(tail -n 5 "$work/screen")"
[[ $(grep -c 'saved' "$work/screen") == 1 ]] || fail "Ctrl-C: $(tail -n 5 "$work/screen")"
step=$(checkpoint_step "$work/long")
grep -q "step-$step" "$work/screen" || fail "Ctrl-C: where: $(tail -n 5 "$work/screen")"
stop_at=going\ on seen 100 "$work/screen" "${long[@]}" || true
grep -qF "going on from $work/long/checkpoints/step-$step" "$work/screen" || fail "going on: $(cat "$work/screen")"
note "Ctrl-C, and the same command again"

# The others have the same lines.
seen 100 "$work/screen" "$bin/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl" --data.reference "$world/sft.jsonl" \
  --run.dir "$work/rm" --optim.batch_size 8 --optim.max_steps 10 || fail "reward: $(tail -n 5 "$work/screen")"
drawn "$work/screen" reward | grep -qE '10/10  in .*  loss [0-9.]+ \([0-9.]+\)  accuracy [0-9]+%' || fail "reward: $(cat "$work/screen")"
grep -qF "next: drover ppo --model.path $world/base --reward.path $work/rm/model" "$work/screen" || fail "after reward: $(tail -n 3 "$work/screen")"
seen 120 "$work/screen" "$bin/ppo" --model.path "$work/run-80/model" --reward.path "$work/rm/model" --data.prompts "$world/prompts.jsonl" \
  --run.dir "$work/ppo" --ppo.total_episodes 64 --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 8 ||
  fail "ppo: $(tail -n 5 "$work/screen")"
drawn "$work/screen" ppo >"$work/drawn"
grep -qE '4/4  in .*  score -?[0-9.]+ \(-?[0-9.]+\)  kl -?[0-9.]+  length [0-9.]+  ended [0-9]+%  clip [0-9]+%' "$work/drawn" ||
  fail "ppo: $(tail -n 3 "$work/drawn")"
grep -qE '^4 updates in [0-9]+s: score -?[0-9.]+ -> -?[0-9.]+, kl ' "$work/screen" || fail "ppo: $(tail -n 3 "$work/screen")"
seen 100 "$work/screen" "$bin/generate" --model "$work/run-80/model" --prompts "$world/prompts.jsonl" --max-new-tokens 8 --json ||
  fail "generate: $(tail -n 5 "$work/screen")"
note "reward, ppo and generate"
