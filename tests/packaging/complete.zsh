# zsh -f complete.zsh FOLDER LINE...: what an interactive zsh with FOLDER in its fpath offers at the end of each line, a line each.
zmodload zsh/zpty
zpty shell zsh -f -i
tell() { zpty -w shell "$1" }
tell "PS1=; unset zle_bracketed_paste; stty -echo; fpath=(${(q)1} \$fpath); autoload -U compinit; compinit -u -D"
tell "bindkey '^I' complete-word; LISTMAX=10000; setopt no_auto_menu no_beep; zstyle ':completion:*' verbose no"
# Matches are told as they are offered; compadd with -O, -A or -D only sorts arrays.
tell 'compadd() {
  local -a found
  if [[ "$*" != *-[OAD]* ]]; then builtin compadd -O found "$@"; print -rl -- "offered "$^found; fi
  builtin compadd "$@"
}'
tell 'comppostfuncs=(told); told() { print "all of it"; comppostfuncs=(told) }; print "read""y"'
zpty -r shell heard '*ready*'
for line in "${@:2}"; do
  zpty -n -w shell $'\C-u'$line$'\t'
  zpty -r shell heard '*all of it*'
  print -r -- $(print -r -- "$heard" | tr -d '\r' | sed -n 's/^.*offered //p' | sort -u)
done
zpty -d shell
