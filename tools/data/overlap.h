/* Overlap with evaluation files, as GPT-3's and WIMBD's contamination studies count it: n-grams of words (13, as there) that occur in
 * both. Signs and case count for nothing (words.h), and n-grams go over the ends of turns. A record of fewer than n words is one
 * n-gram of all its words, so that it is found where a short record has the same words.
 *
 * Memory: 25 to 37 bytes per n-gram of the evaluation files. */
#ifndef TOOLS_DATA_OVERLAP_H
#define TOOLS_DATA_OVERLAP_H

#include "base/memory.h"

#include <stdint.h>

typedef struct EvalRecord {
  const char *file; /* borrowed */
  uint64_t line;
  uint32_t grams, found; /* n-grams of it, and those of them that occur in the data */
} EvalRecord;

typedef struct Overlap {
  int n;
  EvalRecord *records;
  size_t record_count, record_capacity;
  uint64_t *hashes; /* of all n-grams of the evaluation files */
  uint32_t *owners; /* index into records */
  size_t gram_count, gram_capacity;
  uint32_t *slots;  /* 1 + index of the first n-gram with this hash; 0 = free */
  uint8_t *seen;    /* by index of the first n-gram */
  uint32_t *firsts; /* index of the first n-gram with the same hash */
  size_t slot_count;
} Overlap;

void overlap_free(Overlap *overlap); /* fine for a zeroed one; without overlap_end nothing overlaps */
/* A record of an evaluation file. */
NODISCARD bool overlap_eval(Overlap *overlap, const char *file, uint64_t line, const uint32_t *words,
                            size_t count, Error *error);
NODISCARD bool overlap_ready(Overlap *overlap, Error *error); /* after the last of them */
/* How many of a record's n-grams occur in the evaluation files, which takes note of it; of *all. */
uint64_t overlap_data(Overlap *overlap, const uint32_t *words, size_t count, uint64_t *all);
/* Fills `found` of the evaluation records. */
void overlap_finish(Overlap *overlap);

#endif
