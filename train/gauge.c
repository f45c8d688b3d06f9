#include "train/gauge.h"

#include <math.h>

/* Chance alone passes 6 in one of some hundreds of runs of a thousand updates, the largest of many means being chosen, and 5 in one of ten
 * (tests/unit/train_gauge.c). */
static const double sure = 6;

enum { RING = 2 * GAUGE_WINDOW };

/* Of GAUGE_WINDOW values, of which the newest is `back` before the last: the mean of all but the largest and the smallest. */
static double window_mean(const Gauge *gauge, int64_t back) {
  const int64_t end = (int64_t)gauge->count - back, begin = end - GAUGE_WINDOW;
  double sum = 0, largest = gauge->values[begin % RING], smallest = largest;
  for (int64_t n = begin; n < end; n++) {
    const double value = gauge->values[n % RING];
    sum += value;
    largest = fmax(largest, value);
    smallest = fmin(smallest, value);
  }
  return (sum - largest - smallest) / (GAUGE_WINDOW - 2);
}

void gauge_add(Gauge *gauge, int64_t step, double value) {
  if (!isfinite(value)) return;
  const int64_t n = (int64_t)gauge->count;
  if (n > 0) {
    const double jump = value - gauge->values[(n - 1) % RING];
    gauge->squares += jump * jump;
  }
  gauge->values[n % RING] = value;
  gauge->count++;
  if (n + 1 < GAUGE_WINDOW) return;
  const double mean = window_mean(gauge, 0);
  if (n + 1 == GAUGE_WINDOW) gauge->first = gauge->top = gauge->bottom = mean;
  if (n + 1 == GAUGE_WINDOW || mean > gauge->top) {
    gauge->top = mean;
    gauge->top_step = (double)step;
  }
  if (n + 1 == GAUGE_WINDOW || mean < gauge->bottom) {
    gauge->bottom = mean;
    gauge->bottom_step = (double)step;
  }
}

bool gauge_is_ready(const Gauge *gauge) {
  return gauge->count >= RING;
}

double gauge_mean(const Gauge *gauge) {
  return window_mean(gauge, 0);
}

double gauge_before(const Gauge *gauge) {
  return window_mean(gauge, GAUGE_WINDOW);
}

double gauge_error(const Gauge *gauge) {
  return sqrt(gauge->squares / (gauge->count - 1) / GAUGE_WINDOW);
}

bool gauge_is_sure(const Gauge *gauge, double difference) {
  return difference > sure * gauge_error(gauge);
}
