#include "ppo/advantage.h"

#include <math.h>
#include <stddef.h>

/* Backwards through each response, carrying V_{t+1} and A_{t+1}, both 0 past its end. */
void advantage_gae(const float *reward, const float *value, const int32_t *offsets, int64_t sequences,
                   double gamma, double lambda, float *advantage, float *returns) {
  for (int64_t b = 0; b < sequences; b++) {
    double next_value = 0, next_advantage = 0;
    for (int64_t t = (int64_t)offsets[b + 1] - 1; t >= offsets[b]; t--) {
      const double delta = reward[t] + gamma * next_value - value[t];
      next_advantage = delta + gamma * lambda * next_advantage;
      next_value = value[t];
      advantage[t] = (float)next_advantage;
      if (returns) returns[t] = (float)(next_advantage + next_value);
    }
  }
}

void advantage_gae_by_length(const float *reward, const float *value, const int32_t *offsets,
                             int64_t sequences, double gamma, double alpha, float *advantage) {
  for (int64_t b = 0; b < sequences; b++) {
    const double lambda = fmax(0, 1 - 1 / (alpha * (double)(offsets[b + 1] - offsets[b])));
    advantage_gae(reward, value, offsets + b, 1, gamma, lambda, advantage, NULL);
  }
}

/* Mean and sum of squared deviations of x - y (y NULL: of x), in two passes so that nothing cancels. */
typedef struct Moments {
  double count, mean, squares;
} Moments;

static Moments moments(const float *x, const float *y, int64_t tokens) {
  double sum = 0;
  for (int64_t t = 0; t < tokens; t++) sum += (double)x[t] - (y ? (double)y[t] : 0);
  Moments out = {.count = (double)tokens, .mean = tokens > 0 ? sum / (double)tokens : 0};
  for (int64_t t = 0; t < tokens; t++) {
    const double deviation = (double)x[t] - (y ? (double)y[t] : 0) - out.mean;
    out.squares += deviation * deviation;
  }
  return out;
}

double standard_deviation(const float *x, int64_t count) {
  const Moments m = moments(x, NULL, count);
  return m.count > 1 ? sqrt(m.squares / (m.count - 1)) : 0;
}

void advantage_whiten(float *x, int64_t tokens, bool shift) {
  const Moments m = moments(x, NULL, tokens);
  const double variance = m.count > 1 ? m.squares / (m.count - 1) : 1;
  const double scale = 1 / sqrt(variance + 1e-8);
  for (int64_t t = 0; t < tokens; t++) {
    x[t] = (float)(((double)x[t] - m.mean) * scale + (shift ? 0 : m.mean));
  }
}

double explained_variance(const float *value, const float *returns, int64_t tokens) {
  const Moments residual = moments(returns, value, tokens);
  const Moments total = moments(returns, NULL, tokens);
  return total.squares > 0 ? 1 - residual.squares / total.squares : NAN;
}
