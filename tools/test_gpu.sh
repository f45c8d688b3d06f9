#!/usr/bin/env bash
# Builds Drover for the GPU of this machine and tests it there: the operation table on the GPU, models and stages
# against the committed references, CPU against GPU training, and operations and small stages under
# compute-sanitizer.
#
#   tools/test_gpu.sh [--quick] [--bundle FOLDER] [--build FOLDER] [--arch LIST]
#
#   --quick          without compute-sanitizer
#
# A part that fails does not end the others. The last lines are a summary; the exit status is 0 only when nothing
# failed and nothing was left out. Takes a few minutes, most of it building.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/gpu_build.sh
gpu_arguments "$@"
quick=false
for word in ${rest[@]+"${rest[@]}"}; do
  case $word in
    --quick) quick=true ;;
    *) echo "test_gpu.sh: unknown argument '$word'" >&2 && exit 2 ;;
  esac
done
gpu_environment
export DROVER_TEST_BACKEND=cuda # a test that could fall back to the CPU must not pass there

summary=() bad=0
# part NAME COMMAND...: runs it, shows its output, notes how it ended.
part() {
  local name=$1 begun=$SECONDS status=0 word
  shift
  printf '\n==== %s\n' "$name"
  "$@" || status=$?
  case $status in
    0) word=passed ;;
    77) word='NOT RUN' && bad=1 ;;
    *) word="FAILED ($status)" && bad=1 ;;
  esac
  summary+=("$(printf '%-52s %-12s %4d s' "$name" "$word" $((SECONDS - begun)))")
  return "$status"
}

# What ctest would run, for the tests that match; on this build they compute on the GPU.
tests() {
  ctest --test-dir "$folder" --output-on-failure --no-tests=error --timeout 300 -j "$1" -R "$2" </dev/null
}

# Operations and small stages under one tool of compute-sanitizer.
sanitize() {
  command -v compute-sanitizer >/dev/null || return 77
  bash tests/gpu/sanitize.sh "$bin" "$1" "$folder/tests"
}

finish() {
  printf '\n==== summary, %s, %s\n' "$(date -u +%F)" "$(git describe --always --dirty 2>/dev/null || echo 'no git')"
  gpu_describe
  printf '%s\n' "${summary[@]}"
  ((bad == 0)) && echo 'all passed' || echo 'NOT all passed'
  exit "$bad"
}

part 'the device' gpu_describe || finish
part "build for $arch" gpu_build all || finish
part 'operation table, every operation on the GPU' tests 1 '^unit/compute_ops$'
part 'memory, copies, recordings, row invariance, paged attention' tests 1 '^unit/compute_(context|device|invariance|paged)$'
part 'models, adapters, decoding, training: references' tests 2 '^(parity/|unit/(model|lora|rollout|train)_)[^/]*$'
part 'CPU and GPU: losses of 50 updates in fp32, all stages' bash tests/stages/cuda.sh "$bin"
part 'memory of the host beside the card' bash tests/stages/offload.sh "$bin"
part 'two ranks with a card each: collectives, bit by bit' bash tests/ranks/mpirun.sh 2 "$folder/tests/ranks_cards"
part 'two ranks with a card each: sft' bash tests/stages/ranks_cards.sh "$bin"
part 'stages from start to end, kill and resume' tests 2 '^stages/(sft|reward|ppo|dpo)_(resume|invariants|train|options)$'
part 'the pipeline' tests 1 '^stages/(pipeline|generate)$'
if ! $quick; then
  for tool in memcheck racecheck synccheck initcheck; do
    part "compute-sanitizer $tool, operations and stages" sanitize "$tool"
  done
fi
finish
