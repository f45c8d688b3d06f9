/* The log on standard error, and the progress bar.
 *
 * Standard output belongs to results. On a terminal the progress bar is one redrawn line with rate and time
 * left; elsewhere it becomes a plain line now and then. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_SILENT /* a threshold */ } LogLevel;

/* Control characters of a line are spelled out (base/terminal.h), for stream and sink.
 *
 * Receives each line too, whatever the threshold (the run log stores them as events); may be NULL. */
typedef void (*LogSink)(void *context, LogLevel level, const char *text);

typedef struct Log {
  FILE *stream;
  LogLevel threshold;
  bool terminal;  /* stream is a terminal */
  bool bar_shown; /* a bar stands on the current line and is cleared before text */
  LogSink sink;
  void *sink_context;
} Log;

void log_init(Log *log, FILE *stream, LogLevel threshold);
void log_info(Log *log, const char *format, ...) PRINTF_LIKE(2, 3);
void log_warning(Log *log, const char *format, ...) PRINTF_LIKE(2, 3); /* "warning: ..." */
void log_error(Log *log, const char *format, ...) PRINTF_LIKE(2, 3);   /* "error: ..." */

typedef struct Progress {
  Log *log;
  const char *label; /* borrowed */
  const char *unit;  /* "step", "token", ...; borrowed */
  int64_t total;
  int64_t start_done; /* where a resumed run began: the rate counts from here */
  double started;     /* seconds, monotonic */
  double last_shown;
} Progress;

void progress_start(Progress *progress, Log *log, const char *label, const char *unit, int64_t done,
                    int64_t total);
/* Shows done/total, rate, time left and `note` (may be NULL), at most ten times a second on a terminal and
 * once in ten seconds elsewhere; the last step is always shown. */
void progress_update(Progress *progress, int64_t done, const char *note);
void progress_finish(Progress *progress);

double time_monotonic(void); /* seconds */

/* "1,234,567", for reports. */
const char *grouped_number(int64_t value, char out[32]);

#endif
