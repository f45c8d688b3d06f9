#!/usr/bin/env bash
# `tokenizer add` beside Transformers: add.sh FOLDER-OF-PROGRAMS. Skipped where there is no Python with torch, transformers, sentencepiece and
# protobuf (PYTHON names one).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1
if ! "$python" -c 'import torch, transformers, sentencepiece, google.protobuf' 2>/dev/null; then
  echo "skipped: $python has no torch, transformers, sentencepiece and protobuf"
  exit 77
fi
"$python" "$here/add.py" "${1:?folder of the programs}/tokenizer"
