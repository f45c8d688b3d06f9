#!/usr/bin/env bash
# Every command has a man page, each with all its parts and options, that formatters have nothing to say against. $1: the folder of the
# executables.
bin=$1
source tests/support/stages.sh
man=$(dirname "$bin")/packaging/generated/man

# plain PAGE: its text as it is read, but for the formatting of words.
plain() { sed -E 's/\\f[BIR]//g; s/\\-/-/g; s/\\\(aq/'\''/g; s/\\e/\\/g; s/\\&//g' "$1"; }

# has_options PAGE: it has, each on a line of its own, the options that are read here.
has_options() {
  local missing
  sort -u >"$work/options"
  [[ -s $work/options ]] || fail "$1: no option is known of it"
  plain "$1" | sed -nE 's/^(-[-a-z0-9_.]+)( .*)?$/\1/p' | sort -u >"$work/listed"
  missing=$(comm -23 "$work/options" "$work/listed")
  [[ -z $missing ]] || fail "$1: not in it: $missing"
}

pages=0
commands=$("$drover" help | sed -nE 's/^  ([a-z_]+)  +[^ ].*/\1/p')
for command in $commands inspect-{tokens,decode,chat,logprobs,score,model,data} tokenizer-add; do
  page=$man/drover-$command.1
  [[ -s $page ]] || fail "no man page of $command"
  for part in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' 'SEE ALSO'; do
    grep -qx ".SH $part" "$page" || fail "$page: no $part"
  done
  case $command in
    inspect | tokenizer) grep -qx '.SH COMMANDS' "$page" || fail "$page: no COMMANDS" ;;
    config | run | launch) ;;
    *) has_options "$page" < <("$drover" ${command/-/ } --help all | grep -oE '^  --[a-z0-9_.-]+' | cut -c3-) ;;
  esac
  pages=$((pages + 1))
done
note "$pages pages"

# Nor does a page say less than the table of the options that the program reads.
inputs=(--model.path none --run.dir none)
for stage in sft reward dpo ppo sample; do
  case $stage in
    ppo | sample) data=(--data.prompts none --reward.path none) ;;
    *) data=(--data.train none) ;;
  esac
  pass "$bin/$stage" "${inputs[@]}" "${data[@]}" --print-config
  has_options "$man/drover-$stage.1" < <(jq -r 'to_entries[] | .key as $section | .value | keys[] | "--\($section).\(.)"' "$work/out")
  for part in FILES EXAMPLES; do
    [[ $stage$part == sampleFILES ]] || grep -qx ".SH $part" "$man/drover-$stage.1" || fail "drover-$stage.1: no $part"
  done
done
code=$(sed -nE 's/.*ERROR_MEMORY = ([0-9]+).*/\1/p' base/error.h)
grep -qxF "\\fB$code\\fR" "$man/drover-sft.1" || fail "drover-sft.1: no exit code $code"
note "options, files, exit codes"

formatters=0
if command -v groff >/dev/null; then
  formatters=$((formatters + 1))
  for page in "$man"/*.1; do
    groff -man -Tutf8 -ww "$page" >"$work/out" 2>"$work/log" || fail "$page: groff: $(head -n 3 "$work/log")"
    [[ ! -s $work/log ]] || fail "$page: groff: $(head -n 3 "$work/log")"
  done
fi
if command -v mandoc >/dev/null; then
  formatters=$((formatters + 1))
  mandoc -T lint -W warning "$man"/*.1 >"$work/log" 2>&1 || fail "mandoc: $(head -n 3 "$work/log")"
fi
echo "man pages: complete, and nothing said against them by $formatters formatters of 2 that are here"
