#include "ppo/loss.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

_Static_assert(sizeof(PolicyStats) == POLICY_SUMS * sizeof(double), "a sum has no place in the array");
_Static_assert(sizeof(ValueStats) == VALUE_SUMS * sizeof(double), "a sum has no place in the array");

void stats_add(double *to, const double *from, int count) {
  for (int i = 0; i < count; i++) to[i] += from[i];
}

static double limited(double x, double low, double high) {
  return fmin(fmax(x, low), high);
}

/* L_t = max(-A rho, -A clip(rho, 1 - eps, 1 + eps)), Schulman et al. 2017, eq. 7, with the sign of a loss.
 * d rho / d logprob = rho, so dL = -A rho where the first is taken, and 0 where the clipped one is larger:
 * that is only where rho has left the interval in the direction that A rewards. */
void policy_loss(const float *logprob, const float *old, const float *advantage, int64_t tokens, double clip,
                 double weight, float *dlogprob, PolicyStats *stats) {
  PolicyStats sum = {.tokens = (double)tokens};
  for (int64_t t = 0; t < tokens; t++) {
    const double difference = (double)logprob[t] - (double)old[t];
    const double within = kl_log_ratio_held(difference), ratio = exp(within);
    const bool bounded = fabs(difference) > KL_LOG_RATIO_BOUND;
    const double plain = -(double)advantage[t] * ratio;
    const double held = -(double)advantage[t] * limited(ratio, 1 - clip, 1 + clip);
    const bool clipped = held > plain;
    dlogprob[t] = clipped || bounded ? 0 : (float)(weight * plain);
    sum.loss += clipped ? held : plain;
    sum.clipped += clipped;
    sum.bounded += bounded;
    sum.approx_kl += 0.5 * difference * difference;
    sum.approx_kl3 += expm1(within) - difference;
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

void slopes_by_answer(float *slope, const int32_t *length, int64_t tokens) {
  for (int64_t t = 0; t < tokens; t++) slope[t] /= (float)length[t];
}

void entropy_bonus(int64_t tokens, double coef, double weight, float *dentropy) {
  for (int64_t t = 0; t < tokens; t++) dentropy[t] = (float)(-coef * weight);
}
