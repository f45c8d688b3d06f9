#!/usr/bin/env bash
# tests/ranks/by_variables.sh N PROGRAM [ARGUMENT...]: N ranks of this machine that find each other by RANK, WORLD_SIZE, MASTER_ADDR
# (127.0.0.1 unless it is set) and MASTER_PORT. The last line on standard error has the exit codes in the order of ranks: "codes: 7 7";
# one that is still there 4 seconds after the first has ended is killed, "late". The exit code is that of rank 0.
ranks=$1
shift
export WORLD_SIZE=$ranks MASTER_ADDR=${MASTER_ADDR:-127.0.0.1} MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 9000))}
jobs=() codes=() late=()
for ((rank = 0; rank < ranks; rank++)); do
  RANK=$rank "$@" </dev/null &
  jobs+=($!)
done
wait -n "${jobs[@]}"
for ((tenths = 0; tenths < 40; tenths++)); do
  alive=0
  for job in "${jobs[@]}"; do if kill -0 "$job" 2>/dev/null; then alive=1; fi; done
  ((alive)) || break
  sleep 0.1
done
for ((rank = 0; rank < ranks; rank++)); do
  if kill -KILL "${jobs[rank]}" 2>/dev/null; then late[rank]=1; fi
  codes[rank]=0
  wait "${jobs[rank]}" || codes[rank]=$?
  if [[ ${late[rank]:-} ]]; then codes[rank]=late; fi
done 2>/dev/null
echo "codes: ${codes[*]}" >&2
exit "${codes[0]/late/1}"
