/* Rows of model_decode from host arrays: for tests that decode without an engine. */
#ifndef TESTS_SUPPORT_DECODE_H
#define TESTS_SUPPORT_DECODE_H

#include "model/decode.h"

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

#endif
