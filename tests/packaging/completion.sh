#!/usr/bin/env bash
# What bash and zsh offer on the command line of drover. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
house=$PWD
export LC_ALL=C
generated=$(dirname "$bin")/packaging/generated
mkdir -p "$work/here/model" "$work/here/runs"
cd "$work/here"
touch a.jsonl b.jsonl model.gguf

# A line, and the words that are to be offered at its end, sorted; of bash and zsh, where zsh is.
cases() {
  cat <<'END'
drover s|sample sft
drover --v|--version
drover help i|init inspect
drover help sft |all data device lora model optim run
drover sft --model.dt|--model.dtype
drover sft --model.dtype |auto bf16 f32
drover sft --model.dtype=b|bf16
drover sft --lora.enabled |false true
drover sft --lora.enabled --model.path m|model model.gguf
drover sft --model.adapter |model runs
drover sft --data.train a.jsonl,b|b.jsonl
drover sft --run.seed |
drover new |dpo pipeline ppo reward sft
drover new --out a|a.jsonl
drover inspect d|data decode
drover inspect data --template-a|--template-args
drover tokenizer |add
drover tokenizer add m|model model.gguf
drover run --l|--launcher
drover run a|a.jsonl
drover launch -n 2 s|sft
drover launch --m|--mpirun
drover launch -n 2 sft --model.dt|--model.dtype
drover config b|b.jsonl
END
}

source "$generated/drover.bash"
# offered LINE: by bash, as it takes words apart: = is one of them.
offered() {
  local line=${1//=/ = }
  read -ra COMP_WORDS <<<"$line"
  [[ $1 != *' ' && $1 != *= ]] || COMP_WORDS+=('')
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  "$(complete -p drover | sed 's/.*-F \([^ ]*\).*/\1/')"
  # A list of files is one word to bash, and its last part to zsh.
  printf '%s\n' "${COMPREPLY[@]##*,}" | sort -u | paste -s -d ' '
}
count=0 lines=()
while IFS='|' read -r line expected; do
  found=$(offered "$line")
  [[ $found == "$expected" ]] || fail "bash, '$line': expected '$expected', found '$found'"
  lines+=("$line")
  count=$((count + 1))
done < <(cases)
offered 'drover sft --data.train a.jsonl,b' >/dev/null
[[ ${COMPREPLY[*]} == a.jsonl,b.jsonl ]] || fail "bash, a list of files: ${COMPREPLY[*]}"
note "bash: $count lines"

# Every option of every training program is offered.
for stage in sft reward dpo ppo sample; do
  offered "drover $stage --" | tr ' ' '\n' >offered
  "$drover" help "$stage" all | grep -oE '^  --[a-z0-9_.-]+' | cut -c3- | sort -u >known
  [[ -s known ]] || fail "no option of $stage is known"
  diff known offered >difference || fail "options of $stage: $(cat difference)"
done
note "bash: all options of the stages"

shells=bash
if command -v zsh >/dev/null; then
  timeout 30 zsh -f "$house/tests/packaging/complete.zsh" "$generated" "${lines[@]}" >zsh-offered </dev/null || fail "zsh does not answer"
  paste -d '|' <(cases) zsh-offered | while IFS='|' read -r line expected found; do
    [[ $found == "$expected" ]] || fail "zsh, '$line': expected '$expected', found '$found'"
  done
  [[ $(wc -l <zsh-offered) == "$count" ]] || fail "zsh: $(wc -l <zsh-offered) answers to $count lines"
  shells+=', zsh'
fi
echo "completion: as it should be in $shells"
