/* KL divergence between policy and reference, from the log-probabilities of the sampled tokens, and the
 * controller of its coefficient.
 *
 * Arrays are ragged: the responses of B sequences lie end to end, sequence b in [offsets[b], offsets[b+1]).
 * There is no padding, so there is nothing to mask. All sums are in double. */
#ifndef PPO_KL_H
#define PPO_KL_H

#include <stdbool.h>
#include <stdint.h>

/* Estimators of KL(policy || reference) from tokens of the policy (Schulman 2020, "Approximating KL
 * divergence"). With l = log reference - log policy:
 *   k1 = -l           unbiased, may be negative
 *   k2 = l^2 / 2      biased, low variance
 *   k3 = e^l - 1 - l  unbiased, never negative */
typedef enum KlEstimator { KL_K1, KL_K2, KL_K3 } KlEstimator;
extern const char *const kl_estimator_names[]; /* "k1", "k2", "k3", NULL */

/* Where the penalty on it is: a part of each token's reward, or of the policy's loss, there by k3. */
typedef enum KlPlace { KL_IN_REWARD, KL_IN_LOSS } KlPlace;
extern const char *const kl_place_names[]; /* "reward", "loss", NULL */

/* Where a ratio of probabilities is taken, its logarithm is held within this: e^20 is far beyond any ratio that means
 * something, and far from what fp32 cannot hold (verl's bound). Callers count the tokens that meet it. */
#define KL_LOG_RATIO_BOUND 20.0
double kl_log_ratio_held(double log_ratio);

/* In nats. The l in k3's exponential is held within the bound above. */
double kl_estimate(KlEstimator estimator, double logprob, double reference);

/* kl[t] for all tokens. Returns how many of them met the bound. */
int64_t kl_tokens(KlEstimator estimator, const float *logprob, const float *reference, int64_t tokens,
                  float *kl);

/* Mean over sequences of the sum over the sequence's tokens (TRL's objective/kl); 0 without sequences. */
double kl_mean(const float *kl, const int32_t *offsets, int64_t sequences);

/* The coefficient beta of the KL penalty. Fixed, or adaptive (Ziegler et al. 2019, section 2.2):
 *   beta <- beta * (1 + clip(KL/target - 1, -0.2, 0.2) * episodes / horizon) */
typedef struct KlController {
  double coef; /* beta; part of a checkpoint */
  bool adaptive;
  double target;  /* nats per sequence */
  double horizon; /* episodes */
} KlController;

/* After a rollout of `episodes` sequences whose kl_mean was `observed`. */
void kl_controller_update(KlController *controller, double observed, int64_t episodes);

#endif
