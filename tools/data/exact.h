/* Exact duplicates: the first record of each digest.
 *
 * Texts are known by 128 bits (base/digest.h): among a billion that differ, two are taken for one with a probability below
 * 1.5e-21. Memory: 16 bytes per record, and 8 to 16 of the table. */
#ifndef TOOLS_DATA_EXACT_H
#define TOOLS_DATA_EXACT_H

#include "base/digest.h"
#include "base/memory.h"

typedef struct ExactSet {
  Hash128 *digests; /* in the order of their coming */
  uint32_t *records;
  size_t count, capacity;
  uint32_t *slots; /* 1 + index into digests; 0 = free; a power of two of them, at most half of them taken */
  size_t slot_count;
} ExactSet;

void exact_free(ExactSet *set);
/* *first: the record that came first with this digest; `record` itself when none has. */
NODISCARD bool exact_add(ExactSet *set, Hash128 digest, uint32_t record, uint32_t *first, Error *error);

#endif
