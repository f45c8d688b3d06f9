#!/usr/bin/env bash
# Random templates beside jinja2: fuzz.sh FOLDER-OF-PROGRAMS [COUNT [SEED]]
#
# Drover must render what jinja2 renders, byte for byte, and refuse what jinja2 refuses. Skipped where there is no Python with jinja2 and
# transformers (PYTHON names one).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=${1:?folder of the test programs} count=${2:-300} seed=${3:-1}
python=${PYTHON:-python3}
if ! "$python" -c 'import jinja2, transformers' 2>/dev/null; then
  echo "skipped: $python has no jinja2 and transformers"
  exit 77
fi
cases=$(mktemp --suffix=.jsonl)
trap 'rm -f "$cases"' EXIT
echo "$count templates from seed $seed"
PYTHONDONTWRITEBYTECODE=1 "$python" "$here/generate.py" "$count" "$seed" >"$cases"
"$programs/template_cases" "$cases"
