#!/usr/bin/env bash
# The chat templates of real models beside jinja2: real.sh FOLDER-OF-PROGRAMS [FOLDER...]
#
# Each is rendered by jinja2, set up as Transformers does it, and by Drover, over conversations with and without system text, tools, thinking,
# other scripts and mistakes; for each a line says how many are equal, different, or refused. A folder holds *.jinja files or models. Without one,
# templates are fetched once, into a cache outside this tree. Skipped where there is no Python with jinja2 and transformers
# (PYTHON names one), or where no template can be had.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=${1:?folder of the test programs}
shift
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1
if ! "$python" -c 'import jinja2, transformers' 2>/dev/null; then
  echo "skipped: $python has no jinja2 and transformers"
  exit 77
fi
if (($# == 0)); then
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/drover/templates
  "$python" "$here/real.py" gather "$cache"
  if ! compgen -G "$cache/*.jinja" >/dev/null; then
    echo 'skipped: no templates here, and none could be fetched'
    exit 77
  fi
  set -- "$cache"
fi
"$python" "$here/real.py" compare "$programs/template_cases" "$@"
