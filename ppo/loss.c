#include "ppo/loss.h"

#include "base/error.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

_Static_assert(sizeof(PolicyStats) == POLICY_SUMS * sizeof(double), "a sum has no place in the array");
_Static_assert(sizeof(ValueStats) == VALUE_SUMS * sizeof(double), "a sum has no place in the array");

void stats_add(double *to, const double *from, int count) {
  for (int i = 0; i < count; i++) to[i] += from[i];
}

const char *const policy_ratio_names[] = {"token", "sequence", NULL};
const char *const loss_mean_names[] = {"estimator", "token", "answer", "constant", NULL};

static double limited(double x, double low, double high) {
  return fmin(fmax(x, low), high);
}

typedef struct Surrogate {
  double loss, slope; /* by log rho */
  bool clipped;
} Surrogate;

/* Schulman et al. 2017, eq. 7, with the sign of a loss, and Ye et al. 2020, eq. 5. d rho / d log rho = rho, so the slope is -A rho
 * where that is the loss, and 0 at a limit: rho has left the interval in the direction that A rewards, or is beyond c. */
static Surrogate surrogate(const PolicyRule *rule, double advantage, double ratio) {
  const double plain = -advantage * ratio;
  const double held = -advantage * limited(ratio, 1 - rule->clip_low, 1 + rule->clip_high);
  const double most = rule->dual_clip > 0 && advantage < 0 ? -advantage * rule->dual_clip : INFINITY;
  if (held > plain) return (Surrogate){held, 0, true};
  if (plain > most) return (Surrogate){most, 0, true};
  return (Surrogate){plain, plain, false};
}

/* Over the tokens of an answer: the logarithm of the geometric mean of their ratios. */
static double mean_difference(const float *logprob, const float *old, int32_t length) {
  double sum = 0;
  for (int32_t t = 0; t < length; t++) sum += (double)logprob[t] - (double)old[t];
  return sum / length;
}

/* d (e^m - 1 - m) / d logprob, m = reference - logprob; the e^m that is held does not move. */
static double k3_slope(double logprob, double reference) {
  const double m = reference - logprob;
  return fabs(m) > KL_LOG_RATIO_BOUND ? 1 : -expm1(m);
}

/* With one ratio of n tokens, d log rho / d logprob_t = 1/n, and the n losses of the answer, which are equal, move with it: the
 * slope of their sum is that of one. */
void policy_loss(const PolicyRule *rule, const PolicyTokens *tokens, double weight, float *dlogprob,
                 PolicyStats *stats) {
  PolicyStats sum = {.tokens = (double)tokens->count};
  double log_ratio = 0;
  int64_t answer_end = 0;
  for (int64_t t = 0; t < tokens->count; t++) {
    const double logprob = tokens->logprob[t], difference = logprob - (double)tokens->old[t];
    if (rule->ratio == RATIO_TOKEN) {
      log_ratio = difference;
    } else if (t == answer_end) { /* before a slope is written in the place of its tokens */
      log_ratio = mean_difference(tokens->logprob + t, tokens->old + t, tokens->length[t]);
      answer_end += tokens->length[t];
    }
    const double within = kl_log_ratio_held(log_ratio), ratio = exp(within);
    const bool bounded = fabs(log_ratio) > KL_LOG_RATIO_BOUND;
    const Surrogate of = surrogate(rule, tokens->advantage[t], ratio);
    double slope = bounded ? 0 : of.slope;
    if (rule->kl_coef > 0) {
      sum.kl += kl_estimate(KL_K3, logprob, tokens->reference[t]);
      slope += rule->kl_coef * k3_slope(logprob, tokens->reference[t]);
    }
    dlogprob[t] = (float)(weight * slope);
    sum.loss += of.loss;
    sum.clipped += of.clipped;
    sum.bounded += bounded;
    sum.approx_kl += 0.5 * difference * difference;
    sum.approx_kl3 += expm1(kl_log_ratio_held(difference)) - difference;
    sum.ratio += ratio;
    sum.ratio_squared += ratio * ratio;
  }
  if (stats) stats_add(stats->sums, sum.sums, POLICY_SUMS);
}

/* L_t = 1/2 max((V - R)^2, (V_clip - R)^2) with V_clip = clip(V, V_old - eps, V_old + eps): SFD and OpenAI's
 * baselines. dL = V - R where the first is taken; where the clipped one is larger, V_clip does not move with
 * V (it would be equal to V inside the interval), so dL = 0. */
void value_loss(const float *value, const float *old, const float *returns, int64_t tokens, double clip,
                double weight, float *dvalue, ValueStats *stats) {
  ValueStats sum = {.tokens = (double)tokens};
  for (int64_t t = 0; t < tokens; t++) {
    const double v = value[t];
    const double plain = v - returns[t];
    const double held = clip > 0 ? limited(v, old[t] - clip, old[t] + clip) - returns[t] : plain;
    const bool clipped = held * held > plain * plain;
    dvalue[t] = clipped ? 0 : (float)(weight * plain);
    sum.loss += 0.5 * (clipped ? held * held : plain * plain);
    sum.clipped += clipped;
    sum.value += v;
  }
  if (stats) stats_add(stats->sums, sum.sums, VALUE_SUMS);
}

double loss_weight(LossMean mean, double answers, double tokens, int64_t max_new_tokens) {
  ASSERT(mean != LOSS_MEAN_ESTIMATOR);
  if (mean == LOSS_MEAN_ANSWER) return 1 / answers;
  if (mean == LOSS_MEAN_CONSTANT) return 1 / (answers * (double)max_new_tokens);
  return 1 / tokens;
}

void slopes_by_answer(float *slope, const int32_t *length, int64_t tokens) {
  for (int64_t t = 0; t < tokens; t++) slope[t] /= (float)length[t];
}

void entropy_bonus(int64_t tokens, double coef, double weight, float *dentropy) {
  for (int64_t t = 0; t < tokens; t++) dentropy[t] = (float)(-coef * weight);
}
