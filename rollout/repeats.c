#include "rollout/repeats.h"

#include "base/memory.h"

#include <string.h>

static int64_t known_bytes(const Repeats *r) {
  return (r->vocab + 7) / 8;
}

bool repeats_init(Repeats *repeats, int64_t slots, int64_t longest, int64_t vocab, Error *error) {
  *repeats = (Repeats){.slots = slots, .longest = longest, .vocab = vocab};
  Repeats *r = repeats;
  r->ids = memory_zeroed((size_t)(slots * longest), sizeof *r->ids);
  r->count = memory_zeroed((size_t)slots, sizeof *r->count);
  r->known = memory_zeroed((size_t)slots, (size_t)known_bytes(r));
  if (r->ids && r->count && r->known) return true;
  repeats_free(r);
  return error_out_of_memory(error, "tokens of sequences", (size_t)(slots * longest) * sizeof *r->ids);
}

void repeats_free(Repeats *repeats) {
  memory_free(repeats->ids);
  memory_free(repeats->count);
  memory_free(repeats->known);
  *repeats = (Repeats){0};
}

void repeats_clear(Repeats *r, int64_t slot) {
  memset(r->known + slot * known_bytes(r), 0, (size_t)known_bytes(r));
  r->count[slot] = 0;
}

void repeats_add(Repeats *r, int64_t slot, const int32_t *ids, int64_t count) {
  uint8_t *known = r->known + slot * known_bytes(r);
  int32_t *own = r->ids + slot * r->longest;
  for (int64_t i = 0; i < count; i++) {
    const uint8_t bit = (uint8_t)(1 << (ids[i] & 7));
    if (known[ids[i] >> 3] & bit) continue;
    ASSERT(r->count[slot] < r->longest);
    known[ids[i] >> 3] |= bit;
    own[r->count[slot]++] = ids[i];
  }
}
