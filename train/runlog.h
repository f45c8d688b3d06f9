/* The run log: RUN/run.db, SQLite (DESIGN section 7).
 *
 * Tables: run (id, stage, config, version, host, started, ended, status), metric (run, step, name, value),
 * sample (run, step, prompt, response, reward, kl, length, finished), checkpoint (run, step, path, digest),
 * event (run, step, level, text). Times are UTC, ISO 8601. Writes gather in one transaction until
 * runlog_flush, so a killed run leaves whole steps. The log never stops a run: after the first failed write
 * it goes quiet, and `failed` says why, once. */
#ifndef TRAIN_RUNLOG_H
#define TRAIN_RUNLOG_H

#include "base/error.h"
#include "base/log.h"

#include <stdint.h>

typedef struct RunLog {
  struct RunLogHandle *handle; /* NULL: no log, every call does nothing */
  int64_t run;                 /* id */
  int64_t step;                /* the step that events belong to; -1 while a run is being opened */
  bool failed;
  char reason[256];
} RunLog;

typedef struct RunLogSample {
  const char *prompt, *response;
  double reward, kl;
  int64_t length; /* tokens of the response */
  bool finished;  /* it ended by itself */
} RunLogSample;

/* Opens or makes the file and begins a run row; with `resume`, the last run of this stage goes on. */
NODISCARD bool runlog_open(RunLog *log, const char *path, const char *stage, const char *config, bool resume,
                           Error *error);
/* Removes rows of this run later than `step`, for they will be written again; events from now on belong to it, or to step
 * 0 when it is -1. */
void runlog_rewind(RunLog *log, int64_t step);

void runlog_metric(RunLog *log, int64_t step, const char *name, double value);
void runlog_sample(RunLog *log, int64_t step, const RunLogSample *sample);
void runlog_checkpoint(RunLog *log, int64_t step, const char *path, const char *digest);
void runlog_event(RunLog *log, LogLevel level, const char *text);
void runlog_flush(RunLog *log); /* commits */

/* A LogSink: context is the RunLog. */
void runlog_sink(void *context, LogLevel level, const char *text);

/* status: "done", "failed", "interrupted". */
void runlog_close(RunLog *log, const char *status);

#endif
