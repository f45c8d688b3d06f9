# Takes apart what `drover help COMMAND all` prints (base/option_help.c), for the man pages and the completions.
#
# Sets `summary` ("NAME: summary", where there is one), `usage`, `example` (its lines), `paragraphs` and paragraph[1 ...], and
# `rows` with, of each row, in_section[i] (the heading above it), row_name[i] ("--optim.lr X") and row_text[i].
BEGIN { RS = ""; FS = "\n" }

function joined(from,   i, text) {
  for (i = from; i <= NF; i++) text = text (text == "" ? "" : " ") $i
  return text
}

NR == 1 && /^[a-z_ ]+: / && !/^usage: / { summary = joined(1); sub(/^[a-z_ ]+: /, "", summary); next }
/^usage: / { usage = joined(1); sub(/^usage: /, "", usage); next }
/^examples?\n/ || /^  drover / {
  for (i = /^ / ? 1 : 2; i <= NF; i++) example = example substr($i, 3) "\n"
  next
}
!/\n  / && !/^  / { paragraph[++paragraphs] = joined(1); next }
{
  section = ""
  for (i = 1; i <= NF; i++) {
    if ($i ~ /^[^ ]/) {
      section = $i
    } else if ($i ~ /^  [^ ]/) { # the name, and behind two spaces the text, if there is room for it
      $i = substr($i, 3)
      in_section[++rows] = section
      long = !match($i, /  +/)
      row_name[rows] = long ? $i : substr($i, 1, RSTART - 1)
      row_text[rows] = long ? "" : substr($i, RSTART + RLENGTH)
    } else {
      sub(/^ +/, "", $i)
      row_text[rows] = row_text[rows] (row_text[rows] == "" ? "" : " ") $i
    }
  }
}
