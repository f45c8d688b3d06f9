/* How far apart two distributions of the next token are. Arrays of the vocabulary, on the host. */
#ifndef MODEL_DIVERGENCE_H
#define MODEL_DIVERGENCE_H

#include <stdint.h>

/* Log-probabilities, nats, of logits at a temperature, in their place. A logit of -infinity stays, as long as not all are. */
void logits_normalize(float *logits, int64_t count, float temperature);

/* KL(p || q), nats, of log-probabilities: the sum of p log(p/q) + q - p, in which no term loses its digits or is negative. */
double divergence(const float *p, const float *q, int64_t count);

#endif
