/* The best evaluation of a run so far (run.keep_best), and how long there was none better (run.patience): the arithmetic. The model of
 * that evaluation is kept by train/run_best.c. */
#ifndef TRAIN_BEST_H
#define TRAIN_BEST_H

#include <stdbool.h>
#include <stdint.h>

/* What a choice of run.keep_best means. A stage's choices are these two and then its measures, of which "loss" alone is the better the
 * smaller it is; the metric of a measure is "eval/MEASURE". */
enum { BEST_NONE, BEST_AUTO, BEST_MEASURES, BEST_MOST_MEASURES = 4 };

typedef struct Best {
  const char *const *choices; /* of the stage's run.keep_best; borrowed, static */
  int64_t measure;            /* number of the choice, never BEST_AUTO; BEST_NONE: all this is off */
  int64_t step;               /* -1: no evaluation yet */
  double value;
  int64_t waited; /* evaluations since that were not better */
  bool unsaved;   /* the present model is that of `step`, and is not in RUN/best yet */
} Best;

/* choice: as configured; standard: what BEST_AUTO stands for. */
Best best_of(const char *const *choices, int choice, int standard);
/* "loss" */
const char *best_measure(const Best *best);
/* Takes in the evaluation after update `step`. A value that is equal, or not finite, is not better. */
void best_take(Best *best, int64_t step, double value);

#endif
