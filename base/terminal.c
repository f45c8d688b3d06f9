#include "base/terminal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The bytes of the control character that text begins with, 0 when it begins with none. */
static size_t control(const char *text, size_t bytes) {
  unsigned char c = (unsigned char)text[0], next = bytes > 1 ? (unsigned char)text[1] : 0;
  if (c == 0xc2 && next >= 0x80 && next < 0xa0) return 2;
  return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f;
}

size_t terminal_text(const char *text, size_t bytes, char *out, size_t size) {
  size_t used = 0;
  for (size_t at = 0; at < bytes;) {
    char spelled[8] = {text[at]};
    size_t length = control(text + at, bytes - at);
    const unsigned char last = length ? (unsigned char)text[at + length - 1] : 0;
    if (length) snprintf(spelled, sizeof spelled, last < 0x20 ? "\\x%02x" : "\\u%04x", (unsigned)last);
    size_t more = strlen(spelled);
    if (used + more >= size) break;
    memcpy(out + used, spelled, more);
    used += more;
    at += length ? length : 1;
  }
  out[used] = '\0';
  return used;
}

void terminal_write(FILE *stream, const char *text, size_t bytes) {
  if (!isatty(fileno(stream))) {
    fwrite(text, 1, bytes, stream);
    return;
  }
  char spelled[4096];
  for (size_t at = 0; at < bytes;) {
    size_t piece = bytes - at < 512 ? bytes - at : 512;                 /* at most six bytes for one */
    if (piece == 512 && (unsigned char)text[at + 511] == 0xc2) piece--; /* a C1 character stays whole */
    fwrite(spelled, 1, terminal_text(text + at, piece, spelled, sizeof spelled), stream);
    at += piece;
  }
}

void terminal_write_marked(FILE *stream, const char *text, size_t bytes) {
  static const char begin[] = "\u27e6", end[] = "\u27e7"; /* of three bytes; only the last differs */
  const char *none = getenv("NO_COLOR");
  const bool colour = isatty(fileno(stream)) && !(none && *none);
  size_t written = 0;
  for (size_t at = 0; colour && at + 3 <= bytes; at++) {
    const bool begins = memcmp(text + at, begin, 3) == 0;
    if (!begins && memcmp(text + at, end, 3) != 0) continue;
    terminal_write(stream, text + written, at - written);
    fputs(begins ? "\x1b[32m" : "\x1b[0m", stream);
    written = at + 3;
  }
  terminal_write(stream, text + written, bytes - written);
  if (written) fputs("\x1b[0m", stream);
}
