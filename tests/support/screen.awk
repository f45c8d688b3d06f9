# What a terminal shows in the end of what was sent to it, a line each however wide; what differs from one run, machine or moment to the
# next as signs: N a number, T a time, B a unit of bytes, [#] a bar.
{
  sub(/\r$/, "")
  line = ""
  count = split($0, drawn, "\r")
  for (i = 1; i <= count; i++) {
    text = drawn[i]
    cleared = sub(/\033\[K/, "", text)
    line = cleared || length(text) >= length(line) ? text : text substr(line, length(text) + 1)
  }
  gsub(/\^C/, "", line) # the terminal's echo
  gsub(/\[#*\.*\] /, "[#] ", line)
  gsub(/[0-9]+(d[0-9]+h|h[0-9]+m|m[0-9]+s|s)/, "T", line)
  gsub(/step-[0-9]+/, "step-N", line)
  gsub(/-?[0-9][0-9,]*(\.[0-9]+)?(e[-+][0-9]+)?k?/, "N", line)
  gsub(/[KMG]iB/, "B", line)
  gsub(/(N s|N step|T)\/step|N step\/s/, "N step/s", line)
  gsub(/(N s|T)\/update|N update\/s/, "N update/s", line)
  sub(/cpu \([a-zN, ]+\)/, "cpu (...)", line)
  sub(/ \(best N at update N\)/, "", line) # not where it was before the stop
  gsub(/   +/, "  ", line) # a column of numbers
  if (line != "") print line
}
