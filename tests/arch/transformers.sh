#!/usr/bin/env bash
# What Drover saves of every architecture, loaded by Transformers and PEFT: transformers.sh FOLDER-OF-TEST-PROGRAMS [NAME...]
#
# The test program writes models and adapters of tests/fixtures/arch (NAME: those alone); transformers.py loads each with the library's own
# class, or with the restatement of the code on the hub, and compares the logits. Skipped where there is no Python with torch,
# transformers and peft (PYTHON names one).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=${1:?folder of the test programs}
shift
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1
if ! "$python" -c 'import torch, transformers, peft' 2>/dev/null; then
  echo "skipped: $python has no torch, transformers and peft"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DROVER_SAVED=$work "$programs/test_parity_architectures" "$@" >"$work/log" 2>&1 || {
  tail -n 20 "$work/log"
  exit 1
}
"$python" "$here/transformers.py" "$work"
