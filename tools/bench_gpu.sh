#!/usr/bin/env bash
# Measures Drover on the GPU of this machine beside PyTorch, Transformers and PEFT in the same call, at the shapes of a
# 7B and a 1.1B Llama with random weights, and prints a table: figure, floor and fraction of it, peer, ratio, target.
#
#   tools/bench_gpu.sh [--part NAME[,NAME...]] [--out FILE] [--bundle FOLDER] [--build FOLDER] [--arch LIST]
#
#   --part           of device, attention, sft_full, sft_lora, graphs, decode, ppo; all when left out
#   --out FILE       the table as Markdown, and beside it (FILE.json) everything that was measured
#
# The peers need python3 with torch, transformers and peft; without them the ratios are missing, and the table says so.
# A 7B part needs 40 GB of GPU memory; ppo writes a model of 14 GB into $TMPDIR for as long as it runs.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/gpu_build.sh
gpu_arguments "$@"
gpu_environment
gpu_describe && gpu_build programs || exit
exec python3 tools/bench_gpu/compare.py --bin "$bin" ${rest[@]+"${rest[@]}"}
