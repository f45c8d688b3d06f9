#!/usr/bin/env bash
# Makes the man pages of drover and all its commands, and completion for bash and zsh, from their help, which comes from the option
# tables.
#
#   packaging/generate.sh BIN OUT      BIN: the folder of the programs; in OUT: man/drover.1, man/drover-sft.1 ..., drover.bash, _drover
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

# add COMMAND BRIEF HELP: its page, and its lines of the table for completion.
add() {
  awk -v command="$1" -v brief="$2" -v version="${version##* }" -v date="$date" -v notes="$here/manual.txt" \
    -v errors="$here/../base/error.h" -v runs="$here/../docs/sft.md" -f "$here/help.awk" -f "$here/manual.awk" <<<"$3" \
    >"$out/man/drover${1:+-${1// /-}}.1"
  awk -v command="${1:-drover}" -f "$here/help.awk" -f "$here/completion.awk" <<<"$3" >>"$out/table"
}

# commands HELP: those that it lists, a line each: NAME TEXT.
commands() { sed -nE 's/^  ([a-z_]+)  +([^ ].*)/\1 \2/p' <<<"$1"; }

rm -rf "$out/man" "$out/table"
mkdir -p "$out/man"
all=$("$drover" help)
add '' 'fine-tuning of language models by what people prefer' "$all"
printf 'drover\t%s\t-\t%s\n' help 'what a command needs' --help 'the commands' --version 'the version' >>"$out/table"
while read -r command brief; do
  help=$("$drover" help "$command" all)
  add "$command" "$brief" "$help"
  [[ $help == usage:* ]] || continue # one of commands of its own
  while read -r part brief; do
    add "$command $part" "${brief%.}" "$("$drover" "$command" "$part" --help all)"
  done < <(commands "$help")
done < <(commands "$all")

fill() { # TEMPLATE: with the table in its place
  awk 'NR == FNR { table = table $0 "\n"; next } $0 == "@TABLE@" { printf "%s", table; next } { print }' "$out/table" "$here/$1"
}
fill drover.bash >"$out/drover.bash"
fill drover.zsh >"$out/_drover"
rm "$out/table"
