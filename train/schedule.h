/* The learning rate of each update.
 *
 * Equal to transformers.get_{constant,linear,cosine}_schedule_with_warmup: update `step` (0 the first) has
 * lr * step/warmup during the warm-up (so the very first update of a warm-up has rate 0), then
 *   constant  lr
 *   linear    lr * f,  f = (total - step) / (total - warmup)
 *   cosine    lr * f,  f = (1 + cos(pi * (step - warmup) / (total - warmup))) / 2
 * and with min_ratio m > 0, f becomes f * (1 - m) + m.
 *
 * With `ahead` 1 the warm-up has lr * (step + 1)/(warmup + 1): no update is spent at rate 0, where an update is dear. */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include "base/log.h"
#include "train/config.h"
#include "train/optimizer.h"

#include <stdint.h>

typedef enum ScheduleKind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE } ScheduleKind;

typedef struct Schedule {
  ScheduleKind kind;
  double lr, min_ratio;
  int64_t warmup, total; /* updates */
  int64_t ahead;         /* 0, or 1 */
} Schedule;

/* The warm-up is optim.warmup_steps, or optim.warmup_ratio of the total, rounded up as in Transformers (get_warmup_steps). */
Schedule schedule_of(const OptimConfig *config, int64_t total);
double schedule_rate(const Schedule *schedule, int64_t step);

/* Says what may not be meant: warns of a rate of 0, of one by which AdamW or Lion move weights by 1 and more, and of a warm-up
 * that never reaches the peak, and tells of an update at rate 0. */
void schedule_report(const Schedule *schedule, OptimizerKind kind, Log *log);

#endif
