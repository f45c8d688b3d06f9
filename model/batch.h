/* A packed batch: sequences end to end, no padding (DESIGN decision 5). Host arrays. */
#ifndef MODEL_BATCH_H
#define MODEL_BATCH_H

#include "base/error.h"

#include <stdint.h>

typedef struct Batch {
  int32_t *ids;       /* [token_capacity] */
  int32_t *positions; /* restart at 0 in every sequence */
  int32_t *draws;     /* of each token's sequence: batch_draw */
  int32_t *offsets;   /* [sequence_capacity + 1]; offsets[0] = 0 */
  int64_t tokens, sequences;
  int64_t token_capacity, sequence_capacity;
} Batch;

NODISCARD bool batch_init(Batch *batch, int64_t token_capacity, int64_t sequence_capacity, Error *error);
void batch_free(Batch *batch);
void batch_clear(Batch *batch);
/* The largest batch there can be, with meaningless content: for the dry run of the memory plan. */
void batch_plan(Batch *batch);
/* False when it does not fit; the batch is then unchanged. Returns the row of its first token in *first. */
bool batch_add(Batch *batch, const int32_t *ids, int64_t count, int64_t *first);
/* Adds ids to the end of the last sequence, with its draw. False when they do not fit; the batch is then unchanged. */
bool batch_extend(Batch *batch, const int32_t *ids, int64_t count);
/* Says that the sequence added last is number `draw` of all that a run trains on, modulo 2^32 (0 until then): its dropout
 * masks are a function of that, wherever it is packed (DropoutSpec in compute/ops.h). */
void batch_draw(Batch *batch, uint64_t draw);

#endif
