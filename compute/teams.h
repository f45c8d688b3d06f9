/* How the threads of a product are divided: into teams for its rows, and within each for its columns. */
#ifndef COMPUTE_TEAMS_H
#define COMPUTE_TEAMS_H

#include <stdint.h>

typedef struct Teams {
  int64_t rows, columns; /* rows * columns are all threads */
} Teams;

/* So that the largest share of rows x columns pieces is the smallest; with the fewest teams for rows. */
static inline Teams teams_of(int threads, int64_t rows, int64_t columns) {
  Teams found = {1, threads};
  int64_t best = INT64_MAX;
  for (int64_t n = 1; n <= threads; n++) {
    const int64_t others = threads / n, work = ((rows + n - 1) / n) * ((columns + others - 1) / others);
    if (threads % n || work >= best) continue;
    best = work;
    found = (Teams){n, others};
  }
  return found;
}

#endif
