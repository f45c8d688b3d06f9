#!/usr/bin/env bash
# Tokenizers that are no tokenizer.json beside Transformers, sentencepiece and llama.cpp:
#
#   sources.sh FOLDER-OF-PROGRAMS [COUNT [FILE.gguf...]]
#
# Ids and decoded text of COUNT mixed strings (100000) for every directory of tests/fixtures/make_tokenizer_sources.py, and for the vocabularies of the
# GGUF files. Skipped where there is no Python with transformers, sentencepiece and protobuf (PYTHON names one); for GGUF it needs llama_cpp too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${1:?folder of the test programs}/tokenizer_encode
count=${2:-100000}
shift $(($# < 2 ? $# : 2))
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1
if ! "$python" -c 'import sentencepiece, transformers, google.protobuf' 2>/dev/null; then
  echo "skipped: $python has no transformers, sentencepiece and protobuf"
  exit 77
fi
"$python" "$here/sources.py" "$program" "$count" "$@"
