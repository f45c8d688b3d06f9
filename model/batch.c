#include "model/batch.h"

#include "base/memory.h"

#include <string.h>

bool batch_init(Batch *batch, int64_t token_capacity, int64_t sequence_capacity, Error *error) {
  *batch = (Batch){.token_capacity = token_capacity, .sequence_capacity = sequence_capacity};
  batch->ids = memory_zeroed((size_t)token_capacity, sizeof *batch->ids);
  batch->positions = memory_zeroed((size_t)token_capacity, sizeof *batch->positions);
  batch->draws = memory_zeroed((size_t)token_capacity, sizeof *batch->draws);
  batch->offsets = memory_zeroed((size_t)sequence_capacity + 1, sizeof *batch->offsets);
  if (batch->ids && batch->positions && batch->draws && batch->offsets) return true;
  batch_free(batch);
  return error_out_of_memory(error, "packed batch", 12ull * (unsigned long long)token_capacity);
}

void batch_free(Batch *batch) {
  memory_free(batch->ids);
  memory_free(batch->positions);
  memory_free(batch->draws);
  memory_free(batch->offsets);
  *batch = (Batch){0};
}

void batch_clear(Batch *batch) {
  batch->tokens = batch->sequences = 0;
}

void batch_plan(Batch *batch) {
  batch->tokens = batch->token_capacity;
  batch->sequences = batch->sequence_capacity;
}

bool batch_add(Batch *batch, const int32_t *ids, int64_t count, int64_t *first) {
  if (batch->tokens + count > batch->token_capacity || batch->sequences == batch->sequence_capacity)
    return false;
  *first = batch->tokens;
  batch->offsets[++batch->sequences] = (int32_t)batch->tokens;
  return batch_extend(batch, ids, count);
}

bool batch_extend(Batch *batch, const int32_t *ids, int64_t count) {
  ASSERT(batch->sequences > 0);
  if (batch->tokens + count > batch->token_capacity) return false;
  const int64_t begin = batch->offsets[batch->sequences - 1];
  memcpy(batch->ids + batch->tokens, ids, (size_t)count * sizeof *ids);
  const int32_t draw = begin < batch->tokens ? batch->draws[begin] : 0;
  for (int64_t row = batch->tokens; row < batch->tokens + count; row++) {
    batch->positions[row] = (int32_t)(row - begin);
    batch->draws[row] = draw;
  }
  batch->tokens += count;
  batch->offsets[batch->sequences] = (int32_t)batch->tokens;
  return true;
}

void batch_draw(Batch *batch, uint64_t draw) {
  ASSERT(batch->sequences > 0);
  for (int64_t t = batch->offsets[batch->sequences - 1]; t < batch->offsets[batch->sequences]; t++) {
    batch->draws[t] = (int32_t)(uint32_t)draw;
  }
}
