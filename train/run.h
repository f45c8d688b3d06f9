/* The life of a run directory: lock, config.json, run.db, checkpoints, the finished result; and the signals.
 *
 *   run_open(...)           locks the directory and says whether to begin, go on, or that all is done already
 *   ... configuration, data and plan are checked ...
 *   run_begin(...)          opens the log; with run.resume false, this is where the former run is removed
 *   ... run_checkpoint_due, run_stop_signal at each update ...
 *   run_finish(...)         writes done.json: from now on the same command has nothing to do
 *   run_close(...)
 *
 * A run directory belongs to one process at a time (flock; a killed process leaves no lock behind). */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "train/checkpoint.h"
#include "train/config.h"
#include "train/runlog.h"

typedef enum RunStart {
  RUN_FRESH,
  RUN_RESUME,  /* there are checkpoints: checkpoint_find */
  RUN_FINISHED /* done.json says so; Run.result has its content */
} RunStart;

typedef struct Run {
  const char *stage;       /* borrowed, static */
  const RunConfig *config; /* borrowed */
  Log *log;
  RunLog runlog;
  char *settings;        /* the resolved configuration, JSON */
  Buffer said;           /* what the log said between run_open and run_begin: level, text, NUL, ... */
  char *result;          /* RUN_FINISHED: the JSON given to run_finish */
  char *last_checkpoint; /* path, or NULL */
  int lock;
  RunStart start;
} Run;

/* settings: options_json of the whole configuration. Creates the directory and changes nothing else in it.
 * ERROR_FILE when it cannot be used or another process has it; ERROR_USAGE when a finished run had another
 * configuration, a path of the configuration lies in what the run writes, or the directory has files of these
 * names that no run made. The run must not move until run_close. */
NODISCARD bool run_open(Run *run, const char *stage, const RunConfig *config, const char *settings, Log *log,
                        Error *error);
/* Not for a finished run. Opens run.db, and what the log has said since run_open goes there too. With run.resume false
 * the former run is removed now and not before, so that a typing mistake costs nobody a result. */
NODISCARD bool run_begin(Run *run, Error *error);
/* Records the outcome in the log: done when error->code is ERROR_NONE, interrupted, or failed. */
void run_close(Run *run, const Error *error);

/* "RUN/name", a new string. */
char *run_path(const Run *run, const char *name);

/* Whether an update just done asks for a checkpoint by run.save_every. */
bool run_checkpoint_due(const Run *run, int64_t step);
bool run_eval_due(const Run *run, int64_t step);
bool run_log_due(const Run *run, int64_t step);

/* Commits a checkpoint that the stage has filled, keeps run.keep of them, notes it in log and run.db. */
NODISCARD bool run_checkpoint(Run *run, Checkpoint *checkpoint, Error *error);
/* checkpoint_find with this run's settings; on success the run log is rewound to it. */
NODISCARD bool run_resume(Run *run, Checkpoint *checkpoint, Compute *compute, bool *found, Error *error);

/* A stage's whole state to or from a checkpoint (train/checkpoint.h). */
typedef bool RunState(void *stage, Checkpoint *checkpoint, Error *error);
/* Both at once: a checkpoint of the stage after update `step`; and the stage as the newest checkpoint left it, or as it
 * is when there is none. */
NODISCARD bool run_save(Run *run, int64_t step, RunState *state, void *stage, Compute *compute, Error *error);
NODISCARD bool run_load(Run *run, RunState *state, void *stage, Compute *compute, Error *error);

/* Writes done.json with the result (JSON object text), atomically. */
NODISCARD bool run_finish(Run *run, const char *result, Error *error);

/* A loss that is not finite ends the run: ERROR_MODEL with step, what it was, and the last good checkpoint.
 */
NODISCARD bool run_check_finite(const Run *run, const char *what, double value, int64_t step, Error *error);

/* -- signals -------------------------------------------------------------------------------------------- */

/* From now on SIGINT and SIGTERM are noted; a second one ends the process at once. To be called before the process has
 * other threads: those made later block the two, as the caller does from now on. */
NODISCARD bool run_signals_install(Error *error);
/* The signal that came, or 0. */
int run_stop_signal(void);
/* "interrupted by ...": ERROR_SIGINT or ERROR_SIGTERM. Always returns false. */
bool run_interrupted_error(int signal, Error *error);

#endif
