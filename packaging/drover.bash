# Completion of drover's command line for bash; made with Drover from its option tables.

# _drover_lines COMMAND: its lines of the table: WORD, WHAT, MEANING (packaging/completion.awk).
_drover_lines() {
  local line
  while IFS= read -r line; do
    [[ $line != "$1"$'\t'* ]] || printf '%s\n' "${line#*$'\t'}"
  done <<'END'
@TABLE@
END
}

# _drover_words COMMAND OPTIONS: its words that begin as $cur; OPTIONS: those with a minus, otherwise the others.
_drover_words() {
  local word rest
  while IFS=$'\t' read -r word rest; do
    [[ $word != "$cur"* || ($2 && $word != -*) || (-z $2 && $word == -*) ]] || COMPREPLY+=("$word")
  done < <(_drover_lines "$1")
}

# _drover_paths MODEL|ADAPTER|PATH|FILE|PATHS
_drover_paths() {
  local before=
  compopt -o filenames 2>/dev/null
  case $1 in
    ADAPTER) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    MODEL) mapfile -t COMPREPLY < <(compgen -d -- "$cur" && compgen -f -X '!*.gguf' -- "$cur") ;;
    PATHS)
      [[ $cur != *,* ]] || before=${cur%,*},
      mapfile -t COMPREPLY < <(compgen -f -- "${cur##*,}")
      COMPREPLY=("${COMPREPLY[@]/#/$before}")
      ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
  esac
}

_drover() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} at=$COMP_CWORD word what rest i
  COMPREPLY=()
  if [[ $cur == = ]]; then # --key=VALUE is three words to bash
    cur=
  elif [[ $prev == = ]]; then
    prev=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if ((at == 1)); then
    _drover_words drover "$([[ $cur != -* ]] || echo options)"
    return
  fi
  case $command in
    help)
      ((at > 2)) || _drover_words drover ''
      ((at == 3)) || return
      command=${COMP_WORDS[2]} prev=--help
      ;;
    inspect | tokenizer) ((at == 2)) || command+=" ${COMP_WORDS[2]}" ;;
    launch)
      for ((i = 2; i < at; i++)); do
        [[ ${COMP_WORDS[i]} != @(sft|reward|dpo|ppo) ]] || command=${COMP_WORDS[i]}
      done
      ;;
  esac
  if [[ $cur == -* ]]; then
    _drover_words "$command" options
    return
  fi
  while IFS=$'\t' read -r word what rest; do
    [[ $word == "$prev" && $word == -* ]] || continue
    case $what in
      -) ;;
      '?') return ;;
      [A-Z]*) _drover_paths "$what" && return ;;
      *) mapfile -t COMPREPLY < <(compgen -W "${what//,/ }" -- "$cur") && return ;;
    esac
  done < <(_drover_lines "$command")
  _drover_words "$command" ''
  [[ $command != launch ]] || mapfile -t COMPREPLY < <(compgen -W 'sft reward dpo ppo' -- "$cur")
  ((${#COMPREPLY[@]})) || _drover_paths PATH
}

complete -F _drover drover
