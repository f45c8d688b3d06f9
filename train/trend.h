/* The mean of a figure's last values, later ones counting more, for lines of progress: each weighs 0.9 of the next. */
#ifndef TRAIN_TREND_H
#define TRAIN_TREND_H

#include <math.h>

typedef struct Trend {
  double sum, weight;
} Trend;

/* Takes in a value, and returns the mean. One that is not finite is passed over. */
static inline double trend_add(Trend *trend, double value) {
  if (isfinite(value)) *trend = (Trend){0.9 * trend->sum + value, 0.9 * trend->weight + 1};
  return trend->weight > 0 ? trend->sum / trend->weight : value;
}

#endif
