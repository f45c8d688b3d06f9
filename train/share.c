#include "train/share.h"

#include "base/memory.h"

#include <limits.h>
#include <stdlib.h>

static int key_compare(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Longest first, then by position. */
static void sort(uint64_t *keys, const int *tokens, int64_t count) {
  for (int64_t i = 0; i < count; i++) keys[i] = (uint64_t)(INT_MAX - tokens[i]) << 32 | (uint32_t)i;
  qsort(keys, (size_t)count, sizeof *keys, key_compare);
}

static int least(const int64_t *loads, int ranks) {
  int found = 0;
  for (int r = 1; r < ranks; r++)
    if (loads[r] < loads[found]) found = r;
  return found;
}

void share_runs(const int *tokens, int64_t count, int ranks, int64_t *cuts) {
  int64_t all = 0, before = 0, at = 0;
  for (int64_t i = 0; i < count; i++) all += tokens[i];
  for (int r = 0; r < ranks; r++) {
    while (at < count && (2 * before + tokens[at]) * ranks < 2 * all * r) before += tokens[at++];
    cuts[r] = at;
  }
  cuts[ranks] = count;
}

bool share_examples(const int *tokens, int64_t count, int ranks, int rank, int64_t *mine, int64_t *own,
                    Error *error) {
  uint64_t *keys = memory_zeroed((size_t)count, sizeof *keys);
  int *rank_of = memory_zeroed((size_t)count, sizeof *rank_of);
  int64_t *loads = memory_zeroed((size_t)ranks, sizeof *loads);
  const bool ok = (keys && rank_of && loads) ||
                  error_out_of_memory(error, "examples of ranks", (size_t)count * sizeof *keys);
  *own = 0;
  if (ok) {
    sort(keys, tokens, count);
    for (int64_t k = 0; k < count; k++) {
      const uint32_t i = (uint32_t)keys[k];
      rank_of[i] = least(loads, ranks);
      loads[rank_of[i]] += tokens[i];
    }
    for (int64_t i = 0; i < count; i++)
      if (rank_of[i] == rank) mine[(*own)++] = i;
  }
  memory_free(keys);
  memory_free(rank_of);
  memory_free(loads);
  return ok;
}
