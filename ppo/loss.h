/* The losses of PPO (Schulman et al. 2017, "Proximal policy optimization algorithms"; the form used for
 * language models: Ouyang et al. 2022 and Huang et al. 2024, SFD) and their gradients, per token.
 *
 * A loss is a mean over the tokens of a whole minibatch; micro-batches are parts of one. So each call takes
 * `weight` = 1 / (tokens of the minibatch, over all micro-batches and ranks), or loss_weight: the gradients it writes are
 * those of weight * sum over its tokens, and accumulating them over the micro-batches gives the gradient of
 * the mean, however the minibatch was cut. Statistics are sums over tokens: add them up over micro-batches
 * and ranks, then divide. */
#ifndef PPO_LOSS_H
#define PPO_LOSS_H

#include "ppo/kl.h"

#include <stdint.h>

/* Sums over tokens, by name, and as an array for what adds them up. */
enum { POLICY_SUMS = 9, VALUE_SUMS = 4 };

typedef union PolicyStats {
  struct {
    double tokens;
    double loss;    /* the surrogate alone, without the KL */
    double clipped; /* tokens whose loss is one of the limits: these have no gradient */
    double bounded; /* tokens whose log rho met KL_LOG_RATIO_BOUND: these have none either */
    double
        approx_kl; /* (logprob - old)^2 / 2, unbounded: KL from the sampling policy to the present one, k2 */
    double approx_kl3; /* k3 of the same, whatever rho is the ratio of */
    double ratio;      /* rho */
    double ratio_squared;
    double kl; /* k3 of policy and reference, where it is in the loss */
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

/* Of what the ratio of probabilities rho is taken: of each token, or the geometric mean over the tokens of an answer (Zheng et
 * al. 2025, "Group sequence policy optimization", eq. 7). */
typedef enum PolicyRatio { RATIO_TOKEN, RATIO_SEQUENCE } PolicyRatio;
extern const char *const policy_ratio_names[]; /* "token", "sequence", NULL */

typedef struct PolicyRule {
  double clip_low,
      clip_high; /* rho counts within 1 - clip_low and 1 + clip_high: the same in PPO; two in DAPO (Yu et al.
                               * 2025, eq. 8) */
  double
      dual_clip; /* c > 1: the loss of A < 0 is at most -c A (Ye et al. 2020, "Mastering complex control in MOBA
                     * games with deep reinforcement learning", eq. 5); 0 = no limit */
  double kl_coef; /* beta of the KL in the loss (Shao et al. 2024, "DeepSeekMath", eq. 3 and 4) */
  PolicyRatio ratio;
} PolicyRule;

/* The answer tokens of a micro-batch; those of an answer are neighbours. */
typedef struct PolicyTokens {
  int64_t count;
  const float *logprob, *old, *advantage;
  const float *reference; /* with kl_coef */
  const int32_t
      *length; /* with RATIO_SEQUENCE: tokens of the answer that each belongs to, all with one advantage */
} PolicyTokens;

/* With l = log rho held within KL_LOG_RATIO_BOUND (ppo/kl.h), m = log reference - log policy:
 *
 *   loss = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)), at most -c A where A < 0,  + beta (e^m - 1 - m)
 *
 * Writes dlogprob[t] = weight * the slope of the sum of the losses by logprob_t; beyond the bounds what is held has none. Adds
 * to stats (may be NULL). dlogprob may be logprob. */
void policy_loss(const PolicyRule *rule, const PolicyTokens *tokens, double weight, float *dlogprob,
                 PolicyStats *stats);

/* loss = 1/2 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2); clip 0 = the plain square. Writes
 * dvalue[t] = weight * d loss_t / d value_t. dvalue may be value. */
void value_loss(const float *value, const float *old, const float *returns, int64_t tokens, double clip,
                double weight, float *dvalue, ValueStats *stats);

/* What the policy's loss is a mean of. */
typedef enum LossMean {
  LOSS_MEAN_ESTIMATOR, /* as the paper of the estimator has it (estimator_mean, ppo/estimator.h) */
  LOSS_MEAN_TOKEN,     /* over the tokens of the minibatch */
  LOSS_MEAN_ANSWER,    /* over its answers, of the mean over the tokens of each */
  LOSS_MEAN_CONSTANT   /* the sum over its tokens / (answers * max_new_tokens) */
} LossMean;
extern const char *const loss_mean_names[]; /* "estimator", "token", "answer", "constant", NULL */

/* The weight of a token over a minibatch of so many answers and tokens; not of LOSS_MEAN_ESTIMATOR. Of LOSS_MEAN_ANSWER it is to be
 * divided by the length of the token's answer (slopes_by_answer). */
double loss_weight(LossMean mean, double answers, double tokens, int64_t max_new_tokens);

/* The slope of each token is divided by the length of its answer. */
void slopes_by_answer(float *slope, const int32_t *length, int64_t tokens);

/* An entropy bonus, loss = -coef * mean entropy: dentropy[t] = -coef * weight. */
void entropy_bonus(int64_t tokens, double coef, double weight, float *dentropy);

#endif
