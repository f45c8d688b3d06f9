#!/usr/bin/env bash
# drover launch: several ranks of this machine by one command, with one answer. $1: the folder of the programs.
bin=$1
source tests/support/stages.sh
unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT OMP_NUM_THREADS
launch=("$bin/launch")
cores=$(nproc)

# ended CODE TEXT COMMAND...: exit code, and one line with "error: ", which has TEXT; with TEXT empty none.
ended() {
  local code=$1 text=$2 got=0
  shift 2
  timeout 60 "$@" >"$work/out" 2>"$work/log" || got=$?
  [[ $got == "$code" ]] || fail "$*: exit code $got, expected $code: $(cat "$work/log")"
  [[ $(grep 'error: ' "$work/log") == *"$text"* && $(grep -c 'error: ' "$work/log") == "$([[ $text ]] && echo 1 || echo 0)" ]] ||
    fail "$*: expected one error '$text' in: $(cat "$work/log")"
}

# --- what the ranks get
# shellcheck disable=SC2016 # for the ranks
pass "${launch[@]}" -n 3 /bin/sh -c 'echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $OMP_NUM_THREADS"; test -n "$MASTER_PORT"; read line || echo nothing'
[[ $(grep -c nothing "$work/out") == 3 ]] || fail "standard input: $(cat "$work/out")"
threads=$((cores / 3 > 0 ? cores / 3 : 1))
[[ $(grep -v nothing "$work/out" | sort) == "0 0 3 127.0.0.1 $threads
1 1 3 127.0.0.1 $threads
2 2 3 127.0.0.1 $threads" ]] || fail "variables: $(cat "$work/out")"
OMP_NUM_THREADS=5 pass "${launch[@]}" -n 1 /bin/sh -c 'echo $OMP_NUM_THREADS'
[[ $(cat "$work/out") == 5 ]] || fail "OMP_NUM_THREADS was not left alone"
note 'each rank has its variables, and its share of the cores as threads'
if ((cores > 1)); then
  # shellcheck disable=SC2016
  pass "${launch[@]}" -n 2 /bin/sh -c 'grep Cpus_allowed_list /proc/$$/status'
  [[ $(sort "$work/out" | uniq | grep -c .) == 2 ]] || fail "two ranks on the same cores: $(cat "$work/out")"
  # shellcheck disable=SC2016
  pass "${launch[@]}" -n 2 --no-bind /bin/sh -c 'grep Cpus_allowed_list /proc/$$/status'
  [[ $(sort "$work/out" | uniq | grep -c .) == 1 ]] || fail "--no-bind: $(cat "$work/out")"
  note 'each has cores of its own'
fi
pass "${launch[@]}" -n $((cores + 1)) /bin/true
grep -q "warning: $((cores + 1)) ranks on $cores core" "$work/log" || fail "more ranks than cores: $(cat "$work/log")"
pass "${launch[@]}" -n 2 --dry-run /bin/sh -c "echo it\\'s"
grep -qF "LOCAL_RANK=1" "$work/out" || fail "--dry-run: $(cat "$work/out")"
[[ $(bash "$work/out") == "it's
it's" ]] || fail "what --dry-run prints does not run: $(cat "$work/out")"
(cd / && expect 'usage: drover launch -n N' "$drover" launch --help)
pass "$drover" launch -n 2 sft --version
[[ $(cat "$work/out") == "$("$bin/sft" --version)" ]] || fail "said more than once: $(cat "$work/out")"
note 'more ranks than cores, --dry-run, --help, from any folder'

refuse 2 '-n is missing' "${launch[@]}" sft
refuse 2 "expected a number of ranks from 1 to 4096, found '0'" "${launch[@]}" -n 0 sft
refuse 2 'no stage is named' "${launch[@]}" -n 2
refuse 2 "no program 'soft' in " "${launch[@]}" -n 2 soft
refuse 2 "unknown option '--binding' before the stage" "${launch[@]}" -n 2 --binding sft
refuse 2 'launch runs on one rank, but mpirun asks for 2' env OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 "${launch[@]}" -n 2 sft
refuse 2 "drover run PIPELINE --launcher 'drover launch -n 3'" "${launch[@]}" -n 3 run pipeline.json
note 'what is no request is refused'

# --- how they end
ended 2 'model.paht' "${launch[@]}" -n 2 sft --model.paht x
ended 6 'there is no directory none' "${launch[@]}" -n 3 sft --model.path none --data.train none --run.dir "$work/absent"
ended 2 'merge runs on one rank, but the environment asks for 2' "${launch[@]}" -n 2 merge --model none --adapter none --out none
# shellcheck disable=SC2016
ended 137 'rank 1 was ended by signal 9 (Killed), and all ranks with it' "${launch[@]}" -n 3 /bin/sh -c 'test $RANK = 1 && kill -9 $$; exec sleep 100'
note 'an error is said once and its code is that of the whole, also when a rank is killed'

make_world "$work/world"
world=$work/world
train=(sft --model.path "$world/base" --data.train "$world/sft.jsonl" --data.template chatml --data.max_length 96
  --optim.batch_size 6 --optim.lr 3e-3 --optim.max_steps 150 --run.save_every 5 --device.threads 1)
pass "${launch[@]}" -n 2 "${train[@]}" --run.dir "$work/whole"
[[ $(grep -c '150 updates in' "$work/out") == 1 ]] || fail "one result: $(cat "$work/out")"

# Ranks that are started by commands of their own may not have the same in mind.
# shellcheck disable=SC2016
ended 2 'rank 1 on '"$(hostname)"': optim.lr is 0.002 here and 0.001 on rank 0: all ranks need the same command' \
  "${launch[@]}" -n 2 /bin/sh -c 'exec "$@" --optim.lr 0.00$((RANK + 1))' sh "$bin/sft" "${train[@]:1}" --run.dir "$work/other"
# shellcheck disable=SC2016
pass "${launch[@]}" -n 2 /bin/sh -c 'exec "$@" --device.threads $((RANK + 1))' sh "$bin/sft" "${train[@]:1}" --run.dir "$work/other" --check
if grep -q avx512vl /proc/cpuinfo; then
  # shellcheck disable=SC2016
  ended 2 'this rank computes on cpu (avx2' "${launch[@]}" -n 2 /bin/sh -c 'test $RANK = 1 && export DROVER_CPU=avx2; exec "$@"' sh \
    "$bin/sft" "${train[@]:1}" --run.dir "$work/other"
fi
note 'ranks with other options, or other code, are refused; threads are their own affair'

# stopped_by TARGET SIGNAL CODE: the signal once there is a checkpoint; then the same command goes on to the same bits.
stopped_by() {
  local target=$1 signal=$2 code=$3 run=$work/$1-$2 job status attempt
  for attempt in 1 2 3 4 5; do
    rm -rf "$run"
    status=0
    "${yielding[@]}" setsid "${launch[@]}" -n 2 "${train[@]}" --run.dir "$run" >"$work/out" 2>"$work/log" </dev/null &
    job=$!
    until reached "$run" 10 || ! kill -0 $job 2>/dev/null; do pause; done
    if [[ $target == group ]]; then kill "-$signal" -- "-$job"; else kill "-$signal" "$job"; fi 2>/dev/null || true
    wait $job || status=$?
    [[ $status == 0 ]] || break
  done
  [[ $status == "$code" ]] || fail "SIG$signal: exit code $status, expected $code: $(tail -n 5 "$work/log")"
  [[ $(grep -c 'error: interrupted' "$work/log") == 1 && $(grep -c 'waiting for the update at hand' "$work/log") == 1 ]] ||
    fail "SIG$signal is said once: $(cat "$work/log")"
  [[ $(sqlite3 "$run/run.db" 'select status from run') == interrupted ]] || fail "SIG$signal: status in the run log"
  pass "${launch[@]}" -n 2 "${train[@]}" --run.dir "$run"
  grep -q 'going on from' "$work/log" || fail "SIG$signal: nothing was resumed"
  same_files "$work/whole/model" "$run/model"
}
stopped_by launch TERM 143
stopped_by launch USR1 138
stopped_by group INT 130 # who has the signal from both sides has one signal
note 'a signal lets all save once; the same command goes on to the same bits'

# launch is killed: its ranks save and end, long before they are through.
setsid "${launch[@]}" -n 2 "${train[@]}" --optim.max_steps 1000000 --run.dir "$work/orphans" >"$work/out" 2>"$work/log" </dev/null &
job=$!
while (($(checkpoint_step "$work/orphans") < 10)) && kill -0 $job 2>/dev/null; do sleep 0.005; done
kill -KILL $job
wait $job 2>/dev/null || true
for ((i = 0; i < 200; i++)); do
  ranks=$(grep -lz "^$work/orphans$" /proc/[0-9]*/cmdline 2>/dev/null || true)
  [[ $ranks ]] || break
  sleep 0.1
done
[[ ! $ranks ]] || { kill -KILL ${ranks//[!0-9 ]/ } && fail 'ranks outlive their launcher'; }
note 'ranks do not outlive it'

if command -v mpirun >/dev/null && [[ $(ldd "$bin/sft") == *libmpi* ]]; then
  export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 # Open MPI's own
  pass "${launch[@]}" -n 2 --mpirun "${train[@]}" --run.dir "$work/mpi"
  same_files "$work/whole/model" "$work/mpi/model"
  expect 'mpirun --oversubscribe --bind-to none -n 2 ' "${launch[@]}" -n 2 --mpirun --dry-run sft
  note 'by mpirun the bits are the same'
fi
