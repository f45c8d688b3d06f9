#include "model/divergence.h"

#include <math.h>

void logits_normalize(float *logits, int64_t count, float temperature) {
  float most = logits[0];
  double sum = 0;
  for (int64_t i = 1; i < count; i++) most = fmaxf(most, logits[i]);
  for (int64_t i = 0; i < count; i++) sum += exp(((double)logits[i] - (double)most) / (double)temperature);
  const double all = log(sum);
  for (int64_t i = 0; i < count; i++)
    logits[i] = (float)(((double)logits[i] - (double)most) / (double)temperature - all);
}

double divergence(const float *p, const float *q, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) {
    if (p[i] == q[i]) continue; /* both may be -infinity */
    const double x = (double)q[i] - (double)p[i];
    sum += p[i] == -INFINITY ? exp((double)q[i]) : exp((double)p[i]) * (expm1(x) - x);
  }
  return sum;
}
