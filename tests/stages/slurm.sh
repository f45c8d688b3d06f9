#!/usr/bin/env bash
# configs/slurm/sft.sbatch, with programs in the place of Slurm's: it trains, is told that its time is up, queues itself again, and
# its next turn ends with the bits of a run that had all the time. $1: the folder of the programs.
bin=$1
source tests/support/stages.sh
script=configs/slurm/sft.sbatch
unset RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT
bash -n $script
if command -v shellcheck >/dev/null; then shellcheck $script; fi
for option in nodes=2 ntasks-per-node=1 signal=USR1@300 requeue open-mode=append; do
  grep -q "^#SBATCH --$option" $script || fail "no #SBATCH --$option"
done
[[ $(awk '/^#SBATCH/ { last = NR } /^[^#]/ && !first { first = NR } END { print (last < first) }' $script) == 1 ]] ||
  fail 'sbatch reads no #SBATCH line behind a command'
if command -v sbatch >/dev/null; then sbatch --test-only $script; fi

# srun: its own options, then a command on two tasks of this machine, without PMIx. With a file `warn`, SIGUSR1 to all when there is a
# checkpoint.
mkdir "$work/slurm"
cat >"$work/slurm/srun" <<'END'
#!/usr/bin/env bash
printf '%s\n' "$@" >"$work/srun"
while [[ $1 == --* ]]; do shift; done
[[ $MASTER_ADDR == host-1 ]] || exit 99
export SLURM_STEP_NUM_TASKS=2 OMP_NUM_THREADS=1 MASTER_ADDR=127.0.0.1
for task in 0 1; do
  SLURM_PROCID=$task "$@" --optim.batch_size 6 --optim.lr 3e-3 --optim.max_steps 1000 --run.save_every 50 --data.template chatml &
  tasks+=($!)
done
if [[ -e $work/warn ]]; then
  until compgen -G "$RUN/checkpoints/step-*" >/dev/null || ! kill -0 "${tasks[0]}"; do sleep 0.01; done
  kill -USR1 "${tasks[@]}"
fi
code=0
for task in "${tasks[@]}"; do wait "$task" || code=$?; done
exit "$code"
END
cat >"$work/slurm/scontrol" <<'END'
#!/usr/bin/env bash
case $1 in
  show) seq -f host-%g 20000 ;; # more than a pipe holds
  requeue) echo "$2" >>"$work/requeued" ;;
esac
END
chmod +x "$work"/slurm/*
make_world "$work/world"
export work SLURM_SUBMIT_DIR=$PWD SLURM_JOB_NODELIST='host-[a-b]' SLURM_CPUS_PER_TASK=1 SLURM_JOB_ID=4711
export MODEL=$work/world/base DATA=$work/world/sft.jsonl PATH=$work/slurm:$PATH

turn() { # turn CODE
  local got=0
  bash $script >"$work/out" 2>"$work/log" </dev/null || got=$?
  [[ $got == "$1" ]] || fail "exit code $got, expected $1: $(cat "$work/log")"
}
RUN=$work/whole turn 0
for word in --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=1; do grep -qxe "$word" "$work/srun" || fail "srun without $word"; done
[[ ! -e $work/requeued ]] || fail 'queued again though it was done'
touch "$work/warn"
RUN=$work/warned turn 138
[[ $(cat "$work/requeued") == 4711 ]] || fail 'not queued again'
rm "$work/warn"
RUN=$work/warned turn 0
grep -q 'going on from' "$work/log" || fail 'its next turn begins anew'
same_files "$work/whole/model" "$work/warned/model"
(unset RUN && refuse 1 'RUN: a directory for the run' bash $script)
note 'the batch script saves before its time is up, queues itself again, and goes on'
