/* The course of a figure over updates, as alarms see it (docs/watching.md): means of windows of GAUGE_WINDOW values, and how far such a mean
 * is off by chance. The largest and the smallest value of a window do not count, so that one update, whatever it is, makes no course.
 *
 * The chance of a single value is taken from differences of neighbours, which a slow trend hardly enters: its variance is half of
 * their mean square (von Neumann 1941, "Distribution of the ratio of the mean square successive difference to the variance"). Two windows that
 * do not overlap then have means whose difference has the standard error sqrt(2 variance / GAUGE_WINDOW). */
#ifndef TRAIN_GAUGE_H
#define TRAIN_GAUGE_H

#include <stdbool.h>
#include <stdint.h>

enum { GAUGE_WINDOW = 8 };

/* Numbers are double, so that all of it is one array of a checkpoint. */
typedef struct Gauge {
  double values[2 * GAUGE_WINDOW]; /* the last ones: value number n at n % (2 * GAUGE_WINDOW) */
  double count;                    /* of values so far */
  double first;                    /* mean of the first window */
  double top, bottom;              /* largest and smallest mean of any window so far */
  double top_step, bottom_step;    /* the updates at whose end they were it */
  double squares;                  /* sum of the squared differences of neighbours */
} Gauge;

/* One that is not finite is passed over. */
void gauge_add(Gauge *gauge, int64_t step, double value);
/* There are two windows that do not overlap: what is below means something. */
bool gauge_is_ready(const Gauge *gauge);
double gauge_mean(const Gauge *gauge);   /* of the last window */
double gauge_before(const Gauge *gauge); /* of the one before it */
double gauge_error(const Gauge *gauge);  /* standard error of the difference of two of them */
/* Whether `difference` of two means is more than chance: more than six standard errors. */
bool gauge_is_sure(const Gauge *gauge, double difference);

#endif
