/* How examples are shared out over ranks. */
#ifndef TRAIN_SHARE_H
#define TRAIN_SHARE_H

#include "base/error.h"

#include <stdint.h>

/* From the longest example to the shortest, each goes to the rank that has the fewest tokens so far (Graham 1969, longest
 * processing time first: no rank has more than 4/3 of what it has in the best split); ties by position, and to the lowest
 * rank. The same on every rank. tokens[count]; mine[count] gets the positions of this rank's, ascending, and *own how many
 * these are: none, where there are fewer examples than ranks. */
NODISCARD bool share_examples(const int *tokens, int64_t count, int ranks, int rank, int64_t *mine,
                              int64_t *own, Error *error);

/* Examples that are to stay in their order: rank r gets those from cuts[r] to cuts[r+1]-1. Each goes to the rank in
 * whose equal part of all tokens its middle lies, so that no rank has more than such a part and the longest example.
 * cuts[ranks + 1]. */
void share_runs(const int *tokens, int64_t count, int ranks, int64_t *cuts);

#endif
