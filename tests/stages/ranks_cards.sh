#!/usr/bin/env bash
# sft and ppo on two ranks with a card each: each learns what one rank learns, has the same bits twice, and ends when a rank does. $1: the folder of
# the executables. Without CUDA in them those of the emulated card are taken (../cuda_host/bin), where each rank is a process with a
# card of its own and tests/cuda_host/nccl.cc stands for NCCL.
bin=$1
source tests/support/ranks.sh
programs=$bin
if ldd "$bin/sft" | grep -q libcublasLt; then
  cards=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
  ((cards >= 2)) || { echo "skipped: two ranks need a card each (NCCL), and this machine has $cards"; exit 77; }
elif [[ -x $bin/../cuda_host/bin/sft ]]; then
  programs=$bin/../cuda_host/bin
  # A collective that is done where it is called would not be looked after.
  export DROVER_CUDA_HOST_DEVICE=devices=2 DROVER_CUDA_HOST_STREAMS=late
else
  echo 'skipped: a build without CUDA, emulated or not'
  exit 77
fi
make_world "$work/world"
world=$work/world
sft=("$programs/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --data.template chatml --data.max_length 48
  --optim.batch_size 6 --optim.micro_batch_tokens 150 --optim.lr 3e-3 --optim.max_steps 4 --device.threads 1
  --device.backend cuda --device.rank_timeout 20)

losses() { metrics "$1" | grep '^train/loss '; }

compare() { # compare NAME FILE ARGUMENTS...: one rank and two, and two again
  local name=$1 file=$2
  shift 2
  pass on 1 "${sft[@]}" "$@" --run.dir "$work/$name-1"
  pass on 2 "${sft[@]}" "$@" --run.dir "$work/$name-2"
  grep -q '2 ranks, 2 of them on this host' "$work/log" || fail "no word of two ranks: $(cat "$work/log")"
  grep -q 'computing on cuda' "$work/log" || fail "not on cards: $(cat "$work/log")"
  pass on 2 "${sft[@]}" "$@" --run.dir "$work/$name-again"
  losses "$work/$name-1" >"$work/a"
  losses "$work/$name-2" >"$work/b"
  [[ $(wc -l <"$work/a") == 4 ]] || fail "$name: updates in the run log"
  near "$work/a" "$work/b" 1e-6
  close_weights "$work/$name-1/$file" "$work/$name-2/$file" 1e-4
  holds "$(metric "$work/$name-2" train/sent_bytes) > 1000"
  same_files "$work/$name-2/${file%/*}" "$work/$name-again/${file%/*}"
  note "$name: two ranks learn what one does, with the same bits twice"
}
compare full model/model.safetensors
compare lora adapter/adapter_model.safetensors --lora.enabled --lora.dropout 0.1

# Passes are recorded but for backward ones beside which gradients are summed, which are all of them here.
pass on 2 "${sft[@]}" --device.graphs 64MiB --run.dir "$work/graphs"
grep -q 'graphs of [1-9][0-9]* forward and 0 backward passes' "$work/log" || fail "graphs: $(cat "$work/log")"
losses "$work/graphs" >"$work/b"
losses "$work/full-2" >"$work/a"
near "$work/a" "$work/b" 1e-6
[[ $programs == "$bin" ]] || same_files "$work/full-2/model" "$work/graphs/model"
note "recorded passes on two cards"

# ppo: the answers are sampled on two cards, and every rank learns from all of them.
pass "$programs/reward" --model.path "$world/base" --data.train "$world/prefs.jsonl" --run.dir "$work/rm" --optim.max_steps 2 \
  --lora.enabled --device.backend cpu
for n in 1 2; do
  pass on $n "$programs/ppo" --model.path "$world/base" --reward.path "$world/base" --reward.adapter "$work/rm/adapter" \
    --data.prompts "$world/prompts.jsonl" --data.template chatml --ppo.total_episodes 24 --ppo.batch_size 8 --ppo.minibatches 2 \
    --ppo.epochs 1 --rollout.max_new_tokens 6 --rollout.temperature 1 --optim.lr 3e-4 --optim.micro_batch_tokens 100 --lora.enabled \
    --ppo.samples_logged 8 --device.threads 1 --device.backend cuda --device.rank_timeout 20 --run.dir "$work/ppo-$n"
  sqlite3 "$work/ppo-$n/run.db" 'select step, prompt, response, length, finished from sample order by rowid' >"$work/ppo-$n.samples"
  metrics "$work/ppo-$n" | grep '^ppo/value_loss' >"$work/ppo-$n.losses"
done
[[ $(wc -l <"$work/ppo-1.samples") -ge 24 ]] || fail "ppo: answers in the run log"
cmp "$work/ppo-1.samples" "$work/ppo-2.samples" || fail "ppo: other answers on two cards"
near "$work/ppo-1.losses" "$work/ppo-2.losses" 1e-6
note "ppo: two cards sample and learn what one does"

# One micro-batch on each card: every level of device.shard has the bits of none.
for result in model adapter; do
  extra=()
  [[ $result == model ]] || extra=(--lora.enabled --lora.dropout 0.1)
  for level in none optimizer gradients weights; do
    pass on 2 "${sft[@]}" --optim.micro_batch_tokens 512 "${extra[@]}" --device.shard "$level" --run.dir "$work/$result-$level"
    same_files "$work/$result-none/$result" "$work/$result-$level/$result"
  done
done
note "divided over two cards as on one each, to the bit"

# ppo, whose policy is gathered before it samples and whose models go in step.
for level in none weights; do
  pass on 2 "$programs/ppo" --model.path "$world/base" --reward.path "$world/base" --reward.adapter "$work/rm/adapter" \
    --data.prompts "$world/prompts.jsonl" --data.template chatml --ppo.total_episodes 4 --ppo.batch_size 4 --ppo.minibatches 1 \
    --ppo.epochs 1 --rollout.max_new_tokens 4 --rollout.temperature 1 --optim.lr 3e-4 --optim.micro_batch_tokens 200 --device.threads 1 \
    --device.backend cuda --device.rank_timeout 20 --device.shard $level --run.dir "$work/ppo-$level"
done
same_files "$work/ppo-none/model" "$work/ppo-weights/model"
note "ppo divided over two cards as on one each, to the bit"

# ends CODE PATTERN SIGNAL NAME: the second rank gets the signal in an update.
ends() {
  signalled "$3" "$work/$4" 2 2 1 "${sft[@]}" --lora.enabled --optim.max_steps 400 --run.save_every 1 --device.rank_timeout 6
  [[ $status == "$1" ]] || fail "$4: exit code $status: $(tail -n 5 "$work/log")"
  tr -d '\0' <"$work/log" | tr '\n' ' ' | grep -qE "$2" || fail "$4: expected '$2' in: $(cat "$work/log")"
}
ends 137 'rank 1 with PID .* exited on signal 9' KILL killed
ends 7 'rank 0 on .*(within 6 s: another rank is dead|for 6 s from rank 1 on )' STOP stopped
looks_on=1
export looks_on # a launcher that does not end the others
ends 0 'rank 0 on .*(NCCL says remote process|within 6 s: another rank is dead|for 6 s from rank 1 on |with rank 1 on )' KILL alone
unset looks_on
note 'a rank that is killed or hangs ends both'

if [[ $programs != "$bin" ]]; then
  export DROVER_CUDA_HOST_DEVICE=devices=1
  said_once 2 'ranks 0 and 1 have the same card (' "${sft[@]}" --run.dir "$work/shared"
  note 'a card is not shared'
fi
