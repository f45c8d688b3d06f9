/* Rows of model_decode from host arrays, and a whole batch by it: for tests that decode without an engine. */
#ifndef TESTS_SUPPORT_DECODE_H
#define TESTS_SUPPORT_DECODE_H

#include "model/decode.h"
#include "tests/support/rig.h"

static inline Tensor decode_upload(Compute *compute, Arena *arena, const int32_t *values, int64_t count) {
  const Tensor out = tensor_new_1d(arena, DTYPE_I32, count);
  compute_upload(compute, out, values);
  return out;
}

/* All rows are picked. */
static inline DecodeRows decode_rows_upload(Compute *compute, Arena *arena, const int32_t *ids,
                                            const int32_t *sequence, const int32_t *position, int64_t count) {
  return (DecodeRows){.ids = decode_upload(compute, arena, ids, count),
                      .sequence = decode_upload(compute, arena, sequence, count),
                      .position = decode_upload(compute, arena, position, count)};
}

enum { DECODE_BLOCK = 4, DECODE_BLOCKS = 76, DECODE_SEQUENCES = 8, DECODE_ROWS = 64 };

/* The cached forward of a rig's batch, in chunks of changing length: a token comes with others of its prompt, or alone. A RigWork;
 * the cache stands in rig->memory. Sequences have at most DECODE_BLOCK * DECODE_BLOCKS tokens. */
typedef struct DecodeBatch {
  KvCache cache;
  int64_t done[DECODE_SEQUENCES]; /* tokens of each sequence that are in the cache */
  float *out;                     /* logits [T,V] in the order of the batch */
} DecodeBatch;

void decode_batch(Rig *rig, void *work);

#endif
