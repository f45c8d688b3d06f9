#!/usr/bin/env bash
# Which faults the tests would see: makes each change of tests/mutants/*.txt, one at a time, in a copy of the tree, builds the
# tests that are named for it, and runs them. At least one must fail. The table ends with a line of counts.
#
#   tests/mutants.sh [--only WHAT]...     WHAT: a number of the table, or a part of a description or a file's name
#   tests/mutants.sh --check [BUILD]      builds and runs nothing: says where a table no longer fits the tree, as TABLE:LINE and
#                                         what it expects; with BUILD, a folder that cmake has set up, also which tests are not
#                                         there (those of cuda/ where the build has them). The test house/mutants.
#
# Fails when a change is seen by no test, does not compile, or no longer applies: then its text in the table is to be
# brought up to date. The copy and its build stay in build/mutants, so that another run begins where this one ended.
#
# The tables are lists of blocks, with an empty line between them:
#
#   = what is wrong                        the description
#   ? unit/ppo_loss parity/runs_ppo        tests, as ctest names them; run in this order until one fails; those of
#                                          cuda/ run on the emulated card
#   @ ppo/loss.c                           a file, and in it
#   - the text that is there               a part of a line that occurs once in the file, or several lines
#   + the text instead                     nothing after the sign: taken out
#
# with as many changes (@, -, +) as the fault needs. Lines of - or + are joined.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD place=$PWD/build/mutants
tree=$place/tree build=$place/build
limit=300 # seconds for a test: a fault that goes round in circles is seen too

only=() check=false names_of=''
while (($#)); do
  case $1 in
    --check)
      check=true
      if [[ -n ${2-} && $2 != -* ]]; then names_of=$2; shift; fi
      shift
      ;;
    --only) only+=("${2?--only needs a value}"); shift 2 ;;
    --help | -h) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"; exit 0 ;;
    *) echo "unknown: $1 (try --help)" >&2; exit 2 ;;
  esac
done

# -- the tables: mutant i has what[i], tests[i], and changes first[i] .. first[i+1]-1 of file, old, new; it stands at line[i], its
# changes at line_of_change ------------------------------------------------------------------------------------------------

forget_tables() { what=() tests=() line=() first=(0) file=() old=() new=() line_of_change=(); }
forget_tables

read_table() { # FILE
  local table=$1 text number=0 at=-1 mark newline=$'\n'
  while IFS= read -r text || [[ -n $text ]]; do
    number=$((number + 1))
    mark=${text:0:1} text=${text:2}
    case $mark in
      '' | '#') ;;
      =) what+=("$text"); tests+=(''); line+=("$table:$number"); first+=("${#file[@]}") ;;
      \?) tests[${#tests[@]} - 1]=$text ;;
      @)
        file+=("$text"); old+=(''); new+=(''); line_of_change+=("$table:$number")
        at=$((${#file[@]} - 1)); first[${#first[@]} - 1]=${#file[@]}
        ;;
      -) old[at]+=${old[at]:+$newline}$text ;;
      +) new[at]+=${new[at]:+$newline}$text ;;
      *)
        echo "$table:$number: expected a line that begins with one of = ? @ - + #" >&2
        exit 2
        ;;
    esac
  done <"$table"
}

wanted() { # NUMBER
  local word i=$(($1 - 1)) names
  ((${#only[@]})) || return 0
  names="${what[i]} ${file[*]:first[i]:first[i + 1] - first[i]}"
  for word in "${only[@]}"; do
    if [[ $word =~ ^[0-9]+$ ]]; then
      [[ $word != "$1" ]] || return 0
    elif [[ $names == *"$word"* ]]; then
      return 0
    fi
  done
  return 1
}

# -- one change ------------------------------------------------------------------------------------------------------------

# Makes change $1 in $text; false when it does not apply, with the reason in $reason.
change() {
  local from=${old[$1]}
  case $text in
    *"$from"*"$from"*) reason="${file[$1]} has more than once: $from"; return 1 ;;
    *"$from"*) text=${text/"$from"/"${new[$1]}"} ;;
    *) reason="${file[$1]} does not have: $from"; return 1 ;;
  esac
}

