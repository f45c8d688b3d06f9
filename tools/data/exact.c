#include "tools/data/exact.h"

void exact_free(ExactSet *set) {
  memory_free(set->digests);
  memory_free(set->records);
  memory_free(set->slots);
  *set = (ExactSet){0};
}

/* The slot of the digest, or the free one where it belongs. */
static uint32_t *find_slot(const ExactSet *set, Hash128 digest) {
  for (size_t at = digest.low;; at++) {
    uint32_t *slot = &set->slots[at & (set->slot_count - 1)];
    if (!*slot) return slot;
    const Hash128 *there = &set->digests[*slot - 1];
    if (there->low == digest.low && there->high == digest.high) return slot;
  }
}

static bool grow(ExactSet *set, Error *error) {
  const size_t capacity = set->capacity ? 2 * set->capacity : 1024;
  Hash128 *digests = memory_resize(set->digests, capacity * sizeof *digests);
  if (!digests) return error_out_of_memory(error, "digests of records", capacity * sizeof *digests);
  set->digests = digests;
  uint32_t *records = memory_resize(set->records, capacity * sizeof *records);
  if (!records) return error_out_of_memory(error, "digests of records", capacity * sizeof *records);
  set->records = records;
  uint32_t *slots = memory_zeroed(2 * capacity, sizeof *slots);
  if (!slots) return error_out_of_memory(error, "table of digests", 2 * capacity * sizeof *slots);
  memory_free(set->slots);
  set->slots = slots;
  set->slot_count = 2 * capacity;
  set->capacity = capacity;
  for (size_t i = 0; i < set->count; i++) *find_slot(set, set->digests[i]) = (uint32_t)(i + 1);
  return true;
}

bool exact_add(ExactSet *set, Hash128 digest, uint32_t record, uint32_t *first, Error *error) {
  if (set->count == set->capacity && !grow(set, error)) return false;
  uint32_t *slot = find_slot(set, digest);
  if (*slot) {
    *first = set->records[*slot - 1];
    return true;
  }
  set->digests[set->count] = digest;
  set->records[set->count++] = record;
  *slot = (uint32_t)set->count;
  *first = record;
  return true;
}
