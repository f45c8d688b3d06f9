/* Advantages: generalised advantage estimation, whitening, and how good the values were.
 *
 * Arrays are ragged, see ppo/kl.h. */
#ifndef PPO_ADVANTAGE_H
#define PPO_ADVANTAGE_H

#include <stdbool.h>
#include <stdint.h>

/* GAE (Schulman et al. 2016, "High-dimensional continuous control using generalized advantage estimation",
 * eq. 16), with V = 0 past the end of a response:
 *   delta_t = r_t + gamma * V_{t+1} - V_t
 *   A_t     = delta_t + gamma * lambda * A_{t+1}
 *   R_t     = A_t + V_t
 * returns may be NULL. */
void advantage_gae(const float *reward, const float *value, const int32_t *offsets, int64_t sequences,
                   double gamma, double lambda, float *advantage, float *returns);

/* A_t alone, with lambda = 1 - 1 / (alpha * length) of each response, not below 0 (Yue et al. 2025, "VAPO", section 4.2). */
void advantage_gae_by_length(const float *reward, const float *value, const int32_t *offsets,
                             int64_t sequences, double gamma, double alpha, float *advantage);

/* Standard deviation of x (unbiased variance); 0 with fewer than two numbers. */
double standard_deviation(const float *x, int64_t count);

/* x <- (x - mean) / sqrt(var + 1e-8), and + mean again unless shift. The mean and the unbiased variance are
 * over all tokens. With fewer than two tokens the variance is taken as 1. */
void advantage_whiten(float *x, int64_t tokens, bool shift);

/* 1 - Var(R - V) / Var(R) over all tokens: 1 = the values say it all, 0 = no better than a
 * constant. NaN when the returns do not vary. */
double explained_variance(const float *value, const float *returns, int64_t tokens);

#endif
