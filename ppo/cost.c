#include "ppo/cost.h"

#include <math.h>

CostController cost_controller(const CostRule *rule) {
  return (CostController){.rule = *rule, .lambda = rule->lambda};
}

static double mean_finite(const float *x, int64_t count, int64_t *finite) {
  double sum = 0;
  *finite = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!isfinite(x[i])) continue;
    sum += x[i];
    (*finite)++;
  }
  return sum / (double)*finite;
}

/* Rollouts are of one size, so that the mean of their means is that of all answers. */
static double window_mean(const CostController *controller) {
  const int64_t window = controller->rule.window;
  const int64_t count = controller->rollouts < window ? controller->rollouts : window;
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += controller->means[i];
  return sum / (double)count;
}

void cost_controller_update(CostController *controller, const float *cost, int64_t answers, int64_t updates,
                            bool moves) {
  const CostRule *rule = &controller->rule;
  int64_t finite;
  const double mean = mean_finite(cost, answers, &finite);
  if (finite == 0) return;
  controller->means[controller->rollouts++ % rule->window] = mean;
  if (!moves || updates < rule->delay) return;
  const double lack = window_mean(controller) - rule->threshold;
  controller->lambda = fmin(controller->lambda * exp(rule->lr * controller->lambda * lack), rule->most);
}

void cost_combine(const float *reward, const float *cost, int64_t count, double lambda, float *out) {
  for (int64_t i = 0; i < count; i++) out[i] = (float)((reward[i] - lambda * cost[i]) / (1 + lambda));
}

double cost_safe_share(const float *cost, int64_t answers, double threshold) {
  int64_t safe = 0;
  for (int64_t i = 0; i < answers; i++) safe += cost[i] <= threshold;
  return (double)safe / (double)answers;
}
