/* Inside train/checkpoint*.c only: what a Checkpoint holds. */
#ifndef TRAIN_CHECKPOINT_PARTS_H
#define TRAIN_CHECKPOINT_PARTS_H

#include "formats/safetensors.h"
#include "train/checkpoint.h"

#include <jansson.h>

#define CHECKPOINT_MANIFEST "manifest.json"

enum { CHECKPOINT_VERSION = 3, CHECKPOINT_NAME = 48 /* of a file, with its end */ };

/* A tensor to be written at commit. */
typedef struct CheckpointItem {
  char *name;
  Tensor tensor;    /* on the device, or ... */
  const void *host; /* ... an array here, described by `tensor` */
  bool part;        /* of a tensor that ranks keep parts of */
} CheckpointItem;

struct CheckpointParts {
  json_t *manifest; /* version, stage, step, config, ints, floats; and when it is on disk: files, digest */
  CheckpointItem *items;
  size_t count, capacity;
  bool divided; /* there are parts: each rank writes its own */
  Comm comm;
  SafetensorsFile *states; /* when loading: of the ranks that wrote it, in their order */
  int state_count;
};

/* Of the file of one of `ranks` that write: state.safetensors, or state-00001-of-00004.safetensors and so on. */
void checkpoint_state_name(int rank, int ranks, char out[CHECKPOINT_NAME]);
/* DIRECTORY/step-N with the suffix, a new string. */
char *checkpoint_step_path(const char *directory, int64_t step, const char *suffix);
/* Steps of the checkpoints in a directory, newest first; *steps is NULL when there are none. What is left of
 * unfinished ones is removed when `tidy` is set. */
NODISCARD bool checkpoint_steps(const char *directory, bool tidy, int64_t **steps, size_t *count,
                                Error *error);

/* Digest of the manifest without its "digest" key. */
NODISCARD bool manifest_digest(const json_t *manifest, char out[33], Error *error);

#endif
