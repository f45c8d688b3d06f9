# Shell code shared by tests/stages/*.sh. A script sets `bin` to the folder of the executables and sources this file:
#
#   bin=$1
#   source tests/support/stages.sh
#
# It gets an empty directory $work that is removed at the end, and the functions below. Any test that fails ends the
# script with a message.
set -euo pipefail
# shellcheck disable=SC2034 # used by the scripts
drover=$PWD/tools/drover
export DROVER_BIN=$bin
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
work=$(mktemp -d)
# Before a program that is to be stopped at some moment: on cores that are shared it must not be over before this shell sees the moment.
yielding=(nice -n 10)

stages_end() {
  local status=$?
  local job
  for job in $(jobs -p); do kill -9 -- "-$job" 2>/dev/null || kill -9 "$job" 2>/dev/null || true; done
  rm -rf "$work"
  exit "$status"
}
trap stages_end EXIT

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

note() {
  echo "ok: $*"
}

# pass COMMAND...: must succeed; standard output goes to $work/out, standard error to $work/log.
pass() {
  "$@" >"$work/out" 2>"$work/log" </dev/null || fail "exit code $? of: $*: $(tail -n 5 "$work/log")"
}

# expect TEXT COMMAND...: must succeed and print TEXT somewhere on standard output.
expect() {
  local text=$1
  shift
  pass "$@"
  [[ $(cat "$work/out") == *"$text"* ]] || fail "$*: expected '$text' in: $(cat "$work/out")"
}

# refuse CODE TEXT COMMAND...: must exit with CODE, say TEXT on standard error, and print nothing on standard output.
refuse() {
  local code=$1 text=$2 got=0
  shift 2
  "$@" >"$work/out" 2>"$work/log" </dev/null || got=$?
  [[ $got == "$code" ]] || fail "$*: exit code $got, expected $code: $(tail -n 5 "$work/log")"
  grep -qF -- "$text" "$work/log" || fail "$*: expected '$text' in: $(cat "$work/log")"
  [[ ! -s $work/out ]] || fail "$*: expected nothing on standard output, found: $(cat "$work/out")"
}

