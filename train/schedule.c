#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>

Schedule schedule_of(const OptimConfig *config, int64_t total) {
  return (Schedule){.kind = (ScheduleKind)config->schedule,
                    .lr = config->lr,
                    .min_ratio = config->min_lr_ratio,
                    .warmup = config->warmup_ratio > 0 ? (int64_t)ceil(config->warmup_ratio * (double)total)
                                                       : config->warmup_steps,
                    .total = total};
}

static double larger(double a, double b) {
  return a > b ? a : b;
}

double schedule_rate(const Schedule *schedule, int64_t step) {
  if (step < schedule->warmup)
    return schedule->lr * (double)(step + schedule->ahead) / (double)(schedule->warmup + schedule->ahead);
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

static void report_rate(double lr, OptimizerKind kind, Log *log) {
  if (lr == 0) log_warning(log, "optim.lr 0: no update changes anything: the weights stay as they are");
  if (lr >= 1 && kind != OPTIMIZER_SGD)
    log_warning(log,
                "optim.lr %g: %s moves each weight by up to about as much in every update, and weights "
                "are far below 1",
                lr, optimizer_choices[kind]);
}

void schedule_report(const Schedule *schedule, OptimizerKind kind, Log *log) {
  report_rate(schedule->lr, kind, log);
  if (schedule->warmup == 0 || schedule->lr == 0) return;
  if (schedule->warmup >= schedule->total) {
    log_warning(log,
                "a warm-up of %" PRId64 " updates is not less than the run's %" PRId64
                " updates: it ends while it warms up, at %g of optim.lr",
                schedule->warmup, schedule->total,
                schedule_rate(schedule, schedule->total - 1) / schedule->lr);
  }
  if (schedule->ahead == 0) {
    log_info(log, "the first update of the warm-up has rate 0, as in Transformers' schedules");
  }
}
