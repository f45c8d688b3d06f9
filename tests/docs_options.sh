#!/usr/bin/env bash
# Every option and every page that README.md and docs/ name is there. $1: the folder of the executables.
set -euo pipefail
bin=$1
failed=0
complain() { echo "$*" && failed=1; }

# All keys of all programs: "section.key", and what the tools have without a section.
known=$(for program in sft reward ppo dpo sample generate merge inspect data; do
  "$bin/$program" --help all
  if [[ $program == inspect ]]; then for view in tokens chat logprobs score model data; do "$bin/inspect" "$view" --help all; done; fi
done 2>/dev/null | grep -oE -- '--[a-z0-9-]+(\.[a-z0-9_]+)?' | sort -u)

sections='model|lora|data|optim|rollout|reward|cost|critic|ppo|dpo|sample|run|device'
for page in README.md docs/*.md; do
  # As they stand on a command line, and in the text as `section.key`.
  while read -r option; do
    grep -qxF -- "$option" <<<"$known" || complain "$page: there is no option $option"
  done < <({
    grep -oE -- "--($sections)\.[a-z0-9_]+" "$page"
    grep -oE "\`($sections)\.[a-z0-9_]+[ \`]" "$page" | sed -E 's/^`(.*).$/--\1/'
  } | grep -vxE -- '--(run\.db|data\.jsonl?)' | sort -u) # files of these names
  while read -r link; do
    [[ -e $(dirname "$page")/$link ]] || complain "$page: links to $link, which is not there"
  done < <(grep -oE '\]\([^)#: ]+' "$page" | cut -c3- | sort -u)
done
exit $failed
