#include "train/learning.h"

#include <math.h>

/* Of the lowest mean so far; of the first mean; of the lowest evaluation. */
static const double loss_limit = 1.5, gradient_limit = 10, eval_limit = 1.02;
enum { WORSE_IN_A_ROW = 2 };

static void watch_loss(const Gauge *loss, Run *run, int64_t step) {
  const double mean = gauge_mean(loss);
  if (mean <= loss->bottom + (loss_limit - 1) * fabs(loss->bottom) ||
      !gauge_is_sure(loss, mean - loss->bottom))
    return;
  run_alarm(run, step, ALARM_LOSS, (int64_t)loss->bottom_step,
            "the loss runs away: %.4g on average over %d updates, and it was %.4g at update %.0f", mean,
            GAUGE_WINDOW, loss->bottom, loss->bottom_step);
}

static void watch_gradient(const Gauge *gradient, Run *run, int64_t step) {
  const double mean = gauge_mean(gradient);
  if (mean <= gradient_limit * gradient->first || !gauge_is_sure(gradient, mean - gradient->first)) return;
  run_alarm(
      run, step, ALARM_GRADIENT, step - 2 * GAUGE_WINDOW,
      "the gradient runs away: its norm is %.3g on average over %d updates, and was %.3g over the first",
      mean, GAUGE_WINDOW, gradient->first);
}

void learning_updated(Learning *learning, Run *run, int64_t step, double loss, double gradient) {
  gauge_add(&learning->loss, step, loss);
  gauge_add(&learning->gradient, step, gradient);
  if (gauge_is_ready(&learning->loss)) watch_loss(&learning->loss, run, step);
  if (gauge_is_ready(&learning->gradient)) watch_gradient(&learning->gradient, run, step);
}

void learning_judged(Learning *learning, Run *run, int64_t step, double loss) {
  Learning *l = learning;
  const double trained = l->loss.count >= GAUGE_WINDOW ? gauge_mean(&l->loss) : INFINITY;
  if (!isfinite(loss) || isinf(trained)) return;
  if (l->evaluations++ == 0 || loss < l->lowest) {
    l->lowest = loss;
    l->lowest_step = (double)step;
    l->trained = trained;
    l->worse = 0;
    return;
  }
  const bool worse = loss > l->lowest + (eval_limit - 1) * fabs(l->lowest) && trained < l->trained;
  l->worse = worse ? l->worse + 1 : 0;
  if (l->worse < WORSE_IN_A_ROW) return;
  run_alarm(run, step, ALARM_EVAL, (int64_t)l->lowest_step,
            "the evaluation's loss rises while that of training falls: %.4g and %.4g, and it was %.4g and "
            "%.4g at update %.0f",
            loss, trained, l->lowest, l->trained, l->lowest_step);
}

bool learning_state(Learning *learning, Checkpoint *checkpoint, Error *error) {
  _Static_assert(sizeof(Learning) % sizeof(double) == 0, "it is an array of double");
  if (checkpoint->loading && !checkpoint_has_int(checkpoint, "run.alarms.raised")) return true;
  return checkpoint_array(checkpoint, "alarms.learning", DTYPE_F64, learning,
                          sizeof *learning / sizeof(double), error);
}
