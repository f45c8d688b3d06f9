/* The run log: RUN/run.db, SQLite (DESIGN section 7).
 *
 * Tables: run (id, stage, config, version, host, started, ended, status), metric (run, step, name, value),
 * sample (run, step, prompt, response, reward, kl, length, finished, prompt_ids, response_ids, parts), checkpoint (run, step,
 * path, digest), event (run, step, level, text), example (run, data, number, sequence, path, line, text, ids): the first examples of each data set as
 * the model reads them, reward (run, source, step, id, digest, score, parts): what judges outside said. Times are UTC, ISO 8601.
 *
 * Writes gather in one transaction until runlog_flush, so a process that is killed leaves whole steps. A machine that
 * loses power may take flushed rows of the last seconds with it, but none from before the last runlog_sync.
 *
 * The log never stops a run. What cannot be written (a full disk, another process that holds the file locked) is lost and
 * counted, with one warning, and after a while the file is tried again. A file that is damaged or no database is set
 * aside as run.db.damaged-N, and a new one begun. */
#ifndef TRAIN_RUNLOG_H
#define TRAIN_RUNLOG_H

#include "base/error.h"
#include "base/log.h"

#include <stdint.h>

typedef struct RunLog {
  struct RunLogHandle *handle; /* NULL: no log, every call does nothing */
  int64_t run;                 /* id; 0: not known yet */
  int64_t step;                /* the step that events belong to; -1 while a run is being opened */
  double retry_seconds;        /* from a failure to the next attempt */
} RunLog;

typedef struct RunLogSample {
  const char *prompt, *response; /* may have NUL in them */
  size_t prompt_bytes, response_bytes;
  const int32_t *prompt_ids, *response_ids; /* stored as text: "5,17,2" */
  int64_t prompt_length, length;            /* of these */
  double reward, kl;
  const char *parts; /* what each source of rewards said, JSON; NULL: nothing */
  bool finished;     /* it ended by itself */
} RunLogSample;

typedef struct RunLogExample {
  const char *data;     /* "data.train" */
  const char *path;     /* of the file */
  int64_t line, number; /* in the file, from 1; of the example, from 0 */
  const char *sequence; /* "example", "chosen", ... */
  const char *text;     /* with what is learnt between marks (datasets/show.h); may have NUL in it */
  size_t text_bytes;
  const int32_t *ids; /* stored as text */
  int64_t count;
} RunLogExample;

/* What a source of rewards said of an answer. These rows are not rewound: what is rolled out again was judged already. */
typedef struct RunLogReward {
  const char *source;
  int64_t step, id;
  const char *digest; /* of the question */
  double score;
  char *parts; /* a JSON object, or NULL */
} RunLogReward;

/* Opens or makes the file and begins a run row; with `resume`, the last run of this stage goes on. stage and config are
 * borrowed until runlog_close. What is wrong with the file is said as warnings through `said`; the only errors are of
 * memory. */
NODISCARD bool runlog_open(RunLog *log, const char *path, const char *stage, const char *config, bool resume,
                           Log *said, Error *error);
/* Removes rows of this run later than `step`, for they will be written again; events from now on belong to it, or to step
 * 0 when it is -1. */
void runlog_rewind(RunLog *log, int64_t step);

void runlog_metric(RunLog *log, int64_t step, const char *name, double value);
void runlog_sample(RunLog *log, int64_t step, const RunLogSample *sample);
void runlog_example(RunLog *log, const RunLogExample *example);
void runlog_checkpoint(RunLog *log, int64_t step, const char *path, const char *digest);
void runlog_reward(RunLog *log, const RunLogReward *reward);
/* Sets score and parts (a new string) as they are kept for this source, step, id and question; or, with `anywhere`, for this source and
 * question, the first of them. False: there is none, or no log now. */
bool runlog_kept_reward(RunLog *log, RunLogReward *reward, bool anywhere);
void runlog_event(RunLog *log, LogLevel level, const char *text);
void runlog_flush(RunLog *log); /* commits */
void runlog_sync(RunLog *log);  /* commits, and sees to it that all rows are on the disk */

/* The course of a metric in this run so far. */
typedef struct RunLogCourse {
  int64_t count; /* of values that are numbers */
  double first, last, smallest, largest;
  int64_t smallest_step, largest_step; /* of the first such */
} RunLogCourse;
/* False when there are none, or the file cannot be read now. */
bool runlog_course(const RunLog *log, const char *name, RunLogCourse *course);

/* The values of a metric in the last run of the file at `path`, by step: at most `most` of them. For other programs than the run's own;
 * ERROR_FILE when the file cannot be read. */
NODISCARD bool runlog_read(const char *path, const char *name, double *values, int64_t most, int64_t *count,
                           Error *error);

/* A LogSink: context is the RunLog. */
void runlog_sink(void *context, LogLevel level, const char *text);

/* status: "done", "failed", "interrupted". */
void runlog_close(RunLog *log, const char *status);

/* The last run of this stage in the file is done, whatever its row says: it was killed before it could say so. Does
 * nothing when the file cannot be written. */
void runlog_settle(const char *path, const char *stage);

#endif
