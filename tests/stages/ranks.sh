#!/usr/bin/env bash
# Data-parallel sft, reward and dpo: many ranks learn what one learns, end together, and go on. $1: the folder of the executables.
bin=$1
source tests/support/ranks.sh
make_world "$work/world"
world=$work/world

sft=("$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --data.eval "$world/eval.jsonl"
  --data.template chatml --data.max_length 96 --optim.batch_size 6 --optim.micro_batch_tokens 150 --optim.lr 3e-3
  --optim.max_steps 20 --run.eval_every 10 --device.threads 1 --json)
reward=("$bin/reward" --model.path "$world/base" --data.train "$world/ranked.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.reference "$world/sft.jsonl" --optim.lr 3e-4 --optim.batch_size 7 --optim.max_steps 20 --run.eval_every 10
  --device.threads 1 --json)
dpo=("$bin/dpo" --model.path "$world/base" --data.train "$world/ranked.jsonl" --data.eval "$world/prefs_eval.jsonl"
  --data.template chatml --optim.lr 3e-4 --optim.batch_size 7 --optim.max_steps 20 --run.eval_every 10 --device.threads 1 --json)
# Of an update z0 is that of all ranks: the last one of an epoch has two answers, on four ranks one or none each.
jq -c '{prompt, completion: .chosen, label: true}, {prompt, completion: .rejected, label: false}' <(head -n 16 "$world/prefs.jsonl") >"$world/single.jsonl"
kto=("$bin/dpo" --model.path "$world/base" --data.train "$world/single.jsonl" --data.eval "$world/prefs_eval.jsonl" --dpo.loss kto
  --data.template chatml --optim.lr 1e-3 --optim.batch_size 6 --optim.max_steps 20 --run.eval_every 10 --device.threads 1 --json)
head -n 9 "$world/sft.jsonl" >"$world/eval.jsonl"
make_ranking "$world/prefs.jsonl" "$world/ranked.jsonl"

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

compare kto model/model.safetensors "${kto[@]}"

long=("${sft[@]}" --optim.max_steps 150 --run.save_every 5 --lora.enabled --lora.dropout 0.1)
pass on 2 "${long[@]}" --run.dir "$work/whole"

signalled KILL "$work/killed" 10 2 1 "${long[@]}"
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
preempted() { # preempted SIGNAL CODE RANKS RANK
  local run=$work/$1-$3
  signalled "$1" "$run" 10 "$3" "$4" "${long[@]}" --run.save_every 10
  [[ $status == "$2" ]] || fail "SIG$1 to a rank: exit code $status: $(tail -n 5 "$work/log")"
  [[ $(sqlite3 "$run/run.db" 'select status from run') == interrupted ]] || fail "SIG$1: status in the run log"
  (($(checkpoint_step "$run") > 10)) || fail "SIG$1: nothing was saved"
  [[ $(grep -ac "error: interrupted by SIG$1" "$work/log") == 1 ]] || fail "SIG$1: said once in: $(cat "$work/log")"
  pass on "$3" "${long[@]}" --run.dir "$run"
  same_files "$work/whole-$3/adapter" "$run/adapter"
}
pass on 3 "${long[@]}" --run.dir "$work/whole-3"
ln -s whole "$work/whole-2"
preempted TERM 143 2 1
preempted USR1 138 2 0
preempted USR1 138 3 2
note "SIGTERM or SIGUSR1 to one rank: all save once and end"

signalled STOP "$work/stopped" 10 2 1 "${long[@]}" --device.rank_timeout 2
[[ $status == 7 ]] || fail "a rank that hangs: exit code $status: $(tail -n 5 "$work/log")"
tr -d '\0' <"$work/log" | grep -q 'for 2 s from rank 1 on ' || fail "no word of who hangs: $(cat "$work/log")"
note "a rank that hangs is named after device.rank_timeout"

cp "$work/whole/done.json" "$work/done"
said_once 0 '"steps": 150' "${long[@]}" --run.dir "$work/whole"
cmp "$work/done" "$work/whole/done.json" || fail "a finished run was written again"
said_once 0 '"ok": true' "${sft[@]}" --run.dir "$work/checked" --check
[[ ! -e $work/checked/run.db ]] || fail "--check wrote a run"
said_once 0 'usage: drover sft' "$bin/sft" --help
said_once 0 '"batch_size"' "${sft[@]}" --run.dir "$work/printed" --print-config
said_once 6 'absent.jsonl' "${sft[@]}" --run.dir "$work/absent" --data.train "$work/absent.jsonl"
said_once 2 'optim.offload state has one rank, and there are 2' "${sft[@]}" --run.dir "$work/offload" --optim.offload state
said_once 2 'data.train: - is a pipe, which only one of the 2 ranks could read' "${sft[@]}" --run.dir "$work/pipe" --data.train -
said_once 2 'merge runs on one rank, but mpirun asks for 2' "$bin/merge" --model none --adapter none --out none
note "results and errors are said once"

# Each of two ranks may take half of what is free, and the plan has room for MPI, which sockets need none of.
overhead() { awk '/program and libraries/ { print $(NF - 1) }' "$work/log"; }
pass on 1 "${sft[@]}" --run.dir "$work/plan" --check
one=$(overhead)
pass on 2 "${sft[@]}" --run.dir "$work/plan" --check
holds "$(overhead) - $one == 7"
pass "$bin/launch" -n 2 "${sft[@]}" --run.dir "$work/plan" --check
holds "$(overhead) == $one"
note "the plan counts MPI"
