/* Inside train/run*.c only. */
#ifndef TRAIN_RUN_PARTS_H
#define TRAIN_RUN_PARTS_H

#include "train/run.h"

/* -- run_directory.c: whose directory it is, and what a run writes in it -- */

/* ERROR_USAGE when what lies there is somebody else's: it has files of the names that a run writes, and no `lock` with
 * the mark of a run in it. */
NODISCARD bool run_directory_check(const Run *run, Error *error);
/* Takes the lock, and marks the directory as a run's. ERROR_FILE when another process has it. */
NODISCARD bool run_directory_lock(Run *run, Error *error);
/* ERROR_USAGE when a path of the configuration lies in what the run writes: it would lose its own input. */
NODISCARD bool run_directory_check_inputs(const Run *run, Error *error);
/* Removes what a run has written, with what a killed one left half written. *any: there was something. */
NODISCARD bool run_directory_clear(const Run *run, bool *any, Error *error);

/* -- run.c -- */

/* The run's own share of the state, then the stage's. */
NODISCARD bool run_whole_state(Run *run, RunState *state, void *stage, Checkpoint *checkpoint, Error *error);

/* -- run_alarm.c -- */

NODISCARD bool run_alarms_state(Run *run, Checkpoint *checkpoint, Error *error);

/* -- run_best.c -- */

NODISCARD bool run_best_state(Run *run, Checkpoint *checkpoint, Error *error);
/* After loading the checkpoint of update `at` (-1: there is none): compares the state with what is in RUN/best. */
void run_best_meet(Run *run, int64_t at);

/* -- run_signals.c -- */

void run_signals_saved(int64_t step); /* of the newest checkpoint: what a second signal does not lose */

#endif
