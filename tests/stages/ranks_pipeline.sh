#!/usr/bin/env bash
# drover run --launcher: each stage of a pipeline on many ranks, stopped and started again. $1: the folder of the executables.
bin=$1
source tests/support/ranks.sh
house=$PWD
make_world "$work/world"
cp -r "$work/world/base" "$work/my-model"
mkdir -p "$work/data" "$work/configs"
cp "$work"/world/{sft,prompts}.jsonl "$work/data"
cp "$work/world/prefs.jsonl" "$work/data/preferences.jsonl"
# The example, but for the time it takes; and in fp32, where another number of ranks is the same but for rounding.
jq '.stages |= map(if .config then .config.run.save_every = 2 | .config.model.dtype = "f32" | .config.device.threads = 1 else . end)
  | (.stages[2].config.ppo = {total_episodes: 240, batch_size: 12, epochs: 2}) | .stages[2].config.rollout.max_new_tokens = 10' \
  "$house/configs/pipeline_lora.json" >"$work/configs/pipeline_lora.json"
# What mpirun wants of root in a container with few cores (tests/ranks/mpirun.sh).
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
ln -s "$house/tools" "$work/tools"
cd "$work"
PATH=$work/tools:$PATH

# The command of the manual, as it stands there.
command=$(sed -n "s/^    \(drover run [^ ]*json --launcher '.*'\)$/\1/p" "$house/docs/pipeline.md")
[[ $(wc -l <<<"$command") == 1 && $command == *'drover launch'* ]] || fail "docs/pipeline.md: expected one command with a launcher, found: $command"
pass bash -c "$command"
[[ $(cat out) == runs/pipeline/final/model ]] || fail "standard output: $(cat out)"
[[ $(grep -ac '^2 ranks, 2 of them on this host' log) == 3 ]] || fail "expected three stages on two ranks: $(cat log)"
mv runs/pipeline whole
note "sft, reward and ppo on two ranks, merge on one: $command"

pass drover run configs/pipeline_lora.json
for stage in sft reward ppo; do
  close_weights "whole/$stage/adapter/adapter_model.safetensors" "runs/pipeline/$stage/adapter/adapter_model.safetensors" 1e-4
done
note "the same as in one process"

# stopped_by SIGNAL CODE LAUNCHER: the signal comes to the driver while ppo learns; the stage saves, and the driver ends.
stopped_by() {
  local signal=$1 code=$2 launcher=$3 job status=0
  rm -rf runs/pipeline
  cp -r whole runs/pipeline
  rm -r runs/pipeline/{ppo,final} runs/pipeline/*.inputs
  # A shell's background job ignores SIGINT, which no shell can undo.
  "${yielding[@]}" env --default-signal=INT,QUIT drover run configs/pipeline_lora.json --launcher "$launcher" >out 2>log </dev/null &
  job=$!
  until reached runs/pipeline/ppo 4 || ! kill -0 $job 2>/dev/null; do pause; done
  kill "-$signal" $job
  wait $job || status=$?
  [[ $status == "$code" ]] || fail "SIG$signal to the driver: exit code $status, expected $code: $(tail -n 5 log)"
  grep -qa "stage 'ppo' stopped; the same command goes on" log || fail "SIG$signal to the driver: $(cat log)"
  [[ $(sqlite3 runs/pipeline/ppo/run.db 'select status from run') == interrupted ]] || fail "SIG$signal to the driver: ppo did not save"
  pass drover run configs/pipeline_lora.json --launcher "$launcher"
  same_files whole/final/model runs/pipeline/final/model
}
stopped_by TERM 143 'drover launch -n 2'
stopped_by INT 130 'mpirun -n 2'
note "a signal to the driver: the ranks save, and the same command goes on"

# A driver for each rank would be too many.
said_once() { # TEXT N COMMAND...
  local got=0
  bash "$house/tests/ranks/mpirun.sh" "$2" "${@:3}" >out 2>log || got=$?
  [[ $got == 2 && $(tr -d '\0' <log | grep -cF -- "$1") == 1 ]] || fail "${*:3}: exit code $got, expected 2 and '$1' once in: $(cat log)"
}
said_once "drover run PIPELINE --launcher 'drover launch -n 2' (merge runs on one rank, but mpirun asks for 2 (OMPI_COMM_WORLD_SIZE))" 2 \
  drover run configs/pipeline_lora.json
refuse 2 "--launcher: there is no command 'mpirum'" drover run configs/pipeline_lora.json --launcher 'mpirum -n 2'
refuse 2 "--launcher: expected a command such as 'drover launch -n 2', found nothing" drover run configs/pipeline_lora.json --launcher=
refuse 2 "--launcher: expected a command such as 'drover launch -n 2'" drover run configs/pipeline_lora.json --launcher
expect 'nothing wrong' drover run configs/pipeline_lora.json --launcher 'mpirun -n 2' --check
expect 'nothing wrong' env PATH="${PATH#*:}" "$drover" run configs/pipeline_lora.json --launcher 'drover launch -n 2' --check
note "what cannot be is refused"
