#!/usr/bin/env bash
# Of each stage, full and LoRA, on each level of device.shard, a random rank is killed at random moments of its life, on two and on
# four ranks of one thread, under each launcher in turn. All have to end within device.rank_timeout and say who it was; the same command
# goes on, in the end to the bits of a run that was left alone, and on another number of ranks to its losses within rounding.
#
#   tests/ranks/kills.sh FOLDER-OF-PROGRAMS [KILLS [PATTERN]]
#
# KILLS of each (5), on each of the two numbers of ranks; of those whose name ("ppo lora weights") fits PATTERN. One line for each. All of
# it takes half an hour on two cores and is run on demand; the tests have one kill of one of them on each number.
bin=$1 kills=${2:-5} pattern=${3:-.}
source tests/support/ranks.sh
timeout=20
make_world "$work/world"
world=$work/world
# Blocks that take turns in two slots.
base_of "$world" '.num_hidden_layers = 3' "$work/base"
pass "$bin/reward" --model.path "$work/base" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" --optim.batch_size 8 \
  --optim.max_steps 4 --optim.lr 1e-3 --lora.enabled
head -n 5 "$world/sft.jsonl" >"$world/few.jsonl"
head -n 4 "$world/prompts.jsonl" >"$world/prompts_eval.jsonl"

common=(--device.threads 1 --device.rank_timeout $timeout)
sft=("$bin/sft" --model.path "$work/base" --data.train "$world/sft.jsonl" --data.eval "$world/few.jsonl" --run.eval_every 5
  --data.template chatml --data.max_length 96 --optim.batch_size 6 --optim.micro_batch_tokens 110 --optim.lr 1e-3
  --optim.max_steps 12 --run.save_every 1 "${common[@]}")
reward=("$bin/reward" --model.path "$work/base" --data.train "$world/prefs.jsonl" --data.eval "$world/prefs_eval.jsonl" --run.eval_every 5
  --optim.batch_size 6 --optim.micro_batch_tokens 110 --optim.lr 3e-4 --optim.max_steps 12 --run.save_every 1 "${common[@]}")
ppo=("$bin/ppo" --model.path "$work/base" --reward.path "$work/base" --reward.adapter "$work/rm/adapter" --data.template chatml
  --data.prompts "$world/prompts.jsonl" --data.eval "$world/prompts_eval.jsonl" --run.eval_every 3 --ppo.samples_logged 1000
  --ppo.total_episodes 48 --ppo.batch_size 8 --ppo.minibatches 2 --ppo.epochs 1 --ppo.ema 0.9 --rollout.max_new_tokens 6 --rollout.temperature 1
  --optim.lr 1e-4 --optim.micro_batch_tokens 64 --run.save_every 1 "${common[@]}")

samples() { # samples RUN: the answers of ppo; of the others nothing
  sqlite3 "$1/run.db" 'select step, prompt, response, length, finished, prompt_ids, response_ids from sample order by rowid'
}
same_run() {
  local part
  for part in model adapter ema/model ema/adapter; do
    if [[ -d $1/$part ]]; then same_files "$1/$part" "$2/$part"; fi
  done
  cmp <(metrics "$1") <(metrics "$2") || fail "$1 and $2: other metrics"
  cmp <(samples "$1") <(samples "$2") || fail "$1 and $2: other answers"
}
losses() { metrics "$1" | grep -E '^(train/loss|ppo/value_loss|eval/loss) '; }

