# Shell code shared by tests/stages/ranks*.sh, beside stages.sh: programs on many ranks of this machine, and how far two runs
# are apart. Skips the test where there is no MPI.
source tests/support/stages.sh
command -v mpirun >/dev/null || exit 77
[[ $(ldd "$bin/sft") == *libmpi* ]] || exit 77 # a build without MPI
unset OMP_NUM_THREADS

# base_of WORLD FILTER OUT: a fresh base of its language, whose config.json jq changes so.
base_of() {
  jq "$2" "$1/model.json" >"$work/config.json"
  pass "$bin/init" --config "$work/config.json" --tokenizer "$1/tokenizer" --out "$3" --seed 7
}
# count_of MODEL REGEX: numbers of the tensors of a safetensors file whose names match.
count_of() {
  local header
  header=$(od -An -N8 -td8 "$1")
  head -c $((8 + header)) "$1" | tail -c "$((header))" | jq --arg names "$2" '[del(.__metadata__) | to_entries[] |
    select(.key | test($names)) | reduce .value.shape[] as $n (1; . * $n)] | add // 0'
}
# sent RUN STEP: what rank 0 sent for that update.
sent() {
  sqlite3 "$1/run.db" "select cast(value as integer) from metric where name = 'train/sent_bytes' and step = $2"
}
# sends NAME BYTES THEORY: as near as slices, which are cut at multiples of 256 elements, and sums of losses allow.
sends() {
  holds "($2 - ($3)) ^ 2 <= (0.01 * ($3) + 1000) ^ 2" || fail "$1: $2 bytes sent, by the table $3"
}
# on N COMMAND...: on N ranks.
on() {
  bash tests/ranks/mpirun.sh "$@"
}

# Metrics of a run but those that depend on time or on the ranks, in one order: NAME STEP VALUE.
metrics() {
  sqlite3 -separator ' ' "$1/run.db" "select name, step, value from metric where name not like '%per_second' and name <> 'train/sent_bytes' order by name, step"
}
# near FILE FILE RELATIVE [LEAST]: the same names, and numbers that differ by no more; what is smaller than LEAST (1e-3) counts as
# that large.
near() {
  paste -d ' ' "$1" "$2" | awk -v most="$3" -v least="${4:-1e-3}" '
    function size(x) { return x < 0 ? -x : x }
    $1 != $4 || $2 != $5 || size($3 - $6) > most * (size($3) > least ? size($3) : least) { print; bad = 1 }
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

# signalled SIGNAL RUN STEP RANKS RANK COMMAND...: starts the command on so many ranks and sends one of them the signal once there is
# a checkpoint of STEP, and `later` seconds after that; sets `status`. RUN is its run directory. When the run is over before, it is tried again.
signalled() {
  local signal=$1 run=$2 step=$3 ranks=$4 rank=$5 job pid attempt
  shift 5
  for attempt in 1 2 3 4 5; do
    rm -rf "$run"
    status=0
    "${yielding[@]}" bash tests/ranks/mpirun.sh "$ranks" "$@" --run.dir "$run" >"$work/out" 2>"$work/log" </dev/null &
    job=$!
    until reached "$run" "$step" || ! kill -0 $job 2>/dev/null; do pause; done
    sleep "${later:-0}"
    for pid in $(cat "/proc/$job/task/$job/children" 2>/dev/null); do
      if grep -zqx "OMPI_COMM_WORLD_RANK=$rank" "/proc/$pid/environ" 2>/dev/null; then kill "-$signal" "$pid" || true; fi
    done
    wait $job || status=$?
    [[ -e $run/done.json ]] || return 0
  done
  fail "SIG$signal came too late"
}

# said_once CODE TEXT COMMAND...: ends with CODE, and says TEXT once.
said_once() {
  local code=$1 text=$2 got=0
  shift 2
  on 2 "$@" >"$work/out" 2>"$work/log" || got=$?
  [[ $got == "$code" ]] || fail "$*: exit code $got, expected $code: $(cat "$work/log")"
  [[ $(tr -d '\0' <"$work/log" | cat - "$work/out" | grep -cF -- "$text") == 1 ]] || fail "$*: expected '$text' once in: $(cat "$work/log" "$work/out")"
}
