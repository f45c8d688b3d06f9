#include "ppo/kl.h"

#include <math.h>
#include <stddef.h>

const char *const kl_estimator_names[] = {"k1", "k2", "k3", NULL};
const char *const kl_place_names[] = {"reward", "loss", NULL};

double kl_log_ratio_held(double log_ratio) {
  /* Written so that NaN stays NaN, and ends the run. */
  if (log_ratio > KL_LOG_RATIO_BOUND) return KL_LOG_RATIO_BOUND;
  return log_ratio < -KL_LOG_RATIO_BOUND ? -KL_LOG_RATIO_BOUND : log_ratio;
}

double kl_estimate(KlEstimator estimator, double logprob, double reference) {
  const double l = reference - logprob;
  switch (estimator) {
    case KL_K1:
      return -l;
    case KL_K2:
      return 0.5 * l * l;
    case KL_K3:
      break;
  }
  /* expm1: e^l - 1 without the cancellation near 0, where most tokens are */
  return expm1(kl_log_ratio_held(l)) - l;
}

int64_t kl_tokens(KlEstimator estimator, const float *logprob, const float *reference, int64_t tokens,
                  float *kl) {
  int64_t held = 0;
  for (int64_t t = 0; t < tokens; t++) {
    kl[t] = (float)kl_estimate(estimator, logprob[t], reference[t]);
    held += estimator == KL_K3 && fabs((double)reference[t] - (double)logprob[t]) > KL_LOG_RATIO_BOUND;
  }
  return held;
}

double kl_mean(const float *kl, const int32_t *offsets, int64_t sequences) {
  if (sequences == 0) return 0;
  double sum = 0;
  for (int64_t t = offsets[0]; t < offsets[sequences]; t++) sum += kl[t];
  return sum / (double)sequences;
}

/* Ziegler et al. 2019, section 2.2: proportional control of log beta, the error limited to 20%. */
void kl_controller_update(KlController *controller, double observed, int64_t episodes) {
  if (!controller->adaptive || !isfinite(observed)) return; /* fmax would take NaN for a KL far too low */
  const double error = fmin(fmax(observed / controller->target - 1, -0.2), 0.2);
  controller->coef *= 1 + error * (double)episodes / controller->horizon;
}
