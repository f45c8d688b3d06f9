#!/usr/bin/env bash
# What somebody meets first: drover alone, its help, unknown commands, versions. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh

# narrow: the last output has no line of more than 80 characters.
narrow() { awk 'length > 80 { print; bad = 1 } END { exit bad }' "$work/out" >"$work/wide" || fail "a wide line: $(cat "$work/wide")"; }

expect 'usage: drover COMMAND' "$drover"
narrow
cp "$work/out" "$work/usage"
for words in help --help -h; do
  pass "$drover" $words
  cmp -s "$work/out" "$work/usage" || fail "drover $words is another text"
done

# Every program is in the help, but for the project's own; and what is in the help is there and has help of its own.
own=" bench_load bench_model bench_ops demo_check demo_data "
for path in "$bin"/*; do
  name=${path##*/}
  if grep -q "^  $name " "$work/usage"; then
    [[ $own != *" $name "* ]] || fail "$name is for users, and the project's own"
  else
    [[ $own == *" $name "* ]] || fail "$name is in the help of drover neither, nor one of the project's own"
  fi
done
listed=0
while read -r name; do
  pass "$drover" help "$name"
  grep -q '^usage: ' "$work/out" || fail "drover help $name: $(cat "$work/out")"
  narrow
  pass "$drover" "$name" --help
  listed=$((listed + 1))
done < <(sed -nE '/^(Begin|Train|Look|Use|Hand on|From nothing)$/,$ s/^  ([a-z_]+)  +.*/\1/p' "$work/usage")
((listed > 10)) || fail "only $listed commands are listed"
note "the help of drover, and of $listed commands"

# What is needed comes first, the rest when it is asked for.
for stage in sft reward ppo dpo sample; do
  pass "$drover" help "$stage"
  [[ $(grep -nE '^(usage|example|needed|usual|general|more)' "$work/out" | cut -d: -f2 | tr '\n' ' ') == 'usage example needed usual general more ' ]] ||
    fail "the parts of drover help $stage"
  ! grep -q -e '--data.max_record' "$work/out" || fail "drover help $stage is long"
  expect '--data.max_record' "$drover" help "$stage" all
  narrow
  expect '--data.max_record' "$drover" "$stage" --help data
  ! grep -q -e '--run.dir' "$work/out" || fail "drover $stage --help data"
done
refuse 2 "--help optin: expected all or a section; did you mean 'optim'?" "$drover" sft --help optin
note "short help, and all of it"

refuse 2 "unknown command 'stf'; did you mean 'drover sft'?" "$drover" stf
refuse 2 "unknown command 'rewrad'; did you mean 'drover reward'?" "$drover" rewrad --check
refuse 2 "unknown command 'report'; drover help lists them" "$drover" report
refuse 2 "unknown command 'xyzzy'; drover help lists them" "$drover" xyzzy
refuse 2 "unknown command '../sft'" "$drover" ../sft
refuse 2 "unknown command 'trian'" "$drover" help trian
refuse 2 "unknown option '--chekc'" "$drover" --chekc
refuse 2 "there are no programs in $work/nowhere" env DROVER_BIN="$work/nowhere" "$drover" sft
expect 'There are no programs in' env DROVER_BIN="$work/nowhere" "$drover"
mkdir "$work/empty"
refuse 2 "'sft' is not in $work/empty" env DROVER_BIN="$work/empty" "$drover" sft
pass "$drover" --version
[[ $(cat "$work/out") =~ ^drover\ [0-9.]+$ ]] || fail "drover --version: $(cat "$work/out")"
expect "$(cat "$work/out" | sed 's/drover/drover ppo/')" "$drover" ppo --version
note "unknown commands, versions"
echo "help: what somebody meets first"
