/* The losses of PPO (Schulman et al. 2017, "Proximal policy optimization algorithms"; the form used for
 * language models: Ouyang et al. 2022 and Huang et al. 2024, SFD) and their gradients, per token.
 *
 * A loss is a mean over the tokens of a whole minibatch; micro-batches are parts of one. So each call takes
 * `weight` = 1 / (tokens of the minibatch, over all micro-batches and ranks): the gradients it writes are
 * those of weight * sum over its tokens, and accumulating them over the micro-batches gives the gradient of
 * the mean, however the minibatch was cut. Statistics are sums over tokens: add them up over micro-batches
 * and ranks, then divide. */
#ifndef PPO_LOSS_H
#define PPO_LOSS_H

#include "ppo/kl.h"

#include <stdint.h>

/* Sums over tokens, by name, and as an array for what adds them up. */
enum { POLICY_SUMS = 8, VALUE_SUMS = 4 };

typedef union PolicyStats {
  struct {
    double tokens;
    double loss;       /* max(-A rho, -A clip(rho)) */
    double clipped;    /* tokens whose loss is the clipped one (strictly larger): these have no gradient */
    double bounded;    /* tokens whose log rho met KL_LOG_RATIO_BOUND: these have none either */
    double approx_kl;  /* (log rho)^2 / 2, unbounded: KL from the sampling policy to the present one, k2 */
    double approx_kl3; /* rho - 1 - log rho: k3 of the same */
    double ratio;      /* rho */
    double ratio_squared;
  };
  double sums[POLICY_SUMS];
} PolicyStats;

typedef union ValueStats {
  struct {
    double tokens;
    double loss;    /* half of the larger square */
    double clipped; /* tokens whose loss is the clipped one (strictly larger) */
    double value;
  };
  double sums[VALUE_SUMS];
} ValueStats;

/* to[i] += from[i]: of the arrays of sums above. */
void stats_add(double *to, const double *from, int count);

/* rho = exp(clip(logprob - old, -20, 20)) (KL_LOG_RATIO_BOUND, ppo/kl.h), loss = max(-A rho, -A clip(rho, 1-clip,
 * 1+clip)). Writes dlogprob[t] = weight * d loss_t / d logprob_t, 0 beyond the bound; adds to stats (may be NULL).
 * dlogprob may be logprob. */
void policy_loss(const float *logprob, const float *old, const float *advantage, int64_t tokens, double clip,
                 double weight, float *dlogprob, PolicyStats *stats);

/* loss = 1/2 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2); clip 0 = the plain square. Writes
 * dvalue[t] = weight * d loss_t / d value_t. dvalue may be value. */
void value_loss(const float *value, const float *old, const float *returns, int64_t tokens, double clip,
                double weight, float *dvalue, ValueStats *stats);

/* Instead of the mean over the tokens of a minibatch, that over its answers of each one's mean over its own tokens: the slope of a
 * token, made with weight = 1 / answers, is divided by the length of its answer. */
void slopes_by_answer(float *slope, const int32_t *length, int64_t tokens);

/* An entropy bonus, loss = -coef * mean entropy: dentropy[t] = -coef * weight. */
void entropy_bonus(int64_t tokens, double coef, double weight, float *dentropy);

#endif
