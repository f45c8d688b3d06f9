#include "reward/agreement.h"

#include <math.h>
#include <stdlib.h>

double kendall_tau(const float *scores, const int32_t *ranks, int64_t count) {
  double agreed = 0, ranked = 0, scored = 0;
  for (int64_t i = 0; i < count; i++) {
    for (int64_t j = i + 1; j < count; j++) {
      const int order = (ranks[i] < ranks[j]) - (ranks[i] > ranks[j]);
      const int found = (scores[i] > scores[j]) - (scores[i] < scores[j]);
      agreed += order * found;
      ranked += order != 0;
      scored += found != 0;
    }
  }
  return scored > 0 ? agreed / sqrt(ranked * scored) : 0;
}

static int by_clarity(const void *a, const void *b) {
  const float x = ((const JudgedPair *)a)->clarity, y = ((const JudgedPair *)b)->clarity;
  return x < y ? -1 : x > y;
}

bool accuracy_by_quarter(JudgedPair *pairs, size_t count, Quarter out[QUARTERS]) {
  for (int q = 0; q < QUARTERS; q++) out[q] = (Quarter){0};
  qsort(pairs, count, sizeof *pairs, by_clarity);
  for (size_t begin = 0, end; begin < count; begin = end) {
    end = begin + 1;
    while (end < count && pairs[end].clarity == pairs[begin].clarity) end++;
    Quarter *quarter = &out[QUARTERS * (begin + end) / (2 * count)];
    if (quarter->pairs == 0) quarter->least = pairs[begin].clarity;
    quarter->most = pairs[begin].clarity;
    for (size_t i = begin; i < end; i++) quarter->accuracy += pairs[i].correct;
    quarter->pairs += (int64_t)(end - begin);
  }
  for (int q = 0; q < QUARTERS; q++) {
    if (out[q].pairs) out[q].accuracy /= (double)out[q].pairs;
  }
  return count > 0 && pairs[0].clarity < pairs[count - 1].clarity;
}
