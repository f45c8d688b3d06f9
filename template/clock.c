#include "template/clock.h"

#include "template/text.h"

#include <string.h>
#include <time.h>

/* One directive, "%d" or "%-d", at `at`; its size. Zones and microseconds are those of a time that has none. */
static bool add_directive(Run *run, const struct tm *time, const char *at, size_t left, size_t *size) {
  size_t letter = 1 + (left > 1 && strchr("-_0^#", at[1]) && at[1]);
  *size = letter + 1;
  if (letter >= left) {
    *size = left;
    return text_add(run, at, left);
  }
  char c = at[letter], format[4] = {'%', at[1], letter == 2 ? c : '\0', '\0'}, out[128];
  if (c == 'z' || c == 'Z') return true;
  if (c == 'f') return text_add_text(run, "000000");
  if (c == '\0' || !strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%", c))
    return run_fail(run, "strftime_now does not know the directive %%%c", c);
  return text_add(run, out, strftime(out, sizeof out, format, time));
}

bool clock_format(Run *run, const ValueString *format, Value *out) {
  time_t now = (time_t)run->now;
  struct tm time;
  if (!gmtime_r(&now, &time)) return run_fail(run, "strftime_now: a time beyond all calendars");
  size_t mark = text_mark(run);
  for (size_t at = 0, size; at < format->size; at += size) {
    size = 1;
    bool added = format->bytes[at] == '%'
                     ? add_directive(run, &time, format->bytes + at, format->size - at, &size)
                     : text_add_slice(run, format, at, at + 1);
    if (!added) return false;
  }
  return text_cut(run, mark, out);
}