# only_last COMMAND...: the command in `arguments`, of --data.train, --data.eval and --data.prompts the last alone. A list that is given
# again is added to, and what a test changes in a command should stand in its place.
only_last() {
  local key i
  arguments=("$@")
  for key in --data.train --data.eval --data.prompts; do
    for ((i = ${#arguments[@]} - 1; i >= 0; i--)); do
      [[ ${arguments[i]} != "$key" ]] || break
    done
    for ((i--; i >= 0; i--)); do
      [[ ${arguments[i]} != "$key" ]] || arguments=("${arguments[@]:0:i}" "${arguments[@]:i+2}")
    done
  done
}

# same_files A B: both directories hold the same files with the same bytes.
same_files() {
  [[ -d $1 && -d $2 ]] || fail "$1 and $2: both expected to be directories"
  [[ -n $(ls -A "$1") ]] || fail "$1 is empty"
  diff -r "$1" "$2" >"$work/log" || fail "$1 and $2 differ: $(head -n 5 "$work/log")"
}

# differ A B: the weights in them are not the same (so that same_files means something).
differ() {
  ! cmp -s "$1" "$2" || fail "$1 and $2 are equal, expected them to differ"
}

# with_program MIB: so much memory, as an option's value, beside what a plan has for program and libraries (train/device.c).
with_program() {
  local program=32 threads=${OMP_NUM_THREADS:-$(nproc)}
  if [[ $(ldd "$bin/sft") == *libasan* ]]; then program=48; fi
  echo "$((program + (threads > 2 ? 5 * (threads - 2) / 2 : 0) + $1))MiB"
}

# metric RUN NAME [WHICH]: a metric of the run log; WHICH is first or last (default).
metric() {
  local order=desc
  [[ ${3:-last} == last ]] || order=asc
  sqlite3 "$1/run.db" "select value from metric where name = '$2' order by step $order limit 1"
}

# holds EXPRESSION: of numbers, as awk computes it.
holds() {
  awk "BEGIN { exit !($1) }" </dev/null || fail "expected: $1"
}

# Number of the newest checkpoint of a run, 0 without one.
checkpoint_step() {
  local name step newest=0
  for name in "$1"/checkpoints/step-*; do
    step=${name##*step-}
    if [[ $step =~ ^[0-9]+$ ]] && ((step > newest)); then newest=$step; fi
  done
  echo "$newest"
}

# reached RUN STEP: whether it has a checkpoint of that step or a later one. This and `pause` start no process: who waits for a moment
# with them is quick enough to see it.
reached() {
  local name step
  (($2 > 0)) || return 0
  for name in "$1"/checkpoints/step-*; do
    step=${name##*step-}
    if [[ $step =~ ^[0-9]+$ ]] && ((step >= $2)); then return 0; fi
  done
  return 1
}
exec {never}<> <(:)
pause() { read -rt 0.005 -u "$never" || true; }

# killed_and_resumed RUN STEPS COUNT COMMAND...: starts the command COUNT times and kills it with SIGKILL, each time
# somewhat later in its STEPS steps and at a random moment within a step; then lets it finish. RUN is its run directory;
# $run_seconds, set by `timed`, is the time that the command needs. The command is a program, not a shell function.
killed_and_resumed() {
  local run=$1 steps=$2 count=$3 i target job status killed resumed sooner
  shift 3
  # A run of few steps may end before the kill when the machine is quicker than it was, or this shell is late: then from the beginning, with
  # earlier kills, but for the first one still after a checkpoint.
  for sooner in 1 4 16 64; do
    killed=0 resumed=0
    for ((i = 0; i < count; i++)); do
      target=$((i ? (i * steps * 2 / (3 * count) + RANDOM % (steps / (3 * count) + 1) + sooner - 1) / sooner : 0))
      "${yielding[@]}" "$@" >"$work/out" 2>"$work/log" </dev/null &
      job=$!
      until reached "$run" "$target" || ! kill -0 $job 2>/dev/null; do pause; done
      sleep "$(awk -v r=$RANDOM -v s="$run_seconds" -v n="$((steps * sooner))" 'BEGIN { print 2 * s / n * r / 32768 }')"
      kill -9 $job 2>/dev/null || true
      status=0
      wait $job 2>/dev/null || status=$?
      if [[ $status == 137 ]]; then killed=$((killed + 1)); fi
      if grep -q 'going on from' "$work/log"; then resumed=1; fi
    done
    pass "$@"
    if grep -q 'going on from' "$work/log"; then resumed=1; fi
    if ((killed > 0 && resumed)); then break; fi
    rm -rf "$run"
  done
  ((killed > 0)) || fail "no kill came in time: $*"
  ((resumed)) || fail "nothing was resumed: $*"
}

# stopped SIGNAL CODE RUN COMMAND...: starts the command (a program, of which each run begins afresh in RUN) and sends it
# the signal once it has reported progress, not only what it is at: it must save, say in the run log that it was interrupted, and exit with CODE.
# On a busy machine the command may be over before the signal comes; then it is tried again.
stopped() {
  local signal=$1 code=$2 run=$3 job status attempt line said sent
  shift 3
  for attempt in 1 2 3 4 5; do
    rm -rf "$run"
    : >"$work/log"
    status=0 sent=''
    exec {said}< <(exec "${yielding[@]}" "$@" 2>&1 >"$work/out" </dev/null)
    job=$!
    while IFS= read -r line <&"$said"; do
      if [[ ! $sent && $line =~ ^(sft|reward|ppo|dpo|sample):\ ([^0]|0[^/]) ]]; then
        kill "-$signal" $job 2>/dev/null || true
        sent=1
      fi
      printf '%s\n' "$line" >>"$work/log"
    done
    exec {said}<&-
    wait $job || status=$?
    [[ $status == 0 ]] || break
    note "over before SIG$signal came (attempt $attempt)"
  done
  [[ $status == "$code" ]] || fail "SIG$signal: exit code $status, expected $code: $(tail -n 5 "$work/log")"
  (($(checkpoint_step "$run") > 0)) || fail "SIG$signal: nothing was saved"
  [[ $(sqlite3 "$run/run.db" 'select status from run') == interrupted ]] || fail "SIG$signal: status in the run log"
}

# timed COMMAND...: pass, and sets run_seconds.
run_seconds=0
timed() {
  local begin=$EPOCHREALTIME
  pass "$@"
  run_seconds=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
}

# nameless ADAPTER OUT: a copy of an adapter that does not say what it was trained over.
nameless() {
  rm -rf "$2"
  cp -r "$1" "$2"
  rm "$2/identity.json"
  jq '.base_model_name_or_path = null' "$1/adapter_config.json" >"$2/adapter_config.json"
}

# make_short WORLD DIRECTORY POSITIONS: a tiny model for sequences of at most POSITIONS tokens, which it has a table of.
make_short() {
  echo "{\"model_type\": \"gpt2\", \"n_embd\": 32, \"n_layer\": 1, \"n_head\": 2, \"n_positions\": $3}" >"$2.json"
  pass "$bin/init" --config "$2.json" --tokenizer "$1/tokenizer" --out "$2"
}

# make_ranking PAIRS FILE: three answers to each prompt of a file of pairs, of which every fifth prompt has two of equal rank.
make_ranking() {
  jq -c '{prompt, responses: [.rejected, .chosen, "perhaps \(.prompt[:3])"], scores: [0, 2, (if input_line_number % 5 == 0 then 0 else 1 end)]}' \
    "$1" >"$2"
}

# page_example PAGE NAME: makes the file NAME in $work of the example of the page, the indented lines behind the line that ends with
# `NAME`: up to a command of drover.
page_example() {
  awk -v mark="\`$2\`:" 'substr($0, length($0) - length(mark) + 1) == mark { on = 1; next } on && /^    / { begun = 1; print substr($0, 5); next }
    on && /^$/ { if (begun) print ""; next } on { exit }' "$1" | sed '/^drover /,$d' >"$work/$2"
  [[ -s $work/$2 ]] || fail "$2 is not in $1"
}

# make_world DIRECTORY: a tokenizer and a tiny model (base/), and data of a little language: sft.jsonl, prefs.jsonl,
# prefs_eval.jsonl, prompts.jsonl, text.jsonl. An answer is the better one when it says yes and not no, wherever in it.
# Everything is a function of nothing but this code.
make_world() {
  local world=$1
  mkdir -p "$world"
  awk -v world="$world" 'BEGIN {
    split("red blue green white black", colours, " ")
    split("door lamp kettle chair roof gate cup", things, " ")
    for (i = 0; i < 105; i++) {
      a = colours[i % 5 + 1]; b = colours[int(i * i / 3) % 5 + 1]; c = colours[int(i / 4) % 5 + 1]
      thing = things[i % 7 + 1]
      place = i % 3
      good = place == 0 ? "yes " a " " b : place == 1 ? a " yes " b : b " " a " yes"
      bad = place == 1 ? "no " c " " b : place == 2 ? c " no " a : b " " c " no"
      prompt = sprintf("%s %s?", a, thing)
      if (i < 70) {
        printf "{\"prompt\":\"%s\",\"completion\":\"%s\"}\n", prompt, i % 2 ? good : bad >(world "/sft.jsonl")
        printf "{\"prompt\":\"%s\"}\n", prompt >(world "/prompts.jsonl")
        printf "{\"text\":\"%s %s. %s.\"}\n", prompt, good, bad >(world "/text.jsonl")
      }
      printf "{\"prompt\":\"%s\",\"chosen\":\"%s\",\"rejected\":\"%s\"}\n", prompt, good, bad >(world "/" \
        (i % 11 < 9 ? "prefs.jsonl" : "prefs_eval.jsonl"))
    }
  }'
  cat >"$world/model.json" <<'END'
{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
 "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
 "tie_word_embeddings": true}
END
  pass "$bin/train_tokenizer" --text "$world/text.jsonl" --out "$world/tokenizer" --vocab 300
  pass "$bin/init" --config "$world/model.json" --tokenizer "$world/tokenizer" --out "$world/base" --seed 7
}
