#!/usr/bin/env bash
# What is seen at a real terminal of several widths: sft that is stopped by Ctrl-C and goes on, reward, ppo and generate. The screens are
# kept in tests/fixtures/screens; to take them again: KEEP_SCREENS=1 bash tests/stages/terminal.sh BIN.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
house=$PWD screens=$PWD/tests/fixtures/screens
cd "$work"
make_world world

# seen COLUMNS SCREEN COMMAND...: the command at a terminal of so many columns; what it was sent goes to SCREEN.raw, to SCREEN a drawing a
# line. Ctrl-C is typed when $stop_at, a text, has been shown.
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
  sed -i -e '1d' -e '/^Script done/d' "$screen.raw"
  tr '\r' '\n' <"$screen.raw" | grep -v '^$' >"$screen" || true
  return "$status"
}

# ended COLUMNS STAGE COMMAND...: must pass at a terminal of so many columns.
ended() {
  seen "$1" "$2-$1" "${@:3}" || fail "$2 at $1 columns: $(tail -n 5 "$2-$1")"
}

# drawn SCREEN LABEL: the drawings of a line of progress, without the sign that clears the rest of the line.
drawn() { grep -E "^$2 .*"$'\033\\[K' "$1" | sed 's/\x1b\[K//g'; }

# check_drawings COLUMNS STAGE COUNT: each fits, begins with the counts, with a bar only where there is room, and has no part of an item.
check_drawings() {
  drawn "$2-$1" "$2" >drawings
  [[ -s drawings ]] || fail "$2 at $1 columns: nothing was drawn"
  awk -v most=$(($1 - 1)) 'length > most { exit 1 }' drawings || fail "$2 at $1 columns: too long: $(cat drawings)"
  if grep -vE "^$2 (\[[#.]{8,24}\] )?[0-9]+/$3(  |\$)" drawings; then fail "$2 at $1 columns"; fi
  if grep -E '  (E|ET|ETA|i|in|l|lo|los|loss|s|sc|sco|scor|score|g|gr|gra|grad|k|kl|lr|[0-9.]+)$' drawings; then fail "$2 at $1 columns: a part of an item"; fi
  if (($1 == 120)) && [[ $2 != ppo ]]; then grep -qE "^$2 \[#+\.*\] " drawings || fail "$2 at 120 columns: no bar"; fi
}

# compare COLUMNS: what stood on the screen of each stage in the end, and what is kept of it. Of a line of progress, how many items there
# is room for depends on their digits: it is the beginning of the line at 120 columns, as far as its first figure at least.
compare() {
  local stage line whole
  for stage in stopped sft reward ppo generate; do
    echo "\$ drover ${stage/stopped/sft}"
    awk -f "$house/tests/support/screen.awk" "$stage-$1.raw" | case $stage in
      stopped) sed '/^step N: eval/d' ;;                                   # as many as there was time for
      generate) sed -e '/^prompts:/!{/^computing/!d}' -e 's/^computing.*/&\n(an answer)/' ;;
      *) cat ;;
    esac
  done >"screen-$1.txt"
  [[ -z ${KEEP_SCREENS:-} ]] || cp "screen-$1.txt" "$screens/$1.txt"
  for stage in sft reward ppo; do
    line=$(grep -E "^$stage (\[#\] )?N/N" "screen-$1.txt" | sed 's/\[#\] //') whole=$(grep -E "^$stage (\[#\] )?N/N" "$screens/120.txt" | sed 's/\[#\] //')
    [[ $whole == "$line"* && $line == *'  in T  '[ls]*' N'* ]] || fail "$1 columns: $line"
  done
  diff <(sed -E 's/^([a-z]+ )(\[#\] )?N\/N.*/\1/' "$screens/$1.txt") <(sed -E 's/^([a-z]+ )(\[#\] )?N\/N.*/\1/' "screen-$1.txt") >difference ||
    fail "$1 columns, kept and seen: $(cat difference)"
}

data=(--data.train world/sft.jsonl --data.eval world/sft.jsonl --run.eval_every 10)
sft=("$bin/sft" --model.path world/base "${data[@]}" --optim.batch_size 16 --optim.lr 1e-2)
reward=("$bin/reward" --model.path world/base --data.train world/prefs.jsonl --data.reference world/sft.jsonl --optim.batch_size 8 --optim.max_steps 10)
for columns in 120 100 80 60 40; do
  # Ctrl-C: what was saved is said once; the same command goes on from there, here to an end that is near.
  status=0
  stop_at='/100000  ETA' seen $columns stopped-$columns "${sft[@]}" --optim.max_steps 100000 --run.dir runs/sft || status=$?
  [[ $status == 130 ]] || fail "Ctrl-C: exit code $status: $(tail -n 5 stopped-$columns)"
  step=$(checkpoint_step runs/sft) end=$((step / 10 * 10 + 20))
  [[ $(grep -c 'saved in' stopped-$columns) == 1 ]] || fail "Ctrl-C: $(tail -n 5 stopped-$columns)"
  grep -q "step-$step; the same command goes on from here" stopped-$columns || fail "Ctrl-C: where: $(tail -n 5 stopped-$columns)"
  ended $columns sft "${sft[@]}" --optim.max_steps $end --run.dir runs/sft
  grep -qF "going on from runs/sft/checkpoints/step-$step" sft-$columns || fail "going on: $(cat sft-$columns)"
  ended $columns reward "${reward[@]}" --run.dir runs/reward
  ended $columns ppo "$bin/ppo" --model.path runs/sft/model --reward.path runs/reward/model --data.prompts world/prompts.jsonl --run.dir runs/ppo \
    --ppo.total_episodes 64 --ppo.batch_size 16 --ppo.minibatches 2 --ppo.epochs 2 --rollout.max_new_tokens 8
  ended $columns generate "$bin/generate" --model runs/sft/model --chat --prompt "red door?" --max-new-tokens 8
  check_drawings $columns sft $end
  check_drawings $columns reward 10
  check_drawings $columns ppo 4
  compare $columns
  rm -r runs
done
note "sft, Ctrl-C, going on, reward, ppo and generate at 120, 100, 80, 60 and 40 columns"

ended 120 sft "${sft[@]}" --optim.max_steps 30 --run.dir fresh
grep -qE "^30 updates in [0-9]+s: loss [0-9.]+ -> [0-9.]+, eval loss [0-9.]+ -> [0-9.]+ \(best [0-9.]+ at update [0-9]+\): fresh/model$" sft-120 ||
  fail "the last words: $(tail -n 3 sft-120)"
terminal=dumb seen 80 dumb "${sft[@]}" --optim.max_steps 30 --run.dir plain || fail "TERM=dumb: $(tail -n 5 dumb)"
if grep -q $'\033' dumb; then fail "TERM=dumb: control sequences"; fi
grep -qE '^sft: 30/30  in ' dumb || fail "TERM=dumb: $(cat dumb)"
note "the last words, and plain lines at a dumb terminal"
