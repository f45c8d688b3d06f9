/* The log on standard error. Standard output belongs to results. */
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
  struct StringList *warnings; /* or NULL: collects them, to be told again at the end */
} Log;

void log_init(Log *log, FILE *stream, LogLevel threshold);
void log_info(Log *log, const char *format, ...) PRINTF_LIKE(2, 3);
void log_warning(Log *log, const char *format, ...) PRINTF_LIKE(2, 3); /* "warning: ..." */
void log_error(Log *log, const char *format, ...) PRINTF_LIKE(2, 3);   /* "error: ..." */

/* Tells the collected warnings once more. */
void log_warnings_again(Log *log);
/* Takes the bar (base/progress.h) off the screen, when there is one. */
void log_clear_bar(Log *log);

double time_monotonic(void); /* seconds */

/* "1,234,567", for reports. */
const char *grouped_number(int64_t value, char out[32]);

#endif
