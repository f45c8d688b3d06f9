#include "reward/loss.h"

#include <math.h>
#include <stddef.h>

/* log(1 + e^x) without overflow */
static double softplus(double x) {
  return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* What a pair adds to the sums, before its loss is divided. */
static void add_pair(PreferenceLoss *sum, double better, double worse, double margin, double centring) {
  const double total = better + worse;
  sum->loss += softplus(-(better - worse - margin)) + centring * total * total;
  sum->pairs++;
  sum->correct += better > worse ? 1 : better == worse ? 0.5 : 0;
  sum->margin += better - worse;
}

/* The derivative of the sum over all pairs of answer `i` by its score. */
static double slope_of(const float *scores, const int32_t *ranks, int64_t count, int64_t i, double margin,
                       double centring) {
  double sum = 0;
  for (int64_t j = 0; j < count; j++) {
    if (ranks[j] == ranks[i]) continue;
    const double side = ranks[i] < ranks[j] ? 1 : -1, own = scores[i], other = scores[j];
    const double z = side * (own - other) - margin;
    sum += side * -exp(-softplus(z)); /* d softplus(-z)/dz = sigmoid(z) - 1 */
    sum += 2 * centring * (own + other);
  }
  return sum;
}

PreferenceLoss preference_loss(const float *scores, const int32_t *ranks, int64_t count, double margin,
                               double centring, double n, float *slopes) {
  PreferenceLoss sum = {0};
  for (int64_t i = 0; i < count; i++) {
    for (int64_t j = 0; j < count; j++) {
      if (ranks[i] < ranks[j]) add_pair(&sum, scores[i], scores[j], margin, centring);
    }
  }
  const double share = n * sum.pairs;
  sum.loss /= share;
  for (int64_t i = 0; slopes && i < count; i++) {
    slopes[i] = (float)(slope_of(scores, ranks, count, i, margin, centring) / share);
  }
  return sum;
}

double safety_loss(const float *scores, const int8_t *safe, int64_t count, double n, float *slopes) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    if (safe[i] == 0) continue;
    const double z = safe[i] * (double)scores[i];
    sum += softplus(-z) / n;
    if (slopes) slopes[i] += (float)(safe[i] * -exp(-softplus(z)) / n);
  }
  return sum;
}
