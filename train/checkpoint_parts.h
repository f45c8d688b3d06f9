/* Inside train/checkpoint*.c only: what a Checkpoint holds. */
#ifndef TRAIN_CHECKPOINT_PARTS_H
#define TRAIN_CHECKPOINT_PARTS_H

#include "formats/safetensors.h"
#include "train/checkpoint.h"

#include <jansson.h>

#define CHECKPOINT_STATE    "state.safetensors"
#define CHECKPOINT_MANIFEST "manifest.json"

enum { CHECKPOINT_VERSION = 3 };

/* A tensor to be written at commit. */
typedef struct CheckpointItem {
  char *name;
  Tensor tensor;    /* on the device, or ... */
  const void *host; /* ... an array here, described by `tensor` */
} CheckpointItem;

struct CheckpointParts {
  json_t *manifest; /* version, stage, step, config, ints, floats; and when it is on disk: files, digest */
  CheckpointItem *items;
  size_t count, capacity;
  SafetensorsFile state; /* when loading */
};

/* Digest of the manifest without its "digest" key. */
NODISCARD bool manifest_digest(const json_t *manifest, char out[33], Error *error);

#endif
