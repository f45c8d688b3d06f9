# A terminal's screen, as `tmux capture-pane -ep` prints it, as an SVG picture: text stays text, and colours follow the reader's light or
# dark theme.
#
#   tmux capture-pane -ep | awk -v columns=100 -v title='what it shows' -f tools/run_svg.awk >run.svg
BEGIN { cell = 8.4; row = 18; margin = 14 }

function escaped(text) {
  gsub(/&/, "\\&amp;", text)
  gsub(/</, "\\&lt;", text)
  gsub(/>/, "\\&gt;", text)
  return text
}

# The number of characters: not all are one byte.
function width(text) {
  gsub(/[\200-\277]/, "", text)
  return length(text)
}

# The class of what is on after the sequence ESC [ CODES m.
function styled(codes,   code, n, i) {
  n = split(codes, code, ";")
  if (codes == "") code[n = 1] = 0
  for (i = 1; i <= n; i++) {
    if (code[i] == 0) bold = colour = ""
    else if (code[i] == 1) bold = "b"
    else if (code[i] == 22) bold = ""
    else if (code[i] >= 31 && code[i] <= 36) colour = "c" code[i]
    else if (code[i] == 39) colour = ""
  }
  return bold (bold != "" && colour != "" ? " " : "") colour
}

# A piece of a line in one style. Its width is told, whatever font there is.
function piece(text,   n) {
  n = width(text)
  if (text ~ /[^ ]/)
    body = body sprintf("<text x=\"%.1f\" y=\"%d\" textLength=\"%.1f\"%s>%s</text>\n", margin + at * cell, margin + lines * row - 5, n * cell, \
      style == "" ? "" : " class=\"" style "\"", escaped(text))
  at += n
}

{
  lines++
  at = 0
  sub(/ +$/, "")
  while (match($0, /\033\[[0-9;]*m/)) {
    piece(substr($0, 1, RSTART - 1))
    style = styled(substr($0, RSTART + 2, RLENGTH - 3))
    $0 = substr($0, RSTART + RLENGTH)
  }
  piece($0)
  if ($0 != "" || at) last = lines
}

END {
  w = columns * cell + 2 * margin
  h = last * row + 2 * margin
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n", w, h, escaped(title)
  print "<style>\nrect { fill: #f6f8fa; stroke: #d0d7de }\ntext { fill: #1f2328; font: 14px ui-monospace, Menlo, Consolas, \"DejaVu Sans Mono\", monospace; white-space: pre }"
  print ".b { font-weight: bold }\n.c31 { fill: #cf222e }\n.c32 { fill: #116329 }\n.c33 { fill: #7d4e00 }\n.c34 { fill: #0550ae }\n.c35 { fill: #8250df }\n.c36 { fill: #1b7c83 }"
  print "@media (prefers-color-scheme: dark) {\nrect { fill: #0d1117; stroke: #30363d }\ntext { fill: #e6edf3 }"
  print ".c31 { fill: #ff7b72 }\n.c32 { fill: #7ee787 }\n.c33 { fill: #e3b341 }\n.c34 { fill: #79c0ff }\n.c35 { fill: #d2a8ff }\n.c36 { fill: #76e3ea }\n}\n</style>"
  printf "<rect x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n%s</svg>\n", w - 1, h - 1, body
}
