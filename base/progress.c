#include "base/progress.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

enum { LEAST_BAR = 8, WIDEST_BAR = 24, LINE_MAX_BYTES = 512 };

const char progress_bytes[] = "B";

static void start(Progress *progress, Log *log, const char *label, const char *unit, int64_t done,
                  int64_t total) {
  *progress = (Progress){.log = log,
                         .label = label,
                         .unit = unit,
                         .total = total,
                         .start_done = done,
                         .done = done,
                         .started = time_monotonic(),
                         .last_shown = -INFINITY,
                         .step_shown = -INFINITY};
}

void progress_start(Progress *progress, Log *log, const char *label, const char *unit, int64_t done,
                    int64_t total) {
  start(progress, log, label, unit, done, total);
}

void progress_start_brief(Progress *progress, Log *log, const char *label, const char *unit, int64_t total) {
  start(progress, log, label, unit, 0, total);
  progress->brief = true;
  progress->last_shown = progress->step_shown = progress->started;
}

/* -- text ----------------------------------------------------------------------------------------------- */

const char *duration_text(double seconds, char out[32]) {
  const long long s = llround(fmin(fmax(seconds, 0), 1e12));
  if (s < 60) {
    snprintf(out, 32, "%llds", s);
  } else if (s < 3600) {
    snprintf(out, 32, "%lldm%02llds", s / 60, s % 60);
  } else if (s < 86400) {
    snprintf(out, 32, "%lldh%02lldm", s / 3600, s % 3600 / 60);
  } else {
    snprintf(out, 32, "%lldd%02lldh", s / 86400, s % 86400 / 3600);
  }
  return out;
}

/* The power of 1024 in which `bytes` has few digits before the point. */
static int size_power(double bytes) {
  int power = 0;
  for (; power < 4 && bytes >= 1000; power++) bytes /= 1024;
  return power;
}

static const char *const size_units[] = {"B", "KiB", "MiB", "GiB", "TiB"};

static void rate_text(const char *unit, double rate, char *out, size_t size) {
  char each[32];
  if (unit == progress_bytes) {
    const int power = size_power(rate);
    snprintf(out, size, "%.1f %s/s", rate / pow(1024, power), size_units[power]);
  } else if (rate >= 1e6) {
    snprintf(out, size, "%.1fM %s/s", rate / 1e6, unit);
  } else if (rate >= 1e4) {
    snprintf(out, size, "%.1fk %s/s", rate / 1e3, unit);
  } else if (rate >= 1) {
    snprintf(out, size, "%.*f %s/s", rate >= 100 ? 0 : 1, rate, unit);
  } else if (1 / rate < 60) {
    snprintf(out, size, "%.1f s/%s", 1 / rate, unit);
  } else {
    snprintf(out, size, "%s/%s", duration_text(1 / rate, each), unit);
  }
}

/* "120/500" or, of bytes, "0.5/12.9 GiB" */
static void counts_text(const Progress *progress, char *out, size_t size) {
  const double done = (double)progress->done, total = (double)progress->total;
  if (progress->unit == progress_bytes) {
    const int power = size_power(fmax(done, total));
    const double scale = pow(1024, power);
    if (progress->total > 0) {
      snprintf(out, size, "%.1f/%.1f %s", done / scale, total / scale, size_units[power]);
    } else {
      snprintf(out, size, "%.1f %s", done / scale, size_units[power]);
    }
  } else if (progress->total > 0) {
    snprintf(out, size, "%lld/%lld", (long long)progress->done, (long long)progress->total);
  } else {
    snprintf(out, size, "%lld", (long long)progress->done);
  }
}

/* Items of a line stand two spaces apart. */
static void add_item(char *line, const char *item) {
  const size_t length = strlen(line);
  if (*item) snprintf(line + length, LINE_MAX_BYTES - length, "%s%s", length ? "  " : "", item);
}

