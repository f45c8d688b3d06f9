#include "base/log.h"

#include "base/terminal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 24, LINE_MAX_BYTES = 512 };

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

static void clear_bar(Log *log) {
  if (log->bar_shown) fputs("\r\033[K", log->stream);
  log->bar_shown = false;
}

static void log_line(Log *log, LogLevel level, const char *prefix, const char *format, va_list arguments) {
  char raw[2048], text[4096];
  vsnprintf(raw, sizeof raw, format, arguments);
  terminal_text(raw, strlen(raw), text, sizeof text);
  if (log->sink) log->sink(log->sink_context, level, text);
  if (level < log->threshold) return;
  clear_bar(log);
  fprintf(log->stream, "%s%s\n", prefix, text);
  fflush(log->stream);
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

void progress_start(Progress *progress, Log *log, const char *label, const char *unit, int64_t done,
                    int64_t total) {
  *progress = (Progress){.log = log,
                         .label = label,
                         .unit = unit,
                         .total = total,
                         .start_done = done,
                         .started = time_monotonic(),
                         .last_shown = -INFINITY};
}

/* "7s", "1m58s", "2h03m", "3d04h": two units are enough to plan by. */
static void format_duration(double seconds, char *out, size_t size) {
  long long s = llround(fmin(fmax(seconds, 0), 1e12));
  if (s < 60) {
    snprintf(out, size, "%llds", s);
  } else if (s < 3600) {
    snprintf(out, size, "%lldm%02llds", s / 60, s % 60);
  } else if (s < 86400) {
    snprintf(out, size, "%lldh%02lldm", s / 3600, s % 3600 / 60);
  } else {
    snprintf(out, size, "%lldd%02lldh", s / 86400, s % 86400 / 3600);
  }
}

static void format_rate(double rate, char *out, size_t size) {
  if (rate >= 1e6) {
    snprintf(out, size, "%.1fM", rate / 1e6);
  } else if (rate >= 1e4) {
    snprintf(out, size, "%.1fk", rate / 1e3);
  } else {
    snprintf(out, size, "%.*f", rate >= 100 ? 0 : rate >= 1 ? 1 : 3, rate);
  }
}

/* "120/500  3.2 step/s  ETA 1m58s  note" */
static void format_counts(const Progress *progress, int64_t done, double now, const char *note, char *out,
                          size_t size) {
  char rate_text[48] = "", left_text[48] = "", speed[32], left[32];
  double rate = (double)(done - progress->start_done) / fmax(now - progress->started, 1e-9);
  if (done > progress->start_done) {
    format_rate(rate, speed, sizeof speed);
    snprintf(rate_text, sizeof rate_text, "  %s ", speed);
    if (done < progress->total) {
      format_duration((double)(progress->total - done) / rate, left, sizeof left);
      snprintf(left_text, sizeof left_text, "  ETA %s", left);
    } else {
      format_duration(now - progress->started, left, sizeof left);
      snprintf(left_text, sizeof left_text, "  in %s", left);
    }
  }
  const char *unit = *rate_text ? progress->unit : "", *per = *rate_text ? "/s" : "";
  if (progress->total > 0) {
    snprintf(out, size, "%lld/%lld%s%s%s%s%s%s", (long long)done, (long long)progress->total, rate_text, unit,
             per, left_text, note && *note ? "  " : "", note ? note : "");
  } else { /* the end is not known */
    snprintf(out, size, "%lld%s%s%s%s%s", (long long)done, rate_text, unit, per, note && *note ? "  " : "",
             note ? note : "");
  }
}

static int terminal_columns(const Log *log) {
  struct winsize size;
  if (ioctl(fileno(log->stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

static void show_bar(Progress *progress, int64_t done, const char *counts) {
  Log *log = progress->log;
  char line[LINE_MAX_BYTES + 64];
  if (progress->total > 0) {
    int64_t within = done < 0 ? 0 : done > progress->total ? progress->total : done;
    int filled = (int)((double)within / (double)progress->total * BAR_WIDTH);
    snprintf(line, sizeof line, "%s [%.*s%.*s] %s", progress->label, filled, "########################",
             BAR_WIDTH - filled, "........................", counts);
  } else {
    snprintf(line, sizeof line, "%s %s", progress->label, counts);
  }
  /* Cut to the screen: a wrapped line could not be redrawn. One column stays free for the cursor. */
  fprintf(log->stream, "\r%.*s\033[K", terminal_columns(log) - 1, line);
  log->bar_shown = true;
}

void progress_update(Progress *progress, int64_t done, const char *note) {
  Log *log = progress->log;
  if (log->threshold > LOG_INFO) return;
  double now = time_monotonic();
  bool last = progress->total > 0 && done >= progress->total;
  if (!last && now - progress->last_shown < (log->terminal ? 0.1 : 10.0)) return;
  progress->last_shown = now;
  char counts[LINE_MAX_BYTES];
  format_counts(progress, done, now, note, counts, sizeof counts);
  if (log->terminal) {
    show_bar(progress, done, counts);
  } else {
    fprintf(log->stream, "%s: %s\n", progress->label, counts);
  }
  fflush(log->stream);
}

void progress_finish(Progress *progress) {
  Log *log = progress->log;
  if (!log || !log->bar_shown) return;
  fputc('\n', log->stream); /* the last state stays on the screen */
  fflush(log->stream);
  log->bar_shown = false;
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
