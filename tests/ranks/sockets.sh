#!/usr/bin/env bash
# Ranks that find each other by variables and talk over sockets: what ends them, and what they say when they cannot meet.
#
#   tests/ranks/sockets.sh FOLDER-OF-PROGRAMS COLLECTIVES
bin=$1 collectives=$2
source tests/support/stages.sh
host=$(hostname)
unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID TORCHELASTIC_USE_AGENT_STORE
next_port=$((20000 + RANDOM % 9000))
new_port() { # sets port
  port=$((next_port++))
}

# check CODES TEXT: what a command left in $work/log: exit codes in the order of ranks, and one error, which has TEXT.
check() {
  grep -qx "codes: $1" "$work/log" || fail "expected exit codes $1: $(cat "$work/log")"
  [[ $(grep 'error: ' "$work/log") == *"$2"* && $(grep -c 'error: ' "$work/log") == 1 ]] ||
    fail "expected one error '$2' in: $(cat "$work/log")"
}
ends() { # ends CODES TEXT N COMMAND...
  timeout 60 bash tests/ranks/by_variables.sh "${@:3}" >"$work/out" 2>"$work/log" || true
  check "$1" "$2"
}

ends '7 late' "rank 0 on $host: heard nothing in collective 3 (all-reduce) for 4 s from rank 1 on $host, which" 2 "$collectives" hangs 1
note 'a rank that hangs is named by the one that waits'
ends '7 7 late 7' "for 4 s from rank 2 on $host, which is dead, cut off" 4 "$collectives" hangs 2
note 'and among four only it is'
ends '137 7 7' "on $host: in collective 3 (all-reduce) rank 0 on $host is lost: its process has ended" 3 "$collectives" is_killed 0
note 'a rank that is killed is noticed at once, rank 0 too'
ends '3 3 3 3' "rank 1 on $host: line 7 of train.jsonl is no JSON" 4 "$collectives" fails 1
note 'a rank that fails ends all, with its exit code'
ends '3 3 3 3' "rank 0 on $host: line 7 of train.jsonl is no JSON" 4 "$collectives" fails -1
note 'what all find wrong is said once'
ends '7 7' "rank 1 on $host sent 8 bytes, expected are 16" 2 "$collectives" sends_less 1
note 'counts that differ are no sums'
ends '7 7' 'collective 3 (' 2 "$collectives" goes_another_way 1
ends '7 7' 'it went another way' 2 "$collectives" is_ahead 1
note 'nor are different collectives'

# --- meeting
rank() { # rank R N COMMAND...: in the background, with a line of its own in $work/rank-R
  RANK=$1 WORLD_SIZE=$2 MASTER_PORT=$port "${@:3}" >"$work/rank-$1" 2>&1 </dev/null &
  job=$!
}
ended() { # ended JOB CODE FILE TEXT
  local code=0
  wait "$1" || code=$?
  [[ $code == "$2" ]] || fail "exit code $code, expected $2: $(cat "$3")"
  grep -qF -- "$4" "$3" || fail "expected '$4' in: $(cat "$3")"
}
export MASTER_ADDR=127.0.0.1
none=("$bin/sft" --model.path none --data.train none --run.dir none --device.rank_timeout 1)

new_port
refuse 2 "MASTER_ADDR 'no-such-host.invalid' cannot be resolved: " env RANK=1 WORLD_SIZE=2 MASTER_PORT=$port \
  MASTER_ADDR=no-such-host.invalid "${none[@]}"
refuse 7 "rank 1 on $host has not met rank 0 at 127.0.0.1, port $port (MASTER_ADDR, MASTER_PORT), in 1 s: 127.0.0.1:$port: Connection refused" \
  env RANK=1 WORLD_SIZE=2 MASTER_PORT=$port "${none[@]}"
refuse 7 "of 4 ranks not all have come to rank 0 on $host at 127.0.0.1, port $port, in 1 s; missing: 1, 2, 3" \
  env RANK=0 WORLD_SIZE=4 MASTER_PORT=$port "${none[@]}"
