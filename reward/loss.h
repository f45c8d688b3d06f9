/* The reward model's pairwise loss (Ouyang et al. 2022, equation 1; margin: Touvron et al. 2023, equation 2;
 * centring: Eisenstein et al. 2023, as in TRL's RewardTrainer).
 *
 *   L = 1/n * sum over pairs of  -log sigmoid(r_c - r_r - margin) + centring * (r_c + r_r)^2
 *
 * Arrays are host arrays. `n` is the number of pairs of the whole update, over all micro-batches and ranks, so
 * that splitting an update does not change it. */
#ifndef REWARD_LOSS_H
#define REWARD_LOSS_H

#include <stdint.h>

typedef struct PairLoss {
  double loss;    /* sum over the given pairs, already divided by n */
  double correct; /* pairs with r_c > r_r; ties count half */
  double margin;  /* sum of r_c - r_r */
} PairLoss;

/* margin may be NULL (0). dchosen and drejected receive dL/dr, or are NULL for an evaluation. */
PairLoss pair_loss(const float *chosen, const float *rejected, const float *margin, int64_t count,
                   double centring, double n, float *dchosen, float *drejected);

#endif
