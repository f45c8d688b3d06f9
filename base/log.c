#include "base/log.h"

#include "base/file.h"
#include "base/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double time_monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void log_init(Log *log, FILE *stream, LogLevel threshold) {
  const char *kind = getenv("TERM");
  bool terminal = isatty(fileno(stream)) && kind && strcmp(kind, "dumb") != 0;
  *log = (Log){.stream = stream, .threshold = threshold, .terminal = terminal};
}

void log_clear_bar(Log *log) {
  if (log->bar_shown) fputs("\r\033[K", log->stream);
  log->bar_shown = false;
}

static void log_line(Log *log, LogLevel level, const char *prefix, const char *format, va_list arguments) {
  char raw[2048], text[4096];
  vsnprintf(raw, sizeof raw, format, arguments);
  terminal_text(raw, strlen(raw), text, sizeof text);
  if (log->sink) log->sink(log->sink_context, level, text);
  if (level < log->threshold) return;
  log_clear_bar(log);
  fprintf(log->stream, "%s%s\n", prefix, text);
  fflush(log->stream);
  if (level != LOG_WARNING || !log->warnings) return;
  Error ignored = {0}; /* no memory: it has been told once */
  const bool kept = string_list_push(log->warnings, text, &ignored);
  (void)kept;
}

void log_info(Log *log, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  log_line(log, LOG_INFO, "", format, arguments);
  va_end(arguments);
}

void log_warning(Log *log, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  log_line(log, LOG_WARNING, "warning: ", format, arguments);
  va_end(arguments);
}

void log_error(Log *log, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  log_line(log, LOG_ERROR, "error: ", format, arguments);
  va_end(arguments);
}

void log_warnings_again(Log *log) {
  StringList *list = log->warnings;
  log->warnings = NULL;
  for (size_t i = 0; list && i < list->count; i++)
    fprintf(log->stream, "%s%s\n", i ? "  " : "warnings of this run, again:\n  ", list->items[i]);
}

const char *grouped_number(int64_t value, char out[32]) {
  char digits[24];
  int count = snprintf(digits, sizeof digits, "%lld", (long long)value), at = 0;
  for (int i = 0; i < count; i++) {
    if (i > 0 && (count - i) % 3 == 0) out[at++] = ',';
    out[at++] = digits[i];
  }
  out[at] = '\0';
  return out;
}
