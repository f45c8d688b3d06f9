#!/usr/bin/env bash
# What ends a run of many ranks: one that hangs, dies, fails or goes another way. Whoever waits for it must not wait for
# ever, and the message must say which rank it was.
#
#   tests/ranks/faults.sh FOLDER-OF-PROGRAMS COLLECTIVES
bin=$1 collectives=$2
source tests/support/stages.sh
command -v mpirun >/dev/null || exit 77
host=$(hostname)

# ends CODE TEXT N COMMAND...: on N ranks; must exit with CODE and say one error, which has TEXT, or with TEXT empty none. What mpirun
# says may stand on the same line.
ends() {
  local code=$1 text=$2 got=0 said
  shift 2
  timeout 60 bash tests/ranks/mpirun.sh "$@" >"$work/out" 2>"$work/log" || got=$?
  [[ $got == "$code" ]] || fail "$*: exit code $got, expected $code: $(cat "$work/log")"
  said=$(tr -d '\0' <"$work/log" | grep 'error: ' || true)
  [[ $said == *"$text"* && $(grep -c . <<<"$said") == "$([[ $text ]] && echo 1 || echo 0)" ]] ||
    fail "$*: expected one error '$text' in: $(cat "$work/log")"
}

ends 7 "for 4 s from rank 1 on $host, which is dead, cut off, hangs or went another way" 2 "$collectives" hangs 1
note 'a rank that hangs is named by the one that waits'
ends 7 "for 4 s from rank 2 on $host, which" 4 "$collectives" hangs 2
note 'and among four only it is'
ends 7 "on $host: heard nothing in collective 4 (all-reduce) for 4 s from rank 0 on $host, which" 2 "$collectives" hangs 0
note 'rank 0 too'

ends 137 '' 2 "$collectives" is_killed 1
tr '\n' ' ' <"$work/log" | grep -qa "rank 1 with PID .* on node $host exited on signal 9" || fail "no word of who died: $(cat "$work/log")"
note 'mpirun names a rank that is killed, and ends the others'

export looks_on=1
ends 0 "rank 0 on $host: heard nothing in collective 4 (all-reduce) for 4 s from rank 1 on $host, which" 2 "$collectives" is_killed 1
unset looks_on
note 'where a launcher looks on, those that wait for the dead one name it'

ends 3 "rank 1 on $host: line 7 of train.jsonl is no JSON" 4 "$collectives" fails 1
note 'a rank that fails ends all, with its exit code'
ends 3 "rank 1 on $host: line 7 of train.jsonl is no JSON" 2 "$collectives" fails_beside 1
note 'also while a collective is on its way'
ends 3 "rank 0 on $host: line 7 of train.jsonl is no JSON" 4 "$collectives" fails -1
note 'what all find wrong is said once'

ends 7 "rank 1 on $host sent 8 bytes, expected are 16" 2 "$collectives" sends_less 1
note 'counts that differ are no sums'
ends 7 'collective 4 (' 2 "$collectives" goes_another_way 1
note 'nor are different collectives'

ends 2 'merge runs on one rank, but mpirun asks for 2 (OMPI_COMM_WORLD_SIZE)' 2 "$bin/merge" --model none --adapter none --out none
note 'a program that has one rank refuses more'
bash tests/ranks/mpirun.sh 1 true 2>"$work/said" # some systems have mpirun say something
expect 'drover sft ' bash tests/ranks/mpirun.sh 1 "$bin/sft" --version
cmp "$work/said" "$work/log" || fail "one rank under mpirun says: $(cat "$work/log")"
note 'mpirun -n 1 is no different from no launcher'
refuse 2 'mpiexec asks for 2 ranks (PMI_SIZE), MPI finds 1: it is the launcher of another MPI' \
  env ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" PMI_RANK=0 PMI_SIZE=2 OMPI_MCA_btl_vader_single_copy_mechanism=none "$collectives"
note 'the launcher of another MPI is told from ours'
refuse 2 'generate runs on one rank, but mpirun asks for 2' \
  env OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 "$bin/generate" --model none --prompt x
refuse 2 'merge runs on one rank, but the environment asks for 2 (WORLD_SIZE)' \
  env RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 "$bin/merge" --model none --adapter none --out none
note 'generating and merging have one rank'
