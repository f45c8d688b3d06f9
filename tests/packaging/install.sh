#!/usr/bin/env bash
# What `cmake --install` lays out works wherever it is moved to, knowing nothing of the tree. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
house=$PWD

pass cmake --install "$(dirname "$bin")" --prefix "$work/first place"
mv "$work/first place" "$work/moved"
mkdir "$work/elsewhere"
ln -s "$work/moved/bin/drover" "$work/elsewhere/drover"
cd "$work/elsewhere"
drover() { env -u DROVER_BIN PATH="$work/elsewhere:/usr/bin:/bin" drover "$@"; }

# The commands that drover lists, no more and no less, but for what makes the data of the tutorial.
drover help | sed -nE 's/^  ([a-z_]+)  +[^ ].*/\1/p' | sort >listed
{ ls "$work/moved/libexec/drover" | grep -vx demo_data && echo run; } | sort >installed
diff listed installed >difference || fail "listed and installed programs: $(cat difference)"
[[ $(ls "$work/moved/bin") == drover ]] || fail "on PATH: $(ls "$work/moved/bin")"
expect "drover $(sed -nE '1s/drover \(([^)]*)\).*/\1/p' "$house/packaging/debian/changelog")" drover --version
note "$(wc -l <listed) commands, moved and linked to"

PATH=$work/elsewhere:$PATH pass bash "$house/tests/support/installed.sh" "$work/moved/libexec/drover"
cat "$work/out"

# Configurations, and pages whose links lead somewhere.
share=$work/moved/share
for file in "$share"/drover/configs/{sft,dpo}*.json; do
  stage=$(basename "$file" .json)
  pass drover "${stage%%_*}" --config "$file" --model.path none --data.train none --run.dir none --print-config
done
for file in man/man1/drover-sft.1 bash-completion/completions/drover zsh/site-functions/_drover; do
  [[ -s $share/$file ]] || fail "no share/$file"
done
cd "$share/doc/drover"
for page in README.md docs/*.md; do
  while read -r link; do
    [[ -e $(dirname "$page")/$link || $link == ../[a-z]*/*.[ch] ]] || fail "$page: links to $link, which is not installed"
  done < <(grep -oE '\]\([^)#: ]+' "$page" | cut -c3- | sort -u)
done
if grep -rlF "$house/" "$share"; then fail "the files above name the folder they were built in"; fi
note "configurations, man pages, completion, documentation"
echo "install: moved, it works as it did"