/* "120/500  ETA 1m58s  phase  note  3.2 step/s" */
static void items_text(const Progress *progress, double now, char line[LINE_MAX_BYTES]) {
  char item[96], left[32];
  const double took = fmax(now - progress->started, 1e-9);
  const int64_t made = progress->done - progress->start_done;
  *line = '\0';
  counts_text(progress, item, sizeof item);
  add_item(line, item);
  const double rate = (double)made / took;
  if (made > 0 && progress->done < progress->total) {
    snprintf(item, sizeof item, "ETA %s",
             duration_text((double)(progress->total - progress->done) / rate, left));
    add_item(line, item);
  } else if (made > 0 && progress->total > 0) {
    snprintf(item, sizeof item, "in %s", duration_text(took, left));
    add_item(line, item);
  }
  add_item(line, progress->phase);
  add_item(line, progress->note);
  if (made > 0) {
    rate_text(progress->unit, rate, item, sizeof item);
    add_item(line, item);
  }
}

/* -- screen --------------------------------------------------------------------------------------------- */

static int terminal_columns(const Log *log) {
  struct winsize size;
  if (ioctl(fileno(log->stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

/* Leaves out the last items of a line that is too long, of an item what stands in brackets behind it first; the first item is cut. A
 * wrapped line could not be redrawn. */
static void fit(char *line, size_t columns) {
  size_t end = strlen(line);
  while (end > columns) {
    size_t at = end;
    while (at > 0 && strncmp(line + at - 1, "  ", 2) != 0) at--;
    const char *bracket = at > 0 ? strstr(line + at, " (") : NULL;
    end = bracket ? (size_t)(bracket - line) : at > 0 ? at - 1 : columns;
    line[end] = '\0';
  }
}

static void show_bar(const Progress *progress, char items[LINE_MAX_BYTES]) {
  Log *log = progress->log;
  const int columns = terminal_columns(log) - 1; /* one stays free for the cursor */
  const int room = columns - (int)(strlen(progress->label) + strlen(items) + 4); /* " [", "] " */
  const int width = room < WIDEST_BAR ? room : WIDEST_BAR;
  char bar[WIDEST_BAR + 4] = "", line[LINE_MAX_BYTES + 96];
  if (progress->total > 0 && width >= LEAST_BAR) {
    const double part = fmin(fmax((double)progress->done / (double)progress->total, 0), 1);
    memset(bar, '.', (size_t)width + 3);
    memset(bar + 1, '#', (size_t)(part * width));
    bar[0] = '[';
    bar[width + 1] = ']';
    bar[width + 2] = ' ';
  }
  snprintf(line, sizeof line, "%s %s%s", progress->label, bar, items);
  fit(line, columns > 0 ? (size_t)columns : 0);
  fprintf(log->stream, "\r%s\033[K", line);
  log->bar_shown = true;
}

/* The line is due `plain` seconds after `since` where there is no terminal. */
static bool show(Progress *progress, bool always, double since, double plain) {
  Log *log = progress->log;
  if (!log || log->threshold > LOG_INFO) return false;
  const double now = time_monotonic();
  const bool due = !log->terminal
                       ? now - since >= plain
                       : now - progress->last_shown >= (progress->brief && !log->bar_shown ? 1.0 : 0.1);
  if (!always && !due) return false;
  progress->last_shown = now;
  char items[LINE_MAX_BYTES];
  items_text(progress, now, items);
  if (log->terminal) {
    show_bar(progress, items);
  } else {
    fprintf(log->stream, "%s: %s\n", progress->label, items);
  }
  fflush(log->stream);
  return true;
}

void progress_update(Progress *progress, int64_t done, const char *note) {
  progress->done = done;
  *progress->phase = '\0';
  snprintf(progress->note, sizeof progress->note, "%s", note ? note : "");
  const bool last = !progress->brief && progress->total > 0 && done >= progress->total;
  if (show(progress, last, progress->step_shown, 10)) progress->step_shown = progress->last_shown;
}

void progress_phase(Progress *progress, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(progress->phase, sizeof progress->phase, format, arguments);
  va_end(arguments);
  show(progress, false, progress->last_shown, 60);
}

void progress_finish(Progress *progress) {
  Log *log = progress->log;
  if (!log || !log->bar_shown) return;
  if (progress->brief) {
    log_clear_bar(log);
  } else {
    fputc('\n', log->stream); /* the last state stays on the screen */
    log->bar_shown = false;
  }
  fflush(log->stream);
}
