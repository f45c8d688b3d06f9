#!/usr/bin/env bash
# Data-parallel sft, reward and dpo: many ranks learn what one learns, end together, and go on. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
command -v mpirun >/dev/null || exit 77
[[ $(ldd "$bin/sft") == *libmpi* ]] || exit 77 # a build without MPI
unset OMP_NUM_THREADS
make_world "$work/world"
world=$work/world

on() { # on N COMMAND...
  bash tests/ranks/mpirun.sh "$@"
}
sft=("$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --data.eval "$world/eval.jsonl"
  --data.template chatml --data.max_length 96 --optim.batch_size 6 --optim.micro_batch_tokens 150 --optim.lr 3e-3
  --optim.max_steps 20 --run.eval_every 10 --device.threads 1 --json)
reward=("$bin/reward" --model.path "$world/base" --data.train "$world/ranked.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.reference "$world/sft.jsonl" --optim.lr 3e-4 --optim.batch_size 7 --optim.max_steps 20 --run.eval_every 10
  --device.threads 1 --json)
dpo=("$bin/dpo" --model.path "$world/base" --data.train "$world/ranked.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.template chatml --optim.lr 3e-4 --optim.batch_size 7 --optim.max_steps 20 --run.eval_every 10 --device.threads 1 --json)
head -n 9 "$world/sft.jsonl" >"$world/eval.jsonl"
make_ranking "$world/prefs.jsonl" "$world/ranked.jsonl"

# Metrics of a run but those that depend on time, in one order: NAME STEP VALUE.
metrics() {
  sqlite3 -separator ' ' "$1/run.db" "select name, step, value from metric where name not like '%per_second' order by name, step"
}
# near FILE FILE RELATIVE: the same names, and numbers that differ by no more.
near() {
  paste -d ' ' "$1" "$2" | awk -v most="$3" '
    function size(x) { return x < 0 ? -x : x }
    $1 != $4 || $2 != $5 || size($3 - $6) > most * (size($3) > 1e-3 ? size($3) : 1e-3) { print; bad = 1 }
    END { exit bad || NR == 0 }' >"$work/far" || fail "$1 and $2 differ: $(head -n 5 "$work/far")"
}
# The F32 numbers of a safetensors file.
numbers() {
  tail -c +$((9 + $(od -An -N8 -td8 "$1"))) "$1" | od -An -v -w4 -tf4
}
close_weights() { # close_weights A B MOST
  paste <(numbers "$1") <(numbers "$2") | awk -v most="$3" '
    { d = $1 - $2; if (d < 0) d = -d; if (d > far) far = d }
    END { if (far > most || NR == 0) { print far; exit 1 } }' >"$work/far" || fail "$1 and $2: $(cat "$work/far") apart"
}

compare() { # compare NAME FILE COMMAND...: on 1, 2 and 4 ranks
  local name=$1 file=$2 n
  shift 2
  for n in 1 2 4; do
    pass on $n "$@" --run.dir "$work/$name-$n"
    [[ $(grep -c '"steps": 20' "$work/out") == 1 ]] || fail "$name on $n ranks: one result: $(cat "$work/out")"
    metrics "$work/$name-$n" >"$work/$name-$n.metrics"
    [[ $(grep -c '^train/loss ' "$work/$name-$n.metrics") == 20 ]] || fail "$name on $n ranks: updates in the run log"
  done
  for n in 2 4; do
    grep '^train/loss' "$work/$name-1.metrics" >"$work/a"
    grep '^train/loss' "$work/$name-$n.metrics" >"$work/b"
    near "$work/a" "$work/b" 1e-6
    near "$work/$name-1.metrics" "$work/$name-$n.metrics" 1e-4
    close_weights "$work/$name-1/$file" "$work/$name-$n/$file" 1e-4
  done
  note "$name on 2 and 4 ranks is that on one"
}
compare sft model/model.safetensors "${sft[@]}"
compare sft-lora adapter/adapter_model.safetensors "${sft[@]}" --lora.enabled --lora.dropout 0.1
compare reward model/model.safetensors "${reward[@]}"
compare reward-lora adapter/adapter_model.safetensors "${reward[@]}" --lora.enabled --lora.dropout 0.1
compare dpo model/model.safetensors "${dpo[@]}"
compare dpo-lora adapter/adapter_model.safetensors "${dpo[@]}" --lora.enabled --lora.dropout 0.1

long=("${sft[@]}" --optim.max_steps 150 --run.save_every 5 --lora.enabled --lora.dropout 0.1)
pass on 2 "${long[@]}" --run.dir "$work/whole"

# signalled SIGNAL RUN ARGUMENTS...: starts the run on 2 ranks and sends rank 1 the signal once there is a checkpoint; sets `status`.
signalled() {
  local signal=$1 run=$2 job pid attempt
  shift 2
  for attempt in 1 2 3 4 5; do
    rm -rf "$run"
    status=0
    bash tests/ranks/mpirun.sh 2 "${long[@]}" --run.dir "$run" "$@" >"$work/out" 2>"$work/log" </dev/null &
    job=$!
    while (($(checkpoint_step "$run") < 10)) && kill -0 $job 2>/dev/null; do sleep 0.005; done
    for pid in $(cat "/proc/$job/task/$job/children" 2>/dev/null); do
      if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx OMPI_COMM_WORLD_RANK=1; then kill "-$signal" "$pid" || true; fi
    done
    wait $job || status=$?
    [[ $status == 0 ]] || break
  done
  [[ ! -e $run/done.json ]] || fail "SIG$signal came too late"
}

signalled KILL "$work/killed"
[[ $status == 137 ]] || fail "a killed rank: exit code $status: $(tail -n 5 "$work/log")"
cp -r "$work/killed" "$work/killed-4"
pass on 2 "${long[@]}" --run.dir "$work/killed"
grep -q 'going on from' "$work/log" || fail "nothing was resumed"
same_files "$work/whole/adapter" "$work/killed/adapter"
cmp <(metrics "$work/whole") <(metrics "$work/killed") || fail "the run logs differ"
note "a rank that is killed ends all, and the same number of ranks goes on with the same bits"
pass on 4 "${long[@]}" --run.dir "$work/killed-4"
metrics "$work/whole" | grep '^train/loss' >"$work/a"
metrics "$work/killed-4" | grep '^train/loss' >"$work/b"
near "$work/a" "$work/b" 1e-4
note "and another number within rounding"

# Any signal to any rank: all save once and end.
preempted() { # preempted SIGNAL CODE
  local run=$work/$1
  signalled "$1" "$run" --run.save_every 10
  [[ $status == "$2" ]] || fail "SIG$1 to a rank: exit code $status: $(tail -n 5 "$work/log")"
  [[ $(sqlite3 "$run/run.db" 'select status from run') == interrupted ]] || fail "SIG$1: status in the run log"
  (($(checkpoint_step "$run") > 10)) || fail "SIG$1: nothing was saved"
  [[ $(grep -ac "error: interrupted by SIG$1" "$work/log") == 1 ]] || fail "SIG$1: said once in: $(cat "$work/log")"
  pass on 2 "${long[@]}" --run.dir "$run"
  same_files "$work/whole/adapter" "$run/adapter"
}
preempted TERM 143
preempted USR1 138
note "SIGTERM or SIGUSR1 to one rank: all save once and end"

signalled STOP "$work/stopped" --device.rank_timeout 2
[[ $status == 7 ]] || fail "a rank that hangs: exit code $status: $(tail -n 5 "$work/log")"
tr -d '\0' <"$work/log" | grep -q 'for 2 s from rank 1 on ' || fail "no word of who hangs: $(cat "$work/log")"
note "a rank that hangs is named after device.rank_timeout"

# said_once CODE TEXT COMMAND...: ends with CODE, and says TEXT once.
said_once() {
  local code=$1 text=$2 got=0
  shift 2
  on 2 "$@" >"$work/out" 2>"$work/log" || got=$?
  [[ $got == "$code" ]] || fail "$*: exit code $got, expected $code: $(cat "$work/log")"
  [[ $(tr -d '\0' <"$work/log" | cat - "$work/out" | grep -cF -- "$text") == 1 ]] || fail "$*: expected '$text' once in: $(cat "$work/log" "$work/out")"
}
cp "$work/whole/done.json" "$work/done"
said_once 0 '"steps": 150' "${long[@]}" --run.dir "$work/whole"
cmp "$work/done" "$work/whole/done.json" || fail "a finished run was written again"
said_once 0 '"ok": true' "${sft[@]}" --run.dir "$work/checked" --check
[[ ! -e $work/checked/run.db ]] || fail "--check wrote a run"
said_once 0 'usage: drover sft' "$bin/sft" --help
said_once 0 '"batch_size"' "${sft[@]}" --run.dir "$work/printed" --print-config
said_once 6 'absent.jsonl' "${sft[@]}" --run.dir "$work/absent" --data.train "$work/absent.jsonl"
said_once 2 'device.backend cuda has one rank, and there are 2' "${sft[@]}" --run.dir "$work/cuda" --device.backend cuda
said_once 2 'data.train: - is a pipe, which only one of the 2 ranks could read' "${sft[@]}" --run.dir "$work/pipe" --data.train -
said_once 2 'ppo runs on one rank, but mpirun asks for 2' "$bin/ppo" --config none.json
note "results and errors are said once"

# Each of two ranks may take half of what is free, and the plan has room for MPI.
pass on 1 "${sft[@]}" --run.dir "$work/plan" --check
one=$(awk '/program and libraries/ { print $(NF - 1) }' "$work/log")
pass on 2 "${sft[@]}" --run.dir "$work/plan" --check
two=$(awk '/program and libraries/ { print $(NF - 1) }' "$work/log")
holds "$two - $one == 9"
note "the plan counts MPI"
