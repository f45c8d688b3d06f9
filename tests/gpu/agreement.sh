#!/usr/bin/env bash
# 50 updates of SFT in fp32 on the CPU and on CUDA, from the same start: the losses agree within 1e-3 in every update.
# $1: the folder of the executables (a CUDA build, or the emulated one). $2: updates, 50 when left out.
bin=$1 updates=${2:-50}
source tests/support/stages.sh
make_world "$work/world"
world=$work/world

for backend in cpu cuda; do
  for kind in full lora; do
    enabled=(--lora.enabled false)
    [[ $kind == lora ]] && enabled=(--lora.enabled true --lora.r 4)
    pass "$bin/sft" --model.path "$world/base" --data.train "$world/sft.jsonl" --run.dir "$work/$kind-$backend" \
      --device.backend $backend --optim.lr 3e-3 --optim.batch_size 16 --optim.max_steps "$updates" \
      --optim.epochs 1000 "${enabled[@]}"
    sqlite3 "$work/$kind-$backend/run.db" \
      "select value from metric where name = 'train/loss' order by step" >"$work/$kind-$backend.losses"
    [[ $(wc -l <"$work/$kind-$backend.losses") == "$updates" ]] || fail "$kind on $backend: not $updates losses"
  done
done
for kind in full lora; do
  worst=$(paste "$work/$kind-cpu.losses" "$work/$kind-cuda.losses" |
    awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d } END { printf "%.3g", worst }')
  first=$(head -n 1 "$work/$kind-cpu.losses") last=$(tail -n 1 "$work/$kind-cpu.losses")
  holds "$first - $last > 0.05" # else nothing was learnt, and agreement would say little
  holds "$worst <= 1e-3"
  note "$kind: $updates losses from $first to $last differ by at most $worst"
done