# Makes the changes of mutant $1 in the tree; false when one does not apply, with the reason in $reason.
apply() {
  local c text
  for ((c = first[$1]; c < first[$1 + 1]; c++)); do
    if [[ ! -f $tree/${file[c]} ]]; then reason="there is no ${file[c]}"; return 1; fi
    text=$(cat "$tree/${file[c]}"; echo .) text=${text%.}
    change "$c" || return 1
    printf '%s' "$text" >"$tree/${file[c]}"
  done
}

restore() {
  local c
  for ((c = first[$1]; c < first[$1 + 1]; c++)); do
    [[ ! -f $root/${file[c]} ]] || cp "$root/${file[c]}" "$tree/${file[c]}"
  done
}

# The targets that the tests of mutant $1 run.
targets() {
  local test
  for test in ${tests[$1]}; do
    # NAME/PATH is NAME on another code path of the processor.
    if [[ $test == */*/* ]]; then echo on_cpu; fi
    if [[ $test == stages/* ]]; then echo programs
    elif [[ $test == */amx_software ]]; then tr / _ <<<"test_$test"
    elif [[ $test == ranks/* ]]; then printf '%s\n' ranks_collectives sft generate
    elif [[ $test == cuda/* ]]; then
      # By the program that the test is: several tests have one.
      cat "$build/tests/CTestTestfile.cmake" "$build/tests/cuda_host/CTestTestfile.cmake" |
        sed -nE "s,^add_test\\(\\[=\\[$test\\]=\\] \"$build/([^\"]*)\".*,\\1,p"
    else cut -d / -f 1-2 <<<"$test" | sed 's,^,test_,; s,/,_,'
    fi
  done | sort -u
}

run_test() { # NAME: as ctest runs it
  ctest --test-dir "$build" -R "^$1\$" --timeout "$limit" --no-tests=error >"$place/test.log" 2>&1 </dev/null
}

# Sets $verdict.
try() {
  local test
  for test in ${tests[$1]}; do
    if [[ $skipped == *" $test "* ]]; then verdict="not tried: $test cannot run on this machine"; return; fi
    if [[ $broken == *" $test "* ]]; then verdict="NOT TRIED: $test fails by itself"; return; fi
  done
  if ! apply "$1"; then verdict="DOES NOT APPLY: $reason"; return; fi
  # shellcheck disable=SC2046 # words are wanted
  if ! ninja -C "$build" $(targets "$1") >"$place/build.log" 2>&1; then
    verdict="DOES NOT COMPILE: $(grep -m 1 -E 'error:|FAILED' "$place/build.log")"
    return
  fi
  for test in ${tests[$1]}; do
    if ! run_test "$test"; then verdict="seen by $test"; return; fi
  done
  verdict="SURVIVED: ${tests[$1]}"
}

# -- the tables beside the tree --------------------------------------------------------------------------------------------

# Prints what no longer fits the tree in folder $1, or names a test that is not one of the lines of $2 (nothing: not looked at).
check_tables() {
  local i c name text reason
  local -A now # the text of a file after the changes so far
  for ((i = 0; i < ${#what[@]}; i++)); do
    if [[ -z ${tests[i]} ]]; then echo "${line[i]}: expected a test that sees it (?)"; fi
    if ((first[i] == first[i + 1])); then echo "${line[i]}: expected a change (@, -, +)"; fi
    for name in ${tests[i]}; do
      if [[ -n $2 && $'\n'$2$'\n' != *$'\n'"$name"$'\n'* && ($name != cuda/* || $'\n'$2 == *$'\n'cuda/*) ]]; then
        echo "${line[i]}: expected a test $name"
      fi
    done
    now=()
    for ((c = first[i]; c < first[i + 1]; c++)); do
      name=${file[c]}
      if [[ ! -f $1/$name ]]; then echo "${line_of_change[c]}: expected a file $name"; continue; fi
      if [[ -z ${old[c]} || ${old[c]} == "${new[c]}" ]]; then echo "${line_of_change[c]}: expected a text (-) and another (+)"; continue; fi
      if [[ -z ${now[$name]-} ]]; then IFS= read -r -d '' text <"$1/$name" || true; now[$name]=$text; fi
      text=${now[$name]}
      if change "$c"; then now[$name]=$text; else echo "${line_of_change[c]}: expected once: $reason"; fi
    done
  done
}

# A check that has gone blind fails: a small tree has one fault of each kind.
try_check() {
  local folder lines
  folder=$(mktemp -d)
  printf 'one\ntwo two\n' >"$folder/file"
  cat >"$folder/table" <<'END'
= all right, and changes of one file follow each other
? unit/there
@ file
- one
+ three
@ file
- three
+ four
= not there
? unit/there
@ file
- three
+ four
= twice
? unit/there
@ file
- two
+ four
= no such file
? unit/there
@ other
- one
+ three
= nothing is other
? unit/there
@ file
- one
+ one
= no test
@ file
- one
+ three
= no change
? unit/there
= no such test
? unit/there unit/missing
@ file
- one
+ three
END
  read_table "$folder/table"
  lines=$(check_tables "$folder" unit/there | sed -E 's/.*table:([0-9]+): .*/\1/' | tr '\n' ' ')
  forget_tables
  rm -r "$folder"
  if [[ $lines != '11 16 21 26 29 33 35 ' ]]; then
    echo "the check does not see what it is there for: lines $lines" >&2
    exit 1
  fi
}

if $check; then
  known=''
  if [[ -n $names_of ]]; then
    known=$(ctest --test-dir "$names_of" -N 2>/dev/null | sed -nE 's/^ *Test +#[0-9]+: ([^ ]+).*/\1/p' || true)
    [[ -n $known ]] || { echo "no tests in $names_of" >&2; exit 2; }
  fi
  try_check
  for table in tests/mutants/*.txt; do read_table "$table"; done
  stale=$(check_tables "$root" "$known")
  [[ -z $stale ]] || { printf '%s\n' "$stale"; exit 1; }
  echo "${#what[@]} faults fit the tree${names_of:+ and name tests of $names_of}"
  exit 0
fi

# -- all of them -----------------------------------------------------------------------------------------------------------

for table in tests/mutants/*.txt; do read_table "$table"; done
chosen=()
for ((i = 0; i < ${#what[@]}; i++)); do
  if wanted $((i + 1)); then chosen+=("$i"); fi
done
((${#chosen[@]})) || { echo "no such mutant" >&2; exit 2; }

# The copy: what git knows and what it does not ignore. Files that are as they were keep their times, and so their objects.
mkdir -p "$tree"
git ls-files --cached --others --exclude-standard | sort >"$place/files"
(cd "$tree" && find . -type f | sed 's,^\./,,' | sort | comm -23 - "$place/files" | tr '\n' '\0' | xargs -0 -r rm)
while IFS= read -r name; do
  if [[ -f $name ]] && ! cmp -s "$name" "$tree/$name"; then cp --parents "$name" "$tree"; fi
done <"$place/files"
card=OFF # the emulated one takes as long to build as all else
for i in "${chosen[@]}"; do
  if [[ ${tests[i]} == *cuda/* ]]; then card=ON; fi
done
cmake -S "$tree" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O2 -DDROVER_CUDA_HOST=$card >"$place/cmake.log" ||
  { cat "$place/cmake.log" >&2; exit 1; }

# A test that fails without a fault shows nothing: its changes are not tried, and count as not seen.
names=$(for i in "${chosen[@]}"; do tr ' ' '\n' <<<"${tests[i]}"; done | sort -u)
# shellcheck disable=SC2046 # words are wanted
ninja -C "$build" $(for i in "${chosen[@]}"; do targets "$i"; done | sort -u) >"$place/build.log" 2>&1 ||
  { grep -E 'error|FAILED' "$place/build.log" >&2; exit 1; }
broken=' ' skipped=' '
for test in $names; do
  run_test "$test" || { echo "$test fails without any change"; broken+="$test "; }
  if grep -q '\*\*\*Skipped' "$place/test.log"; then skipped+="$test "; fi
done

seen=0 bad=0 left=0
for i in "${chosen[@]}"; do
  try "$i"
  restore "$i"
  printf '%3d  %-28s %-70s %s\n' $((i + 1)) "${file[first[i]]}" "${what[i]}" "$verdict"
  case $verdict in
    seen*) seen=$((seen + 1)) ;;
    not*) left=$((left + 1)) ;;
    *) bad=$((bad + 1)) ;;
  esac
done
echo "$seen seen, $bad not, $left not tried, of ${#what[@]}"
((bad == 0))
