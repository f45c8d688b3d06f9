/* Which sequences of an update share a micro-batch.
 *
 * First-fit decreasing (Johnson, 1973): items by falling length, each into the first micro-batch with room
 * for it; ties by position. Deterministic, and within 11/9 of the fewest possible micro-batches. Sequences of
 * a micro-batch lie end to end and do not see each other, and losses are normalised over the whole update, so
 * the plan changes speed and memory only.
 *
 * Without packing every item is a micro-batch of its own. */
#ifndef DATASETS_PACKING_H
#define DATASETS_PACKING_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct PackingPlan {
  int capacity;   /* items it can plan at once */
  int count;      /* micro-batches of the current plan */
  int *begins;    /* [count + 1] into members */
  int *members;   /* positions in `lengths`, ascending within a micro-batch */
  int *tokens;    /* [count] tokens of each micro-batch */
  int *bin_of;    /* [capacity] micro-batch of each item */
  uint64_t *keys; /* scratch */
} PackingPlan;

/* All memory for plans of up to `capacity` items. */
NODISCARD bool packing_plan_init(PackingPlan *plan, int capacity, Error *error);
void packing_plan_free(PackingPlan *plan);

/* lengths[count]: tokens of each item (example_tokens: a preference is one item). ERROR_USAGE naming both numbers
 * when an item is longer than micro_batch_tokens. */
NODISCARD bool packing_plan_make(PackingPlan *plan, const int *lengths, int count, int micro_batch_tokens,
                                 bool packing, Error *error);

#endif
