/* Which tokens each running sequence has so far, prompt and answer: each once, in the order of their first appearance. What a repetition penalty is
 * of (LogitEdits in compute/ops.h). Host memory. */
#ifndef ROLLOUT_REPEATS_H
#define ROLLOUT_REPEATS_H

#include "base/error.h"

#include <stdint.h>

typedef struct Repeats {
  int64_t slots, longest, vocab;
  int32_t *ids;   /* [slots, longest] */
  int64_t *count; /* [slots] */
  uint8_t *known; /* [slots, vocab / 8]: a bit for each token */
} Repeats;

NODISCARD bool repeats_init(Repeats *repeats, int64_t slots, int64_t longest, int64_t vocab, Error *error);
void repeats_free(Repeats *repeats); /* also of a zeroed one */

void repeats_clear(Repeats *repeats, int64_t slot);
/* ids below vocab; all of a sequence together at most `longest`. */
void repeats_add(Repeats *repeats, int64_t slot, const int32_t *ids, int64_t count);
static inline const int32_t *repeats_of(const Repeats *repeats, int64_t slot) {
  return repeats->ids + slot * repeats->longest;
}

#endif
