#include "train/schedule.h"

#include <math.h>

Schedule schedule_of(const OptimConfig *config, int64_t total) {
  return (Schedule){.kind = (ScheduleKind)config->schedule,
                    .lr = config->lr,
                    .min_ratio = config->min_lr_ratio,
                    .warmup = config->warmup_steps,
                    .total = total};
}

static double larger(double a, double b) {
  return a > b ? a : b;
}

double schedule_rate(const Schedule *schedule, int64_t step) {
  if (step < schedule->warmup) return schedule->lr * (double)step / larger(1, (double)schedule->warmup);
  if (schedule->kind == SCHEDULE_CONSTANT) return schedule->lr;
  double length = larger(1, (double)(schedule->total - schedule->warmup)), factor;
  if (schedule->kind == SCHEDULE_LINEAR) {
    factor = larger(0, (double)(schedule->total - step) / length);
  } else {
    double progress = (double)(step - schedule->warmup) / length;
    factor = larger(0, 0.5 * (1 + cos(acos(-1.0) * progress)));
  }
  return schedule->lr * (factor * (1 - schedule->min_ratio) + schedule->min_ratio);
}
