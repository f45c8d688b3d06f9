#!/usr/bin/env bash
# Builds the readers of weights with clang's libFuzzer and the sanitizers, and runs them from the fixtures on:
#
#     tests/fuzz/target.sh [EXECUTIONS [FOLDER]]      # 1000000, build/fuzz_weights; CLANG names the compiler
#
# FOLDER keeps the corpus for the next time; an input that fails is left there as crash-*, slow-unit-*, oom-* or timeout-*.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
executions=${1:-1000000} folder=${2:-build/fuzz_weights}
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || { echo "skipped: no $clang"; exit 77; }
mkdir -p "$folder/corpus"
read -ra libraries <<<"$(pkg-config --cflags --libs jansson yaml-0.1 libpcre2-8 libutf8proc libxxhash)"
"$clang" -std=c17 -O2 -g -D_GNU_SOURCE -DLIBFUZZER -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
  tests/fuzz/target.c tests/fuzz/weights.c base/*.c formats/*.c "${libraries[@]}" -lm -o "$folder/target"
cp tests/fixtures/torch/views_*.bin tests/fixtures/torch/refused/*.bin tests/fixtures/torch/views.safetensors \
  tests/fixtures/safetensors/*.safetensors tests/fixtures/nf4/saved.safetensors "$folder/corpus"
for file in tests/fixtures/gguf/{llama_linear,qwen2}.gguf; do head -c 16384 "$file" >"$folder/corpus/$(basename "$file")"; done
cat >"$folder/words" <<'END'
"PK\x03\x04"
"PK\x01\x02"
"PK\x05\x06"
"PK\x06\x06"
"PK\x06\x07"
"ctorch._utils\x0a_rebuild_tensor_v2\x0a"
"ctorch._utils\x0a_rebuild_parameter\x0a"
"ctorch\x0aFloatStorage\x0a"
"ccollections\x0aOrderedDict\x0a"
"cos\x0asystem\x0a"
"/data.pkl"
"GGUF\x03\x00\x00\x00"
"general.alignment"
"\"dtype\""
"\"shape\""
"\"data_offsets\""
"__metadata__"
".quant_state.bitsandbytes__nf4"
".nested_absmax"
".SCB"
"\"blocksize\""
"\"nested_offset\""
"\"quant_type\""
END
"$folder/target" -runs="$executions" -dict="$folder/words" -max_len=16384 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
  -artifact_prefix="$folder/" "$folder/corpus"