# begin LAUNCHER RANKS COMMAND...: in the background, with the exit code of rank 0 or of the launcher in $work/code.
begin() {
  local launcher=$1 ranks=$2 rank
  shift 2
  rm -f "$work/code"
  port=$((20000 + RANDOM % 9000))
  {
    code=0
    case $launcher in
      launch) "$bin/launch" -n "$ranks" "$@" || code=$? ;;
      mpirun) bash tests/ranks/mpirun.sh "$ranks" "$@" || code=$? ;;
      variables)
        tasks=()
        for ((rank = 0; rank < ranks; rank++)); do
          RANK=$rank WORLD_SIZE=$ranks MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$@" &
          tasks+=($!)
        done
        for rank in "${!tasks[@]}"; do wait "${tasks[rank]}" || code=$?; done
        ;;
    esac
    echo $code >"$work/code"
  } >"$work/out" 2>"$work/log" </dev/null &
  job=$!
}
processes() { # of the run, without those that started them
  local place
  for place in $(grep -lzx -- "$run" /proc/[0-9]*/cmdline 2>/dev/null); do
    if [[ ${place%/*}/exe -ef $program ]]; then echo "${place//[!0-9]/}"; fi
  done
}
of_rank() { # of_rank RANK: its process, once it is there; nothing when the run is over
  local process
  while kill -0 $job 2>/dev/null; do
    sleep 0.02
    for process in $(processes); do
      if grep -zqE "^(OMPI_COMM_WORLD_RANK|RANK)=$1\$" "/proc/$process/environ" 2>/dev/null; then
        echo "$process"
        return
      fi
    done
  done
}
now() { date +%s.%N; }

# Starts the command, kills a rank of it at a moment of the first `most` seconds, and looks at how it ends; sets `ended` to killed or to through.
launchers=(launch variables launch variables mpirun)
kill_one() { # kill_one RANKS COMMAND...
  local ranks=$1 launcher=${launchers[$((tried++ % 5))]} rank=$((RANDOM % $1)) victim begun took said
  shift
  begin $launcher "$ranks" "$@" --run.dir "$run"
  victim=$(of_rank $rank)
  sleep "$(awk -v r=$RANDOM -v s="$most" 'BEGIN { print s * r / 32768 }')"
  ended=through
  if [[ $victim ]] && kill -KILL "$victim" 2>/dev/null; then ended=killed; fi
  begun=$(now)
  wait $job || true
  took=$(awk -v a="$begun" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }')
  [[ ! $(processes) ]] || fail "$name: ranks are left after rank $rank of $ranks under $launcher was killed"
  if [[ $ended == through ]]; then
    [[ $(cat "$work/code") == 0 ]] || fail "$name under $launcher: exit code $(cat "$work/code"): $(cat "$work/log")"
  fi
  # Its work may have been done already, and the process was only going.
  if [[ $ended == through || -e $run/done.json ]]; then
    ended=through
    return
  fi
  awk -v took="$took" -v most=$((timeout + 30)) 'BEGIN { exit !(took < most) }' ||
    fail "$name: rank $rank of $ranks under $launcher killed: the last ended $took s later: $(cat "$work/log")"
  slowest=$(awk -v a="$slowest" -v b="$took" 'BEGIN { print (a > b ? a : b) }')
  case $launcher in
    launch) said="rank $rank was ended by signal 9" ;;
    mpirun) said="rank $rank with PID [0-9]+ on node [^ ]+ exited +on signal 9" ;;
    variables) said="rank $rank on [^ ]+ is lost|met rank $rank at|missing:( [0-9]+,)* $rank(,|\$)" ;;
  esac
  said=$(tr '\0\n' '  ' <"$work/log" | grep -oE "$said" | wc -l)
  ((said >= 1)) || fail "$name: rank $rank of $ranks under $launcher killed, and no word of it: $(cat "$work/log")"
  [[ $launcher != launch || $(grep -c 'error: ' "$work/log") == 1 ]] ||
    fail "$name: rank $rank of $ranks under $launcher killed, and other ranks complain: $(cat "$work/log")"
  killed=$((killed + 1))
  by[$launcher]=$((${by[$launcher]:-0} + 1))
  if (($(checkpoint_step "$run") == 0)); then early=$((early + 1)); fi
}

combination() { # combination COMMAND...
  local ranks other killed slowest=0 whole early=0 done_runs=0 far=0 total=0
  local -A by=()
  program=$1
  for ranks in 2 4; do
    other=$((6 - ranks)) whole=$work/whole-$ranks run=$work/run
    rm -rf "$whole" "$run" "$work/other"
    timed "$bin/launch" -n "$ranks" "$@" --run.dir "$whole"
    most=$run_seconds killed=0
    while ((killed < kills)); do
      kill_one $ranks "$@"
      if [[ $ended == through ]]; then
        same_run "$whole" "$run"
        done_runs=$((done_runs + 1))
        rm -rf "$run"
      fi
    done
    total=$((total + killed))
    rm -rf "$work/other"
    if [[ -d $run ]]; then cp -r "$run" "$work/other"; fi
    pass "$bin/launch" -n "$ranks" "$@" --run.dir "$run"
    same_run "$whole" "$run"
    done_runs=$((done_runs + 1))
    pass "$bin/launch" -n $other "$@" --run.dir "$work/other"
    far=$(paste -d ' ' <(losses "$whole") <(losses "$work/other") | awk -v far="$far" '
      function size(x) { return x < 0 ? -x : x }
      { d = size($3 - $6) / (size($3) > 0.1 ? size($3) : 0.1); if ($1 != $4 || $2 != $5) d = 1e9; if (d > far) far = d }
      END { if (NR < 6) far = 1e9; printf "%.2g", far }')
    awk -v far="$far" 'BEGIN { exit !(far < 1e-4) }' || fail "$name: resumed on $other ranks instead of $ranks: losses are $far apart"
  done
  echo "$name: $total killed (launch ${by[launch]:-0}, variables ${by[variables]:-0}, mpirun ${by[mpirun]:-0}; $early before a checkpoint), the last rank ended after at most $slowest s; $done_runs runs with the bits of one left alone; on another number of ranks losses within $far"
}

tried=0
for stage in sft reward ppo; do
  for method in full lora; do
    for level in none optimizer gradients weights; do
      name="$stage $method $level"
      [[ $name =~ $pattern ]] || continue
      declare -n command=$stage
      extra=()
      [[ $method == full ]] || extra=(--lora.enabled --lora.dropout 0.1)
      combination "${command[@]}" --device.shard $level "${extra[@]}"
    done
  done
done
