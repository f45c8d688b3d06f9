#!/usr/bin/env bash
# Takes the picture in README.md again: runs three commands at a terminal of 100 columns, on a real model and made-up data, and draws what
# stands there at the end.
#
#   tools/run_svg.sh MODEL [FILE]
#
#   MODEL   a model directory; the picture in docs is of SmolLM2-135M-Instruct
#   FILE    where to (default docs/run.svg)
#
# Needs tmux and a build (build/release, or DROVER_BIN). Times in the picture are those of this machine: let nothing else run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
(($# == 1 || $# == 2)) && [[ $1 != -* ]] || {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}
command -v tmux >/dev/null || { echo 'run_svg.sh: tmux is not here' >&2 && exit 1; }
[[ -f $1/config.json ]] || { echo "run_svg.sh: $1: expected a model directory" >&2 && exit 1; }
model=$(basename "$1")
house=$PWD file=$(realpath "${2:-docs/run.svg}")
bin=$(realpath "${DROVER_BIN:-build/release/bin}")

work=$(mktemp -d)
screen() { tmux -S "$work/tmux" -f /dev/null "$@"; }
trap 'screen kill-server 2>/dev/null || true; rm -rf "$work"' EXIT
"$bin/demo_data" --out "$work/data" >/dev/null
ln -s "$(realpath "$1")" "$work/$model"
head -n 178 "$work/data/sft.jsonl" >"$work/sft.jsonl"

# A shell that knows nothing of this machine. Its prompt, alone on the last line, says that a command has ended.
echo "PS1='\[\e[1;32m\]\$\[\e[0m\] ' HISTFILE=" >"$work/.bashrc"
screen new-session -d -x 100 -y 60 \
  "cd '$work' && exec env -i HOME='$work' TERM=tmux-256color LANG=C.UTF-8 DROVER_BIN='$bin' PATH='$house/tools:$PATH' bash --noprofile --rcfile .bashrc -i"
screen set -g status off
at_prompt() { [[ $(screen capture-pane -p | grep -v '^$' | tail -n 1) == '$' ]]; }

for command in \
  "drover new sft --model $model --data sft.jsonl --out sft.yaml" \
  "drover sft --config sft.yaml --optim.batch_size 8 --optim.epochs 1" \
  "drover generate --model $model --adapter runs/sft/adapter --chat --prompt 'My kettle does not start.'"; do
  until at_prompt; do sleep 0.1; done
  screen send-keys -l "$command"
  while at_prompt; do sleep 0.1; done # until it is there
  screen send-keys Enter
done
until at_prompt; do sleep 0.1; done
screen capture-pane -ep | awk -v columns=100 -v title="drover new, sft and generate at a terminal, on $model" -f tools/run_svg.awk >"$work/run.svg"
(($(stat -c %s "$work/run.svg") <= 60 * 1024)) || { echo 'run_svg.sh: the picture is larger than 60 KiB' >&2 && exit 1; }
cp "$work/run.svg" "$file"
ls -sh "$file" >&2
