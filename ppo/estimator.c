#include "ppo/estimator.h"

#include "base/error.h"

#include <math.h>
#include <stddef.h>

const char *const estimator_names[] = {"gae", "rloo", "grpo", "dr_grpo", "reinforce_pp", "remax", NULL};

static const double grpo_epsilon = 1e-4;

bool estimator_has_critic(Estimator estimator) {
  return estimator == ESTIMATOR_GAE;
}

bool estimator_has_groups(Estimator estimator) {
  return estimator == ESTIMATOR_RLOO || estimator == ESTIMATOR_GRPO || estimator == ESTIMATOR_DR_GRPO;
}

bool estimator_is_by_answer(Estimator estimator) {
  return estimator_has_groups(estimator) || estimator == ESTIMATOR_REMAX;
}

/* What a deviation from the mean of the group is multiplied by. */
static double group_scale(Estimator estimator, const float *returns, int64_t size, double mean) {
  if (estimator == ESTIMATOR_DR_GRPO) return 1;
  /* R_i - (sum - R_i) / (K - 1) = (R_i - mean) K / (K - 1) */
  if (estimator == ESTIMATOR_RLOO) return (double)size / (double)(size - 1);
  double squares = 0;
  for (int64_t i = 0; i < size; i++) squares += (returns[i] - mean) * (returns[i] - mean);
  return 1 / (sqrt(squares / (double)(size - 1)) + grpo_epsilon);
}

void estimator_groups(Estimator estimator, const float *returns, const int32_t *offsets, int64_t answers,
                      int64_t size, float *advantage) {
  ASSERT(size >= 2 && answers % size == 0);
  for (int64_t first = 0; first < answers; first += size) {
    double mean = 0;
    for (int64_t i = first; i < first + size; i++) mean += returns[i];
    mean /= (double)size;
    const double scale = group_scale(estimator, returns + first, size, mean);
    for (int64_t i = first; i < first + size; i++) {
      const float value = (float)((returns[i] - mean) * scale);
      for (int32_t t = offsets[i]; t < offsets[i + 1]; t++) advantage[t] = value;
    }
  }
}

void estimator_baseline(const float *returns, const float *baseline, const int32_t *offsets, int64_t answers,
                        int64_t size, float *advantage) {
  for (int64_t i = 0; i < answers; i++) {
    const float value = returns[i] - baseline[i / size];
    for (int32_t t = offsets[i]; t < offsets[i + 1]; t++) advantage[t] = value;
  }
}

void estimator_returns(const float *reward, const int32_t *offsets, int64_t answers, double gamma,
                       float *advantage) {
  for (int64_t i = 0; i < answers; i++) {
    double to_come = 0;
    for (int64_t t = (int64_t)offsets[i + 1] - 1; t >= offsets[i]; t--) {
      to_come = reward[t] + gamma * to_come;
      advantage[t] = (float)to_come;
    }
  }
}

LossMean estimator_mean(Estimator estimator) {
  if (estimator == ESTIMATOR_GRPO) return LOSS_MEAN_ANSWER;
  return estimator == ESTIMATOR_DR_GRPO ? LOSS_MEAN_CONSTANT : LOSS_MEAN_TOKEN;
}

int64_t estimator_flat_groups(const float *score, int64_t answers, int64_t size) {
  int64_t flat = 0;
  for (int64_t first = 0; first < answers; first += size) {
    bool same = true;
    for (int64_t i = first + 1; i < first + size; i++) same = same && score[i] == score[first];
    flat += same;
  }
  return flat;
}
