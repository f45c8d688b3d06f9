/* The life of a run directory: lock, config.json, run.db, checkpoints, the finished result; and the signals.
 *
 *   run_open(...)           locks the directory and says whether to begin, go on, or that all is done already
 *   ... configuration, data and plan are checked ...
 *   run_begin(...)          opens the log; with run.resume false, this is where the former run is removed
 *   run_load(...)           takes the state of the newest checkpoint
 *   run_updated(...)        after each update: checkpoints, and stopping on a signal
 *   run_finish(...)         writes done.json: from now on the same command has nothing to do
 *   run_close(...)
 *
 * A run directory belongs to one process at a time (flock; a killed process leaves no lock behind).
 *
 * Of many ranks (compute/comm.h) only rank 0 has the directory: it alone locks, logs and writes, and the others hear from
 * it how the run starts and read its checkpoints. All call the same functions in the same order: run_open, run_begin, run_load and
 * run_updated are collectives. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "base/progress.h"
#include "train/alarm.h"
#include "train/best.h"
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
  Comm comm;
  Log *log;
  RunLog runlog;
  char *settings;        /* the resolved configuration, JSON */
  char *defaults;        /* that of the defaults */
  Buffer said;           /* what the log said between run_open and run_begin: level, text, NUL, ... */
  char *result;          /* RUN_FINISHED: the JSON given to run_finish */
  char *last_checkpoint; /* path, or NULL */
  int64_t saved;         /* its step, or -1 */
  double saved_at;       /* when it was made or this process began: time_monotonic */
  double opened_at;      /* time_monotonic */
  Progress progress;     /* of the updates, which the stage starts, and what is done between them */
  int64_t sent;          /* comm_sent when the last update was done */
  int64_t skipped;       /* steps left out so far; these three are kept in checkpoints */
  int64_t last_skipped;  /* update of the last of them */
  int64_t in_a_row;      /* updates with such, up to that one */
  Best best;             /* likewise; run_best_begin */
  Alarms alarms;         /* likewise */
  char alarm[640];       /* the last one in words, "" for none in this process */
  int64_t watched;       /* the set of run.alarms; run_open */
  int lock;
  RunStart start;
} Run;

/* Creates the directory with its lock, a file that says that the
 * directory is a run's, and changes nothing else in it. ERROR_FILE when it cannot be used, another process has it, or
 * the result of a finished run is gone; ERROR_USAGE when a finished run had another configuration, a path of the
 * configuration lies in what the run writes, or the directory has files of these names that no run made; ERROR_MODEL
 * when a finished run is to go on and has no checkpoint. The run must not move until run_close. */
NODISCARD bool run_open(Run *run, const char *stage, const RunConfig *config, Settings settings,
                        const Comm *comm, Log *log, Error *error);
/* For --check: refuses what run_open and run_load would find in the directory of a run, and leaves it as it is. */
NODISCARD bool run_look(const char *stage, const RunConfig *config, Settings settings, Log *log,
                        Error *error);
/* Not for a finished run. Opens run.db, and what the log has said since run_open goes there too. With run.resume false
 * the former run is removed now and not before, so that a typing mistake costs nobody a result. */
NODISCARD bool run_begin(Run *run, Error *error);
/* Records the outcome in the log: done when error->code is ERROR_NONE, interrupted, stopped (ERROR_ALARM), or failed. */
void run_close(Run *run, const Error *error);

/* "RUN/name", a new string. */
char *run_path(const Run *run, const char *name);

/* After update `step`, the last one or not: flushes the log; saves when run.save_every or run.save_minutes asks for it, when
 * run_judged has found a best model, at the end, and when a signal came to any rank, which is then the error (run_interrupted_error). `state` and the rest as in
 * run_save. */
typedef bool RunState(void *stage, Checkpoint *checkpoint, Error *error);
NODISCARD bool run_updated(Run *run, int64_t step, bool last, RunState *state, void *stage, Compute *compute,
                           Error *error);

bool run_checkpoint_due(const Run *run, int64_t step);
bool run_eval_due(const Run *run, int64_t step);
bool run_log_due(const Run *run, int64_t step);

/* Commits a checkpoint that the stage has filled, keeps run.keep of them, notes it in log and run.db. */
NODISCARD bool run_checkpoint(Run *run, Checkpoint *checkpoint, Error *error);
/* checkpoint_find with this run's settings; on success the run log is rewound to it. ERROR_USAGE, and nothing is changed,
 * when it is of a later update than `total`, which is to be the last. */
NODISCARD bool run_resume(Run *run, int64_t total, Checkpoint *checkpoint, Compute *compute, bool *found,
                          Error *error);

/* Both at once: a checkpoint of the stage after update `step`, if there is none of it yet; and the stage as the newest
 * checkpoint left it, or as it is when there is none (which is saved then, where run.on_alarm may go back to it). `state` is the stage's whole state (train/checkpoint.h). */
