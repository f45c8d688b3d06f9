# A man page (man(7)) from the help of a command, read by help.awk, and from what manual.txt says of it.
#
#   awk -v command='inspect data' -v brief='...' -v version=0.1.0 -v date=2026-11-29 -v notes=manual.txt -v errors=base/error.h \
#     -v runs=docs/sft.md -f help.awk -f manual.awk HELP
#
# command: without one the page is drover's; brief: what it is for, in a few words, for NAME; errors: the header that defines the exit
# codes; runs: the page with the table of the run directory.

# Text as roff takes it literally.
function roff(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  gsub(/'/, "\\(aq", text)
  gsub(/\^/, "\\(ha", text)
  gsub(/~/, "\\(ti", text)
  gsub(/`/, "\\(ga", text)
  return text ~ /^\./ ? "\\&" text : text
}

# The words of an option or a usage: bold what is typed as it is, slanted what something else is put for.
function typed(text,   words, n, i, word, before, after, out) {
  n = split(text, words, " ")
  for (i = 1; i <= n; i++) {
    word = words[i]
    before = after = ""
    if (match(word, /^\[+/)) {
      before = substr(word, 1, RLENGTH)
      word = substr(word, RLENGTH + 1)
    }
    if (match(word, /(\]|,|\.\.\.)+$/)) {
      after = substr(word, RSTART)
      word = substr(word, 1, RSTART - 1)
    }
    if (word != "") word = (word ~ /^[A-Z][A-Z,]*$/ ? "\\fI" : "\\fB") roff(word) "\\fR"
    out = out (i > 1 ? " " : "") before word roff(after)
  }
  return out
}

function begin_part(title) { print ".SH " title }

# A paragraph, in lines of at most 80 characters.
function print_text(text,   words, n, i, out) {
  n = split(text, words, " ")
  for (i = 1; i <= n; i++) {
    if (out != "" && length(roff(out " " words[i])) > 80) {
      print roff(out)
      out = ""
    }
    out = out (out == "" ? "" : " ") words[i]
  }
  if (out != "") print roff(out)
}

function print_item(name, text) {
  printf ".TP\n%s\n", name
  print_text(text)
}

# The same text where "[ranks](ranks.md)" is a link in it.
function without_links(text,   page) {
  while (match(text, /\[[^]]*\]\([^)]*\)/)) {
    page = substr(text, RSTART, RLENGTH)
    gsub(/.*\(|\)/, "", page)
    text = substr(text, 1, RSTART - 1) "docs/" page substr(text, RSTART + RLENGTH)
  }
  return text
}

# Sets see, pages, files and about[1 ...] from the block of the notes that begins with "# COMMAND".
function read_notes(   line, on, text) {
  while ((getline line <notes) > 0) {
    if (line ~ /^# /) {
      on = line == "# " (command == "" ? "drover" : command)
    } else if (on && line ~ /^(see|pages|files): /) {
      text = line
      sub(/^[a-z]+: /, "", text)
      if (line ~ /^see/) see = text
      if (line ~ /^pages/) pages = text
      if (line ~ /^files/) files = text
    } else if (on) {
      text = line ~ /^ *$/ ? "" : about[abouts] == "" ? line : about[abouts] " " line
      if (text == "" || abouts == 0) abouts++
      about[abouts] = text
    }
  }
  close(notes)
}

# The exit codes, from the enumeration that defines them.
function exit_codes(   line, number, text) {
  while ((getline line <errors) > 0) {
    if (line !~ /^  ERROR_[A-Z0-9]+ = [0-9]+,? +\/\* .* \*\/$/) continue
    number = text = line
    sub(/^[^=]*= /, "", number)
    sub(/,? .*/, "", number)
    sub(/^[^*]*\* /, "", text)
    sub(/ \*\/$/, "", text)
    print_item("\\fB" number "\\fR", text)
  }
  close(errors)
}

# The rows of the page's table that begins with `run.dir/`.
function run_files(   line, on, cells) {
  while ((getline line <runs) > 0) {
    if (line ~ /^\| `run\.dir\/`/) on = 1
    else if (on && line !~ /^\|/) break
    else if (on && split(line, cells, / *\| */) >= 4 && cells[2] !~ /^-/) {
      gsub(/`/, "", cells[2])
      gsub(/`/, "", cells[3])
      print_item("\\fI" roff("run.dir/" cells[2]) "\\fR", without_links(cells[3]))
    }
  }
  close(runs)
}

# An example as it stands, a line each.
function show_example() {
  sub(/\n$/, "", example)
  gsub(/\n/, "\n\001", example)
  example = roff(example)
  gsub(/\001/, "", example)
  printf ".EX\n%s\n.EE\n", example
}

function describe(text) {
  if (text == "") return
  printf "%s", between
  print_text(text)
  between = ".PP\n"
}

END {
  RS = "\n"
  name = "drover" (command == "" ? "" : "-" command)
  gsub(/[ ]/, "-", name)
  read_notes()
  printf ".TH %s 1 \"%s\" \"Drover %s\" \"Drover\"\n.nh\n.ad l\n", toupper(roff(name)), date, version

  begin_part("NAME")
  printf "%s \\- %s\n", roff(name), roff(brief)

  begin_part("SYNOPSIS")
  print typed(usage)

  begin_part("DESCRIPTION")
  if (summary != "" && tolower(summary) != tolower(brief)) {
    print_text(toupper(substr(summary, 1, 1)) substr(summary, 2) (summary ~ /\.$/ ? "" : "."))
    between = ".PP\n"
  }
  for (i = 1; i <= abouts; i++) describe(about[i])
  for (i = 1; i <= paragraphs; i++) describe(paragraph[i])

  if (rows) begin_part(row_name[1] ~ /^-/ ? "OPTIONS" : "COMMANDS")
  for (i = 1; i <= rows; i++) {
    if (in_section[i] != in_section[i - 1]) printf ".SS %s\n", in_section[i] == "" ? "values" : roff(in_section[i])
    print_item(typed(row_name[i]), row_text[i])
  }

  begin_part("EXIT STATUS")
  exit_codes()
  if (files != "") {
    begin_part("FILES")
    run_files()
  }
  if (example != "") {
    begin_part("EXAMPLES")
    show_example()
  }
  begin_part("SEE ALSO")
  n = split((command == "" ? "" : "drover ") see, parts, " ")
  for (i = 1; i <= n; i++) printf ".BR \\%%%s (1),\n", roff(parts[i])
  n = split(pages, parts, " ")
  print "and of Drover\\(aqs documentation"
  for (i = 1; i <= n; i++) printf "\\fIdocs/%s.md\\fR%s\n", roff(parts[i]), i < n ? "," : ""
}
