/* How well scores agree with the order that people gave answers: what an evaluation says beside the loss. */
#ifndef REWARD_AGREEMENT_H
#define REWARD_AGREEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Kendall's tau-b (Kendall 1945) between the scores and the ranks of one prompt's answers, as scipy.stats.kendalltau has
 * it, signed so that 1 is the order of the ranks and -1 its reverse:
 *
 *   (C - D) / sqrt(pairs of different rank * pairs of different score)
 *
 * C and D: pairs of different rank that the scores order the same way, and the other way. 0 where all scores are equal: no
 * order is none. There are at least two ranks. */
double kendall_tau(const float *scores, const int32_t *ranks, int64_t count);

/* A pair that was judged, by something that grows with how clear it should be. */
typedef struct JudgedPair {
  float clarity;
  float correct; /* 1, 0, or a half for equal scores */
} JudgedPair;

enum { QUARTERS = 4 };

/* The accuracy over a quarter of the pairs. */
typedef struct Quarter {
  int64_t pairs; /* there may be none: pairs of one clarity stay together */
  double accuracy;
  float least, most; /* clarity */
} Quarter;

/* From the least to the most clear. Pairs of equal clarity go, all of them, to the quarter that the middle of them falls
 * into. Sorts the pairs. Returns whether they have more than one clarity: otherwise quarters say nothing. */
bool accuracy_by_quarter(JudgedPair *pairs, size_t count, Quarter out[QUARTERS]);

#endif
