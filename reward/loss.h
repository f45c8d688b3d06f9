/* The reward model's loss over the answers to one prompt (Ouyang et al. 2022, equation 1; margin: Touvron et al. 2023,
 * equation 2; centring: Eisenstein et al. 2023, as in TRL's RewardTrainer).
 *
 *   l = 1/P * sum over the P pairs of different rank  -log sigmoid(r_b - r_w - margin) + centring * (r_b + r_w)^2
 *
 * with r_b the score of the better answer of a pair and r_w of the worse one. Without ties P is K choose 2. A prompt with
 * two answers is a pair: P = 1. The loss of an update is L = 1/n * sum over its prompts of l.
 *
 * Arrays are host arrays. `n` is the number of prompts of the whole update, over all micro-batches and ranks, so that
 * splitting an update does not change it. */
#ifndef REWARD_LOSS_H
#define REWARD_LOSS_H

#include <stdint.h>

typedef struct PreferenceLoss {
  double loss;    /* l / n */
  double pairs;   /* P */
  double correct; /* pairs with r_b > r_w; equal scores count half */
  double margin;  /* sum over the pairs of r_b - r_w */
} PreferenceLoss;

/* scores and ranks: [count], one for each answer; the lower rank is the better one, and there are at least two. slopes
 * receives dL/dr of each answer, or is NULL for an evaluation. */
PreferenceLoss preference_loss(const float *scores, const int32_t *ranks, int64_t count, double margin,
                               double centring, double n, float *slopes);

/* The sign of a cost model's scores (Dai et al. 2023, "Safe RLHF", equation 6): of the answers that are labelled safe (1) or unsafe (-1), with r
 * what they are worth, minus their cost,
 *
 *   1/n * sum over them  -log sigmoid(safe * r)
 *
 * so that the cost of what is unsafe is above 0, and of what is safe below. Answers without a label (0) have no part in it. Added to slopes, which
 * may be NULL. */
double safety_loss(const float *scores, const int8_t *safe, int64_t count, double n, float *slopes);

#endif
