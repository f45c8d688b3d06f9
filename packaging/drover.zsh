#compdef drover
# Completion of drover's command line for zsh; made with Drover from its option tables.

# _drover_offer COMMAND options|words: what the table has of it (packaging/completion.awk).
_drover_offer() {
  local -a found column
  local line
  for line in $table; do
    column=("${(@ps:\t:)line}")
    [[ $column[1] == $1 ]] || continue
    if [[ $column[2] == -* ]]; then [[ $2 == options ]] || continue; else [[ $2 == words ]] || continue; fi
    found+=("${column[2]//:/\\:}:$column[4]")
  done
  (( $#found )) || return
  if [[ $2 == options ]]; then _describe -o option found; else _describe command found; fi
}

_drover() {
  local -a table column
  local command=$words[2] prev=$words[CURRENT-1] line what= i
  table=("${(@f)$(<<'END'
@TABLE@
END
)}")
  if (( CURRENT == 2 )); then
    _drover_offer drover words
    _drover_offer drover options
    return
  fi
  case $command in
    help)
      if (( CURRENT == 3 )); then _drover_offer drover words; return; fi
      (( CURRENT == 4 )) || return
      command=$words[3] prev=--help
      ;;
    inspect|tokenizer) (( CURRENT == 3 )) || command+=" $words[3]" ;;
    launch)
      for (( i = 3; i < CURRENT; i++ )); do
        [[ $words[i] == (sft|reward|dpo|ppo) ]] && command=$words[i]
      done
      ;;
  esac
  if [[ $PREFIX == --*=* ]]; then
    prev=${PREFIX%%=*}
    compset -P '*='
  elif [[ $PREFIX == -* ]]; then
    _drover_offer $command options
    return
  fi
  if [[ $prev == -* ]]; then
    for line in $table; do
      column=("${(@ps:\t:)line}")
      [[ $column[1] == $command && $column[2] == $prev ]] && what=$column[3]
    done
  fi
  case $what in
    '?') _message 'value' ;;
    MODEL) _alternative 'directories:model:_directories' 'files:model:_files -g "*.gguf"' ;;
    ADAPTER) _directories ;;
    PATHS) compset -P '*,'; _files ;;
    PATH|FILE) _files ;;
    -|'')
      if [[ $command == launch ]]; then compadd sft reward dpo ppo; else _drover_offer $command words || _files; fi
      ;;
    *) compadd -- ${(s:,:)what} ;;
  esac
}

_drover "$@"
