/* Checkpoints: RUN/checkpoints/step-N/ with manifest.json and state.safetensors (DESIGN section 8); where ranks keep parts of tensors
 * (checkpoint_part) with a file of each, state-00001-of-00004.safetensors and so on, and rank 0's has what is the same on all.
 * Whatever wrote it, any number of ranks reads it. Of a run of many ranks all call the same functions in the same order.
 *
 * A stage describes its state once, in a function that serves saving and loading alike, because each
 * checkpoint_VALUE call writes *value when the checkpoint is being made and sets it when it is being read:
 *
 *   static bool stage_state(Stage *s, Checkpoint *c, Error *error) {
 *     return checkpoint_int(c, "data.cursor", &s->cursor, error) && trainee_state(&s->policy, c, error);
 *   }
 *   saving:    checkpoint_begin(&c, ...) && stage_state(...) && checkpoint_commit(&c, ...); checkpoint_close(&c)
 *   resuming:  checkpoint_find(&c, ..., &found, ...) && found && stage_state(...); checkpoint_close(&c)
 *
 * (run_save and run_load of train/run.h do just that.)
 *
 * Everything is written to a temporary name, fsynced, renamed, and older ones are removed only after that. On
 * loading every file's digest is checked; a damaged checkpoint (a file that is missing, is no file, or has other
 * content) is passed over with a warning for the one before it. One that cannot be read is not damaged: the disk or its
 * server may be away for a moment, and going on from an older one would throw the newer away. Errors: ERROR_FILE (disk
 * full: the partial files are removed, older checkpoints stay; a checkpoint that cannot be read), ERROR_MODEL (a tensor that
 * is not finite is not saved, and older checkpoints stay; a value that is missing, negative or has another shape; no intact checkpoint is left), ERROR_USAGE (the configuration differs
 * in something that matters). */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "base/log.h"
#include "compute/compute.h"
#include "train/settings.h"

#include <stdint.h>

typedef struct Checkpoint {
  bool loading;
  int64_t step; /* updates done */
  Compute *compute;
  char *path;                    /* known after commit and find, as is ... */
  char digest[33];               /* ... that of the manifest, which has the digests of the other files */
  struct CheckpointParts *parts; /* checkpoint.c */
} Checkpoint;

/* Starts a new one. config: the resolved configuration (options_json); stage: "sft" ... All borrowed until
 * close. */
NODISCARD bool checkpoint_begin(Checkpoint *checkpoint, const char *stage, int64_t step, const char *config,
                                Compute *compute, Error *error);

/* Whether one that is being read has the value: checkpoints from before a value was kept have not. */
bool checkpoint_has_int(const Checkpoint *checkpoint, const char *name);
/* Values; names are unique within a checkpoint. Reading a name that is not there is an error. */
NODISCARD bool checkpoint_int(Checkpoint *checkpoint, const char *name, int64_t *value, Error *error);
/* A number of something: one that is negative is an error. */
NODISCARD bool checkpoint_count(Checkpoint *checkpoint, const char *name, int64_t *value, Error *error);
NODISCARD bool checkpoint_float(Checkpoint *checkpoint, const char *name, double *value,
                                Error *error); /* exact */
/* A tensor in device memory; when saving it is read at commit and must be unchanged until then. */
NODISCARD bool checkpoint_tensor(Checkpoint *checkpoint, const char *name, Tensor value, Error *error);
/* A tensor in host memory; otherwise as the former. */
NODISCARD bool checkpoint_host_tensor(Checkpoint *checkpoint, const char *name, Tensor value, Error *error);
/* A part of a tensor of `whole` elements, flat and in device memory, that this rank keeps: from element `first` on. Parts of a name lie
 * in the order of ranks, and are all of it. Read from parts of whichever ranks, or from a whole tensor; and those as a whole by the
 * functions above. */
NODISCARD bool checkpoint_part(Checkpoint *checkpoint, const char *name, Tensor part, int64_t first,
                               int64_t whole, Error *error);
/* An array on the host, of a length known on loading; likewise read at commit. */
NODISCARD bool checkpoint_array(Checkpoint *checkpoint, const char *name, DType dtype, void *values,
                                int64_t count, Error *error);

/* Bytes of the tensors that a new one has been given so far; of many ranks about those that all of them write. */
uint64_t checkpoint_bytes(const Checkpoint *checkpoint);

/* Which checkpoints stay: the `keep` newest, and, where `every` is not 0, as many of those whose step is a multiple of it. */
typedef struct CheckpointKeep {
  int64_t keep, every;
} CheckpointKeep;
/* Writes RUN/checkpoints/step-N and removes others. */
NODISCARD bool checkpoint_commit(Checkpoint *checkpoint, const char *run_dir, CheckpointKeep keep,
                                 Error *error);

/* *found: the newest checkpoint of a step that is a multiple of `every` and at most `step`; where there is none, the oldest of a multiple.
 * ERROR_MODEL when there is none at all. Of many ranks rank 0 looks, and all call it. */
NODISCARD bool checkpoint_before(const char *run_dir, int64_t step, int64_t every, const Comm *comm,
                                 int64_t *found, Error *error);
/* Removes those of later steps, the newest first. */
NODISCARD bool checkpoint_drop_after(const char *run_dir, int64_t step, Error *error);

/* Whether RUN has checkpoints, intact or not. */
NODISCARD bool checkpoint_any(const char *run_dir, bool *any, Error *error);
/* Opens the newest intact checkpoint for loading; *found is false when there is none at all. Its configuration is
 * compared with `settings` by settings_check, and what is to be told of the differences is logged as warnings. */
NODISCARD bool checkpoint_find(Checkpoint *checkpoint, const char *run_dir, const char *stage,
                               Settings settings, Compute *compute, Log *log, bool *found, Error *error);
/* Opens one for loading by itself, not to go on with its run: of update `step`, or with -1 the newest that is intact.
 * checkpoint->compute is the caller's to set before tensors are read. ERROR_USAGE names the steps there are. */
NODISCARD bool checkpoint_open(Checkpoint *checkpoint, const char *run_dir, int64_t step, Log *log,
                               Error *error);
/* The stage and the configuration (a new string, JSON) that an opened one was made with. */
const char *checkpoint_stage(const Checkpoint *checkpoint);
NODISCARD char *checkpoint_config(const Checkpoint *checkpoint, Error *error);
void checkpoint_close(Checkpoint *checkpoint); /* also of a zeroed one */

#endif
