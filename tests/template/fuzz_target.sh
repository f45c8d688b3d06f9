#!/usr/bin/env bash
# Builds the interpreter of chat templates with clang's libFuzzer and the sanitizers, and runs it from the committed templates on:
#
#     tests/template/fuzz_target.sh [EXECUTIONS [FOLDER]]      # 1000000, build/fuzz; CLANG names the compiler
#
# FOLDER keeps the corpus for the next time; an input that fails is left there as crash-*, slow-unit-* or timeout-*.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
executions=${1:-1000000} folder=${2:-build/fuzz}
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || { echo "skipped: no $clang"; exit 77; }
mkdir -p "$folder/corpus"
read -ra libraries <<<"$(pkg-config --cflags --libs jansson yaml-0.1 libpcre2-8 libutf8proc libxxhash)"
"$clang" -std=c17 -O2 -g -D_GNU_SOURCE -DLIBFUZZER -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
  tests/template/fuzz_target.c base/*.c template/*.c "${libraries[@]}" -lm -o "$folder/fuzz_target"
for template in tests/template/families/*.jinja; do cp "$template" "$folder/corpus/$(basename "$template")"; done
number=0
while IFS= read -r source; do
  jq -rj . <<<"$source" >"$folder/corpus/construct-$((number++))"
done < <(jq -c '.cases[].source' tests/template/constructs.json)
cat >"$folder/words" <<'END'
"{{"
"}}"
"{%"
"%}"
"{%- "
" -%}"
"{#"
"#}"
"{% for i in xs %}"
"{% endfor %}"
"{% if t %}"
"{% else %}"
"{% endif %}"
"{% set x = "
"{% endset %}"
"{% macro m(a) %}"
"{% endmacro %}"
"{% call m() %}"
"{% endcall %}"
"{% generation %}"
"{% endgeneration %}"
"{% raw %}"
"{% endraw %}"
"{% break %}"
"{% continue %}"
"namespace(x=1)"
"messages"
"tools"
"loop."
" | tojson(indent=2)"
" | map(attribute="
" | selectattr("
" | join("
" | replace("
" | dictsort"
" | indent"
" | round(2)"
" | default("
".split("
".strip()"
".format("
".items()"
".get("
"[::-1]"
" is defined"
" not in "
" ~ "
" ** "
" // "
"'%s' % "
"range("
"strftime_now('"
"raise_exception("
END
"$folder/fuzz_target" -runs="$executions" -dict="$folder/words" -max_len=2048 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
  -artifact_prefix="$folder/" "$folder/corpus"