refuse 2 "MASTER_ADDR '192.0.2.1' is no address of this host: RANK 0 belongs where MASTER_ADDR is" \
  env RANK=0 WORLD_SIZE=2 MASTER_PORT=$port MASTER_ADDR=192.0.2.1 "${none[@]}"
note 'who cannot be found, or does not come, is said after device.rank_timeout'

# A rank 0 that waits; the others do what is wrong.
wrong() { # wrong CODE TEXT OTHER-RANKS-OF-3...: the last one is wrong
  local first other last=${*: -1} jobs=()
  new_port
  rank 0 3 "$collectives"
  first=$job
  for other in "${@:3:$#-3}"; do
    rank "$other" 3 "$collectives"
    jobs+=("$job" "$work/rank-$other")
  done
  until [[ $(grep -c . "$work/ready" 2>/dev/null) == 1 ]]; do
    sleep 0.3
    echo 1 >"$work/ready"
  done
  eval "$last" &
  ended "$first" "$1" "$work/rank-0" "$2"
  if ((${#jobs[@]})); then ended "${jobs[0]}" "$1" "${jobs[1]}" "$2"; fi
  wait
  rm "$work/ready"
}
wrong 2 "rank 2 on $host is one of 4 ranks, and rank 0 on $host one of 3 (WORLD_SIZE)" 1 \
  'RANK=2 WORLD_SIZE=4 MASTER_PORT=$port "$collectives" >/dev/null 2>&1'
wrong 2 "rank 1 is there twice (RANK): process " 1 'RANK=1 WORLD_SIZE=3 MASTER_PORT=$port "$collectives" >/dev/null 2>&1'
# shellcheck disable=SC2016 # evaluated there
wrong 2 "is Drover $("$bin/sft" --version | cut -d ' ' -f 3), and from 127.0.0.1:" 1 \
  'printf "drover\1\0\7\0\0\0\3\0\0\0\2\0\0\0" >/dev/tcp/127.0.0.1/$port'
version=$("$bin/sft" --version | cut -d ' ' -f 3)
# shellcheck disable=SC2016 # evaluated there
wrong 2 'says that it is rank 7 of 3' 1 \
  '{ printf "drover\1\0\1\0\0\0\3\0\0\0\7\0\0\0\0\0\0\0%s" "$version" && head -c $((96 - ${#version})) /dev/zero; } >/dev/tcp/127.0.0.1/$port'
note 'what can be no run is refused on all ranks: another number of ranks, one twice, another version'

new_port
rank 0 2 "$collectives"
first=$job
sleep 0.3
printf 'GET / HTTP/1.1\r\n\r\n' >"/dev/tcp/127.0.0.1/$port"
exec 5<>"/dev/tcp/127.0.0.1/$port" # says nothing, and stays
rank 1 2 "$collectives"
ended "$first" 0 "$work/rank-0" nobody_passes_a_barrier_alone
wait
exec 5>&-
note 'strangers at the door keep nobody waiting'

new_port
rank 0 2 "$bin/sft" --model.path none --data.train none --run.dir none
first=$job
for sign in INT TERM; do
  sleep 0.4
  kill -$sign "$first"
  code=130
  [[ $sign == INT ]] || code=143
  ended "$first" $code "$work/rank-0" 'interrupted while ranks were waited for'
  rank 1 2 "$bin/sft" --model.path none --data.train none --run.dir none
  first=$job
done
kill -KILL "$first"
wait "$first" 2>/dev/null || true
note 'a signal ends the waiting'

if [[ $( (exec 6<>/dev/tcp/::1/1) 2>&1) == *refused* ]]; then
  MASTER_ADDR=::1 timeout 60 bash tests/ranks/by_variables.sh 3 "$collectives" fails 1 >"$work/out" 2>"$work/log" || true
  check '3 3 3' 'line 7 of train.jsonl'
  note 'over IPv6'
fi
MASTER_ADDR=$host timeout 60 bash tests/ranks/by_variables.sh 3 "$collectives" fails 1 >"$work/out" 2>"$work/log" || true
check '3 3 3' 'line 7 of train.jsonl'
note 'by the name of the host'
