#!/usr/bin/env bash
# Ranks on two hosts, which are network name spaces with names and addresses of their own, joined by one cable: it is cut while they
# train, a signal comes to one of them, and the same commands go on. $1: the folder of the programs.
#
# Everything, the addresses too, lies in name spaces that end with this script. Skipped where they are not allowed.
if [[ ! ${DROVER_INSIDE:-} ]]; then
  command -v ip >/dev/null || { echo 'skipped: no ip here (iproute2)' && exit 77; }
  inside=(unshare --mount --net --pid --fork --kill-child)
  ((EUID == 0)) || inside+=(--user --map-root-user)
  "${inside[@]}" sh -c 'mount -t tmpfs none /run && mkdir /run/netns && ip netns add a && ip netns exec a true' 2>/dev/null ||
    { echo 'skipped: name spaces are not allowed here' && exit 77; }
  DROVER_INSIDE=1 exec "${inside[@]}" --mount-proc bash "$0" "$@"
fi
bin=$1
source tests/support/stages.sh
unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT
mount -t tmpfs none /run
mkdir /run/netns
ip netns add host-a
ip netns add host-b
ip link add cable-a netns host-a type veth peer name cable-b netns host-b
connect() { # again too: without a cable the system drops addresses of IPv6
  local host number=1
  for host in a b; do
    ip -n host-$host link set lo up
    ip -n host-$host link set cable-$host up
    ip -n host-$host addr replace 10.77.0.$number/24 dev cable-$host
    ip -n host-$host addr replace fd77::$number/64 dev cable-$host nodad || no_ipv6=1
    number=2
  done
}
connect

make_world "$work/world"
world=$work/world
train=("$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --data.template chatml --data.max_length 96
  --optim.batch_size 6 --optim.lr 3e-3 --optim.max_steps 150 --run.save_every 5 --device.threads 1 --device.rank_timeout 3)

# start ADDRESS RUN: rank 0 on host-a, rank 1 on host-b; sets `jobs`.
start() {
  local rank hosts=(host-a host-b)
  jobs=()
  for rank in 0 1; do
    # shellcheck disable=SC2016 # for the shell on that host
    RANK=$rank WORLD_SIZE=2 MASTER_ADDR=$1 MASTER_PORT=29500 ip netns exec ${hosts[rank]} unshare --uts \
      sh -c 'hostname "$0" && exec "$@"' ${hosts[rank]} "${train[@]}" --run.dir "$2" >"$work/out-$rank" 2>"$work/log-$rank" </dev/null &
    jobs+=($!)
  done
}
# ended CODE: both ranks ended with it.
ended() {
  local rank code
  for rank in 0 1; do
    code=0
    wait "${jobs[rank]}" || code=$?
    [[ $code == "$1" ]] || fail "rank $rank: exit code $code, expected $1: $(tail -n 5 "$work/log-$rank")"
  done
}
# during RUN COMMAND...: starts both and carries out the command between two checkpoints; again where it came too late.
during() {
  local run=$1 attempt
  shift
  for attempt in 1 2 3 4 5; do
    rm -rf "$run"
    start 10.77.0.1 "$run"
    until reached "$run" 10 || ! kill -0 "${jobs[0]}" 2>/dev/null; do pause; done
    "$@"
    if kill -0 "${jobs[0]}" 2>/dev/null; then return; fi
    connect
  done
  fail "$*: came too late"
}
kill_on_b() { # kill_on_b SIGNAL: ip and unshare have become the rank
  kill "-$1" "${jobs[1]}"
}
said() { # said RANK TEXT: in the one line that says what is wrong
  [[ $(grep 'error: ' "$work/log-$1") == *"$2"* && $(grep -c 'error: ' "$work/log-$1") == 1 ]] ||
    fail "rank $1: expected one error '$2' in: $(cat "$work/log-$1")"
}

start 10.77.0.1 "$work/whole"
ended 0
grep -q 'rank 1 of 2 on host-b: rank 0 on host-a says how it goes' "$work/log-1" || fail "rank 1 says nothing: $(cat "$work/log-1")"
[[ ! -s $work/out-1 && $(wc -l <"$work/log-1") == 1 ]] || fail "rank 1 says too much: $(cat "$work/log-1" "$work/out-1")"
note 'two hosts train'

during "$work/cut" ip -n host-a link set cable-a down
ended 7
said 0 'error: rank 0 on host-a: heard nothing in collective '
said 0 'for 3 s from rank 1 on host-b, which is dead, cut off'
said 1 'error: rank 1 on host-b: heard nothing in collective '
said 1 'for 3 s from rank 0 on host-a, which is dead, cut off'
[[ ! -e $work/cut/done.json ]] || fail 'a run that was cut is done'
note 'the cable is cut: every rank ends within the timeout and names rank, host and cause'
connect
start 10.77.0.1 "$work/cut"
ended 0
grep -q 'going on from' "$work/log-0" || fail "nothing was resumed"
same_files "$work/whole/model" "$work/cut/model"
note 'the same commands go on to the same bits'

during "$work/term" kill_on_b TERM
ended 143
[[ $(sqlite3 "$work/term/run.db" 'select status from run') == interrupted ]] || fail 'SIGTERM: status in the run log'
if [[ ! ${no_ipv6:-} ]]; then
  start fd77::1 "$work/term"
  ended 0
  same_files "$work/whole/model" "$work/term/model"
  note 'a signal on one host lets both save; over IPv6 they go on to the same bits'
fi

during "$work/killed" kill_on_b KILL
code=0
wait "${jobs[0]}" || code=$?
[[ $code == 7 ]] || fail "exit code $code: $(cat "$work/log-0")"
said 0 'rank 1 on host-b is lost: its process has ended'
note 'a rank that is killed is named at once'
