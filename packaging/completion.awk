# What can stand on the command line of a command, from its help, read by help.awk: lines of four columns with tabs between them.
#
#   awk -v command='inspect data' -f help.awk -f completion.awk HELP
#
#   COMMAND  WORD  WHAT  MEANING
#
# WORD is an option, a command below this one, or what it is for. WHAT may stand behind it: values, "auto,f32"; MODEL, ADAPTER, PATH, FILE
# or PATHS; "?", of which nothing is known; or "-", nothing.

# The values of "what it means (one of auto, f32; default auto)".
function choices(text) {
  while (match(text, /\(one of [^;)]*/)) {
    values = substr(text, RSTART + 8, RLENGTH - 8)
    text = substr(text, RSTART + RLENGTH)
  }
  gsub(/, /, ",", values)
  return values
}

function behind(placeholder, text) {
  if (placeholder == "") return "-"
  if (placeholder == "[true|false]") return "true,false"
  if (placeholder == "NAME") return choices(text)
  if (placeholder == "PATH,...") return "PATHS"
  return placeholder ~ /^(MODEL|ADAPTER|PATH|FILE)$/ ? placeholder : "?"
}

function line(word, what, text) {
  if (text ~ /\)$/) sub(/ \([^()]*(\([^()]*\)[^()]*)*\)$/, "", text) # the remarks
  printf "%s\t%s\t%s\t%s\n", command, word, what, text
}

END {
  topics = "all"
  for (i = 1; i <= rows; i++) {
    if (match(row_name[i], /^--[a-z]+\./)) {
      section = substr(row_name[i], 3, RLENGTH - 3)
      if (!seen[section]++) topics = topics "," section
    }
  }
  for (i = 1; i <= rows; i++) {
    if (row_name[i] !~ /^-/) {
      if (row_name[i] ~ /^[a-z_]+$/) line(row_name[i], "-", row_text[i])
      continue
    }
    names = split(row_name[i], name, ", ") # "-n N, --ranks N"
    for (j = 1; j <= names; j++) {
      split(name[j], part, " ")
      line(part[1], part[1] == "--help" ? topics : behind(part[2], row_text[i]), row_text[i])
    }
    # "sft, reward or pipeline; may stand first, without --kind"
    if (row_text[i] ~ /^[a-z]+(, [a-z]+)* or [a-z]+; may stand first/) {
      kinds = row_text[i]
      sub(/;.*/, "", kinds)
      names = split(kinds, name, /, | or /)
      for (j = 1; j <= names; j++) line(name[j], "-", "")
    }
  }
}
