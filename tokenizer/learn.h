/* Learning BPE merges from counted words: the algorithm behind train.h.
 *
 * Each step merges the pair with the largest count, of equals the one with the smallest (left, right) ids, and
 * updates the counts of the pairs around each place. A heap holds a candidate per pair; counts only fall after a
 * pair was pushed, so a candidate whose count is stale goes back with the true one. */
#ifndef TOKENIZER_LEARN_H
#define TOKENIZER_LEARN_H

#include "tokenizer/table.h"

#include <stddef.h>
#include <stdint.h>

typedef struct LearnInput {
  const char *const *special; /* ids 0 .. */
  size_t special_count;
  const char *const *words; /* in the byte alphabet, well-formed UTF-8 */
  const uint32_t *lengths;
  const int64_t *counts;
  size_t word_count;
  size_t vocab_size;
  int64_t min_frequency;
} LearnInput;

typedef struct LearnedText {
  const char *text;
  size_t bytes;
} LearnedText;

typedef struct LearnedMerge {
  uint32_t left, right;
} LearnedMerge;

typedef struct Learned {
  LearnedText *tokens; /* by id */
  size_t token_count, token_capacity;
  LearnedMerge *merges; /* by rank */
  size_t merge_count, merge_capacity;
  StringPool pool;
} Learned;

NODISCARD bool learn_bpe(const LearnInput *input, Learned *learned,
                         Error *error); /* learned is zeroed before */
void learned_free(Learned *learned);

#endif
