/* Room on the disk for what a run writes, looked at before any work as the memory is: its checkpoints and its result. What grows with
 * the data (their cache, which is there by then, and the run log) is not counted. */
#ifndef TRAIN_ROOM_H
#define TRAIN_ROOM_H

#include "train/run.h"
#include "train/trainee.h"

typedef struct RunWrites {
  uint64_t checkpoint, result; /* bytes of one */
  int64_t results;             /* models or adapters at the end */
} RunWrites;

/* With the models open, dry or not; `state` is that of run_save. */
NODISCARD bool room_measure(RunWrites *writes, const Trainee *trained, RunState *state, void *stage,
                            Compute *compute, Error *error);
/* Says what there will be in run.dir at most and how much is free; ERROR_FILE when a new run has no room for one checkpoint and its
 * result, a warning when there is none for all that it keeps. Nothing without run.dir. updates: of the run, 0 when that is unknown. */
NODISCARD bool room_check(const RunWrites *writes, const RunConfig *config, int64_t updates, Log *log,
                          Error *error);

#endif
