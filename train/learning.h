/* Alarms of learning from a data set (train/alarm.h): the loss or the gradient runs away, or the evaluation's loss rises while that of training
 * falls. Thresholds and their reasons: docs/watching.md. */
#ifndef TRAIN_LEARNING_H
#define TRAIN_LEARNING_H

#include "train/checkpoint.h"
#include "train/gauge.h"
#include "train/run.h"

/* Part of a checkpoint. Numbers are double, so that all of it is one array. */
typedef struct Learning {
  Gauge loss, gradient;
  double evaluations;
  double lowest, lowest_step; /* evaluation's loss so far */
  double trained;             /* mean of the training loss then */
  double worse;               /* evaluations in a row that were worse than it */
} Learning;

/* After an update that was made, and after an evaluation. */
void learning_updated(Learning *learning, Run *run, int64_t step, double loss, double gradient);
void learning_judged(Learning *learning, Run *run, int64_t step, double loss);
NODISCARD bool learning_state(Learning *learning, Checkpoint *checkpoint, Error *error);

#endif