NODISCARD bool run_save(Run *run, int64_t step, RunState *state, void *stage, Compute *compute, Error *error);
NODISCARD bool run_load(Run *run, int64_t total, RunState *state, void *stage, Compute *compute,
                        Error *error);

/* Writes done.json with the result (JSON object text), atomically. */
NODISCARD bool run_finish(Run *run, const char *result, Error *error);

/* A number that is not finite and without which the run cannot go on (of an evaluation, say): ERROR_MODEL with step,
 * what it was, and the last good checkpoint. */
NODISCARD bool run_check_finite(const Run *run, const char *what, double value, int64_t step, Error *error);

/* An optimiser step of update `step` is left out, for its loss or its gradient is not finite: weights, moments and the optimiser's count of
 * steps stay as they are; the data and the schedule go on, as if it had been made. It is counted (train/skipped in the
 * run log) and said with `why`, which names what was not finite, and where first. ERROR_MODEL when these are more than
 * run.max_skipped. */
NODISCARD bool run_skip(Run *run, int64_t step, const char *why, Error *error);

/* At the end, after update `steps` made no step: ERROR_MODEL when none of the last three did (or of all, where there are fewer), for
 * then the weights are such that nothing can be learned with them. */
NODISCARD bool run_check_learned(const Run *run, int64_t steps, Error *error);

/* -- alarms: run.alarms, run.on_alarm (train/alarm.h) ----------------------------------------------------- */

/* Raises an alarm after update `step`, unless it was raised before or run.alarms leaves it out: a warning with the reason and the remedy.
 * since: the update after which it began. All ranks say the same. */
void run_alarm(Run *run, int64_t step, AlarmKind kind, int64_t since, const char *format, ...)
    PRINTF_LIKE(5, 6);
/* Does what run.on_alarm says about alarms that were raised: before the first update, and after each, when run_keep_best is done. Of "stop"
 * ERROR_ALARM, after saving. Of "rollback" the stage has the state of an earlier update then. */
NODISCARD bool run_heed_alarms(Run *run, int64_t step, RunState *state, void *stage, Compute *compute,
                               Error *error);
/* 2 to the power of the times that the run has gone back: rates are divided by it, and the coefficient of a KL multiplied. */
double run_caution(const Run *run);

/* -- the best model: run.keep_best and run.patience (train/best.h) -------------------------------------- */

/* ERROR_USAGE for what cannot be: neither of the two without evaluations in the course of the run, nor patience alone; an unknown alarm, or
 * going back where there are no checkpoints to go to. */
NODISCARD bool run_config_check(const RunConfig *config, bool has_eval, Error *error);
/* Before run_load. choices: those of the stage's run.keep_best; standard: what "auto" is. */
void run_best_begin(Run *run, const char *const *choices, int standard);
/* After an evaluation; values: one for each measure of the stage. ERROR_MODEL when the one that is wanted is not finite. */
NODISCARD bool run_judged(Run *run, int64_t step, const double *values, Error *error);
/* Whether run.patience ends the run; and says why, where it does. */
bool run_has_waited(const Run *run);
void run_say_waited(const Run *run);
/* Writes RUN/best when the present model is the best and is not there yet: before the first update, after run_updated, and after the
 * last evaluation. `keep` writes the model, with `about` as its file best.json, as the directory `place`, complete or not at all; all
 * ranks call it. */
typedef bool RunKeep(void *stage, const char *place, const char *about, Error *error);
NODISCARD bool run_keep_best(Run *run, RunKeep *keep, void *stage, Error *error);
/* What a result says of it: a member of the object, after a comma; a line, after a newline. Nothing where there is none. */
NODISCARD bool run_best_result(const Run *run, Buffer *json, Error *error);
NODISCARD bool run_best_words(const Run *run, Buffer *text, Error *error);

/* -- signals -------------------------------------------------------------------------------------------- */

/* From now on SIGINT, SIGTERM, SIGUSR1 and SIGHUP (unless it is ignored, as nohup has it) are noted, and it is said at once
 * on standard error, unless `quiet`, what is waited for and what a second one loses; a second one ends the process at
 * once, but not the same one within a second, nor one beside SIGUSR1, which schedulers send before they send another. To be called before the process has other
 * threads: those made later block them, as the caller does from now on. */
NODISCARD bool run_signals_install(bool quiet, Error *error);
/* The signal that came, or 0. */
int run_stop_signal(void);
/* After something that can be made again: false on all ranks, with the error of the signal, when one came to any. */
NODISCARD bool run_goes_on(const Run *run, Error *error);
/* What a signal waits for from now on, a static text; NULL for the usual one, the update at hand. */
void run_signals_wait_for(const char *what);
/* "interrupted by ...", and what is saved: ERROR_SIGINT or that of another signal. Always returns false. */
bool run_interrupted_error(const Run *run, int signal, Error *error);
/* Such an error again, after a run_save. */
void run_interrupted_saved(const Run *run, Error *error);

#endif
