#!/usr/bin/env bash
# Makes the man pages of drover and all its commands from their help, which comes from the option tables.
#
#   packaging/generate.sh BIN OUT      BIN: the folder of the programs; in OUT: man/drover.1, man/drover-sft.1 ...
#
# A command without a block in manual.txt has a page all the same, of its help alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export DROVER_BIN=$1
out=$2
drover=$here/../tools/drover
version=$("$drover" --version)
# The date of a release is that of its entry in the changelog.
date=$(date --utc --date "$(sed -n '/^ -- /{s/.*>  //p;q}' "$here/debian/changelog")" +%F)

# add COMMAND BRIEF HELP: its page.
add() {
  awk -v command="$1" -v brief="$2" -v version="${version##* }" -v date="$date" -v notes="$here/manual.txt" \
    -v errors="$here/../base/error.h" -v runs="$here/../docs/sft.md" -f "$here/help.awk" -f "$here/manual.awk" <<<"$3" \
    >"$out/man/drover${1:+-${1// /-}}.1"
}

# commands HELP: those that it lists, a line each: NAME TEXT.
commands() { sed -nE 's/^  ([a-z_]+)  +([^ ].*)/\1 \2/p' <<<"$1"; }

rm -rf "$out"
mkdir -p "$out/man"
all=$("$drover" help)
add '' 'fine-tuning of language models by what people prefer' "$all"
while read -r command brief; do
  help=$("$drover" help "$command" all)
  add "$command" "$brief" "$help"
  [[ $help == usage:* ]] || continue # one of commands of its own
  while read -r part brief; do
    add "$command $part" "${brief%.}" "$("$drover" "$command" "$part" --help all)"
  done < <(commands "$help")
done < <(commands "$all")
