#include "reward/loss.h"

#include <math.h>
#include <stddef.h>

/* log(1 + e^x) without overflow */
static double softplus(double x) {
  return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

PairLoss pair_loss(const float *chosen, const float *rejected, const float *margin, int64_t count,
                   double centring, double n, float *dchosen, float *drejected) {
  PairLoss sum = {0};
  for (int64_t i = 0; i < count; i++) {
    const double c = chosen[i], r = rejected[i], total = c + r;
    const double z = c - r - (margin ? margin[i] : 0);
    sum.loss += (softplus(-z) + centring * total * total) / n;
    sum.correct += c > r ? 1 : c == r ? 0.5 : 0;
    sum.margin += c - r;
    if (dchosen) {
      const double slope = -exp(-softplus(z)); /* d softplus(-z)/dz = sigmoid(z) - 1 */
      const double centre = 2 * centring * total;
      dchosen[i] = (float)((slope + centre) / n);
      drejected[i] = (float)((centre - slope) / n);
    }
  }
  return sum;
}
